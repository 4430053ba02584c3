//! The linear model: one row of quantised weights a feature, one centroid a class.

use learn::{Ngrams, Vector, Vocabulary, Weights};

use crate::classify::best;
use crate::solve::solve;

/// Cost of a margin violation. Cross-validation is flat between 1 and 5; below 1 small sets lose.
const COST: f32 = 2.0;

/// Weights over the features of a vocabulary.
#[derive(Debug, Clone)]
pub(crate) struct Linear {
    pub(crate) vocabulary: Vocabulary,
    pub(crate) weights: Weights,
    /// The mean example of each class, of length 1: features ascending with their values.
    pub(crate) centroids: Vec<Vec<(u32, f32)>>,
}

/// What the model sees in a text.
#[derive(Debug, Clone)]
pub(crate) struct Sight {
    /// Score of each class.
    pub(crate) scores: Vec<f32>,
    /// Cosine between the text and the centroid of the class with the highest score, 0..=1.
    pub(crate) likeness: f32,
    /// Share of the word n-grams that are known, 0..=1.
    pub(crate) known_words: f32,
    /// Share of the character n-grams that are known, 0..=1.
    pub(crate) known_parts: f32,
}

impl Linear {
    /// Trains on texts with labels below `classes`, each of which must occur.
    pub(crate) fn fit(texts: &[&Ngrams], labels: &[usize], classes: usize) -> Self {
        let vocabulary = Vocabulary::fit(texts);
        let rows: Vec<_> = texts.iter().map(|text| vocabulary.vector(text)).collect();
        let exact = solve(&rows, labels, classes, vocabulary.features(), COST);
        let weights = Weights::pack(&exact, classes);
        let centroids = (0..classes).map(|class| centroid(&rows, labels, class)).collect();
        Self { vocabulary, weights, centroids }
    }

    /// Scores a text; `None` when nothing in it is known.
    pub(crate) fn see(&self, text: &Ngrams) -> Option<Sight> {
        let vector = self.vocabulary.vector(text);
        if vector.items.is_empty() {
            return None;
        }
        let scores = self.weights.scores(&vector);
        let likeness = cosine(&vector, &self.centroids[best(&scores)]);
        let Vector { known_words, known_parts, .. } = vector;
        Some(Sight { scores, likeness, known_words, known_parts })
    }
}

fn centroid(rows: &[Vector], labels: &[usize], class: usize) -> Vec<(u32, f32)> {
    let own = rows.iter().zip(labels).filter(|&(_, &label)| label == class);
    let mut items: Vec<_> = own.flat_map(|(row, _)| row.items.iter().copied()).collect();
    // A stable sort keeps the order of the rows, so sums of equal data are equal to the bit.
    items.sort_by_key(|&(id, _)| id);
    let mut sums: Vec<(u32, f32)> = Vec::new();
    for run in items.chunk_by(|left, right| left.0 == right.0) {
        sums.push((run[0].0, run.iter().map(|(_, value)| value).sum()));
    }
    let length = sums.iter().map(|(_, value)| value * value).sum::<f32>().sqrt();
    sums.iter_mut().for_each(|(_, value)| *value /= length);
    sums
}

fn cosine(vector: &Vector, centroid: &[(u32, f32)]) -> f32 {
    let mut rest = centroid;
    let mut sum = 0.0;
    for &(id, value) in &vector.items {
        rest = &rest[rest.partition_point(|&(other, _)| other < id)..];
        if let Some(&(_, other)) = rest.first().filter(|(other, _)| *other == id) {
            sum += value * other;
        }
    }
    sum
}
