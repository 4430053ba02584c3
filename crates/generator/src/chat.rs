//! One streamed call of a model server: limits, one retry, and what came of it. The seam to async-openai.

use std::time::Duration;

use async_openai::error::OpenAIError;
use async_openai::middleware::HttpRequestFactory;
use async_openai::types::stream::StreamResponse;
use futures::StreamExt as _;
use reqwest::header::{self, HeaderMap};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout_at};

use crate::answer::Usage;
use crate::config::{Config, parse_url};
use crate::endpoint::Endpoint;

/// Wait before the retry of a server error that names no time.
const BACKOFF: Duration = Duration::from_millis(200);
/// Wait for the usage after the model said that it is done.
const USAGE_WAIT: Duration = Duration::from_millis(500);
/// Bytes of server-sent events for one byte of text: a token of one letter comes in about 300 bytes.
const EVENT_BYTES: usize = 512;
/// Events without a text of their own: role, usage, keep-alive comments.
const EVENT_BYTES_BASE: usize = 64 * 1024;

/// Why a call gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The connection failed.
    #[error("cannot connect to the model server")]
    Connect(#[source] reqwest::Error),
    /// The connection broke.
    #[error("the connection to the model server broke")]
    Broken(#[source] reqwest::Error),
    /// The server refused, also after a retry where one makes sense.
    #[error("the model server answered with status {0}")]
    Status(u16),
    /// No time was left.
    #[error("the model server took too long")]
    Timeout,
    /// The stream ended before the model was done.
    #[error("the model's answer broke off")]
    Truncated,
    /// The model was done and had said nothing.
    #[error("the model's answer is empty")]
    Empty,
    /// The answer passed its limit.
    #[error("the model's answer is longer than {0} bytes")]
    TooLong(usize),
    /// The model ended for another reason than being done, for example "`content_filter`".
    #[error("the model stopped with reason {0:?}")]
    Stopped(String),
    /// The reply is not what the protocol asks for.
    #[error("the model server's reply is no stream of chat completions: {0}")]
    Garbage(String),
}

impl Error {
    /// A constant for `error.type` of spans and for logs.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Connect(_) => "CONNECT",
            Self::Broken(_) => "BROKEN",
            Self::Status(429) => "RATE_LIMITED",
            Self::Status(_) => "STATUS",
            Self::Timeout => "TIMEOUT",
            Self::Truncated => "TRUNCATED",
            Self::Empty => "EMPTY",
            Self::TooLong(_) => "TOO_LONG",
            Self::Stopped(_) => "STOPPED",
            Self::Garbage(_) => "GARBAGE",
        }
    }
}

/// A model behind a server that speaks the OpenAI chat completions protocol.
#[derive(Debug, Clone)]
pub(crate) struct ChatModel {
    client: async_openai::Client<Endpoint>,
    model: String,
    temperature: Option<f64>,
    max_tokens: u32,
    /// OpenAI's own name of the token limit; older servers only know "max_tokens".
    limit_key: &'static str,
    max_bytes: usize,
}

/// An answer on its way.
pub(crate) struct Reply {
    stream: StreamResponse<Chunk>,
    deadline: Instant,
    max_bytes: usize,
    bytes: usize,
    finish: Option<String>,
    /// Tokens, when the server said so.
    pub(crate) usage: Option<Usage>,
    /// Name of the model as the server gives it.
    pub(crate) model: Option<String>,
    /// Id of the completion, when the server said so.
    pub(crate) id: Option<String>,
}

impl ChatModel {
    /// A client for the configured server; needs a default rustls provider for https.
    pub(crate) fn new(config: &Config) -> anyhow::Result<Self> {
        use anyhow::Context as _;
        let url = parse_url(&config.base_url)
            .with_context(|| format!("generator.base_url: {:?} is no URL", config.base_url))?;
        let is_openai = url
            .host_str()
            .is_some_and(|host| host == "api.openai.com" || host.ends_with(".openai.azure.com"));
        let http = reqwest::Client::builder()
            .connect_timeout(Duration::from_millis(config.connect_timeout_ms))
            .read_timeout(Duration::from_millis(config.idle_timeout_ms))
            // A redirect could lead to an address nobody configured.
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .context("cannot build the HTTP client of the model server")?;
        let endpoint = Endpoint::new(&config.base_url, config.api_key.clone())?;
        let max_events = EVENT_BYTES_BASE + EVENT_BYTES * config.max_answer_bytes;
        let transport = http.clone();
        let service = tower::service_fn(move |request: HttpRequestFactory| {
            send(transport.clone(), request, max_events)
        });
        Ok(Self {
            client: async_openai::Client::build(http, endpoint).with_http_service(service),
            model: config.model.clone(),
            temperature: config.temperature,
            max_tokens: config.max_tokens,
            limit_key: if is_openai { "max_completion_tokens" } else { "max_tokens" },
            max_bytes: config.max_answer_bytes,
        })
    }

    /// Another model of the same server, with the same limits.
    pub(crate) fn named(&self, model: &str) -> Self {
        Self { model: model.to_owned(), ..self.clone() }
    }

    /// Name of the model that is asked for.
    pub(crate) fn name(&self) -> &str {
        &self.model
    }

    /// Most tokens a completion may have.
    pub(crate) fn max_tokens(&self) -> u64 {
        u64::from(self.max_tokens)
    }

