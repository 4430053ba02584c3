//! `firstline eval`: figures of a stage on a data set.

use std::path::Path;
use std::sync::Arc;

use encoder::Encoder;
use kit::config::{Settings, Tier};
use serde::Serialize;

use crate::cli::TierArg;
use crate::show;

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
