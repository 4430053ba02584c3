//! How well the input rail tells harm from ordinary messages, on a data set.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use encoder::Encoder;
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::policy::{Action, Category, Scores};
use crate::screen::{PLANTED, Rails};

/// False-positive rates at which recall is reported whatever the thresholds of the policy are.
const LOW: f64 = 0.02;
const HIGH: f64 = 0.05;

/// The rail that is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rail {
    /// What a customer writes.
    Input,
    /// Text of a knowledge base: harm is a planted instruction, and the encoder has no part in it.
    Passages,
}

/// The figures of a data set; a figure without meaning is `None`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// The data set.
    pub file: String,
    /// "linear" or "dense".
    pub tier: &'static str,
    /// Version and hash of the policy.
    pub policy: String,
    /// Unsafe texts.
    pub n_unsafe: usize,
    /// Safe texts.
    pub n_safe: usize,
    /// Share of the unsafe texts that the policy blocks or escalates, 0..=1.
    pub recall: Option<f64>,
    /// Share of the safe texts that it blocks or escalates, 0..=1.
    pub fpr: Option<f64>,
    /// Share of unsafe ones among those it blocks or escalates, 0..=1.
    pub precision: Option<f64>,
    /// Probability that an unsafe text scores above a safe one, 0..=1, by the categories that the file names.
    pub auroc: Option<f64>,
    /// Average precision of the score, 0..=1.
    pub auprc: Option<f64>,
    /// Recall at the threshold that lets 2 % of the safe texts through as unsafe, 0..=1.
    pub recall_at_fpr_2: Option<f64>,
    /// The same at 5 %.
    pub recall_at_fpr_5: Option<f64>,
    /// Median time of a text in microseconds, the encoder's included.
    pub p50_us: Option<f64>,
    /// By category of the data set, and where safe texts are stopped by category of the policy.
    pub by_category: BTreeMap<String, CategoryReport>,
}

/// The figures of one category.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct CategoryReport {
    /// Texts of this category.
    pub n: usize,
    /// Share of them blocked or escalated, whatever for, 0..=1.
    pub recall: Option<f64>,
    /// Safe texts for which this category reached its threshold.
    pub false_alarms: usize,
    /// Against all texts that are not of it, by its own score.
    pub auroc: Option<f64>,
    /// Average precision, likewise.
    pub auprc: Option<f64>,
    /// Recall at 2 % false positives, likewise.
    pub recall_at_fpr_2: Option<f64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    text: String,
    #[serde(rename = "unsafe")]
    harmful: bool,
    #[serde(default)]
    categories: Vec<String>,
}

/// A line and what the rail made of it.
struct Judged {
    line: Line,
    scores: Scores,
    stopped: bool,
    reached: Vec<Category>,
    us: f64,
}

/// Measures on JSONL of `{"text", "unsafe": true or false, "categories": [...]}`. Names of categories other than
/// ours are understood where they are those of well-known sets (`sexual/minors`, `violence_graphic`).
///
/// # Errors
/// The file cannot be read, a line of it is no such object, or the encoder fails.
pub fn evaluate(
    rails: &Rails,
    rail: Rail,
    encoder: Option<&Encoder>,
    test: &Path,
    progress: &(dyn Fn(u64, u64) + Sync),
) -> Result<Report, Error> {
    let lines = read(test)?;
    let mut judged = Vec::with_capacity(lines.len());
    let n = lines.len() as u64;
    for line in lines {
        progress(judged.len() as u64, n);
        let start = Instant::now();
        let vector = encoder.filter(|_| rail == Rail::Input).map(|encoder| encoder.embed(&line.text));
        let vector = vector.transpose()?;
        let verdict = match rail {
            Rail::Input => rails.input(&line.text, vector.as_deref()),
            Rail::Passages => rails.passage(&line.text),
        };
        let us = start.elapsed().as_secs_f64() * 1e6;
        let scores = match rail {
            Rail::Input => rails.scores_of_input(&line.text, vector.as_deref()),
            Rail::Passages => rails.scores_of_passage(&line.text),
        };
        let reached = verdict.categories.iter().map(|(category, _)| *category).collect();
        judged.push(Judged { line, scores, stopped: verdict.action >= Action::Escalate, reached, us });
    }
    Ok(report(rails, test, encoder.is_some(), &judged))
}

