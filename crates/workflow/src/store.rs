//! Executions on disk: every change is a compare-and-set on the state and the fence.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sql::{Connection, Error, Result, Row, Source, values};

use crate::caps;
use crate::execution::{Execution, State, execution, parsed, rendered};
use crate::gate::Refusal;
use crate::page::Place;
use crate::schema::MIGRATIONS;
use crate::settled;

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

/// The store of executions. Clones share it.
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

    /// The newest of a conversation that waits for a person's approval.
    pub(crate) async fn awaiting_in(&self, conversation: &str) -> Result<Option<Execution>> {
        let query = "SELECT * FROM execution WHERE conversation_id = $1 AND state = 'AWAITING_APPROVAL'
            ORDER BY created_at DESC LIMIT 1";
        self.one(query, conversation).await
    }

    /// Those that wait for a person's approval since before a time, oldest first.
    pub(crate) async fn awaiting_since(&self, before: Timestamp) -> Result<Vec<Execution>> {
        let query = "SELECT * FROM execution WHERE state = 'AWAITING_APPROVAL' AND updated_at < $1
            ORDER BY updated_at LIMIT 1000";
        let before = before.as_millisecond();
        self.0.read(move |connection| connection.query(query, values![before], execution)).await
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
            let insert = "INSERT INTO execution (execution_id, conversation_id, customer_key, workflow, state,
                    progress, confidence, threshold, delivery, attempts, fence, reference, error, confirmed_in,
                    resolved_by, note, created_at, updated_at, unclear, change, lease)
                VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, 0, '', $19)
                ON CONFLICT DO NOTHING";
            let delivery = execution.delivery.as_ref().map(rendered).transpose()?;
            let progress = rendered(&execution.progress)?;
            let lease = until(connection, execution.lease)?;
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
                execution.updated_at.as_millisecond(),
                lease
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
        let change = change();
        let write =
            move |connection: &mut Connection<'_>| step(connection, &change, from, &execution, turn.as_ref());
        let write = self.0.write(write);
        lost_or(write.await)
    }

    /// The same with whether the conversation has to be told how it ends.
    pub(crate) async fn update_notice(
        &self,
        from: State,
        execution: Execution,
        turn: Option<Turn>,
        notice: bool,
    ) -> Result<Option<Execution>> {
        let change = change();
        let write = self.0.write(move |connection| {
            let moved = step(connection, &change, from, &execution, turn.as_ref())?;
            let update = "UPDATE execution SET notice = $1 WHERE execution_id = $2";
            connection.execute(update, values![notice, &execution.id])?;
            Ok(moved)
        });
        lost_or(write.await)
    }

    /// Approves what is at `from` unless a cap of the day is reached, which ends it: counted and written at once, so that
    /// two at the same time cannot both be the last. `None` as for [`Store::update`].
    pub(crate) async fn approve(
        &self,
        from: State,
        approved: Execution,
        caps: bundle::Caps,
    ) -> Result<Option<Execution>> {
        let change = change();
        let write = self.0.write(move |connection| {
            connection.lock(&approved.workflow)?;
            let id = &approved.id;
            if is_done(connection, &change, id)? {
                let query = "SELECT * FROM execution WHERE execution_id = $1";
                return connection.first(query, values![id], execution)?.ok_or(Error::Lost);
            }
            let Some(refusal) = caps::reached(connection, &approved, &caps)? else {
                let update = "UPDATE execution SET day = $1 WHERE execution_id = $2";
                connection.execute(update, values![caps::day(approved.updated_at), id])?;
                return step(connection, &change, from, &approved, None);
            };
            let (error, lease) = (refusal.reason().to_owned(), Duration::ZERO);
            let ended =
                Execution { state: State::Cancelled, delivery: None, error, lease, ..approved.clone() };
            step(connection, &change, from, &ended, None)
        });
        lost_or(write.await)
    }

    /// The cap of the day that one more execution would pass now.
    pub(crate) async fn cap_reached(
        &self,
        execution: Execution,
        caps: bundle::Caps,
    ) -> Result<Option<Refusal>> {
        self.0.read(move |connection| caps::reached(connection, &execution, &caps)).await
    }

    /// Deletes what ended, or was last spoken of, before a time; an unknown effect stays until a person resolves it.
    pub(crate) async fn forget(&self, before: Timestamp) -> Result<u64> {
        let delete = "DELETE FROM execution WHERE state IN ('PROPOSED', 'DONE', 'FAILED', 'CANCELLED') AND updated_at < $1";
        self.0.write(move |connection| connection.execute(delete, values![before.as_millisecond()])).await
    }

    /// Deletes the executions of conversations. Nothing while one of them is under way or unknown: then its id.
    pub(crate) async fn forget_conversations(
        &self,
        ids: Vec<String>,
    ) -> Result<std::result::Result<u64, String>> {
        let busy = "SELECT execution_id FROM execution WHERE conversation_id = $1
            AND state IN ('APPROVED', 'DISPATCHING', 'UNKNOWN') LIMIT 1";
        let write = move |connection: &mut Connection<'_>| {
            for id in &ids {
                if let Some(busy) = connection.first(busy, values![id], |row| row.get::<String, _>(0))? {
                    return Ok(Err(busy));
                }
            }
            let delete = "DELETE FROM execution WHERE conversation_id = $1";
            let delete = ids.iter().map(|id| connection.execute(delete, values![id]));
            Ok(Ok(delete.sum::<Result<u64>>()?))
        };
        self.0.write(write).await
    }

    /// Approved and dispatched executions that nobody works on: those whose lease is over. Of a store that is this
    /// process's alone everything is left at the start, whatever the clock says.
    pub(crate) async fn left(&self, at_start: bool) -> Result<Vec<Execution>> {
        let all = at_start && !self.0.is_shared();
        let query = "SELECT * FROM execution WHERE state IN ('APPROVED', 'DISPATCHING') AND lease < $1
            ORDER BY lease LIMIT 1000";
        let read = move |connection: &mut Connection<'_>| {
            let before = if all { i64::MAX } else { connection.now()? };
            connection.query(query, values![before], execution)
        };
        self.0.read(read).await
    }

    /// Asks that the conversation be told how an execution ends; without effect once it has ended.
    pub(crate) async fn want_notice(&self, id: &str) -> Result<()> {
        let (id, update) = (
            id.to_owned(),
            "UPDATE execution SET notice = 1 WHERE execution_id = $1 AND state IN ('APPROVED', 'DISPATCHING')",
        );
        self.0.write(move |connection| connection.execute(update, values![&id]).map(|_| ())).await
    }

    /// Executions that have ended and whose conversation has not been told, oldest first.
    pub(crate) async fn notices(&self, limit: u32) -> Result<Vec<Execution>> {
        let query =
            "SELECT * FROM execution WHERE notice = 1 AND state IN ('DONE', 'FAILED', 'UNKNOWN', 'CANCELLED')
            ORDER BY updated_at LIMIT $1";
        self.0.read(move |connection| connection.query(query, values![limit], execution)).await
    }

    /// The conversation has been told.
    pub(crate) async fn told(&self, id: &str) -> Result<()> {
        let (id, update) = (id.to_owned(), "UPDATE execution SET notice = 0 WHERE execution_id = $1");
        self.0.write(move |connection| connection.execute(update, values![&id]).map(|_| ())).await
    }
}

