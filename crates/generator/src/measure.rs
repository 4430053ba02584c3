//! How well the grounding check tells supported answers from others: a labelled file.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::config::Config;
use crate::support::Judge;

/// An answer beside what it was written from.
#[derive(Debug, Clone, Deserialize)]
pub struct Example {
    /// The passages' text.
    pub knowledge: String,
    /// What was asked, may be empty.
    #[serde(default)]
    pub question: String,
    /// The answer, of one or more sentences.
    pub response: String,
    /// Whether the knowledge supports all of it.
    pub grounded: bool,
}

/// The figures of the check; one without meaning, for want of either kind of answer, is `None`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// Test items.
    pub n: usize,
    /// Mean of the shares of supported answers kept and of others dropped, 0..=1.
    pub balanced_accuracy: Option<f64>,
    /// Area under the ROC curve, 0..=1.
    pub auroc: Option<f64>,
    /// Support from which an answer is kept, 0..=1.
    pub threshold: f64,
    /// Weight of shared words in the support, as `generator.overlap_weight`.
    pub overlap_weight: f64,
    /// Median time to check one answer, with reading its knowledge, in microseconds, one thread.
    pub p50_us: Option<f64>,
    /// Area under the ROC curve of the share of an answer's words that the knowledge has.
    pub word_overlap_auroc: Option<f64>,
    /// Balanced accuracy of that share, its threshold chosen in the same way; kept from 0.5 on without dev.
    pub word_overlap_balanced_accuracy: Option<f64>,
}

/// Why a file cannot be measured on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("cannot read {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A line is no example.
    #[error("{}:{line}: is no {{\"knowledge\", \"question\", \"response\", \"grounded\"}}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// Why.
        source: serde_json::Error,
    },
}

/// Weights of shared words that are tried.
const OVERLAP_WEIGHTS: [f64; 5] = [0.0, 1.0, 2.0, 4.0, 8.0];
/// Share of shared words from which plain overlap keeps an answer where no file says.
const OVERLAP_THRESHOLD: f64 = 0.5;

/// Reads JSONL of `{"knowledge", "question"?, "response", "grounded"}`; blank lines are skipped.
///
/// # Errors
/// The file cannot be read, or a line of it is no example, with its number.
pub fn read_examples(path: &Path) -> Result<Vec<Example>, Error> {
    let text =
        std::fs::read_to_string(path).map_err(|source| Error::File { path: path.to_owned(), source })?;
    let lines = (1..).zip(text.lines()).filter(|(_, text)| !text.trim().is_empty());
    let parsed = lines.map(|(line, text)| {
        serde_json::from_str(text).map_err(|source| Error::Line { path: path.to_owned(), line, source })
    });
    parsed.collect()
}

/// The figures on `test`, with the weight of shared words and the threshold of best balanced accuracy on `dev`, else
/// the configured ones.
#[must_use]
pub fn evaluate(test: &[Example], dev: Option<&[Example]>, config: &Config) -> Report {
    let (overlap_weight, threshold) = dev
        .and_then(fit)
        .map_or((config.overlap_weight, config.sentence_threshold), |(_, weight, threshold)| {
            (weight, threshold)
        });
    let judge = Judge::new(overlap_weight);
    let mut times = Vec::with_capacity(test.len());
    let mut own = Vec::with_capacity(test.len());
    for example in test {
        let start = Instant::now();
        own.push((check(&judge, example), example.grounded));
        times.push(start.elapsed().as_secs_f64() * 1e6);
    }
    let plain = label(test, overlap);
    let plain_threshold = dev.and_then(|dev| best_threshold(&label(dev, overlap)));
    let plain_threshold = plain_threshold.map_or(OVERLAP_THRESHOLD, |(_, threshold)| threshold);
    Report {
        n: test.len(),
        balanced_accuracy: balanced_accuracy(&own, threshold),
        auroc: auroc(&own),
        threshold,
        overlap_weight,
        p50_us: stats::percentile(&times, 0.5),
        word_overlap_auroc: auroc(&plain),
        word_overlap_balanced_accuracy: balanced_accuracy(&plain, plain_threshold),
    }
}

/// The best balanced accuracy on labelled answers, with its weight of shared words and its threshold; the lower
/// weight of equals. `None` for want of either kind of answer.
fn fit(dev: &[Example]) -> Option<(f64, f64, f64)> {
    let fitted = OVERLAP_WEIGHTS.into_iter().filter_map(|weight| {
        let judge = Judge::new(weight);
        let (accuracy, threshold) = best_threshold(&label(dev, |example| check(&judge, example)))?;
        Some((accuracy, weight, threshold))
    });
    fitted.reduce(|best, next| if next.0 > best.0 { next } else { best })
}

/// The support of an answer: that of its weakest sentence that says something.
fn check(judge: &Judge, example: &Example) -> f64 {
    let knowledge = &example.knowledge;
    let ranges = text::sentences(knowledge);
    let source = judge.source(ranges.iter().map(|range| &knowledge[range.clone()]), &[]);
    let question = judge.read(&example.question);
    let mut readings: Vec<_> = text::sentences(&example.response)
        .into_iter()
        .map(|range| judge.read(&example.response[range]))
        .collect();
    if readings.iter().any(|reading| !reading.subjects().is_empty()) {
        readings.retain(|reading| !reading.subjects().is_empty());
    }
    let supports = readings.iter().filter_map(|reading| judge.support(reading, &source, &question));
    supports.map(|(support, _)| support).reduce(f64::min).unwrap_or(0.0)
}

