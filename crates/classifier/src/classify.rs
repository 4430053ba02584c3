//! The trained model, and what it says of a text.

use crate::calibrate::{Evidence, Fitted, Weights, evidence, joined, outlier, probabilities, set_confidence};
use crate::dense::{Dense, Glance};
use crate::linear::{Linear, Sight};
use learn::Ngrams;

/// A trained classifier.
#[derive(Debug, Clone)]
pub struct Model {
    pub(crate) intents: Vec<String>,
    pub(crate) linear: Linear,
    pub(crate) words: Fitted,
    pub(crate) meaning: Option<Meaning>,
    pub(crate) version: String,
}

/// The dense part of a model.
#[derive(Debug, Clone)]
pub(crate) struct Meaning {
    pub(crate) dense: Dense,
    /// Fitted on the scores of words and encoder together.
    pub(crate) fitted: Fitted,
}

/// What the model says of one text.
#[derive(Debug, Clone, PartialEq)]
pub struct Scores {
    /// Every intent as its place in [`Model::intents`] with its calibrated probability 0..=1, best first;
    /// empty when nothing in the text is known.
    pub ranked: Vec<(usize, f64)>,
    /// How far the text is from everything known, 0..=1.
    pub out_of_scope: f64,
    /// Share of the words and pairs of words that the examples know, 0..=1.
    pub known_words: f64,
    /// Whether a vector took part: which of the fitted limits hold.
    pub dense: bool,
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

    /// Id of the encoder whose vectors the model takes, `None` when it was built from words alone.
    pub fn encoder(&self) -> Option<&str> {
        self.meaning.as_ref().map(|meaning| meaning.dense.encoder.as_str())
    }

    /// The out-of-scope score from which a text is out of scope, 0..=1.
    pub fn threshold(&self, dense: bool) -> f64 {
        self.fitted(dense).threshold
    }

    /// The confidence from which an intent is accepted where the bundle does not say, 0..=1.
    pub fn acceptance(&self, dense: bool) -> f64 {
        self.fitted(dense).acceptance
    }

    fn fitted(&self, dense: bool) -> &Fitted {
        self.meaning.as_ref().filter(|_| dense).map_or(&self.words, |meaning| &meaning.fitted)
    }

    /// Classifies one text of any length and language, by its words and, when both the model and the caller
    /// have it, its vector.
    pub fn classify(&self, text: &str, vector: Option<&[f32]>) -> Scores {
        let meaning = self.meaning.as_ref().zip(vector);
        let dense = meaning.is_some();
        let Some(sight) = self.linear.see(&Ngrams::of(text)) else {
            return Scores { ranked: Vec::new(), out_of_scope: 1.0, known_words: 0.0, dense };
        };
        let glance = meaning.map(|(meaning, vector)| meaning.dense.see(vector));
        let fitted = self.fitted(dense);
        let view = View::new(&sight, glance.as_ref(), &fitted.weights);
        let out_of_scope = outlier(&fitted.outlier, &view.evidence);
        let mut ranked: Vec<_> = view.probabilities.into_iter().enumerate().collect();
        ranked.sort_by(|left, right| right.1.total_cmp(&left.1));
        set_confidence(&fitted.confidence, &mut ranked);
        Scores { ranked, out_of_scope, known_words: f64::from(sight.known_words), dense }
    }
}

/// What one tier makes of a text.
#[derive(Debug, Clone)]
pub(crate) struct View {
    /// Probability of each class.
    pub(crate) probabilities: Vec<f64>,
    /// The most likely class, the first of equals.
    pub(crate) best: usize,
    /// What speaks for and against the text being out of scope.
    pub(crate) evidence: Evidence,
}

impl View {
    /// By the words, and the vector where there is one: the product of what words, meaning and density make
    /// likely, each to the power of its weight.
    pub(crate) fn new(sight: &Sight, glance: Option<&Glance>, weights: &Weights) -> Self {
        let scores = match glance {
            Some(glance) => joined(&[&sight.scores, &glance.scores, &glance.density], weights),
            None => joined(&[&sight.scores], &[weights[0]]),
        };
        let (probabilities, best) = (probabilities(&scores), best(&scores));
        let more = match glance {
            Some(glance) => {
                let energy = scores[best] - (probabilities[best] as f32).ln();
                [glance.scores[best], glance.likeness[best], glance.nearest, energy / 10.0]
            }
            None => [sight.likeness, sight.known_words, sight.known_parts, 0.0],
        };
        let evidence = evidence(probabilities[best], sight.scores[best], more);
        Self { probabilities, best, evidence }
    }
}

/// The place of the highest score, the first of equals.
pub(crate) fn best(scores: &[f32]) -> usize {
    let mut best = 0;
    for (class, score) in scores.iter().enumerate() {
        if *score > scores[best] {
            best = class;
        }
    }
    best
}
