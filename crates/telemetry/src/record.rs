//! What is kept of a turn, in plain types.

mod error;
pub(crate) mod server;

pub use error::Error;

use crate::audit::Drawn;
use crate::costs::{Call, Saved};
use crate::metrics::{Grounding, Step};

/// How a turn ended; the discriminants are the numbers of the contract.
#[expect(missing_docs, reason = "the contract documents each")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Outcome {
    Answered = 1,
    Clarify,
    Handoff,
    Blocked,
    Legacy,
    ActionPending,
    ActionDone,
}

impl Outcome {
    /// All outcomes, in the order of their numbers.
    pub const ALL: [Self; 7] = [
        Self::Answered,
        Self::Clarify,
        Self::Handoff,
        Self::Blocked,
        Self::Legacy,
        Self::ActionPending,
        Self::ActionDone,
    ];

    /// The outcome of a number 1..=7.
    pub fn from_number(number: i64) -> Option<Self> {
        Self::ALL.into_iter().find(|outcome| *outcome as i64 == number)
    }

    /// Snake case, as a label of a metric.
    pub fn name(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Clarify => "clarify",
            Self::Handoff => "handoff",
            Self::Blocked => "blocked",
            Self::Legacy => "legacy",
            Self::ActionPending => "action_pending",
            Self::ActionDone => "action_done",
        }
    }
}

/// Why a person took over; the discriminants are the numbers of the contract.
#[expect(missing_docs, reason = "the contract documents each")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Reason {
    Unspecified = 0,
    UserKeyword,
    UserRequest,
    HumanPreferred,
    LowConfidence,
    OutOfScope,
    NoKnowledge,
    Ungrounded,
    SafetyPolicy,
    GuardError,
    WorkflowFailed,
    UnknownEffect,
    Loop,
    Sentiment,
    Budget,
    Overload,
    IntentPolicy,
}

impl Reason {
    /// All reasons, in the order of their numbers.
    pub const ALL: [Self; 17] = [
        Self::Unspecified,
        Self::UserKeyword,
        Self::UserRequest,
        Self::HumanPreferred,
        Self::LowConfidence,
        Self::OutOfScope,
        Self::NoKnowledge,
        Self::Ungrounded,
        Self::SafetyPolicy,
        Self::GuardError,
        Self::WorkflowFailed,
        Self::UnknownEffect,
        Self::Loop,
        Self::Sentiment,
        Self::Budget,
        Self::Overload,
        Self::IntentPolicy,
    ];

    /// The reason of a number 0..=16.
    pub fn from_number(number: i64) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| *reason as i64 == number)
    }

    /// Whether the handoff is what the company or the customer decided beforehand.
    ///
    /// Planned are exactly the reasons of `E_planned` in the rollout design (its AFTER_BUDGET is
    /// `Budget`; VIP_RULE has no number in the contract) and `IntentPolicy`. Every other reason is unplanned, also
    /// those the design does not list (`OutOfScope`, `UnknownEffect`, `Overload`) and a missing one:
    /// the unplanned rate guards a rollout, and what is unsure must count against it.
    pub fn is_planned(self) -> bool {
        matches!(self, Self::SafetyPolicy | Self::HumanPreferred | Self::Budget | Self::IntentPolicy)
    }

    /// Whether a stage or a guard failed; an answer that took another way is no failure.
    pub fn is_failure(self) -> bool {
        matches!(self, Self::GuardError | Self::Overload)
    }

    /// Snake case, as a label of a metric.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unspecified => "unspecified",
            Self::UserKeyword => "user_keyword",
            Self::UserRequest => "user_request",
            Self::HumanPreferred => "human_preferred",
            Self::LowConfidence => "low_confidence",
            Self::OutOfScope => "out_of_scope",
            Self::NoKnowledge => "no_knowledge",
            Self::Ungrounded => "ungrounded",
            Self::SafetyPolicy => "safety_policy",
            Self::GuardError => "guard_error",
            Self::WorkflowFailed => "workflow_failed",
            Self::UnknownEffect => "unknown_effect",
            Self::Loop => "loop",
            Self::Sentiment => "sentiment",
            Self::Budget => "budget",
            Self::Overload => "overload",
            Self::IntentPolicy => "intent_policy",
        }
    }
}

