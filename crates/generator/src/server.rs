//! The gRPC face of the generator.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use async_openai::config::Config as _;
use futures::{Stream, StreamExt as _, stream};
use proto::generate_response::Event as Sent;
use proto::generator_service_server::{GeneratorService, GeneratorServiceServer};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};
use tracing::Instrument as _;

use crate::answer::{self, Answer, Call, Passage, Saved, Spending, Statement, Usage, Utterance};
use crate::chat;
use crate::choose::Choice;
use crate::config::{Config, Model};
use crate::endpoint::Endpoint;
use crate::opinion::Opinion;
use crate::prompt::Prompt;
use crate::verdict::Verdict;
use crate::write::{Event, Writer};

/// Name of the stage.
pub const NAME: &str = "generator";
/// Longest question in bytes.
const MAX_QUESTION: usize = 64 * 1024;
/// Most passages of a request.
const MAX_PASSAGES: usize = 100;
/// Most intents to choose from.
const MAX_CHOICES: usize = 20;
/// Events written ahead of the caller.
const AHEAD: usize = 16;
/// Longest wait of [`probe`].
const PROBE: Duration = Duration::from_secs(3);

/// The generator with the prompts of the bundle; returns when it can answer.
///
/// # Errors
/// The bundle or its prompt `answer` cannot be used, or the model server's settings are wrong.
pub async fn service(config: Config, context: kit::Context) -> anyhow::Result<kit::Stage> {
    kit::run::install_tls();
    let reader = bundle::Reader::open(&context.server.bundle)?;
    let prompt = prompt(&reader)?;
    let config = config.or_environment(|name| std::env::var(name).ok());
    let server = Server { writer: Arc::new(Writer::new(config, prompt)?) };
    let max = context.server.max_message_bytes;
    Ok(kit::Stage::new(NAME).with(GeneratorServiceServer::new(server).max_decoding_message_size(max)))
}

fn prompt(reader: &bundle::Reader) -> anyhow::Result<Prompt> {
    let custom = reader.prompts()?.into_iter().find(|prompt| prompt.name == "answer");
    let line = custom.as_ref().map_or(1, |prompt| prompt.line);
    let custom = custom.map(|prompt| (prompt.version, prompt.body));
    let prompt = Prompt::new(&reader.assistant()?.title, custom);
    prompt.map_err(|error| anyhow::anyhow!(error.place("prompts/answer.j2", line)))
}

/// Checks what only this stage knows of a bundle: that its prompt renders with the values it gets.
///
/// # Errors
/// A prompt that does not render.
pub fn check_bundle(reader: &bundle::Reader) -> anyhow::Result<()> {
    prompt(reader).map(|_| ())
}

/// Who writes the answers, in words, after asking each model server for its models.
///
/// # Errors
/// Wrong settings, or a model server that does not answer.
pub async fn probe(config: &Config) -> anyhow::Result<String> {
    let config = config.clone().or_environment(|name| std::env::var(name).ok());
    let mut found = Vec::new();
    for (place, model) in config.chain() {
        found.push(probe_one(&place, &model).await?);
    }
    let asked = if found.is_empty() {
        "none: answers are verbatim sentences of the articles".to_owned()
    } else {
        found.join(", then ")
    };
    let silenced = config.silenced.join(", ");
    Ok(if silenced.is_empty() { asked } else { format!("{asked}; silenced: {silenced}") })
}

async fn probe_one(place: &str, model: &Model) -> anyhow::Result<String> {
    let endpoint = Endpoint::new(place, model)?;
    let url = format!("{}/models", endpoint.api_base());
    let request = reqwest::Client::builder().timeout(PROBE).build()?.get(&url);
    let request = request.headers(endpoint.headers()).query(&endpoint.query());
    let key = match &model.api_key {
        None => format!(
            ", and {place}.api_key{} is not set",
            if place == NAME { " or OPENAI_API_KEY" } else { "" }
        ),
        Some(_) => String::new(),
    };
    let response = request.send().await;
    let response = response.with_context(|| format!("{place}.base_url: {url} does not answer{key}"))?;
    let status = response.status();
    anyhow::ensure!(status.is_success(), "{place}.base_url: {url} answers {status}{key}");
    Ok(format!("{} at {}", model.model, model.base_url))
}

struct Server {
    writer: Arc<Writer>,
}

#[tonic::async_trait]
impl GeneratorService for Server {
    type GenerateStream = Pin<Box<dyn Stream<Item = Result<proto::GenerateResponse, Status>> + Send>>;

    async fn generate(
        &self,
        request: Request<proto::GenerateRequest>,
    ) -> Result<Response<Self::GenerateStream>, Status> {
        let request = request.into_inner();
        check(&request)?;
        let sources = request.passages.clone();
        let request = read(request);
        let call = kit::Call::current();
        let writer = Arc::clone(&self.writer);
        let modelled = !writer.models.is_empty();
        let (sender, receiver) = tokio::sync::mpsc::channel(AHEAD);
        // The work runs inside the stream: when the caller goes, both are dropped.
        let work = async move { writer.write(&request, call.deadline(), &sender).await };
        let work = stream::once(call.scope(work).in_current_span()).filter_map(|()| async { None });
        let events = ReceiverStream::new(receiver).map(move |event| Ok(response(event, &sources, modelled)));
        Ok(Response::new(Box::pin(stream::select(events, work))))
    }

