//! Writes an answer: by a model when one is configured, by the passages' own sentences else or when it
//! fails.

use tokio::sync::mpsc::Sender;
use tokio::time::Instant;
use tracing::field::Empty;

use crate::answer::{Answer, Request, Usage};
use crate::attempt::Attempt;
use crate::cache::{self, Cache, Found};
use crate::chat;
use crate::config::Config;
use crate::extract::{self, Extract, Words};
use crate::leak::Canaries;
use crate::prompt::{self, Prompt};
use crate::served::Served;
use crate::support::Judge;
use crate::transport::Failure;

/// Name of the model when the passages' own sentences are the answer.
pub const EXTRACTIVE: &str = "extractive";
/// Why a model was stopped that gave its prompt away, for `error.type` of spans and for logs.
pub(crate) const LEAK: &str = "PROMPT_LEAK";
/// Kept back from the caller's deadline for the extractive answer.
const RESERVE: std::time::Duration = std::time::Duration::from_millis(100);
/// Bytes of a token, to estimate a usage the server does not tell.
pub(crate) const TOKEN_BYTES: u64 = 4;
/// Tokens a server may add to a prompt for its chat template.
const TEMPLATE_TOKENS: u64 = 1024;

/// What comes out while an answer is written.
#[derive(Debug, Clone)]
pub enum Event {
    /// A piece of the answer that is checked and may be shown.
    Delta {
        /// The text, with the white space before it.
        text: String,
        /// Whether all earlier pieces are void.
        restart: bool,
    },
    /// The whole answer; the last event.
    Final(Box<Answer>),
}

/// Why a model gave no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("the prompt cannot be rendered")]
    Prompt(#[from] prompt::Error),
    #[error("the model call failed")]
    Chat(#[from] Failure),
    #[error("the model began to repeat its prompt")]
    Leak,
}

impl Error {
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::Prompt(_) => "PROMPT",
            Self::Chat(failure) => failure.error.reason(),
            Self::Leak => LEAK,
        }
    }
}

/// Writes answers.
#[derive(Debug)]
pub struct Writer {
    pub(crate) config: Config,
    pub(crate) canaries: Canaries,
    pub(crate) judge: Judge,
    pub(crate) prompt: Prompt,
    /// In the order in which they are asked; none where the passages' own sentences answer.
    pub(crate) models: Vec<Served>,
    /// What judges answers.
    pub(crate) judging: Option<Served>,
    cache: Option<Cache>,
}

impl Writer {
    /// A writer with these settings. With provider "openai" the prompt is needed, and a rustls provider
    /// must be installed.
    ///
    /// # Errors
    /// The base URL or the key cannot be used, or the HTTP client cannot be built.
    pub fn new(config: Config, prompt: Prompt) -> anyhow::Result<Self> {
        let (models, judge) = (Served::all(&config)?, Judge::new(config.overlap_weight));
        let judging = models.first().map(|first| first.named(&config, config.judging_model()));
        let cache = Cache::new(&config, prompt.version())?;
        Ok(Self { config, canaries: Canaries::new(), judge, prompt, models, judging, cache })
    }

    /// Writes the answer as events, of which the last is final. Never later than `deadline` because of a
    /// model; dropping the future ends the model's call.
    pub async fn write(&self, request: &Request, deadline: Option<Instant>, events: &Sender<Event>) {
        let Judge { terms, lexicon, .. } = &self.judge;
        let words = Words { terms, lexicon };
        let Request { question, context, passages, .. } = request;
        let found = extract::compose(words, question, context, passages, self.config.max_sentences);
        let support = found.as_ref().map_or(0.0, |found| found.support);
        let found =
            found.filter(|found| found.support >= self.config.answer_threshold.max(request.min_support));
        // Without passages, or where they say too little, nothing a model writes could be supported.
        let worth = !request.passages.is_empty() && support >= request.min_support;
        let answer = if self.models.is_empty() || !worth || request.extractive {
            self.extract(found, events).await
        } else {
            let end = deadline.map(|deadline| deadline.checked_sub(RESERVE).unwrap_or(deadline));
            match self.known_or_written(request, end, events).await {
                Ok(answer) => answer,
                Err((tried, error)) => self.instead(tried, &error, found, events).await,
            }
        };
        // A receiver that is gone wants no answer.
        let _ = events.send(Event::Final(Box::new(Answer { support, ..answer }))).await;
    }

    /// The answer that is known already, or one of the models.
    async fn known_or_written(
        &self,
        request: &Request,
        end: Option<Instant>,
        events: &Sender<Event>,
    ) -> Result<Answer, (Answer, Error)> {
        let write = || self.ask_models(request, end, events);
        let keyed = self.cache.as_ref().and_then(|cache| Some((cache, cache.key(request)?)));
        let Some((cache, key)) = keyed else { return write().await };
        match cache.through(key, request, write).await {
            Found::Written(written) => written,
            Found::Known(answer) => {
                self.send(events, answer.text.clone(), false).await;
                Ok(cache::again(&answer))
            }
        }
    }

