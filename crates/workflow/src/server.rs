//! The gRPC face of the stage.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use kit::{Fault, Kind};
use proto::workflow_service_server::{WorkflowService, WorkflowServiceServer};
use proto::{
    CancelRequest, CancelResponse, ConfirmRequest, ConfirmResponse, ExecutionState, GetExecutionRequest,
    GetExecutionResponse, IntentDecision, ListExecutionsRequest, ListExecutionsResponse, ProposeRequest,
    ProposeResponse, ResolveUnknownRequest, ResolveUnknownResponse, Risk, SafetyAction, SafetyStatus,
    Verdict, WorkflowStatus,
};
use tokio::time::Instant;
use tonic::{Request, Response, Status};

use crate::catalogue::Catalogue;
use crate::config::Config;
use crate::deliver::Sender;
use crate::engine::{Engine, Error, Input, now};
use crate::execute::Yes;
use crate::gate::Clearance;
use crate::page::Place;
use crate::store::{Execution, State, Store};

/// Name of the stage.
pub const NAME: &str = "workflow";

/// Time left to answer before the caller stops waiting.
const MARGIN: Duration = Duration::from_millis(100);
const MAX_ID_BYTES: usize = 128;
const MAX_TEXT_BYTES: usize = 64 * 1024;
const MAX_NOTE_BYTES: usize = 4096;
const PAGE: u32 = 50;
const MAX_PAGE: u32 = 1000;

/// Compiles the workflows of the bundle, opens the store, takes up what the last process left.
///
/// # Errors
/// A workflow that cannot work, a time zone nobody knows, a store that cannot be opened.
pub async fn service(config: Config, context: kit::Context) -> anyhow::Result<kit::Stage> {
    let reader = bundle::Reader::open(&context.server.bundle)?;
    let catalogue = Catalogue::compile(reader.workflows()?).context("the workflows of the bundle")?;
    let hours = reader.assistant()?.business_hours.unwrap_or_default();
    let timezone = match hours.get("timezone") {
        Some(name) => TimeZone::get(name).context("business_hours.timezone of the bundle")?,
        None => TimeZone::UTC,
    };
    let sender = Sender::new(&config).context("the client for workflow.targets")?;
    for (workflow, target) in catalogue.targets().filter(|(_, target)| !sender.knows(target)) {
        tracing::warn!(workflow, target, "not configured, add [workflow.targets.{target}]: its gate refuses");
    }
    let store = Store::open(context.store(NAME)?).await?;
    let engine = Engine {
        catalogue,
        store,
        sender,
        config: Arc::new(config),
        timezone,
        tasks: context.tasks.clone(),
        shutdown: context.shutdown.clone(),
    };
    engine.recover(now()).await?;
    context.tasks.spawn(engine.clone().sweep());
    let service = WorkflowServiceServer::new(Server(engine))
        .max_decoding_message_size(context.server.max_message_bytes);
    Ok(kit::Stage::new(NAME).with(service))
}

struct Server(Engine);

#[tonic::async_trait]
impl WorkflowService for Server {
    async fn propose(&self, request: Request<ProposeRequest>) -> Result<Response<ProposeResponse>, Status> {
        let input = input(request.into_inner())?;
        let proposed = self.0.propose(input, now()).await.map_err(status)?;
        let Some((execution, reply)) = proposed else { return Ok(Response::new(ProposeResponse::default())) };
        let risk = self.0.catalogue.workflow(&execution.workflow).map(|workflow| risk(workflow.risk));
        Ok(Response::new(ProposeResponse {
            handled: true,
            status: Some(self.show(&execution)),
            message: reply.message,
            risk: risk.unwrap_or_default().into(),
            confirmed: reply.confirmed,
            exhausted: reply.exhausted,
        }))
    }

