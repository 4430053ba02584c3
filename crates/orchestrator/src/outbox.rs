//! What has still to reach the helpdesks: one entry a handoff and connector, made in the commit of the handoff.

use proto::{Backlog, Delivery, DeliveryState, Handoff};
use sql::{Connection, Result, Row, values};

use crate::desk::utterance;
use crate::handoff::timestamp;
use crate::payload::Packet;
use crate::store::Journal;

/// Entries and what came in; see [`MIGRATIONS`](crate::store::MIGRATIONS).
pub(crate) const TABLES: &str = "
CREATE TABLE delivery (
    handoff_id TEXT NOT NULL, connector TEXT NOT NULL, state INTEGER NOT NULL DEFAULT 1,
    created_at INTEGER NOT NULL, due_at INTEGER NOT NULL, said_until INTEGER NOT NULL,
    attempt INTEGER NOT NULL DEFAULT 0, error TEXT NOT NULL DEFAULT '', reference TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (handoff_id, connector)) STRICT, WITHOUT ROWID;
CREATE INDEX delivery_due ON delivery (connector, due_at) WHERE state = 1;
CREATE INDEX delivery_open ON delivery (connector, created_at) WHERE state <> 2;
";

const PENDING: i32 = DeliveryState::Pending as i32;
const FAILED: i32 = DeliveryState::Failed as i32;

/// An entry whose turn it is.
#[derive(Debug)]
pub(crate) struct Due {
    pub(crate) handoff_id: String,
    /// 0 for the handoff itself, then one for each time it changes its place in the queue.
    pub(crate) part: i64,
    /// The helpdesk's own id of the handoff, which may be empty.
    pub(crate) reference: String,
    /// The attempt that begins, from 1; nobody else may write how it ended.
    pub(crate) attempt: u32,
    /// When the handoff was created, in microseconds since the Unix epoch.
    pub(crate) created_at: i64,
    pub(crate) packet: Packet,
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The helpdesk has it, under this id of its own, which may be empty.
    Delivered(String),
    /// It refuses it.
    Failed(String),
    /// Another attempt in so many microseconds.
    Again(String, i64),
}

impl Due {
    /// What makes it one of a kind at the helpdesk.
    pub(crate) fn key(&self) -> String {
        match self.part {
            0 => self.handoff_id.clone(),
            part => format!("{}_{part}", self.handoff_id),
        }
    }
}

/// Makes the entries of a new handoff, with what was said until now.
pub(crate) fn enqueue(
    connection: &mut Connection<'_>,
    handoff: &Handoff,
    connectors: &[String],
) -> Result<()> {
    let insert = "INSERT INTO delivery (handoff_id, connector, part, event, created_at, due_at, said_until)
        SELECT $1, $2, 0, 'waiting', $3, $3, coalesce(max(seq), 0) FROM utterance WHERE conversation_id = $4 ON CONFLICT DO NOTHING";
    if connectors.is_empty() {
        return Ok(());
    }
    let now = connection.now()?;
    for connector in connectors {
        connection.execute(insert, values![&handoff.handoff_id, connector, now, &handoff.conversation_id])?;
    }
    Ok(())
}

/// Makes the entries of the step that a handoff has just taken, for the helpdesks that get it.
pub(crate) fn enqueue_step(connection: &mut Connection<'_>, handoff_id: &str, event: &str) -> Result<()> {
    let insert = "INSERT INTO delivery (handoff_id, connector, part, event, created_at, due_at, said_until)
        SELECT handoff_id, connector, step, $1, $2, $2,
            (SELECT coalesce(max(seq), 0) FROM utterance WHERE utterance.conversation_id = handoff.conversation_id)
        FROM delivery JOIN handoff USING (handoff_id) WHERE handoff_id = $3 AND part = 0";
    let now = connection.now()?;
    connection.execute(insert, values![event, now, handoff_id]).map(|_| ())
}

