//! The journal: conversations, turns, handoffs, and what still has to reach telemetry.

use std::path::Path;

use kit::store::{Error, Store};
use prost::Message as _;
use proto::{Handoff, HandoffNotice, Outcome, Role, Turn, TurnRecord, Utterance};
use sqlx::sqlite::SqliteRow;
use sqlx::{Row as _, SqliteConnection};

use crate::gate::Choice;
use crate::spool::Kind;

const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS conversation (
    conversation_id TEXT PRIMARY KEY, customer_key TEXT NOT NULL, created_at INTEGER NOT NULL,
    clarifications INTEGER NOT NULL DEFAULT 0, pending TEXT,
    execution_id TEXT, confirming INTEGER NOT NULL DEFAULT 0,
    context_from INTEGER NOT NULL DEFAULT 0) WITHOUT ROWID;
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
    seq INTEGER PRIMARY KEY AUTOINCREMENT, kind INTEGER NOT NULL, traceparent TEXT NOT NULL, payload BLOB NOT NULL);
";

/// Most bytes of the conversation that reach the generator; the newest come first.
const HISTORY_BYTES: usize = 16 * 1024;

/// A question the customer has not answered yet.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Pending {
    /// The message that led to the question.
    pub(crate) question: String,
    /// The turn of that message.
    pub(crate) turn_id: String,
    /// What may be chosen; empty means a person was offered.
    pub(crate) choices: Vec<Choice>,
}

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
    /// The customer's words with personal data masked; `None` leaves them as they came.
    pub(crate) masked: Option<String>,
    pub(crate) clarifications: u32,
    pub(crate) pending: Option<Pending>,
    pub(crate) open: Option<OpenExecution>,
    pub(crate) handoff: Option<Handoff>,
    pub(crate) accepted_at: i64,
    /// Trace context of the turn, for what is done after it.
    pub(crate) traceparent: String,
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
        self.0
            .write(move |connection| {
                Box::pin(async move {
                    let accepted = accept(connection, &admission).await?;
                    match (&accepted, finish) {
                        (Accepted::New(_), Some(end)) => {
                            Ok(Accepted::Done(Box::new(finish_turn(connection, end).await?)))
                        }
                        _ => Ok(accepted),
                    }
                })
            })
            .await
    }

    /// Sets the outcome unless the turn has one; returns the turn as it stands in the journal.
    pub(crate) async fn finish(&self, end: Finish) -> Result<Turn, Error> {
        self.0.write(move |connection| Box::pin(finish_turn(connection, end))).await
    }

    /// Turns without an outcome whose deadline lies before `now`: id, conversation, trace, acceptance.
    pub(crate) async fn orphans(&self, now: i64) -> Result<Vec<(String, String, String, i64)>, Error> {
        let query = "SELECT turn_id, conversation_id, trace_id, accepted_at FROM turn WHERE outcome IS NULL AND deadline < ? LIMIT 100";
        let rows = sqlx::query(query).bind(now).fetch_all(self.0.reader()).await?;
        Ok(rows.iter().map(|row| (row.get(0), row.get(1), row.get(2), row.get(3))).collect())
    }

    pub(crate) async fn orphan(&self, turn_id: &str) -> Result<Option<(String, String, String, i64)>, Error> {
        let query = "SELECT turn_id, conversation_id, trace_id, accepted_at FROM turn WHERE turn_id = ?";
        let row = sqlx::query(query).bind(turn_id).fetch_optional(self.0.reader()).await?;
        Ok(row.map(|row| (row.get(0), row.get(1), row.get(2), row.get(3))))
    }

    /// The customer's words of a turn.
    pub(crate) async fn words(&self, turn_id: &str) -> Result<String, Error> {
        let query = "SELECT text FROM utterance WHERE turn_id = ? AND role = ?";
        let text = sqlx::query_scalar(query).bind(turn_id).bind(Role::Customer as i32);
        Ok(text.fetch_optional(self.0.reader()).await?.unwrap_or_default())
    }

    pub(crate) async fn record(&self, turn_id: &str) -> Result<Option<TurnRecord>, Error> {
        let query = sqlx::query_scalar("SELECT record FROM turn WHERE turn_id = ? AND record IS NOT NULL");
        let bytes: Option<Vec<u8>> = query.bind(turn_id).fetch_optional(self.0.reader()).await?;
        Ok(bytes.and_then(|bytes| TurnRecord::decode(bytes.as_slice()).ok()))
    }

    /// Utterances and finished turns of a conversation, oldest first; `None` for an unknown one.
    pub(crate) async fn conversation(&self, id: &str) -> Result<Option<(Vec<Utterance>, Vec<Turn>)>, Error> {
        let known = sqlx::query("SELECT 1 FROM conversation WHERE conversation_id = ?").bind(id);
        if known.fetch_optional(self.0.reader()).await?.is_none() {
            return Ok(None);
        }
        let query =
            "SELECT turn FROM turn WHERE conversation_id = ? AND turn IS NOT NULL ORDER BY accepted_at";
        let turns: Vec<Vec<u8>> = sqlx::query_scalar(query).bind(id).fetch_all(self.0.reader()).await?;
        let turns = turns.iter().filter_map(|bytes| Turn::decode(bytes.as_slice()).ok()).collect();
        let query = "SELECT role, text FROM utterance WHERE conversation_id = ? ORDER BY seq";
        let utterances = sqlx::query(query).bind(id).fetch_all(self.0.reader()).await?;
        Ok(Some((utterances.iter().map(utterance).collect(), turns)))
    }
}

