//! The trained model, and what it says of a text.

use crate::calibrate::{Evidence, Fitted, evidence, outlier, probabilities};
use crate::dense::{Dense, Glance};
use crate::features::Ngrams;
use crate::linear::{Linear, Sight};

/// Weight of the sentence encoder against the words, in the logarithms of the probabilities. Of 0.3 to 0.8 the
/// best or equal on validation parts of BANKING77, its ten-example subset, CLINC150 and HINT3.
const DENSE_WEIGHT: f64 = 0.6;

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
    /// Factor on its scores, as if it were alone.
    pub(crate) temperature: f64,
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
        let view = match meaning {
            Some((meaning, vector)) => {
                let glance = meaning.dense.see(vector);
                View::both(&sight, self.words.temperature, &glance, meaning.temperature)
            }
            None => View::words(&sight),
        };
        let fitted = self.fitted(dense);
        let out_of_scope = outlier(&fitted.outlier, &view.evidence(fitted.temperature));
        let mut ranked: Vec<_> =
            probabilities(&view.scores, fitted.temperature).into_iter().enumerate().collect();
        ranked.sort_by(|left, right| right.1.total_cmp(&left.1));
        Scores { ranked, out_of_scope, known_words: f64::from(sight.known_words), dense }
    }
}

/// What one tier makes of a text.
#[derive(Debug, Clone)]
pub(crate) struct View {
    /// Score of each class.
    pub(crate) scores: Vec<f32>,
    /// The class with the highest score, the first of equals.
    pub(crate) best: usize,
    /// What the words say: highest score, likeness, known words, known parts.
    words: [f32; 4],
    /// Cosine of the vector to the mean example of the best class and the nearest of all; 0 without a vector.
    likeness: [f32; 2],
}

impl View {
    /// By the words alone.
    pub(crate) fn words(sight: &Sight) -> Self {
        Self { scores: sight.scores.clone(), best: sight.best, words: said(sight), likeness: [0.0; 2] }
    }

    /// By words and vector: the weighted product of the probabilities each gives alone.
    pub(crate) fn both(sight: &Sight, words: f64, glance: &Glance, dense: f64) -> Self {
        let (words, dense) = ((words * (1.0 - DENSE_WEIGHT)) as f32, (dense * DENSE_WEIGHT) as f32);
        let pairs = sight.scores.iter().zip(&glance.scores);
        let scores: Vec<f32> = pairs.map(|(word, meaning)| words * word + dense * meaning).collect();
        let best = best(&scores);
        let nearest = glance.likeness.iter().fold(-1.0_f32, |most, &likeness| most.max(likeness));
        Self { best, likeness: [glance.likeness[best], nearest], scores, words: said(sight) }
    }

    /// What speaks for and against the text being out of scope.
    pub(crate) fn evidence(&self, temperature: f64) -> Evidence {
        evidence(probabilities(&self.scores, temperature)[self.best], self.words, self.likeness)
    }
}

/// What the words say besides their scores of all classes.
fn said(sight: &Sight) -> [f32; 4] {
    [sight.scores[sight.best], sight.likeness, sight.known_words, sight.known_parts]
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
