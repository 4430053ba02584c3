//! A new bundle from existing material.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use crate::knowledge::slug;
use crate::read::{Problem, Problems};
use crate::types::Document;

/// Writes a new bundle: settings with safe defaults, one table an intent, the documents as JSONL.
/// `examples` are utterances with their intent, or none when they are out of scope; `categories` holds the
/// category, `[a-z][a-z0-9_]*`, by intent, and an intent without one goes to "general".
/// The folder appears whole or not at all. Returns how many examples were left out because the same
/// words already stand under another intent, or under none: a bundle refuses such contradictions.
///
/// # Errors
/// The folder exists already, or cannot be written.
pub fn scaffold(
    root: &Path,
    name: &str,
    documents: &[Document],
    examples: &[(String, Option<String>)],
    categories: &BTreeMap<String, String>,
) -> Result<usize, Problems> {
    let fail = |error: std::io::Error| Problem::new(root, 0, format!("cannot be written: {error}"));
    if root.exists() {
        return Err(Problem::new(root, 0, "exists already; choose another folder or delete it").into());
    }
    let parent = root.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::create_dir_all(parent).map_err(fail)?;
    let staging = parent.join(format!(".{}.new", root.file_name().unwrap_or_default().to_string_lossy()));
    let _ = std::fs::remove_dir_all(&staging);
    let write = |file: &str, text: String| {
        let path = staging.join(file);
        path.parent().map_or(Ok(()), std::fs::create_dir_all)?;
        std::fs::write(path, text)
    };
    let (by_intent, contradictions) = by_intent(examples);
    let files = intents(&by_intent, categories);
    write("assistant.toml", assistant(name, files.keys())).map_err(fail)?;
    for (category, tables) in files {
        write(&format!("intents/{category}.toml"), tables).map_err(fail)?;
    }
    if let Some(examples) = by_intent.get(&None) {
        let list = format!(
            "# What customers ask and this assistant is not for.\nout_of_scope = [\n{}]\n",
            items(examples)
        );
        write("intents/out_of_scope.toml", list).map_err(fail)?;
    }
    write("knowledge/documents.jsonl", jsonl(documents)).map_err(fail)?;
    std::fs::rename(&staging, root).map_err(fail)?;
    Ok(contradictions)
}

fn assistant<'a>(name: &str, categories: impl Iterator<Item = &'a &'a str>) -> String {
    let category =
        |name: &&str| format!("[categories.{name}]\ntitle = {}\nrisk = \"low\"\n", quote(&title(name)));
    let categories: String = categories.map(category).collect();
    let name = Some(slug(name)).filter(|name| !name.is_empty()).unwrap_or_else(|| "assistant".to_owned());
    format!(
        r#"schema = 1
name = "{name}"
title = "Assistant"
locales = ["en"]
greeting = "Hello, how can I help?"

[handoff]
message = "I am passing you to a colleague, who sees what you have written so far."
[handoff.keywords]
en = ["human", "representative"]

# When people are there: without it always.
# [business_hours]
# timezone = "Europe/London"
# monday = "09:00-12:30, 13:30-17:00"
# holidays = [2026-12-25]

# Give each category of intents the risk of a wrong answer: low, medium or high.
{categories}"#
    )
}

/// The examples of each intent and of none, and how many were left out.
fn by_intent(examples: &[(String, Option<String>)]) -> (BTreeMap<Option<&str>, Vec<&str>>, usize) {
    let mut by_intent: BTreeMap<Option<&str>, Vec<&str>> = BTreeMap::new();
    let mut owners = BTreeMap::new();
    let mut contradictions = 0;
    for (text, intent) in examples {
        let intent = intent.as_deref();
        let owner = *owners.entry(text::normalise(text)).or_insert(intent);
        contradictions += usize::from(owner != intent);
        if owner == intent {
            by_intent.entry(intent).or_default().push(text);
        }
    }
    (by_intent, contradictions)
}

/// The tables of each category.
fn intents<'c>(
    by_intent: &BTreeMap<Option<&str>, Vec<&str>>,
    categories: &'c BTreeMap<String, String>,
) -> BTreeMap<&'c str, String> {
    let mut names = BTreeMap::<String, usize>::new();
    let mut files = BTreeMap::<&str, String>::new();
    for (original, examples) in by_intent.iter().filter_map(|(intent, examples)| Some(((*intent)?, examples)))
    {
        let mut name = slug(original).replace('-', "_");
        if !name.starts_with(|c: char| c.is_ascii_lowercase()) {
            name.insert_str(0, "intent_");
        }
        name.retain(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
        // Two labels that differ in punctuation alone stay two intents.
        let uses = names.entry(name.clone()).or_default();
        *uses += 1;
        if *uses > 1 {
            let _ = write!(name, "_{uses}");
        }
        let category = categories.get(original).map_or("general", String::as_str);
        let out = files.entry(category).or_default();
        let _ = writeln!(out, "[[intent]]\nname = {}\ntitle = {}", quote(&name), quote(&title(original)));
        let _ = writeln!(out, "category = {}\nexamples = [\n{}]\n", quote(category), items(examples));
    }
    files
}

/// A name in words.
fn title(name: &str) -> String {
    let words = name.replace(['_', '-'], " ");
    words.chars().take(1).flat_map(char::to_uppercase).chain(words.chars().skip(1)).collect()
}

fn items(examples: &[&str]) -> String {
    examples.iter().map(|example| format!("    {},\n", quote(example))).collect()
}

fn quote(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

fn jsonl(documents: &[Document]) -> String {
    let line =
        |document: &Document| serde_json::to_string(document).map(|line| line + "\n").unwrap_or_default();
    documents.iter().map(line).collect()
}
