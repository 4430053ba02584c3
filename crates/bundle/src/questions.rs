//! Golden questions: what the assistant of a bundle should make of them. They are no part of what it is.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

use crate::check::no_name;
use crate::problem::plain_json;
use crate::read::{Problem, Problems, Reader, finish, is_name};
use crate::types::{Audience, Document, Intent};
use crate::{knowledge, layout};

/// Outcomes a question may expect: those of the contract without their prefix.
pub const OUTCOMES: [&str; 7] =
    ["ANSWERED", "CLARIFY", "HANDOFF", "BLOCKED", "LEGACY", "ACTION_PENDING", "ACTION_DONE"];
/// Longest text, in bytes: that of a message.
const MAX_TEXT: usize = 65_536;
const LINE: &str = r#"{"text", "kind", "outcome": [..], "intent"?, "intents"?, "documents"?, "all_documents"?, "conversation"?}"#;

/// A question with what should come of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// Its line, from 1.
    pub line: usize,
    /// The customer's words.
    pub text: String,
    /// The group it is counted in, `[a-z][a-z0-9_]*`.
    pub kind: String,
    /// Outcomes that are right, of [`OUTCOMES`]; at least one.
    pub outcomes: Vec<String>,
    /// Intents that are right; empty when the intent is not judged.
    pub intents: Vec<String>,
    /// Documents to cite; empty when the citations are not judged.
    pub documents: Vec<String>,
    /// Whether all of `documents` must be cited, not just one.
    pub all_documents: bool,
    /// The conversation it belongs to, in the order of the lines; `None` for one of its own.
    pub conversation: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    text: String,
    kind: String,
    outcome: Vec<String>,
    #[serde(default)]
    intent: Option<String>,
    #[serde(default)]
    intents: Vec<String>,
    #[serde(default)]
    documents: Vec<String>,
    #[serde(default)]
    all_documents: bool,
    #[serde(default)]
    conversation: Option<String>,
}

impl Reader {
    /// The questions of a file, by default of the bundle's own, which name only what the bundle has.
    ///
    /// # Errors
    /// No file, no question in it, and every line that is none or names what does not exist.
    pub fn questions(&self, file: Option<&Path>) -> Result<Vec<Question>, Problems> {
        let own = self.root().join(layout::QUESTIONS);
        if file.is_none() && !own.exists() {
            return Err(Problem::new(own, 0, "no such file; pass --questions FILE").into());
        }
        let file = file.unwrap_or(&own);
        let questions = read(file, file)?;
        let problems = references(file, &questions, &self.intents()?, &self.knowledge()?);
        finish(questions, problems)
    }
}

/// The questions that the bundle ships, none without the file; what they name is not looked up.
pub(crate) fn shipped(reader: &Reader) -> Result<Vec<Question>, Problems> {
    let path = reader.root().join(layout::QUESTIONS);
    if path.exists() { read(&path, Path::new(layout::QUESTIONS)) } else { Ok(Vec::new()) }
}

/// Reads the file at `path`, which problems call `file`.
fn read(path: &Path, file: &Path) -> Result<Vec<Question>, Problems> {
    let bytes = std::fs::read(path);
    let bytes = bytes.map_err(|error| Problem::new(file, 0, format!("cannot be read: {error}")))?;
    let text = String::from_utf8(bytes).map_err(|error| Problem::not_utf8(file, &error))?;
    let text = text.strip_prefix(knowledge::BOM).unwrap_or(&text);
    let mut questions = Vec::new();
    let mut problems = Vec::new();
    for (number, line) in knowledge::lines(text) {
        match parse(number, line) {
            Ok(question) => questions.push(question),
            Err(found) => problems.extend(found.into_iter().map(|what| Problem::new(file, number, what))),
        }
    }
    if questions.is_empty() && problems.is_empty() {
        problems.push(Problem::new(file, 0, format!("holds no question, needed is a line of {LINE}")));
    }
    finish(questions, problems)
}

/// One line, or everything that is wrong with it.
fn parse(number: usize, line: &str) -> Result<Question, Vec<String>> {
    let line: Line = serde_json::from_str(line)
        .map_err(|error| vec![format!("is no question: {}; a line is {LINE}", plain_json(&error))])?;
    let mut problems = Vec::new();
    if line.text.trim().is_empty() || line.text.len() > MAX_TEXT {
        let bytes = line.text.len();
        problems.push(format!("text: {bytes} bytes, allowed 1 to {MAX_TEXT} with a word"));
    }
    if !is_name(&line.kind) {
        problems.push(format!("kind: {:?}, allowed [a-z][a-z0-9_]*", line.kind));
    }
    let allowed = OUTCOMES.join(", ");
    if line.outcome.is_empty() {
        problems.push(format!("outcome: is empty, needed is one or more of {allowed}"));
    }
    for word in line.outcome.iter().filter(|word| !OUTCOMES.contains(&word.as_str())) {
        problems.push(format!("outcome: unknown word {word:?}, allowed {allowed}"));
    }
    if line.all_documents && line.documents.is_empty() {
        problems.push("all_documents: is true without documents, at least one is needed".to_owned());
    }
    if line.conversation.as_ref().is_some_and(|id| id.trim().is_empty()) {
        problems.push("conversation: is empty, allowed a name, or left out".to_owned());
    }
    let question = Question {
        line: number,
        text: line.text,
        kind: line.kind,
        outcomes: line.outcome,
        intents: line.intent.into_iter().chain(line.intents).collect(),
        documents: line.documents,
        all_documents: line.all_documents,
        conversation: line.conversation,
    };
    if problems.is_empty() { Ok(question) } else { Err(problems) }
}

/// What questions name and the bundle does not have, or keeps from customers.
pub(crate) fn references(
    file: &Path,
    questions: &[Question],
    intents: &[Intent],
    documents: &[Document],
) -> Vec<Problem> {
    let names = || intents.iter().map(|intent| intent.name.as_str());
    let audiences: BTreeMap<_, _> =
        documents.iter().map(|document| (document.id.as_str(), document.audience)).collect();
    let mut problems = Vec::new();
    for question in questions {
        let mut refuse = |message: String| problems.push(Problem::new(file, question.line, message));
        for intent in question.intents.iter().filter(|intent| !names().any(|name| name == *intent)) {
            let what = no_name("intent", intent, names(), "the name of one in intents/");
            refuse(format!("intent: {what}"));
        }
        for id in &question.documents {
            match audiences.get(id.as_str()) {
                Some(Audience::Public) => {}
                Some(Audience::Internal) => {
                    refuse(format!("documents: document {id:?} is internal, allowed public ones"));
                }
                None => {
                    let known = audiences.keys().copied();
                    let what = no_name("document", id, known, "the id of one in knowledge/");
                    refuse(format!("documents: {what}"));
                }
            }
        }
    }
    problems
}
