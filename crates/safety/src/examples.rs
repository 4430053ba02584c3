//! Examples for the guard: what is harmful, and what only looks so.

use serde::Deserialize;

use crate::error::Error;
use crate::policy::Category;

macro_rules! shipped {
    ($($name:literal),+ $(,)?) => {
        [$((concat!("safety/src/examples/", $name, ".jsonl"), include_str!(concat!("examples/", $name, ".jsonl")))),+]
    };
}

/// The platform's own examples, written for it.
const SHIPPED: [(&str, &str); 28] = shipped!(
    "articles",
    "attacks",
    "bank",
    "behaviours",
    "depictions",
    "direct",
    "distress",
    "documents",
    "everyday",
    "extraction",
    "handbooks",
    "helppages",
    "hijacks",
    "howto",
    "illegal",
    "innocent",
    "jailbreaks",
    "languages",
    "multilingual",
    "posts",
    "requests",
    "schemes",
    "selfharm_sexual",
    "support",
    "switches",
    "triggers",
    "twins",
    "violence_hate",
);
/// The files with pieces of documents, and those of them that nobody pastes into a message.
const DOCUMENTS: [&str; 4] = ["articles", "documents", "handbooks", "helppages"];
const READ_ONLY: [&str; 3] = ["articles", "handbooks", "helppages"];
/// Examples of a bundle in a row that belong to the same fold: twins, one harmful and one not, stand together.
const TOGETHER: usize = 10;
/// Folds of the cross-validation. The platform's files are held out whole: what is judged then was written by
/// somebody else about something else than what was learned from, as it is with customers.
pub(crate) const FOLDS: usize = 8;

/// Which categories a text belongs to, by their number.
pub(crate) type Marks = [bool; Category::ALL.len()];

/// A text with what it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Example {
    pub(crate) text: String,
    pub(crate) marks: Marks,
    /// Whether a customer may write it.
    pub(crate) message: bool,
    /// Whether a knowledge base may hold it; harmless words are harmless there too.
    pub(crate) document: bool,
    /// The part of the cross-validation it is held out in.
    pub(crate) fold: usize,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    text: String,
    categories: Vec<String>,
}

/// The platform's examples.
pub(crate) fn shipped() -> Result<Vec<Example>, Error> {
    let mut examples = Vec::new();
    for (index, (file, text)) in SHIPPED.into_iter().enumerate() {
        let before = examples.len();
        read(file, text, &mut examples)?;
        let is_of = |names: &[&str]| names.iter().any(|name| file.ends_with(&format!("/{name}.jsonl")));
        for example in &mut examples[before..] {
            example.message = !is_of(&READ_ONLY);
            example.document |= is_of(&DOCUMENTS);
            example.fold = index % FOLDS;
        }
    }
    Ok(examples)
}

/// The texts of the platform's examples, for the name of a model.
pub(crate) fn fingerprint(hasher: &mut blake3::Hasher) {
    for (_, text) in SHIPPED {
        hasher.update(&(text.len() as u64).to_le_bytes()).update(text.as_bytes());
    }
}

/// Adds the examples of a file, a JSON object a line.
fn read(file: &str, text: &str, examples: &mut Vec<Example>) -> Result<(), Error> {
    for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let place = format!("{file}:{}", index + 1);
        let Line { text, categories } =
            serde_json::from_str(line).map_err(|source| Error::Example { place: place.clone(), source })?;
        examples.push(example(&place, text, &categories, index)?);
    }
    Ok(())
}

fn example(place: &str, text: String, categories: &[String], index: usize) -> Result<Example, Error> {
    let mut marks = Marks::default();
    for name in categories {
        marks[Category::parse(place, name)? as usize] = true;
    }
    let document = !marks.contains(&true)
        || marks[Category::PromptInjection as usize]
        || marks[Category::PromptExtraction as usize];
    Ok(Example { text, marks, message: true, document, fold: index / TOGETHER % FOLDS })
}

/// What a bundle adds: its own examples, and the examples of its intents, which its customers write every day
/// and which are no harm. Intents that go to a person at once are left out: some are there for distress.
///
/// # Errors
/// A part of the bundle that does not validate, or a category nobody knows.
pub(crate) fn of_bundle(reader: &bundle::Reader) -> anyhow::Result<Vec<Example>> {
    let mut examples = Vec::new();
    for (index, own) in reader.safety_examples()?.into_iter().enumerate() {
        examples.push(example(&own.place.to_string(), own.text, &own.categories, index)?);
    }
    let harmless = |index: usize, text: String| Example {
        text,
        marks: Marks::default(),
        message: true,
        document: true,
        fold: index / TOGETHER % FOLDS,
    };
    let intents = reader.intents()?.into_iter().filter(|intent| !intent.handoff);
    let asked = intents.flat_map(|intent| intent.examples);
    let others = reader.out_of_scope()?.into_iter().map(|(_, text)| text);
    examples.extend(asked.chain(others).enumerate().map(|(index, text)| harmless(index, text)));
    Ok(examples)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_platforms_examples_are_whole_and_say_each_thing_once() {
        let examples = shipped().unwrap();
        let mut seen = std::collections::BTreeMap::new();
        for example in &examples {
            let before = seen.insert(text::normalise(&example.text), example.marks);
            assert!(before.is_none_or(|before| before == example.marks), "{}", example.text);
        }
        let count =
            |wanted: &dyn Fn(&Marks) -> bool| examples.iter().filter(|one| wanted(&one.marks)).count();
        let is_attack = |marks: &Marks| {
            marks[Category::PromptInjection as usize] || marks[Category::PromptExtraction as usize]
        };
        assert!(count(&|marks| marks.contains(&true)) >= 4000);
        assert!(count(&is_attack) >= 2000);
        assert!(count(&|marks| !marks.contains(&true)) >= 4000);
        for (category, name) in
            Category::ALL.into_iter().filter(|(category, _)| *category != Category::Secrets)
        {
            assert!(count(&|marks| marks[category as usize]) >= 50, "{name}");
        }
    }
}
