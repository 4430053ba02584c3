//! Executions on disk: every change is a compare-and-set on the state and the fence.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sql::{Connection, Error, Result, Row, Source, values};

use crate::caps;
use crate::converse::Progress;
use crate::deliver::Delivery;
use crate::gate::Refusal;
use crate::page::Place;
use crate::settled;

const MIGRATIONS: &[&str] = &["
CREATE TABLE execution (
    execution_id TEXT PRIMARY KEY,
    conversation_id TEXT NOT NULL,
    customer_key TEXT NOT NULL,
    workflow TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN
        ('PROPOSED', 'APPROVED', 'DISPATCHING', 'DONE', 'FAILED', 'UNKNOWN', 'CANCELLED')),
    progress TEXT NOT NULL,
    confidence REAL NOT NULL,
    threshold REAL NOT NULL,
    delivery TEXT,
    attempts INTEGER NOT NULL,
    fence INTEGER NOT NULL,
    reference TEXT NOT NULL,
    error TEXT NOT NULL,
    confirmed_in TEXT NOT NULL,
    resolved_by TEXT NOT NULL,
    note TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    day INTEGER
) STRICT;
CREATE UNIQUE INDEX one_open ON execution (conversation_id) WHERE state = 'PROPOSED';
CREATE INDEX by_conversation ON execution (conversation_id, created_at);
CREATE INDEX by_day ON execution (workflow, day, customer_key, state) WHERE day IS NOT NULL;
CREATE INDEX by_state ON execution (state, updated_at);
CREATE TABLE turn (
    conversation_id TEXT NOT NULL,
    turn_id TEXT NOT NULL,
    execution_id TEXT NOT NULL REFERENCES execution ON DELETE CASCADE,
    reply TEXT NOT NULL,
    PRIMARY KEY (conversation_id, turn_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX by_execution ON turn (execution_id);
"];

/// Where an execution is: PROPOSED, then APPROVED, DISPATCHING and one of DONE, FAILED, UNKNOWN; or
/// CANCELLED from PROPOSED. Only a person leads out of UNKNOWN.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Proposed,
    Approved,
    Dispatching,
    Done,
    Failed,
    Unknown,
    Cancelled,
}

impl State {
    pub(crate) const ALL: [Self; 7] = [
        Self::Proposed,
        Self::Approved,
        Self::Dispatching,
        Self::Done,
        Self::Failed,
        Self::Unknown,
        Self::Cancelled,
    ];

    /// As it is stored.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Proposed => "PROPOSED",
            Self::Approved => "APPROVED",
            Self::Dispatching => "DISPATCHING",
            Self::Done => "DONE",
            Self::Failed => "FAILED",
            Self::Unknown => "UNKNOWN",
            Self::Cancelled => "CANCELLED",
        }
    }
}

/// One execution as it is stored.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Execution {
    /// "ex_" and 32 hexadecimal digits; the idempotency key of the effect.
    pub(crate) id: String,
    /// Id of the conversation.
    pub(crate) conversation: String,
    /// Key of the customer, empty when anonymous.
    pub(crate) customer: String,
    /// Name of the workflow.
    pub(crate) workflow: String,
    /// Where it is.
    pub(crate) state: State,
    /// Slots and the open question.
    pub(crate) progress: Progress,
    /// Confidence of the intent at the proposal, 0..=1.
    pub(crate) confidence: f64,
    /// Threshold at the proposal, then at the gate, 0..=1.
    pub(crate) threshold: f64,
    /// The request, from the approval on.
    pub(crate) delivery: Option<Delivery>,
    /// Attempts begun.
    pub(crate) attempts: u32,
    /// Grows with every change; who holds an older one has lost the execution.
    pub(crate) fence: i64,
    /// The receiver's reference, or the execution's id, once done.
    pub(crate) reference: String,
    /// Why the gate refused or the effect failed or is unknown, a constant; empty otherwise.
    pub(crate) error: String,
    /// Turn of the customer's yes.
    pub(crate) confirmed_in: String,
    /// Who resolved an unknown effect.
    pub(crate) resolved_by: String,
    /// What that person wrote.
    pub(crate) note: String,
    /// When it was proposed.
    pub(crate) created_at: Timestamp,
    /// When it last changed.
    pub(crate) updated_at: Timestamp,
}

impl Execution {
    /// Whether it is an open proposal that nobody came back to for longer than `ttl`.
    pub(crate) fn is_void(&self, now: Timestamp, ttl: SignedDuration) -> bool {
        self.state == State::Proposed && now.duration_since(self.updated_at) > ttl
    }
}