fn read(file: &Path) -> Result<Vec<Line>, Error> {
    let text =
        std::fs::read_to_string(file).map_err(|source| Error::File { path: file.to_owned(), source })?;
    let lines = (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty());
    let read = |(number, line): (usize, &str)| {
        let place = format!("{}:{number}", file.display());
        serde_json::from_str(line).map_err(|source| Error::TestLine { place, source })
    };
    lines.map(read).collect()
}

/// The score of a text as a whole: the chance that it belongs to any of the categories, as if they were
/// independent.
fn any(scores: &Scores, of: &[Category]) -> f64 {
    1.0 - of.iter().map(|category| 1.0 - scores[*category as usize]).product::<f64>()
}

/// The categories that a data set asks for: those that its lines name; all where they name none that we know. An
/// attack to get at the instructions is an injection for most.
fn asked(judged: &[Judged]) -> Vec<Category> {
    let names = judged.iter().flat_map(|one| &one.line.categories);
    let mut asked: Vec<Category> = names.filter_map(|name| Category::named(name)).collect();
    if asked.iter().any(|category| PLANTED.contains(category)) {
        asked.extend(PLANTED);
    }
    if asked.is_empty() {
        asked.extend(Category::ALL.map(|(category, _)| category));
    }
    asked.sort_unstable();
    asked.dedup();
    asked
}

fn report(rails: &Rails, test: &Path, dense: bool, judged: &[Judged]) -> Report {
    let (harmful, safe): (Vec<_>, Vec<_>) = judged.iter().partition(|one| one.line.harmful);
    let asked = asked(judged);
    let [positives, negatives] =
        [&harmful, &safe].map(|part| part.iter().map(|one| any(&one.scores, &asked)).collect::<Vec<_>>());
    let stopped = |part: &[&Judged]| part.iter().filter(|one| one.stopped).count();
    let (hits, alarms) = (stopped(&harmful), stopped(&safe));
    let times: Vec<f64> = judged.iter().map(|one| one.us).collect();
    Report {
        file: test.display().to_string(),
        tier: if dense { "dense" } else { "linear" },
        policy: rails.policy_id().to_owned(),
        n_unsafe: harmful.len(),
        n_safe: safe.len(),
        recall: share(hits, harmful.len()),
        fpr: share(alarms, safe.len()),
        precision: share(hits, hits + alarms),
        auroc: stats::auroc(&positives, &negatives),
        auprc: stats::average_precision(&positives, &negatives).filter(|_| !negatives.is_empty()),
        recall_at_fpr_2: stats::recall_at_fpr(LOW, &positives, &negatives),
        recall_at_fpr_5: stats::recall_at_fpr(HIGH, &positives, &negatives),
        p50_us: stats::percentile(&times, 0.5),
        by_category: by_category(judged, &asked),
    }
}

fn share(part: usize, whole: usize) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

fn by_category(judged: &[Judged], asked: &[Category]) -> BTreeMap<String, CategoryReport> {
    let named = judged.iter().flat_map(|one| &one.line.categories).cloned();
    let alarms = judged.iter().filter(|one| !one.line.harmful).flat_map(|one| &one.reached);
    let names = named.chain(alarms.map(|category| category.name().to_owned()));
    let names: std::collections::BTreeSet<String> = names.collect();
    names.into_iter().map(|name| (name.clone(), category(judged, &name, asked))).collect()
}

fn category(judged: &[Judged], name: &str, asked: &[Category]) -> CategoryReport {
    let ours = Category::named(name);
    let (own, others): (Vec<_>, Vec<_>) =
        judged.iter().partition(|one| one.line.categories.iter().any(|category| category == name));
    // The score of a category nobody knows is that of the text as a whole.
    let score = |one: &&Judged| match ours {
        Some(category) => one.scores[category as usize],
        None => any(&one.scores, asked),
    };
    let [positives, negatives] = [&own, &others].map(|part| part.iter().map(score).collect::<Vec<_>>());
    let alarm = |one: &&Judged| !one.line.harmful && ours.is_some_and(|ours| one.reached.contains(&ours));
    CategoryReport {
        n: own.len(),
        recall: share(own.iter().filter(|one| one.stopped).count(), own.len()),
        false_alarms: judged.iter().filter(alarm).count(),
        auroc: stats::auroc(&positives, &negatives),
        auprc: stats::average_precision(&positives, &negatives).filter(|_| !negatives.is_empty()),
        recall_at_fpr_2: stats::recall_at_fpr(LOW, &positives, &negatives),
    }
}