impl Journal {
    /// Takes the oldest entry of a connector that is due and keeps it from others for so many microseconds of the
    /// store's own time; whoever takes it then is past this attempt.
    pub(crate) async fn due(&self, connector: &str, lease: i64) -> Result<Option<Due>> {
        let connector = connector.to_owned();
        let take = move |connection: &mut Connection<'_>| {
            let now = connection.now()?;
            // What comes after another waits until the helpdesk has that.
            let query = "SELECT handoff_id, part FROM delivery WHERE connector = $1 AND state = 1 AND due_at <= $2
                AND NOT EXISTS (SELECT 1 FROM delivery AS earlier WHERE earlier.handoff_id = delivery.handoff_id
                    AND earlier.connector = $1 AND earlier.part < delivery.part AND earlier.state <> 2)
                ORDER BY due_at, part LIMIT 1";
            // Nothing is due most of the time, and then nobody has to wait for anybody.
            let find = |connection: &mut Connection<'_>| {
                connection.first(query, values![&connector, now], |row| {
                    Ok((row.get::<String, _>(0)?, row.get::<i64, _>(1)?))
                })
            };
            if find(connection)?.is_none() {
                return Ok(None);
            }
            connection.lock("delivery")?;
            let Some((id, part)) = find(connection)? else { return Ok(None) };
            let update = "UPDATE delivery SET due_at = $1, attempt = attempt + 1
                WHERE handoff_id = $2 AND connector = $3 AND part = $4";
            connection.execute(update, values![now.saturating_add(lease), &id, &connector, part])?;
            let query = "SELECT attempt, delivery.created_at, said_until, packet, customer_key, event,
                (SELECT reference FROM delivery AS first WHERE first.handoff_id = $1 AND first.connector = $2
                    AND first.part = 0)
                FROM delivery JOIN handoff USING (handoff_id) JOIN conversation USING (conversation_id)
                WHERE handoff_id = $1 AND connector = $2 AND part = $3";
            let found = connection.first(query, values![&id, &connector, part], |row| {
                let (customer, event): (String, String) = (row.get(4)?, row.get(5)?);
                Ok((
                    row.get(0)?,
                    row.get(1)?,
                    row.get::<i64, _>(2)?,
                    packet(row, 3)?,
                    customer,
                    event,
                    row.get(6)?,
                ))
            })?;
            let Some((attempt, created_at, until, mut handoff, customer, event, reference)) = found else {
                return Ok(None);
            };
            let query =
                "SELECT role, text FROM utterance WHERE conversation_id = $1 AND seq <= $2 ORDER BY seq";
            handoff.utterances =
                connection.query(query, values![&handoff.conversation_id, until], utterance)?;
            let packet = Packet::of(&handoff, &customer, &event);
            Ok(Some(Due { handoff_id: id, part, reference, attempt, created_at, packet }))
        };
        self.sql.write(take).await
    }

    /// Writes how an attempt ended, unless a later one has begun.
    pub(crate) async fn settle(&self, due: &Due, connector: &str, ended: Ended) -> Result<()> {
        let (id, part, attempt, connector) =
            (due.handoff_id.clone(), due.part, due.attempt, connector.to_owned());
        let write = move |connection: &mut Connection<'_>| {
            let (state, error, reference, pause) = match &ended {
                Ended::Delivered(reference) => (DeliveryState::Delivered as i32, "", reference.as_str(), 0),
                Ended::Failed(error) => (FAILED, error.as_str(), "", 0),
                Ended::Again(error, pause) => (PENDING, error.as_str(), "", *pause),
            };
            let due_at = connection.now()?.saturating_add(pause);
            let update = "UPDATE delivery SET state = $1, error = $2, reference = $3, due_at = $4
                WHERE handoff_id = $5 AND connector = $6 AND part = $7 AND attempt = $8 AND state = 1";
            let values = values![state, error, reference, due_at, &id, &connector, part, attempt];
            connection.execute(update, values).map(|_| ())
        };
        self.sql.write(write).await
    }

    /// Makes what the helpdesks refused due again; `false` when they refused nothing of this handoff.
    pub(crate) async fn redeliver(&self, id: &str) -> Result<bool> {
        let id = id.to_owned();
        let write = move |connection: &mut Connection<'_>| {
            let now = connection.now()?;
            let update = "UPDATE delivery SET state = 1, due_at = $1 WHERE handoff_id = $2 AND state = 3";
            Ok(connection.execute(update, values![now, &id])? > 0)
        };
        self.sql.write(write).await
    }

    /// What the connectors still have to deliver.
    pub(crate) async fn backlog(&self, connectors: Vec<String>) -> Result<Vec<Backlog>> {
        let query = "SELECT count(*), min(created_at) FROM delivery WHERE connector = $1 AND state <> 2";
        let read = move |connection: &mut Connection<'_>| {
            let count = |connector: &String| {
                let found = connection.first(query, values![connector], |row| {
                    Ok((row.get::<i64, _>(0)?, row.get::<Option<i64>, _>(1)?))
                })?;
                let (undelivered, oldest) = found.unwrap_or_default();
                let undelivered = undelivered.unsigned_abs();
                Ok(Backlog { connector: connector.clone(), undelivered, oldest: oldest.map(timestamp) })
            };
            connectors.iter().map(count).collect()
        };
        self.sql.read(read).await
    }
}

