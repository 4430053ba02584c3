//! Linear weights of one byte each.

use serde::{Deserialize, Serialize};

use crate::ngrams::Vector;

/// Weights over the features of a vocabulary, a row of classes for each feature. One byte a weight changes no
/// decision that is not a tie and makes a model four times smaller.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Weights {
    /// Classes.
    pub classes: usize,
    /// What a weight of 1 stands for, by feature.
    pub scales: Vec<f32>,
    /// Feature-major, `classes` values a feature.
    pub values: Vec<i8>,
}

impl Weights {
    /// Packs exact weights, feature-major with `classes` values a feature.
    #[must_use]
    pub fn pack(exact: &[f32], classes: usize) -> Self {
        let (mut scales, mut values) = (Vec::new(), Vec::with_capacity(exact.len()));
        for row in exact.chunks(classes) {
            let scale = row.iter().fold(0.0_f32, |most, weight| most.max(weight.abs())) / f32::from(i8::MAX);
            let inverse = if scale > 0.0 { 1.0 / scale } else { 0.0 };
            scales.push(scale);
            // The cast saturates, and the quotient is within i8::MAX anyway.
            values.extend(row.iter().map(|weight| (weight * inverse).round() as i8));
        }
        Self { classes, scales, values }
    }

    /// The score of each class for a text of the vocabulary the weights belong to.
    #[must_use]
    pub fn scores(&self, vector: &Vector) -> Vec<f32> {
        let mut scores = vec![0.0; self.classes];
        for &(id, value) in &vector.items {
            let value = value * self.scales[id as usize];
            let row = &self.values[id as usize * self.classes..][..self.classes];
            for (score, &weight) in scores.iter_mut().zip(row) {
                *score += value * f32::from(weight);
            }
        }
        scores
    }
}
