//! The queue of handoffs as the people at the desk use it.

use prost::Message as _;
use proto::{Handoff, HandoffNotice, HandoffReason, HandoffState, Role, SubmitLabelRequest, Utterance};
use sql::{Connection, Result, Row, values};

use crate::spool::{Kind, spool};
use crate::store::Journal;
use crate::{callback, feedback, notes};

/// Utterances of a handoff in a list; a conversation as a whole comes from `GetConversation`.
const LISTED: i64 = 6;
/// Longest disposition that telemetry takes.
const LABEL_BYTES: usize = 256;
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
    ) -> Result<Vec<Handoff>> {
        // One state is read in the order of its index; all that are open are few enough to be sorted.
        let states = match state {
            HandoffState::Unspecified => "state IN (1, 2, 4)".to_owned(),
            one => format!("state = {}", one as i32),
        };
        let query = format!(
            "SELECT packet, state, assignee FROM handoff WHERE {states}
            AND (created_at, handoff_id) > ($1, $2) ORDER BY created_at, handoff_id LIMIT $3"
        );
        let read = move |connection: &mut Connection<'_>| {
            let found = connection.query(&query, values![after.0, &after.1, limit], handoff)?;
            found.into_iter().map(|found| with_utterances(connection, found, Some(LISTED))).collect()
        };
        self.sql.read(read).await
    }

    /// The handoff with this id, or the open one of this conversation.
    pub(crate) async fn handoff(&self, id: &str, conversation_id: &str) -> Result<Option<Handoff>> {
        let query = "SELECT packet, state, assignee FROM handoff WHERE handoff_id = $1 OR (conversation_id = $2 AND state <> 3)";
        let (id, conversation_id) = (id.to_owned(), conversation_id.to_owned());
        let read = move |connection: &mut Connection<'_>| {
            let found = connection.first(query, values![&id, &conversation_id], handoff)?;
            let Some(found) = found else { return Ok(None) };
            let mut found = with_utterances(connection, found, None)?;
            found.deliveries = crate::outbox::deliveries(connection, &found.handoff_id)?;
            found.notes = notes::notes(connection, &found.handoff_id)?;
            Ok(Some(found))
        };
        self.sql.read(read).await
    }

    /// Claims a handoff that waits or is a callback; claiming one's own again changes nothing. `false` when another has
    /// it.
    pub(crate) async fn claim(&self, id: String, assignee: String) -> Result<bool> {
        let update = "UPDATE handoff SET state = 2, assignee = $1
            WHERE handoff_id = $2 AND (state IN (1, 4) OR (state = 2 AND assignee = $1))";
        let write = move |connection: &mut Connection<'_>| {
            // A turn that ends meanwhile finds the bot mute, or the handoff still to be claimed.
            Ok(notes::hold_open(connection, &id)?
                && connection.execute(update, values![&assignee, &id])? == 1)
        };
        self.sql.write(write).await
    }

    /// Stores a person's words, which also tell telemetry what the bot should have said; `false` unless the handoff is claimed by that person.
    pub(crate) async fn reply(&self, id: String, assignee: String, text: String) -> Result<bool> {
        // By its own name a reply whose commit got no answer knows that it is there.
        let name = format!("r_{}", uuid::Uuid::now_v7().simple());
        let known = "SELECT 1 FROM utterance WHERE conversation_id = $1 AND turn_id = $2";
        let insert = "INSERT INTO utterance (conversation_id, turn_id, role, text) VALUES ($1, $2, $3, $4)";
        let (traceparent, owner) = (kit::Call::current().traceparent(), self.owner.clone());
        let write = move |connection: &mut Connection<'_>| {
            let Some(conversation_id) = hold(connection, &id, &assignee)? else { return Ok(false) };
            if connection.first(known, values![&conversation_id, &name], |_| Ok(()))?.is_none() {
                feedback::demonstrate(connection, (&id, &name), &text, (&owner, &traceparent))?;
                connection.execute(insert, values![&conversation_id, &name, Role::Agent as i32, &text])?;
            }
            Ok(true)
        };
        self.sql.write(write).await
    }

    /// Ends a handoff; `false` unless it is claimed by that person.
    pub(crate) async fn resolve(&self, id: String, assignee: String, how: End) -> Result<bool> {
        let (traceparent, owner) = (kit::Call::current().traceparent(), self.owner.clone());
        let write = move |connection: &mut Connection<'_>| {
            let Some(conversation_id) = hold(connection, &id, &assignee)? else { return Ok(false) };
            end(connection, &id, &conversation_id, &how, (&owner, &traceparent))?;
            Ok(true)
        };
        self.sql.write(write).await
    }
}

/// The handoff for which the bot is mute: neither resolved nor a callback. It names both states, since the index does.
pub(crate) fn open_handoff(connection: &mut Connection<'_>, id: &str) -> Result<Option<HandoffNotice>> {
    let query =
        "SELECT handoff_id, reason FROM handoff WHERE conversation_id = $1 AND state <> 3 AND state <> 4";
    connection.first(query, values![id], |row| {
        Ok(HandoffNotice { handoff_id: row.get(0)?, reason: row.get(1)?, message: String::new() })
    })
}