/// The arm of a conversation; the discriminants are the numbers of the contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Arm {
    /// The menu; also when the arm is not stated.
    Control = 1,
    /// The assistant.
    Treatment,
}

impl Arm {
    /// Snake case, as a label of a metric.
    pub fn name(self) -> &'static str {
        match self {
            Self::Control => "control",
            Self::Treatment => "treatment",
        }
    }
}

/// One turn: what metrics need as columns, and the whole as it was sent.
#[derive(Debug, Clone)]
pub struct Row {
    /// Id of the turn, the key.
    pub turn_id: String,
    /// Id of the conversation.
    pub conversation_id: String,
    /// When the turn was accepted, microseconds since 1970.
    pub accepted_us: i64,
    /// How the turn ended.
    pub outcome: Outcome,
    /// Why a person took over; `Unspecified` unless the outcome is a handoff.
    pub reason: Reason,
    /// Arm of the conversation.
    pub arm: Arm,
    /// Name of the best intent, empty without one.
    pub intent: String,
    /// Category of the best intent, empty without one.
    pub category: String,
    /// Calibrated probability of the best intent, 0..=1.
    pub confidence: f64,
    /// Hash of the bundle that decided.
    pub bundle: String,
    /// Name of the model, empty without one.
    pub model: String,
    /// Tokens of the prompts.
    pub input_tokens: i64,
    /// Tokens of the completions.
    pub output_tokens: i64,
    /// Cost in billionths of a US dollar: integers add up without rounding.
    pub cost_nanos: i64,
    /// Microseconds by stage, and "total".
    pub timings_us: Vec<(String, u64)>,
    /// Whether a person had the conversation already, so that the turn is no handoff of its own.
    pub muted: bool,
    /// Where its workflow stands.
    pub step: Step,
    /// Sentences of a written answer.
    pub grounding: Grounding,
    /// Name and version of what judged them, empty without any.
    pub judge: String,
    /// Prices that the cost was computed by, empty without any.
    pub prices: String,
    /// Hash of the customer's key, empty without one.
    pub customer_hash: String,
    /// That the customer was assigned to an arm in this turn.
    pub exposure: Option<Exposure>,
    /// Whether nobody read it: then it counts in no figure of turns.
    pub unseen: bool,
    /// Its model calls.
    pub calls: Vec<Call>,
    /// What measures saved in it, by measure.
    pub saved: Vec<(&'static str, Saved)>,
    /// Set when it was drawn for people to label.
    pub drawn: Option<Drawn>,
    /// The record as it was sent, encoded.
    pub encoded: Vec<u8>,
}

impl Row {
    /// Whether the turn was handed to a person whom neither the company nor the customer had decided on.
    pub fn is_escalated(&self) -> bool {
        self.outcome == Outcome::Handoff && !self.reason.is_planned()
    }

    /// Whether the customer got something without support.
    pub fn is_ungrounded(&self) -> bool {
        self.grounding.delivered_unsupported > 0
    }

