//! The journal: conversations, turns, handoffs, and what still has to reach telemetry.

use std::path::Path;

use kit::store::{Error, Store};
use prost::Message as _;
use proto::{Handoff, HandoffNotice, Outcome, Role, Turn, TurnRecord, Utterance};
use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension as _, Row, named_params, params};

use crate::budget::{self, Spend};
use crate::gate::Pending;
use crate::spool::{Kind, record, spool};

pub(crate) const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS conversation (
    conversation_id TEXT PRIMARY KEY, customer_key TEXT NOT NULL, created_at INTEGER NOT NULL,
    clarifications INTEGER NOT NULL DEFAULT 0, pending TEXT,
    execution_id TEXT, confirming INTEGER NOT NULL DEFAULT 0,
    context_from INTEGER NOT NULL DEFAULT 0, turns INTEGER NOT NULL DEFAULT 0) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS turn (
    turn_id TEXT PRIMARY KEY, conversation_id TEXT NOT NULL, request_id TEXT UNIQUE, fingerprint BLOB NOT NULL,
    trace_id TEXT NOT NULL, accepted_at INTEGER NOT NULL, deadline INTEGER NOT NULL,
    outcome INTEGER, turn BLOB, record BLOB) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS turn_open ON turn (deadline) WHERE outcome IS NULL;
CREATE INDEX IF NOT EXISTS turn_of ON turn (conversation_id, accepted_at);
CREATE TABLE IF NOT EXISTS utterance (
    seq INTEGER PRIMARY KEY, conversation_id TEXT NOT NULL, turn_id TEXT NOT NULL,
    role INTEGER NOT NULL, text TEXT NOT NULL, private INTEGER NOT NULL DEFAULT 0);
CREATE INDEX IF NOT EXISTS utterance_of ON utterance (conversation_id, seq);
CREATE TABLE IF NOT EXISTS handoff (
    handoff_id TEXT PRIMARY KEY, conversation_id TEXT NOT NULL, turn_id TEXT NOT NULL, reason INTEGER NOT NULL,
    state INTEGER NOT NULL, assignee TEXT NOT NULL DEFAULT '', disposition TEXT NOT NULL DEFAULT '',
    created_at INTEGER NOT NULL, packet BLOB NOT NULL) WITHOUT ROWID;
CREATE UNIQUE INDEX IF NOT EXISTS handoff_open ON handoff (conversation_id) WHERE state < 3;
CREATE INDEX IF NOT EXISTS handoff_queue ON handoff (state, created_at);
CREATE TABLE IF NOT EXISTS spool (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, kind INTEGER NOT NULL, traceparent TEXT NOT NULL,
    turn_id TEXT NOT NULL, payload BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS spend (
    day INTEGER NOT NULL, customer BLOB NOT NULL, tokens INTEGER NOT NULL, PRIMARY KEY (day, customer)) WITHOUT ROWID;
";

/// The columns of an [`Orphan`]; role 1 is the customer.
const ORPHAN: &str = "SELECT turn_id, conversation_id, trace_id, accepted_at,
    (SELECT text FROM utterance WHERE utterance.turn_id = turn.turn_id
        AND utterance.conversation_id = turn.conversation_id AND role = 1) FROM turn";

/// Most bytes of the conversation that reach the generator; the newest come first.
const HISTORY_BYTES: usize = 16 * 1024;

/// A message at the door.
#[derive(Debug, Clone)]
pub(crate) struct Admission {
    pub(crate) turn_id: String,
    pub(crate) conversation_id: String,
    pub(crate) customer_key: String,
    pub(crate) request_id: Option<String>,
    pub(crate) fingerprint: [u8; 32],
    pub(crate) trace_id: String,
    pub(crate) text: String,
    /// What the journal keeps instead of the text, unless a person has the conversation and reads it there; `None`
    /// keeps the text.
    pub(crate) masked: Option<String>,
    pub(crate) accepted_at: i64,
    pub(crate) deadline: i64,
    pub(crate) history: u32,
    /// The execution that a button confirms or declines.
    pub(crate) confirms: Option<String>,
}

/// What the journal knows about the message.
#[derive(Debug)]
pub(crate) enum Accepted {
    /// It is in the journal now.
    New(Conversation),
    /// It was there and has its outcome.
    Done(Box<Turn>),
    /// It was there and nobody finished it.
    Orphan { turn_id: String },
    /// Another message used the same request id.
    Conflict,
    /// The conversation belongs to another customer.
    Foreign,
    /// The button belongs to an execution that no longer waits for it.
    Stale,
}

/// A workflow that waits for the customer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OpenExecution {
    pub(crate) execution_id: String,
    /// Whether it waits for a yes, not for a slot.
    pub(crate) confirming: bool,
}

