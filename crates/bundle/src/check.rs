//! What is checked across the parts of a bundle.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::Deserialize;
use toml::Spanned;

use crate::read::{Lines, Problem, Problems, Reader, check_template, find_key, finish, is_name, parse};
use crate::types::*;

const MAX_EXAMPLE_BYTES: usize = 2000;

/// Reads every part of a bundle and checks what refers to what. Returns a count by part, in words.
///
/// # Errors
/// All problems of all parts.
pub fn check(reader: &Reader) -> Result<Vec<(&'static str, usize)>, Problems> {
    let mut problems = Vec::new();
    fn keep<T: Default>(part: Result<T, Problems>, problems: &mut Vec<Problem>) -> T {
        part.unwrap_or_else(|found| {
            problems.extend(found.0);
            T::default()
        })
    }
    for file in reader.strangers() {
        let allowed = "allowed assistant.toml, intents/, knowledge/, curated.toml, workflows/, prompts/, safety/policy.toml, safety/lexicons/";
        problems.push(Problem::new(file, 0, format!("is no part of a bundle, {allowed}")));
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
    let curated = keep(reader.curated(), &mut problems);
    let workflows = keep(reader.workflows(), &mut problems);
    let prompts = keep(reader.prompts(), &mut problems);
    keep(reader.policy(), &mut problems);
    let lexicons = keep(reader.lexicons(), &mut problems);
    if problems.is_empty() {
        problems.extend(references(reader, &intents, &documents, &curated, &workflows));
    }
    let counts = vec![
        ("intents", intents.len()),
        ("examples", intents.iter().map(|intent| intent.examples.len()).sum()),
        ("documents", documents.len()),
        ("curated answers", curated.len()),
        ("workflows", workflows.len()),
        ("prompts", prompts.len()),
        ("lexicons", lexicons.len()),
    ];
    finish(counts, problems)
}

fn references(
    reader: &Reader,
    intents: &[Intent],
    documents: &[Document],
    curated: &[Curated],
    workflows: &[Workflow],
) -> Vec<Problem> {
    let mut problems = Vec::new();
    let names: BTreeSet<_> = intents.iter().map(|intent| intent.name.as_str()).collect();
    let audiences: BTreeMap<_, _> =
        documents.iter().map(|document| (document.id.as_str(), document.audience)).collect();
    let curated_text = reader.text(Path::new("curated.toml")).unwrap_or_default();
    for (answer, id) in curated.iter().flat_map(|answer| answer.documents.iter().map(move |id| (answer, id)))
    {
        let line = find_key(&curated_text, id);
        let message = match audiences.get(id.as_str()) {
            Some(Audience::Public) => continue,
            Some(Audience::Internal) => format!("answer {:?} cites {id:?}, which is internal", answer.id),
            None => format!("answer {:?} cites {id:?}, which is no document", answer.id),
        };
        problems.push(Problem::new("curated.toml", line, message));
    }
    for (answer, intent) in
        curated.iter().flat_map(|answer| answer.intents.iter().map(move |name| (answer, name)))
    {
        if !names.contains(intent.as_str()) {
            let message = format!("answer {:?} names intent {intent:?}, which does not exist", answer.id);
            problems.push(Problem::new("curated.toml", find_key(&curated_text, intent), message));
        }
    }
    let mut proposed = BTreeMap::new();
    for workflow in workflows {
        let file = Path::new("workflows").join(format!("{}.toml", workflow.name));
        for intent in &workflow.intents {
            if !names.contains(intent.as_str()) {
                problems.push(Problem::new(&file, 0, format!("intent {intent:?} does not exist")));
            }
            if let Some(other) = proposed.insert(intent, &workflow.name) {
                problems.push(Problem::new(
                    &file,
                    0,
                    format!("intent {intent:?} already proposes {other:?}"),
                ));
            }
        }
    }
    problems
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
    category: String,
    #[serde(default)]
    risk: Option<Risk>,
    #[serde(default)]
    description: String,
    #[serde(default)]
    threshold: Option<f64>,
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
    problems: Vec<Problem>,
}

pub(crate) fn intents(reader: &Reader, assistant: &Assistant) -> Result<Vec<Intent>, Problems> {
    let mut found = Intents {
        assistant,
        intents: Vec::new(),
        place: BTreeMap::new(),
        examples: BTreeMap::new(),
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
        if intent.examples.is_empty() {
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
        let mut refuse = |message: String| self.problems.push(Problem::new(file, line, message));
        if !is_name(&entry.name) {
            refuse(format!("intent name {:?}, allowed [a-z][a-z0-9_]*", entry.name));
        }
        if entry.threshold.is_some_and(|value| !(0.0..=1.0).contains(&value)) {
            refuse(format!("threshold of {:?} is out of range, allowed 0..=1", entry.name));
        }
        if let Some(other) = self.place.get(&entry.name) {
            return refuse(format!("duplicate intent {:?}, first at {other}", entry.name));
        }
        let Some(category) = self.assistant.categories.get(&entry.category) else {
            let known: Vec<_> = self.assistant.categories.keys().map(String::as_str).collect();
            let (name, category) = (&entry.name, &entry.category);
            return refuse(format!(
                "unknown category {category:?} of {name:?}, allowed {}",
                known.join(", ")
            ));
        };
        let intent = Intent {
            name: entry.name.clone(),
            title: entry.title,
            category: entry.category,
            risk: entry.risk.unwrap_or(category.risk),
            description: entry.description,
            threshold: entry.threshold,
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
                let message = format!("is no example {{\"text\", \"intent\"}}: {error}");
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
        if example.trim().is_empty() || example.len() > MAX_EXAMPLE_BYTES {
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

pub(crate) fn workflows(reader: &Reader) -> Result<Vec<Workflow>, Problems> {
    let mut workflows = Vec::<Workflow>::new();
    let mut problems = Vec::new();
    for file in reader.under("workflows") {
        let read = reader.text(file).and_then(|text| Ok((parse::<Workflow>(file, &text)?, text)));
        match read {
            Ok((workflow, text)) => {
                problems.extend(check_workflow(file, &text, &workflow));
                if workflows.iter().any(|other| other.name == workflow.name) {
                    let message = format!("duplicate workflow {:?}", workflow.name);
                    problems.push(Problem::new(file, find_key(&text, "name"), message));
                }
                workflows.push(workflow);
            }
            Err(problem) => problems.push(problem),
        }
    }
    finish(workflows, problems)
}

fn check_workflow(file: &Path, text: &str, workflow: &Workflow) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut refuse =
        |key: &str, message: String| problems.push(Problem::new(file, find_key(text, key), message));
    let request = &workflow.request;
    if !is_name(&workflow.name) {
        refuse("name", format!("name {:?}, allowed [a-z][a-z0-9_]*", workflow.name));
    }
    if !(0.0..=1.0).contains(&workflow.threshold) {
        refuse("threshold", format!("threshold is {}, allowed 0..=1", workflow.threshold));
    }
    if workflow.intents.is_empty() {
        refuse("intents", "intents is empty, at least one is needed".to_owned());
    }
    if !request.path.starts_with('/') || request.path.contains("{{") {
        refuse("path", format!("path {:?}, allowed a fixed path that begins with /", request.path));
    }
    if !(100..=30_000).contains(&request.timeout_ms) {
        refuse("timeout_ms", format!("timeout_ms is {}, allowed 100..=30000", request.timeout_ms));
    }
    if !(1..=10).contains(&request.max_attempts) {
        refuse("max_attempts", format!("max_attempts is {}, allowed 1..=10", request.max_attempts));
    }
    let mut names = BTreeSet::new();
    for slot in &workflow.slots {
        if !is_name(&slot.name) || !names.insert(&slot.name) {
            refuse(&slot.name, format!("slot {:?}, allowed [a-z][a-z0-9_]*, each once", slot.name));
        }
        let pattern = match &slot.kind {
            SlotKind::Pattern { pattern } => Some(pattern),
            SlotKind::OrderId { pattern } => pattern.as_ref(),
            SlotKind::Choice { choices } if choices.is_empty() => {
                refuse(&slot.name, format!("slot {:?} has no choices", slot.name));
                None
            }
            _ => None,
        };
        if let Some(Err(error)) = pattern.map(|pattern| regex::Regex::new(pattern)) {
            let error = error.to_string().lines().last().unwrap_or_default().to_owned();
            refuse("pattern", format!("pattern of slot {:?} is no regular expression: {error}", slot.name));
        }
    }
    let mut templates = vec![("confirmation", workflow.confirmation.as_str()), ("done", &workflow.done)];
    templates.extend(request.body.iter().filter_map(|(key, value)| Some((key.as_str(), value.as_str()?))));
    for (key, template) in templates {
        if let Err(problem) = check_template(file, template) {
            problems.push(Problem::new(file, find_key(text, key), format!("{key}: {}", problem.message)));
        }
    }
    problems
}