    /// Sends the prompt. A server error is retried once, and a rate limit too when it says how long to
    /// wait and that ends before the deadline.
    pub(crate) async fn open(&self, prompt: &str, deadline: Instant) -> Result<Reply, Error> {
        self.send(prompt, self.max_tokens, None, deadline).await
    }

    /// As [`ChatModel::open`], for a reply of at most `max_tokens` that follows a JSON schema.
    pub(crate) async fn open_json(
        &self,
        prompt: &str,
        max_tokens: u32,
        schema: &Value,
        deadline: Instant,
    ) -> Result<Reply, Error> {
        self.send(prompt, max_tokens, Some(schema), deadline).await
    }

    async fn send(
        &self,
        prompt: &str,
        max_tokens: u32,
        schema: Option<&Value>,
        deadline: Instant,
    ) -> Result<Reply, Error> {
        let mut body = json!({
            "model": self.model,
            "messages": [{ "role": "user", "content": prompt }],
            "stream": true,
            "stream_options": { "include_usage": true },
            self.limit_key: max_tokens,
        });
        if let Some(schema) = schema {
            let schema = json!({ "name": "reply", "strict": true, "schema": schema });
            body["response_format"] = json!({ "type": "json_schema", "json_schema": schema });
        }
        if let Some(temperature) = self.temperature {
            body["temperature"] = json!(temperature);
        }
        let chat = self.client.chat();
        let call = || async {
            let sent = timeout_at(deadline, chat.create_stream_byot::<_, Chunk>(&body)).await;
            sent.map_err(|_| Failure::from(Error::Timeout))?.map_err(Failure::from)
        };
        let stream = match call().await {
            Err(Failure { retry_after: Some(wait), .. }) if Instant::now() + wait < deadline => {
                sleep(wait).await;
                call().await
            }
            first => first,
        };
        let stream = stream.map_err(|failure| failure.error)?;
        let max_bytes = self.max_bytes;
        Ok(Reply { stream, deadline, max_bytes, bytes: 0, finish: None, usage: None, model: None, id: None })
    }
}

impl Reply {
    /// The next words, or `None` when the model is done. Whether it finished its last sentence:
    /// [`Reply::is_whole`].
    pub(crate) async fn next(&mut self) -> Result<Option<String>, Error> {
        loop {
            let deadline = match self.finish {
                Some(_) => self.deadline.min(Instant::now() + USAGE_WAIT),
                None => self.deadline,
            };
            let chunk = match timeout_at(deadline, self.stream.next()).await {
                Ok(Some(Ok(chunk))) => chunk,
                // Whatever happens after the last word cannot spoil the answer.
                _ if self.finish.is_some() => return self.end(),
                Ok(Some(Err(error))) => return Err(Failure::from(error).error),
                Ok(None) => return Err(Error::Truncated),
                Err(_) => return Err(Error::Timeout),
            };
            if chunk.error.is_some() {
                return Err(Error::Garbage("an error inside the stream".to_owned()));
            }
            self.model = self.model.take().or(chunk.model.filter(|model| !model.is_empty()));
            self.id = self.id.take().or(chunk.id.filter(|id| !id.is_empty()));
            self.usage = chunk.usage.map(Usage::from).or(self.usage);
            let Some(choice) = chunk.choices.into_iter().next() else { continue };
            self.finish = self.finish.take().or(choice.finish_reason);
            let text = choice.delta.content.unwrap_or_default();
            self.bytes += text.len();
            if self.bytes > self.max_bytes {
                return Err(Error::TooLong(self.max_bytes));
            }
            if !text.is_empty() {
                return Ok(Some(text));
            }
        }
    }

    /// Whether the model ended by itself and not at the token limit.
    pub(crate) fn is_whole(&self) -> bool {
        self.finish.as_deref() != Some("length")
    }

    fn end(&self) -> Result<Option<String>, Error> {
        match self.finish.as_deref() {
            Some("content_filter" | "tool_calls" | "function_call") => {
                Err(Error::Stopped(self.finish.clone().unwrap_or_default()))
            }
            _ if self.bytes == 0 => Err(Error::Empty),
            _ => Ok(None),
        }
    }
}

/// One event of the stream: only what is used, so that servers may leave out or add what they like.
#[derive(Debug, Deserialize)]
struct Chunk {
    #[serde(default)]
    choices: Vec<Choice>,
    id: Option<String>,
    model: Option<String>,
    usage: Option<Tokens>,
    error: Option<serde::de::IgnoredAny>,
}

#[derive(Debug, Deserialize)]
struct Choice {
    #[serde(default)]
    delta: Delta,
    finish_reason: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
struct Delta {
    content: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Tokens {
    #[serde(default)]
    prompt_tokens: u64,
    #[serde(default)]
    completion_tokens: u64,
    prompt_tokens_details: Option<Details>,
}

#[derive(Debug, Deserialize)]
struct Details {
    cached_tokens: Option<u64>,
}

impl From<Tokens> for Usage {
    fn from(tokens: Tokens) -> Self {
        let cached = tokens.prompt_tokens_details.and_then(|details| details.cached_tokens).unwrap_or(0);
        Self {
            input: tokens.prompt_tokens,
            cached: cached.min(tokens.prompt_tokens),
            output: tokens.completion_tokens,
        }
    }
}

/// A failed attempt, and how long to wait before a retry where one makes sense.
#[derive(Debug, thiserror::Error)]
#[error("an attempt failed")]
struct Failure {
    #[source]
    error: Error,
    retry_after: Option<Duration>,
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
async fn send(
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
