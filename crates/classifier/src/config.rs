//! Settings of the classifier.

use serde::{Deserialize, Serialize};

/// Table `[classifier]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Confidence from which an intent is accepted where the bundle does not say, 0..=1; absent means the one
    /// fitted in training.
    pub accept_threshold: Option<f64>,
    /// Out-of-scope score from which a text is out of scope, 0..=1; absent means the one fitted in training.
    pub out_of_scope_threshold: Option<f64>,
    /// Least distance between the two best probabilities where the bundle does not say, 0..=1.
    pub ambiguity_margin: f64,
}

impl Default for Config {
    fn default() -> Self {
        Self { accept_threshold: None, out_of_scope_threshold: None, ambiguity_margin: 0.1 }
    }
}

impl kit::Config for Config {
    fn validate(&self) -> Vec<kit::Violation> {
        let mut violations = Vec::new();
        let shares = [
            ("accept_threshold", self.accept_threshold),
            ("out_of_scope_threshold", self.out_of_scope_threshold),
            ("ambiguity_margin", Some(self.ambiguity_margin)),
        ];
        for (key, value) in shares {
            if let Some(value) = value {
                kit::config::within(key, value, 0.0..=1.0, &mut violations);
            }
        }
        violations
    }
}