async fn accept(connection: &mut SqliteConnection, admission: &Admission) -> Result<Accepted, sqlx::Error> {
    if let Some(request_id) = &admission.request_id {
        let query =
            sqlx::query("SELECT turn_id, fingerprint, turn FROM turn WHERE request_id = ?").bind(request_id);
        if let Some(row) = query.fetch_optional(&mut *connection).await? {
            return Ok(known(&row, &admission.fingerprint));
        }
    }
    let id = &admission.conversation_id;
    let query = "INSERT INTO conversation (conversation_id, customer_key, created_at) VALUES (?, ?, ?) ON CONFLICT DO NOTHING";
    let insert = sqlx::query(query).bind(id).bind(&admission.customer_key).bind(admission.accepted_at);
    let first_turn = insert.execute(&mut *connection).await?.rows_affected() == 1;
    let mut conversation = Conversation { first_turn, ..Conversation::default() };
    if !first_turn && !load(connection, admission, &mut conversation).await? {
        return Ok(Accepted::Foreign);
    }
    let waits = |id: &String| {
        conversation.open.as_ref().is_some_and(|open| open.confirming && open.execution_id == *id)
    };
    if admission.confirms.as_ref().is_some_and(|id| !waits(id)) {
        return Ok(Accepted::Stale);
    }
    // Statements that follow each other go to the database together: each trip costs more than its work.
    let query = "INSERT INTO turn (turn_id, conversation_id, request_id, fingerprint, trace_id, accepted_at, deadline) VALUES (?, ?, ?, ?, ?, ?, ?);
        INSERT INTO utterance (conversation_id, turn_id, role, text) VALUES (?, ?, ?, ?)";
    sqlx::query(query)
        .bind(&admission.turn_id)
        .bind(id)
        .bind(&admission.request_id)
        .bind(admission.fingerprint.as_slice())
        .bind(&admission.trace_id)
        .bind(admission.accepted_at)
        .bind(admission.deadline)
        .bind(id)
        .bind(&admission.turn_id)
        .bind(Role::Customer as i32)
        .bind(&admission.text)
        .execute(&mut *connection)
        .await?;
    Ok(Accepted::New(conversation))
}

fn known(row: &SqliteRow, fingerprint: &[u8]) -> Accepted {
    if row.get::<Vec<u8>, _>(1) != fingerprint {
        return Accepted::Conflict;
    }
    let turn = row.get::<Option<Vec<u8>>, _>(2).and_then(|bytes| Turn::decode(bytes.as_slice()).ok());
    turn.map_or_else(|| Accepted::Orphan { turn_id: row.get(0) }, |turn| Accepted::Done(Box::new(turn)))
}

/// Loads a known conversation; `false` when it belongs to another customer.
async fn load(
    connection: &mut SqliteConnection,
    admission: &Admission,
    conversation: &mut Conversation,
) -> Result<bool, sqlx::Error> {
    let id = &admission.conversation_id;
    let query = "SELECT customer_key, clarifications, pending, execution_id, confirming, context_from FROM conversation WHERE conversation_id = ?";
    let row = sqlx::query(query).bind(id).fetch_one(&mut *connection).await?;
    if row.get::<String, _>(0) != admission.customer_key {
        return Ok(false);
    }
    conversation.clarifications = row.get(1);
    conversation.pending = row.get::<Option<String>, _>(2).and_then(|json| serde_json::from_str(&json).ok());
    let open = |execution_id| OpenExecution { execution_id, confirming: row.get(4) };
    conversation.open = row.get::<Option<String>, _>(3).map(open);
    // What was said inside a workflow holds slot values and goes to no model.
    let query = "SELECT role, text FROM utterance WHERE conversation_id = ? AND seq > ? AND NOT private ORDER BY seq DESC LIMIT ?";
    let newest = sqlx::query(query).bind(id).bind(row.get::<i64, _>(5)).bind(admission.history);
    let newest = newest.fetch_all(&mut *connection).await?;
    let mut bytes = 0;
    let fits = |utterance: &Utterance| {
        bytes += utterance.text.len();
        bytes <= HISTORY_BYTES
    };
    conversation.history = newest.iter().map(utterance).take_while(fits).collect();
    conversation.history.reverse();
    conversation.handoff = open_handoff(connection, id).await?;
    Ok(true)
}

