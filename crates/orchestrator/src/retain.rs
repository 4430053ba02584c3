//! How long conversations are kept.

use std::time::Duration;

use prost::Message as _;
use proto::Feedback;
use sql::{Connection, Result, values};
use tokio_util::sync::CancellationToken;

use crate::forget::forget;
use crate::spool::Kind;
use crate::store::Journal;
use crate::turn::now;

/// Indexes of it; see [`MIGRATIONS`](crate::store::MIGRATIONS).
pub(crate) const TABLES: &str = "
CREATE INDEX conversation_age ON conversation (created_at, conversation_id);
CREATE INDEX handoff_of ON handoff (conversation_id);
";

const EVERY: Duration = Duration::from_secs(3600);
/// Microseconds of a day.
const DAY: i64 = 24 * 3600 * 1_000_000;
/// Conversations that one commit deletes.
const BATCH: u32 = 50;

/// What has come to its end: the last turn is old, no turn is under way, no handoff open, and nothing of it is still
/// on its way to telemetry or a helpdesk. What telemetry refuses, kept with a negative kind, goes with it.
const OVER: &str = "created_at < $1
    AND NOT EXISTS (SELECT 1 FROM turn WHERE turn.conversation_id = conversation.conversation_id
        AND (accepted_at >= $1 OR outcome IS NULL))
    AND NOT EXISTS (SELECT 1 FROM handoff WHERE handoff.conversation_id = conversation.conversation_id
        AND (state <> 3 OR EXISTS (SELECT 1 FROM delivery
            WHERE delivery.handoff_id = handoff.handoff_id AND delivery.state <> 2)))
    AND NOT EXISTS (SELECT 1 FROM spool JOIN turn USING (turn_id)
        WHERE kind > 0 AND turn.conversation_id = conversation.conversation_id)";

/// Where a sweep has come to: when a conversation began, and its id.
type Place = (i64, String);

/// Deletes old conversations at once and every hour. Several processes may do so at the same time.
pub(crate) async fn sweep(journal: Journal, retain_days: u32, shutdown: CancellationToken) {
    let mut hours = tokio::time::interval(EVERY);
    while shutdown.run_until_cancelled(hours.tick()).await.is_some() {
        let before = now() - i64::from(retain_days) * DAY;
        let swept = journal.expire(before);
        match shutdown.run_until_cancelled(swept).await {
            None | Some(Ok(0)) => {}
            Some(Ok(conversations)) => tracing::info!(conversations, "old conversations deleted"),
            Some(Err(error)) => tracing::error!(%error, "cannot delete old conversations"),
        }
    }
}

impl Journal {
    /// Deletes the conversations that have come to their end before a moment, in microseconds since the Unix epoch;
    /// returns how many.
    pub(crate) async fn expire(&self, before: i64) -> Result<u64> {
        let (mut deleted, mut place) = (0, Place::default());
        loop {
            let found = self.over(before, place).await?;
            let Some(last) = found.last().cloned() else { return Ok(deleted) };
            place = last;
            // Nothing of them is on its way to telemetry meanwhile.
            let _sending = self.sending.lock().await;
            let write = move |connection: &mut Connection<'_>| {
                found.iter().try_fold(0, |n, (_, id)| Ok(n + u64::from(expire(connection, id, before)?)))
            };
            deleted += self.sql.write(write).await?;
        }
    }

    /// The oldest conversations behind a place that have come to their end.
    async fn over(&self, before: i64, (at, id): Place) -> Result<Vec<Place>> {
        let query = format!(
            "SELECT created_at, conversation_id FROM conversation WHERE (created_at, conversation_id) > ($2, $3)
            AND {OVER} ORDER BY created_at, conversation_id LIMIT $4"
        );
        let read = move |connection: &mut Connection<'_>| {
            connection.query(&query, values![before, at, &id, BATCH], |row| Ok((row.get(0)?, row.get(1)?)))
        };
        self.sql.read(read).await
    }
}

/// Deletes a conversation that is still over; `false` where something has come in between.
fn expire(connection: &mut Connection<'_>, id: &str, before: i64) -> Result<bool> {
    connection.lock(id)?;
    let query = format!("SELECT 1 FROM conversation WHERE conversation_id = $2 AND {OVER}");
    if connection.first(&query, values![before, id], |_| Ok(()))?.is_none() {
        return Ok(false);
    }
    let query = "SELECT payload FROM spool WHERE kind = $1";
    let waiting = connection.query(query, values![Kind::Feedback as i32], |row| {
        let feedback = Feedback::decode(row.get::<&[u8], _>(0)?).unwrap_or_default();
        Ok(feedback.conversation_id == id)
    })?;
    Ok(!waiting.contains(&true) && forget(connection, id)?.is_some())
}

#[cfg(test)]
mod tests {
    use sql::{Server, Source};

    use super::*;
    use crate::spool::spool;

    /// When the last turn of each conversation was; older ones are deleted.
    const BEFORE: i64 = 1_000;

