//! The gate between a customer's yes and an effect.

use jiff::SignedDuration;

use crate::caps;
use crate::catalogue::Workflow;
use crate::execution::{Execution, State};
use crate::precondition::{Circumstances, Failed};

/// What the orchestrator and the action rail say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Clearance {
    /// The rollout does not have what the workflow is about.
    OutsideRollout,
    /// Ran to its end and allows the action as it is.
    Allowed,
    /// Ran to its end and demands anything else.
    Refused,
    /// Did not run to its end, or said nothing.
    Unavailable,
}

/// What the gate looks at besides the execution.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Conditions<'a> {
    /// The workflow as the bundle has it now.
    pub(crate) workflow: Option<&'a Workflow>,
    /// Whether the target of the workflow is configured.
    pub(crate) target: bool,
    /// What the orchestrator and the action rail say.
    pub(crate) clearance: Clearance,
    /// The time, and who the customer is.
    pub(crate) around: Circumstances<'a>,
    /// Silence after which a proposal is void, and an approval nobody gave.
    pub(crate) open_ttl: SignedDuration,
}

/// Which condition failed, in the order they are tested.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub(crate) enum Refusal {
    /// Already approved, ended or given up.
    #[error("the execution is {0}, neither PROPOSED nor AWAITING_APPROVAL")]
    NotOpen(&'static str),
    /// Too much time since the last message, or since the customer's yes.
    #[error("the proposal is void after {} s of silence", .0.as_secs())]
    Expired(SignedDuration),
    /// The bundle changed.
    #[error("the bundle has no workflow {0}")]
    WorkflowGone(String),
    /// A slot is missing or was not yet confirmed.
    #[error("a slot is still asked for, not the confirmation")]
    NotAwaitingConfirmation,
    /// A required slot without a value.
    #[error("slot {0} has no value")]
    SlotMissing(String),
    /// A value the slot would not take today.
    #[error("slot {0} has a value it does not take")]
    SlotInvalid(String),
    /// More than one execution may move.
    #[error("an amount is above caps.amount, allowed up to {0}")]
    AmountCap(f64),
    /// The customer had all executions of the day.
    #[error("the customer had all of caps.per_customer_per_day, {0}")]
    CustomerCap(u32),
    /// All customers together had all executions of the day.
    #[error("all customers had all of caps.per_day, {0}")]
    DayCap(u32),
    /// The intent is less sure than the threshold in force demands.
    #[error("the confidence of the intent is {confidence}, allowed {threshold}..=1")]
    ConfidenceTooLow {
        /// Recorded at the proposal.
        confidence: f64,
        /// In force now.
        threshold: f64,
    },
    /// The rollout was lowered or rolled back since the proposal.
    #[error("the rollout does not have the category of the workflow any more")]
    OutsideRollout,
    /// The action rail failed.
    #[error("the action rail did not run to its end")]
    SafetyUnavailable,
    /// The action rail demands something else.
    #[error("the action rail does not allow it")]
    SafetyRefused,
    /// A precondition is false.
    #[error("the precondition {0} is false")]
    Precondition(String),
    /// A precondition cannot be evaluated.
    #[error("the precondition {reason} cannot be evaluated: {error}")]
    PreconditionError {
        /// Its reason.
        reason: String,
        /// What is wrong.
        error: String,
    },
    /// Nobody said where to send it.
    #[error("target {0} is not configured, add [workflow.targets.{0}]")]
    TargetNotConfigured(String),
}

impl Refusal {
    /// The constant that names the condition.
    pub(crate) fn reason(&self) -> &str {
        match self {
            Self::NotOpen(_) => "NOT_OPEN",
            Self::Expired(_) => "EXPIRED",
            Self::WorkflowGone(_) => "WORKFLOW_GONE",
            Self::NotAwaitingConfirmation => "NOT_AWAITING_CONFIRMATION",
            Self::SlotMissing(_) => "SLOT_MISSING",
            Self::SlotInvalid(_) => "SLOT_INVALID",
            Self::AmountCap(_) => "CAP_AMOUNT",
            Self::CustomerCap(_) => "CAP_PER_CUSTOMER_PER_DAY",
            Self::DayCap(_) => "CAP_PER_DAY",
            Self::ConfidenceTooLow { .. } => "CONFIDENCE_TOO_LOW",
            Self::OutsideRollout => "OUTSIDE_ROLLOUT",
            Self::SafetyUnavailable => "SAFETY_UNAVAILABLE",
            Self::SafetyRefused => "SAFETY_REFUSED",
            Self::Precondition(reason) => reason,
            Self::PreconditionError { .. } => "PRECONDITION_ERROR",
            Self::TargetNotConfigured(_) => "TARGET_NOT_CONFIGURED",
        }
    }

    /// Whether the execution ends with it; otherwise the dialogue goes on.
    pub(crate) fn ends(&self) -> bool {
        !matches!(self, Self::NotOpen(_) | Self::NotAwaitingConfirmation)
    }
}

/// Lets an execution pass or says which condition failed; the caps of the day are for the store, which counts and
/// approves at once. Returns the threshold in force.
///
/// # Errors
/// The first condition that does not hold.
pub(crate) fn admit(execution: &Execution, conditions: &Conditions<'_>) -> Result<f64, Refusal> {
    if !matches!(execution.state, State::Proposed | State::Awaiting) {
        return Err(Refusal::NotOpen(execution.state.name()));
    }
    if execution.is_void(conditions.around.now, conditions.open_ttl) {
        return Err(Refusal::Expired(conditions.open_ttl));
    }
    let Some(workflow) = conditions.workflow else {
        return Err(Refusal::WorkflowGone(execution.workflow.clone()));
    };
    if !execution.progress.awaits_confirmation() {
        return Err(Refusal::NotAwaitingConfirmation);
    }
    let slots = &execution.progress.slots;
    for slot in &workflow.slots {
        match slots.get(&slot.name) {
            Some(value) if !slot.kind.accepts(value) => return Err(Refusal::SlotInvalid(slot.name.clone())),
            None if !slot.optional => return Err(Refusal::SlotMissing(slot.name.clone())),
            _ => (),
        }
    }
    if let Some(unknown) = slots.keys().find(|name| workflow.slot(name).is_none()) {
        return Err(Refusal::SlotInvalid(unknown.clone()));
    }
    if let Some(unfit) = workflow.request.unfit(slots) {
        return Err(Refusal::SlotInvalid(unfit.to_owned()));
    }
    caps::check_amounts(workflow, execution)?;
    let (confidence, threshold) = (execution.confidence, workflow.threshold);
    // NaN is in no range, so it never passes.
    if !(threshold..=1.0).contains(&confidence) {
        return Err(Refusal::ConfidenceTooLow { confidence, threshold });
    }
    match conditions.clearance {
        Clearance::Allowed => (),
        Clearance::OutsideRollout => return Err(Refusal::OutsideRollout),
        Clearance::Refused => return Err(Refusal::SafetyRefused),
        Clearance::Unavailable => return Err(Refusal::SafetyUnavailable),
    }
    if !conditions.target {
        return Err(Refusal::TargetNotConfigured(workflow.request.template.target.clone()));
    }
    match workflow.failed(&execution.progress, confidence, conditions.around) {
        Some(Failed::False(reason)) => Err(Refusal::Precondition(reason)),
        Some(Failed::Error(reason, error)) => Err(Refusal::PreconditionError { reason, error }),
        None => Ok(threshold),
    }
}