/// Puts a handoff into the queue; where the conversation has a callback, that one again.
pub(crate) fn open(
    connection: &mut Connection<'_>,
    packet: &Handoff,
    at: i64,
    connectors: &[String],
) -> Result<()> {
    let Handoff { handoff_id, conversation_id, turn_id, reason, .. } = packet;
    if let Some((handoff_id, created_at)) = callback::of(connection, conversation_id)? {
        let created_at = Some(crate::handoff::timestamp(created_at));
        let packet = Handoff { handoff_id: handoff_id.clone(), created_at, ..packet.clone() };
        let update = "UPDATE handoff SET state = 1, step = step + 1, waiting_since = $1, turn_id = $2, reason = $3, packet = $4
            WHERE handoff_id = $5";
        connection.execute(update, values![at, turn_id, reason, &packet.encode_to_vec(), &handoff_id])?;
        return crate::outbox::enqueue_step(connection, &handoff_id, "waiting");
    }
    let insert = "INSERT INTO handoff (handoff_id, conversation_id, turn_id, reason, state, created_at, waiting_since, packet, sent_to)
        VALUES ($1, $2, $3, $4, 1, $5, $5, $6, $7)";
    let (bytes, sent_to) = (packet.encode_to_vec(), connectors.join(" "));
    let values = values![handoff_id, conversation_id, turn_id, reason, at, &bytes, &sent_to];
    connection.execute(insert, values)?;
    crate::outbox::enqueue(connection, packet, connectors)
}

/// How a handoff ends.
#[derive(Debug, Clone)]
pub(crate) struct End {
    /// In the words of the desk.
    pub(crate) disposition: String,
    /// What it says of the turn that led to it.
    pub(crate) label: Option<SubmitLabelRequest>,
}

impl End {
    /// With the right intent of the turn that led to it, empty where the classifier's stands.
    pub(crate) fn of(turn_id: String, intent: String, disposition: String) -> Self {
        let masked = personal::mask(&disposition);
        let says = !intent.is_empty() || !masked.is_empty();
        let label = SubmitLabelRequest {
            turn_id,
            intent,
            source: "agent".to_owned(),
            disposition: masked[..masked.floor_char_boundary(LABEL_BYTES)].to_owned(),
        };
        Self { disposition, label: Some(label).filter(|_| says) }
    }
}

/// Ends a handoff whose conversation is held, gives the conversation back to the bot with its context cut, masks what
/// was said in it, and keeps the label.
pub(crate) fn end(
    connection: &mut Connection<'_>,
    id: &str,
    conversation_id: &str,
    how: &End,
    (owner, traceparent): (&str, &str),
) -> Result<()> {
    let update = "UPDATE handoff SET state = 3, disposition = $1 WHERE handoff_id = $2";
    connection.execute(update, values![&how.disposition, id])?;
    callback::give_back(connection, conversation_id)?;
    crate::mask::conversation(connection, id)?;
    notes::mask(connection, id)?;
    match &how.label {
        Some(label) => spool(connection, owner, Kind::Label, traceparent, "", &label.encode_to_vec()),
        None => Ok(()),
    }
}

/// Keeps the conversation of a handoff from everybody else; `None` unless that person has claimed it.
fn hold(connection: &mut Connection<'_>, id: &str, assignee: &str) -> Result<Option<String>> {
    let query = "SELECT conversation_id FROM handoff WHERE handoff_id = $1 AND state = 2 AND assignee = $2";
    let find = |connection: &mut Connection<'_>| {
        connection.first(query, values![id, assignee], |row| row.get::<String, _>(0))
    };
    let Some(conversation_id) = find(connection)? else { return Ok(None) };
    connection.lock(&conversation_id)?;
    // Whoever held it before may have ended the handoff.
    find(connection)
}

/// Adds the newest utterances, all or so many and cut, oldest first.
fn with_utterances(
    connection: &mut Connection<'_>,
    mut handoff: Handoff,
    newest: Option<i64>,
) -> Result<Handoff> {
    let text = newest.map_or_else(|| "text".to_owned(), |_| format!("substr(text, 1, {LISTED_CHARS})"));
    let query =
        format!("SELECT role, {text} FROM utterance WHERE conversation_id = $1 ORDER BY seq DESC LIMIT $2");
    let values = values![&handoff.conversation_id, newest.unwrap_or(i64::MAX)];
    handoff.utterances = connection.query(&query, values, utterance)?;
    handoff.utterances.reverse();
    Ok(handoff)
}

pub(crate) fn handoff(row: &Row<'_>) -> Result<Handoff> {
    let packet = Handoff::decode(row.get::<&[u8], _>(0)?).unwrap_or_default();
    let reason = HandoffReason::try_from(packet.reason).unwrap_or_default();
    Ok(Handoff { state: row.get(1)?, assignee: row.get(2)?, reason: reason.into(), ..packet })
}

pub(crate) fn utterance(row: &Row<'_>) -> Result<Utterance> {
    Ok(Utterance { role: row.get(0)?, text: row.get(1)? })
}
