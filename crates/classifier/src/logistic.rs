//! A multinomial logistic regression over dense vectors of length 1.

use std::collections::VecDeque;

/// Cost of an example's loss against half the squared weights. Of 1, 3, 10, 30 and 100 the values from 10 to
/// 30 are best or equal on validation parts of BANKING77, CLINC150, BANKING77-OOS and HINT3.
const COST: f64 = 20.0;
/// Steps of the descent. Ten, fifteen and a hundred are equal in accuracy.
const STEPS: usize = 15;
/// Steps remembered for the shape of the function.
const MEMORY: usize = 6;
/// Share of the decrease promised by the slope that a step must bring.
const SUFFICIENT: f64 = 1e-4;
/// Rows added at once, so that the sums are read and written once for all of them.
const ROWS: usize = 4;

/// The weights, value-major: `classes` values for each value of a vector. Limited-memory BFGS (Liu and Nocedal,
/// "On the limited memory BFGS method", Mathematical Programming 45, 1989) from 0, in the order of the
/// examples, so that equal data give equal bits.
pub(crate) fn fit(vectors: &[Vec<f32>], labels: &[usize], classes: usize) -> Vec<f32> {
    let dimension = vectors.first().map_or(0, Vec::len);
    let mut weights = vec![0.0; dimension * classes];
    let (mut loss, mut gradient) = loss(vectors, labels, classes, &weights);
    let mut memory: VecDeque<Step> = VecDeque::with_capacity(MEMORY + 1);
    for _ in 0..STEPS {
        let direction = direction(&gradient, &memory);
        let slope = dot(&direction, &gradient);
        if slope > -1e-6 {
            break;
        }
        // Nothing is known of the scale before the first step.
        let mut length = if memory.is_empty() { 1.0_f64.min((-slope).sqrt().recip()) } else { 1.0 };
        let (next, next_loss, next_gradient) = loop {
            let pairs = weights.iter().zip(&direction);
            let next: Vec<f32> = pairs.map(|(weight, way)| weight + length as f32 * way).collect();
            let (next_loss, next_gradient) = self::loss(vectors, labels, classes, &next);
            if next_loss <= loss + SUFFICIENT * length * slope || length < 1e-3 {
                break (next, next_loss, next_gradient);
            }
            length /= 2.0;
        };
        let [moved, turned] = [(&next, &weights), (&next_gradient, &gradient)]
            .map(|(new, old)| new.iter().zip(old).map(|(new, old)| new - old).collect::<Vec<f32>>());
        let bend = dot(&moved, &turned);
        if bend <= 0.0 {
            break;
        }
        memory.push_back(Step { moved, turned, bend });
        if memory.len() > MEMORY {
            memory.pop_front();
        }
        (weights, loss, gradient) = (next, next_loss, next_gradient);
    }
    weights
}

/// A step of the descent: how weights and gradient changed, and the product of both.
struct Step {
    moved: Vec<f32>,
    turned: Vec<f32>,
    bend: f64,
}

/// Where to go from a gradient, by the two-loop recursion.
fn direction(gradient: &[f32], memory: &VecDeque<Step>) -> Vec<f32> {
    let mut way: Vec<f32> = gradient.iter().map(|value| -value).collect();
    let mut shares = Vec::with_capacity(memory.len());
    for step in memory.iter().rev() {
        let share = dot(&step.moved, &way) / step.bend;
        way.iter_mut().zip(&step.turned).for_each(|(way, turned)| *way -= share as f32 * turned);
        shares.push(share);
    }
    if let Some(last) = memory.back() {
        let scale = (last.bend / dot(&last.turned, &last.turned)) as f32;
        way.iter_mut().for_each(|way| *way *= scale);
    }
    for (step, share) in memory.iter().zip(shares.iter().rev()) {
        let missing = (share - dot(&step.turned, &way) / step.bend) as f32;
        way.iter_mut().zip(&step.moved).for_each(|(way, moved)| *way += missing * moved);
    }
    way
}

