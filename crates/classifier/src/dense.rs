//! The dense model: a logistic regression over the vectors of a sentence encoder, and the examples themselves.

use crate::logistic;
use crate::near::Examples;

/// Weights, mean examples and examples over the values of a vector.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Dense {
    /// Id of the encoder whose vectors it takes.
    pub(crate) encoder: String,
    /// The mean of the training vectors: what all texts of a bundle share tells none of them apart.
    pub(crate) mean: Vec<f32>,
    /// Value-major, one weight a class for each value of a vector.
    pub(crate) weights: Vec<f32>,
    /// The mean example of each class, of length 1, one after the other.
    pub(crate) centroids: Vec<f32>,
    pub(crate) examples: Examples,
}

/// What the model sees in a vector.
#[derive(Debug, Clone)]
pub(crate) struct Glance {
    /// Score of each class.
    pub(crate) scores: Vec<f32>,
    /// Logarithm of the density of each class around the vector.
    pub(crate) density: Vec<f32>,
    /// Cosine to the mean example of each class, -1..=1.
    pub(crate) likeness: Vec<f32>,
    /// Cosine to the nearest example, without the mean taken off, -1..=1.
    pub(crate) nearest: f32,
}

impl Dense {
    /// Trains on vectors of length 1 with labels below `classes`, each of which must occur.
    pub(crate) fn fit(vectors: &[&[f32]], labels: &[usize], classes: usize, encoder: &str) -> Self {
        let dimension = vectors.first().map_or(0, |vector| vector.len());
        let mut mean = vec![0.0; dimension];
        for vector in vectors {
            mean.iter_mut().zip(*vector).for_each(|(sum, value)| *sum += value / vectors.len() as f32);
        }
        let (rows, radii): (Vec<_>, Vec<_>) = vectors.iter().map(|vector| centred(vector, &mean)).unzip();
        let weights = logistic::fit(&rows, labels, classes);
        let mut centroids = vec![0.0; classes * dimension];
        for (row, &label) in rows.iter().zip(labels) {
            let centroid = &mut centroids[label * dimension..][..dimension];
            centroid.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
        }
        centroids.chunks_mut(dimension.max(1)).for_each(encoder::normalise);
        let examples = Examples::new(&rows, &radii, labels, classes);
        Self { encoder: encoder.to_owned(), mean, weights, centroids, examples }
    }

    /// Scores a vector of the model's encoder.
    pub(crate) fn see(&self, vector: &[f32]) -> Glance {
        let (vector, radius) = centred(vector, &self.mean);
        let dimension = vector.len().max(1);
        let likeness: Vec<f32> =
            self.centroids.chunks(dimension).map(|centroid| encoder::cosine(&vector, centroid)).collect();
        let mut scores = vec![0.0; likeness.len()];
        logistic::add_scores(&mut scores, &vector, &self.weights);
        let (density, nearest) = self.examples.see(&vector, radius);
        Glance { scores, density, likeness, nearest }
    }
}

/// A vector as seen from the mean, scaled to length 1, and its distance to it.
pub(crate) fn centred(vector: &[f32], mean: &[f32]) -> (Vec<f32>, f32) {
    let mut centred: Vec<f32> = vector.iter().zip(mean).map(|(value, mean)| value - mean).collect();
    let radius = centred.iter().map(|value| value * value).sum::<f32>().sqrt();
    encoder::normalise(&mut centred);
    (centred, radius)
}
