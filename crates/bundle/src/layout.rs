//! Which files a bundle may have: a misspelt name must not go unread in silence.

use std::path::{Path, PathBuf};

use crate::problem::Problem;

/// Questions with what should come of them, in a bundle.
pub const QUESTIONS: &str = "eval/questions.jsonl";
/// How the assistant is switched on, beside a bundle.
pub(crate) const ROLLOUT: &str = "rollout.toml";
/// What customers had before, and have who are not treated.
pub(crate) const MENU: &str = "menu.toml";
/// Files of the format.
const FILES: [&str; 8] = [
    "assistant.toml",
    "curated.toml",
    MENU,
    ROLLOUT,
    "safety/policy.toml",
    QUESTIONS,
    "eval/grounding.jsonl",
    "eval/grounding_dev.jsonl",
];
/// Folders of the format, each with the endings or the names its files may have.
const FOLDERS: [(&str, &[&str]); 7] = [
    ("intents", &[".toml", ".jsonl"]),
    ("knowledge", &[".md", ".jsonl", "synonyms.toml"]),
    ("workflows/descriptors", &[".binpb"]),
    ("workflows", &[".toml"]),
    ("prompts", &["answer.j2"]),
    ("safety/lexicons", &[".toml"]),
    ("safety/examples", &[".jsonl"]),
];
const ALLOWED: &str = "assistant.toml, curated.toml, menu.toml, rollout.toml, intents/, knowledge/, workflows/, prompts/, safety/, eval/ and notes such as README.md";
const ALLOWED_IN_SAFETY: &str = "policy.toml, lexicons/ and examples/";
const ALLOWED_IN_EVAL: &str = "questions.jsonl, grounding.jsonl and grounding_dev.jsonl";

/// What measures or paces the assistant and is nothing of it: its hash stays the same when a question is added or
/// a stage is made longer.
pub(crate) fn is_beside(name: &Path) -> bool {
    name.starts_with("eval") || name == Path::new(ROLLOUT)
}

/// What stands at the top of a bundle, of `safety/` or of `eval/` and is no part of the format. Hidden
/// entries are free.
pub(crate) fn strangers(root: &Path) -> Vec<Problem> {
    let places = [("", ALLOWED), ("safety", ALLOWED_IN_SAFETY), ("eval", ALLOWED_IN_EVAL)];
    let found = places.map(|(folder, allowed)| {
        let strange = entries(root, folder).into_iter().filter(|(name, is_dir)| !known(name, *is_dir));
        strange.map(move |(name, is_dir)| {
            let name = if is_dir { name.join("") } else { name };
            Problem::new(name, 0, format!("is no part of a bundle, allowed {allowed}"))
        })
    });
    found.into_iter().flatten().collect()
}

/// Entries of a folder with whether each is a folder, sorted; none when it is no folder.
fn entries(root: &Path, folder: &str) -> Vec<(PathBuf, bool)> {
    let entries = std::fs::read_dir(root.join(folder)).into_iter().flatten().flatten();
    let mut entries: Vec<_> = entries
        .filter(|entry| !entry.file_name().as_encoded_bytes().starts_with(b"."))
        .map(|entry| (Path::new(folder).join(entry.file_name()), entry.path().is_dir()))
        .collect();
    entries.sort();
    entries
}

fn known(name: &Path, is_dir: bool) -> bool {
    if is_dir {
        let split = ["safety", "eval"].iter().any(|folder| name == Path::new(folder));
        return split || FOLDERS.iter().any(|(folder, _)| name == Path::new(folder));
    }
    let note = name.extension().is_some_and(|kind| kind == "md")
        || name.file_stem().is_some_and(|stem| stem == "LICENSE");
    let note = note && name.components().count() == 1;
    note || FILES.iter().any(|file| name == Path::new(file))
}

/// A file inside a folder of the format must be of a kind that is read there.
pub(crate) fn check_kind(file: &Path) -> Result<(), Problem> {
    let Some((folder, kinds)) = FOLDERS.iter().find(|(folder, _)| file.starts_with(folder)) else {
        return Ok(());
    };
    let name = file.to_string_lossy();
    let fits = |kind: &&str| match kind.strip_prefix('.') {
        Some(_) => name.ends_with(kind),
        None => file == Path::new(folder).join(kind),
    };
    if kinds.iter().any(fits) {
        return Ok(());
    }
    let message = format!("is no part of a bundle, allowed in {folder}/: {}", kinds.join(" and "));
    Err(Problem::new(file, 0, message))
}
