//! `firstline bundle`: new, check, build.

use std::collections::BTreeMap;
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
    let (examples, categories) = read_intents(intents)?;
    let usable = examples.iter().any(|(_, intent)| intent.is_some());
    anyhow::ensure!(usable, "{}: no example has an intent, at least one is needed", intents.display());
    let folder = dir.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let contradictions = bundle::scaffold(dir, name.unwrap_or(&folder), &documents, &examples, &categories)?;
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

type Examples = Vec<(String, Option<String>)>;

/// Examples of a file, or of the files of a folder, each named after the category of its intents; with the
/// category by intent.
fn read_intents(source: &Path) -> anyhow::Result<(Examples, BTreeMap<String, String>)> {
    let mut categories = BTreeMap::new();
    if !source.is_dir() {
        return Ok((read_file(source)?, categories));
    }
    let entries =
        std::fs::read_dir(source).with_context(|| format!("{}: cannot be read", source.display()))?;
    let mut files: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    files.retain(|file| file.extension().is_some_and(|ending| ending == "jsonl"));
    files.sort();
    anyhow::ensure!(!files.is_empty(), "{}: has no .jsonl file, at least one is needed", source.display());
    let mut examples = Vec::new();
    for file in files {
        let category =
            bundle::slug(&file.file_stem().unwrap_or_default().to_string_lossy()).replace('-', "_");
        let fits = category.starts_with(|c: char| c.is_ascii_lowercase()) && category.is_ascii();
        anyhow::ensure!(fits, "{}: names no category, allowed [a-z][a-z0-9_]*", file.display());
        for (text, intent) in read_file(&file)? {
            if let Some(intent) = &intent {
                let other = "is for examples of no intent: name the file after a category";
                anyhow::ensure!(category != "out_of_scope", "{}: {other}", file.display());
                let known = categories.entry(intent.clone()).or_insert_with(|| category.clone());
                let what = "allowed one category an intent";
                anyhow::ensure!(
                    *known == category,
                    "{}: {intent:?} is in {known:?} too, {what}",
                    file.display()
                );
            }
            examples.push((text, intent));
        }
    }
    Ok((examples, categories))
}

fn read_file(file: &Path) -> anyhow::Result<Examples> {
    let examples = classifier::read_examples(file)?;
    for (index, classifier::Example { text, intent }) in examples.iter().enumerate() {
        let bytes = text.trim().len();
        let named = intent.as_ref().is_none_or(|intent| !intent.trim().is_empty());
        let what = "allowed a text of 1 to 2000 bytes and an intent with a name, or null";
        let place = format!("{}: example {}", file.display(), index + 1);
        anyhow::ensure!(named && (1..=2000).contains(&bytes), "{place}: {what}");
    }
    Ok(examples.into_iter().map(|example| (example.text, example.intent)).collect())
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
            "bundle": built.bundle, "classifier": built.classifier, "guard": built.guard,
            "index": built.index,
            "seconds": built.seconds, "tier": built.tier,
        });
        show::line(&out.to_string());
    } else {
        let Built { bundle, classifier, guard, index, seconds, tier } = built;
        show::line(&format!(
            "bundle {bundle}: classifier {classifier}, guard {guard}, index {index}, tier {tier}, {seconds:.1} s"
        ));
    }
    Ok(true)
}

/// What a build left in `.build/`.
pub(crate) struct Built {
    bundle: String,
    classifier: String,
    guard: String,
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
    let bar = show::Bar::new("training the guard");
    let guard = safety::build(&reader, encoder, &|done, total| bar.set(done, total)).context("safety")?;
    bar.finish();
    let bar = show::Bar::new("building the index");
    let index =
        retriever::build(&reader, encoder, &|done, total| bar.set(done, total)).context("retriever")?;
    bar.finish();
    Ok(Built {
        bundle: reader.hash().to_owned(),
        classifier: model.version,
        guard: guard.version().to_owned(),
        index: index.version,
        seconds: start.elapsed().as_secs_f64(),
        tier: tier.describe(),
    })
}
