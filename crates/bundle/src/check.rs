//! What is checked across the parts of a bundle.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::Spanned;

use crate::place::{line_of, nearest};
use crate::problem::plain_json;
use crate::read::{Lines, Problem, Problems, Reader, finish, is_name, parse};
use crate::types::*;
use crate::{layout, questions, workflows};

const MAX_EXAMPLE_BYTES: usize = 2000;

/// Reads every part of a bundle and checks what refers to what. Returns a count by part, in words.
///
/// # Errors
/// All problems of all parts.
pub fn check(reader: &Reader) -> Result<Vec<(&'static str, usize)>, Problems> {
    let mut problems = layout::strangers(reader.root());
    fn keep<T: Default>(part: Result<T, Problems>, problems: &mut Vec<Problem>) -> T {
        part.unwrap_or_else(|found| {
            problems.extend(found.0);
            T::default()
        })
    }
    let assistant = reader.assistant();
    let intents = match &assistant {
        Ok(assistant) => keep(intents(reader, assistant), &mut problems),
        Err(found) => {
            problems.extend(found.0.clone());
            Vec::new()
        }
    };
    let documents = keep(reader.knowledge(), &mut problems);
    let synonyms = keep(reader.synonyms(), &mut problems);
    let curated = keep(reader.curated(), &mut problems);
    let workflows = keep(workflows::workflows(reader), &mut problems);
    let prompts = keep(reader.prompts(), &mut problems);
    keep(reader.policy(), &mut problems);
    let lexicons = keep(reader.lexicons(), &mut problems);
    let asked = keep(questions::shipped(reader), &mut problems);
    if problems.is_empty() {
        problems.extend(questions::references(Path::new(layout::QUESTIONS), &asked, &intents, &documents));
        problems.extend(references(reader, &intents, &documents, &curated, &workflows));
    }
    let counts = vec![
        ("intents", intents.len()),
        ("examples", intents.iter().map(|intent| intent.examples.len()).sum()),
        ("documents", documents.len()),
        ("synonyms", synonyms.len()),
        ("curated answers", curated.len()),
        ("workflows", workflows.len()),
        ("prompts", prompts.len()),
        ("lexicons", lexicons.len()),
        ("questions", asked.len()),
    ];
    finish(counts, problems)
}

fn references(
    reader: &Reader,
    intents: &[Intent],
    documents: &[Document],
    curated: &[Curated],
    workflows: &[(PathBuf, Workflow)],
) -> Vec<Problem> {
    let names: BTreeSet<_> = intents.iter().map(|intent| intent.name.as_str()).collect();
    let mut problems = curated_references(reader, &names, documents, curated);
    let mut proposed = BTreeMap::new();
    for (file, workflow) in workflows {
        let mut refuse = |intent: &str, message: String| {
            let line = reader.text(file).map_or(0, |text| line_of(&text, &["intents", intent]));
            problems.push(Problem::new(file, line, message));
        };
        for intent in &workflow.intents {
            if !names.contains(intent.as_str()) {
                refuse(intent, no_intent(intent, &names));
            }
            if let Some(other) = proposed.insert(intent, &workflow.name) {
                let message =
                    format!("intent {intent:?} already proposes {other:?}, allowed one workflow an intent");
                refuse(intent, message);
            }
        }
    }
    problems
}

fn curated_references(
    reader: &Reader,
    names: &BTreeSet<&str>,
    documents: &[Document],
    curated: &[Curated],
) -> Vec<Problem> {
    let mut problems = Vec::new();
    let audiences: BTreeMap<_, _> =
        documents.iter().map(|document| (document.id.as_str(), document.audience)).collect();
    let text = reader.text(Path::new("curated.toml")).unwrap_or_default();
    let mut refuse = |path: [&str; 3], what: String| {
        let line = line_of(&text, &["answer", path[0], path[1], path[2]]);
        problems.push(Problem::new("curated.toml", line, format!("answer {:?}: {what}", path[0])));
    };
    for answer in curated {
        for id in &answer.documents {
            let message = match audiences.get(id.as_str()) {
                Some(Audience::Public) => continue,
                Some(Audience::Internal) => format!("document {id:?} is internal, allowed public ones"),
                None => no_name("document", id, audiences.keys().copied(), "the id of one in knowledge/"),
            };
            refuse([&answer.id, "documents", id], message);
        }
        for intent in answer.intents.iter().filter(|intent| !names.contains(intent.as_str())) {
            refuse([&answer.id, "intents", intent], no_intent(intent, names));
        }
    }
    problems
}

fn no_intent(written: &str, names: &BTreeSet<&str>) -> String {
    no_name("intent", written, names.iter().copied(), "the name of one in intents/")
}

