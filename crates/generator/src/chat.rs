//! One streamed call of a model server: limits, one retry, and what came of it. The seam to async-openai.

use std::time::Duration;

use async_openai::middleware::HttpRequestFactory;
use async_openai::types::stream::StreamResponse;
use futures::StreamExt as _;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout_at};

use crate::answer::Usage;
use crate::breaker::Closed;
use crate::config::{Config, Model, parse_url};
use crate::endpoint::Endpoint;
use crate::transport::{Failure, send};

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
    /// It is not asked now.
    #[error("the model server is not asked: {0}")]
    Closed(#[from] Closed),
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
            Self::Closed(Closed::Broken) => "BREAKER_OPEN",
            Self::Closed(Closed::Waiting | Closed::Limited) => "RATE_LIMITED",
        }
    }

    /// Whether it says that the server is not well, and not that the answer was unwelcome.
    pub(crate) fn is_of_the_server(&self) -> bool {
        !matches!(self, Self::Stopped(_) | Self::Closed(_))
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
    timeout: Duration,
    /// Whether the server only answers as a whole.
    is_unary: bool,
    /// Whether it can be held to a JSON schema.
    pub(crate) knows_schema: bool,
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
    /// A client for a model at a place of the configuration; needs a default rustls provider for https.
    pub(crate) fn new(config: &Config, place: &str, model: &Model) -> anyhow::Result<Self> {
        use anyhow::Context as _;
        let url = parse_url(&model.base_url)
            .with_context(|| format!("{place}.base_url: {:?} is no URL", model.base_url))?;
        let is_openai = url
            .host_str()
            .is_some_and(|host| host == "api.openai.com" || host.ends_with(".openai.azure.com"));
        let http = reqwest::Client::builder()
            .connect_timeout(Duration::from_millis(config.connect_timeout_ms))
            .read_timeout(Duration::from_millis(model.idle_timeout_ms.unwrap_or(config.idle_timeout_ms)))
            // A redirect could lead to an address nobody configured.
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .context("cannot build the HTTP client of the model server")?;
        let endpoint = Endpoint::new(place, model)?;
        let max_events = EVENT_BYTES_BASE + EVENT_BYTES * config.max_answer_bytes;
        let transport = http.clone();
        let service = tower::service_fn(move |request: HttpRequestFactory| {
            send(transport.clone(), request, max_events)
        });
        Ok(Self {
            client: async_openai::Client::build(http, endpoint).with_http_service(service),
            model: model.model.clone(),
            temperature: model.temperature.or(config.temperature),
            max_tokens: model.max_tokens.unwrap_or(config.max_tokens),
            limit_key: if is_openai { "max_completion_tokens" } else { "max_tokens" },
            max_bytes: config.max_answer_bytes,
            timeout: Duration::from_millis(model.timeout_ms.unwrap_or(config.timeout_ms)),
            is_unary: model.unary,
            knows_schema: !model.no_json_schema,
        })
    }

    /// Another model of the same server, with the same limits.
    pub(crate) fn named(&self, model: &str) -> Self {
        Self { model: model.to_owned(), ..self.clone() }
    }

    /// Where its server is.
    pub(crate) fn base_url(&self) -> &str {
        use async_openai::config::Config as _;
        self.client.config().api_base()
    }

    /// Name of the model that is asked for.
    pub(crate) fn name(&self) -> &str {
        &self.model
    }

    /// Most tokens a completion may have.
    pub(crate) fn max_tokens(&self) -> u32 {
        self.max_tokens
    }

    /// Longest time for a whole answer.
    pub(crate) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Sends the prompt, for a reply of at most `max_tokens`. Where nobody else can be asked (`is_last`) a server error is retried once, and a rate limit too
    /// when it says how long to wait and that ends before the deadline.
    pub(crate) async fn open(
        &self,
        prompt: &str,
        max_tokens: u32,
        is_last: bool,
        deadline: Instant,
    ) -> Result<Reply, Failure> {
        self.send(prompt, max_tokens, None, is_last, deadline).await
    }

    /// As [`ChatModel::open`], for a reply of at most `max_tokens` that follows a JSON schema.
    pub(crate) async fn open_json(
        &self,
        prompt: &str,
        max_tokens: u32,
        schema: &Value,
        deadline: Instant,
    ) -> Result<Reply, Failure> {
        self.send(prompt, max_tokens, Some(schema), true, deadline).await
    }

    async fn send(
        &self,
        prompt: &str,
        max_tokens: u32,
        schema: Option<&Value>,
        is_last: bool,
        deadline: Instant,
    ) -> Result<Reply, Failure> {
        let mut body = json!({
            "model": self.model,
            "messages": [{ "role": "user", "content": prompt }],
            "stream": !self.is_unary,
            self.limit_key: max_tokens,
        });
        if !self.is_unary {
            body["stream_options"] = json!({ "include_usage": true });
        }
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
            Err(Failure { retry_after: Some(wait), .. }) if is_last && Instant::now() + wait < deadline => {
                sleep(wait).await;
                call().await
            }
            first => first,
        };
        let stream = stream?;
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
