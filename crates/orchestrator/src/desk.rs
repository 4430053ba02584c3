//! The queue of handoffs as the people at the desk use it.

use kit::store::Error;
use prost::Message as _;
use proto::{Handoff, HandoffReason, HandoffState, Role};
use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use crate::spool::{Kind, spool};
use crate::store::{Journal, utterance};

/// Utterances of a handoff in a list; a conversation as a whole comes from `GetConversation`.
const LISTED: i64 = 6;
/// Characters of each of them.
const LISTED_CHARS: i64 = 500;

impl Journal {
    /// Handoffs in a state, or all open ones, oldest first.
    pub(crate) async fn handoffs(&self, state: HandoffState, limit: u32) -> Result<Vec<Handoff>, Error> {
        let (low, high) = match state {
            HandoffState::Unspecified => (HandoffState::Waiting as i32, HandoffState::Claimed as i32),
            one => (one as i32, one as i32),
        };
        let query = "SELECT packet, state, assignee FROM handoff WHERE state BETWEEN ? AND ? ORDER BY created_at LIMIT ?";
        let rows = sqlx::query(query).bind(low).bind(high).bind(limit).fetch_all(self.0.reader()).await?;
        let mut handoffs = Vec::with_capacity(rows.len());
        for row in &rows {
            handoffs.push(self.with_utterances(handoff(row), LISTED).await?);
        }
        Ok(handoffs)
    }

    /// The handoff with this id, or the open one of this conversation.
    pub(crate) async fn handoff(&self, id: &str, conversation_id: &str) -> Result<Option<Handoff>, Error> {
        let query = "SELECT packet, state, assignee FROM handoff WHERE handoff_id = ? OR (conversation_id = ? AND state < 3)";
        let row = sqlx::query(query).bind(id).bind(conversation_id).fetch_optional(self.0.reader()).await?;
        match row {
            Some(row) => Ok(Some(self.with_utterances(handoff(&row), i64::MAX).await?)),
            None => Ok(None),
        }
    }

    /// Adds the newest utterances, oldest first.
    async fn with_utterances(&self, mut handoff: Handoff, newest: i64) -> Result<Handoff, Error> {
        let query = "SELECT role, substr(text, 1, ?) FROM utterance WHERE conversation_id = ? ORDER BY seq DESC LIMIT ?";
        let most = if newest == LISTED { LISTED_CHARS } else { i64::MAX };
        let rows = sqlx::query(query).bind(most).bind(&handoff.conversation_id).bind(newest);
        handoff.utterances = rows.fetch_all(self.0.reader()).await?.iter().rev().map(utterance).collect();
        Ok(handoff)
    }

    /// Claims a waiting handoff; claiming one's own again changes nothing. `false` when another has it.
    pub(crate) async fn claim(&self, id: String, assignee: String) -> Result<bool, Error> {
        self.0
            .write(move |connection| {
                Box::pin(async move {
                    let query = "UPDATE handoff SET state = 2, assignee = ?1 WHERE handoff_id = ?2 AND (state = 1 OR (state = 2 AND assignee = ?1))";
                    let done = sqlx::query(query).bind(assignee).bind(id).execute(connection).await?;
                    Ok(done.rows_affected() == 1)
                })
            })
            .await
    }

    /// Stores a person's words; `false` unless the handoff is claimed by that person.
    pub(crate) async fn reply(&self, id: String, assignee: String, text: String) -> Result<bool, Error> {
        self.0
            .write(move |connection| {
                Box::pin(async move {
                    let query = "INSERT INTO utterance (conversation_id, turn_id, role, text) SELECT conversation_id, '', ?, ? FROM handoff WHERE handoff_id = ? AND state = 2 AND assignee = ?";
                    let insert = sqlx::query(query).bind(Role::Agent as i32).bind(text).bind(id).bind(assignee);
                    Ok(insert.execute(connection).await?.rows_affected() == 1)
                })
            })
            .await
    }

    /// Ends a handoff, gives the conversation back to the bot with its context cut, and keeps the label.
    /// `false` unless the handoff is claimed by that person.
    pub(crate) async fn resolve(
        &self,
        id: String,
        assignee: String,
        disposition: String,
        label: Option<Vec<u8>>,
    ) -> Result<bool, Error> {
        let traceparent = kit::Call::current().traceparent();
        self.0
            .write(move |connection| {
                Box::pin(async move {
                    let query = "UPDATE handoff SET state = 3, disposition = ? WHERE handoff_id = ? AND state = 2 AND assignee = ?";
                    let update = sqlx::query(query).bind(disposition).bind(&id).bind(assignee);
                    if update.execute(&mut *connection).await?.rows_affected() == 0 {
                        return Ok(false);
                    }
                    let query = "UPDATE conversation SET clarifications = 0, pending = NULL, execution_id = NULL,
                        context_from = (SELECT coalesce(max(seq), 0) FROM utterance WHERE utterance.conversation_id = conversation.conversation_id)
                        WHERE conversation_id = (SELECT conversation_id FROM handoff WHERE handoff_id = ?)";
                    sqlx::query(query).bind(&id).execute(&mut *connection).await?;
                    if let Some(label) = label {
                        spool(connection, Kind::Label, traceparent, label).await?;
                    }
                    Ok(true)
                })
            })
            .await
    }
}

fn handoff(row: &SqliteRow) -> Handoff {
    let packet = Handoff::decode(row.get::<Vec<u8>, _>(0).as_slice()).unwrap_or_default();
    let reason = HandoffReason::try_from(packet.reason).unwrap_or_default();
    Handoff { state: row.get(1), assignee: row.get(2), reason: reason.into(), ..packet }
}