    /// What keeps an old conversation, as statements about its turn "t_NAME".
    const KEPT: &[(&str, &str)] = &[
        ("young_turn", "UPDATE turn SET accepted_at = 1000 WHERE turn_id = 't_young_turn'"),
        ("turn_under_way", "UPDATE turn SET outcome = NULL WHERE turn_id = 't_turn_under_way'"),
        ("waiting", "UPDATE handoff SET state = 1 WHERE handoff_id = 'h_waiting'"),
        ("callback", "UPDATE handoff SET state = 4 WHERE handoff_id = 'h_callback'"),
        ("refused", "UPDATE delivery SET state = 3 WHERE handoff_id = 'h_refused'"),
    ];

    fn lives(connection: &mut Connection<'_>, name: &str) -> Result<()> {
        let (turn, handoff) = (format!("t_{name}"), format!("h_{name}"));
        let blob: &[u8] = &[];
        let insert =
            "INSERT INTO conversation (conversation_id, customer_key, created_at) VALUES ($1, '', 0)";
        connection.execute(insert, values![name])?;
        let insert = "INSERT INTO turn (turn_id, conversation_id, fingerprint, trace_id, accepted_at, deadline, outcome)
            VALUES ($1, $2, $3, '', 999, 0, 1)";
        connection.execute(insert, values![&turn, name, blob])?;
        let insert =
            "INSERT INTO utterance (conversation_id, turn_id, role, text) VALUES ($1, $2, 1, 'hello')";
        connection.execute(insert, values![name, &turn])?;
        let insert =
            "INSERT INTO handoff (handoff_id, conversation_id, turn_id, reason, state, created_at, packet)
            VALUES ($1, $2, '', 1, 3, 0, $3)";
        connection.execute(insert, values![&handoff, name, blob])?;
        let insert =
            "INSERT INTO delivery (handoff_id, connector, part, event, state, created_at, due_at, said_until)
            VALUES ($1, 'desk', 0, 'waiting', 2, 0, 0, 0)";
        connection.execute(insert, values![&handoff])?;
        let insert =
            "INSERT INTO note (note_id, handoff_id, author, text, created_at) VALUES ($1, $2, '', '', 0)";
        connection.execute(insert, values![name, &handoff]).map(|_| ())
    }

    async fn keeps_what_goes_on([one, other]: [Journal; 2]) {
        let fill = |connection: &mut Connection<'_>| {
            (0..130).try_for_each(|n| lives(connection, &format!("over_{n}")))?;
            for (name, change) in KEPT {
                lives(connection, name)?;
                connection.execute(change, &[])?;
            }
            lives(connection, "rated")?;
            lives(connection, "spooled")?;
            spool(connection, "another", Kind::Record, "", "t_spooled", &[])
        };
        one.sql.write(fill).await.unwrap();
        let feedback = Feedback { conversation_id: "rated".to_owned(), ..Feedback::default() };
        one.keep(Kind::Feedback, feedback.encode_to_vec()).await.unwrap();
        let (mine, theirs) = tokio::join!(one.expire(BEFORE), other.expire(BEFORE));
        assert_eq!(mine.unwrap() + theirs.unwrap(), 130);
        let mut kept: Vec<_> = KEPT.iter().map(|(name, _)| (*name).to_owned()).collect();
        kept.extend(["rated".to_owned(), "spooled".to_owned()]);
        kept.sort_unstable();
        for (table, key) in
            [("conversation", "conversation_id"), ("utterance", "conversation_id"), ("note", "note_id")]
        {
            let query = format!("SELECT {key} FROM {table} ORDER BY {key}");
            let read = move |connection: &mut Connection<'_>| {
                connection.query(&query, &[], |row| row.get::<String, _>(0))
            };
            assert_eq!(one.sql.read(read).await.unwrap(), kept, "{table}");
        }
        for table in ["turn", "handoff", "delivery"] {
            let query = format!("SELECT count(*) FROM {table}");
            let read = move |connection: &mut Connection<'_>| {
                connection.first(&query, &[], |row| row.get::<i64, _>(0))
            };
            assert_eq!(one.sql.read(read).await.unwrap(), Some(7), "{table}");
        }
        // What has come to its end since goes the next time.
        let seqs = |connection: &mut Connection<'_>| {
            connection.query("SELECT seq FROM spool", &[], |row| row.get(0))
        };
        one.delivered(one.sql.read(seqs).await.unwrap()).await.unwrap();
        assert_eq!(other.expire(BEFORE).await.unwrap(), 2);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_is_old_goes_over_many_batches_and_what_goes_on_stays() {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::open(Source::File(folder.path().join("journal.db"))).await.unwrap();
        keeps_what_goes_on([journal.clone(), journal]).await;
        let server = Server { url: scratch::database().into(), ca: None, connections: 4 };
        let source = Source::Postgres { server, schema: "retain".to_owned() };
        let journals = [Journal::open(source.clone()).await.unwrap(), Journal::open(source).await.unwrap()];
        keeps_what_goes_on(journals).await;
    }
}