/// A conversation at the start of a turn.
#[derive(Debug, Clone, Default)]
pub(crate) struct Conversation {
    pub(crate) first_turn: bool,
    /// Turns that ended, since a person last had the conversation.
    pub(crate) turns: u32,
    pub(crate) clarifications: u32,
    pub(crate) pending: Option<Pending>,
    /// The workflow the customer is in.
    pub(crate) open: Option<OpenExecution>,
    /// Set while a person owns the conversation.
    pub(crate) handoff: Option<HandoffNotice>,
    pub(crate) history: Vec<Utterance>,
}

/// The end of a turn, written in one commit.
#[derive(Debug, Clone, Default)]
pub(crate) struct Finish {
    pub(crate) turn: Turn,
    pub(crate) record: TurnRecord,
    /// The customer's words as the input rail masked them; `None` leaves them as they were kept.
    pub(crate) masked: Option<String>,
    pub(crate) clarifications: u32,
    pub(crate) pending: Option<Pending>,
    pub(crate) open: Option<OpenExecution>,
    pub(crate) handoff: Option<Handoff>,
    pub(crate) accepted_at: i64,
    /// What its model calls cost.
    pub(crate) spends: Vec<Spend>,
    /// Trace context of the turn, for what is done after it.
    pub(crate) traceparent: String,
}

/// A turn that nobody finished.
#[derive(Debug)]
pub(crate) struct Orphan {
    pub(crate) turn_id: String,
    pub(crate) conversation_id: String,
    pub(crate) trace_id: String,
    /// Microseconds since the Unix epoch.
    pub(crate) accepted_at: i64,
    /// The customer's words.
    pub(crate) text: String,
}

/// The journal. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Journal(pub(crate) Store);

impl Journal {
    pub(crate) async fn open(path: &Path) -> Result<Self, Error> {
        Ok(Self(Store::open(path, SCHEMA).await?))
    }

    /// Puts a message into the journal, and its end as well when the turn is decided already.
    pub(crate) async fn accept(
        &self,
        admission: Admission,
        finish: Option<Finish>,
    ) -> Result<Accepted, Error> {
        let write = self.0.write(move |connection| match (accept(connection, &admission)?, finish) {
            (Accepted::New(_), Some(end)) => Ok(Accepted::Done(Box::new(finish_turn(connection, end)?))),
            (accepted, _) => Ok(accepted),
        });
        write.await
    }

    /// Sets the outcome unless the turn has one; returns the turn as it stands in the journal.
    pub(crate) async fn finish(&self, end: Finish) -> Result<Turn, Error> {
        self.0.write(move |connection| finish_turn(connection, end)).await
    }

    /// Turns without an outcome whose deadline lies before `now`.
    pub(crate) async fn orphans(&self, now: i64) -> Result<Vec<Orphan>, Error> {
        let query = format!("{ORPHAN} WHERE outcome IS NULL AND deadline < ? LIMIT 100");
        let read = move |reader: &Connection| {
            reader.prepare_cached(&query)?.query_map([now], orphan)?.collect::<Result<_, _>>()
        };
        self.0.read(read).await
    }

