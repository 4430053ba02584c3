//! Requests to the API of a target: a token instead of a signature, and an answer that is read.

use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderName, HeaderValue};
use reqwest::{Client, Method};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::Value;

use crate::answer::{self, Answer};
use crate::guard::System;
use crate::send::{self, Error, IDEMPOTENCY_KEY};
use crate::target::Target;

const JSON: &str = "application/json";

/// Calls the API of one target, and nothing else.
pub struct Caller {
    client: Client,
    base: String,
    token: Option<(HeaderName, HeaderValue)>,
    connect_timeout: Duration,
}

/// A call; the same one at every attempt.
#[derive(Debug, Clone)]
pub struct Call<'a> {
    /// The idempotency key.
    pub id: &'a str,
    /// Method.
    pub method: Method,
    /// Path below the target's URL, with its query.
    pub path: &'a str,
    /// JSON; empty for none.
    pub body: &'a str,
    /// Longest wait for the answer once connected.
    pub timeout: Duration,
}

impl Caller {
    /// A caller of a target, with the value of a header that says who calls; `None` for a target whose URL is not
    /// allowed, or a token that no header can hold.
    ///
    /// # Errors
    /// The system has no TLS roots.
    pub fn new(
        target: &Target,
        header: HeaderName,
        token: Option<&SecretString>,
        connect_timeout: Duration,
    ) -> Result<Option<Self>, Error> {
        let value = token.map(|token| HeaderValue::from_str(token.expose_secret())).transpose();
        let (Ok(place), Ok(value)) = (target.place(), value) else { return Ok(None) };
        let token = value.map(|mut value| {
            value.set_sensitive(true);
            (header, value)
        });
        let client = send::client(place.reach, connect_timeout, Arc::new(System))?;
        Ok(Some(Self { client, base: place.base, token, connect_timeout }))
    }

    /// Calls once, for the JSON of the answer, null where it holds none. `name` is that of the target, for the log.
    pub async fn call(&self, name: &str, call: Call<'_>) -> Answer<Value> {
        let Some(url) = send::below(&self.base, call.path) else {
            return Answer::Refused("REQUEST_MALFORMED".to_owned());
        };
        let mut sending = self
            .client
            .request(call.method, url)
            .header(ACCEPT, JSON)
            .header(IDEMPOTENCY_KEY, call.id)
            .timeout(self.connect_timeout + call.timeout);
        if let Some((header, token)) = &self.token {
            sending = sending.header(header, token);
        }
        if !call.body.is_empty() {
            sending = sending.header(CONTENT_TYPE, JSON).body(call.body.to_owned());
        }
        let reply = match sending.send().await {
            Ok(response) => answer::read(response).await,
            Err(error) => send::unanswered(name, &error),
        };
        let json =
            |body: Option<Vec<u8>>| serde_json::from_slice(&body.unwrap_or_default()).unwrap_or_default();
        reply.and_then(|reply| Answer::Done(json(reply.body)))
    }
}
