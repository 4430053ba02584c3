//! Configuration of the stage: table `[retriever]`.

use kit::Violation;
use kit::config::within;
use serde::{Deserialize, Serialize};

use crate::rerank::Rerank;

/// How passages are ranked. Scores are BM25 over title, heading and text together; each boost adds to that. With
/// the vector of a question, meaning counts as well.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Weight of a word's BM25 score in the title alone, 0..=10.
    pub title_boost: f32,
    /// Weight of a word's BM25 score in the heading path alone, 0..=10.
    pub heading_boost: f32,
    /// Points for a document tagged with the category of the request, 0..=10; a good hit has 5 to 20.
    pub category_boost: f32,
    /// Weight of nearness of meaning against the words in the dense tier, 0..=1.
    pub meaning_weight: f32,
    /// The best passages once more in another order.
    pub rerank: Rerank,
}

impl Default for Config {
    // The title's weight is the best of 0, 0.1, 0.2, 0.3, 0.5 and 1 on the 809 training claims of SciFact, that
    // of meaning the best of 0 to 0.8: nDCG@10 0.737 instead of 0.705.
    fn default() -> Self {
        let rerank = Rerank::default();
        Self { title_boost: 0.3, heading_boost: 0.1, category_boost: 0.5, meaning_weight: 0.5, rerank }
    }
}

impl kit::Config for Config {
    fn validate(&self) -> Vec<Violation> {
        let mut violations = Vec::new();
        within("title_boost", self.title_boost, 0.0..=10.0, &mut violations);
        within("heading_boost", self.heading_boost, 0.0..=10.0, &mut violations);
        within("category_boost", self.category_boost, 0.0..=10.0, &mut violations);
        within("meaning_weight", self.meaning_weight, 0.0..=1.0, &mut violations);
        self.rerank.validate(&mut violations);
        violations
    }
}
