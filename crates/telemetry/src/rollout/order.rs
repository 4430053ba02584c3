//! What happens to a rollout.

use bundle::rollout::Plan;
use serde::{Deserialize, Serialize};

use super::tick::{Cursor, Tick};

/// One entry of the log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Entry {
    /// A person applied a plan.
    Applied {
        /// The plan.
        plan: Box<Plan>,
        /// Who.
        by: String,
        /// From where on the store is read, if the rollout begins with it.
        seen: Cursor,
    },
    /// A person gave an order.
    Ordered {
        /// What.
        order: Order,
        /// Who.
        by: String,
        /// Why.
        reason: String,
    },
    /// The controller looked.
    Observed(Tick),
}

/// What a person may order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// The next stage may begin when everything else holds; a share that was lowered to nothing may rise again.
    Approve,
    /// The share stays.
    Hold,
    /// It need not stay any more.
    Release,
    /// Back to the menu at once.
    Abort,
    /// Begin again at the first stage, with no evidence.
    Rearm,
}

/// Why an entry is not taken. Nothing has changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Nothing was applied yet.
    #[error("there is no rollout; firstline rollout apply begins one")]
    None,
    /// Another rollout is under way.
    #[error("rollout {0:?} is under way; abort it first")]
    Other(String),
    /// A plan of the rollout would treat more customers at once.
    #[error(
        "the plan would raise the share from {from} to {to} of 100000 at once; the share rises stage by stage"
    )]
    Raises {
        /// Buckets now.
        from: u32,
        /// Buckets then.
        to: u32,
    },
    /// The stage the rollout is in does not exist in the plan.
    #[error("the rollout is in stage {0:?}, which the plan does not have")]
    NoStage(String),
    /// The assignment of customers would change.
    #[error("the salt is kept for the life of a rollout; begin another one with another id")]
    Salt,
    /// The rollout was rolled back.
    #[error("the rollout was rolled back; firstline rollout rearm begins again")]
    RolledBack,
    /// It was not.
    #[error("the rollout was not rolled back")]
    Armed,
    /// It was, not long ago.
    #[error("the rollout cools down for another {0} minutes")]
    Cooling(i64),
    /// Nothing waits for what was ordered.
    #[error("{0}")]
    Idle(&'static str),
}
