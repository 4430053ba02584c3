//! The dialogue of a workflow: what to ask next, and what an answer means.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::catalogue::{Error, Workflow};
use crate::fill::{Kind, Slot, answers, fill};
use crate::words::{Message, Reply};

/// How often a question is repeated before a person takes over.
pub(crate) const MAX_REPEATS: u32 = 2;

const NOT_DONE: &str = "All right, I have not done anything.";
const YES_OR_NO: &str = "Please answer yes or no, or tell me what to change.";
const ONE_AT_A_TIME: &str = "Let us finish this first, or say \"cancel\".";
/// Said before the first question of a workflow that could not wait for another.
pub(crate) const THIS_FIRST: &str =
    "Let us do this first; I have dropped your other request and done nothing for it.";

/// Where the dialogue stands.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Progress {
    /// Values by slot name, each in its stored form.
    pub(crate) slots: BTreeMap<String, String>,
    /// Optional slots the customer left out.
    pub(crate) skipped: BTreeSet<String>,
    /// The slot asked for; none while the confirmation is awaited.
    pub(crate) asked: Option<String>,
    /// How often the question was repeated, 0..=2.
    pub(crate) repeats: u32,
    /// The customer asked something else since the question.
    pub(crate) digressed: bool,
    /// Name of the intent that proposed the workflow.
    pub(crate) intent: String,
    /// Values of the receiver's answer by name, once done.
    pub(crate) response: BTreeMap<String, String>,
}

/// What the message is about besides slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Topic {
    /// This workflow, or nothing certain.
    Here,
    /// Surely an intent without a workflow: somebody else can answer it.
    Elsewhere,
    /// Surely the intent of another workflow.
    OtherWorkflow,
}

/// What follows from a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// Not for the workflow; it stays open.
    Elsewhere,
    /// Ask the customer this: for a slot, or for the confirmation.
    Ask(String),
    /// The customer said yes to the confirmation.
    Confirmed,
    /// The customer gave up.
    Cancelled(String),
    /// The question was repeated too often.
    Exhausted,
}

/// Starts the dialogue with the message that asked for the workflow.
///
/// # Errors
/// A template that does not render.
pub(crate) fn start(workflow: &Workflow, message: &Message) -> Result<(Progress, Step), Error> {
    let slots = fill(&workflow.slots, &BTreeMap::new(), message, None, false);
    let mut progress = Progress { slots, ..Progress::default() };
    let step = progress.next(workflow)?;
    Ok((progress, step))
}

impl Progress {
    /// Whether all that is missing is the customer's yes.
    pub(crate) fn awaits_confirmation(&self) -> bool {
        self.asked.is_none()
    }

    /// Whether a message answers the open question and says nothing else.
    pub(crate) fn is_answered(&self, workflow: &Workflow, message: &Message) -> bool {
        answers(&workflow.slots, message, self.asked.as_deref())
    }

    /// Goes on with the next message of the conversation.
    ///
    /// # Errors
    /// A template that does not render.
    pub(crate) fn feed(
        &mut self,
        workflow: &Workflow,
        message: &Message,
        topic: Topic,
    ) -> Result<Step, Error> {
        let asked = self.asked.as_deref().map(|name| workflow.slot(name));
        match asked {
            None => self.hear_confirmation(workflow, message, topic),
            Some(Some(slot)) => self.hear_slot(workflow, slot, message, topic),
            // The bundle changed and has no such slot any more.
            Some(None) => self.next(workflow),
        }
    }