    pub(crate) async fn orphan(&self, turn_id: &str) -> Result<Option<Orphan>, Error> {
        let (query, turn_id) = (format!("{ORPHAN} WHERE turn_id = ?"), turn_id.to_owned());
        self.0.read(move |reader| reader.query_row(&query, [turn_id], orphan).optional()).await
    }

    /// The record of a turn that has its outcome.
    pub(crate) async fn record(&self, turn_id: &str) -> Result<Option<TurnRecord>, Error> {
        let query = "SELECT turn, record FROM turn WHERE turn_id = ? AND record IS NOT NULL";
        let turn_id = turn_id.to_owned();
        let read = move |reader: &Connection| {
            reader.query_row(query, [turn_id], |row| record(row, 0, 1)).optional().map(Option::flatten)
        };
        self.0.read(read).await
    }

    /// Utterances and finished turns of a conversation, oldest first; `None` for an unknown one.
    pub(crate) async fn conversation(&self, id: &str) -> Result<Option<(Vec<Utterance>, Vec<Turn>)>, Error> {
        let id = id.to_owned();
        let read = move |reader: &Connection| {
            let known = "SELECT 1 FROM conversation WHERE conversation_id = ?";
            if !reader.prepare_cached(known)?.exists([&id])? {
                return Ok(None);
            }
            let query =
                "SELECT turn FROM turn WHERE conversation_id = ? AND outcome > 0 ORDER BY accepted_at";
            let mut turns = Vec::new();
            for bytes in reader.prepare_cached(query)?.query_map([&id], |row| row.get::<_, Vec<u8>>(0))? {
                turns.extend(Turn::decode(bytes?.as_slice()).ok());
            }
            let query = "SELECT role, text FROM utterance WHERE conversation_id = ? ORDER BY seq";
            let mut query = reader.prepare_cached(query)?;
            let utterances = query.query_map([&id], utterance)?.collect::<Result<_, _>>()?;
            Ok(Some((utterances, turns)))
        };
        self.0.read(read).await
    }

    /// The last turn of a conversation that belongs to its present context, where it was answered; role 2 is ours.
    pub(crate) async fn last_answer(&self, id: String) -> Result<Option<Turn>, Error> {
        let query = "SELECT turn FROM utterance JOIN conversation USING (conversation_id) JOIN turn USING (turn_id)
            WHERE utterance.conversation_id = ? AND seq > context_from AND role = 2 AND NOT private ORDER BY seq DESC LIMIT 1";
        let last = move |reader: &Connection| {
            reader.query_row(query, [id], |row| row.get::<_, Vec<u8>>(0)).optional()
        };
        let turn = self.0.read(last).await?.and_then(|bytes| Turn::decode(bytes.as_slice()).ok());
        Ok(turn.filter(|turn| turn.outcome() == Outcome::Answered))
    }
}

fn orphan(row: &Row<'_>) -> rusqlite::Result<Orphan> {
    let (turn_id, conversation_id, trace_id) = (row.get(0)?, row.get(1)?, row.get(2)?);
    let (accepted_at, text) = (row.get(3)?, row.get::<_, Option<String>>(4)?.unwrap_or_default());
    Ok(Orphan { turn_id, conversation_id, trace_id, accepted_at, text })
}