fn execution(row: &Row<'_>) -> Result<Execution> {
    let name: &str = row.get("state")?;
    let state = State::ALL.into_iter().find(|state| state.name() == name);
    let time = |column: &str| Timestamp::from_millisecond(row.get(column)?).map_err(|_| wrong(column));
    Ok(Execution {
        id: row.get("execution_id")?,
        conversation: row.get("conversation_id")?,
        customer: row.get("customer_key")?,
        workflow: row.get("workflow")?,
        state: state.ok_or_else(|| wrong("state"))?,
        progress: parsed(row, "progress")?.ok_or_else(|| wrong("progress"))?,
        confidence: row.get("confidence")?,
        threshold: row.get("threshold")?,
        delivery: parsed(row, "delivery")?,
        attempts: row.get("attempts")?,
        fence: row.get("fence")?,
        reference: row.get("reference")?,
        error: row.get("error")?,
        confirmed_in: row.get("confirmed_in")?,
        resolved_by: row.get("resolved_by")?,
        note: row.get("note")?,
        created_at: time("created_at")?,
        updated_at: time("updated_at")?,
    })
}

/// A value that no version of this stage has written.
fn wrong(column: &str) -> Error {
    Error::Malformed(column.to_owned())
}

/// A column of JSON; `None` when it is NULL.
pub(crate) fn parsed<T: DeserializeOwned>(row: &Row<'_>, column: &str) -> Result<Option<T>> {
    let json = row.get::<Option<&str>, _>(column)?;
    json.map(|json| serde_json::from_str(json).map_err(|_| wrong(column))).transpose()
}

pub(crate) fn rendered(value: &impl Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|error| Error::Database(Arc::new(error)))
}

/// What a turn was answered, kept so that the same turn gets the same answer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Reply {
    /// Whether the message was for the workflow.
    pub(crate) handled: bool,
    /// What the customer reads.
    pub(crate) message: String,
    /// The customer said yes.
    pub(crate) confirmed: bool,
    /// Asked too often.
    pub(crate) exhausted: bool,
}

/// The answer to one turn.
#[derive(Debug, Clone)]
pub(crate) struct Turn {
    pub(crate) id: String,
    pub(crate) reply: Reply,
}

/// The store of executions.
#[derive(Debug, Clone)]
pub(crate) struct Store(sql::Store);

impl Store {
    pub(crate) async fn open(source: Source) -> Result<Self> {
        Ok(Self(sql::Store::open(source, MIGRATIONS).await?))
    }

    pub(crate) async fn get(&self, id: &str) -> Result<Option<Execution>> {
        self.one("SELECT * FROM execution WHERE execution_id = $1", id).await
    }

    /// The open proposal of a conversation.
    pub(crate) async fn open_in(&self, conversation: &str) -> Result<Option<Execution>> {
        let query = "SELECT * FROM execution WHERE conversation_id = $1 AND state = 'PROPOSED'";
        self.one(query, conversation).await
    }

    async fn one(&self, query: &'static str, key: &str) -> Result<Option<Execution>> {
        let key = key.to_owned();
        self.0.read(move |connection| connection.first(query, values![&key], execution)).await
    }

    /// What a turn was answered, with the execution that answered.
    pub(crate) async fn answered(
        &self,
        conversation: &str,
        turn: &str,
    ) -> Result<Option<(Execution, Reply)>> {
        let query = "SELECT execution.*, turn.reply FROM turn JOIN execution USING (execution_id)
            WHERE turn.conversation_id = $1 AND turn.turn_id = $2";
        let (conversation, turn) = (conversation.to_owned(), turn.to_owned());
        let answered = |row: &Row<'_>| Ok((execution(row)?, parsed(row, "reply")?.unwrap_or_default()));
        self.0.read(move |connection| connection.first(query, values![&conversation, &turn], answered)).await
    }

