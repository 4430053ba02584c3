//! How well predicted classes agree with the true ones.

use std::collections::BTreeMap;

/// The share of pairs `(truth, predicted)` that are equal, 0..1; `None` without pairs.
pub fn accuracy<T: PartialEq>(pairs: &[(T, T)]) -> Option<f64> {
    let hits = pairs.iter().filter(|(truth, predicted)| truth == predicted).count();
    (!pairs.is_empty()).then(|| hits as f64 / pairs.len() as f64)
}

/// The unweighted mean of the F1 of every class that occurs in pairs `(truth, predicted)`, 0..1;
/// `None` without pairs. The macro average of scikit-learn's `f1_score`.
pub fn macro_f1<T: Ord>(pairs: &[(T, T)]) -> Option<f64> {
    let classes = margins(pairs);
    // F1 = 2TP / (2TP + FP + FN), and the denominator is the sum of both margins.
    let sum: f64 =
        classes.values().map(|class| 2.0 * class.hits as f64 / (class.truth + class.predicted) as f64).sum();
    (!classes.is_empty()).then(|| sum / classes.len() as f64)
}

/// Matthews correlation of pairs `(truth, predicted)` over any number of classes, -1..1; 0 when one
/// side holds a single class, `None` without pairs. Gorodkin, "Comparing two K-category assignments
/// by a K-category correlation coefficient", Computational Biology and Chemistry 28, 2004.
pub fn mcc<T: Ord>(pairs: &[(T, T)]) -> Option<f64> {
    let classes = margins(pairs);
    let n = pairs.len() as f64;
    let (mut hits, mut product, mut truth, mut predicted) = (0.0, 0.0, 0.0, 0.0);
    for class in classes.values() {
        hits += class.hits as f64;
        product += class.truth as f64 * class.predicted as f64;
        truth += (class.truth as f64).powi(2);
        predicted += (class.predicted as f64).powi(2);
    }
    let scale = ((n * n - truth) * (n * n - predicted)).sqrt();
    (!pairs.is_empty()).then(|| if scale > 0.0 { (hits * n - product) / scale } else { 0.0 })
}

#[derive(Default)]
struct Margin {
    truth: usize,
    predicted: usize,
    hits: usize,
}

fn margins<T: Ord>(pairs: &[(T, T)]) -> BTreeMap<&T, Margin> {
    let mut classes: BTreeMap<&T, Margin> = BTreeMap::new();
    for (truth, predicted) in pairs {
        let class = classes.entry(truth).or_default();
        class.truth += 1;
        class.hits += usize::from(truth == predicted);
        classes.entry(predicted).or_default().predicted += 1;
    }
    classes
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRUTH: [u8; 6] = [0, 1, 2, 0, 1, 2];
    const PREDICTED: [u8; 6] = [0, 2, 1, 0, 0, 1];

    fn pairs() -> Vec<(u8, u8)> {
        TRUTH.into_iter().zip(PREDICTED).collect()
    }

    #[test]
    fn the_example_of_scikit_learn_gives_its_figures() {
        // f1_score(average="macro") documents 0.26...; by hand: (0.8 + 0 + 0) / 3.
        assert!((macro_f1(&pairs()).unwrap() - 0.8 / 3.0).abs() < 1e-12);
        assert!((accuracy(&pairs()).unwrap() - 1.0 / 3.0).abs() < 1e-12);
    }

    #[test]
    fn mcc_of_two_classes_equals_the_formula_of_the_binary_table() {
        let (tp, tn, fp, fn_) = (6.0_f64, 3.0, 1.0, 2.0);
        let mut pairs = vec![(true, true); 6];
        pairs.extend(vec![(false, false); 3]);
        pairs.push((false, true));
        pairs.extend(vec![(true, false); 2]);
        let expected = (tp * tn - fp * fn_) / ((tp + fp) * (tp + fn_) * (tn + fp) * (tn + fn_)).sqrt();
        assert!((mcc(&pairs).unwrap() - expected).abs() < 1e-12);
        assert!((mcc(&[(0, 0), (1, 1), (2, 2)]).unwrap() - 1.0).abs() < 1e-12);
        assert_eq!(mcc(&[(0, 1), (0, 1)]), Some(0.0));
    }

    #[test]
    fn nothing_has_no_figure() {
        let none: [(u8, u8); 0] = [];
        assert_eq!((accuracy(&none), macro_f1(&none), mcc(&none)), (None, None, None));
    }
}
