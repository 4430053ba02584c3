//! Linear support vector machines, one for each category against the rest.

use learn::{Random, Vector};

use crate::policy::Category;

/// Passes over the examples at most.
const PASSES: usize = 20;
/// The training ends when no example violates its optimality by more than this.
const TOLERANCE: f32 = 0.1;

/// A value for each category.
pub(crate) type Row = [f32; Category::ALL.len()];

/// The weights of every feature, and in a last row the biases. Squared hinge loss in its dual, one example at a
/// time and all `N` categories at once (Hsieh et al., "A dual coordinate descent method for large-scale linear SVM",
/// ICML 2008). Examples come in a fixed random order, so equal data give equal bits. `cost` is that of a margin
/// violation, above 0.
pub(crate) fn solve<const N: usize>(
    rows: &[&Vector],
    marks: &[&[bool; N]],
    features: usize,
    cost: f32,
) -> Vec<[f32; N]> {
    let mut weights = vec![[0.0; N]; features + 1];
    let mut duals = vec![[0.0; N]; rows.len()];
    let mut order: Vec<usize> = (0..rows.len()).collect();
    let mut random = Random(0x5eed);
    let ridge = 0.5 / cost;
    for _ in 0..PASSES {
        random.shuffle(&mut order);
        let mut worst = 0.0_f32;
        for &index in &order {
            let row = rows[index];
            let scores = scores(row, &weights);
            let (steps, violation) =
                step(&scores, marks[index], &mut duals[index], row.square() + 1.0, ridge);
            worst = worst.max(violation);
            if steps != [0.0; N] {
                add(&mut weights[features], &steps, 1.0);
                row.items.iter().for_each(|&(id, value)| add(&mut weights[id as usize], &steps, value));
            }
        }
        if worst < TOLERANCE {
            break;
        }
    }
    weights
}

/// The scores of a text by exact weights with the biases in the last row.
pub(crate) fn scores<const N: usize>(row: &Vector, weights: &[[f32; N]]) -> [f32; N] {
    let mut scores = weights.last().copied().unwrap_or([0.0; N]);
    for &(id, value) in &row.items {
        add(&mut scores, &weights[id as usize], value);
    }
    scores
}

fn add<const N: usize>(sums: &mut [f32; N], row: &[f32; N], factor: f32) {
    sums.iter_mut().zip(row).for_each(|(sum, value)| *sum += factor * value);
}

/// Moves the duals of an example to their optimum; returns what that adds to the weights of a feature of value
/// 1, and how far the example was from its optimum.
fn step<const N: usize>(
    scores: &[f32; N],
    marks: &[bool; N],
    duals: &mut [f32; N],
    square: f32,
    ridge: f32,
) -> ([f32; N], f32) {
    let (mut steps, mut worst) = ([0.0; N], 0.0_f32);
    for category in 0..N {
        let side = if marks[category] { 1.0 } else { -1.0 };
        let dual = duals[category];
        let slope = side * scores[category] - 1.0 + ridge * dual;
        if slope > 0.0 && dual == 0.0 {
            continue;
        }
        worst = worst.max(slope.abs());
        duals[category] = (dual - slope / (square + ridge)).max(0.0);
        steps[category] = side * (duals[category] - dual);
    }
    (steps, worst)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_examples_end_at_the_optimum_of_their_margin() {
        // Orthogonal unit examples of opposite sides: by symmetry w = (a, -a), b = 0 and a minimises
        // a^2 + 2 C (1 - a)^2, so a = 2 C / (1 + 2 C).
        let row = |id| Vector { items: vec![(id, 1.0)], known_words: 1.0, known_parts: 1.0 };
        let (left, right) = (row(0), row(1));
        let weights = solve(&[&left, &right], &[&[false, true], &[false; 2]], 2, 2.0);
        assert!((weights[0][1] - 0.8).abs() < 0.05 && (weights[1][1] + 0.8).abs() < 0.05, "{weights:?}");
        // A category without examples is nowhere.
        assert!(scores(&left, &weights)[0] < -0.8);
    }
}
