//! Linear support vector machines, one for each category against the rest.

use learn::{Random, Vector};

use crate::examples::Marks;
use crate::policy::Category;

const CATEGORIES: usize = Category::ALL.len();
/// Passes over the examples at most.
const PASSES: usize = 20;
/// The training ends when no example violates its optimality by more than this.
const TOLERANCE: f32 = 0.1;

/// A value for each category.
pub(crate) type Row = [f32; CATEGORIES];

/// The weights of every feature, and in a last row the biases. Squared hinge loss in its dual, one example at a
/// time and all categories at once (Hsieh et al., "A dual coordinate descent method for large-scale linear SVM",
/// ICML 2008). Examples come in a fixed random order, so equal data give equal bits. `cost` is that of a margin
/// violation, above 0.
pub(crate) fn solve(rows: &[&Vector], marks: &[&Marks], features: usize, cost: f32) -> Vec<Row> {
    let mut weights = vec![[0.0; CATEGORIES]; features + 1];
    let mut duals = vec![[0.0; CATEGORIES]; rows.len()];
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
            if steps != [0.0; CATEGORIES] {
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
pub(crate) fn scores(row: &Vector, weights: &[Row]) -> Row {
    let mut scores = weights.last().copied().unwrap_or_default();
    for &(id, value) in &row.items {
        add(&mut scores, &weights[id as usize], value);
    }
    scores
}

fn add(sums: &mut Row, row: &Row, factor: f32) {
    sums.iter_mut().zip(row).for_each(|(sum, value)| *sum += factor * value);
}

/// Moves the duals of an example to their optimum; returns what that adds to the weights of a feature of value
/// 1, and how far the example was from its optimum.
fn step(scores: &Row, marks: &Marks, duals: &mut Row, square: f32, ridge: f32) -> (Row, f32) {
    let (mut steps, mut worst) = (Row::default(), 0.0_f32);
    for category in 0..CATEGORIES {
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
        let mut marks = [Marks::default(); 2];
        marks[0][3] = true;
        let weights = solve(&[&left, &right], &[&marks[0], &marks[1]], 2, 2.0);
        assert!((weights[0][3] - 0.8).abs() < 0.05 && (weights[1][3] + 0.8).abs() < 0.05, "{weights:?}");
        // A category without examples is nowhere.
        assert!(scores(&left, &weights)[0] < -0.8);
    }
}