fn accept(connection: &Connection, admission: &Admission) -> rusqlite::Result<Accepted> {
    if let Some(request_id) = &admission.request_id {
        let query = "SELECT turn_id, fingerprint, turn FROM turn WHERE request_id = ?";
        let mut query = connection.prepare_cached(query)?;
        let known = query.query_row([request_id], |row| known(row, &admission.fingerprint)).optional()?;
        if let Some(known) = known {
            return Ok(known);
        }
    }
    let id = &admission.conversation_id;
    let insert = "INSERT INTO conversation (conversation_id, customer_key, created_at) VALUES (?, ?, ?) ON CONFLICT DO NOTHING";
    let values = params![id, admission.customer_key, admission.accepted_at];
    let inserted = connection.prepare_cached(insert)?.execute(values)?;
    let mut conversation = Conversation { first_turn: inserted == 1, ..Conversation::default() };
    if !conversation.first_turn && !load(connection, admission, &mut conversation)? {
        return Ok(Accepted::Foreign);
    }
    let waits = |id: &String| {
        conversation.open.as_ref().is_some_and(|open| open.confirming && open.execution_id == *id)
    };
    if admission.confirms.as_ref().is_some_and(|id| !waits(id)) {
        return Ok(Accepted::Stale);
    }
    let insert = "INSERT INTO turn (turn_id, conversation_id, request_id, fingerprint, trace_id, accepted_at, deadline) VALUES (?, ?, ?, ?, ?, ?, ?)";
    let values = params![
        admission.turn_id,
        id,
        admission.request_id,
        admission.fingerprint,
        admission.trace_id,
        admission.accepted_at,
        admission.deadline
    ];
    connection.prepare_cached(insert)?.execute(values)?;
    let insert = "INSERT INTO utterance (conversation_id, turn_id, role, text) VALUES (?, ?, ?, ?)";
    let masked = admission.masked.as_ref().filter(|_| conversation.handoff.is_none());
    let text = masked.unwrap_or(&admission.text);
    let values = params![id, admission.turn_id, Role::Customer as i32, text];
    connection.prepare_cached(insert)?.execute(values)?;
    Ok(Accepted::New(conversation))
}

fn known(row: &Row<'_>, fingerprint: &[u8; 32]) -> rusqlite::Result<Accepted> {
    if row.get::<_, [u8; 32]>(1)? != *fingerprint {
        return Ok(Accepted::Conflict);
    }
    let turn = row.get::<_, Option<Vec<u8>>>(2)?.and_then(|bytes| Turn::decode(bytes.as_slice()).ok());
    Ok(match turn {
        Some(turn) => Accepted::Done(Box::new(turn)),
        None => Accepted::Orphan { turn_id: row.get(0)? },
    })
}

/// Loads a known conversation; `false` when it belongs to another customer.
fn load(
    connection: &Connection,
    admission: &Admission,
    conversation: &mut Conversation,
) -> rusqlite::Result<bool> {
    let id = &admission.conversation_id;
    let query = "SELECT customer_key, clarifications, pending, execution_id, confirming, context_from, turns FROM conversation WHERE conversation_id = ?";
    let mut query = connection.prepare_cached(query)?;
    let mut rows = query.query([id])?;
    let Some(row) = rows.next()? else { return Ok(false) };
    if row.get_ref(0)?.as_str()? != admission.customer_key {
        return Ok(false);
    }
    conversation.clarifications = row.get(1)?;
    conversation.pending = row.get::<_, Option<String>>(2)?.and_then(|json| serde_json::from_str(&json).ok());
    let confirming = row.get(4)?;
    let open = |execution_id| OpenExecution { execution_id, confirming };
    conversation.open = row.get::<_, Option<String>>(3)?.map(open);
    conversation.turns = row.get(6)?;
    let from: i64 = row.get(5)?;
    // What was said inside a workflow holds slot values and goes to no model.
    let query = "SELECT role, text FROM utterance WHERE conversation_id = ? AND seq > ? AND NOT private ORDER BY seq DESC LIMIT ?";
    let mut query = connection.prepare_cached(query)?;
    let newest = query.query_map(params![id, from, admission.history], utterance)?;
    let newest = newest.collect::<Result<Vec<_>, _>>()?;
    let mut bytes = 0;
    let fits = |utterance: &Utterance| {
        bytes += utterance.text.len();
        bytes <= HISTORY_BYTES
    };
    conversation.history = newest.into_iter().take_while(fits).collect();
    conversation.history.reverse();
    conversation.handoff = open_handoff(connection, id)?;
    Ok(true)
}

