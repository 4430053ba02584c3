//! From scores to a decision, by the thresholds of model, bundle and configuration.

use bundle::{Assistant, Intent};

use crate::classify::{Model, Scores};
use crate::config::Config;

/// What follows from the scores of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Decision {
    /// The best intent stands.
    Accept,
    /// The two best intents are too close to each other, and one of them is likely meant.
    Ambiguous,
    /// The best intent is below its threshold.
    LowConfidence,
    /// No intent fits.
    OutOfScope,
    /// The customer asks for a person.
    Person,
    /// The customer writes in a language without examples.
    Language,
}

/// The limits that turn scores into decisions.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Rules {
    out_of_scope: f64,
    /// Acceptance and ambiguity margin by place in [`Model::intents`].
    limits: Vec<(f64, f64)>,
}

impl Rules {
    /// The rules of a bundle: the intent's own threshold, else its category's, else the configured, else the
    /// fitted one of the tier.
    pub(crate) fn new(
        model: &Model,
        dense: bool,
        intents: &[Intent],
        assistant: &Assistant,
        config: &Config,
    ) -> Self {
        let limit = |name: &String| {
            let intent = intents.iter().find(|intent| intent.name == *name);
            let category = intent.and_then(|intent| assistant.categories.get(&intent.category));
            let accept = intent
                .and_then(|intent| intent.threshold)
                .or(category.and_then(|category| category.accept_threshold))
                .or(config.accept_threshold);
            let margin = category.and_then(|category| category.ambiguity_margin);
            (accept.unwrap_or(model.acceptance(dense)), margin.unwrap_or(config.ambiguity_margin))
        };
        Self {
            out_of_scope: config.out_of_scope_threshold.unwrap_or(model.threshold(dense)),
            limits: model.intents().iter().map(limit).collect(),
        }
    }

    /// Decides on the scores of the model the rules were made for.
    pub(crate) fn decide(&self, scores: &Scores) -> Decision {
        let Some(&(best, confidence)) = scores.ranked.first() else { return Decision::OutOfScope };
        let second = scores.ranked.get(1).map_or(0.0, |second| second.1);
        let (accept, margin) = self.limits[best];
        if scores.out_of_scope >= self.out_of_scope {
            Decision::OutOfScope
        } else if confidence - second < margin && confidence + second >= accept {
            Decision::Ambiguous
        } else if confidence < accept {
            Decision::LowConfidence
        } else {
            Decision::Accept
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_decision_has_its_scores() {
        let rules = Rules { out_of_scope: 0.8, limits: vec![(0.5, 0.1), (0.9, 0.1), (0.5, 0.0)] };
        let decide = |ranked: &[(usize, f64)], out_of_scope| {
            rules.decide(&Scores { ranked: ranked.to_vec(), out_of_scope, known_words: 1.0, dense: false })
        };
        assert_eq!(decide(&[(0, 0.7), (1, 0.2)], 0.1), Decision::Accept);
        assert_eq!(decide(&[(1, 0.7), (0, 0.2)], 0.1), Decision::LowConfidence);
        assert_eq!(decide(&[(0, 0.45), (1, 0.4)], 0.1), Decision::Ambiguous);
        assert_eq!(decide(&[(2, 0.5), (1, 0.49)], 0.1), Decision::Accept);
        assert_eq!(decide(&[(0, 0.2), (1, 0.19)], 0.1), Decision::LowConfidence);
        assert_eq!(decide(&[(0, 0.99), (1, 0.0)], 0.8), Decision::OutOfScope);
        assert_eq!(decide(&[], 1.0), Decision::OutOfScope);
    }
}
