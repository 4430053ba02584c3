//! The request of a workflow, and its way to the target.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use webhook::{Event, Method, Reply, Request, Rpc};

use crate::config::Config;
use crate::grpc::{CALL, Methods};
use crate::response::{self, Receipt};

/// Source and beginning of the type of the CloudEvents that targets may ask for.
const SOURCE: &str = "/firstline/workflow";
const KIND: &str = "dev.firstline.workflow";

/// What an attempt proved.
pub(crate) type Answer = webhook::Answer<Receipt>;

/// A request as it was approved; stored, so that a restart sends the same bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Delivery {
    /// Name of the workflow.
    pub(crate) workflow: String,
    /// When it was approved.
    pub(crate) approved_at: Timestamp,
    /// Name of the target in the configuration.
    pub(crate) target: String,
    /// "POST", "PUT", "PATCH", "DELETE" or "GRPC".
    pub(crate) method: String,
    /// Path below the target's URL, with the query; that of a method of gRPC.
    pub(crate) path: String,
    /// Headers besides those of the client.
    #[serde(default)]
    pub(crate) headers: BTreeMap<String, String>,
    /// JSON.
    pub(crate) body: String,
    /// Longest wait for the answer once connected, in milliseconds.
    pub(crate) timeout_ms: u64,
    /// Attempts at most, at least 1.
    pub(crate) max_attempts: u32,
    /// Whether the receiver takes the same key twice for one.
    pub(crate) idempotent: bool,
    /// When it is sent again.
    #[serde(default)]
    pub(crate) retry: bundle::Retry,
    /// What the answer means.
    #[serde(default)]
    pub(crate) response: bundle::Response,
}

/// Sends requests to the configured targets. Clones share it.
#[derive(Clone)]
pub(crate) struct Sender {
    sender: webhook::Sender,
    methods: Methods,
}

impl Sender {
    /// A sender for the targets of a valid configuration.
    ///
    /// # Errors
    /// The system has no TLS roots.
    pub(crate) fn new(config: &Config, methods: Methods) -> Result<Self, webhook::Error> {
        let wait = Duration::from_millis(config.connect_timeout_ms);
        Ok(Self { sender: webhook::Sender::new(&config.targets, wait)?, methods })
    }

    /// Whether a target is configured.
    pub(crate) fn knows(&self, target: &str) -> bool {
        self.sender.knows(target)
    }

    /// Sends once. The key is both the webhook's id and the idempotency key.
    pub(crate) async fn send(&self, delivery: &Delivery, key: &str) -> Answer {
        if delivery.method == CALL {
            return self.call(delivery, key).await;
        }
        let Ok(method) = Method::from_bytes(delivery.method.as_bytes()) else {
            return Answer::Refused("REQUEST_MALFORMED".to_owned());
        };
        let request = Request {
            target: &delivery.target,
            id: key,
            method,
            path: &delivery.path,
            headers: &delivery.headers,
            body: &delivery.body,
            event: Event {
                source: SOURCE,
                kind: &format!("{KIND}.{}", delivery.workflow),
                at: delivery.approved_at,
            },
            timeout: Duration::from_millis(delivery.timeout_ms),
        };
        self.sender.send(request).await.and_then(|reply| response::judge(&reply, &delivery.response))
    }

    async fn call(&self, delivery: &Delivery, key: &str) -> Answer {
        let Delivery { target, path, .. } = delivery;
        // What the error says may hold a slot.
        let Ok(message) = self.methods.encode(target, path, &delivery.body) else {
            tracing::error!(target, path, "nothing is sent: the body is no message of the method");
            return Answer::Refused("REQUEST_MALFORMED".to_owned());
        };
        let rpc = Rpc {
            target,
            id: key,
            method: path,
            headers: &delivery.headers,
            message: &message,
            timeout: Duration::from_millis(delivery.timeout_ms),
        };
        self.sender.call(rpc).await.and_then(|message| {
            let body = message.and_then(|message| self.methods.decode(target, path, &message));
            response::judge(&Reply { status: 0, body }, &delivery.response)
        })
    }
}