fn open_handoff(connection: &Connection, id: &str) -> rusqlite::Result<Option<HandoffNotice>> {
    let query = "SELECT handoff_id, reason FROM handoff WHERE conversation_id = ? AND state < 3";
    let notice = |row: &Row<'_>| {
        Ok(HandoffNotice { handoff_id: row.get(0)?, reason: row.get(1)?, message: String::new() })
    };
    connection.prepare_cached(query)?.query_row([id], notice).optional()
}

fn finish_turn(connection: &Connection, mut end: Finish) -> rusqlite::Result<Turn> {
    budget::keep(connection, &end.spends)?;
    if let Some(open) = open_handoff(connection, &end.turn.conversation_id)? {
        crate::ending::meet_handoff(&mut end, open);
    }
    let record = end.record.encode_to_vec();
    let kept = crate::mask::kept(&end.turn);
    let Turn { turn_id, conversation_id, answer, workflow, .. } = kept.as_ref();
    let update = "UPDATE turn SET outcome = ?, turn = ?, record = ? WHERE turn_id = ? AND outcome IS NULL";
    let mut update = connection.prepare_cached(update)?;
    if update.execute(params![kept.outcome, kept.encode_to_vec(), record, turn_id])? == 0 {
        let query = "SELECT turn FROM turn WHERE turn_id = ?";
        let stored: Vec<u8> = connection.query_row(query, [turn_id], |row| row.get(0))?;
        let wrong = |error| rusqlite::Error::FromSqlConversionFailure(0, Type::Blob, Box::new(error));
        return Turn::decode(stored.as_slice()).map_err(wrong);
    }
    spool(connection, Kind::Record, &end.traceparent, turn_id, &[])?;
    let private = workflow.is_some();
    let update = "UPDATE utterance SET text = coalesce(?, text), private = ?
        WHERE conversation_id = ? AND turn_id = ? AND role = ?";
    let values = params![end.masked, private, conversation_id, turn_id, Role::Customer as i32];
    connection.prepare_cached(update)?.execute(values)?;
    if !answer.is_empty() {
        let insert =
            "INSERT INTO utterance (conversation_id, turn_id, role, text, private) VALUES (?, ?, ?, ?, ?)";
        let values = params![conversation_id, turn_id, Role::Assistant as i32, answer, private];
        connection.prepare_cached(insert)?.execute(values)?;
    }
    let update = "UPDATE conversation SET clarifications = :clarifications, pending = :pending, execution_id = :execution_id,
        confirming = :confirming, turns = turns + 1 WHERE conversation_id = :conversation_id";
    connection.prepare_cached(update)?.execute(named_params! {
        ":clarifications": end.clarifications,
        ":pending": end.pending.and_then(|pending| serde_json::to_string(&pending).ok()),
        ":execution_id": end.open.as_ref().map(|open| &open.execution_id),
        ":confirming": end.open.as_ref().is_some_and(|open| open.confirming),
        ":conversation_id": conversation_id,
    })?;
    if let Some(packet) = end.handoff {
        let insert = "INSERT INTO handoff (handoff_id, conversation_id, turn_id, reason, state, created_at, packet) VALUES (?, ?, ?, ?, 1, ?, ?)";
        let values = params![
            packet.handoff_id,
            packet.conversation_id,
            packet.turn_id,
            packet.reason,
            end.accepted_at,
            packet.encode_to_vec()
        ];
        connection.prepare_cached(insert)?.execute(values)?;
    }
    Ok(end.turn)
}

pub(crate) fn utterance(row: &Row<'_>) -> rusqlite::Result<Utterance> {
    Ok(Utterance { role: row.get(0)?, text: row.get(1)? })
}