    /// Newest first.
    pub(crate) async fn list(
        &self,
        conversation: &str,
        state: Option<State>,
        after: Place,
        limit: u32,
    ) -> Result<Vec<Execution>> {
        let of = if conversation.is_empty() { "$1 = ''" } else { "conversation_id = $1" };
        let at = state.map_or_else(|| "TRUE".to_owned(), |state| format!("state = '{}'", state.name()));
        let query = format!(
            "SELECT * FROM execution WHERE {of} AND {at} AND (created_at < $2 OR (created_at = $2 AND execution_id > $3))
            ORDER BY created_at DESC, execution_id LIMIT $4"
        );
        let conversation = conversation.to_owned();
        let read = move |connection: &mut Connection<'_>| {
            connection.query(&query, values![&conversation, after.0, &after.1, limit], execution)
        };
        self.0.read(read).await
    }

    /// Stores a new proposal with the answer to its turn. `false` when the conversation got another open
    /// one, or the turn another answer, in the meantime.
    pub(crate) async fn insert(&self, execution: Execution, turn: Turn) -> Result<bool> {
        let write = self.0.write(move |connection| {
            let insert = "INSERT INTO execution
                VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, NULL)
                ON CONFLICT DO NOTHING";
            let delivery = execution.delivery.as_ref().map(rendered).transpose()?;
            let progress = rendered(&execution.progress)?;
            let values = values![
                &execution.id,
                &execution.conversation,
                &execution.customer,
                &execution.workflow,
                execution.state.name(),
                &progress,
                execution.confidence,
                execution.threshold,
                delivery.as_ref(),
                execution.attempts,
                execution.fence,
                &execution.reference,
                &execution.error,
                &execution.confirmed_in,
                &execution.resolved_by,
                &execution.note,
                execution.created_at.as_millisecond(),
                execution.updated_at.as_millisecond()
            ];
            must_change(connection.execute(insert, values)?)?;
            answer(connection, &execution, &turn)
        });
        lost_or(write.await).map(|written| written.is_some())
    }

    /// Moves an execution from `from` to what it says now, with the answer to a turn if there is one.
    /// Returns it with its new fence, or `None` when it was no longer at `from` with this fence.
    pub(crate) async fn update(
        &self,
        from: State,
        execution: Execution,
        turn: Option<Turn>,
    ) -> Result<Option<Execution>> {
        let write = self.0.write(move |connection| step(connection, from, &execution, turn.as_ref()));
        lost_or(write.await)
    }

    /// Approves a proposal unless a cap of the day is reached, which ends it: counted and written at once, so that
    /// two at the same time cannot both be the last. `None` as for [`Store::update`].
    pub(crate) async fn approve(
        &self,
        approved: Execution,
        caps: bundle::Caps,
    ) -> Result<Option<(Execution, Option<Refusal>)>> {
        let write = self.0.write(move |connection| {
            connection.lock(&approved.workflow)?;
            let refusal = caps::reached(connection, &approved, &caps)?;
            let Some(refusal) = refusal else {
                let update = "UPDATE execution SET day = $1 WHERE execution_id = $2";
                connection.execute(update, values![caps::day(approved.updated_at), &approved.id])?;
                return Ok((step(connection, State::Proposed, &approved, None)?, None));
            };
            let error = refusal.reason().to_owned();
            let ended = Execution { state: State::Cancelled, delivery: None, error, ..approved.clone() };
            Ok((step(connection, State::Proposed, &ended, None)?, Some(refusal)))
        });
        lost_or(write.await)
    }

    /// Deletes what ended, or was last spoken of, before a time; an unknown effect stays until a person resolves it.
    pub(crate) async fn forget(&self, before: Timestamp) -> Result<u64> {
        let delete = "DELETE FROM execution WHERE state IN ('PROPOSED', 'DONE', 'FAILED', 'CANCELLED') AND updated_at < $1";
        self.0.write(move |connection| connection.execute(delete, values![before.as_millisecond()])).await
    }
}

/// One change of an execution; an error when it was no longer at `from` with its fence.
fn step(
    connection: &mut Connection<'_>,
    from: State,
    execution: &Execution,
    turn: Option<&Turn>,
) -> Result<Execution> {
    let (progress, delivery) = settled::kept(execution);
    let progress = rendered(&progress)?;
    let delivery = delivery.as_ref().map(rendered).transpose()?;
    let update =
        "UPDATE execution SET state = $1, progress = $2, threshold = $3, delivery = $4, attempts = $5,
        reference = $6, error = $7, confirmed_in = $8, resolved_by = $9, note = $10, updated_at = $11,
        fence = fence + 1 WHERE execution_id = $12 AND state = $13 AND fence = $14";
    let values = values![
        execution.state.name(),
        &progress,
        execution.threshold,
        delivery.as_ref(),
        execution.attempts,
        &execution.reference,
        &execution.error,
        &execution.confirmed_in,
        &execution.resolved_by,
        &execution.note,
        execution.updated_at.as_millisecond(),
        &execution.id,
        from.name(),
        execution.fence
    ];
    must_change(connection.execute(update, values)?)?;
    if let Some(turn) = turn {
        answer(connection, execution, turn)?;
    }
    settled::mask_replies(connection, execution)?;
    Ok(Execution { fence: execution.fence + 1, ..execution.clone() })
}

fn answer(connection: &mut Connection<'_>, execution: &Execution, turn: &Turn) -> Result<()> {
    let insert = "INSERT INTO turn VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING";
    let reply = rendered(&turn.reply)?;
    let values = values![&execution.conversation, &turn.id, &execution.id, &reply];
    must_change(connection.execute(insert, values)?)
}

/// An error, so that the store undoes the whole write.
fn must_change(rows: u64) -> Result<()> {
    if rows == 0 { Err(Error::Lost) } else { Ok(()) }
}

/// A lost race is no failure of the store.
fn lost_or<T>(written: Result<T>) -> Result<Option<T>> {
    match written {
        Ok(value) => Ok(Some(value)),
        Err(Error::Lost) => Ok(None),
        Err(error) => Err(error),
    }
}
