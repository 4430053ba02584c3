//! The dialogue of a workflow: what to ask next, and what an answer means.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::catalogue::{Error, Workflow};
use crate::fill::{Kind, Slot, answers, fill, holds, mentions, named};
use crate::words::{Message, Reply};

/// How often a question is repeated before a person takes over.
pub(crate) const MAX_REPEATS: u32 = 2;

/// The customer gave up.
pub(crate) const NOT_DONE: &str = "All right, I have not done anything.";
const YES_OR_NO: &str = "Please answer yes or no, or tell me what to change.";
const WHAT_TO_CHANGE: &str = "All right. What should I change? You can also say \"cancel\".";
const STILL_OPEN: &str = "Shall I go on with your request?";
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
    /// The customer said no to the confirmation and was asked what to change.
    pub(crate) doubted: bool,
    /// Name of the intent that proposed the workflow.
    pub(crate) intent: String,
    /// Values of the receiver's answer by name, once done.
    pub(crate) response: BTreeMap<String, String>,
}

/// What the message is about besides slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Topic {
    /// This workflow.
    Here,
    /// Nothing certain.
    Unsure,
    /// Surely an intent without a workflow: somebody else can answer it.
    Elsewhere,
    /// Surely the intent of another workflow.
    OtherWorkflow,
}

