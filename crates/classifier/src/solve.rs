//! A multi-class linear support vector machine, trained in its dual.

use learn::{Random, Vector};

/// The training ends when no example violates its optimality by more than this.
const TOLERANCE: f32 = 0.1;
/// Passes over the examples at most. Fifteen and thirty gave the same accuracy.
const MAX_PASSES: usize = 30;

/// The weights, feature-major: `classes` values for each feature, so that one text adds few contiguous rows.
///
/// Crammer and Singer, "On the algorithmic implementation of multiclass kernel-based vector machines", JMLR
/// 2, 2001, by the sequential dual method of Keerthi et al., KDD 2008, as LIBLINEAR has it: one example at a
/// time, all its classes at once. Examples come in a fixed random order, so equal data give equal bits.
///
/// `cost` is that of a margin violation, above 0.
pub(crate) fn solve(
    rows: &[Vector],
    labels: &[usize],
    classes: usize,
    features: usize,
    cost: f32,
) -> Vec<f32> {
    let mut weights = vec![0.0; features * classes];
    if classes == 1 {
        // Nothing to tell apart; likeness to the mean example is what is left.
        for (id, value) in rows.iter().flat_map(|row| &row.items) {
            weights[*id as usize] += value / rows.len() as f32;
        }
        return weights;
    }
    let mut duals = vec![0.0; rows.len() * classes];
    let all: Vec<usize> = (0..rows.len()).collect();
    let mut active = all.clone();
    let mut random = Random(0x5eed);
    let mut problem = Subproblem { cost, gradient: vec![0.0; classes], sorted: Vec::new() };
    let mut steps = Vec::new();
    for _ in 0..MAX_PASSES {
        random.shuffle(&mut active);
        let mut worst = 0.0_f32;
        let whole = active.len() == all.len();
        active.retain(|&index| {
            let (row, label) = (&rows[index], labels[index]);
            problem.gradient.fill(1.0);
            problem.gradient[label] = 0.0;
            add(&mut problem.gradient, row, &weights);
            let duals = &mut duals[index * classes..][..classes];
            let violation = problem.step(row.square(), label, duals, &mut steps);
            for (id, value) in row.items.iter().filter(|_| !steps.is_empty()) {
                let weights = &mut weights[*id as usize * classes..][..classes];
                for &(class, step) in &steps {
                    weights[class] += value * step;
                }
            }
            worst = worst.max(violation);
            violation > TOLERANCE / 2.0
        });
        if worst < TOLERANCE && whole {
            break;
        }
        // Settled examples sit out until the others have settled too.
        if worst < TOLERANCE || active.is_empty() {
            active.clone_from(&all);
        }
    }
    weights
}

/// Adds the scores of a text over all classes to `scores`.
pub(crate) fn add(scores: &mut [f32], row: &Vector, weights: &[f32]) {
    for &(id, value) in &row.items {
        let weights = &weights[id as usize * scores.len()..][..scores.len()];
        scores.iter_mut().zip(weights).for_each(|(score, weight)| *score += value * weight);
    }
}

/// The dual of one example: a dual value for each class, 0..=cost for its own, at most 0 for the others,
/// summing to 0.
struct Subproblem {
    cost: f32,
    gradient: Vec<f32>,
    sorted: Vec<f32>,
}

impl Subproblem {
    /// Moves the duals to the optimum of the subproblem, lists the moves, returns the violation before.
    fn step(&mut self, square: f32, label: usize, duals: &mut [f32], steps: &mut Vec<(usize, f32)>) -> f32 {
        steps.clear();
        let cost = self.cost;
        let upper = |class: usize| if class == label { cost } else { 0.0 };
        let (mut highest, mut lowest) = (f32::NEG_INFINITY, f32::INFINITY);
        for (class, (&gradient, &dual)) in self.gradient.iter().zip(&*duals).enumerate() {
            highest = highest.max(gradient);
            if dual < upper(class) {
                lowest = lowest.min(gradient);
            }
        }
        let violation = highest - lowest;
        if square <= 0.0 || violation.is_nan() || violation <= TOLERANCE / 10.0 {
            return if square > 0.0 { violation.max(0.0) } else { 0.0 };
        }
        // Algorithm 3 of the LIBLINEAR paper: with B = gradient - square * dual, the optimum is
        // min(upper, (beta - B) / square) for the beta at which the duals sum to 0.
        self.gradient.iter_mut().zip(&*duals).for_each(|(gradient, dual)| *gradient -= square * dual);
        self.sorted.clear();
        self.sorted.extend(&self.gradient);
        self.sorted[label] += square * cost;
        self.sorted.sort_unstable_by(|left, right| right.total_cmp(left));
        let mut sum = self.sorted[0] - square * cost;
        let mut count = 1.0;
        for &next in &self.sorted[1..] {
            if sum >= count * next {
                break;
            }
            sum += next;
            count += 1.0;
        }
        let beta = sum / count;
        for (class, dual) in duals.iter_mut().enumerate() {
            let moved = upper(class).min((beta - self.gradient[class]) / square);
            if (moved - *dual).abs() > 1e-6 {
                steps.push((class, moved - *dual));
                *dual = moved;
            }
        }
        violation
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(items: &[(u32, f32)]) -> Vector {
        Vector { items: items.to_vec(), known_words: 1.0, known_parts: 1.0 }
    }

    #[test]
    fn separable_examples_end_with_the_margin_of_the_optimum() {
        // Two orthogonal unit examples: the optimum is w = +-1/2 on each axis, a margin of exactly 1.
        let rows = [row(&[(0, 1.0)]), row(&[(1, 1.0)])];
        let weights = solve(&rows, &[0, 1], 2, 2, 2.0);
        for (weight, expected) in weights.iter().zip([0.5, -0.5, -0.5, 0.5]) {
            assert!((weight - expected).abs() < 0.06, "{weights:?}");
        }
    }

    #[test]
    fn the_weights_of_the_classes_sum_to_zero_for_every_feature() {
        let rows: Vec<_> = (0..30).map(|i| row(&[(i % 5, 0.8), (5 + i % 7, 0.6)])).collect();
        let labels: Vec<_> = (0..30).map(|i| i % 3).collect();
        for weights in solve(&rows, &labels, 3, 12, 2.0).chunks(3) {
            assert!(weights.iter().sum::<f32>().abs() < 1e-4, "{weights:?}");
        }
    }
}
