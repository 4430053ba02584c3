//! One signed request to a target, and what its answer proves about the effect.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, Method, Response, redirect, retry};
use serde::{Deserialize, Serialize};
use standardwebhooks::{HEADER_WEBHOOK_ID, HEADER_WEBHOOK_SIGNATURE, HEADER_WEBHOOK_TIMESTAMP, Webhook};

use crate::config::{Config, Target};
use crate::response::{self, Receipt};

/// Longest answer that is read.
const MAX_RESPONSE_BYTES: usize = 64 * 1024;
/// The header of draft-ietf-httpapi-idempotency-key-header.
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const USER_AGENT: &str = concat!("firstline/", env!("CARGO_PKG_VERSION"));

/// A request as it was approved; stored, so that a restart sends the same bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Delivery {
    /// Name of the target in the configuration.
    pub(crate) target: String,
    /// "POST", "PUT", "PATCH" or "DELETE".
    pub(crate) method: String,
    /// Path below the target's URL, with the query.
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

/// What an attempt proved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The effect happened; with what the receiver says of it.
    Done(Receipt),
    /// No effect, and none if it is sent again.
    Refused(String),
    /// No effect, because it was not sent or not taken now.
    NotNow(String),
    /// Nobody knows.
    Unclear(String),
}

/// Sends requests to the configured targets. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct Sender {
    targets: Arc<BTreeMap<String, Receiver>>,
    connect_timeout: Duration,
}

struct Receiver {
    client: Client,
    base: String,
    webhook: Webhook,
}

impl Sender {
    /// A sender for the targets of a valid configuration.
    ///
    /// # Errors
    /// The system has no TLS roots.
    pub(crate) fn new(config: &Config) -> Result<Self, reqwest::Error> {
        if config.targets.is_empty() {
            return Ok(Self::default());
        }
        let connect_timeout = Duration::from_millis(config.connect_timeout_ms);
        // A request is on the wire at most once an attempt: no redirects, no second try inside the client,
        // no proxy that could answer in the target's place, and no kept connection that may be half dead.
        let client = Client::builder()
            .connect_timeout(connect_timeout)
            .redirect(redirect::Policy::none())
            .retry(retry::never())
            .no_proxy()
            .pool_max_idle_per_host(0)
            .user_agent(USER_AGENT)
            .build()?;
        let receiver = |target: &Target| {
            Some(Receiver { client: client.clone(), base: target.base()?, webhook: target.webhook()? })
        };
        let targets = config.targets.iter();
        let targets = targets.filter_map(|(name, target)| Some((name.clone(), receiver(target)?))).collect();
        Ok(Self { targets: Arc::new(targets), connect_timeout })
    }

    /// Whether a target is configured.
    pub(crate) fn knows(&self, target: &str) -> bool {
        self.targets.contains_key(target)
    }

    /// Sends once. The key is both the webhook's id and the idempotency key.
    pub(crate) async fn send(&self, delivery: &Delivery, key: &str) -> Answer {
        let Some(receiver) = self.targets.get(&delivery.target) else {
            return Answer::Refused("TARGET_NOT_CONFIGURED".to_owned());
        };
        let method = Method::from_bytes(delivery.method.as_bytes()).ok();
        let (Some(method), Some(headers)) = (method, headers(&receiver.webhook, key, delivery)) else {
            return Answer::Refused("REQUEST_MALFORMED".to_owned());
        };
        let request = receiver
            .client
            .request(method, format!("{}{}", receiver.base, delivery.path))
            .headers(headers)
            .timeout(self.connect_timeout + Duration::from_millis(delivery.timeout_ms))
            .body(delivery.body.clone());
        match request.send().await {
            Ok(response) => {
                let (status, body) = (response.status().as_u16(), read(response).await);
                response::judge(status, body.as_deref(), &delivery.response)
            }
            Err(error) if error.is_builder() => Answer::Refused("REQUEST_MALFORMED".to_owned()),
            Err(error) if error.is_connect() => Answer::NotNow("UNREACHABLE".to_owned()),
            Err(error) if error.is_timeout() => Answer::Unclear("TIMEOUT".to_owned()),
            Err(_) => Answer::Unclear("CONNECTION_LOST".to_owned()),
        }
    }
}

/// The body of an answer; `None` when it is too long or breaks off.
async fn read(mut response: Response) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.ok()? {
        if body.len() + chunk.len() > MAX_RESPONSE_BYTES {
            tracing::warn!(limit = MAX_RESPONSE_BYTES, "the answer of the target is too long and not read");
            return None;
        }
        body.extend_from_slice(&chunk);
    }
    Some(body)
}

fn headers(webhook: &Webhook, key: &str, delivery: &Delivery) -> Option<HeaderMap> {
    let timestamp = Timestamp::now().as_second();
    let signature = webhook.sign(key, timestamp, delivery.body.as_bytes()).ok()?;
    let mut headers = HeaderMap::new();
    for (name, value) in &delivery.headers {
        headers.insert(HeaderName::from_bytes(name.as_bytes()).ok()?, value.parse().ok()?);
    }
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(IDEMPOTENCY_KEY, key.parse().ok()?);
    headers.insert(HEADER_WEBHOOK_ID, key.parse().ok()?);
    headers.insert(HEADER_WEBHOOK_TIMESTAMP, timestamp.into());
    headers.insert(HEADER_WEBHOOK_SIGNATURE, signature.parse().ok()?);
    Some(headers)
}