async fn open_handoff(
    connection: &mut SqliteConnection,
    id: &str,
) -> Result<Option<HandoffNotice>, sqlx::Error> {
    let query = "SELECT handoff_id, reason FROM handoff WHERE conversation_id = ? AND state < 3";
    let row = sqlx::query(query).bind(id).fetch_optional(connection).await?;
    Ok(row.map(|row| HandoffNotice { handoff_id: row.get(0), reason: row.get(1), message: String::new() }))
}

async fn finish_turn(connection: &mut SqliteConnection, mut end: Finish) -> Result<Turn, sqlx::Error> {
    if let Some(open) = open_handoff(connection, &end.turn.conversation_id).await? {
        meet_handoff(&mut end, open);
    }
    end.record.turn = Some(without_slots(&end.turn));
    let record = end.record.encode_to_vec();
    let query = "UPDATE turn SET outcome = ?, turn = ?, record = ? WHERE turn_id = ? AND outcome IS NULL";
    let update = sqlx::query(query)
        .bind(end.turn.outcome)
        .bind(end.turn.encode_to_vec())
        .bind(&record)
        .bind(&end.turn.turn_id);
    if update.execute(&mut *connection).await?.rows_affected() == 0 {
        let query = sqlx::query_scalar("SELECT turn FROM turn WHERE turn_id = ?").bind(&end.turn.turn_id);
        let stored: Vec<u8> = query.fetch_one(connection).await?;
        return Turn::decode(stored.as_slice()).map_err(|error| sqlx::Error::Decode(error.into()));
    }
    let pending = end.pending.and_then(|pending| serde_json::to_string(&pending).ok());
    let Turn { turn_id, conversation_id, answer, workflow, .. } = &end.turn;
    let query = "INSERT INTO spool (kind, traceparent, payload) VALUES (?, ?, ?);
        UPDATE utterance SET text = coalesce(?, text), private = ? WHERE turn_id = ? AND role = ?;
        INSERT INTO utterance (conversation_id, turn_id, role, text, private) SELECT ?, ?, ?, ?, ? WHERE ? <> '';
        UPDATE conversation SET clarifications = ?, pending = ?, execution_id = ?, confirming = ? WHERE conversation_id = ?";
    let private = workflow.is_some();
    sqlx::query(query)
        .bind(Kind::Record as i32)
        .bind(end.traceparent)
        .bind(record)
        .bind(end.masked)
        .bind(private)
        .bind(turn_id)
        .bind(Role::Customer as i32)
        .bind(conversation_id)
        .bind(turn_id)
        .bind(Role::Assistant as i32)
        .bind(answer)
        .bind(private)
        .bind(answer)
        .bind(end.clarifications)
        .bind(pending)
        .bind(end.open.as_ref().map(|open| &open.execution_id))
        .bind(end.open.as_ref().is_some_and(|open| open.confirming))
        .bind(conversation_id)
        .execute(&mut *connection)
        .await?;
    if let Some(packet) = end.handoff {
        let query = "INSERT INTO handoff (handoff_id, conversation_id, turn_id, reason, state, created_at, packet) VALUES (?, ?, ?, ?, 1, ?, ?)";
        sqlx::query(query)
            .bind(&packet.handoff_id)
            .bind(&packet.conversation_id)
            .bind(&packet.turn_id)
            .bind(packet.reason)
            .bind(end.accepted_at)
            .bind(packet.encode_to_vec())
            .execute(&mut *connection)
            .await?;
    }
    Ok(end.turn)
}

/// A person took the conversation over while this turn ran: one handoff a conversation, the customer's
/// earlier receipt stays good, and the bot says nothing any more. What a workflow did is still told.
fn meet_handoff(end: &mut Finish, open: HandoffNotice) {
    end.handoff = None;
    end.pending = None;
    match (end.turn.outcome(), &mut end.turn.handoff) {
        (Outcome::Handoff, Some(notice)) => notice.handoff_id = open.handoff_id,
        (Outcome::ActionDone | Outcome::ActionPending, _) => {}
        _ => {
            end.turn.answer.clear();
            end.turn.citations.clear();
            end.turn.handoff = Some(open);
            end.turn.set_outcome(Outcome::Handoff);
        }
    }
}

/// What telemetry may see of a turn: nothing that a customer filled into a workflow.
fn without_slots(turn: &Turn) -> Turn {
    let mut turn = turn.clone();
    if let Some(workflow) = &mut turn.workflow {
        workflow.slots.clear();
        turn.answer.clear();
    }
    turn
}

pub(crate) fn utterance(row: &SqliteRow) -> Utterance {
    Utterance { role: row.get(0), text: row.get(1) }
}