/// The loss of the examples plus half the squared weights over the cost, and its gradient.
fn loss(vectors: &[Vec<f32>], labels: &[usize], classes: usize, weights: &[f32]) -> (f64, Vec<f32>) {
    let mut sum = dot(weights, weights) / (2.0 * COST);
    let mut gradient: Vec<f32> = weights.iter().map(|weight| weight / COST as f32).collect();
    let mut errors = vec![0.0; ROWS * classes];
    for (vectors, labels) in vectors.chunks(ROWS).zip(labels.chunks(ROWS)) {
        for ((vector, &label), error) in vectors.iter().zip(labels).zip(errors.chunks_mut(classes)) {
            error.fill(0.0);
            add_scores(error, vector, weights);
            sum += softmax(error, label);
            error[label] -= 1.0;
        }
        for (place, row) in gradient.chunks_mut(classes).enumerate() {
            let mut factors = [0.0; ROWS];
            factors.iter_mut().zip(vectors).for_each(|(factor, vector)| *factor = vector[place]);
            add_rows(row, &factors[..vectors.len()], &errors);
        }
    }
    (sum, gradient)
}

/// Turns scores into probabilities and returns what the one of the label costs.
fn softmax(scores: &mut [f32], label: usize) -> f64 {
    let highest = scores.iter().fold(f32::NEG_INFINITY, |highest, &score| highest.max(score));
    let right = scores[label] - highest;
    scores.iter_mut().for_each(|score| *score = (*score - highest).exp());
    let sum: f32 = scores.iter().sum();
    scores.iter_mut().for_each(|score| *score /= sum);
    f64::from(sum.ln() - right)
}

/// Adds the scores of a vector over all classes to `scores`.
pub(crate) fn add_scores(scores: &mut [f32], vector: &[f32], weights: &[f32]) {
    for (values, rows) in vector.chunks(ROWS).zip(weights.chunks(ROWS * scores.len())) {
        add_rows(scores, values, rows);
    }
}

/// Adds up to `ROWS` rows, each times its factor.
fn add_rows(sums: &mut [f32], factors: &[f32], rows: &[f32]) {
    let factor = |row: usize| factors.get(row).copied().unwrap_or(0.0);
    // What is missing counts 0 times; any row will do.
    let row = |row: usize| &rows[if row < factors.len() { row * sums.len() } else { 0 }..][..sums.len()];
    let (a, b, c, d) = (row(0), row(1), row(2), row(3));
    let (fa, fb, fc, fd) = (factor(0), factor(1), factor(2), factor(3));
    for (place, sum) in sums.iter_mut().enumerate() {
        *sum += fa * a[place] + fb * b[place] + fc * c[place] + fd * d[place];
    }
}

fn dot(left: &[f32], right: &[f32]) -> f64 {
    left.iter().zip(right).map(|(left, right)| f64::from(left * right)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_weights_are_where_the_gradient_vanishes_and_tell_the_classes_apart() {
        let angle = |index: usize| index as f32 * 0.7 + (index % 3) as f32 * 2.0;
        let vectors: Vec<Vec<f32>> =
            (0..30).map(|index| vec![angle(index).cos(), angle(index).sin(), 0.0, 0.0, 0.1]).collect();
        let third = std::f32::consts::TAU / 3.0;
        let labels: Vec<usize> =
            (0..30).map(|index| (angle(index).rem_euclid(3.0 * third) / third) as usize % 3).collect();
        let weights = fit(&vectors, &labels, 3);
        let start = loss(&vectors, &labels, 3, &[0.0; 15]).1;
        let end = loss(&vectors, &labels, 3, &weights).1;
        assert!(dot(&end, &end) < 1e-4 * dot(&start, &start), "{end:?}");
        let right = vectors.iter().zip(&labels).filter(|&(vector, &label)| {
            let mut scores = vec![0.0; 3];
            add_scores(&mut scores, vector, &weights);
            scores.iter().all(|score| *score <= scores[label])
        });
        assert!(right.count() >= 27);
        assert_eq!(fit(&vectors, &[0; 30], 1), vec![0.0; 5]);
    }
}
