//! What a workflow demands and sends, as its file spells it.

use serde::{Deserialize, Serialize};

/// `[[precondition]]`: what has to be true, or the workflow ends without an effect.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Precondition {
    /// Expression of the Common Expression Language, true or false, up to 1024 bytes, over `slots.NAME` (an amount is
    /// a double, all else a string, a date as "2026-03-14"; one left out is absent: `has(slots.NAME)`),
    /// `customer.NAME` (attributes of the caller, strings), `intent.name`, `intent.confidence`, `today`
    /// ("2026-03-14", where the company is) and `now` ("2026-03-14T09:30:00Z"). What cannot be evaluated refuses.
    pub when: String,
    /// Why it was refused, for the record and whoever looks into it: `[A-Z][A-Z0-9_]*`, up to 63 bytes, each once.
    pub reason: String,
    /// What the customer reads when it is false; minijinja over the slots.
    pub message: String,
}

/// Method of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
#[expect(missing_docs, reason = "the methods of HTTP")]
pub enum Method {
    Post,
    Put,
    Patch,
    Delete,
}

/// The request of a workflow.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RequestTemplate {
    /// Method.
    pub method: Method,
    /// Name under `[workflow.targets]`.
    pub target: String,
    /// Path, begins with `/`; never a template.
    pub path: String,
    /// Longest wait for the response, 100..=30000 ms.
    #[serde(default = "default_timeout")]
    pub timeout_ms: u64,
    /// Attempts of an idempotent request, 1..=10.
    #[serde(default = "default_attempts")]
    pub max_attempts: u32,
    /// JSON body; its strings are minijinja templates over the slots.
    #[serde(default)]
    pub body: serde_json::Map<String, serde_json::Value>,
}

fn default_timeout() -> u64 {
    5000
}

fn default_attempts() -> u32 {
    4
}
