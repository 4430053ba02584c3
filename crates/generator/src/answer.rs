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
    /// Category of the intent, may be empty.
    pub category: String,
    /// Name of the intent, may be empty.
    pub intent: String,
    /// The question as a vector of length 1, with the id of the sentence encoder; `None` without one.
    pub embedding: Option<(String, Vec<f32>)>,
    /// Whom of the models it may be answered by.
    pub spending: Spending,
    /// Name of the model that wrote the conversation's last answer, may be empty.
    pub previous_model: String,
}

/// Whom of the models a request may be answered by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Spending {
    /// All, in the order of the configuration.
    #[default]
    Normal,
    /// All, the cheapest first: a soft limit is passed.
    Thrifty,
    /// Only those on the company's own machines: a hard limit is passed.
    Free,
    /// All, those on the company's own machines first: a rollout compares both.
    Own,
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

/// One call of a model.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Call {
    /// Name of the model that was asked.
    pub model: String,
    /// Tokens spent.
    pub usage: Usage,
    /// Cost of them in US dollars.
    pub cost_usd: f64,
    /// The prices of that; empty when the model has none.
    pub prices: String,
}

/// What measures saved, in US dollars and tokens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Saved {
    /// By giving an answer once more.
    pub cache_usd: f64,
    /// Tokens that packing left out of the prompt.
    pub packing_tokens: u64,
    /// Their cost at the price of the model that was asked.
    pub packing_usd: f64,
    /// By asking a cheaper model than the first one of the configuration, with what was asked in vain.
    pub routing_usd: f64,
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
    /// The calls of models that were made for it, also those that failed, in their order.
    pub calls: Vec<Call>,
    /// What measures saved.
    pub saved: Saved,
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
    /// The tier of the cache that it comes from, "exact" or "semantic"; empty when it was written for this request.
    #[serde(skip)]
    pub cache: &'static str,
    /// What the cache knows it by; empty when it is not kept.
    #[serde(skip)]
    pub key: String,
    /// Whether it, from the semantic cache, is to be written once more for comparison.
    #[serde(skip)]
    pub recheck: bool,
}

impl Answer {
    /// Whether the passages do not support an answer.
    #[must_use]
    pub fn abstained(&self) -> bool {
        self.statements.is_empty()
    }

    /// Tokens of all calls.
    #[must_use]
    pub fn usage(&self) -> Usage {
        let mut sum = Usage::default();
        self.calls.iter().for_each(|call| sum.add(call.usage));
        sum
    }

    /// Cost of all calls in US dollars.
    #[must_use]
    pub fn cost_usd(&self) -> f64 {
        self.calls.iter().map(|call| call.cost_usd).sum()
    }

    /// The prices of that cost, each once; empty when no model has one.
    #[must_use]
    pub fn prices(&self) -> String {
        let mut prices: Vec<&str> = Vec::new();
        for call in self.calls.iter().filter(|call| !call.prices.is_empty()) {
            if !prices.contains(&call.prices.as_str()) {
                prices.push(&call.prices);
            }
        }
        prices.join(", ")
    }

    /// Whether too little of it was left: nothing, or less than what was held back.
    pub(crate) fn falls_short(&self) -> bool {
        self.abstained() || self.unsupported as usize > self.statements.len()
    }
}
