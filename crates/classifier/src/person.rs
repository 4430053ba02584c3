//! Asking for a person in other words: an intent of the platform, present in every bundle.

use std::fs;

use bundle::Reader;
use encoder::{Encoder, Vectors};
use serde::{Deserialize, Serialize};

use crate::build::{keep, load};
use crate::classify::Model;
use crate::file::FORMAT;
use crate::train::{Error, Example, train};

/// Utterances of customers of many trades with whether they ask for a person, written for this project.
const UTTERANCES: &str = include_str!("../data/handoff.jsonl");
const PERSON: &str = "person";
const OTHER: &str = "other";
/// The probability from which a message asks for a person. Few messages do, while a quarter of the utterances
/// do, and half of the others are made to look alike: five-fold cross-validation with three in a hundred asking
/// is flat in F1 from 0.85 to 0.95.
const THRESHOLD: f64 = 0.9;

/// Tells whether a message asks for a person.
#[derive(Debug, Clone)]
pub(crate) struct Person(Model);

impl Person {
    /// Trains on the platform's utterances.
    pub(crate) fn train(
        vectors: Option<&mut Vectors<'_>>,
        progress: &(dyn Fn(u64, u64) + Sync),
    ) -> Result<Self, Error> {
        Ok(Self(train(&examples(), vectors, None, progress)?))
    }

    /// The model kept with a bundle, made when it is not there or of another encoder.
    pub(crate) fn build(
        reader: &Reader,
        encoder: Option<&Encoder>,
        progress: &(dyn Fn(u64, u64) + Sync),
    ) -> Result<(), Error> {
        if Self::open(reader, encoder).is_ok() {
            return Ok(());
        }
        let mut vectors = encoder.map(|encoder| Vectors::open(&reader.build_dir(), PERSON, encoder));
        let Self(model) = Self::train(vectors.as_mut(), progress)?;
        keep(&path(reader), &model)
    }

    /// Loads the model kept with a bundle.
    pub(crate) fn open(reader: &Reader, encoder: Option<&Encoder>) -> Result<Self, Error> {
        load(&path(reader), reader, encoder).map(Self)
    }

    /// Probability that a message asks for a person, 0..=1.
    pub(crate) fn score(&self, text: &str, vector: Option<&[f32]>) -> f64 {
        let ranked = self.0.classify(text, vector).ranked;
        let person = ranked.iter().find(|(place, _)| self.0.intents()[*place] == PERSON);
        person.map_or(0.0, |(_, probability)| *probability)
    }

    /// Whether a score stands for asking.
    pub(crate) fn asks(score: f64) -> bool {
        score >= THRESHOLD
    }
}

fn path(reader: &Reader) -> std::path::PathBuf {
    let hash = blake3::Hasher::new().update(&FORMAT.to_le_bytes()).update(UTTERANCES.as_bytes()).finalize();
    reader.build_dir().join(format!("person-{}.model", &hash.to_hex()[..16]))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    text: String,
    handoff: bool,
}

fn parse(text: &str) -> impl Iterator<Item = (usize, Result<Line, serde_json::Error>)> {
    let lines = (1..).zip(text.lines()).filter(|(_, text)| !text.trim().is_empty());
    lines.map(|(line, text)| (line, serde_json::from_str(text)))
}

fn examples() -> Vec<Example> {
    let intent = |asks: bool| Some(if asks { PERSON } else { OTHER }.to_owned());
    let example = |Line { text, handoff }: Line| Example { text, intent: intent(handoff) };
    // The file is part of the program; a test reads every line of it.
    parse(UTTERANCES).filter_map(|(_, line)| line.ok()).map(example).collect()
}

/// How well asking for a person is found; a figure without meaning is `None`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct HandoffReport {
    /// "linear" or "dense".
    pub tier: &'static str,
    /// Test items.
    pub n: usize,
    /// Share of those found that ask, 0..=1.
    pub precision: Option<f64>,
    /// Share of those that ask that are found, 0..=1.
    pub recall: Option<f64>,
    /// Harmonic mean of the two, 0..=1.
    pub f1: Option<f64>,
}

/// The figures on a JSONL file of `{"text": "...", "handoff": true or false}`.
///
/// # Errors
/// The file cannot be read, a line of it is no such object, or the encoder fails.
pub fn evaluate_handoff(
    encoder: Option<&Encoder>,
    test: &std::path::Path,
    progress: &(dyn Fn(u64, u64) + Sync),
) -> Result<HandoffReport, Error> {
    let text = fs::read_to_string(test).map_err(|source| Error::File { path: test.to_owned(), source })?;
    let mut items = Vec::new();
    for (line, item) in parse(&text) {
        items.push(item.map_err(|source| Error::HandoffLine { path: test.to_owned(), line, source })?);
    }
    let mut vectors = encoder.map(Vectors::in_memory);
    let person = Person::train(vectors.as_mut(), progress)?;
    let (mut found, mut right, mut all) = (0.0, 0.0, 0.0);
    for Line { text, handoff } in &items {
        let vector = encoder.map(|encoder| encoder.embed(text)).transpose()?;
        let asks = Person::asks(person.score(text, vector.as_deref()));
        found += f64::from(asks);
        all += f64::from(*handoff);
        right += f64::from(asks && *handoff);
    }
    let share = |part: f64, whole: f64| (whole > 0.0).then(|| part / whole);
    Ok(HandoffReport {
        tier: if encoder.is_some() { "dense" } else { "linear" },
        n: items.len(),
        precision: share(right, found),
        recall: share(right, all),
        f1: share(2.0 * right, found + all),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_platforms_utterances_are_whole_and_say_each_thing_once() {
        let mut seen = std::collections::BTreeMap::new();
        for (line, item) in parse(UTTERANCES) {
            let Line { text, handoff } = item.unwrap_or_else(|error| panic!("line {line}: {error}"));
            let before = seen.insert(text::normalise(&text), handoff);
            assert!(before.is_none_or(|before| before == handoff), "line {line}: {text}");
        }
        assert!(seen.len() > 3000);
    }

    #[test]
    fn asking_for_a_person_is_told_from_speaking_of_one() {
        let person = Person::train(None, &|_, _| {}).unwrap();
        let asks = |text: &str| Person::asks(person.score(text, None));
        for text in [
            "let me talk to someone",
            "this bot is useless, get me a human",
            "can I speak with a real person about my loan?",
        ] {
            assert!(asks(text), "{text}: {}", person.score(text, None));
        }
        for text in [
            "how much is a transfer to another person",
            "your agent told me it would take two days",
            "what are your opening hours",
            "",
        ] {
            assert!(!asks(text), "{text}: {}", person.score(text, None));
        }
    }
}