    async fn choose_intent(
        &self,
        request: Request<proto::ChooseIntentRequest>,
    ) -> Result<Response<proto::ChooseIntentResponse>, Status> {
        let proto::ChooseIntentRequest { text, choices, turn_id } = request.into_inner();
        check_text("text", &text)?;
        if !(1..=MAX_CHOICES).contains(&choices.len()) {
            let what = format!("holds {}, allowed 1..={MAX_CHOICES}", choices.len());
            return Err(kit::fault::invalid(NAME, "NUMBER_OF_CHOICES", "choices", what));
        }
        let choice = |proto::IntentChoice { name, title, description }| Choice { name, title, description };
        let choices: Vec<Choice> = choices.into_iter().map(choice).collect();
        let chosen = self.writer.choose(&text, &choices, kit::Call::current().deadline()).await;
        let chosen = chosen.map_err(|error| {
            tracing::warn!(reason = error.reason(), %error, turn_id, "the model chose no intent");
            kit::fault::status(NAME, &error)
        })?;
        Ok(Response::new(match chosen {
            Opinion::Skipped(why) => {
                proto::ChooseIntentResponse { skipped: why.to_owned(), ..Default::default() }
            }
            Opinion::Given { said, model, usage, cost_usd, prices } => proto::ChooseIntentResponse {
                price_version: prices,
                failure: said.as_ref().err().map(ToString::to_string).unwrap_or_default(),
                name: said.ok().flatten().unwrap_or_default(),
                model,
                usage: Some(spent(usage)),
                cost_usd,
                skipped: String::new(),
            },
        }))
    }

    async fn judge(
        &self,
        request: Request<proto::JudgeRequest>,
    ) -> Result<Response<proto::JudgeResponse>, Status> {
        let proto::JudgeRequest { question, answer, passages, turn_id } = request.into_inner();
        check_text("question", &question)?;
        check_text("answer", &answer)?;
        check_passages(passages.len())?;
        let passages: Vec<Passage> = passages.into_iter().map(passage).collect();
        let judged = self.writer.judge(&question, &answer, &passages, kit::Call::current().deadline()).await;
        let judged = judged.map_err(|error| {
            tracing::warn!(reason = error.reason(), %error, turn_id, "the model judged no answer");
            kit::fault::status(NAME, &error)
        })?;
        Ok(Response::new(match judged {
            Opinion::Skipped(why) => proto::JudgeResponse { skipped: why.to_owned(), ..Default::default() },
            Opinion::Given { said, usage, cost_usd, prices, .. } => {
                let model = self.writer.config.judging_model().to_owned();
                let purpose = proto::ModelPurpose::Judge.into();
                let judging = call(Call { model, usage, cost_usd, prices });
                let failure = said.err().unwrap_or_default().to_owned();
                let Verdict { claims, unsupported } = said.unwrap_or_default();
                proto::JudgeResponse {
                    claims,
                    unsupported,
                    judge: self.writer.judge_name(),
                    skipped: String::new(),
                    failure,
                    calls: vec![proto::ModelCall { purpose, ..judging }],
                }
            }
        }))
    }

    async fn recheck_answer(
        &self,
        request: Request<proto::RecheckAnswerRequest>,
    ) -> Result<Response<proto::RecheckAnswerResponse>, Status> {
        let proto::RecheckAnswerRequest { request, cache_key } = request.into_inner();
        let request = request.unwrap_or_default();
        check(&request)?;
        let request = read(request);
        let found = self.writer.recheck(&request, &cache_key, kit::Call::current().deadline()).await;
        let (same, calls, skipped) = match found {
            Ok((same, calls)) => (same, calls, String::new()),
            Err((calls, why)) => (false, calls, why),
        };
        let purpose = proto::ModelPurpose::Recheck.into();
        let calls = calls.into_iter().map(|one| proto::ModelCall { purpose, ..call(one) }).collect();
        Ok(Response::new(proto::RecheckAnswerResponse { same, calls, skipped }))
    }

    async fn evict_answer(
        &self,
        request: Request<proto::EvictAnswerRequest>,
    ) -> Result<Response<proto::EvictAnswerResponse>, Status> {
        self.writer.evict(&request.into_inner().cache_key).await;
        Ok(Response::new(proto::EvictAnswerResponse {}))
    }
}

impl kit::Fault for chat::Error {
    fn kind(&self) -> kit::Kind {
        match self {
            Self::Timeout => kit::Kind::Timeout,
            _ => kit::Kind::Unavailable,
        }
    }

    fn reason(&self) -> &'static str {
        chat::Error::reason(self)
    }
}

