//! Examples for training out of conversations, as JSON lines.

use proto::Outcome;
use serde_json::{Value, json};

use super::conversation::{Conversation, Said};

/// Turns before an example that are given with it.
const CONTEXT: usize = 5;
/// Longest text of an intent's example, as bundles take them.
const MAX_EXAMPLE_BYTES: usize = 2000;
/// The label of what belongs to no intent.
const OUT_OF_SCOPE: &str = "out_of_scope";

/// What is trained with the examples.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A model that answers: {"messages": [system?, user, assistant, ...]}.
    Sft,
    /// A model that prefers one answer to another: {"input", "preferred_output", "non_preferred_output"}.
    Preference,
    /// The classifier of a bundle: {"text", "intent" or null}.
    Intents,
}

/// The example of a turn; `None` where it has none of this kind. All its words are masked once more.
pub(super) fn example(conversation: &Conversation, at: usize, kind: Kind, system: &str) -> Option<Value> {
    let said = &conversation.turns[at];
    let question = personal::mask(said.question.trim());
    if question.is_empty() {
        return None;
    }
    match kind {
        Kind::Sft => {
            let mut messages = input(conversation, at, system, true);
            messages.push(message("assistant", target(said)?));
            Some(json!({ "messages": messages }))
        }
        Kind::Preference => {
            let (better, worse) = (said.demonstration.trim(), said.answer.trim());
            if said.outcome != Outcome::Answered || better.is_empty() || worse.is_empty() || better == worse {
                return None;
            }
            Some(json!({
                "input": { "messages": input(conversation, at, system, false) },
                "preferred_output": [message("assistant", better)],
                "non_preferred_output": [message("assistant", worse)],
            }))
        }
        Kind::Intents => {
            let label = said.label.as_deref()?;
            let intent = if label == OUT_OF_SCOPE { Value::Null } else { json!(label) };
            (question.len() <= MAX_EXAMPLE_BYTES).then(|| json!({ "text": question, "intent": intent }))
        }
    }
}

/// What the bot should have said: what a person did, else its own answer.
fn target(said: &Said) -> Option<&str> {
    let answer = if said.outcome == Outcome::Answered { said.answer.trim() } else { "" };
    [said.demonstration.trim(), answer].into_iter().find(|text| !text.is_empty())
}

/// The messages up to the question. Words of the bot among them are context, which nothing is to be learnt from.
fn input(conversation: &Conversation, at: usize, system: &str, weighted: bool) -> Vec<Value> {
    let mut messages = Vec::new();
    if !system.is_empty() {
        messages.push(json!({ "role": "system", "content": system }));
    }
    // A turn whose words are not known breaks the context off: what came before may not be what was meant.
    let told = |said: &&Said| said.consents && !said.question.trim().is_empty() && !reply(said).is_empty();
    let before = conversation.turns[..at].iter().rev().take(CONTEXT).take_while(told).count();
    for said in &conversation.turns[at - before..at] {
        messages.push(message("user", said.question.trim()));
        let mut answer = message("assistant", reply(said));
        if weighted {
            answer["weight"] = json!(0);
        }
        messages.push(answer);
    }
    messages.push(message("user", conversation.turns[at].question.trim()));
    messages
}

/// What was said to a question in the end.
fn reply(said: &Said) -> &str {
    let answers = [said.demonstration.trim(), said.answer.trim()];
    answers.into_iter().find(|text| !text.is_empty()).unwrap_or_default()
}

fn message(role: &str, content: &str) -> Value {
    json!({ "role": role, "content": personal::mask(content) })
}
