//! The journal: conversations, turns, handoffs, and what still has to reach telemetry.

use std::sync::Arc;

use prost::Message as _;
use proto::{Arm, Handoff, HandoffNotice, Outcome, Role, Turn, TurnRecord, Utterance};
use sql::{Connection, Error, Result, Row, Source, Store, values};

use crate::admit::Admission;
use crate::budget::{self, Spend};
use crate::desk::{open, open_handoff, utterance};
use crate::gate::Pending;
use crate::open::{Awaits, OpenExecution};
use crate::spool::{Kind, record, spool};

pub(crate) const MIGRATIONS: &[&str] = &["
CREATE TABLE conversation (
    conversation_id TEXT PRIMARY KEY, customer_key TEXT NOT NULL, created_at INTEGER NOT NULL,
    clarifications INTEGER NOT NULL DEFAULT 0, pending TEXT,
    execution_id TEXT, confirming INTEGER NOT NULL DEFAULT 0,
    context_from INTEGER NOT NULL DEFAULT 0, turns INTEGER NOT NULL DEFAULT 0) STRICT, WITHOUT ROWID;
CREATE TABLE turn (
    turn_id TEXT PRIMARY KEY, conversation_id TEXT NOT NULL, request_id TEXT UNIQUE, fingerprint BLOB NOT NULL,
    trace_id TEXT NOT NULL, accepted_at INTEGER NOT NULL, deadline INTEGER NOT NULL,
    outcome INTEGER, turn BLOB, record BLOB) STRICT, WITHOUT ROWID;
CREATE INDEX turn_open ON turn (deadline) WHERE outcome IS NULL;
CREATE INDEX turn_of ON turn (conversation_id, accepted_at);
CREATE TABLE utterance (
    seq INTEGER PRIMARY KEY, conversation_id TEXT NOT NULL, turn_id TEXT NOT NULL,
    role INTEGER NOT NULL, text TEXT NOT NULL, private INTEGER NOT NULL DEFAULT 0) STRICT;
CREATE INDEX utterance_of ON utterance (conversation_id, seq);
CREATE TABLE handoff (
    handoff_id TEXT PRIMARY KEY, conversation_id TEXT NOT NULL, turn_id TEXT NOT NULL, reason INTEGER NOT NULL,
    state INTEGER NOT NULL, assignee TEXT NOT NULL DEFAULT '', disposition TEXT NOT NULL DEFAULT '',
    created_at INTEGER NOT NULL, packet BLOB NOT NULL) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX handoff_open ON handoff (conversation_id) WHERE state < 3;
CREATE INDEX conversation_of ON conversation (customer_key);
CREATE INDEX handoff_queue ON handoff (state, created_at);
CREATE TABLE spool (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, kind INTEGER NOT NULL, traceparent TEXT NOT NULL,
    turn_id TEXT NOT NULL, payload BLOB NOT NULL, owner TEXT NOT NULL, at INTEGER NOT NULL) STRICT;
CREATE TABLE spend (
    day INTEGER NOT NULL, customer BLOB NOT NULL, tokens INTEGER NOT NULL,
    PRIMARY KEY (day, customer)) STRICT, WITHOUT ROWID;
", crate::outbox::TABLES, crate::inbound::TABLES, crate::notes::TABLES, crate::callback::TABLES, crate::retain::TABLES, crate::rollout::TABLES, crate::unseen::TABLES,
"CREATE INDEX turn_by_trace ON turn (trace_id);"];

/// The columns of an [`Orphan`]; role 1 is the customer.
const ORPHAN: &str = "SELECT turn_id, conversation_id, trace_id, accepted_at,
    (SELECT text FROM utterance WHERE utterance.turn_id = turn.turn_id
        AND utterance.conversation_id = turn.conversation_id AND role = 1) FROM turn";

/// Most bytes of the conversation that reach the generator; the newest come first.
const HISTORY_BYTES: usize = 16 * 1024;

