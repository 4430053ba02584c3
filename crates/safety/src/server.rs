//! The safety service over gRPC.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use encoder::{Encoder, Opened};
use proto::safety_service_server::{SafetyService, SafetyServiceServer};
use tokio::sync::Semaphore;
use tonic::{Request, Response, Status as Refusal};

use crate::config::Config;
use crate::guard::Guard;
use crate::lexicon::Lexicon;
use crate::policy::{Action, Policy};
use crate::remote::{Point, Remotes};
use crate::scan::Scanner;
use crate::screen::{Rails, Status, Verdict};
use crate::{examples, train};

/// Name of the stage.
pub const NAME: &str = "safety";

/// Compiles policy and lexicons of the bundle and loads its guard.
///
/// # Errors
/// The bundle cannot be read, names a category nobody knows or a phrase without words, or has no guard.
pub async fn service(config: Config, context: kit::Context) -> anyhow::Result<kit::Stage> {
    let reader = bundle::Reader::open(&context.server.bundle)?;
    let settings = context.server.encoder.clone();
    let opened = tokio::task::spawn_blocking(move || Opened::new(&settings)).await?;
    let guard = train::open(&reader, opened.encoder().map(AsRef::as_ref))?;
    let rails = compile(&reader, guard, &config)?;
    let (encoder, dense) = (opened.encoder().cloned(), opened.encoder().is_some());
    tracing::info!(policy = rails.policy_id(), tier = opened.describe(), "policy compiled");
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let places = Arc::new(Semaphore::new(cores));
    let remotes = Remotes::new(&config.guards).context("the guards behind servers")?;
    let server = Server { rails: Arc::new(rails), encoder, remotes, places, config };
    let service =
        SafetyServiceServer::new(server).max_decoding_message_size(context.server.max_message_bytes);
    Ok(kit::Stage::new(NAME).reporting(Opened::HEALTH, dense).with(service))
}

/// Checks what only this stage knows of a bundle: that its policy, lexicons and examples fit the categories.
///
/// # Errors
/// A category nobody knows, or a phrase without words.
pub fn check(reader: &bundle::Reader) -> anyhow::Result<()> {
    policy(reader)?;
    Scanner::new(&lexicons(reader)?)?;
    examples::of_bundle(reader).map(|_| ())
}

/// The rails of a bundle with its guard, which is built when it is not there.
///
/// # Errors
/// The bundle does not validate, the encoder fails, or its build folder cannot be written.
pub fn rails(
    reader: &bundle::Reader,
    encoder: Option<&Encoder>,
    config: &Config,
    progress: &(dyn Fn(u64, u64) + Sync),
) -> anyhow::Result<Rails> {
    compile(reader, train::build(reader, encoder, progress)?, config)
}

fn compile(reader: &bundle::Reader, guard: Guard, config: &Config) -> anyhow::Result<Rails> {
    Ok(Rails::new(policy(reader)?, &lexicons(reader)?, Arc::new(guard), config.max_slot_chars)?)
}

fn policy(reader: &bundle::Reader) -> anyhow::Result<Policy> {
    let mut policy = Policy::baseline()?;
    let (file, mut changes) = ("safety/policy.toml", reader.policy()?);
    let categories = std::mem::take(&mut changes.categories);
    policy.adjust(file, &changes)?;
    for (name, category) in categories {
        let place = format!("{file}:{}", reader.line(file, &format!("categories.{name}")));
        let one = bundle::Policy { categories: [(name, category)].into(), ..bundle::Policy::default() };
        policy.adjust(&place, &one)?;
    }
    Ok(policy)
}

fn lexicons(reader: &bundle::Reader) -> anyhow::Result<Vec<Lexicon>> {
    Ok(reader.lexicons()?.into_iter().map(|own| Lexicon::of_bundle("safety/lexicons", own)).collect())
}

struct Server {
    rails: Arc<Rails>,
    encoder: Option<Arc<Encoder>>,
    remotes: Remotes,
    places: Arc<Semaphore>,
    config: Config,
}

impl Server {
    /// Runs a rail on a thread of its own, so that neither its time nor its failure is anyone else's.
    async fn run<T: Send + 'static>(
        &self,
        rail: impl FnOnce(&Rails) -> T + Send + 'static,
        failed: impl FnOnce(Verdict) -> T,
    ) -> T {
        let rails = Arc::clone(&self.rails);
        // As many at a time as there are cores: more would not be faster, and every thread that searches at
        // the same time as others keeps scratch memory of its own for the patterns of personal data.
        let place = Arc::clone(&self.places).acquire_owned();
        let running = async move {
            let place = place.await;
            tokio::task::spawn_blocking(move || {
                let done = rail(&rails);
                drop(place);
                done
            })
            .await
        };
        let status = match tokio::time::timeout(Duration::from_millis(self.config.budget_ms), running).await {
            Ok(Ok(done)) => return done,
            Ok(Err(error)) => {
                tracing::error!(%error, "a rail failed");
                Status::Error
            }
            Err(_) => {
                tracing::warn!(budget_ms = self.config.budget_ms, "a rail ran out of time");
                Status::Timeout
            }
        };
        failed(self.rails.failed(status))
    }

    fn admit(&self, field: &'static str, bytes: usize) -> Result<(), Refusal> {
        let most = self.config.max_text_bytes;
        if bytes > most {
            let what = format!("is {bytes} bytes long, allowed 0..={most}");
            return Err(kit::fault::invalid(NAME, "TEXT_TOO_LONG", field, what));
        }
        Ok(())
    }
}