    /// Lets the models write, one after the other, until one has an answer; else what they cost, and why the last one
    /// has none.
    async fn ask_models(
        &self,
        request: &Request,
        end: Option<Instant>,
        events: &Sender<Event>,
    ) -> Result<Answer, (Answer, Error)> {
        let mut tried = (Answer::default(), Error::Chat(chat::Error::Timeout.into()));
        for (place, model) in self.models.iter().enumerate() {
            let others = self.models.len() - place - 1;
            let mut attempt = Attempt::new(self, model, others, tried.0, events);
            let failed = match attempt.traced(request, end).await {
                Ok(()) => return Ok(attempt.answer),
                Err(error) => error,
            };
            let (reason, base_url, turn_id) = (failed.reason(), model.chat.base_url(), &request.turn_id);
            let error = in_words(&failed);
            tracing::error!(
                reason,
                error,
                generator.base_url = base_url,
                turn_id,
                "the model gave no answer"
            );
            if !attempt.answer.statements.is_empty() {
                self.send(events, String::new(), true).await;
            }
            let Answer { usage, cost_usd, prices, model, prompt_version, .. } = attempt.answer;
            tried = (Answer { usage, cost_usd, prices, model, prompt_version, ..Answer::default() }, failed);
            // What made one model give its prompt away would try the next one.
            if matches!(tried.1, Error::Leak) {
                break;
            }
        }
        Err(tried)
    }

    /// What the customer gets when a model gave no answer, with what its attempt cost: the passages' own
    /// sentences, or nothing when it gave its prompt away, since then someone is attacking.
    async fn instead(
        &self,
        tried: Answer,
        error: &Error,
        found: Option<Extract>,
        events: &Sender<Event>,
    ) -> Answer {
        let Answer { usage, cost_usd, prices, model, prompt_version, .. } = tried;
        match error {
            Error::Leak => {
                Answer { usage, cost_usd, prices, model, prompt_version, leaked: true, ..Answer::default() }
            }
            _ => {
                let model_failure = in_words(error);
                Answer { usage, cost_usd, prices, model_failure, ..self.extract(found, events).await }
            }
        }
    }

    pub(crate) async fn send(&self, events: &Sender<Event>, text: String, restart: bool) {
        let _ = events.send(Event::Delta { text, restart }).await;
    }

    /// The extractive answer; without statements when the support is too weak.
    async fn extract(&self, found: Option<Extract>, events: &Sender<Event>) -> Answer {
        let mut answer = Answer { model: EXTRACTIVE.to_owned(), ..Answer::default() };
        let Some(found) = found else { return answer };
        for (gap, statement) in found.pieces {
            let text = format!("{gap}{}", statement.text);
            answer.text.push_str(&text);
            answer.statements.push(statement);
            self.send(events, text, false).await;
        }
        if !found.unknown.is_empty() {
            let text = format!("\n\n{}", found.unknown);
            answer.text.push_str(&text);
            self.send(events, text, false).await;
        }
        answer.citations = found.citations;
        answer
    }
}

/// An error with its cause.
fn in_words(error: &Error) -> String {
    let cause = std::error::Error::source(error).map(ToString::to_string);
    cause.map_or(error.to_string(), |cause| format!("{error}: {cause}"))
}

/// The span of a model call; no content is recorded.
pub(crate) fn span(model: &str, max_tokens: u64) -> tracing::Span {
    tracing::info_span!(
        "chat",
        otel.name = format!("chat {model}"),
        otel.kind = "client",
        otel.status_code = Empty,
        error.r#type = Empty,
        gen_ai.operation.name = "chat",
        gen_ai.provider.name = "openai",
        gen_ai.request.model = model,
        gen_ai.request.max_tokens = max_tokens,
        gen_ai.response.model = Empty,
        gen_ai.usage.input_tokens = Empty,
        gen_ai.usage.output_tokens = Empty,
    )
}

/// Records what came of a call of the model `asked` for since `start`, in its span and as metrics.
pub(crate) fn close(
    span: &tracing::Span,
    (asked, start): (&str, Instant),
    model: &str,
    usage: Usage,
    failed: Option<&'static str>,
) {
    let Usage { input, output, .. } = usage;
    kit::ModelCall { asked, answered: model, input, output, time: start.elapsed(), failed }.measure();
    span.record("gen_ai.response.model", model);
    span.record("gen_ai.usage.input_tokens", usage.input);
    span.record("gen_ai.usage.output_tokens", usage.output);
    if let Some(reason) = failed {
        span.record("error.type", reason);
        span.record("otel.status_code", "ERROR");
    }
}

/// The usage the server told, where it can be true, else an estimate from the texts.
pub(crate) fn usage(told: Option<Usage>, prompt: &str, text: &str, max_tokens: u64) -> Usage {
    let (prompt, text) = (prompt.len() as u64, text.len() as u64);
    let estimate =
        Usage { input: prompt.div_ceil(TOKEN_BYTES), cached: 0, output: text.div_ceil(TOKEN_BYTES) };
    // A token has at least one byte; tokens of thought count as output without showing.
    let possible = |told: &Usage| {
        (1..=prompt + TEMPLATE_TOKENS).contains(&told.input)
            && (1..=max_tokens.max(text)).contains(&told.output)
    };
    told.filter(possible).unwrap_or(estimate)
}