    async fn confirm(&self, request: Request<ConfirmRequest>) -> Result<Response<ConfirmResponse>, Status> {
        let request = request.into_inner();
        sized("execution_id", &request.execution_id, 1, MAX_ID_BYTES)?;
        sized("turn_id", &request.turn_id, 1, MAX_ID_BYTES)?;
        let wait = Duration::from_millis(self.0.config.confirm_wait_ms);
        let deadline = kit::Call::current().deadline();
        let until = deadline.map_or_else(|| Instant::now() + wait, |deadline| deadline - MARGIN);
        let yes = Yes {
            execution: request.execution_id,
            turn: request.turn_id,
            clearance: clearance(request.verdict.as_ref()),
        };
        let (execution, message) = self.0.confirm(yes, now(), until).await.map_err(status)?;
        Ok(Response::new(ConfirmResponse { status: Some(self.show(&execution)), message }))
    }

    async fn cancel(&self, request: Request<CancelRequest>) -> Result<Response<CancelResponse>, Status> {
        let id = request.into_inner().execution_id;
        let cancelled = self.0.cancel(&id, now()).await.map_err(status)?;
        Ok(Response::new(CancelResponse { status: Some(self.show(&cancelled)) }))
    }

    async fn get_execution(
        &self,
        request: Request<GetExecutionRequest>,
    ) -> Result<Response<GetExecutionResponse>, Status> {
        let execution = self.0.get(&request.into_inner().execution_id).await.map_err(status)?;
        Ok(Response::new(GetExecutionResponse { execution: Some(self.report(&execution)) }))
    }

    async fn list_executions(
        &self,
        request: Request<ListExecutionsRequest>,
    ) -> Result<Response<ListExecutionsResponse>, Status> {
        let request = request.into_inner();
        let state = ExecutionState::try_from(request.state).map_err(|_| {
            kit::fault::invalid(
                NAME,
                "UNKNOWN_STATE",
                "state",
                format!("is {}, allowed 0..=7", request.state),
            )
        })?;
        let limit = if request.page_size == 0 { PAGE } else { request.page_size };
        if limit > MAX_PAGE {
            let message = format!("is {limit}, allowed 0..={MAX_PAGE}");
            return Err(kit::fault::invalid(NAME, "OUT_OF_RANGE", "page_size", message));
        }
        let Some(after) = Place::parse(&request.page_token) else {
            let what = "must be the next_page_token of a page before, or empty";
            return Err(kit::fault::invalid(NAME, "WRONG_PAGE_TOKEN", "page_token", what));
        };
        let found = self.0.store.list(&request.conversation_id, from_proto(state), after, limit).await;
        let found = found.map_err(|error| status(Error::Store(error)))?;
        let last = found.last().filter(|_| found.len() == limit as usize).map(Place::of);
        let next_page_token = last.map(|place| place.token()).unwrap_or_default();
        let executions = found.iter().map(|execution| self.report(execution)).collect();
        Ok(Response::new(ListExecutionsResponse { executions, next_page_token }))
    }

    async fn resolve_unknown(
        &self,
        request: Request<ResolveUnknownRequest>,
    ) -> Result<Response<ResolveUnknownResponse>, Status> {
        let ResolveUnknownRequest { execution_id, happened, actor, note } = request.into_inner();
        sized("actor", &actor, 1, MAX_ID_BYTES)?;
        sized("note", &note, 1, MAX_NOTE_BYTES)?;
        let resolved = self.0.resolve(&execution_id, happened, actor, note, now()).await;
        let resolved = resolved.map_err(status)?;
        Ok(Response::new(ResolveUnknownResponse { execution: Some(self.report(&resolved)) }))
    }
}

impl Server {
    fn show(&self, execution: &Execution) -> WorkflowStatus {
        let open = execution.state == State::Proposed;
        let workflow = self.0.catalogue.workflow(&execution.workflow).filter(|_| open);
        WorkflowStatus {
            execution_id: execution.id.clone(),
            name: execution.workflow.clone(),
            state: to_proto(execution.state).into(),
            missing_slots: workflow.map(|known| known.missing(&execution.progress.slots)).unwrap_or_default(),
            awaiting_confirmation: open && execution.progress.awaits_confirmation(),
            slots: execution.progress.slots.clone().into_iter().collect(),
            error: execution.error.clone(),
        }
    }