/// Where a handoff is sent to.
pub(crate) fn deliveries(connection: &mut Connection<'_>, handoff_id: &str) -> Result<Vec<Delivery>> {
    let query = "SELECT connector, state, attempt, error, reference, part FROM delivery WHERE handoff_id = $1
        ORDER BY connector, part";
    connection.query(query, values![handoff_id], |row| {
        Ok(Delivery {
            connector: row.get(0)?,
            state: row.get(1)?,
            attempts: row.get(2)?,
            error: row.get(3)?,
            reference: row.get(4)?,
            part: row.get(5)?,
        })
    })
}

fn packet(row: &Row<'_>, column: usize) -> Result<Handoff> {
    use prost::Message as _;
    Ok(Handoff::decode(row.get::<&[u8], _>(column)?).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use sql::{Server, Source};

    use super::*;

    /// A journal with one handoff for the connector "desk", and a second view of the same store.
    async fn journals(source: Source, shared: bool) -> [Journal; 2] {
        let journal = Journal::open(source.clone()).await.unwrap();
        let packet =
            Handoff { handoff_id: "h".to_owned(), conversation_id: "c".to_owned(), ..Handoff::default() };
        let write = move |connection: &mut Connection<'_>| {
            let insert =
                "INSERT INTO conversation (conversation_id, customer_key, created_at) VALUES ('c', 'k', 0)";
            connection.execute(insert, &[])?;
            let insert = "INSERT INTO handoff (handoff_id, conversation_id, turn_id, reason, state, created_at, packet)
                VALUES ('h', 'c', 't', 1, 1, 0, $1)";
            connection.execute(insert, values![&prost::Message::encode_to_vec(&packet)])?;
            enqueue(connection, &packet, &["desk".to_owned()])
        };
        journal.sql.write(write).await.unwrap();
        let other = if shared { Journal::open(source).await.unwrap() } else { journal.clone() };
        [journal, other]
    }

    /// One attempt at a time, and only the last one says how it ended.
    async fn is_leased([one, other]: [Journal; 2]) {
        const HOUR: i64 = 3600 * 1_000_000;
        let (mine, theirs) = tokio::join!(one.due("desk", 0), other.due("another", HOUR));
        assert!(theirs.unwrap().is_none());
        let lost = mine.unwrap().unwrap();
        let (mine, theirs) = tokio::join!(one.due("desk", HOUR), other.due("desk", HOUR));
        let taken: Vec<_> = [mine.unwrap(), theirs.unwrap()].into_iter().flatten().collect();
        let [due] = taken.as_slice() else { panic!("{taken:?}") };
        assert_eq!((lost.attempt, due.attempt), (1, 2));
        one.settle(&lost, "desk", Ended::Delivered(String::new())).await.unwrap();
        assert_eq!(one.backlog(vec!["desk".to_owned()]).await.unwrap()[0].undelivered, 1);
        one.settle(due, "desk", Ended::Again("HTTP_503".to_owned(), HOUR)).await.unwrap();
        assert!(other.due("desk", HOUR).await.unwrap().is_none());
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn an_entry_is_one_attempts_at_a_time_and_a_lost_attempt_writes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        is_leased(journals(Source::File(folder.path().join("journal.db")), false).await).await;
        let server = Server { url: scratch::database().into(), ca: None, connections: 4 };
        is_leased(journals(Source::Postgres { server, schema: "outbox".to_owned() }, true).await).await;
    }
}
