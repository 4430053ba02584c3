//! `firstline eval`: figures of a stage on a data set.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Subcommand;
use encoder::Encoder;
use kit::config::{Settings, Tier};
use serde::Serialize;

use crate::cli::{GoldenArgs, RailArg, TierArg};
use crate::show;

#[derive(Subcommand)]
pub(crate) enum EvalCommand {
    /// Intent classification and out-of-scope detection
    Intents {
        /// Training examples, JSONL of {"text", "intent" or null}
        #[arg(long, value_name = "FILE")]
        train: PathBuf,
        /// Validation examples, for the threshold
        #[arg(long, value_name = "FILE")]
        val: Option<PathBuf>,
        /// Test examples
        #[arg(long, value_name = "FILE")]
        test: PathBuf,
        /// Words alone, or words and the sentence encoder; default: server.encoder.tier
        #[arg(long, value_enum)]
        tier: Option<TierArg>,
    },
    /// Asking for a person in other words, an intent of the platform itself
    Handoff {
        /// Messages, JSONL of {"text", "handoff": true or false}
        #[arg(long, value_name = "FILE")]
        test: PathBuf,
        /// Words alone, or words and the sentence encoder; default: server.encoder.tier
        #[arg(long, value_enum)]
        tier: Option<TierArg>,
    },
    /// The input rail: attacks and harm caught, ordinary messages stopped
    Safety {
        /// Messages, JSONL of {"text", "unsafe": true or false, "categories": [...]}; several files give one table
        #[arg(long, value_name = "FILE", required = true)]
        test: Vec<PathBuf>,
        /// Folder of a bundle whose policy, lexicons and examples count too; default: the platform's own alone
        #[arg(long, value_name = "DIR")]
        bundle: Option<PathBuf>,
        /// What customers write, or passages of a knowledge base with planted instructions
        #[arg(long, value_enum, default_value = "input")]
        rail: RailArg,
        /// Words alone, or words and the sentence encoder; default: server.encoder.tier
        #[arg(long, value_enum)]
        tier: Option<TierArg>,
    },
    /// The whole assistant: golden questions through all stages, in this process
    Assistant(GoldenArgs),
    /// What each measure that saves tokens does to cost and quality of golden questions
    Tokens(crate::tokens::TokensArgs),
    /// Passage retrieval
    Retrieval {
        /// Folder in BEIR layout: corpus.jsonl, queries.jsonl, qrels/test.tsv
        #[arg(long, value_name = "DIR")]
        beir: PathBuf,
        /// Words alone, or words and the sentence encoder; default: server.encoder.tier
        #[arg(long, value_enum)]
        tier: Option<TierArg>,
    },
    /// Whether answers are supported by what they were written from
    Grounding {
        /// Test answers, JSONL of {"knowledge", "question", "response", "grounded"}
        #[arg(long, value_name = "FILE")]
        test: PathBuf,
        /// Answers to choose the weight of shared words and the threshold on; default: generator.overlap_weight and
        /// generator.sentence_threshold
        #[arg(long, value_name = "FILE")]
        dev: Option<PathBuf>,
    },
    /// Personal data and secrets
    Pii {
        /// Texts, JSONL of {"text", "spans": [{"type", "start", "end"}]}, offsets in characters
        #[arg(long, value_name = "FILE")]
        test: PathBuf,
    },
}

/// The encoder of the tier asked for, which must be there: a figure of another tier would mislead.
pub(crate) fn encoder(settings: &Settings, tier: Option<TierArg>) -> anyhow::Result<Option<Encoder>> {
    let config = settings.server()?.encoder;
    let dense = tier.map_or(config.tier == Tier::Dense, |tier| matches!(tier, TierArg::Dense));
    Ok(if dense { Some(Encoder::open(&config)?) } else { None })
}

/// `eval intents`.
pub(crate) fn intents(
    encoder: Option<&Encoder>,
    train: &Path,
    val: Option<&Path>,
    test: &Path,
    as_json: bool,
) -> anyhow::Result<bool> {
    let train = classifier::read_examples(train)?;
    let val = val.map(classifier::read_examples).transpose()?;
    let test = classifier::read_examples(test)?;
    anyhow::ensure!(!test.is_empty(), "--test: has no example, at least one is needed");
    let bar = show::Bar::new("training");
    let report =
        classifier::evaluate(encoder, &train, val.as_deref(), &test, &|done, total| bar.set(done, total))?;
    bar.finish();
    print(&report, as_json)
}

/// `eval handoff`.
pub(crate) fn handoff(encoder: Option<&Encoder>, test: &Path, as_json: bool) -> anyhow::Result<bool> {
    let bar = show::Bar::new("training");
    let report = classifier::evaluate_handoff(encoder, test, &|done, total| bar.set(done, total))?;
    bar.finish();
    print(&report, as_json)
}

/// `eval retrieval`.
pub(crate) fn retrieval(
    settings: &Settings,
    encoder: Option<Encoder>,
    beir: &Path,
    as_json: bool,
) -> anyhow::Result<bool> {
    let config = settings.table::<retriever::Config>(retriever::NAME)?;
    let bar = show::Bar::new("measuring");
    let encoder = encoder.map(Arc::new);
    let report = retriever::evaluate(beir, encoder, &config, &|done, total| bar.set(done, total))?;
    bar.finish();
    print(&report, as_json)
}

