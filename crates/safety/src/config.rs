//! The `[safety]` table of the configuration.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::remote::Remote;

/// Limits of the rails; what they decide stands in the bundle's policy.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Longest text of one request in bytes, all passages together, 1,024..=1,048,576.
    pub max_text_bytes: usize,
    /// Longest value of a slot in characters, 16..=10,000.
    pub max_slot_chars: usize,
    /// Milliseconds one rail may take before the policy for failures decides, 10..=30,000.
    pub budget_ms: u64,
    /// Guards of others, by a name of your choice.
    pub guards: BTreeMap<String, Remote>,
}

impl Default for Config {
    fn default() -> Self {
        Self { max_text_bytes: 65_536, max_slot_chars: 2_000, budget_ms: 1_000, guards: BTreeMap::new() }
    }
}

impl kit::Config for Config {
    fn validate(&self) -> Vec<kit::Violation> {
        let mut violations = Vec::new();
        kit::config::within("max_text_bytes", self.max_text_bytes, 1_024..=1_048_576, &mut violations);
        kit::config::within("max_slot_chars", self.max_slot_chars, 16..=10_000, &mut violations);
        kit::config::within("budget_ms", self.budget_ms, 10..=30_000, &mut violations);
        self.guards.iter().for_each(|(name, guard)| guard.validate(name, &mut violations));
        violations
    }
}