/// What the journal knows about the message.
#[derive(Debug)]
pub(crate) enum Accepted {
    /// It is in the journal now.
    New(Conversation),
    /// It was there and has its outcome.
    Done(Box<Turn>),
    /// It was there and nobody finished it.
    Orphan { turn_id: String },
    /// Another process has it in hand, or another message of the conversation.
    Busy,
    /// Another message used the same request id.
    Conflict,
    /// The conversation belongs to another customer.
    Foreign,
    /// The button belongs to an execution that no longer waits for it.
    Stale,
}

/// A conversation at the start of a turn.
#[derive(Debug, Clone, Default)]
pub(crate) struct Conversation {
    pub(crate) first_turn: bool,
    /// Turns that ended, since a person last had the conversation.
    pub(crate) turns: u32,
    pub(crate) clarifications: u32,
    /// The arm of the rollout that it is in, unspecified before that is known.
    pub(crate) arm: Arm,
    pub(crate) pending: Option<Pending>,
    /// The workflow that is not over.
    pub(crate) open: Option<OpenExecution>,
    /// Set while a person owns the conversation.
    pub(crate) handoff: Option<HandoffNotice>,
    pub(crate) history: Vec<Utterance>,
    /// What we said last of its present context, where that was an answer.
    pub(crate) last_answer: Option<Box<Turn>>,
}

impl Conversation {
    /// Whether a workflow waits for the customer.
    pub(crate) fn is_in_workflow(&self) -> bool {
        self.open.as_ref().is_some_and(|open| open.awaits != Awaits::Approval)
    }
}

/// The end of a turn, written in one commit.
#[derive(Debug, Clone, Default)]
pub(crate) struct Finish {
    pub(crate) turn: Turn,
    pub(crate) record: TurnRecord,
    /// That the assistant answers too, read by nobody.
    pub(crate) mirrored: bool,
    /// The customer's words as the input rail masked them; `None` leaves them as they were kept.
    pub(crate) masked: Option<String>,
    pub(crate) clarifications: u32,
    pub(crate) pending: Option<Pending>,
    pub(crate) open: Option<OpenExecution>,
    pub(crate) handoff: Option<Handoff>,
    /// Names of the helpdesks that get the handoff.
    pub(crate) connectors: Vec<String>,
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
pub(crate) struct Journal {
    pub(crate) sql: Store,
    /// This process, among those that share the journal.
    pub(crate) owner: Arc<str>,
    /// Held while entries of the spool are on their way.
    pub(crate) sending: Arc<tokio::sync::Mutex<()>>,
}

/// Brings the tables of the stage up to date.
///
/// # Errors
/// The store cannot be opened, or is of a version that this one does not know.
pub async fn migrate(context: &kit::Context) -> anyhow::Result<()> {
    Journal::open(context.store(crate::NAME)?).await?;
    Ok(())
}

impl Journal {
    pub(crate) async fn open(source: Source) -> Result<Self> {
        let owner = uuid::Uuid::new_v4().simple().to_string().into();
        Ok(Self { sql: Store::open(source, MIGRATIONS).await?, owner, sending: Arc::default() })
    }

    /// Puts a message into the journal, and its end as well when the turn is decided already.
    pub(crate) async fn accept(&self, admission: Admission, finish: Option<Finish>) -> Result<Accepted> {
        let owner = self.owner.clone();
        let write = move |connection: &mut Connection<'_>| {
            let accepted = accept(connection, &admission, finish.is_none())?;
            match (accepted, &finish) {
                (Accepted::New(_), Some(end)) => {
                    Ok(Accepted::Done(Box::new(finish_turn(connection, &owner, end)?)))
                }
                (accepted, _) => Ok(accepted),
            }
        };
        self.sql.write(write).await
    }

    /// Sets the outcome unless the turn has one; returns the turn as it stands in the journal.
    pub(crate) async fn finish(&self, end: Finish) -> Result<Turn> {
        let owner = self.owner.clone();
        self.sql.write(move |connection| finish_turn(connection, &owner, &end)).await
    }

