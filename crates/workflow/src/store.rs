//! Executions on disk: every change is a compare-and-set on the state and the fence.

use std::path::Path;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use sqlx::sqlite::SqliteRow;
use sqlx::types::Json;
use sqlx::{FromRow, Row as _, SqliteConnection};

use crate::converse::Progress;
use crate::deliver::Delivery;

const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS execution (
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
    updated_at INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX IF NOT EXISTS one_open ON execution (conversation_id) WHERE state = 'PROPOSED';
CREATE INDEX IF NOT EXISTS by_conversation ON execution (conversation_id, created_at);
CREATE INDEX IF NOT EXISTS by_state ON execution (state, updated_at);
CREATE TABLE IF NOT EXISTS turn (
    conversation_id TEXT NOT NULL,
    turn_id TEXT NOT NULL,
    execution_id TEXT NOT NULL REFERENCES execution ON DELETE CASCADE,
    reply TEXT NOT NULL,
    PRIMARY KEY (conversation_id, turn_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS by_execution ON turn (execution_id);
";

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

impl FromRow<'_, SqliteRow> for Execution {
    fn from_row(row: &SqliteRow) -> sqlx::Result<Self> {
        let wrong = |column: &str| sqlx::Error::ColumnDecode {
            index: column.to_owned(),
            source: "out of range".into(),
        };
        let name: String = row.try_get("state")?;
        let state = State::ALL.into_iter().find(|state| state.name() == name);
        let time = |column| Timestamp::from_millisecond(row.try_get(column)?).map_err(|_| wrong(column));
        Ok(Self {
            id: row.try_get("execution_id")?,
            conversation: row.try_get("conversation_id")?,
            customer: row.try_get("customer_key")?,
            workflow: row.try_get("workflow")?,
            state: state.ok_or_else(|| wrong("state"))?,
            progress: row.try_get::<Json<_>, _>("progress")?.0,
            confidence: row.try_get("confidence")?,
            threshold: row.try_get("threshold")?,
            delivery: row.try_get::<Option<Json<_>>, _>("delivery")?.map(|json| json.0),
            attempts: row.try_get("attempts")?,
            fence: row.try_get("fence")?,
            reference: row.try_get("reference")?,
            error: row.try_get("error")?,
            confirmed_in: row.try_get("confirmed_in")?,
            resolved_by: row.try_get("resolved_by")?,
            note: row.try_get("note")?,
            created_at: time("created_at")?,
            updated_at: time("updated_at")?,
        })
    }
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
pub(crate) struct Store(kit::store::Store);

type Result<T> = std::result::Result<T, kit::store::Error>;

impl Store {
    pub(crate) async fn open(path: &Path) -> Result<Self> {
        Ok(Self(kit::store::Store::open(path, SCHEMA).await?))
    }

    pub(crate) async fn get(&self, id: &str) -> Result<Option<Execution>> {
        let query = sqlx::query_as("SELECT * FROM execution WHERE execution_id = ?").bind(id);
        Ok(query.fetch_optional(self.0.reader()).await?)
    }

    /// The open proposal of a conversation.
    pub(crate) async fn open_in(&self, conversation: &str) -> Result<Option<Execution>> {
        let query = "SELECT * FROM execution WHERE conversation_id = ? AND state = 'PROPOSED'";
        Ok(sqlx::query_as(query).bind(conversation).fetch_optional(self.0.reader()).await?)
    }

    /// What a turn was answered, with the execution that answered.
    pub(crate) async fn answered(
        &self,
        conversation: &str,
        turn: &str,
    ) -> Result<Option<(Execution, Reply)>> {
        let query = "SELECT execution.*, turn.reply FROM turn JOIN execution USING (execution_id)
            WHERE turn.conversation_id = ? AND turn.turn_id = ?";
        let query = sqlx::query(query).bind(conversation).bind(turn);
        let Some(row) = query.fetch_optional(self.0.reader()).await? else { return Ok(None) };
        let reply: Json<Reply> = row.try_get("reply")?;
        Ok(Some((Execution::from_row(&row)?, reply.0)))
    }

    /// Newest first.
    pub(crate) async fn list(
        &self,
        conversation: &str,
        state: Option<State>,
        limit: u32,
    ) -> Result<Vec<Execution>> {
        let query = "SELECT * FROM execution WHERE (?1 = '' OR conversation_id = ?1)
            AND (?2 IS NULL OR state = ?2) ORDER BY created_at DESC, execution_id LIMIT ?3";
        let query = sqlx::query_as(query).bind(conversation).bind(state.map(State::name)).bind(limit);
        Ok(query.fetch_all(self.0.reader()).await?)
    }

    /// Stores a new proposal with the answer to its turn. `false` when the conversation got another open
    /// one, or the turn another answer, in the meantime.
    pub(crate) async fn insert(&self, execution: Execution, turn: Turn) -> Result<bool> {
        let write = self.0.write(move |connection| {
            Box::pin(async move {
                let query =
                    "INSERT INTO execution VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
                    ON CONFLICT DO NOTHING";
                let inserted = sqlx::query(query)
                    .bind(&execution.id)
                    .bind(&execution.conversation)
                    .bind(&execution.customer)
                    .bind(&execution.workflow)
                    .bind(execution.state.name())
                    .bind(Json(&execution.progress))
                    .bind(execution.confidence)
                    .bind(execution.threshold)
                    .bind(execution.delivery.as_ref().map(Json))
                    .bind(execution.attempts)
                    .bind(execution.fence)
                    .bind(&execution.reference)
                    .bind(&execution.error)
                    .bind(&execution.confirmed_in)
                    .bind(&execution.resolved_by)
                    .bind(&execution.note)
                    .bind(execution.created_at.as_millisecond())
                    .bind(execution.updated_at.as_millisecond())
                    .execute(&mut *connection)
                    .await?;
                must_change(inserted.rows_affected())?;
                answer(connection, &execution, &turn).await
            })
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
        let write = self.0.write(move |connection| {
            Box::pin(async move {
                let query = "UPDATE execution SET state = ?, progress = ?, threshold = ?, delivery = ?,
                    attempts = ?, reference = ?, error = ?, confirmed_in = ?, resolved_by = ?, note = ?,
                    updated_at = ?, fence = fence + 1 WHERE execution_id = ? AND state = ? AND fence = ?";
                let updated = sqlx::query(query)
                    .bind(execution.state.name())
                    .bind(Json(&execution.progress))
                    .bind(execution.threshold)
                    .bind(execution.delivery.as_ref().map(Json))
                    .bind(execution.attempts)
                    .bind(&execution.reference)
                    .bind(&execution.error)
                    .bind(&execution.confirmed_in)
                    .bind(&execution.resolved_by)
                    .bind(&execution.note)
                    .bind(execution.updated_at.as_millisecond())
                    .bind(&execution.id)
                    .bind(from.name())
                    .bind(execution.fence)
                    .execute(&mut *connection)
                    .await?;
                must_change(updated.rows_affected())?;
                if let Some(turn) = turn {
                    answer(connection, &execution, &turn).await?;
                }
                Ok(Execution { fence: execution.fence + 1, ..execution })
            })
        });
        lost_or(write.await)
    }

    /// Deletes what ended before a time; an unknown effect stays until a person resolves it.
    pub(crate) async fn forget(&self, before: Timestamp) -> Result<u64> {
        let write = self.0.write(move |connection| {
            Box::pin(async move {
                let query =
                    "DELETE FROM execution WHERE state IN ('DONE', 'FAILED', 'CANCELLED') AND updated_at < ?";
                Ok(sqlx::query(query)
                    .bind(before.as_millisecond())
                    .execute(connection)
                    .await?
                    .rows_affected())
            })
        });
        write.await
    }
}

async fn answer(connection: &mut SqliteConnection, execution: &Execution, turn: &Turn) -> sqlx::Result<()> {
    let inserted = sqlx::query("INSERT INTO turn VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING")
        .bind(&execution.conversation)
        .bind(&turn.id)
        .bind(&execution.id)
        .bind(Json(&turn.reply))
        .execute(connection)
        .await?;
    must_change(inserted.rows_affected())
}

/// An error, so that the store undoes the whole write.
fn must_change(rows: u64) -> sqlx::Result<()> {
    if rows == 0 { Err(sqlx::Error::RowNotFound) } else { Ok(()) }
}

/// A lost race is no failure of the store.
fn lost_or<T>(written: Result<T>) -> Result<Option<T>> {
    match written {
        Ok(value) => Ok(Some(value)),
        Err(kit::store::Error::Database(error)) if matches!(*error, sqlx::Error::RowNotFound) => Ok(None),
        Err(error) => Err(error),
    }
}