pub(crate) fn no_name<'n>(
    what: &str,
    written: &str,
    known: impl Iterator<Item = &'n str>,
    allowed: &str,
) -> String {
    let such_as = nearest(written, known).map(|name| format!(", such as {name:?}")).unwrap_or_default();
    format!("{what} {written:?} does not exist, allowed {allowed}{such_as}")
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct IntentFile {
    #[serde(default)]
    intent: Vec<Spanned<IntentEntry>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct IntentEntry {
    name: String,
    title: String,
    category: Spanned<String>,
    #[serde(default)]
    risk: Option<Risk>,
    #[serde(default)]
    description: String,
    #[serde(default)]
    threshold: Option<Spanned<f64>>,
    #[serde(default)]
    examples: Vec<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ExampleLine {
    text: String,
    intent: String,
}

/// Intents in the making, with where each thing stands.
struct Intents<'a> {
    assistant: &'a Assistant,
    intents: Vec<Intent>,
    place: BTreeMap<String, String>,
    examples: BTreeMap<String, String>,
    /// Intents that someone gave an example, a refused one too.
    exampled: BTreeSet<String>,
    problems: Vec<Problem>,
}

pub(crate) fn intents(reader: &Reader, assistant: &Assistant) -> Result<Vec<Intent>, Problems> {
    let mut found = Intents {
        assistant,
        intents: Vec::new(),
        place: BTreeMap::new(),
        examples: BTreeMap::new(),
        exampled: BTreeSet::new(),
        problems: Vec::new(),
    };
    let (lines, tables): (Vec<_>, Vec<_>) = reader
        .under("intents")
        .partition(|file| file.extension().is_some_and(|extension| extension == "jsonl"));
    // Tables first: a line of examples may belong to an intent that a table describes.
    for file in tables {
        let read = reader.text(file).and_then(|text| Ok((parse::<IntentFile>(file, &text)?, text)));
        match read {
            Ok((entries, text)) => {
                let lines = Lines::of(&text);
                entries.intent.into_iter().for_each(|entry| found.entry(file, &lines, entry));
            }
            Err(problem) => found.problems.push(problem),
        }
    }
    for file in lines {
        match reader.text(file) {
            Ok(text) => text.lines().enumerate().for_each(|(index, line)| found.line(file, index + 1, line)),
            Err(problem) => found.problems.push(problem),
        }
    }
    for intent in &found.intents {
        if !found.exampled.contains(&intent.name) {
            let message = format!("intent {:?} has no examples, at least one is needed", intent.name);
            let place = &found.place[&intent.name];
            let (file, line) = place.rsplit_once(':').unwrap_or((place, "0"));
            found.problems.push(Problem::new(file, line.parse().unwrap_or(0), message));
        }
    }
    if found.intents.is_empty() && found.problems.is_empty() {
        found.problems.push(Problem::new("intents", 0, "no intent, at least one is needed"));
    }
    finish(found.intents, found.problems)
}

impl Intents<'_> {
    fn entry(&mut self, file: &Path, lines: &Lines, entry: Spanned<IntentEntry>) {
        let line = lines.at(entry.span().start);
        let entry = entry.into_inner();
        let mut refuse = |line: usize, message: String| self.problems.push(Problem::new(file, line, message));
        if !is_name(&entry.name) {
            refuse(line, format!("intent name {:?}, allowed [a-z][a-z0-9_]*", entry.name));
        }
        let threshold = entry.threshold.as_ref();
        if let Some(value) = threshold.filter(|value| !(0.0..=1.0).contains(value.get_ref())) {
            let message = format!("threshold of {:?} is {}, allowed 0..=1", entry.name, value.get_ref());
            refuse(lines.at(value.span().start), message);
        }
        if let Some(other) = self.place.get(&entry.name) {
            return refuse(line, format!("duplicate intent {:?}, first at {other}", entry.name));
        }
        let category = self.assistant.categories.get(entry.category.get_ref());
        if category.is_none() {
            let known: Vec<_> = self.assistant.categories.keys().map(String::as_str).collect();
            let (name, category) = (&entry.name, entry.category.get_ref());
            let message = format!("unknown category {category:?} of {name:?}, allowed {}", known.join(", "));
            refuse(lines.at(entry.category.span().start), message);
        }
        let intent = Intent {
            name: entry.name.clone(),
            title: entry.title,
            category: entry.category.into_inner(),
            risk: entry.risk.or(category.map(|category| category.risk)).unwrap_or_default(),
            description: entry.description,
            threshold: entry.threshold.map(Spanned::into_inner),
            examples: Vec::new(),
        };
        self.place.insert(entry.name, format!("{}:{line}", file.display()));
        self.intents.push(intent);
        let index = self.intents.len() - 1;
        for example in entry.examples {
            self.example(file, lines.at(example.span().start), index, example.into_inner());
        }
    }

    fn line(&mut self, file: &Path, number: usize, line: &str) {
        if line.trim().is_empty() {
            return;
        }
        let example = match serde_json::from_str::<ExampleLine>(line) {
            Ok(example) => example,
            Err(error) => {
                let message = format!("is no example {{\"text\", \"intent\"}}: {}", plain_json(&error));
                return self.problems.push(Problem::new(file, number, message));
            }
        };
        let index = self.intents.iter().position(|intent| intent.name == example.intent);
        match index {
            Some(index) => self.example(file, number, index, example.text),
            None => {
                let message =
                    format!("unknown intent {:?}; describe it in a table of intents/*.toml", example.intent);
                self.problems.push(Problem::new(file, number, message));
            }
        }
    }

    fn example(&mut self, file: &Path, line: usize, index: usize, example: String) {
        let mut refuse = |message: String| self.problems.push(Problem::new(file, line, message));
        let intent = &mut self.intents[index];
        self.exampled.insert(intent.name.clone());
        if example.trim().is_empty() {
            let what = if example.is_empty() { "is empty" } else { "holds only spaces" };
            return refuse(format!("example {what}, allowed 1 to {MAX_EXAMPLE_BYTES} bytes with a word"));
        }
        if example.len() > MAX_EXAMPLE_BYTES {
            return refuse(format!("example of {} bytes, allowed 1 to {MAX_EXAMPLE_BYTES}", example.len()));
        }
        match self.examples.get(&text::normalise(&example)) {
            Some(other) if *other != intent.name => {
                refuse(format!("example {example:?} of {:?} is also one of {other:?}", intent.name));
            }
            _ => {
                self.examples.insert(text::normalise(&example), intent.name.clone());
                intent.examples.push(example);
            }
        }
    }
}
