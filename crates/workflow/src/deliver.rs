//! The request of a workflow, and its way to the target.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
pub(crate) use webhook::Answer;
use webhook::{Event, Method, Request};

use crate::catalogue::{self, Workflow};
use crate::config::Config;
use crate::engine::now;

/// Source and beginning of the type of the CloudEvents that targets may ask for.
const SOURCE: &str = "/firstline/workflow";
const KIND: &str = "dev.firstline.workflow";

/// A request as it was approved; stored, so that a restart sends the same bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Delivery {
    /// Name of the workflow.
    pub(crate) workflow: String,
    /// When it was approved.
    pub(crate) approved_at: Timestamp,
    /// Name of the target in the configuration.
    pub(crate) target: String,
    /// "POST", "PUT", "PATCH" or "DELETE".
    pub(crate) method: String,
    /// Path below the target's URL.
    pub(crate) path: String,
    /// JSON.
    pub(crate) body: String,
    /// Longest wait for the answer once connected, in milliseconds.
    pub(crate) timeout_ms: u64,
    /// Attempts at most, at least 1.
    pub(crate) max_attempts: u32,
    /// Whether the receiver takes the same key twice for one.
    pub(crate) idempotent: bool,
}

/// Sends requests to the configured targets. Clones share it.
#[derive(Clone)]
pub(crate) struct Sender(webhook::Sender);

impl Delivery {
    /// The request of a workflow with its slots filled in, approved now.
    ///
    /// # Errors
    /// A template that does not render.
    pub(crate) fn of(
        workflow: &Workflow,
        slots: &BTreeMap<String, String>,
    ) -> Result<Self, catalogue::Error> {
        let request = &workflow.request;
        let idempotent = workflow.effect == bundle::Effect::Idempotent;
        let method = match request.method {
            bundle::Method::Post => Method::POST,
            bundle::Method::Put => Method::PUT,
            bundle::Method::Patch => Method::PATCH,
            bundle::Method::Delete => Method::DELETE,
        };
        Ok(Self {
            workflow: workflow.name.clone(),
            approved_at: now(),
            target: request.target.clone(),
            method: method.to_string(),
            path: request.path.clone(),
            body: workflow.body(slots)?,
            timeout_ms: request.timeout_ms,
            max_attempts: if idempotent { request.max_attempts } else { 1 },
            idempotent,
        })
    }
}

impl Sender {
    /// A sender for the targets of a valid configuration.
    ///
    /// # Errors
    /// The system has no TLS roots.
    pub(crate) fn new(config: &Config) -> Result<Self, webhook::Error> {
        webhook::Sender::new(&config.targets, Duration::from_millis(config.connect_timeout_ms)).map(Self)
    }

    /// Whether a target is configured.
    pub(crate) fn knows(&self, target: &str) -> bool {
        self.0.knows(target)
    }

    /// Sends once. The key is both the webhook's id and the idempotency key.
    pub(crate) async fn send(&self, delivery: &Delivery, key: &str) -> Answer {
        let Ok(method) = Method::from_bytes(delivery.method.as_bytes()) else {
            return Answer::Refused("REQUEST_MALFORMED".to_owned());
        };
        let request = Request {
            target: &delivery.target,
            id: key,
            method,
            path: &delivery.path,
            body: &delivery.body,
            event: Event {
                source: SOURCE,
                kind: &format!("{KIND}.{}", delivery.workflow),
                at: delivery.approved_at,
            },
            timeout: Duration::from_millis(delivery.timeout_ms),
        };
        self.0.send(request).await
    }
}