#[tonic::async_trait]
impl SafetyService for Server {
    async fn screen_input(
        &self,
        request: Request<proto::ScreenInputRequest>,
    ) -> Result<Response<proto::ScreenInputResponse>, Refusal> {
        let text = request.into_inner().text;
        self.admit("text", text.len())?;
        let encoder = self.encoder.clone();
        let screen = move |rails: &Rails| {
            let vector = encoder.and_then(|encoder| {
                encoder
                    .embed(&text)
                    .inspect_err(|error| tracing::warn!(%error, "screened by words alone"))
                    .ok()
            });
            rails.input(&text, vector.as_deref())
        };
        let verdict = self.run(screen, |failed| failed).await;
        let verdict = self.remotes.screen(&self.rails, Point::Input, verdict).await;
        Ok(Response::new(proto::ScreenInputResponse { verdict: Some(verdict.into()) }))
    }

    async fn screen_passages(
        &self,
        request: Request<proto::ScreenPassagesRequest>,
    ) -> Result<Response<proto::ScreenPassagesResponse>, Refusal> {
        let passages = request.into_inner().passages;
        self.admit("passages", passages.iter().map(length).sum())?;
        let count = passages.len();
        let screen =
            move |rails: &Rails| passages.into_iter().map(|passage| screen_passage(rails, passage)).collect();
        let verdicts: Vec<Verdict> = self.run(screen, |failed| vec![failed; count]).await;
        let verdicts = verdicts.into_iter().map(Into::into).collect();
        Ok(Response::new(proto::ScreenPassagesResponse { verdicts }))
    }

    async fn screen_output(
        &self,
        request: Request<proto::ScreenOutputRequest>,
    ) -> Result<Response<proto::ScreenOutputResponse>, Refusal> {
        let proto::ScreenOutputRequest { text, passages, question } = request.into_inner();
        self.admit("text", text.len())?;
        self.admit("passages", passages.iter().map(length).sum())?;
        self.admit("question", question.len())?;
        let passages: Vec<String> = passages.iter().map(whole).collect();
        let verdict = self.run(move |rails| rails.output(&text, &passages, &question), |failed| failed).await;
        let verdict = self.remotes.screen(&self.rails, Point::Output, verdict).await;
        Ok(Response::new(proto::ScreenOutputResponse { verdict: Some(verdict.into()) }))
    }

    async fn screen_action(
        &self,
        request: Request<proto::ScreenActionRequest>,
    ) -> Result<Response<proto::ScreenActionResponse>, Refusal> {
        let proto::ScreenActionRequest { workflow, risk, slots } = request.into_inner();
        if workflow.is_empty() {
            return Err(kit::fault::invalid(NAME, "NO_WORKFLOW", "workflow", "must not be empty"));
        }
        self.admit("slots", slots.iter().map(|(name, value)| name.len() + value.len()).sum())?;
        // A risk nobody states is high.
        let risky = !matches!(proto::Risk::try_from(risk), Ok(proto::Risk::Low | proto::Risk::Medium));
        let screen = move |rails: &Rails| {
            rails.action(risky, slots.iter().map(|(name, value)| (name.as_str(), value.as_str())))
        };
        let verdict = self.run(screen, |failed| failed).await;
        Ok(Response::new(proto::ScreenActionResponse { verdict: Some(verdict.into()) }))
    }
}

fn screen_passage(rails: &Rails, passage: proto::Passage) -> Verdict {
    let verdict = rails.passage(&whole(&passage));
    Verdict { text: passage.text, ..verdict }
}

/// What of a passage can reach a prompt or an answer.
fn whole(passage: &proto::Passage) -> String {
    [passage.title.as_str(), &passage.heading, &passage.text].join("\n")
}

fn length(passage: &proto::Passage) -> usize {
    passage.title.len() + passage.heading.len() + passage.text.len() + 2
}

impl From<Verdict> for proto::Verdict {
    fn from(verdict: Verdict) -> Self {
        let action = match verdict.action {
            Action::Allow => proto::SafetyAction::Allow,
            Action::Rewrite => proto::SafetyAction::Rewrite,
            Action::Escalate => proto::SafetyAction::Escalate,
            Action::Block => proto::SafetyAction::Block,
        };
        let status = match verdict.status {
            Status::Ok => proto::SafetyStatus::Ok,
            Status::Error => proto::SafetyStatus::Error,
            Status::Timeout => proto::SafetyStatus::Timeout,
        };
        let score = |(category, score): (crate::Category, f64)| proto::CategoryScore {
            name: category.name().to_owned(),
            score,
        };
        let redaction = |span: crate::Span| proto::Redaction {
            r#type: span.kind.name().to_owned(),
            start: u32::try_from(span.start).unwrap_or(u32::MAX),
            end: u32::try_from(span.end).unwrap_or(u32::MAX),
        };
        Self {
            action: action.into(),
            status: status.into(),
            categories: verdict.categories.into_iter().map(score).collect(),
            redactions: verdict.redactions.into_iter().map(redaction).collect(),
            text: verdict.text,
            policy_id: verdict.policy_id.to_string(),
            message: verdict.message,
        }
    }
}
