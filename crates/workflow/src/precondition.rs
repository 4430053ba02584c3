//! Preconditions: what has to be true of slots, customer, intent and the action rail's verdict before an effect.

use std::collections::{BTreeMap, HashMap};

use cel::Value;
use jiff::Timestamp;
use jiff::civil::Date;

use crate::catalogue::{Error, Workflow};
use crate::condition::{Condition, Facts, Record};
use crate::converse::Progress;
use crate::slot::{Kind, Slot};
use crate::template::render;

/// A compiled precondition.
#[derive(Debug)]
pub(crate) struct Precondition {
    when: Condition,
    /// A constant.
    pub(crate) reason: String,
    message: String,
}

/// What a precondition looks at besides the execution.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Circumstances<'a> {
    /// Attributes of the customer, from the caller of the assistant and never from the customer's words; `None` once
    /// the turn that brought them is over.
    pub(crate) customer: Option<&'a BTreeMap<String, String>>,
    /// What the action rail found in what would be sent: scores, 0..=1, of the categories over their thresholds;
    /// `None` while it has not looked, and later.
    pub(crate) verdict: Option<&'a BTreeMap<String, f64>>,
    /// The time.
    pub(crate) now: Timestamp,
    /// The day where the company is.
    pub(crate) today: Date,
}

/// Why a precondition lets an execution not pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Failed {
    /// It is false; with its reason.
    False(String),
    /// It cannot be evaluated; with its reason and what is wrong.
    Error(String, String),
}

impl Precondition {
    /// Compiles the preconditions of a workflow over its slots.
    ///
    /// # Errors
    /// The first expression that cannot be used.
    pub(crate) fn compile(
        workflow: &str,
        preconditions: Vec<bundle::Precondition>,
        slots: &[Slot],
    ) -> Result<Vec<Self>, Error> {
        let examples = examples(slots);
        let compile = |bundle::Precondition { when, reason, message }| {
            let when = Condition::compile(&when, &examples).map_err(|source| Error::Condition {
                workflow: workflow.to_owned(),
                key: format!("precondition.{reason}.when"),
                source,
            })?;
            Ok(Self { when, reason, message })
        };
        preconditions.into_iter().map(compile).collect()
    }

    fn is_about(&self, record: &str) -> bool {
        self.when.fields(record).next().is_some()
    }

    /// Its message with its key, to be checked.
    pub(crate) fn message(&self) -> (String, &str) {
        (format!("precondition.{}.message", self.reason), &self.message)
    }
}

impl Workflow {
    /// The first precondition that does not hold. Those about the customer or the verdict are left out when nothing is
    /// known of it.
    pub(crate) fn failed(
        &self,
        progress: &Progress,
        confidence: f64,
        around: Circumstances<'_>,
    ) -> Option<Failed> {
        let facts = || self.facts(progress, confidence, around);
        // Most workflows have none.
        let facts = (!self.preconditions.is_empty()).then(facts)?;
        let known = |one: &&Precondition| {
            (around.customer.is_some() || !one.is_about("customer"))
                && (around.verdict.is_some() || !one.is_about("verdict"))
        };
        self.preconditions.iter().filter(known).find_map(|one| match one.when.holds(&facts) {
            Ok(true) => None,
            Ok(false) => Some(Failed::False(one.reason.clone())),
            Err(error) => Some(Failed::Error(one.reason.clone(), error.to_string())),
        })
    }

    /// The first precondition that is false whatever is still to be asked. One that cannot be evaluated is for the
    /// gate.
    pub(crate) fn failed_already(
        &self,
        progress: &Progress,
        confidence: f64,
        around: Circumstances<'_>,
    ) -> Option<&Precondition> {
        let facts = || self.facts(progress, confidence, around);
        let facts = (!self.preconditions.is_empty()).then(facts)?;
        let settled = |slot: &str| progress.slots.contains_key(slot) || progress.skipped.contains(slot);
        self.preconditions
            .iter()
            .filter(|one| one.when.fields("slots").all(settled) && !one.is_about("verdict"))
            .find(|one| one.when.holds(&facts) == Ok(false))
    }

    /// What the customer reads of a precondition, by its reason.
    pub(crate) fn refusal(&self, reason: &str, slots: &BTreeMap<String, String>) -> Option<String> {
        let one = self.preconditions.iter().find(|one| one.reason == reason)?;
        let (key, template) = one.message();
        render(&self.name, &key, template, &self.shown(slots)).ok()
    }

    fn facts(&self, progress: &Progress, confidence: f64, around: Circumstances<'_>) -> Facts {
        let slots = progress.slots.iter();
        let slots = slots.filter_map(|(name, text)| Some((name.clone(), value(self.slot(name)?, text)?)));
        facts(slots.collect(), &progress.intent, confidence, around)
    }
}

/// Values such as those of the slots.
fn examples(slots: &[Slot]) -> Facts {
    let example = |slot: &Slot| match &slot.kind {
        Kind::Amount(_) => Value::Float(1.0),
        Kind::Date => Value::from("2026-01-31"),
        _ => Value::from("1"),
    };
    let slots = slots.iter().map(|slot| (slot.name.clone(), example(slot))).collect();
    let around =
        Circumstances { customer: None, verdict: None, now: Timestamp::UNIX_EPOCH, today: Date::ZERO };
    facts(slots, "intent", 1.0, around)
}

fn facts(slots: HashMap<String, Value>, intent: &str, confidence: f64, around: Circumstances<'_>) -> Facts {
    let customer =
        around.customer.into_iter().flatten().map(|(name, text)| (name.clone(), Value::from(text.as_str())));
    let verdict =
        around.verdict.into_iter().flatten().map(|(name, score)| (name.clone(), Value::Float(*score)));
    let intent = [("name", Value::from(intent)), ("confidence", Value::Float(confidence))];
    let intent = intent.map(|(name, value)| (name.to_owned(), value)).into_iter().collect();
    let record = |fields, open| Record { fields, open };
    Facts {
        records: HashMap::from([
            ("slots", record(slots, None)),
            ("customer", record(customer.collect(), Some(Value::from("1")))),
            ("intent", record(intent, None)),
            ("verdict", record(verdict.collect(), Some(Value::Float(1.0)))),
        ]),
        values: HashMap::from([
            ("today", Value::from(around.today.to_string())),
            ("now", Value::from(format!("{:.0}", around.now))),
        ]),
        any: &[],
    }
}

/// A stored value; `None` when an amount is none, which the gate refuses before.
fn value(slot: &Slot, text: &str) -> Option<Value> {
    match slot.kind {
        Kind::Amount(_) => Some(Value::Float(text.parse().ok()?)),
        _ => Some(Value::from(text)),
    }
}
