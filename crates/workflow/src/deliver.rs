//! One signed request to a target, and what its answer proves about the effect.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, Method, Response, StatusCode, redirect, retry};
use serde::{Deserialize, Serialize};
use standardwebhooks::{HEADER_WEBHOOK_ID, HEADER_WEBHOOK_SIGNATURE, HEADER_WEBHOOK_TIMESTAMP, Webhook};

use crate::catalogue::{self, Workflow};
use crate::config::{Config, Target};

/// Longest answer that is read.
const MAX_RESPONSE_BYTES: usize = 64 * 1024;
/// Longest reference that is shown.
const MAX_REFERENCE_CHARS: usize = 128;
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

/// What an attempt proved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The effect happened; with the receiver's reference.
    Done(Option<String>),
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

impl Delivery {
    /// The request of a workflow with its slots filled in.
    ///
    /// # Errors
    /// A template that does not render.
    pub(crate) fn of(
        workflow: &Workflow,
        slots: &BTreeMap<String, String>,
    ) -> Result<Self, catalogue::Error> {
        let request = &workflow.request.template;
        let idempotent = workflow.effect == bundle::Effect::Idempotent;
        let method = match request.method {
            bundle::Method::Post => Method::POST,
            bundle::Method::Put => Method::PUT,
            bundle::Method::Patch => Method::PATCH,
            bundle::Method::Delete => Method::DELETE,
        };
        Ok(Self {
            target: request.target.clone(),
            method: method.to_string(),
            path: request.path.clone(),
            body: workflow.request.body(slots)?,
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
        let (Some(method), Some(headers)) = (method, headers(&receiver.webhook, key, &delivery.body)) else {
            return Answer::Refused("REQUEST_MALFORMED".to_owned());
        };
        let request = receiver
            .client
            .request(method, format!("{}{}", receiver.base, delivery.path))
            .headers(headers)
            .timeout(self.connect_timeout + Duration::from_millis(delivery.timeout_ms))
            .body(delivery.body.clone());
        match request.send().await {
            Ok(response) => read(response).await,
            Err(error) if error.is_builder() => Answer::Refused("REQUEST_MALFORMED".to_owned()),
            Err(error) if error.is_connect() => Answer::NotNow("UNREACHABLE".to_owned()),
            Err(error) if error.is_timeout() => Answer::Unclear("TIMEOUT".to_owned()),
            Err(_) => Answer::Unclear("CONNECTION_LOST".to_owned()),
        }
    }
}

/// What a status proves. A redirect that means "done, look there" is no proof of anything.
async fn read(response: Response) -> Answer {
    let status = response.status();
    let error = format!("HTTP_{}", status.as_u16());
    match status {
        status if status.is_success() => Answer::Done(reference(response).await),
        StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT => Answer::Refused(error),
        // 409 is what a receiver says while it still works on the same key.
        StatusCode::REQUEST_TIMEOUT
        | StatusCode::CONFLICT
        | StatusCode::TOO_EARLY
        | StatusCode::TOO_MANY_REQUESTS => Answer::NotNow(error),
        status if status.is_client_error() => Answer::Refused(error),
        _ => Answer::Unclear(error),
    }
}

/// The receiver's "reference"; an answer that is too long, broken or no JSON is a delivery without one.
async fn reference(mut response: Response) -> Option<String> {
    #[derive(Deserialize)]
    struct Receipt {
        reference: String,
    }
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.ok()? {
        if body.len() + chunk.len() > MAX_RESPONSE_BYTES {
            tracing::warn!(
                limit = MAX_RESPONSE_BYTES,
                "the answer of the target is too long, its reference is not read"
            );
            return None;
        }
        body.extend_from_slice(&chunk);
    }
    let Receipt { reference } = serde_json::from_slice(&body).ok()?;
    let shown = (1..=MAX_REFERENCE_CHARS).contains(&reference.chars().count());
    (shown && !reference.chars().any(char::is_control)).then_some(reference)
}

fn headers(webhook: &Webhook, key: &str, body: &str) -> Option<HeaderMap> {
    let timestamp = Timestamp::now().as_second();
    let signature = webhook.sign(key, timestamp, body.as_bytes()).ok()?;
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(IDEMPOTENCY_KEY, key.parse().ok()?);
    headers.insert(HEADER_WEBHOOK_ID, key.parse().ok()?);
    headers.insert(HEADER_WEBHOOK_TIMESTAMP, timestamp.into());
    headers.insert(HEADER_WEBHOOK_SIGNATURE, signature.parse().ok()?);
    Some(headers)
}
