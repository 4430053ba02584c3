//! Handoffs that nobody takes in time become callbacks: the bot has the conversation again, and people a ticket.

use proto::Role;
use sql::{Connection, Result, values};

use crate::desk::open_handoff;
use crate::store::{Finish, Journal};
use crate::turn::Orchestrator;
use crate::{ending, outbox};

/// What callbacks need; see [`MIGRATIONS`](crate::store::MIGRATIONS). A handoff that is not resolved is its
/// conversation's only one. `step` counts how often it changed its place in the queue, and `sent_to` names the
/// helpdesks that are told of each.
pub(crate) const TABLES: &str = "
ALTER TABLE handoff ADD COLUMN waiting_since INTEGER NOT NULL DEFAULT 0;
ALTER TABLE handoff ADD COLUMN step INTEGER NOT NULL DEFAULT 0;
ALTER TABLE handoff ADD COLUMN sent_to TEXT NOT NULL DEFAULT '';
UPDATE handoff SET waiting_since = created_at;
DROP INDEX handoff_open;
CREATE UNIQUE INDEX handoff_open ON handoff (conversation_id) WHERE state <> 3;
CREATE INDEX handoff_waiting ON handoff (waiting_since) WHERE state = 1;
CREATE TABLE delivery_of (
    handoff_id TEXT NOT NULL, connector TEXT NOT NULL, part INTEGER NOT NULL, event TEXT NOT NULL,
    state INTEGER NOT NULL DEFAULT 1, created_at INTEGER NOT NULL, due_at INTEGER NOT NULL,
    said_until INTEGER NOT NULL, attempt INTEGER NOT NULL DEFAULT 0, error TEXT NOT NULL DEFAULT '',
    reference TEXT NOT NULL DEFAULT '', PRIMARY KEY (handoff_id, connector, part)) STRICT, WITHOUT ROWID;
INSERT INTO delivery_of (handoff_id, connector, part, event, state, created_at, due_at, said_until, attempt, error, reference)
    SELECT handoff_id, connector, 0, 'waiting', state, created_at, due_at, said_until, attempt, error, reference
    FROM delivery;
DROP TABLE delivery;
ALTER TABLE delivery_of RENAME TO delivery;
CREATE INDEX delivery_due ON delivery (connector, due_at) WHERE state = 1;
CREATE INDEX delivery_open ON delivery (connector, created_at) WHERE state <> 2;
";

/// Handoffs that are looked at together.
const BATCH: u32 = 100;

/// A handoff that nobody has taken.
#[derive(Debug, Clone)]
pub(crate) struct Waiting {
    pub(crate) handoff_id: String,
    pub(crate) conversation_id: String,
    /// Microseconds since the Unix epoch.
    pub(crate) since: i64,
}

impl Orchestrator {
    /// Makes callbacks of the handoffs that have waited too long at a moment, in microseconds since the Unix epoch;
    /// returns how many.
    pub(crate) async fn call_back(&self, at: i64) -> Result<usize> {
        let mut made = 0;
        let mut more = self.presence.has_callbacks();
        while more {
            // Who has waited for longer is due earlier, so that behind one who is not due nobody is.
            let mut waiting = self.journal.waiting(BATCH).await?;
            waiting.retain(|one| self.presence.is_due(one.since, at));
            more = waiting.len() == BATCH as usize;
            for one in waiting {
                let text = self.presence.called_back(&one.handoff_id);
                made += usize::from(self.journal.call_back(one, text).await?);
            }
        }
        Ok(made)
    }
}

impl Journal {
    /// The handoffs that have waited for the longest.
    pub(crate) async fn waiting(&self, limit: u32) -> Result<Vec<Waiting>> {
        let query = "SELECT handoff_id, conversation_id, waiting_since FROM handoff WHERE state = 1
            ORDER BY waiting_since LIMIT $1";
        let read = move |connection: &mut Connection<'_>| {
            connection.query(query, values![limit], |row| {
                Ok(Waiting { handoff_id: row.get(0)?, conversation_id: row.get(1)?, since: row.get(2)? })
            })
        };
        self.sql.read(read).await
    }

    /// Makes a callback of a handoff: the conversation is told and the bot's again, and the helpdesks that have it
    /// are told too. `false` when it no longer waits, or waits anew.
    pub(crate) async fn call_back(&self, waiting: Waiting, text: String) -> Result<bool> {
        let write = move |connection: &mut Connection<'_>| {
            let Waiting { handoff_id, conversation_id, since } = &waiting;
            connection.lock(conversation_id)?;
            let update = "UPDATE handoff SET state = 4, step = step + 1
                WHERE handoff_id = $1 AND state = 1 AND waiting_since = $2";
            if connection.execute(update, values![handoff_id, since])? == 0 {
                return Ok(false);
            }
            let insert = "INSERT INTO utterance (conversation_id, turn_id, role, text, private) VALUES ($1, $2, $3, $4, 1)";
            let role = Role::Assistant as i32;
            connection.execute(insert, values![conversation_id, handoff_id, role, &text])?;
            give_back(connection, conversation_id)?;
            outbox::enqueue_step(connection, handoff_id, "callback")?;
            Ok(true)
        };
        self.sql.write(write).await
    }
}

