//! What `safety/` of a bundle holds.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What the safety policy may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Go on.
    Allow,
    /// Go on with a rewritten text.
    Rewrite,
    /// Hand over to a person.
    Escalate,
    /// Refuse.
    Block,
}

/// `safety/policy.toml`: changes to the built-in policy.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// Version, free text.
    #[serde(default)]
    pub version: String,
    /// Changes by category.
    #[serde(default)]
    pub categories: BTreeMap<String, CategoryPolicy>,
}

/// Changes to the policy of one category.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CategoryPolicy {
    /// What follows when the score reaches the threshold.
    pub action: Option<Action>,
    /// Score from which the action holds, 0..=1.
    pub threshold: Option<f64>,
    /// What the customer reads.
    pub message: Option<String>,
    /// What follows when the rail fails: escalate or block.
    pub on_failure: Option<Action>,
}

/// `safety/lexicons/*.toml`: phrases added to the built-in ones.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lexicon {
    /// Category of the phrases.
    pub category: String,
    /// The phrases.
    #[serde(rename = "term")]
    pub terms: Vec<Term>,
}

/// A phrase with the weight it adds.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Term {
    /// Words, matched on normalised text.
    pub phrase: String,
    /// Weight, 0..=1.
    pub weight: f64,
}
