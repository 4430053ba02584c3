//! What has still to reach telemetry; it stays in the journal until telemetry has it.

use kit::store::Error;
use rusqlite::{Connection, Row, params};

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
        self.0.write(move |connection| spool(connection, kind, &traceparent, &payload)).await
    }

    /// The oldest entries of the spool.
    pub(crate) async fn spooled(&self, limit: u32) -> Result<Vec<Spooled>, Error> {
        let query = "SELECT seq, kind, traceparent, payload FROM spool WHERE kind > 0 ORDER BY seq LIMIT ?";
        let spooled = |row: &Row<'_>| {
            let (seq, kind, traceparent, payload) = (row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?);
            Ok(Spooled { seq, kind, traceparent, payload })
        };
        let read = move |reader: &Connection| {
            reader.prepare_cached(query)?.query_map([limit], spooled)?.collect::<Result<_, _>>()
        };
        self.0.read(read).await
    }

    /// Keeps an entry that telemetry refuses, out of the way of the others: its kind turns negative.
    pub(crate) async fn set_aside(&self, seq: i64) -> Result<(), Error> {
        let update = "UPDATE spool SET kind = -kind WHERE seq = ?";
        self.0.write(move |connection| connection.execute(update, [seq]).map(|_| ())).await
    }

    /// Forgets entries that telemetry has.
    pub(crate) async fn delivered(&self, seqs: Vec<i64>) -> Result<(), Error> {
        let delete = move |connection: &Connection| {
            let mut delete = connection.prepare_cached("DELETE FROM spool WHERE seq = ?")?;
            seqs.iter().try_for_each(|seq| delete.execute([seq]).map(|_| ()))
        };
        self.0.write(delete).await
    }
}

pub(crate) fn spool(
    connection: &Connection,
    kind: Kind,
    traceparent: &str,
    payload: &[u8],
) -> rusqlite::Result<()> {
    let insert = "INSERT INTO spool (kind, traceparent, payload) VALUES (?, ?, ?)";
    connection.prepare_cached(insert)?.execute(params![kind as i32, traceparent, payload])?;
    Ok(())
}
