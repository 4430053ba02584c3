//! The trained model, and what it says of a text.

use crate::calibrate::{Evidence, evidence, outlier, probabilities};
use crate::features::Ngrams;
use crate::linear::Linear;

/// A trained classifier.
#[derive(Debug, Clone)]
pub struct Model {
    pub(crate) intents: Vec<String>,
    pub(crate) linear: Linear,
    pub(crate) temperature: f64,
    pub(crate) outlier: Evidence,
    pub(crate) threshold: f64,
    pub(crate) acceptance: f64,
    pub(crate) version: String,
}

/// What the model says of one text.
#[derive(Debug, Clone, PartialEq)]
pub struct Scores {
    /// Every intent as its place in [`Model::intents`] with its calibrated probability 0..=1, best first;
    /// empty when nothing in the text is known.
    pub ranked: Vec<(usize, f64)>,
    /// How far the text is from everything known, 0..=1.
    pub out_of_scope: f64,
}

impl Scores {
    /// Probability of the best intent, 0 without one.
    pub fn confidence(&self) -> f64 {
        self.ranked.first().map_or(0.0, |best| best.1)
    }
}

impl Model {
    /// Names of the intents, ascending.
    pub fn intents(&self) -> &[String] {
        &self.intents
    }

    /// Content hash of the model, 64 hexadecimal digits.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The out-of-scope score from which a text is out of scope, 0..=1.
    pub fn threshold(&self) -> f64 {
        self.threshold
    }

    /// The confidence from which an intent is accepted where the bundle does not say, 0..=1.
    pub fn acceptance(&self) -> f64 {
        self.acceptance
    }

    /// Classifies one text of any length and language.
    pub fn classify(&self, text: &str) -> Scores {
        let Some(sight) = self.linear.see(&Ngrams::of(text)) else {
            return Scores { ranked: Vec::new(), out_of_scope: 1.0 };
        };
        let out_of_scope = outlier(&self.outlier, &evidence(&sight, self.temperature));
        let mut ranked: Vec<_> =
            probabilities(&sight.scores, self.temperature).into_iter().enumerate().collect();
        ranked.sort_by(|left, right| right.1.total_cmp(&left.1));
        Scores { ranked, out_of_scope }
    }
}
