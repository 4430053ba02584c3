//! What a workflow demands and sends, as its file spells it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::types::Effect;

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

/// The request of a workflow. Templates are minijinja over the slots.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RequestTemplate {
    /// Method of HTTP; absent with `grpc`.
    #[serde(default)]
    pub method: Option<Method>,
    /// Name under `[workflow.targets]`.
    pub target: String,
    /// Path, begins with `/`. A segment may be `{slot}`, percent-encoded; never of a slot that is free text, an
    /// e-mail address or optional. Absent with `grpc`.
    #[serde(default)]
    pub path: String,
    /// A unary method of gRPC, "package.Service/Method", of the descriptors in `workflows/descriptors/TARGET.binpb`:
    /// instead of `method`, `path` and `query`, and with `headers` as its metadata.
    #[serde(default)]
    pub grpc: Option<String>,
    /// Longest wait for the response, 100..=30000 ms.
    #[serde(default = "default_timeout")]
    pub timeout_ms: u64,
    /// Headers as they stand, at most 32; none that authenticates, frames or signs.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// Query: templates, percent-encoded; what renders empty is left out.
    #[serde(default)]
    pub query: BTreeMap<String, String>,
    /// Slots that are sent without quotes, as a JSON number, true or false, wherever a string of the body is
    /// `"{{ slot }}"` and nothing else; amounts, patterns and choices. One left out is sent as null.
    #[serde(default)]
    pub unquoted: Vec<String>,
    /// JSON body; its strings are templates, and stay strings. With `grpc` it is the message in protobuf's JSON.
    #[serde(default)]
    pub body: serde_json::Map<String, serde_json::Value>,
}

fn default_timeout() -> u64 {
    5000
}

/// `[retry]`: how an idempotent request is sent again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Retry {
    /// Attempts in all, 1..=10.
    pub max_attempts: u32,
    /// Longest wait before the second attempt, 1..=60000 ms; doubles with every attempt. Absent means
    /// `workflow.retry_base_ms`.
    pub base_ms: Option<u64>,
    /// Longest wait between two attempts, 1..=3600000 ms; absent means `workflow.retry_max_ms`.
    pub max_ms: Option<u64>,
    /// Age of the execution from which it is not sent again, 1..=24 hours: as long as the receiver keeps keys.
    pub max_age_hours: u32,
}

impl Default for Retry {
    fn default() -> Self {
        Self { max_attempts: 4, base_ms: None, max_ms: None, max_age_hours: 24 }
    }
}

/// `[response]`: what the answer of the receiver means. Places in its body are JSON pointers (RFC 6901) to a string
/// or a number, which count as absent when they are longer than 128 characters or hold control characters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Response {
    /// Where its reference stands.
    pub reference: String,
    /// Expression of the Common Expression Language over `status` and `body` of an answer with a status of 200 to
    /// 299, or 0 of gRPC: false means that nothing was done (RESPONSE_FAILED). What cannot be evaluated leaves it unknown. Absent
    /// means true.
    pub success: Option<String>,
    /// Values for `done`, by NAME in `response.NAME`; kept as long as the execution, as they are.
    pub values: BTreeMap<String, String>,
    /// What the customer reads when the request was refused, by status ("404", 400 to 499; "NOT_FOUND"
    /// and its like of gRPC) or "failed" for `success`; minijinja over the slots. Without one a person takes over.
    pub messages: BTreeMap<String, String>,
}

impl Default for Response {
    fn default() -> Self {
        let reference = "/reference".to_owned();
        Self { reference, success: None, values: BTreeMap::new(), messages: BTreeMap::new() }
    }
}

/// `[compensation]`: what undoes the effect once it is done, when a person says so.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Compensation {
    /// Question before it, to the person; a template as in the request.
    pub confirmation: String,
    /// Class of its effect.
    #[serde(default)]
    pub effect: Effect,
    /// The request that undoes it: templates over `reference`, `response.NAME` and the slots that are neither free
    /// text nor an e-mail address, since those are masked by then.
    pub request: RequestTemplate,
    /// What the answer means.
    #[serde(default)]
    pub response: Response,
}