/// One change of an execution; an error when it was no longer at `from` with its fence.
fn step(
    connection: &mut Connection<'_>,
    change: &str,
    from: State,
    execution: &Execution,
    turn: Option<&Turn>,
) -> Result<Execution> {
    let (progress, delivery) = settled::kept(execution);
    let progress = rendered(&progress)?;
    let delivery = delivery.as_ref().map(rendered).transpose()?;
    let lease = until(connection, execution.lease)?;
    let update =
        "UPDATE execution SET state = $1, progress = $2, threshold = $3, delivery = $4, attempts = $5,
        reference = $6, error = $7, confirmed_in = $8, resolved_by = $9, note = $10, updated_at = $11,
        unclear = $12, change = $13, lease = $14, approved_by = $15, approval_note = $16, fence = fence + 1
        WHERE execution_id = $17 AND state = $18 AND fence = $19";
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
        execution.unclear,
        change,
        lease,
        &execution.approved_by,
        &execution.approval_note,
        &execution.id,
        from.name(),
        execution.fence
    ];
    if connection.execute(update, values)? == 0 {
        return if is_done(connection, change, &execution.id)? {
            Ok(moved(execution))
        } else {
            Err(Error::Lost)
        };
    }
    if let Some(turn) = turn {
        answer(connection, execution, turn)?;
    }
    settled::mask_replies(connection, execution)?;
    Ok(moved(execution))
}

/// The end of a lease that begins now.
fn until(connection: &mut Connection<'_>, lease: Duration) -> Result<i64> {
    Ok(match lease {
        Duration::ZERO => 0,
        lease => connection.now()? + i64::try_from(lease.as_micros()).unwrap_or(i64::MAX / 2),
    })
}

/// The name of a change: by it one that is tried again knows itself.
fn change() -> String {
    uuid::Uuid::new_v4().simple().to_string()
}

/// Whether this very change is made already, and its commit got no answer.
fn is_done(connection: &mut Connection<'_>, change: &str, id: &str) -> Result<bool> {
    let query = "SELECT 1 FROM execution WHERE execution_id = $1 AND change = $2";
    Ok(connection.first(query, values![id, change], |_| Ok(()))?.is_some())
}

/// The execution after one change.
fn moved(execution: &Execution) -> Execution {
    Execution { fence: execution.fence + 1, ..execution.clone() }
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