fn check(request: &proto::GenerateRequest) -> Result<(), Status> {
    let invalid = |reason, field, what: String| Err(kit::fault::invalid(NAME, reason, field, what));
    if request.question.trim().is_empty() {
        return invalid("EMPTY_QUESTION", "question", "must not be empty".to_owned());
    }
    if request.question.len() > MAX_QUESTION {
        let what = format!("is {} bytes, allowed 1..={MAX_QUESTION}", request.question.len());
        return invalid("QUESTION_TOO_LONG", "question", what);
    }
    if !(0.0..=1.0).contains(&request.min_support) {
        let what = format!("is {}, allowed 0..=1", request.min_support);
        return invalid("MIN_SUPPORT_OUT_OF_RANGE", "min_support", what);
    }
    check_passages(request.passages.len())
}

fn check_text(field: &'static str, text: &str) -> Result<(), Status> {
    if text.trim().is_empty() || text.len() > MAX_QUESTION {
        let what = format!("is {} bytes, allowed 1..={MAX_QUESTION} and not blank", text.len());
        return Err(kit::fault::invalid(NAME, "TEXT_LENGTH", field, what));
    }
    Ok(())
}

fn check_passages(passages: usize) -> Result<(), Status> {
    if passages > MAX_PASSAGES {
        let what = format!("holds {passages}, allowed 0..={MAX_PASSAGES}");
        return Err(kit::fault::invalid(NAME, "TOO_MANY_PASSAGES", "passages", what));
    }
    Ok(())
}

fn passage(passage: proto::Passage) -> Passage {
    let proto::Passage { document_id, document_version, title, heading, text, score, .. } = passage;
    Passage { document_id, document_version, title, heading, text, score }
}

fn spent(usage: Usage) -> proto::Usage {
    let Usage { input, cached, output } = usage;
    proto::Usage { input_tokens: input, output_tokens: output, cached_input_tokens: cached }
}

fn call(Call { model, usage, cost_usd, prices }: Call) -> proto::ModelCall {
    let purpose = proto::ModelPurpose::Answer.into();
    proto::ModelCall { purpose, model, usage: Some(spent(usage)), cost_usd, price_version: prices }
}

fn read(request: proto::GenerateRequest) -> answer::Request {
    let spending = match request.spending() {
        proto::Spending::Unspecified | proto::Spending::Normal => Spending::Normal,
        proto::Spending::Thrifty => Spending::Thrifty,
        proto::Spending::Free => Spending::Free,
        proto::Spending::Own => Spending::Own,
    };
    let history = request.history.into_iter().map(|utterance| Utterance {
        role: match utterance.role() {
            proto::Role::Assistant => "assistant",
            proto::Role::Agent => "agent",
            proto::Role::Customer | proto::Role::Unspecified => "customer",
        },
        text: utterance.text,
    });
    answer::Request {
        spending,
        question: request.question,
        passages: request.passages.into_iter().map(passage).collect(),
        history: history.collect(),
        turn_id: request.turn_id,
        min_support: request.min_support,
        context: request.context,
        extractive: request.extractive,
        category: request.category,
        intent: request.intent,
        embedding: request.embedding.map(|embedding| (embedding.encoder, embedding.values)),
        previous_model: request.previous_model,
    }
}

fn response(event: Event, sources: &[proto::Passage], modelled: bool) -> proto::GenerateResponse {
    let event = match event {
        Event::Delta { text, restart } => Sent::Delta(proto::Delta { text, restart }),
        Event::Final(answer) => Sent::Final(generation(*answer, sources, modelled)),
    };
    proto::GenerateResponse { event: Some(event) }
}

fn generation(answer: Answer, sources: &[proto::Passage], modelled: bool) -> proto::Generation {
    let citations = answer.citations.iter().filter_map(|citation| {
        let source = sources.get(citation.passage)?;
        Some(proto::Citation {
            document_id: source.document_id.clone(),
            title: source.title.clone(),
            document_version: source.document_version.clone(),
            quote: citation.quote.clone(),
        })
    });
    let sentence = |Statement { text, support, citation }: Statement| proto::SentenceSupport {
        text,
        support,
        citation: u32::try_from(citation + 1).unwrap_or_default(),
    };
    let Saved { cache_usd, packing_tokens, packing_usd, routing_usd } = answer.saved;
    let cache_tier = answer.cache.to_owned();
    let savings = proto::Savings { cache_usd, packing_tokens, packing_usd, routing_usd, cache_tier };
    proto::Generation {
        abstained: answer.abstained(),
        usage: Some(spent(answer.usage())),
        cost_usd: answer.cost_usd(),
        price_version: answer.prices(),
        calls: answer.calls.into_iter().map(call).collect(),
        savings: Some(savings),
        citations: citations.collect(),
        text: answer.text,
        sentences: answer.statements.into_iter().map(sentence).collect(),
        model: answer.model,
        prompt_version: answer.prompt_version,
        model_failure: answer.model_failure,
        support: answer.support,
        model_configured: modelled,
        leaked: answer.leaked,
        unsupported: answer.unsupported,
        judge: answer.judge,
        cache_key: answer.key,
        recheck: answer.recheck,
    }
}