    /// Turns without an outcome that no process has in hand any more. Of a journal that is this process's alone it
    /// has none in hand at the start, whatever the clock says.
    pub(crate) async fn orphans(&self, at_start: bool) -> Result<Vec<Orphan>> {
        let all = at_start && !self.sql.is_shared();
        let query = format!("{ORPHAN} WHERE outcome IS NULL AND deadline < $1 LIMIT 100");
        let read = move |connection: &mut Connection<'_>| {
            let before = if all { i64::MAX } else { connection.now()? };
            connection.query(&query, values![before], orphan)
        };
        self.sql.read(read).await
    }

    /// Keeps turns in hand for another `lease` microseconds.
    pub(crate) async fn renew(&self, turns: Vec<String>, lease: i64) -> Result<()> {
        let update = "UPDATE turn SET deadline = $1 WHERE turn_id = $2 AND outcome IS NULL";
        let renew = move |connection: &mut Connection<'_>| {
            let until = connection.now()? + lease;
            turns.iter().try_for_each(|turn| connection.execute(update, values![until, turn]).map(|_| ()))
        };
        self.sql.write(renew).await
    }

    pub(crate) async fn orphan(&self, turn_id: &str) -> Result<Option<Orphan>> {
        let (query, turn_id) = (format!("{ORPHAN} WHERE turn_id = $1"), turn_id.to_owned());
        self.sql.read(move |connection| connection.first(&query, values![&turn_id], orphan)).await
    }

    /// The record of a turn that has its outcome.
    pub(crate) async fn record(&self, turn_id: &str, trace_id: &str) -> Result<Option<TurnRecord>> {
        let (query, id) = match turn_id {
            "" => {
                ("SELECT turn, record FROM turn WHERE trace_id = $1 AND record IS NOT NULL LIMIT 1", trace_id)
            }
            id => ("SELECT turn, record FROM turn WHERE turn_id = $1 AND record IS NOT NULL", id),
        };
        let id = id.to_owned();
        let read = move |connection: &mut Connection<'_>| {
            connection.first(query, values![&id], |row| record(row, 0, 1)).map(Option::flatten)
        };
        self.sql.read(read).await
    }

    /// Utterances and finished turns of a conversation, oldest first; `None` for an unknown one.
    pub(crate) async fn conversation(&self, id: &str) -> Result<Option<(Vec<Utterance>, Vec<Turn>)>> {
        let id = id.to_owned();
        let read = move |connection: &mut Connection<'_>| {
            let known = "SELECT 1 FROM conversation WHERE conversation_id = $1";
            if connection.first(known, values![&id], |_| Ok(()))?.is_none() {
                return Ok(None);
            }
            let query =
                "SELECT turn FROM turn WHERE conversation_id = $1 AND outcome > 0 ORDER BY accepted_at";
            let turns = connection
                .query(query, values![&id], |row| Ok(Turn::decode(row.get::<&[u8], _>(0)?).ok()))?;
            let query = "SELECT role, text FROM utterance WHERE conversation_id = $1 ORDER BY seq";
            let utterances = connection.query(query, values![&id], utterance)?;
            Ok(Some((utterances, turns.into_iter().flatten().collect())))
        };
        self.sql.read(read).await
    }
}

fn orphan(row: &Row<'_>) -> Result<Orphan> {
    let (turn_id, conversation_id, trace_id) = (row.get(0)?, row.get(1)?, row.get(2)?);
    let (accepted_at, text) = (row.get(3)?, row.get::<Option<String>, _>(4)?.unwrap_or_default());
    Ok(Orphan { turn_id, conversation_id, trace_id, accepted_at, text })
}

