//! The queue of handoffs as the people at the desk use it.

use kit::store::Error;
use prost::Message as _;
use proto::{Handoff, HandoffReason, HandoffState, Role};
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use crate::spool::{Kind, spool};
use crate::store::{Journal, utterance};

/// Utterances of a handoff in a list; a conversation as a whole comes from `GetConversation`.
const LISTED: i64 = 6;
/// Characters of each of them.
const LISTED_CHARS: i64 = 500;

/// A place in the queue of handoffs: when it was made, in microseconds since the Unix epoch, and its id.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Place(i64, String);

impl Place {
    /// The place of a handoff.
    pub(crate) fn of(handoff: &Handoff) -> Self {
        let at = handoff.created_at.unwrap_or_default();
        Self(at.seconds * 1_000_000 + i64::from(at.nanos) / 1000, handoff.handoff_id.clone())
    }

    /// What [`Place::token`] wrote; the beginning for nothing.
    pub(crate) fn parse(token: &str) -> Option<Self> {
        if token.is_empty() {
            return Some(Self::default());
        }
        let (micros, id) = token.split_once('.')?;
        Some(Self(micros.parse().ok()?, id.to_owned()))
    }

    /// As callers hold it.
    pub(crate) fn token(&self) -> String {
        format!("{}.{}", self.0, self.1)
    }
}

impl Journal {
    /// Handoffs in a state, or all open ones, oldest first, from behind a place on.
    pub(crate) async fn handoffs(
        &self,
        state: HandoffState,
        after: Place,
        limit: u32,
    ) -> Result<Vec<Handoff>, Error> {
        // One state is read in the order of its index; all that are open are few enough to be sorted.
        let states = match state {
            HandoffState::Unspecified => "state < 3".to_owned(),
            one => format!("state = {}", one as i32),
        };
        let query = format!(
            "SELECT packet, state, assignee FROM handoff WHERE {states}
            AND (created_at, handoff_id) > (?, ?) ORDER BY created_at, handoff_id LIMIT ?"
        );
        let key = (after.0, after.1, limit);
        let read = move |reader: &Connection| {
            let mut handoffs = Vec::new();
            for found in reader.prepare_cached(&query)?.query_map(key, handoff)? {
                handoffs.push(with_utterances(reader, found?, LISTED)?);
            }
            Ok(handoffs)
        };
        self.0.read(read).await
    }

    /// The handoff with this id, or the open one of this conversation.
    pub(crate) async fn handoff(&self, id: &str, conversation_id: &str) -> Result<Option<Handoff>, Error> {
        let query = "SELECT packet, state, assignee FROM handoff WHERE handoff_id = ? OR (conversation_id = ? AND state < 3)";
        let key = (id.to_owned(), conversation_id.to_owned());
        let read = move |reader: &Connection| {
            let found = reader.prepare_cached(query)?.query_row(key, handoff).optional()?;
            found.map(|found| with_utterances(reader, found, i64::MAX)).transpose()
        };
        self.0.read(read).await
    }

    /// Claims a waiting handoff; claiming one's own again changes nothing. `false` when another has it.
    pub(crate) async fn claim(&self, id: String, assignee: String) -> Result<bool, Error> {
        let update = "UPDATE handoff SET state = 2, assignee = ?1 WHERE handoff_id = ?2 AND (state = 1 OR (state = 2 AND assignee = ?1))";
        self.0.write(move |connection| Ok(connection.execute(update, [assignee, id])? == 1)).await
    }

    /// Stores a person's words; `false` unless the handoff is claimed by that person.
    pub(crate) async fn reply(&self, id: String, assignee: String, text: String) -> Result<bool, Error> {
        let insert = "INSERT INTO utterance (conversation_id, turn_id, role, text) SELECT conversation_id, '', ?, ? FROM handoff WHERE handoff_id = ? AND state = 2 AND assignee = ?";
        let values = (Role::Agent as i32, text, id, assignee);
        self.0.write(move |connection| Ok(connection.execute(insert, values)? == 1)).await
    }

    /// Ends a handoff, gives the conversation back to the bot with its context cut, masks what was said in it, and
    /// keeps the label.
    /// `false` unless the handoff is claimed by that person.
    pub(crate) async fn resolve(
        &self,
        id: String,
        assignee: String,
        disposition: String,
        label: Option<Vec<u8>>,
    ) -> Result<bool, Error> {
        let traceparent = kit::Call::current().traceparent();
        let write = move |connection: &Connection| {
            let update = "UPDATE handoff SET state = 3, disposition = ? WHERE handoff_id = ? AND state = 2 AND assignee = ?";
            if connection.execute(update, [&disposition, &id, &assignee])? == 0 {
                return Ok(false);
            }
            let update = "UPDATE conversation SET clarifications = 0, turns = 0, pending = NULL, execution_id = NULL,
                context_from = (SELECT coalesce(max(seq), 0) FROM utterance WHERE utterance.conversation_id = conversation.conversation_id)
                WHERE conversation_id = (SELECT conversation_id FROM handoff WHERE handoff_id = ?)";
            connection.execute(update, [&id])?;
            crate::mask::conversation(connection, &id)?;
            if let Some(label) = label {
                spool(connection, Kind::Label, &traceparent, "", &label)?;
            }
            Ok(true)
        };
        self.0.write(write).await
    }
}

/// Adds the newest utterances, oldest first.
fn with_utterances(reader: &Connection, mut handoff: Handoff, newest: i64) -> rusqlite::Result<Handoff> {
    let query =
        "SELECT role, substr(text, 1, ?) FROM utterance WHERE conversation_id = ? ORDER BY seq DESC LIMIT ?";
    let most = if newest == LISTED { LISTED_CHARS } else { i64::MAX };
    let mut query = reader.prepare_cached(query)?;
    let utterances = query.query_map(params![most, handoff.conversation_id, newest], utterance)?;
    handoff.utterances = utterances.collect::<Result<_, _>>()?;
    handoff.utterances.reverse();
    Ok(handoff)
}

fn handoff(row: &Row<'_>) -> rusqlite::Result<Handoff> {
    let packet = Handoff::decode(row.get_ref(0)?.as_blob()?).unwrap_or_default();
    let reason = HandoffReason::try_from(packet.reason).unwrap_or_default();
    Ok(Handoff { state: row.get(1)?, assignee: row.get(2)?, reason: reason.into(), ..packet })
}