    fn hear_slot(
        &mut self,
        workflow: &Workflow,
        slot: &Slot,
        message: &Message,
        topic: Topic,
    ) -> Result<Step, Error> {
        let text = matches!(slot.kind, Kind::Text);
        let mut new = fill(&workflow.slots, &self.slots, message, Some(&slot.name), message.corrects());
        if message.cancels(&workflow.title) && (text || !new.contains_key(&slot.name)) {
            return Ok(Step::Cancelled(NOT_DONE.to_owned()));
        }
        let asks = message.asks();
        // After the answer to another question, thanks for it or a question about it are not for this slot.
        if text && self.digressed && (message.is_bare() || asks && topic == Topic::Here) {
            self.digressed = false;
            return Ok(Step::Ask(slot.prompt.clone()));
        }
        if slot.optional && message.skips() {
            self.skipped.insert(slot.name.clone());
            return self.next(workflow);
        }
        if topic == Topic::Elsewhere && if text { asks } else { new.is_empty() } {
            self.digressed = true;
            return Ok(Step::Elsewhere);
        }
        // A free text takes nearly anything, but no yes or no and no question about something else.
        if text && (message.is_bare() || asks && topic == Topic::OtherWorkflow) {
            new.clear();
        }
        if new.is_empty() {
            return self.ask_again(workflow, slot, topic);
        }
        self.digressed = false;
        let repeats = if new.contains_key(&slot.name) { 0 } else { self.repeats };
        self.slots.extend(new);
        let step = self.next(workflow)?;
        self.repeats = repeats;
        Ok(step)
    }

    /// Nothing in the message was for the workflow.
    fn ask_again(&mut self, workflow: &Workflow, slot: &Slot, topic: Topic) -> Result<Step, Error> {
        let question = match topic {
            Topic::OtherWorkflow => format!("{ONE_AT_A_TIME} {}", slot.prompt),
            _ => slot.invalid.as_ref().unwrap_or(&slot.prompt).clone(),
        };
        Ok(match self.repeat(question) {
            Step::Exhausted if slot.optional => {
                self.skipped.insert(slot.name.clone());
                self.next(workflow)?
            }
            step => step,
        })
    }

    fn hear_confirmation(
        &mut self,
        workflow: &Workflow,
        message: &Message,
        topic: Topic,
    ) -> Result<Step, Error> {
        let new = fill(&workflow.slots, &self.slots, message, None, true);
        if !new.is_empty() {
            self.slots.extend(new);
            return self.next(workflow);
        }
        if message.cancels(&workflow.title) {
            return Ok(Step::Cancelled(NOT_DONE.to_owned()));
        }
        match message.reply(&workflow.title) {
            Reply::Yes if !self.digressed || workflow.is_harmless() => return Ok(Step::Confirmed),
            Reply::WeakYes if !self.digressed => return Ok(Step::Confirmed),
            Reply::No => return Ok(Step::Cancelled(NOT_DONE.to_owned())),
            // After the answer to another question a yes may be for that answer, and "ok, thanks" is.
            Reply::Yes | Reply::WeakYes => return self.next(workflow),
            Reply::Unclear => (),
        }
        if topic == Topic::Elsewhere {
            self.digressed = true;
            return Ok(Step::Elsewhere);
        }
        let hint = if topic == Topic::OtherWorkflow { ONE_AT_A_TIME } else { YES_OR_NO };
        let question = format!("{hint} {}", workflow.confirmation(&self.slots)?);
        Ok(self.repeat(question))
    }

    /// Asks for the first slot that is neither filled nor left out, or for the confirmation.
    fn next(&mut self, workflow: &Workflow) -> Result<Step, Error> {
        let open = |slot: &&Slot| !self.slots.contains_key(&slot.name) && !self.skipped.contains(&slot.name);
        let slot = workflow.slots.iter().find(open);
        self.asked = slot.map(|slot| slot.name.clone());
        (self.repeats, self.digressed) = (0, false);
        Ok(Step::Ask(match slot {
            Some(slot) => slot.prompt.clone(),
            None => workflow.confirmation(&self.slots)?,
        }))
    }

    fn repeat(&mut self, question: String) -> Step {
        if self.repeats == MAX_REPEATS {
            return Step::Exhausted;
        }
        self.repeats += 1;
        // The question is the last thing said again.
        self.digressed = false;
        Step::Ask(question)
    }
}
