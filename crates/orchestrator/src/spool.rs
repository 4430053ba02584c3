//! What has still to reach telemetry; it stays in the journal until telemetry has it.

use kit::store::Error;
use sqlx::sqlite::SqliteRow;
use sqlx::{Row as _, SqliteConnection};

use crate::store::Journal;

/// Something that waits for telemetry.
#[derive(Debug)]
pub(crate) struct Spooled {
    pub(crate) seq: i64,
    pub(crate) kind: i32,
    pub(crate) traceparent: String,
    pub(crate) payload: Vec<u8>,
}

/// What waits for telemetry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Record = 1,
    Feedback = 2,
    Label = 3,
}

impl Journal {
    /// Keeps something for telemetry until telemetry has it.
    pub(crate) async fn keep(&self, kind: Kind, payload: Vec<u8>) -> Result<(), Error> {
        let traceparent = kit::Call::current().traceparent();
        self.0.write(move |connection| Box::pin(spool(connection, kind, traceparent, payload))).await
    }

    /// The oldest entries of the spool.
    pub(crate) async fn spooled(&self, limit: u32) -> Result<Vec<Spooled>, Error> {
        let query = sqlx::query(
            "SELECT seq, kind, traceparent, payload FROM spool WHERE kind > 0 ORDER BY seq LIMIT ?",
        )
        .bind(limit);
        let rows = query.fetch_all(self.0.reader()).await?;
        let spooled = |row: &SqliteRow| Spooled {
            seq: row.get(0),
            kind: row.get(1),
            traceparent: row.get(2),
            payload: row.get(3),
        };
        Ok(rows.iter().map(spooled).collect())
    }

    /// Keeps an entry that telemetry refuses, out of the way of the others: its kind turns negative.
    pub(crate) async fn set_aside(&self, seq: i64) -> Result<(), Error> {
        self.0
            .write(move |connection| {
                Box::pin(async move {
                    sqlx::query("UPDATE spool SET kind = -kind WHERE seq = ?")
                        .bind(seq)
                        .execute(connection)
                        .await?;
                    Ok(())
                })
            })
            .await
    }

    /// Forgets entries that telemetry has.
    pub(crate) async fn delivered(&self, seqs: Vec<i64>) -> Result<(), Error> {
        self.0
            .write(move |connection| {
                Box::pin(async move {
                    for seq in seqs {
                        sqlx::query("DELETE FROM spool WHERE seq = ?")
                            .bind(seq)
                            .execute(&mut *connection)
                            .await?;
                    }
                    Ok(())
                })
            })
            .await
    }
}

pub(crate) async fn spool(
    connection: &mut SqliteConnection,
    kind: Kind,
    traceparent: String,
    payload: Vec<u8>,
) -> Result<(), sqlx::Error> {
    let insert = sqlx::query("INSERT INTO spool (kind, traceparent, payload) VALUES (?, ?, ?)");
    let insert = insert.bind(kind as i32).bind(traceparent).bind(payload);
    insert.execute(connection).await?;
    Ok(())
}
