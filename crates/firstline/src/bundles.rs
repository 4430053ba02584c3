//! `firstline bundle`: new, check, build.

use std::path::Path;
use std::time::Instant;

use anyhow::Context as _;
use bundle::{Audience, Reader};
use kit::config::{self, Settings};
use serde_json::json;

use crate::show;

/// `bundle new`.
pub(crate) fn new(
    dir: &Path,
    kb: &Path,
    intents: &Path,
    name: Option<&str>,
    audience: Audience,
    as_json: bool,
) -> anyhow::Result<bool> {
    let program = std::env::current_exe().context("the program's own path is not known")?;
    let worker = ingest::Worker::new(program, vec!["ingest-one".to_owned()]);
    let imported = ingest::read(kb, audience, &worker)?;
    let ingest::Imported { documents, defaulted, problems, notes, skipped } = imported;
    let examples = classifier::read_examples(intents)?;
    let examples: Vec<_> = examples.into_iter().map(|example| (example.text, example.intent)).collect();
    for (index, (text, intent)) in examples.iter().enumerate() {
        let bytes = text.trim().len();
        let named = intent.as_ref().is_none_or(|intent| !intent.trim().is_empty());
        let what = "allowed a text of 1 to 2000 bytes and an intent with a name, or null";
        anyhow::ensure!(
            named && (1..=2000).contains(&bytes),
            "{}: example {}: {what}",
            intents.display(),
            index + 1
        );
    }
    let usable = examples.iter().any(|(_, intent)| intent.is_some());
    anyhow::ensure!(usable, "{}: no example has an intent, at least one is needed", intents.display());
    let folder = dir.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let contradictions = bundle::scaffold(dir, name.unwrap_or(&folder), &documents, &examples)?;
    let internal = documents.iter().filter(|document| document.audience == Audience::Internal).count();
    for line in problems.iter().chain(&notes) {
        eprintln!("{line}");
    }
    if !problems.is_empty() {
        eprintln!("not imported, as said above: {}; the rest is", problems.len());
    }
    if !skipped.is_empty() {
        let skipped: Vec<_> = skipped.iter().map(|(what, n)| format!("{n} {what}")).collect();
        eprintln!("skipped: {}", skipped.join(", "));
    }
    if !ingest::limits_memory() {
        eprintln!("this system does not limit the memory of a document's reader: import only what you trust");
    }
    if defaulted > 0 {
        eprintln!("{defaulted} articles do not say who may read them: taken as {audience:?}, see --audience");
    }
    if contradictions > 0 {
        eprintln!(
            "{contradictions} examples left out: the same words stand under another intent, or under none"
        );
    }
    let n = examples.len();
    if as_json {
        let out = json!({
            "dir": dir, "documents": documents.len(), "internal": internal,
            "examples": n, "left_out": contradictions, "skipped": skipped,
            "problems": problems.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "notes": notes.iter().map(ToString::to_string).collect::<Vec<_>>(),
        });
        show::line(&out.to_string());
    } else {
        show::line(&format!(
            "{}: {} articles ({internal} internal), {n} examples\nnext: firstline bundle build {}",
            dir.display(),
            documents.len(),
            dir.display()
        ));
    }
    Ok(true)
}

/// `ingest-one`: reads one untrusted document from standard input, for `bundle new`.
pub(crate) fn ingest_one(format: &str) -> anyhow::Result<bool> {
    ingest::serve(format)?;
    Ok(true)
}

/// `bundle check`. Problems go to stderr, one a line; with `--json` to stdout as a list.
pub(crate) fn check(dir: &Path, as_json: bool) -> anyhow::Result<bool> {
    let checked = Reader::open(dir).map_err(anyhow::Error::from);
    match checked.and_then(|reader| validate(&reader).map(|counts| (reader, counts))) {
        Ok((reader, counts)) if as_json => {
            let counts: serde_json::Map<_, _> =
                counts.iter().map(|(what, n)| (what.replace(' ', "_"), json!(n))).collect();
            show::line(
                &json!({ "ok": true, "bundle": reader.hash(), "counts": counts, "problems": [] }).to_string(),
            );
            Ok(true)
        }
        Ok((reader, counts)) => {
            let counts: Vec<_> = counts.iter().map(|(what, n)| format!("{n} {what}")).collect();
            show::line(&format!(
                "{} is valid, bundle {}: {}",
                dir.display(),
                reader.hash(),
                counts.join(", ")
            ));
            Ok(true)
        }
        Err(error) => {
            let text = format!("{error:#}");
            if as_json {
                show::line(&json!({ "ok": false, "problems": text.lines().collect::<Vec<_>>() }).to_string());
            } else {
                eprintln!("{text}");
            }
            Ok(false)
        }
    }
}

/// Every file on its own, what refers to what, and what only the stages know of their parts.
pub(crate) fn validate(reader: &Reader) -> anyhow::Result<Vec<(&'static str, usize)>> {
    let counts = bundle::check(reader)?;
    safety::check(reader)?;
    generator::check(reader)?;
    workflow::check(reader)?;
    Ok(counts)
}

/// `bundle build`.
pub(crate) fn build_command(dir: &Path, settings: &Settings, as_json: bool) -> anyhow::Result<bool> {
    let built = build_now(dir, &settings.server()?.encoder)?;
    if as_json {
        let out = json!({
            "bundle": built.bundle, "classifier": built.classifier, "index": built.index,
            "seconds": built.seconds, "tier": built.tier,
        });
        show::line(&out.to_string());
    } else {
        let Built { bundle, classifier, index, seconds, tier } = built;
        show::line(&format!(
            "bundle {bundle}: classifier {classifier}, index {index}, tier {tier}, {seconds:.1} s"
        ));
    }
    Ok(true)
}

/// What a build left in `.build/`.
pub(crate) struct Built {
    bundle: String,
    classifier: String,
    index: String,
    seconds: f64,
    tier: String,
}

/// Builds what is missing; cheap when nothing changed.
pub(crate) async fn build(dir: &Path, encoder: &config::Encoder) -> anyhow::Result<()> {
    let (dir, encoder) = (dir.to_owned(), encoder.clone());
    tokio::task::spawn_blocking(move || build_now(&dir, &encoder)).await?.map(|_| ())
}

pub(crate) fn build_now(dir: &Path, encoder: &config::Encoder) -> anyhow::Result<Built> {
    let start = Instant::now();
    let reader = Reader::open(dir)?;
    // A bundle is used whole or not at all.
    validate(&reader)?;
    let tier = encoder::Opened::new(encoder);
    let encoder = tier.encoder().map(AsRef::as_ref);
    let bar = show::Bar::new("training the classifier");
    let model =
        classifier::build(&reader, encoder, &|done, total| bar.set(done, total)).context("classifier")?;
    bar.finish();
    let bar = show::Bar::new("building the index");
    let index =
        retriever::build(&reader, encoder, &|done, total| bar.set(done, total)).context("retriever")?;
    bar.finish();
    Ok(Built {
        bundle: reader.hash().to_owned(),
        classifier: model.version,
        index: index.version,
        seconds: start.elapsed().as_secs_f64(),
        tier: tier.describe(),
    })
}
