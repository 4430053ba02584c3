//! Writes an answer: by a model when one is configured, by the passages' own sentences else or when it
//! fails.

use kit::generation::Queued;
use tokio::sync::mpsc::Sender;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;
use tracing::field::Empty;

use crate::answer::{Answer, Call, Request, Saved, Usage};
use crate::cache::Cache;
use crate::chat;
use crate::config::Config;
use crate::extract::{self, Extract, Words};
use crate::leak::Canaries;
use crate::pack::{Packed, pack};
use crate::prompt::{self, Prompt};
use crate::route::{Offer, Route, Router};
use crate::served::Served;
use crate::support::Judge;
use crate::tokenizer::Tokenizer;
use crate::transport::Failure;

/// Name of the model when the passages' own sentences are the answer.
pub const EXTRACTIVE: &str = "extractive";
/// Why a model was stopped that gave its prompt away, for `error.type` of spans and for logs.
pub(crate) const LEAK: &str = "PROMPT_LEAK";
/// Kept back from the caller's deadline for the extractive answer.
const RESERVE: std::time::Duration = std::time::Duration::from_millis(100);
/// Tokens a server may add to a prompt for its chat template.
const TEMPLATE_TOKENS: u64 = 1024;
/// Tokens an answer is expected to have, to compare what models cost.
const EXPECTED_TOKENS: u64 = 120;

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
    #[error("no model may be asked within the budgets")]
    Spared,
}

impl Error {
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::Prompt(_) => "PROMPT",
            Self::Chat(failure) => failure.error.reason(),
            Self::Leak => LEAK,
            Self::Spared => "SPARED",
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
    router: Router,
    /// Answers that may be written at the same time.
    places: Semaphore,
    pub(crate) cache: Option<Cache>,
}

/// What came of asking models in vain: what that cost, and why the last one has no answer.
pub(crate) type Tried = (Vec<Call>, Error);

impl Writer {
    /// A writer with these settings. With provider "openai" the prompt is needed, and a rustls provider
    /// must be installed.
    ///
    /// # Errors
    /// The base URL or the key cannot be used, or the HTTP client cannot be built.
    pub fn new(config: Config, prompt: Prompt) -> anyhow::Result<Self> {
        let (models, judge) = (Served::all(&config)?, Judge::new(config.overlap_weight));
        let first = models.first().filter(|_| config.may_judge());
        let judging = first.map(|first| first.named(&config, config.judging_model()));
        let cache = Cache::new(&config, &prompt)?;
        let (router, places) = (Router::default(), Semaphore::new(config.max_in_flight));
        Ok(Self { config, canaries: Canaries::new(), judge, prompt, models, judging, router, places, cache })
    }

