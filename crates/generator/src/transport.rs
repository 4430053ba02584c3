//! One request to a model server, and why it failed. The seam to async-openai's errors.

use std::time::Duration;

use async_openai::error::OpenAIError;
use async_openai::middleware::HttpRequestFactory;
use futures::StreamExt as _;
use reqwest::header::{self, HeaderMap};
use serde_json::{Value, json};

use crate::chat::Error;

/// Wait before the retry of a server error that names no time.
const BACKOFF: Duration = Duration::from_millis(200);

/// A failed attempt, and how long to wait before a retry where one makes sense.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub(crate) struct Failure {
    pub(crate) error: Error,
    pub(crate) retry_after: Option<Duration>,
}

impl Failure {
    /// How long the server wants to be left alone, if it said so.
    pub(crate) fn wait(&self) -> Option<Duration> {
        self.retry_after.filter(|_| matches!(self.error, Error::Status(429)))
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self { error, retry_after: None }
    }
}

impl From<reqwest::Error> for Failure {
    fn from(error: reqwest::Error) -> Self {
        // The URL may hold secrets of a gateway.
        let error = error.without_url();
        Self::from(match () {
            () if error.is_timeout() => Error::Timeout,
            () if error.is_connect() => Error::Connect(error),
            () => Error::Broken(error),
        })
    }
}

impl From<OpenAIError> for Failure {
    fn from(error: OpenAIError) -> Self {
        match error {
            OpenAIError::Boxed(inner) => match inner.downcast::<Self>() {
                Ok(failure) => *failure,
                Err(other) => Self::from(Error::Garbage(other.to_string())),
            },
            OpenAIError::Reqwest(error) => Self::from(error),
            OpenAIError::ApiError(error) => Self::from(Error::Status(error.status_code.as_u16())),
            // The content stays out of the message: it may be the customer's.
            OpenAIError::JSONDeserialize(error, _) => Self::from(Error::Garbage(error.to_string())),
            OpenAIError::StreamError(_) => Self::from(Error::Truncated),
            _ => Self::from(Error::Garbage("the request could not be built".to_owned())),
        }
    }
}

/// Sends one request, without the retries async-openai makes by default: those would multiply with ours
/// and outlast the deadline. A body of more than `max` bytes breaks off.
pub(crate) async fn send(
    http: reqwest::Client,
    request: HttpRequestFactory,
    max: usize,
) -> Result<reqwest::Response, OpenAIError> {
    let boxed = |failure: Failure| OpenAIError::Boxed(Box::new(failure));
    let response = http.execute(request.build().await?).await.map_err(|error| boxed(error.into()))?;
    let (status, headers) = (response.status(), response.headers());
    if !status.is_success() {
        let said = retry_after(headers);
        let retry_after =
            if status.is_server_error() { said.or(Some(BACKOFF)) } else { said.filter(|_| status == 429) };
        return Err(boxed(Failure { error: Error::Status(status.as_u16()), retry_after }));
    }
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or("nothing");
    if kind.starts_with("application/json") {
        return whole(response, max).await.map_err(boxed);
    }
    if !kind.starts_with("text/event-stream") {
        return Err(boxed(Error::Garbage(format!("content type {kind:?}")).into()));
    }
    let mut read = 0;
    let body = response.bytes_stream().map(move |chunk| {
        let chunk = chunk.map_err(std::io::Error::other)?;
        read += chunk.len();
        if read > max { Err(std::io::Error::other("too long")) } else { Ok(chunk) }
    });
    Ok(http::Response::new(reqwest::Body::wrap_stream(body)).into())
}

/// `Retry-After` in seconds or as a date (RFC 9110, 10.2.3).
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = value.parse::<u64>() {
        return Some(Duration::from_secs(seconds.min(86_400)));
    }
    let date = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(value).ok()?;
    Some(Duration::try_from(date.duration_since(jiff::Timestamp::now())).unwrap_or_default())
}

/// The answer of a server that only answers as a whole, as the one event of a stream.
async fn whole(response: reqwest::Response, max: usize) -> Result<reqwest::Response, Failure> {
    let (mut body, mut chunks) = (Vec::new(), response.bytes_stream());
    while let Some(chunk) = chunks.next().await {
        body.extend_from_slice(&chunk?);
        if body.len() > max {
            return Err(Error::TooLong(max).into());
        }
    }
    let said: Value = serde_json::from_slice(&body).map_err(|error| Error::Garbage(error.to_string()))?;
    let choice = |choice: &Value| {
        let finish = &choice["finish_reason"];
        json!({ "delta": { "content": choice["message"]["content"] }, "finish_reason": finish })
    };
    let choices: Vec<_> = said["choices"].as_array().into_iter().flatten().map(choice).collect();
    let (id, model, usage, error) = (&said["id"], &said["model"], &said["usage"], &said["error"]);
    let event = json!({ "id": id, "model": model, "usage": usage, "error": error, "choices": choices });
    let events = format!("data: {event}\n\ndata: [DONE]\n\n");
    let mut response = http::Response::new(reqwest::Body::from(events));
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, header::HeaderValue::from_static("text/event-stream"));
    Ok(response.into())
}
