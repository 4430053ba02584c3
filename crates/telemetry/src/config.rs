//! Settings of the stage: table `[telemetry]`.

use std::net::SocketAddr;

use kit::config::within;
use serde::{Deserialize, Serialize};

/// Settings of the stage.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Address of the Prometheus endpoint `/metrics`, such as "127.0.0.1:9464"; empty means none.
    pub metrics_listen: String,
    /// Age in days after which records, feedback and labels are deleted, 1..=3650.
    pub retention_days: u32,
    /// How long the rollout waits for what is late, beyond the window of a guard, in milliseconds, 0..=3600000.
    pub rollout_grace_ms: u64,
    /// Which turns people are asked to label.
    pub audit: Audit,
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

impl Default for Config {
    fn default() -> Self {
        Self {
            metrics_listen: "127.0.0.1:9464".to_owned(),
            retention_days: 90,
            rollout_grace_ms: 10_000,
            audit: Audit::default(),
        }
    }
}

impl kit::Config for Config {
    fn validate(&self) -> Vec<kit::Violation> {
        let mut violations = Vec::new();
        if !self.metrics_listen.is_empty() && self.metrics_listen.parse::<SocketAddr>().is_err() {
            let message = format!("is {:?}, allowed IP:PORT or \"\" for none", self.metrics_listen);
            violations.push(kit::Violation { key: "metrics_listen".to_owned(), message });
        }
        within("retention_days", self.retention_days, 1..=3650, &mut violations);
        within("rollout_grace_ms", self.rollout_grace_ms, 0..=3_600_000, &mut violations);
        within("audit.rate", self.audit.rate, 0.0..=1.0, &mut violations);
        within("audit.low_confidence_rate", self.audit.low_confidence_rate, 0.0..=1.0, &mut violations);
        violations
    }
}

#[cfg(test)]
mod tests {
    use kit::Config as _;

    use super::*;

    #[test]
    fn values_out_of_range_are_named_and_an_empty_address_means_none() {
        assert!(Config::default().validate().is_empty());
        assert!(Config { metrics_listen: String::new(), ..Config::default() }.validate().is_empty());
        let audit = Audit { rate: -0.1, low_confidence_rate: f64::NAN };
        let wrong =
            Config { metrics_listen: "localhost".to_owned(), retention_days: 0, rollout_grace_ms: 0, audit };
        let keys: Vec<_> = wrong.validate().into_iter().map(|violation| violation.key).collect();
        assert_eq!(keys, ["metrics_listen", "retention_days", "audit.rate", "audit.low_confidence_rate"]);
    }
}
