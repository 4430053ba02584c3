//! The dense model: a multi-class support vector machine over the vectors of a sentence encoder.

use crate::features::Vector;
use crate::solve::solve;

/// Cost of a margin violation. Vectors of length 1 hold less than n-grams do: of 0.5, 1, 2 and 5 the best
/// or equal on validation parts of BANKING77, CLINC150 and HINT3.
const COST: f32 = 1.0;

/// Weights and mean examples over the values of a vector.
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
}

/// What the model sees in a vector.
#[derive(Debug, Clone)]
pub(crate) struct Glance {
    /// Score of each class.
    pub(crate) scores: Vec<f32>,
    /// Cosine to the mean example of each class, -1..=1.
    pub(crate) likeness: Vec<f32>,
}

impl Dense {
    /// Trains on vectors of length 1 with labels below `classes`, each of which must occur.
    pub(crate) fn fit(vectors: &[&[f32]], labels: &[usize], classes: usize, encoder: &str) -> Self {
        let dimension = vectors.first().map_or(0, |vector| vector.len());
        let mut mean = vec![0.0; dimension];
        for vector in vectors {
            mean.iter_mut().zip(*vector).for_each(|(sum, value)| *sum += value / vectors.len() as f32);
        }
        let rows: Vec<Vector> = vectors.iter().map(|vector| row(&centred(vector, &mean))).collect();
        let weights = solve(&rows, labels, classes, dimension, COST);
        let mut centroids = vec![0.0; classes * dimension];
        for (row, &label) in rows.iter().zip(labels) {
            let centroid = &mut centroids[label * dimension..][..dimension];
            centroid.iter_mut().zip(&row.items).for_each(|(sum, (_, value))| *sum += value);
        }
        centroids.chunks_mut(dimension.max(1)).for_each(encoder::normalise);
        Self { encoder: encoder.to_owned(), mean, weights, centroids }
    }

    /// Scores a vector of the model's encoder.
    pub(crate) fn see(&self, vector: &[f32]) -> Glance {
        let vector = centred(vector, &self.mean);
        let dimension = vector.len().max(1);
        let likeness: Vec<f32> =
            self.centroids.chunks(dimension).map(|centroid| encoder::cosine(&vector, centroid)).collect();
        let mut scores = vec![0.0; likeness.len()];
        crate::solve::add(&mut scores, &row(&vector), &self.weights);
        Glance { scores, likeness }
    }
}

fn centred(vector: &[f32], mean: &[f32]) -> Vec<f32> {
    let mut centred: Vec<f32> = vector.iter().zip(mean).map(|(value, mean)| value - mean).collect();
    encoder::normalise(&mut centred);
    centred
}

fn row(vector: &[f32]) -> Vector {
    Vector { items: (0..).zip(vector.iter().copied()).collect(), known_words: 1.0, known_parts: 1.0 }
}
