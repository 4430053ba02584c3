//! Intents with their examples: tables of TOML, lines of JSONL.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::Deserialize;
use toml::Spanned;

use crate::problem::{Place, plain_json};
use crate::read::{Lines, Problem, Problems, Reader, finish, is_name, parse};
use crate::types::*;

const MAX_EXAMPLE_BYTES: usize = 2000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct IntentFile {
    /// Utterances of no intent.
    #[serde(default)]
    out_of_scope: Vec<Spanned<String>>,
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
    handoff: bool,
    #[serde(default)]
    examples: Vec<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ExampleLine {
    text: String,
    /// Null for an utterance of no intent; a line that forgets it is none.
    #[serde(deserialize_with = "Option::deserialize")]
    intent: Option<String>,
}

/// What the files under `intents/` hold.
#[derive(Default)]
pub(crate) struct Utterances {
    pub(crate) intents: Vec<Intent>,
    /// Utterances of no intent, each with where it stands.
    pub(crate) out_of_scope: Vec<(Place, String)>,
}

/// Intents in the making, with where each thing stands.
struct Intents<'a> {
    assistant: &'a Assistant,
    intents: Vec<Intent>,
    out_of_scope: Vec<(Place, String)>,
    /// The owner by the normal form: an intent, or none.
    examples: BTreeMap<String, Option<String>>,
    /// Intents that someone gave an example, a refused one too.
    exampled: BTreeSet<String>,
    problems: Vec<Problem>,
}

pub(crate) fn read(reader: &Reader, assistant: &Assistant) -> Result<Utterances, Problems> {
    let mut found = Intents {
        assistant,
        intents: Vec::new(),
        out_of_scope: Vec::new(),
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
                for example in entries.out_of_scope {
                    found.example(file, lines.at(example.span().start), None, example.into_inner());
                }
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
            found.problems.push(Problem::new(&intent.place.file, intent.place.line, message));
        }
    }
    if found.intents.is_empty() && found.problems.is_empty() {
        found.problems.push(Problem::new("intents", 0, "no intent, at least one is needed"));
    }
    finish(Utterances { intents: found.intents, out_of_scope: found.out_of_scope }, found.problems)
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
        if let Some(other) = self.intents.iter().find(|intent| intent.name == entry.name) {
            return refuse(line, format!("duplicate intent {:?}, first at {}", entry.name, other.place));
        }
        let category = self.assistant.categories.get(entry.category.get_ref());
        if category.is_none() {
            let known: Vec<_> = self.assistant.categories.keys().map(String::as_str).collect();
            let (name, category) = (&entry.name, entry.category.get_ref());
            let message = format!("unknown category {category:?} of {name:?}, allowed {}", known.join(", "));
            refuse(lines.at(entry.category.span().start), message);
        }
        let intent = Intent {
            name: entry.name,
            title: entry.title,
            category: entry.category.into_inner(),
            risk: entry.risk.or(category.map(|category| category.risk)).unwrap_or_default(),
            description: entry.description,
            threshold: entry.threshold.map(Spanned::into_inner),
            handoff: entry.handoff,
            examples: Vec::new(),
            place: Place { file: file.to_owned(), line },
            example_places: Vec::new(),
        };
        self.intents.push(intent);
        let index = self.intents.len() - 1;
        for example in entry.examples {
            self.example(file, lines.at(example.span().start), Some(index), example.into_inner());
        }
    }

    fn line(&mut self, file: &Path, number: usize, line: &str) {
        if line.trim().is_empty() {
            return;
        }
        let example = match serde_json::from_str::<ExampleLine>(line) {
            Ok(example) => example,
            Err(error) => {
                let message =
                    format!("is no example {{\"text\", \"intent\" or null}}: {}", plain_json(&error));
                return self.problems.push(Problem::new(file, number, message));
            }
        };
        let Some(name) = example.intent else { return self.example(file, number, None, example.text) };
        match self.intents.iter().position(|intent| intent.name == name) {
            Some(index) => self.example(file, number, Some(index), example.text),
            None => {
                let message = format!("unknown intent {name:?}; describe it in a table of intents/*.toml");
                self.problems.push(Problem::new(file, number, message));
            }
        }
    }

    /// An example of the intent at `index`, or of none.
    fn example(&mut self, file: &Path, line: usize, index: Option<usize>, example: String) {
        let mut refuse = |message: String| self.problems.push(Problem::new(file, line, message));
        let owner = index.map(|index| self.intents[index].name.clone());
        self.exampled.extend(owner.clone());
        if example.trim().is_empty() {
            let what = if example.is_empty() { "is empty" } else { "holds only spaces" };
            return refuse(format!("example {what}, allowed 1 to {MAX_EXAMPLE_BYTES} bytes with a word"));
        }
        if example.len() > MAX_EXAMPLE_BYTES {
            return refuse(format!("example of {} bytes, allowed 1 to {MAX_EXAMPLE_BYTES}", example.len()));
        }
        let known = self.examples.entry(text::normalise(&example)).or_insert_with(|| owner.clone());
        if *known != owner {
            let [one, other] = [&owner, known].map(|owner| match owner {
                Some(name) => format!("{name:?}"),
                None => "out_of_scope".to_owned(),
            });
            return refuse(format!("example {example:?} of {one} is also one of {other}"));
        }
        let place = Place { file: file.to_owned(), line };
        match index.map(|index| &mut self.intents[index]) {
            Some(intent) => {
                intent.examples.push(example);
                intent.example_places.push(place);
            }
            None => self.out_of_scope.push((place, example)),
        }
    }
}