    /// Whether something written in it had no support and was held back.
    pub fn is_withheld(&self) -> bool {
        self.grounding.unsupported > 0 || self.reason == Reason::Ungrounded
    }
}

/// That a customer was assigned to an arm of a rollout.
#[derive(Debug, Clone)]
pub struct Exposure {
    /// Name of the rollout.
    pub rollout_id: String,
    /// Times that it began.
    pub epoch: u32,
    /// Name of the stage.
    pub stage: String,
    /// Share that was treated at that moment, in 1/100000.
    pub share: u32,
    /// Whether the customer is treated.
    pub treated: bool,
}

/// Longest id, in bytes; UUIDs take 36.
pub const MAX_ID: usize = 256;
/// Most timings of a turn; a turn has about ten stages.
pub const MAX_TIMINGS: usize = 32;
/// Largest cost of a turn in US dollars; more is a fault of the sender.
pub const MAX_COST_USD: f64 = 10_000.0;
/// Longest time of a stage in milliseconds, one day.
pub const MAX_TIMING_MS: f64 = 86_400_000.0;

/// Checks an id: 1..=256 bytes without control characters, which separate stored values.
///
/// # Errors
/// `Invalid` with the field.
pub fn check_id(field: &'static str, id: &str) -> Result<(), Error> {
    if id.is_empty() || id.len() > MAX_ID || id.chars().any(char::is_control) {
        let message = format!("is {} bytes, allowed 1..={MAX_ID} bytes without control characters", id.len());
        return Err(Error::invalid(field, message));
    }
    Ok(())
}

/// Checks the name of a stage, a label of a metric: 1..=64 of a-z, 0-9, '_', '-' and '.'.
///
/// # Errors
/// `Invalid` with the field.
pub fn check_stage(field: &'static str, stage: &str) -> Result<(), Error> {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-.".contains(&byte);
    if stage.is_empty() || stage.len() > 64 || !stage.bytes().all(allowed) {
        let message = format!("has the stage {stage:?}, allowed 1..=64 of a-z, 0-9, '_', '-' and '.'");
        return Err(Error::invalid(field, message));
    }
    Ok(())
}

/// A number of the request within 0..=`largest`, scaled to an integer.
///
/// # Errors
/// `Invalid` with the field, also for NaN.
pub fn scaled(field: &'static str, value: f64, largest: f64, factor: f64) -> Result<u64, Error> {
    if !(0.0..=largest).contains(&value) {
        return Err(Error::invalid(field, format!("is {value}, allowed 0..={largest}")));
    }
    // In range by the check above, so the cast neither wraps nor saturates.
    Ok((value * factor).round() as u64)
}

/// What the right intent of a turn would have been.
#[derive(Debug, Clone)]
pub struct Label {
    /// Id of the turn, with the source the key.
    pub turn_id: String,
    /// Where the label comes from.
    pub source: String,
    /// The right intent; empty when only the disposition is said.
    pub intent: String,
    /// How the handoff ended that the turn led to; empty when nothing is said of it.
    pub disposition: String,
}

impl Label {
    /// Checks that it says something of a turn.
    ///
    /// # Errors
    /// `Invalid` with the field.
    pub fn check(&self) -> Result<(), Error> {
        check_id("turn_id", &self.turn_id)?;
        check_id("source", &self.source)?;
        if self.disposition.is_empty() {
            return check_id("intent", &self.intent);
        }
        if !self.intent.is_empty() {
            check_id("intent", &self.intent)?;
        }
        check_id("disposition", &self.disposition)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn planned_are_the_reasons_of_the_rollout_design_and_no_other() {
        let planned: Vec<_> =
            Reason::ALL.into_iter().filter(|reason| reason.is_planned()).map(Reason::name).collect();
        assert_eq!(planned, ["human_preferred", "safety_policy", "budget", "intent_policy"]);
    }

    #[test]
    fn numbers_outside_the_range_are_refused_also_nan() {
        assert_eq!(scaled("cost_usd", 0.000_012, MAX_COST_USD, 1e9).unwrap(), 12_000);
        for value in [-0.1, f64::NAN, f64::INFINITY] {
            let error = scaled("cost_usd", value, MAX_COST_USD, 1e9).unwrap_err();
            assert_eq!(error.to_string(), format!("cost_usd: is {value}, allowed 0..=10000"));
        }
    }

    #[test]
    fn what_separates_stored_values_cannot_enter_them() {
        for id in ["", "a\u{1e}b", "a\nb", &"x".repeat(257)] {
            assert!(check_id("turn_id", id).is_err(), "{id:?}");
        }
        for stage in ["", "a=b", "a,b", "Total", "a b"] {
            assert!(check_stage("timings_ms", stage).is_err(), "{stage:?}");
        }
        assert!(check_id("turn_id", "Gespräch 7").is_ok());
        assert!(check_stage("timings_ms", "safety.output-2").is_ok());
    }
}