    fn report(&self, execution: &Execution) -> proto::Execution {
        let time = |timestamp: Timestamp| prost_types::Timestamp::from(SystemTime::from(timestamp));
        proto::Execution {
            status: Some(self.show(execution)),
            conversation_id: execution.conversation.clone(),
            attempts: execution.attempts,
            reference: execution.reference.clone(),
            confidence: execution.confidence,
            threshold: execution.threshold,
            created_at: Some(time(execution.created_at)),
            updated_at: Some(time(execution.updated_at)),
            resolved_by: execution.resolved_by.clone(),
            note: execution.note.clone(),
        }
    }
}

fn input(request: ProposeRequest) -> Result<Input, Status> {
    sized("conversation_id", &request.conversation_id, 1, MAX_ID_BYTES)?;
    sized("turn_id", &request.turn_id, 1, MAX_ID_BYTES)?;
    sized("text", &request.text, 1, MAX_TEXT_BYTES)?;
    sized("customer_key", &request.customer_key, 0, MAX_ID_BYTES)?;
    let intent = request.intent.unwrap_or_default();
    Ok(Input {
        conversation: request.conversation_id,
        turn: request.turn_id,
        text: request.text,
        accepted: intent.decision() == IntentDecision::Accept,
        confidence: intent.confidence,
        intent: intent.name,
        customer: request.customer_key,
    })
}

fn sized(field: &'static str, value: &str, least: usize, most: usize) -> Result<(), Status> {
    if (least..=most).contains(&value.len()) {
        return Ok(());
    }
    let message = format!("has {} bytes, allowed {least}..={most}", value.len());
    Err(kit::fault::invalid(NAME, "OUT_OF_RANGE", field, message))
}

/// Whatever is not a clean permission is none.
fn clearance(verdict: Option<&Verdict>) -> Clearance {
    match verdict.map(|verdict| (verdict.status(), verdict.action())) {
        Some((SafetyStatus::Ok, SafetyAction::Allow)) => Clearance::Allowed,
        Some((SafetyStatus::Ok, _)) => Clearance::Refused,
        _ => Clearance::Unavailable,
    }
}

fn risk(risk: bundle::Risk) -> Risk {
    match risk {
        bundle::Risk::Low => Risk::Low,
        bundle::Risk::Medium => Risk::Medium,
        bundle::Risk::High => Risk::High,
    }
}

fn to_proto(state: State) -> ExecutionState {
    match state {
        State::Proposed => ExecutionState::Proposed,
        State::Approved => ExecutionState::Approved,
        State::Dispatching => ExecutionState::Dispatching,
        State::Done => ExecutionState::Done,
        State::Failed => ExecutionState::Failed,
        State::Unknown => ExecutionState::Unknown,
        State::Cancelled => ExecutionState::Cancelled,
    }
}

fn from_proto(state: ExecutionState) -> Option<State> {
    State::ALL.into_iter().find(|known| to_proto(*known) == state)
}

fn status(error: Error) -> Status {
    kit::fault::status(NAME, &error)
}

impl Fault for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::NotFound(_) => Kind::NotFound,
            Self::Confidence(_) => Kind::Invalid,
            Self::State { .. } | Self::Conflict => Kind::Precondition,
            Self::Store(_) => Kind::Unavailable,
            Self::Template(_) | Self::Interrupted(_) => Kind::Internal,
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::NotFound(_) => "EXECUTION_NOT_FOUND",
            Self::Confidence(_) => "OUT_OF_RANGE",
            Self::State { .. } => "WRONG_STATE",
            Self::Conflict => "CONFLICT",
            Self::Store(_) => "STORE_FAILED",
            Self::Template(_) => "TEMPLATE_FAILED",
            Self::Interrupted(_) => "INTERRUPTED",
        }
    }

    fn field(&self) -> Option<&'static str> {
        matches!(self, Self::Confidence(_)).then_some("intent.confidence")
    }
}