/// The share of an answer's different words that the knowledge has: what the check is compared with.
fn overlap(example: &Example) -> f64 {
    let words = |text: &str| {
        let lower = text.to_lowercase();
        lower
            .split(|c: char| !c.is_alphanumeric())
            .filter(|word| !word.is_empty())
            .map(str::to_owned)
            .collect()
    };
    let (own, known): (HashSet<String>, HashSet<String>) =
        (words(&example.response), words(&example.knowledge));
    own.intersection(&known).count() as f64 / own.len().max(1) as f64
}

fn label(examples: &[Example], score: impl Fn(&Example) -> f64) -> Vec<(f64, bool)> {
    examples.iter().map(|example| (score(example), example.grounded)).collect()
}

fn auroc(scored: &[(f64, bool)]) -> Option<f64> {
    let of = |kind: bool| scored.iter().filter(|one| one.1 == kind).map(|one| one.0).collect::<Vec<_>>();
    stats::auroc(&of(true), &of(false))
}

fn balanced_accuracy(scored: &[(f64, bool)], threshold: f64) -> Option<f64> {
    let right = |kind: bool| {
        let of = scored.iter().filter(|one| one.1 == kind).map(|one| (one.0 >= threshold) == kind);
        let (right, all) = of.fold((0, 0), |(right, all), is_right| (right + usize::from(is_right), all + 1));
        (all > 0).then(|| f64::from(right as u32) / f64::from(all as u32))
    };
    Some((right(true)? + right(false)?) / 2.0)
}

/// The best balanced accuracy, and a threshold between two scores: the middle one of those that come within one
/// standard error of it (Breiman et al., 1984), since the very best is an accident of few answers. `None` for want of
/// either kind.
fn best_threshold(scored: &[(f64, bool)]) -> Option<(f64, f64)> {
    let mut sorted = scored.to_vec();
    sorted.sort_by(|a, b| a.0.total_cmp(&b.0));
    let all = scored.iter().filter(|one| one.1).count() as f64;
    let others = scored.len() as f64 - all;
    if all == 0.0 || others == 0.0 {
        return None;
    }
    let (mut kept, mut dropped) = (all, 0.0);
    let mut cuts = Vec::new();
    for pair in sorted.windows(2) {
        if pair[0].1 {
            kept -= 1.0
        } else {
            dropped += 1.0
        }
        if pair[0].0 < pair[1].0 {
            let (kept, dropped) = (kept / all, dropped / others);
            let variance = kept * (1.0 - kept) / all + dropped * (1.0 - dropped) / others;
            cuts.push((
                f64::midpoint(kept, dropped),
                variance.sqrt() / 2.0,
                f64::midpoint(pair[0].0, pair[1].0),
            ));
        }
    }
    let (best, error, _) =
        cuts.iter().copied().reduce(|best, next| if next.0 > best.0 { next } else { best })?;
    cuts.retain(|cut| cut.0 >= best - error);
    Some((best, cuts[cuts.len() / 2].2))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example(response: &str, grounded: bool) -> Example {
        let knowledge = "A replacement card costs 5 pounds. A blocked card cannot be unblocked.".to_owned();
        let question = "What does a replacement cost?".to_owned();
        Example { knowledge, question, response: response.to_owned(), grounded }
    }

    #[test]
    fn changed_facts_are_told_from_right_answers_where_word_overlap_is_not() {
        let test = [
            example("A blocked card cannot be unblocked. A replacement card costs £5.", true),
            example("Five pounds.", true),
            example("A replacement card costs 50 pounds.", false),
            example("A replacement card costs 5 pounds. A blocked card can be unblocked.", false),
        ];
        let config = Config::default();
        let report = evaluate(&test, None, &config);
        assert_eq!((report.n, report.auroc, report.balanced_accuracy), (4, Some(1.0), Some(1.0)));
        assert!(report.word_overlap_auroc < Some(0.6), "{report:?}");
        assert_eq!(evaluate(&test[..2], None, &config).auroc, None);
        // The threshold comes from the other file, between its two answers.
        let chosen = evaluate(&test, Some(&test[..3]), &config);
        assert_eq!(chosen.overlap_weight, 0.0, "shared words tell nothing here");
        let chosen = chosen.threshold;
        let score = |index: usize| check(&Judge::new(0.0), &test[index]);
        assert!(score(2) < chosen && chosen < score(1).min(score(0)), "{chosen}");
    }

    #[test]
    fn a_line_that_is_no_example_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("test.jsonl");
        let good = r#"{"knowledge": "a", "response": "b", "grounded": true, "kind": "copy"}"#;
        std::fs::write(&file, format!("{good}\n\n{{\"knowledge\": 1}}\n")).unwrap();
        let error = read_examples(&file).unwrap_err().to_string();
        assert!(error.contains("test.jsonl:3: "), "{error}");
        std::fs::write(&file, good).unwrap();
        assert_eq!(read_examples(&file).unwrap().len(), 1);
    }
}