/// What follows from a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// Not for the workflow; it stays open, with this question.
    Elsewhere(String),
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
        let topic = self.read(workflow, message, topic);
        let asked = self.asked.as_deref().map(|name| workflow.slot(name));
        match asked {
            None => self.hear_confirmation(workflow, message, topic),
            Some(Some(slot)) => self.hear_slot(workflow, slot, message, topic),
            // The bundle changed and has no such slot any more.
            Some(None) => self.next(workflow),
        }
    }

    /// Who asks to know something about another workflow does not ask for it, and a longer question that holds nothing
    /// for this one may be one that somebody can answer.
    fn read(&self, workflow: &Workflow, message: &Message, topic: Topic) -> Topic {
        let asked = self.asked.as_deref();
        let text =
            asked.and_then(|name| workflow.slot(name)).is_some_and(|slot| matches!(slot.kind, Kind::Text));
        match topic {
            Topic::OtherWorkflow if message.asks_for_facts() => Topic::Elsewhere,
            Topic::Unsure => {
                let asks = if text { message.inquires() } else { message.asks() };
                let asks = asks && message.is_long() && !holds(&workflow.slots, message, asked);
                if asks { Topic::Unsure } else { Topic::Here }
            }
            topic => topic,
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
        if slot.optional && message.skips() {
            self.skipped.insert(slot.name.clone());
            return self.next(workflow);
        }
        let mut new = self.heard(workflow, message, Some(&slot.name), message.corrects(), topic);
        let cancels =
            if text { message.cancels(&workflow.title) } else { message.cancels_somewhere(&workflow.title) };
        if cancels && (text || !new.contains_key(&slot.name)) {
            return Ok(Step::Cancelled(NOT_DONE.to_owned()));
        }
        let asks = message.asks();
        // After the answer to another question, thanks for it or a question about it are not for this slot.
        if self.digressed && (message.is_bare() || text && asks && topic == Topic::Here) {
            self.digressed = false;
            return Ok(Step::Ask(slot.prompt.clone()));
        }
        let remarks = new.is_empty() && message.remarks() && !mentions(&workflow.slots, message, slot);
        if topic == Topic::Elsewhere && (asks && (text || new.is_empty()) || !text && remarks) {
            return Ok(self.digress(slot.prompt.clone()));
        }
        if topic == Topic::Unsure && (text || new.is_empty()) {
            return Ok(self.wander(slot.prompt.clone()));
        }
        // A free text takes nearly anything, but no yes or no and no question about something else.
        if text && (message.is_bare() || asks && topic == Topic::OtherWorkflow) {
            new.clear();
        }
        if new.is_empty() {
            return match self.found_wrong(workflow, message) {
                Some(wrong) => Ok(self.ask_for(wrong)),
                None => self.ask_again(workflow, slot, topic),
            };
        }
        self.digressed = false;
        let repeats = if new.contains_key(&slot.name) { 0 } else { self.repeats };
        self.slots.extend(new);
        let step = self.next(workflow)?;
        self.repeats = repeats;
        Ok(step)
    }

    /// The values of a message. Words of a question about something else choose nothing: "how much is express?".
    fn heard(
        &self,
        workflow: &Workflow,
        message: &Message,
        asked: Option<&str>,
        replace: bool,
        topic: Topic,
    ) -> BTreeMap<String, String> {
        let new = fill(&workflow.slots, &self.slots, message, asked, replace);
        let is_choice =
            |name: &String| workflow.slot(name).is_some_and(|slot| matches!(slot.kind, Kind::Choice(_)));
        let asks = matches!(topic, Topic::Elsewhere | Topic::Unsure) && message.asks_for_facts();
        if asks && new.keys().all(is_choice) { BTreeMap::new() } else { new }
    }

    /// The slot that has a value and of which the customer says that it is wrong.
    fn found_wrong<'w>(&self, workflow: &'w Workflow, message: &Message) -> Option<&'w Slot> {
        let wrong = message.finds_wrong() && !message.asks_for_facts();
        let slot = named(&workflow.slots, message).filter(|_| wrong);
        slot.filter(|slot| self.slots.contains_key(&slot.name))
    }

    /// Asks for a slot once more and forgets its value.
    fn ask_for(&mut self, slot: &Slot) -> Step {
        self.slots.remove(&slot.name);
        self.asked = Some(slot.name.clone());
        (self.repeats, self.digressed, self.doubted) = (0, false, false);
        Step::Ask(slot.prompt.clone())
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
        let new = self.heard(workflow, message, None, true, topic);
        if !new.is_empty() {
            self.slots.extend(new);
            return self.next(workflow);
        }
        if message.cancels_somewhere(&workflow.title) {
            return Ok(Step::Cancelled(NOT_DONE.to_owned()));
        }
        let reply = message.reply(&workflow.title);
        if let Some(wrong) = self.found_wrong(workflow, message).filter(|_| reply != Reply::Refusal) {
            return Ok(self.ask_for(wrong));
        }
        let sure = !self.doubted && (!self.digressed || workflow.is_harmless());
        match reply {
            Reply::Yes if sure => return Ok(Step::Confirmed),
            Reply::WeakYes if sure && !self.digressed => return Ok(Step::Confirmed),
            Reply::Refusal => return Ok(Step::Cancelled(NOT_DONE.to_owned())),
            Reply::No if self.doubted => return Ok(Step::Cancelled(NOT_DONE.to_owned())),
            Reply::No => {
                self.doubted = true;
                return Ok(self.repeat(WHAT_TO_CHANGE.to_owned()));
            }
            // After a no, or after the answer to another question, a yes may be for that, and "ok, thanks" is.
            Reply::Yes | Reply::WeakYes => return self.next(workflow),
            Reply::Unclear => (),
        }
        match topic {
            Topic::Elsewhere if message.remarks() => return Ok(self.digress(STILL_OPEN.to_owned())),
            Topic::Unsure => return Ok(self.wander(STILL_OPEN.to_owned())),
            _ => (),
        }
        let hint = if topic == Topic::OtherWorkflow { ONE_AT_A_TIME } else { YES_OR_NO };
        let question = format!("{hint} {}", workflow.confirmation(&self.slots)?);
        self.doubted = false;
        Ok(self.repeat(question))
    }

    /// Asks for the first slot that is neither filled nor left out, or for the confirmation.
    fn next(&mut self, workflow: &Workflow) -> Result<Step, Error> {
        let open = |slot: &&Slot| !self.slots.contains_key(&slot.name) && !self.skipped.contains(&slot.name);
        let slot = workflow.slots.iter().find(open);
        self.asked = slot.map(|slot| slot.name.clone());
        (self.repeats, self.digressed, self.doubted) = (0, false, false);
        Ok(Step::Ask(match slot {
            Some(slot) => slot.prompt.clone(),
            None => workflow.confirmation(&self.slots)?,
        }))
    }

    /// Leaves the message to somebody else.
    fn digress(&mut self, question: String) -> Step {
        self.digressed = true;
        Step::Elsewhere(question)
    }

    /// The same where it is not sure that anybody has an answer: so often as a question is repeated.
    fn wander(&mut self, question: String) -> Step {
        match self.repeat(question) {
            Step::Ask(question) => self.digress(question),
            step => step,
        }
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