fn accept(connection: &mut Connection<'_>, admission: &Admission, alone: bool) -> Result<Accepted> {
    let Admission { turn_id, conversation_id: id, .. } = admission;
    let now = connection.now()?;
    if let Some(request_id) = &admission.request_id {
        connection.lock(request_id)?;
        // A turn of this id is this one's own, whose first commit got no answer.
        let query =
            "SELECT turn_id, fingerprint, turn, deadline FROM turn WHERE request_id = $1 AND turn_id <> $2";
        let known = |row: &Row<'_>| known(row, &admission.fingerprint, now);
        if let Some(known) = connection.first(query, values![request_id, turn_id], known)? {
            return Ok(known);
        }
    }
    connection.lock(id)?;
    let query = "SELECT 1 FROM turn WHERE conversation_id = $1 AND outcome IS NULL AND deadline > $2 AND turn_id <> $3";
    if alone && connection.first(query, values![id, now, turn_id], |_| Ok(()))?.is_some() {
        return Ok(Accepted::Busy);
    }
    let insert = "INSERT INTO conversation (conversation_id, customer_key, created_at) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING";
    let inserted = connection.execute(insert, values![id, &admission.customer_key, admission.accepted_at])?;
    let mut conversation = Conversation { first_turn: inserted == 1, ..Conversation::default() };
    if !conversation.first_turn && !load(connection, admission, &mut conversation)? {
        return Ok(Accepted::Foreign);
    }
    let waits = |id: &String| {
        conversation.open.as_ref().is_some_and(|open| open.awaits == Awaits::Yes && open.execution_id == *id)
    };
    if admission.confirms.as_ref().is_some_and(|id| !waits(id)) {
        return Ok(Accepted::Stale);
    }
    let insert = "INSERT INTO turn (turn_id, conversation_id, request_id, fingerprint, trace_id, accepted_at, deadline)
        VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (turn_id) DO NOTHING";
    let values = values![
        turn_id,
        id,
        admission.request_id.as_ref(),
        &admission.fingerprint,
        &admission.trace_id,
        admission.accepted_at,
        now + admission.lease
    ];
    if connection.execute(insert, values)? == 1 {
        let insert = "INSERT INTO utterance (conversation_id, turn_id, role, text) VALUES ($1, $2, $3, $4)";
        let masked = admission.masked.as_ref().filter(|_| conversation.handoff.is_none());
        let text = masked.unwrap_or(&admission.text);
        connection.execute(insert, values![id, turn_id, Role::Customer as i32, text])?;
    }
    Ok(Accepted::New(conversation))
}

fn known(row: &Row<'_>, fingerprint: &[u8; 32], now: i64) -> Result<Accepted> {
    if row.get::<[u8; 32], _>(1)? != *fingerprint {
        return Ok(Accepted::Conflict);
    }
    let turn = row.get::<Option<&[u8]>, _>(2)?.and_then(|bytes| Turn::decode(bytes).ok());
    Ok(match turn {
        Some(turn) => Accepted::Done(Box::new(turn)),
        None if row.get::<i64, _>(3)? > now => Accepted::Busy,
        None => Accepted::Orphan { turn_id: row.get(0)? },
    })
}

/// Loads a known conversation; `false` when it belongs to another customer.
fn load(
    connection: &mut Connection<'_>,
    admission: &Admission,
    conversation: &mut Conversation,
) -> Result<bool> {
    let id = &admission.conversation_id;
    let query = "SELECT customer_key, clarifications, pending, execution_id, confirming, context_from, turns, arm FROM conversation WHERE conversation_id = $1";
    let from = connection.first(query, values![id], |row| {
        if row.get::<&str, _>(0)? != admission.customer_key {
            return Ok(None);
        }
        conversation.clarifications = row.get(1)?;
        conversation.pending =
            row.get::<Option<&str>, _>(2)?.and_then(|json| serde_json::from_str(json).ok());
        let awaits = Awaits::from_number(row.get(4)?);
        let open = |execution_id| OpenExecution { execution_id, awaits };
        conversation.open = row.get::<Option<String>, _>(3)?.map(open);
        conversation.turns = row.get(6)?;
        conversation.arm = Arm::try_from(row.get::<i32, _>(7)?).unwrap_or_default();
        row.get::<i64, _>(5).map(Some)
    })?;
    let Some(from) = from.flatten() else { return Ok(false) };
    // What was said inside a workflow holds slot values and goes to no model.
    let query = "SELECT role, text FROM utterance WHERE conversation_id = $1 AND seq > $2 AND private = 0 ORDER BY seq DESC LIMIT $3";
    let newest = connection.query(query, values![id, from, admission.history], utterance)?;
    let mut bytes = 0;
    let fits = |utterance: &Utterance| {
        bytes += utterance.text.len();
        bytes <= HISTORY_BYTES
    };
    conversation.history = newest.into_iter().take_while(fits).collect();
    conversation.history.reverse();
    conversation.last_answer = last_answer(connection, id, from)?.map(Box::new);
    conversation.handoff = open_handoff(connection, id)?;
    Ok(true)
}