    /// Writes the answer as events, of which the last is final. Never later than `deadline` because of a
    /// model; dropping the future ends the model's call.
    pub async fn write(&self, request: &Request, deadline: Option<Instant>, events: &Sender<Event>) {
        let keyed = self.keyed(request);
        if let Some(known) = self.known(keyed, request, events).await {
            let _ = events.send(Event::Final(Box::new(known))).await;
            return;
        }
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
            match self.known_or_written(keyed, (request, support, end), events).await {
                Ok(answer) => answer,
                Err(tried) => self.instead(tried, found, events).await,
            }
        };
        // A receiver that is gone wants no answer.
        let _ = events.send(Event::Final(Box::new(Answer { support, ..answer }))).await;
    }

    /// Lets the models write, one after the other, until one has an answer; else what they cost, and why the last one
    /// has none.
    pub(crate) async fn ask_models(
        &self,
        request: &Request,
        end: Option<Instant>,
        events: &Sender<Event>,
    ) -> Result<Answer, Tried> {
        let queued = Queued::now();
        let Some(_place) = self.place(end).await else {
            return Err((Vec::new(), Error::Chat(chat::Error::Timeout.into())));
        };
        let _active = queued.begin();
        let packed = self.pack(request);
        let (input, left_out) = (self.prompt_tokens(&packed.shown), packed.left_out);
        let Route { order, rising } = self.route(request, input);
        let is_routed = order.first().is_some_and(|first| *first > 0);
        let (mut calls, mut short) = (Vec::new(), None::<Answer>);
        let mut failed = Error::Spared;
        let mut place = 0;
        while let Some(index) = order.get(place).filter(|_| short.is_none() || place < rising) {
            let (first, others) = (&self.models[*index], order.len() - place - 1);
            let second = order.get(1).filter(|_| place == 0 && self.config.hedge_after_ms > 0);
            let (skipped, (mut answer, outcome)) = match second {
                Some(second) => {
                    let both = [first, &self.models[*second]];
                    Box::pin(self.hedged(both, others, (&packed, input, end), events)).await
                }
                None => (0, Box::pin(self.attempt(first, others, &packed, end, events)).await),
            };
            place += skipped;
            let index = order[place];
            calls.append(&mut answer.calls);
            match outcome {
                Ok(()) => {
                    let falls_short = answer.falls_short();
                    self.router.learn(&request.category, index, !falls_short, Instant::now());
                    if !falls_short || place + 1 >= rising {
                        return Ok(self.paid(answer, calls, left_out, is_routed));
                    }
                    self.take_back(&answer, events).await;
                    short = Some(answer);
                }
                Err(error) => {
                    self.report(&error, &self.models[index], &request.turn_id);
                    self.take_back(&answer, events).await;
                    failed = error;
                    // What made one model give its prompt away would try the next one.
                    if matches!(failed, Error::Leak) {
                        break;
                    }
                }
            }
            place += 1;
        }
        match short {
            Some(answer) if !matches!(failed, Error::Leak) => {
                self.send(events, answer.text.clone(), true).await;
                Ok(self.paid(answer, calls, left_out, is_routed))
            }
            _ => Err((calls, failed)),
        }
    }

    /// A place among the answers that are written at the same time; `None` when none is free before the end.
    async fn place(&self, end: Option<Instant>) -> Option<SemaphorePermit<'_>> {
        let free = self.places.acquire();
        match end {
            Some(end) => tokio::time::timeout_at(end, free).await.ok()?.ok(),
            None => free.await.ok(),
        }
    }

    /// What of a request the prompt shows.
    fn pack(&self, request: &Request) -> Packed {
        let Judge { terms, lexicon, .. } = &self.judge;
        pack(Words { terms, lexicon }, request, &self.config.packing, &self.models[0].tokenizer)
    }

    /// The models to be asked with a prompt of so many tokens, by what they cost and whom the request allows.
    fn route(&self, request: &Request, input: u64) -> Route {
        let expected = Usage { input, cached: 0, output: EXPECTED_TOKENS };
        let offer = |model: &'_ Served| (model.bill(expected).0, model.is_self_hosted);
        let offers = self.models.iter().map(|model| {
            let (cost_usd, is_self_hosted) = offer(model);
            Offer { name: model.chat.name(), cost_usd, is_self_hosted }
        });
        let Request { category, spending, previous_model, .. } = request;
        let asks = (category.as_str(), *spending, previous_model.as_str());
        self.router.route(self.config.routing, asks, &offers.collect::<Vec<_>>(), Instant::now())
    }

    /// An answer with its calls, and what was saved by as many tokens that the prompt left out, and against the first
    /// model, where that was not to be asked first.
    fn paid(&self, answer: Answer, calls: Vec<Call>, left_out: u64, is_routed: bool) -> Answer {
        let named = |call: &Call| self.models.iter().find(|model| model.chat.name() == call.model);
        let Some((wrote, model)) = calls.last().and_then(|call| Some((call, named(call)?))) else {
            return answer;
        };
        let left_out = Usage { input: left_out, ..Usage::default() };
        let cost: f64 = calls.iter().map(|call| call.cost_usd).sum();
        let saved = Saved {
            packing_tokens: left_out.input,
            packing_usd: model.bill(left_out).0,
            routing_usd: if is_routed { self.models[0].bill(wrote.usage).0 - cost } else { 0.0 },
            ..Saved::default()
        };
        Answer { calls, saved, ..answer }
    }

    /// Tokens of the prompt for a request as the first model counts them; 0 where it cannot be rendered.
    fn prompt_tokens(&self, request: &Request) -> u64 {
        let mark = if self.config.datamark { prompt::free_mark(&request.passages) } else { None };
        let text = self.prompt.render(request, mark, "");
        text.map_or(0, |text| self.models[0].tokenizer.count(&text))
    }

    fn report(&self, error: &Error, model: &Served, turn_id: &str) {
        let (reason, error, base_url) = (error.reason(), in_words(error), model.chat.base_url());
        tracing::error!(reason, error, generator.base_url = base_url, turn_id, "the model gave no answer");
    }

    /// Tells that what was shown of an answer is void.
    async fn take_back(&self, answer: &Answer, events: &Sender<Event>) {
        if !answer.statements.is_empty() {
            self.send(events, String::new(), true).await;
        }
    }

    /// What the customer gets when no model gave an answer, with what the attempts cost: the passages' own
    /// sentences, or nothing when one gave its prompt away, since then someone is attacking.
    async fn instead(&self, (calls, error): Tried, found: Option<Extract>, events: &Sender<Event>) -> Answer {
        if matches!(error, Error::Leak) {
            let model = calls.last().map(|call| call.model.clone()).unwrap_or_default();
            let prompt_version = self.prompt.version().to_owned();
            return Answer { calls, model, prompt_version, leaked: true, ..Answer::default() };
        }
        let model_failure = if matches!(error, Error::Spared) { String::new() } else { in_words(&error) };
        Answer { calls, model_failure, ..self.extract(found, events).await }
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
pub(crate) fn in_words(error: &Error) -> String {
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

/// The usage the server told, where it can be true, else what the texts count.
pub(crate) fn usage(
    told: Option<Usage>,
    (prompt, text): (&str, &str),
    max_tokens: u64,
    tokenizer: &Tokenizer,
) -> Usage {
    // A token has at least one byte; tokens of thought count as output without showing.
    let possible = |told: &Usage| {
        (1..=prompt.len() as u64 + TEMPLATE_TOKENS).contains(&told.input)
            && (1..=max_tokens.max(text.len() as u64)).contains(&told.output)
    };
    let counted = || Usage { input: tokenizer.count(prompt), cached: 0, output: tokenizer.count(text) };
    told.filter(possible).unwrap_or_else(counted)
}