/// `eval grounding`.
pub(crate) fn grounding(
    settings: &Settings,
    test: &Path,
    dev: Option<&Path>,
    as_json: bool,
) -> anyhow::Result<bool> {
    let config = settings.table::<generator::Config>(generator::NAME)?;
    let test = generator::read_examples(test)?;
    let dev = dev.map(generator::read_examples).transpose()?;
    anyhow::ensure!(!test.is_empty(), "--test: has no example, at least one is needed");
    print(&generator::evaluate(&test, dev.as_deref(), &config), as_json)
}

/// `eval safety`.
pub(crate) fn safety(
    settings: &Settings,
    encoder: Option<&Encoder>,
    bundle: Option<&Path>,
    rail: safety::Rail,
    tests: &[PathBuf],
    as_json: bool,
) -> anyhow::Result<bool> {
    let config = settings.table::<safety::Config>(safety::NAME)?;
    let bar = show::Bar::new("training the guard");
    let told = |done, total| bar.set(done, total);
    let rails = match bundle {
        Some(bundle) => safety::rails(&bundle::Reader::open(bundle)?, encoder, &config, &told)?,
        None => {
            let guard = safety::platform(&settings.server()?.data_dir.join("eval"), encoder, &told)?;
            safety::Rails::new(safety::Policy::baseline()?, &[], Arc::new(guard), config.max_slot_chars)?
        }
    };
    let reports = tests.iter().map(|test| safety::evaluate(&rails, rail, encoder, test, &told));
    let reports = reports.collect::<Result<Vec<_>, _>>()?;
    bar.finish();
    match &reports[..] {
        [report] if as_json => print(report, true),
        reports if as_json => {
            show::line(&serde_json::to_string(reports)?);
            Ok(true)
        }
        reports => {
            table(reports);
            Ok(true)
        }
    }
}

/// A line for each data set, and below it one for each of its categories.
fn table(reports: &[safety::Report]) {
    let figure = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.4}"));
    let heads = ["unsafe", "safe", "recall", "fpr", "precision", "auroc", "auprc", "r@2%", "r@5%"];
    show::line(&format!("{:<28}{}", "", heads.map(|head| format!("{head:>10}")).concat()));
    for report in reports {
        let name = Path::new(&report.file).file_stem().unwrap_or_default().to_string_lossy();
        let figures = [
            report.n_unsafe.to_string(),
            report.n_safe.to_string(),
            figure(report.recall),
            figure(report.fpr),
            figure(report.precision),
            figure(report.auroc),
            figure(report.auprc),
            figure(report.recall_at_fpr_2),
            figure(report.recall_at_fpr_5),
        ];
        show::line(&format!("{name:<28}{}", figures.map(|value| format!("{value:>10}")).concat()));
        for (name, category) in &report.by_category {
            let figures = [
                category.n.to_string(),
                category.false_alarms.to_string(),
                figure(category.recall),
                String::new(),
                String::new(),
                figure(category.auroc),
                figure(category.auprc),
                figure(category.recall_at_fpr_2),
            ];
            show::line(&format!("  {name:<26}{}", figures.map(|value| format!("{value:>10}")).concat()));
        }
        show::line(&format!("  tier {}, {} us a text", report.tier, figure(report.p50_us)));
    }
}

/// `eval pii`: a row a type.
pub(crate) fn pii(test: &Path, as_json: bool) -> anyhow::Result<bool> {
    let test = safety::read_pii_examples(test)?;
    anyhow::ensure!(!test.is_empty(), "--test: has no example, at least one is needed");
    let report = safety::evaluate_pii(&test);
    if as_json {
        return print(&report, true);
    }
    show::line(&format!(
        "{:<20}{:>8}{:>8}{:>8}{:>10}{:>11}{:>9}{:>9}",
        "type", "n", "found", "masked", "detected", "precision", "recall", "F2"
    ));
    let rows = report.types.iter().map(|(name, figures)| (name.as_str(), figures));
    for (name, figures) in rows.chain([("micro", &report.micro)]) {
        let safety::PiiFigures { n, found, masked, detected, .. } = figures;
        let rate = |rate: Option<f64>| rate.map_or("-".to_owned(), |rate| format!("{rate:.4}"));
        let (precision, recall, f2) = (rate(figures.precision), rate(figures.recall), rate(figures.f2));
        show::line(&format!(
            "{name:<20}{n:>8}{found:>8}{masked:>8}{detected:>10}{precision:>11}{recall:>9}{f2:>9}"
        ));
    }
    for (name, n) in &report.without_detector {
        show::line(&format!("{name:<20}{n:>8}    no detector"));
    }
    Ok(true)
}

fn print(report: &impl Serialize, as_json: bool) -> anyhow::Result<bool> {
    let report = serde_json::to_value(report)?;
    if as_json {
        show::line(&report.to_string());
        return Ok(true);
    }
    for (name, value) in report.as_object().into_iter().flatten() {
        let value = match value.as_f64() {
            Some(number) if value.is_f64() => format!("{number:.4}"),
            _ => value.to_string(),
        };
        show::line(&format!("{name:<32}{value:>12}"));
    }
    Ok(true)
}