/// Gives a conversation back to the bot, with its context cut.
pub(crate) fn give_back(connection: &mut Connection<'_>, conversation_id: &str) -> Result<()> {
    let update = "UPDATE conversation SET clarifications = 0, turns = 0, pending = NULL, execution_id = NULL,
        context_from = (SELECT coalesce(max(seq), 0) FROM utterance WHERE conversation_id = $1)
        WHERE conversation_id = $1";
    connection.execute(update, values![conversation_id]).map(|_| ())
}

/// The callback of a conversation: its id, and when it was made, in microseconds since the Unix epoch.
pub(crate) fn of(connection: &mut Connection<'_>, conversation_id: &str) -> Result<Option<(String, i64)>> {
    let query =
        "SELECT handoff_id, created_at FROM handoff WHERE conversation_id = $1 AND state <> 3 AND state = 4";
    connection.first(query, values![conversation_id], |row| Ok((row.get(0)?, row.get(1)?)))
}

/// One handoff a conversation: a turn that ends while a person has the conversation leaves it to them, and one that
/// hands over a conversation with a callback puts that back into the queue.
pub(crate) fn meet(connection: &mut Connection<'_>, end: &mut Finish) -> Result<()> {
    if let Some(open) = open_handoff(connection, &end.turn.conversation_id)? {
        ending::meet_handoff(end, open);
        return Ok(());
    }
    let Some(packet) = &mut end.handoff else { return Ok(()) };
    if let Some((id, _)) = of(connection, &packet.conversation_id)? {
        packet.handoff_id.clone_from(&id);
        if let Some(notice) = &mut end.turn.handoff {
            notice.handoff_id = id;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proto::Handoff;
    use sql::{Server, Source};

    use super::*;
    use crate::desk::open;

    fn packet(id: &str, summary: &str) -> Handoff {
        let (handoff_id, conversation_id, summary) = (id.to_owned(), "c".to_owned(), summary.to_owned());
        Handoff { handoff_id, conversation_id, summary, ..Handoff::default() }
    }

    async fn hands_over(journal: &Journal, id: &str, at: i64) {
        let packet = packet(id, id);
        let write = move |connection: &mut Connection<'_>| {
            let insert =
                "INSERT INTO conversation (conversation_id, customer_key, created_at) VALUES ('c', 'k', 0)
                ON CONFLICT DO NOTHING";
            connection.execute(insert, &[])?;
            open(connection, &packet, at, &["desk".to_owned()])
        };
        journal.sql.write(write).await.unwrap();
    }

    async fn is_made_once([one, other]: [Journal; 2]) {
        hands_over(&one, "h", 5).await;
        let waiting = one.waiting(9).await.unwrap().remove(0);
        let call = |journal: &Journal| {
            let (journal, waiting) = (journal.clone(), waiting.clone());
            async move { journal.call_back(waiting, "wait".to_owned()).await.unwrap() }
        };
        let (mine, theirs) = tokio::join!(call(&one), call(&other));
        assert!(mine ^ theirs, "{mine} {theirs}");
        let said = one.conversation("c").await.unwrap().unwrap().0;
        assert_eq!(said.into_iter().map(|one| one.text).collect::<Vec<_>>(), ["wait"]);

        // The same ticket waits anew, and what was seen of it before no longer counts.
        hands_over(&other, "h_second", 7).await;
        assert!(!call(&one).await);
        let again = one.waiting(9).await.unwrap().remove(0);
        assert_eq!((again.handoff_id.as_str(), again.since), ("h", 7));
        assert!(other.claim("h".to_owned(), "ann".to_owned()).await.unwrap());
        assert!(!one.call_back(again, "wait".to_owned()).await.unwrap());
        // A helpdesk is told in order.
        let due = one.due("desk", 0).await.unwrap().unwrap();
        assert_eq!((due.key().as_str(), due.part), ("h", 0));
        one.settle(&due, "desk", outbox::Ended::Delivered("17".to_owned())).await.unwrap();
        let due = one.due("desk", 0).await.unwrap().unwrap();
        assert_eq!((due.key().as_str(), due.reference.as_str()), ("h_1", "17"));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_callback_is_made_once_and_by_nobody_who_comes_too_late() {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::open(Source::File(folder.path().join("journal.db"))).await.unwrap();
        is_made_once([journal.clone(), journal]).await;
        let server = Server { url: scratch::database().into(), ca: None, connections: 4 };
        let source = Source::Postgres { server, schema: "callback".to_owned() };
        let journals = [Journal::open(source.clone()).await.unwrap(), Journal::open(source).await.unwrap()];
        is_made_once(journals).await;
    }
}
