//! One signed request to a target.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, Method, redirect, retry};
use standardwebhooks::{HEADER_WEBHOOK_ID, HEADER_WEBHOOK_SIGNATURE, HEADER_WEBHOOK_TIMESTAMP, Webhook};

use crate::answer::{self, Answer};
use crate::target::Target;

/// The header of draft-ietf-httpapi-idempotency-key-header.
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const USER_AGENT: &str = concat!("firstline/", env!("CARGO_PKG_VERSION"));

/// Why there is no sender.
#[derive(Debug, thiserror::Error)]
#[error("no TLS client for the targets: are certificate roots installed on this machine?")]
pub struct Error(#[from] reqwest::Error);

/// A request to a target; the same one at every attempt.
#[derive(Debug, Clone)]
pub struct Request<'a> {
    /// Name of the target in the configuration.
    pub target: &'a str,
    /// Both the webhook's id and the idempotency key.
    pub id: &'a str,
    /// Method.
    pub method: Method,
    /// Path below the target's URL.
    pub path: &'a str,
    /// JSON.
    pub body: &'a str,
    /// Longest wait for the answer once connected.
    pub timeout: Duration,
}

/// Sends requests to the configured targets, and nowhere else. Clones share it.
#[derive(Clone, Default)]
pub struct Sender {
    targets: Arc<BTreeMap<String, Receiver>>,
    connect_timeout: Duration,
}

struct Receiver {
    client: Client,
    base: String,
    webhook: Webhook,
}

impl Sender {
    /// A sender for targets without faults; one with faults is left out.
    ///
    /// # Errors
    /// The system has no TLS roots.
    pub fn new(targets: &BTreeMap<String, Target>, connect_timeout: Duration) -> Result<Self, Error> {
        if targets.is_empty() {
            return Ok(Self::default());
        }
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
        let targets = targets.iter();
        let targets = targets.filter_map(|(name, target)| Some((name.clone(), receiver(target)?))).collect();
        Ok(Self { targets: Arc::new(targets), connect_timeout })
    }

    /// Whether a target is configured.
    pub fn knows(&self, target: &str) -> bool {
        self.targets.contains_key(target)
    }

    /// Sends once.
    pub async fn send(&self, request: Request<'_>) -> Answer {
        let Some(receiver) = self.targets.get(request.target) else {
            return Answer::Refused("TARGET_NOT_CONFIGURED".to_owned());
        };
        let Some(headers) = headers(&receiver.webhook, request.id, request.body) else {
            return Answer::Refused("REQUEST_MALFORMED".to_owned());
        };
        let sending = receiver
            .client
            .request(request.method, format!("{}{}", receiver.base, request.path))
            .headers(headers)
            .timeout(self.connect_timeout + request.timeout)
            .body(request.body.to_owned());
        match sending.send().await {
            Ok(response) => answer::read(response).await,
            Err(error) if error.is_builder() => Answer::Refused("REQUEST_MALFORMED".to_owned()),
            Err(error) if error.is_connect() => Answer::NotNow("UNREACHABLE".to_owned()),
            Err(error) if error.is_timeout() => Answer::Unclear("TIMEOUT".to_owned()),
            Err(_) => Answer::Unclear("CONNECTION_LOST".to_owned()),
        }
    }
}

fn headers(webhook: &Webhook, id: &str, body: &str) -> Option<HeaderMap> {
    let timestamp = Timestamp::now().as_second();
    let signature = webhook.sign(id, timestamp, body.as_bytes()).ok()?;
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(IDEMPOTENCY_KEY, id.parse().ok()?);
    headers.insert(HEADER_WEBHOOK_ID, id.parse().ok()?);
    headers.insert(HEADER_WEBHOOK_TIMESTAMP, timestamp.into());
    headers.insert(HEADER_WEBHOOK_SIGNATURE, signature.parse().ok()?);
    Some(headers)
}
