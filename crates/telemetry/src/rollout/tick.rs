//! What was seen since the last look: counts alone, so that a decision can be made again from its log.

use std::collections::BTreeMap;

use bundle::rollout::Metric;
use serde::{Deserialize, Serialize};

/// What was seen since the last look. A unit is the first exposure of a customer; without a customer's key, of a
/// conversation.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tick {
    /// Turns recorded, of whatever arm.
    pub turns: u64,
    /// Units exposed.
    pub exposed: Vec<Exposed>,
    /// Units whose time for an event is over.
    pub matured: Vec<Matured>,
    /// Conversations that were answered unseen: as treated at a share of nothing.
    #[serde(default)]
    pub unseen: Vec<Matured>,
    /// What treated turns cost, and unseen answers.
    pub cost: Cost,
    /// How the last twenty treated turns ended.
    pub last: Failures,
    /// Leaks and wrong effects that people confirmed.
    pub incidents: u64,
    /// Units exposed to another bundle than the candidate.
    pub strangers: u64,
    /// Up to where was read.
    pub seen: Cursor,
    /// Why nothing could be read, or what was read makes no sense; empty otherwise.
    pub fault: String,
}

/// Units exposed in a stage at a share.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exposed {
    /// Name of the stage.
    pub stage: String,
    /// The share, in buckets.
    pub share: u32,
    /// Whether the customers have keys.
    pub sticky: bool,
    /// Treated units.
    pub treated: u64,
    /// Units of the control.
    pub control: u64,
}

/// Units whose time for an event of a metric is over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Matured {
    /// The metric.
    pub metric: Metric,
    /// The share at which they were exposed, in buckets.
    pub share: u32,
    /// Whether the customers have keys.
    pub sticky: bool,
    /// Treated units.
    pub treated: Seen,
    /// Units of the control.
    pub control: Seen,
}

/// Units of one arm.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seen {
    /// How many.
    pub n: u64,
    /// How many of them had the event.
    pub events: u64,
    /// How many of them gave a rating.
    #[serde(default)]
    pub rated: u64,
}

/// What turns cost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cost {
    /// How many turns.
    pub turns: u64,
    /// Billionths of a US dollar.
    pub nanos: u64,
}

/// How turns ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Failures {
    /// How many, twenty at most.
    pub turns: u64,
    /// How many of them ended because a stage or a guard failed.
    pub failed: u64,
}

/// Up to where the store was read: ids of exposures, turns and labels.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cursor {
    /// Last exposure.
    pub exposure: i64,
    /// Last exposure by metric whose time was over.
    pub matured: BTreeMap<Metric, i64>,
    /// Last turn.
    pub turn: i64,
    /// When the last label came, microseconds since 1970.
    pub labels_us: i64,
    /// Last unseen answer.
    #[serde(default)]
    pub unseen: i64,
}

impl Tick {
    /// What cannot be, in words; `None` when it makes sense.
    pub(super) fn wrong(&self) -> Option<String> {
        if !self.fault.is_empty() {
            return Some(self.fault.clone());
        }
        let impossible = |seen: &Seen| seen.events > seen.n || seen.rated > seen.n;
        let mut all = self.matured.iter().chain(&self.unseen);
        let counts = all.find(|row| impossible(&row.treated) || impossible(&row.control));
        if let Some(Matured { metric, .. }) = counts {
            return Some(format!("{metric:?} has more events than customers"));
        }
        (self.last.failed > self.last.turns).then(|| "more turns failed than there were".to_owned())
    }
}
