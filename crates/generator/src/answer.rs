//! What goes in and what comes out: plain types.

use serde::{Deserialize, Serialize};

/// A piece of a document that may be used.
#[derive(Debug, Clone, Default)]
pub struct Passage {
    /// Id of the document.
    pub document_id: String,
    /// Content hash of the document.
    pub document_version: String,
    /// Title of the document.
    pub title: String,
    /// Heading path inside the document, may be empty.
    pub heading: String,
    /// Markdown, verbatim from the document.
    pub text: String,
    /// Relevance, higher is better, comparable within one request only.
    pub score: f64,
}

/// One message of the conversation so far.
#[derive(Debug, Clone)]
pub struct Utterance {
    /// "customer", "assistant" or "agent".
    pub role: &'static str,
    /// What was said.
    pub text: String,
}

/// What to answer.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// The customer's words, not empty.
    pub question: String,
    /// What the question leans on, said before it; empty when it stands alone.
    pub context: String,
    /// Passages, best first.
    pub passages: Vec<Passage>,
    /// The conversation so far, oldest first.
    pub history: Vec<Utterance>,
    /// Opaque id for the logs of a model provider, may be empty.
    pub turn_id: String,
    /// Whether the passages' own sentences are the answer, also where a model is configured.
    pub extractive: bool,
    /// Least support by the passages, 0..=1, beside the configured one.
    pub min_support: f64,
}

impl Request {
    /// Everything in it that others wrote.
    pub(crate) fn texts(&self) -> impl Iterator<Item = &str> {
        let said = self.history.iter().map(|utterance| utterance.text.as_str());
        let passages =
            self.passages.iter().flat_map(|Passage { title, heading, text, .. }| [title, heading, text]);
        passages.map(String::as_str).chain(said).chain([self.question.as_str()])
    }
}

/// Where a statement comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Citation {
    /// Index into the passages of the request.
    pub passage: usize,
    /// Words that support the statement, verbatim from the passage's text.
    pub quote: String,
}

/// One sentence of an answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Statement {
    /// The sentence as shown.
    pub text: String,
    /// Support by the passages, 0..=1; 1 for verbatim sentences.
    pub support: f64,
    /// Index into the citations of the answer.
    pub citation: usize,
}

/// Tokens spent on model calls.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Tokens of the prompt.
    pub input: u64,
    /// Those of `input` that the provider had in its cache.
    pub cached: u64,
    /// Tokens of the completion.
    pub output: u64,
}

impl Usage {
    pub(crate) fn add(&mut self, other: Self) {
        self.input += other.input;
        self.cached += other.cached;
        self.output += other.output;
    }
}

/// A whole answer.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Answer {
    /// The text; empty when abstained.
    pub text: String,
    /// Sources, in the order of the statements.
    pub citations: Vec<Citation>,
    /// The sentences of `text` in order, without one that tells what was not found.
    pub statements: Vec<Statement>,
    /// How well the passages answer the question, 0..=1, whether they were enough or not.
    pub support: f64,
    /// Name of the model that wrote it, or "extractive".
    pub model: String,
    /// Tokens spent, also on attempts that failed.
    pub usage: Usage,
    /// Cost of `usage` in US dollars.
    pub cost_usd: f64,
    /// Name and version of the prompt, empty for extractive.
    pub prompt_version: String,
    /// Why the configured model did not write it; empty when it did, or none is configured.
    pub model_failure: String,
    /// Whether the model was stopped because it gave its prompt away; the answer is empty then.
    pub leaked: bool,
    /// Sentences that were written and held back, since the passages do not support them.
    pub unsupported: u32,
    /// What judged the support; empty for verbatim sentences, which need no judge.
    pub judge: String,
    /// The prices of `cost_usd`; empty when the model has none.
    pub prices: String,
    /// The tier of the cache that it comes from, "exact"; empty when it was written for this request.
    #[serde(skip)]
    pub cache: &'static str,
    /// What it had cost when it was written, in US dollars; 0 unless it comes from the cache.
    #[serde(skip)]
    pub saved_usd: f64,
}

impl Answer {
    /// Whether the passages do not support an answer.
    #[must_use]
    pub fn abstained(&self) -> bool {
        self.statements.is_empty()
    }
}
