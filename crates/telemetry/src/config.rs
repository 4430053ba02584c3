//! Settings of the stage: table `[telemetry]`.

use kit::config::within;
use serde::{Deserialize, Serialize};

use crate::costs::plan::SelfHosted;
use crate::costs::transition::Transition;

/// Settings of the stage.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Age in days after which records, feedback and labels are deleted, 1..=3650.
    pub retention_days: u32,
    /// How long the rollout waits for what is late, beyond the window of a guard, in milliseconds, 0..=3600000.
    pub rollout_grace_ms: u64,
    /// Which turns people are asked to label.
    pub audit: Audit,
    /// Conversations, turns or ratings below which a figure says that there are too few, 1..=1000000.
    pub min_n: u64,
    /// Window in seconds of the figures that Prometheus and OpenTelemetry see, 60..=7776000.
    pub metrics_window_s: u64,
    /// Seconds between two computations of them, 1..=3600.
    pub metrics_every_s: u64,
    /// Intents whose answers are no more than a greeting: a conversation of them alone was no attempt to help.
    pub greeting_intents: Vec<String>,
    /// How well the judge of grounding judges.
    pub judge: Judge,
    /// A replica of a model server on machines of one's own.
    pub self_hosted: SelfHosted,
    /// The move to it.
    pub transition: Transition,
}

/// Which turns people are asked to label, as shares of those with a question and an intent.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Audit {
    /// Of those with a confidence from 0.5 on, 0..=1.
    pub rate: f64,
    /// Of those below, 0..=1.
    pub low_confidence_rate: f64,
}

impl Default for Audit {
    fn default() -> Self {
        Self { rate: 0.01, low_confidence_rate: 0.1 }
    }
}

/// What labelled answers say of the judge of grounding: table `[telemetry.judge]`. Without any, what it finds is
/// shown as it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Judge {
    /// Share of the answers with an unsupported sentence that it finds, 0..=1.
    pub sensitivity: f64,
    /// Share of the others that it leaves alone, 0..=1.
    pub specificity: f64,
    /// Labelled answers with an unsupported sentence; both together 200 or more, or none.
    pub labelled_unsupported: u64,
    /// Labelled answers without.
    pub labelled_supported: u64,
}

/// Fewer labelled answers say too little of a judge.
const LABELLED: u64 = 200;

impl Judge {
    /// The judge, when it was measured.
    pub(crate) fn measured(&self) -> Option<stats::Judge> {
        let Self { sensitivity, specificity, labelled_unsupported: positives, labelled_supported: negatives } =
            *self;
        (positives + negatives > 0).then_some(stats::Judge { sensitivity, specificity, positives, negatives })
    }

    fn validate(&self, violations: &mut Vec<kit::Violation>) {
        within("judge.sensitivity", self.sensitivity, 0.0..=1.0, violations);
        within("judge.specificity", self.specificity, 0.0..=1.0, violations);
        let (with, without) = (self.labelled_unsupported, self.labelled_supported);
        let none = *self == Self::default();
        if !none && (with == 0 || without == 0 || with.saturating_add(without) < LABELLED) {
            let message = format!("are {with} and {without}, allowed {LABELLED} together and some of each");
            let key = "judge.labelled_unsupported, judge.labelled_supported".to_owned();
            violations.push(kit::Violation { key, message });
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            retention_days: 90,
            rollout_grace_ms: 10_000,
            audit: Audit::default(),
            min_n: 30,
            metrics_window_s: 86_400,
            metrics_every_s: 60,
            greeting_intents: vec!["greeting".to_owned()],
            judge: Judge::default(),
            self_hosted: SelfHosted::default(),
            transition: Transition::default(),
        }
    }
}

impl kit::Config for Config {
    fn validate(&self) -> Vec<kit::Violation> {
        let mut violations = Vec::new();
        within("retention_days", self.retention_days, 1..=3650, &mut violations);
        within("rollout_grace_ms", self.rollout_grace_ms, 0..=3_600_000, &mut violations);
        within("audit.rate", self.audit.rate, 0.0..=1.0, &mut violations);
        within("audit.low_confidence_rate", self.audit.low_confidence_rate, 0.0..=1.0, &mut violations);
        within("min_n", self.min_n, 1..=1_000_000, &mut violations);
        within("metrics_window_s", self.metrics_window_s, 60..=90 * 86_400, &mut violations);
        within("metrics_every_s", self.metrics_every_s, 1..=3600, &mut violations);
        self.judge.validate(&mut violations);
        self.self_hosted.validate(&mut violations);
        self.transition.validate(&mut violations);
        violations
    }
}

#[cfg(test)]
mod tests {
    use kit::Config as _;

    use super::*;

    #[test]
    fn values_out_of_range_are_named() {
        assert!(Config::default().validate().is_empty());
        let audit = Audit { rate: -0.1, low_confidence_rate: f64::NAN };
        let judge =
            Judge { sensitivity: 0.9, specificity: 0.8, labelled_unsupported: 150, labelled_supported: 49 };
        let wrong = Config { retention_days: 0, min_n: 0, audit, judge, ..Config::default() };
        let keys: Vec<_> = wrong.validate().into_iter().map(|violation| violation.key).collect();
        let labelled = "judge.labelled_unsupported, judge.labelled_supported";
        let drawn = ["audit.rate", "audit.low_confidence_rate"];
        assert_eq!(keys, ["retention_days", drawn[0], drawn[1], "min_n", labelled]);
        let enough = Judge { labelled_supported: 50, ..judge };
        assert!(Config { judge: enough, ..Config::default() }.validate().is_empty());
    }
}
