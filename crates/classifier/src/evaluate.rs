//! The figures of the classifier on labelled files.

use std::path::Path;
use std::time::Instant;

use encoder::{Encoder, Vectors};
use serde::{Deserialize, Serialize};

use crate::classify::Model;
use crate::train::{Error, Example, train};

/// How good a classifier trained on one file is on another; a figure without meaning is `None`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// "linear" or "dense".
    pub tier: &'static str,
    /// Test items.
    pub n: usize,
    /// Share of in-scope items whose best intent is right, no threshold, 0..=1.
    pub in_scope_accuracy: Option<f64>,
    /// Macro F1 of the best intent over in-scope items, no threshold, 0..=1.
    pub macro_f1: Option<f64>,
    /// Matthews correlation at the threshold with out of scope as one class, -1..=1.
    pub mcc: Option<f64>,
    /// Area under the ROC curve of the out-of-scope score, 0..=1.
    pub oos_auroc: Option<f64>,
    /// Share of out-of-scope items at or above the threshold, 0..=1.
    pub oos_recall: Option<f64>,
    /// Share of items at or above the threshold that are out of scope, 0..=1.
    pub oos_precision: Option<f64>,
    /// Share of out-of-scope items above the score that 95 % of the in-scope items stay below, 0..=1.
    pub oos_recall_at_95: Option<f64>,
    /// The out-of-scope score from which an item is out of scope.
    pub threshold: f64,
    /// Expected calibration error of the confidence over in-scope items, 0..=1.
    pub ece: Option<f64>,
    /// Median time to classify one item in microseconds, one thread.
    pub p50_us: Option<f64>,
}

/// Trains on `training`, with an encoder its dense part too, fits the threshold on `validation` where that has items in and out of scope, else by
/// cross-validation, and reports on `test`. `progress` is told how many of how many training steps are done.
///
/// # Errors
/// No training example has an intent, or the encoder fails.
pub fn evaluate(
    encoder: Option<&Encoder>,
    training: &[Example],
    validation: Option<&[Example]>,
    test: &[Example],
    progress: &(dyn Fn(u64, u64) + Sync),
) -> Result<Report, Error> {
    let mut vectors = encoder.map(Vectors::in_memory);
    report(&train(training, vectors.as_mut(), validation, progress)?, encoder, test)
}

/// The figures of a model on labelled items.
fn report(model: &Model, encoder: Option<&Encoder>, test: &[Example]) -> Result<Report, Error> {
    let limit = model.threshold(encoder.is_some());
    let (mut best, mut decided, mut confidences, mut times) = (vec![], vec![], vec![], vec![]);
    let (mut inside, mut outside) = (vec![], vec![]);
    for example in test {
        let start = Instant::now();
        let vector = encoder.map(|encoder| encoder.embed(&example.text)).transpose()?;
        let scores = model.classify(&example.text, vector.as_deref());
        times.push(start.elapsed().as_secs_f64() * 1e6);
        let truth = example.intent.as_deref();
        let intent = scores.ranked.first().map(|best| model.intents()[best.0].as_str());
        decided.push((truth, intent.filter(|_| scores.out_of_scope < limit)));
        if truth.is_some() {
            best.push((truth, intent));
            confidences.push((scores.confidence(), truth == intent));
            inside.push(scores.out_of_scope);
        } else {
            outside.push(scores.out_of_scope);
        }
    }
    let rejected: Vec<bool> =
        decided.iter().filter(|pair| pair.1.is_none()).map(|pair| pair.0.is_none()).collect();
    let caught = rejected.iter().filter(|&&right| right).count() as f64;
    let share = |whole: usize| (whole > 0 && !outside.is_empty()).then(|| caught / whole as f64);
    Ok(Report {
        tier: if encoder.is_some() { "dense" } else { "linear" },
        n: test.len(),
        in_scope_accuracy: stats::accuracy(&best),
        macro_f1: stats::macro_f1(&best),
        mcc: stats::mcc(&decided),
        oos_auroc: stats::auroc(&outside, &inside),
        oos_recall: share(outside.len()),
        oos_precision: share(rejected.len()),
        oos_recall_at_95: recall_at(&inside, &outside, 0.95),
        threshold: limit,
        ece: stats::ece(&confidences),
        p50_us: stats::percentile(&times, 0.5),
    })
}

/// Share of `outside` above the score that `accepted` of `inside` stay at or below.
fn recall_at(inside: &[f64], outside: &[f64], accepted: f64) -> Option<f64> {
    let limit = stats::percentile(inside, accepted)?;
    let above = outside.iter().filter(|&&score| score > limit).count();
    (!outside.is_empty()).then(|| above as f64 / outside.len() as f64)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    text: String,
    intent: Option<String>,
}

/// Reads a JSONL file of `{"text": "...", "intent": "..." or null}`; blank lines are skipped.
///
/// # Errors
/// The file cannot be read, or a line of it is no example, with its number.
pub fn read_examples(path: &Path) -> Result<Vec<Example>, Error> {
    let text =
        std::fs::read_to_string(path).map_err(|source| Error::File { path: path.to_owned(), source })?;
    let mut examples = Vec::new();
    for (line, text) in (1..).zip(text.lines()).filter(|(_, text)| !text.trim().is_empty()) {
        let failed = |source| Error::Line { path: path.to_owned(), line, source };
        let Line { text, intent } = serde_json::from_str(text).map_err(failed)?;
        examples.push(Example { text, intent });
    }
    Ok(examples)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::tests::examples;

    #[test]
    fn figures_without_meaning_are_null() {
        let inside = evaluate(None, &examples(), None, &examples(), &|_, _| {}).unwrap();
        assert_eq!(inside.in_scope_accuracy, Some(1.0));
        assert_eq!((inside.oos_auroc, inside.oos_recall, inside.oos_precision), (None, None, None));
        let other = Example { text: "sing a song about whales".to_owned(), intent: None };
        let outside = evaluate(None, &examples(), None, &[other], &|_, _| {}).unwrap();
        assert_eq!((outside.in_scope_accuracy, outside.ece, outside.oos_auroc), (None, None, None));
        assert_eq!((outside.n, outside.oos_recall), (1, Some(1.0)));
    }

    #[test]
    fn a_wrong_line_is_named_with_its_number() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("train.jsonl");
        std::fs::write(&path, "{\"text\": \"a\", \"intent\": null}\n\n{\"text\": \"b\", \"label\": 1}\n")
            .unwrap();
        let error = read_examples(&path).unwrap_err().to_string();
        assert!(error.contains("train.jsonl:3: "), "{error}");
        std::fs::write(&path, "{\"text\": \"a\", \"intent\": \"x\"}\n").unwrap();
        assert_eq!(read_examples(&path).unwrap()[0].intent.as_deref(), Some("x"));
    }
}
