//! Writes an answer: by a model when one is configured, by the passages' own sentences else or when it
//! fails.

use std::collections::{BTreeSet, VecDeque};

use tokio::sync::mpsc::Sender;
use tokio::time::Instant;
use tracing::Instrument as _;
use tracing::field::Empty;

use crate::answer::{Answer, Request, Usage};
use crate::chat::{self, ChatModel, Reply};
use crate::config::{Config, Provider};
use crate::extract::{self, Extract, Words};
use crate::ground::{Checked, Grounder};
use crate::leak::{Canaries, Watch};
use crate::prompt::{self, Prompt};
use crate::support::Judge;

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
enum Error {
    #[error("the prompt cannot be rendered")]
    Prompt(#[from] prompt::Error),
    #[error("the model call failed")]
    Chat(#[from] chat::Error),
    #[error("the model began to repeat its prompt")]
    Leak,
}

impl Error {
    fn reason(&self) -> &'static str {
        match self {
            Self::Prompt(_) => "PROMPT",
            Self::Chat(error) => error.reason(),
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
    pub(crate) model: Option<(ChatModel, Prompt)>,
}

impl Writer {
    /// A writer with these settings. With provider "openai" the prompt is needed, and a rustls provider
    /// must be installed.
    ///
    /// # Errors
    /// The base URL or the key cannot be used, or the HTTP client cannot be built.
    pub fn new(config: Config, prompt: Prompt) -> anyhow::Result<Self> {
        let mut model = None;
        if config.provider == Provider::Openai {
            model = Some((ChatModel::new(&config)?, prompt));
            for model in BTreeSet::from([&config.model[..], config.judging_model()]) {
                if !config.prices.contains_key(model) {
                    tracing::warn!(model, "no price under generator.prices, its cost counts as 0");
                }
            }
        }
        let judge = Judge::new(config.overlap_weight);
        Ok(Self { config, canaries: Canaries::new(), judge, model })
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
        let answer = match self.model.as_ref().filter(|_| worth && !request.extractive) {
            None => self.extract(found, events).await,
            Some((model, prompt)) => {
                let end = Instant::now() + self.config.timeout();
                let end = deadline
                    .map_or(end, |deadline| end.min(deadline.checked_sub(RESERVE).unwrap_or(deadline)));
                let mut attempt =
                    Attempt { writer: self, answer: Answer::default(), held: VecDeque::new(), events };
                match attempt.traced(model, prompt, request, end).await {
                    Ok(()) => attempt.answer,
                    Err(error) => {
                        self.log(&error, request);
                        if !attempt.answer.statements.is_empty() {
                            self.send(events, String::new(), true).await;
                        }
                        self.instead(attempt.answer, &error, found, events).await
                    }
                }
            }
        };
        // A receiver that is gone wants no answer.
        let _ = events.send(Event::Final(Box::new(Answer { support, ..answer }))).await;
    }

    fn log(&self, error: &Error, request: &Request) {
        let (reason, base_url, turn_id) = (error.reason(), &self.config.base_url, &request.turn_id);
        tracing::error!(
            reason,
            error = in_words(error),
            generator.base_url = base_url,
            turn_id,
            "the model gave no answer"
        );
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

    async fn send(&self, events: &Sender<Event>, text: String, restart: bool) {
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

/// One answer of a model on its way.
struct Attempt<'a> {
    writer: &'a Writer,
    answer: Answer,
    /// Sentences that are checked, each with how much the watch had taken: the words after them may still
    /// show that they began to give the prompt away.
    held: VecDeque<(usize, Checked)>,
    events: &'a Sender<Event>,
}

impl Attempt<'_> {
    /// Runs in a span of the GenAI semantic conventions.
    async fn traced(
        &mut self,
        model: &ChatModel,
        prompt: &Prompt,
        request: &Request,
        end: Instant,
    ) -> Result<(), Error> {
        let (asked, start) = (&self.writer.config.model, Instant::now());
        let span = span(asked, model.max_tokens());
        let outcome = self.run(model, prompt, request, end).instrument(span.clone()).await;
        let failed = outcome.as_ref().err().map(Error::reason);
        close(&span, (asked, start), &self.answer.model, self.answer.usage, failed);
        outcome
    }

    async fn run(
        &mut self,
        model: &ChatModel,
        prompt: &Prompt,
        request: &Request,
        end: Instant,
    ) -> Result<(), Error> {
        let config = &self.writer.config;
        let canary = self.writer.canaries.fresh();
        let mark = if config.datamark { prompt::free_mark(&request.passages) } else { None };
        let text = prompt.render(request, mark, &canary)?;
        let mut watch = Watch::new(&canary, prompt.instructions(), request.texts().collect());
        let opened = model.open(&text, end).await;
        if matches!(opened, Err(chat::Error::Timeout | chat::Error::Broken(_))) {
            // A server that took the prompt and then fell silent may have read it.
            self.spend(usage(None, &text, "", model.max_tokens()));
        }
        let mut reply = opened?;
        let Writer { judge, .. } = self.writer;
        let mut grounder = Grounder::new(judge, request, config.sentence_threshold);
        let read = self.read(&mut reply, mark, &mut grounder, &mut watch).await;
        // Tokens are spent whether the answer is used or not.
        self.spend(usage(reply.usage, &text, grounder.text(), model.max_tokens()));
        self.answer.unsupported = grounder.unsupported();
        self.answer.judge = config.judge();
        self.answer.model = reply.model.take().unwrap_or_else(|| config.model.clone());
        self.answer.prompt_version = prompt.version().to_owned();
        if read.is_ok() {
            self.tell(reply.id.as_deref());
        }
        read
    }

    /// Tells how the answer's sentences were judged, where it has any.
    fn tell(&self, response_id: Option<&str>) {
        let Answer { statements, unsupported, judge, .. } = &self.answer;
        let claims = u32::try_from(statements.len()).unwrap_or(u32::MAX).saturating_add(*unsupported);
        if claims > 0 {
            let score = Some((claims, *unsupported));
            kit::Evaluation { judge, score, failed: None, response_id }.tell();
        }
    }

    fn spend(&mut self, usage: Usage) {
        let config = &self.writer.config;
        self.answer.usage = usage;
        (self.answer.cost_usd, self.answer.prices) = config.bill(&config.model, usage);
    }

    async fn read(
        &mut self,
        reply: &mut Reply,
        mark: Option<char>,
        grounder: &mut Grounder<'_>,
        watch: &mut Watch<'_>,
    ) -> Result<(), Error> {
        while let Some(words) = reply.next().await? {
            // A model that quotes a passage may quote its marks.
            let words = if let Some(mark) = mark { words.replace(mark, " ") } else { words };
            if watch.push(&words) {
                return Err(Error::Leak);
            }
            self.held.extend(grounder.push(&words).into_iter().map(|checked| (watch.taken(), checked)));
            while let Some((_, checked)) = self.held.pop_front_if(|(taken, _)| watch.is_past(*taken)) {
                self.take(checked).await;
            }
        }
        let last = grounder.finish(reply.is_whole());
        for checked in std::mem::take(&mut self.held).into_iter().map(|(_, checked)| checked).chain(last) {
            self.take(checked).await;
        }
        Ok(())
    }

    async fn take(&mut self, Checked { gap, mut statement, citation }: Checked) {
        if self.answer.statements.iter().any(|before| before.text == statement.text) {
            return;
        }
        let text = format!("{gap}{}", statement.text);
        self.answer.text.push_str(&text);
        let known = self.answer.citations.iter().position(|other| *other == citation);
        statement.citation = known.unwrap_or(self.answer.citations.len());
        if known.is_none() {
            self.answer.citations.push(citation);
        }
        self.answer.statements.push(statement);
        self.writer.send(self.events, text, false).await;
    }
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
