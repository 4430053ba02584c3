//! Table `[workflow]` of the configuration.

use std::collections::BTreeMap;

use kit::config::{Violation, within};
use serde::{Deserialize, Serialize};
use webhook::Target;

/// How workflows wait, retry and reach their targets.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where requests go, by the name a workflow uses.
    pub targets: BTreeMap<String, Target>,
    /// Silence after which an open proposal is void, in milliseconds, 1000..=86400000.
    pub open_ttl_ms: u64,
    /// How long one of high risk waits for a person's approval, in milliseconds, 1000..=604800000, from its customer's
    /// yes on.
    pub approval_ttl_ms: u64,
    /// Longest wait for a connection to a target, TLS included, in milliseconds, 10..=10000. The timeout
    /// of a workflow counts from there.
    pub connect_timeout_ms: u64,
    /// Longest wait before the second attempt, in milliseconds, 1..=60000; doubles with every attempt.
    pub retry_base_ms: u64,
    /// Longest wait between two attempts, in milliseconds, 1..=3600000.
    pub retry_max_ms: u64,
    /// How long Confirm waits for the result when its caller sets no deadline, in milliseconds, 0..=60000.
    pub confirm_wait_ms: u64,
    /// How long ended executions are kept, in days, 1..=3650; unknown ones stay until resolved.
    pub retain_days: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            targets: BTreeMap::new(),
            open_ttl_ms: 30 * 60 * 1000,
            approval_ttl_ms: 24 * 3600 * 1000,
            connect_timeout_ms: 2_000,
            retry_base_ms: 1_000,
            retry_max_ms: 600_000,
            confirm_wait_ms: 10_000,
            retain_days: 30,
        }
    }
}

impl kit::Config for Config {
    fn validate(&self) -> Vec<Violation> {
        let mut violations = Vec::new();
        within("open_ttl_ms", self.open_ttl_ms, 1_000..=86_400_000, &mut violations);
        within("approval_ttl_ms", self.approval_ttl_ms, 1_000..=604_800_000, &mut violations);
        within("connect_timeout_ms", self.connect_timeout_ms, 10..=10_000, &mut violations);
        within("retry_base_ms", self.retry_base_ms, 1..=60_000, &mut violations);
        within("retry_max_ms", self.retry_max_ms, 1..=3_600_000, &mut violations);
        within("confirm_wait_ms", self.confirm_wait_ms, 0..=60_000, &mut violations);
        within("retain_days", self.retain_days, 1..=3_650, &mut violations);
        for (name, target) in &self.targets {
            let faults = target.faults().into_iter();
            violations.extend(
                faults.map(|(key, message)| Violation { key: format!("targets.{name}.{key}"), message }),
            );
        }
        violations
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kit::Config as _;

    #[test]
    fn a_fault_of_a_target_names_its_key() {
        let config = Config { targets: [("bank".to_owned(), Target::default())].into(), ..Config::default() };
        let keys = config.validate().into_iter().map(|violation| violation.key);
        assert_eq!(keys.collect::<Vec<_>>(), ["targets.bank.url", "targets.bank.secret"]);
    }
    #[test]
    fn the_secrets_of_a_target_are_the_lines_of_a_file_or_a_list() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let [old, new] = ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"];
        std::fs::write(file.path(), format!("{old}\n{new}\n")).unwrap();
        let (path, list) = (file.path().display().to_string(), format!("[{old:?}, {new:?}]"));
        for (name, value) in [("SECRET_FILE", path), ("SECRET", list)] {
            let variables = [
                (format!("FIRSTLINE__WORKFLOW__TARGETS__BANK__{name}"), value),
                ("FIRSTLINE__WORKFLOW__TARGETS__BANK__URL".to_owned(), "https://bank.example".to_owned()),
            ];
            let settings = kit::config::Settings::load(None, variables.into_iter()).unwrap();
            let read = settings.table::<Config>("workflow").map(|config| config.targets.len());
            assert_eq!(read.map_err(|error| error.to_string()), Ok(1), "{name}");
        }
    }
}
