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
}

impl Default for Config {
    fn default() -> Self {
        Self { metrics_listen: "127.0.0.1:9464".to_owned(), retention_days: 90, rollout_grace_ms: 10_000 }
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
        let wrong = Config { metrics_listen: "localhost".to_owned(), retention_days: 0, rollout_grace_ms: 0 };
        let keys: Vec<_> = wrong.validate().into_iter().map(|violation| violation.key).collect();
        assert_eq!(keys, ["metrics_listen", "retention_days"]);
    }
}
