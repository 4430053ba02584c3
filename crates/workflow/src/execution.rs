//! One execution of a workflow, as it is stored.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sql::{Error, Result, Row};

use crate::catalogue::Workflow;
use crate::converse::Progress;
use crate::deliver::Delivery;

/// Where an execution is: PROPOSED, where the risk is high AWAITING_APPROVAL, then APPROVED, DISPATCHING and one of
/// DONE, FAILED, UNKNOWN; or CANCELLED from one of the first two. Only a person leads out of UNKNOWN, and from
/// AWAITING_APPROVAL to APPROVED.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Proposed,
    Awaiting,
    Approved,
    Dispatching,
    Done,
    Failed,
    Unknown,
    Cancelled,
}

impl State {
    pub(crate) const ALL: [Self; 8] = [
        Self::Proposed,
        Self::Awaiting,
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
            Self::Awaiting => "AWAITING_APPROVAL",
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
    /// Who approved or rejected it where the risk is high, empty otherwise.
    pub(crate) approved_by: String,
    /// What that person wrote.
    pub(crate) approval_note: String,
    /// When it was proposed.
    pub(crate) created_at: Timestamp,
    /// When it last changed.
    pub(crate) updated_at: Timestamp,
    /// Whether an earlier attempt may have had its effect: then only the receiver's yes proves anything.
    pub(crate) unclear: bool,
    /// How long whoever moves it keeps it from others; not read back.
    pub(crate) lease: Duration,
}

impl Execution {
    /// A proposal that nobody has made yet.
    pub(crate) fn proposed(
        id: String,
        workflow: &Workflow,
        progress: Progress,
        confidence: f64,
        now: Timestamp,
    ) -> Self {
        Self {
            id,
            conversation: String::new(),
            customer: String::new(),
            workflow: workflow.name.clone(),
            state: State::Proposed,
            progress,
            confidence,
            threshold: workflow.threshold,
            delivery: None,
            attempts: 0,
            fence: 0,
            reference: String::new(),
            error: String::new(),
            confirmed_in: String::new(),
            resolved_by: String::new(),
            note: String::new(),
            approved_by: String::new(),
            approval_note: String::new(),
            created_at: now,
            updated_at: now,
            unclear: false,
            lease: Duration::ZERO,
        }
    }

    /// Whether it is an open proposal that nobody came back to, or nobody approved, for longer than `ttl`.
    pub(crate) fn is_void(&self, now: Timestamp, ttl: SignedDuration) -> bool {
        matches!(self.state, State::Proposed | State::Awaiting) && now.duration_since(self.updated_at) > ttl
    }
}

pub(crate) fn execution(row: &Row<'_>) -> Result<Execution> {
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
        approved_by: row.get("approved_by")?,
        approval_note: row.get("approval_note")?,
        created_at: time("created_at")?,
        updated_at: time("updated_at")?,
        unclear: row.get("unclear")?,
        lease: Duration::ZERO,
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
