//! Everything that figures are made of, of all turns of a window and of each group of them.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher};

use super::figure::Figure;
use super::figures;
use super::sample::Sample;
use super::tally::{Metrics, Tally};
use crate::config::Config;
use crate::record::{Arm, Error};

/// Most groups that are told apart; the rest is one.
const MAX_GROUPS: usize = 100;
/// The group of what is beyond.
const REST: &str = "(other)";
/// The group of what has no category, intent or model.
const NONE: &str = "(none)";
/// Most intents whose category is remembered.
const MAX_INTENTS: usize = 4096;

/// What figures are told apart by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the contract documents each")]
pub enum By {
    Nothing,
    Arm,
    Category,
    Intent,
    Model,
}

/// What a turn may be told apart by; empty means none.
#[derive(Debug, Clone, Copy)]
pub struct Kind<'a> {
    /// Arm of the conversation.
    pub arm: Arm,
    /// Category of the intent.
    pub category: &'a str,
    /// Name of the intent.
    pub intent: &'a str,
    /// Name of the model.
    pub model: &'a str,
}

impl By {
    fn of<'a>(self, kind: &Kind<'a>) -> Option<&'a str> {
        let name = match self {
            Self::Nothing => return None,
            Self::Arm => kind.arm.name(),
            Self::Category => kind.category,
            Self::Intent => kind.intent,
            Self::Model => kind.model,
        };
        Some(if name.is_empty() { NONE } else { name })
    }
}

/// What a customer said of a conversation.
#[derive(Debug, Clone, Copy)]
pub struct Rating<'a> {
    /// Id of the conversation.
    pub conversation_id: &'a str,
    /// What the turn it is about may be told apart by, the conversation's last one when it is about the whole.
    pub kind: Kind<'a>,
    /// Rating 1..=5, 0 without one.
    pub rating: u8,
    /// Whether the problem is solved, if said.
    pub resolved: Option<bool>,
}

/// A label that says another intent than the classifier.
#[derive(Debug, Clone, Copy)]
pub struct Correction<'a> {
    /// Id of the turn.
    pub turn_id: &'a str,
    /// Id of its conversation.
    pub conversation_id: &'a str,
    /// What the turn may be told apart by.
    pub kind: Kind<'a>,
    /// The right intent.
    pub intent: &'a str,
    /// Whether a person of the company said so.
    pub by_agent: bool,
}

/// What a second judge says of an answer.
#[derive(Debug, Clone, Copy)]
pub struct Verdict<'a> {
    /// What its turn may be told apart by.
    pub kind: Kind<'a>,
    /// Sentences that state something; 0 where something else than support was judged.
    pub claims: u32,
    /// Those of them without support.
    pub unsupported: u32,
    /// Name and version of the judge.
    pub judge: &'a str,
    /// What judging cost, in billionths of a US dollar.
    pub cost_nanos: u64,
    /// Prices of that, empty without any.
    pub prices: &'a str,
}

/// What comes of a window.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// The counts of all turns.
    pub metrics: Metrics,
    /// Every figure: of all turns, then of each group.
    pub figures: Vec<Figure>,
}

/// Adds up a window. Its memory grows with conversations (some 80 bytes each, again for each group they are in)
/// and corrected turns (8 bytes), not with turns.
#[derive(Debug)]
pub struct Window {
    by: By,
    all: Tally,
    groups: BTreeMap<String, Tally>,
    /// The category of an intent, both by their hashes.
    categories: HashMap<u64, u64>,
}

/// A hash of a name or id; at a million of them two share one with a chance below 3 in 10^8. 0 for an empty one.
pub(super) fn hashed(name: &str) -> u64 {
    if name.is_empty() { 0 } else { BuildHasherDefault::<DefaultHasher>::default().hash_one(name) }
}

impl Window {
    /// An empty window.
    pub fn new(by: By) -> Self {
        Self { by, all: Tally::new(true), groups: BTreeMap::new(), categories: HashMap::new() }
    }

    /// The tallies that something counts in.
    fn tallies(&mut self, kind: &Kind<'_>) -> impl Iterator<Item = &mut Tally> {
        let group = self.by.of(kind).map(|name| {
            let full = self.groups.len() >= MAX_GROUPS && !self.groups.contains_key(name);
            let name = if full { REST } else { name };
            // Stages are told apart for the few arms only: each has a histogram.
            self.groups.entry(name.to_owned()).or_insert_with(|| Tally::new(self.by == By::Arm))
        });
        [Some(&mut self.all), group].into_iter().flatten()
    }

    /// Adds one turn; turns come in the order of their time.
    ///
    /// # Errors
    /// `Malformed` when a timing is beyond what a histogram holds; stored ones are at most a day.
    pub fn add(&mut self, turn: &Sample<'_>, config: &Config) -> Result<(), Error> {
        let intent = hashed(turn.kind.intent);
        if intent != 0 && self.categories.len() < MAX_INTENTS {
            self.categories.insert(intent, hashed(turn.kind.category));
        }
        self.tallies(&turn.kind).try_for_each(|tally| tally.add(turn, config))
    }

    /// Adds what a customer said.
    pub fn rate(&mut self, rating: &Rating<'_>) {
        self.tallies(&rating.kind).for_each(|tally| tally.rate(rating));
    }

    /// Adds a label; those of all turns come first.
    pub fn correct(&mut self, label: &Correction<'_>) {
        let category = self.categories.get(&hashed(label.intent));
        // Where nothing is known of the right intent, it may well lie elsewhere.
        let elsewhere = category.is_none_or(|category| *category != hashed(label.kind.category));
        self.tallies(&label.kind).for_each(|tally| tally.correct(label, elsewhere));
    }

    /// Adds a turn that was drawn with a probability and labelled by a person.
    pub fn audit(&mut self, kind: &Kind<'_>, hit: bool, probability: f64) {
        self.tallies(kind).for_each(|tally| tally.audited.add(hit, probability));
    }

    /// Adds what a second judge says of an answer.
    pub fn evaluate(&mut self, verdict: &Verdict<'_>) {
        self.tallies(&verdict.kind).for_each(|tally| tally.evaluate(verdict));
    }

    /// What comes of it, at the end of the window in microseconds since 1970.
    pub fn report(self, to_us: i64, config: &Config) -> Report {
        let metrics = self.all.metrics();
        let mut figures = figures::of("", &self.all, to_us, config);
        for (name, group) in &self.groups {
            figures.extend(figures::of(name, group, to_us, config));
        }
        if self.by == By::Arm {
            let arm = |arm: Arm| self.groups.get(arm.name());
            figures.extend(figures::csat_delta(arm(Arm::Treatment), arm(Arm::Control), to_us, config));
        }
        Report { metrics, figures }
    }
}