/// The turn of what we said last after `from`, where that was an answer.
fn last_answer(connection: &mut Connection<'_>, id: &str, from: i64) -> Result<Option<Turn>> {
    let query = "SELECT turn FROM utterance JOIN turn USING (turn_id)
        WHERE utterance.conversation_id = $1 AND seq > $2 AND role = $3 AND private = 0 ORDER BY seq DESC LIMIT 1";
    let values = values![id, from, Role::Assistant as i32];
    let last = connection.first(query, values, |row| Ok(Turn::decode(row.get::<&[u8], _>(0)?).ok()))?;
    Ok(last.flatten().filter(|turn| turn.outcome() == Outcome::Answered))
}

fn finish_turn(connection: &mut Connection<'_>, owner: &str, end: &Finish) -> Result<Turn> {
    let mut end = end.clone();
    connection.lock(&end.turn.conversation_id)?;
    crate::callback::meet(connection, &mut end)?;
    crate::rollout::settle(connection, &mut end)?;
    let record = end.record.encode_to_vec();
    let kept = crate::mask::kept(&end.turn);
    let Turn { turn_id, conversation_id, answer, workflow, .. } = kept.as_ref();
    let update =
        "UPDATE turn SET outcome = $1, turn = $2, record = $3 WHERE turn_id = $4 AND outcome IS NULL";
    if connection.execute(update, values![kept.outcome, &kept.encode_to_vec(), &record, turn_id])? == 0 {
        let query = "SELECT turn FROM turn WHERE turn_id = $1";
        let stored = connection
            .first(query, values![turn_id], |row| Ok(Turn::decode(row.get::<&[u8], _>(0)?).ok()))?;
        return stored.flatten().ok_or_else(|| Error::Malformed("turn".to_owned()));
    }
    budget::keep(connection, &end.spends)?;
    spool(connection, owner, Kind::Record, &end.traceparent, turn_id, &[])?;
    let private = workflow.is_some();
    let update = "UPDATE utterance SET text = coalesce($1, text), private = $2
        WHERE conversation_id = $3 AND turn_id = $4 AND role = $5";
    let masked = end.masked.as_ref();
    connection.execute(update, values![masked, private, conversation_id, turn_id, Role::Customer as i32])?;
    if !answer.is_empty() {
        let insert = "INSERT INTO utterance (conversation_id, turn_id, role, text, private) VALUES ($1, $2, $3, $4, $5)";
        let values = values![conversation_id, turn_id, Role::Assistant as i32, answer, private];
        connection.execute(insert, values)?;
    }
    let pending = end.pending.as_ref().and_then(|pending| serde_json::to_string(pending).ok());
    let update =
        "UPDATE conversation SET clarifications = $1, pending = $2, execution_id = $3, confirming = $4,
        turns = turns + 1 WHERE conversation_id = $5";
    let execution_id = end.open.as_ref().map(|open| &open.execution_id);
    let confirming = end.open.as_ref().map_or(0, |open| open.awaits.number());
    let values = values![end.clarifications, pending.as_ref(), execution_id, confirming, conversation_id];
    connection.execute(update, values)?;
    if let Some(packet) = &end.handoff {
        open(connection, packet, end.accepted_at, &end.connectors)?;
    }
    Ok(end.turn)
}
