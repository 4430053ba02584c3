//! The gRPC face of the stage.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use jiff::Timestamp;
use proto::workflow_service_server::{WorkflowService, WorkflowServiceServer};
use proto::{
    AcknowledgeNoticeRequest, AcknowledgeNoticeResponse, ApproveRequest, ApproveResponse, CancelRequest,
    CancelResponse, CompensateRequest, CompensateResponse, ConfirmRequest, ConfirmResponse, ExecutionState,
    ForgetExecutionsRequest, ForgetExecutionsResponse, GetExecutionRequest, GetExecutionResponse,
    IntentDecision, ListExecutionsRequest, ListExecutionsResponse, ListNoticesRequest, ListNoticesResponse,
    Notice, ProposeRequest, ProposeResponse, ResolveUnknownRequest, ResolveUnknownResponse, Risk,
    SafetyAction, SafetyStatus, Verdict, WorkflowStatus,
};
use tokio::time::Instant;
use tonic::{Request, Response, Status};

use crate::approve::Decision;
use crate::compensate::Undo;
use crate::config::Config;
use crate::date;
use crate::deliver::Sender;
use crate::engine::{Engine, Error, Input, now};
use crate::execute::Yes;
use crate::execution::{Execution, State};
use crate::gate::Clearance;
use crate::open;
use crate::page::Place;
use crate::rehearse::{self, Preview, Rehearsal};
use crate::store::{Reply, Store};

/// Name of the stage.
pub const NAME: &str = "workflow";

/// Time left to answer before the caller stops waiting.
const MARGIN: Duration = Duration::from_millis(100);
const MAX_ID_BYTES: usize = 128;
const MAX_TEXT_BYTES: usize = 64 * 1024;
const MAX_NOTE_BYTES: usize = 4096;
const PAGE: u32 = 50;
const MAX_PAGE: u32 = 1000;

/// Brings the tables of the stage up to date.
///
/// # Errors
/// The store cannot be opened, or is of a version that this one does not know.
pub async fn migrate(context: &kit::Context) -> anyhow::Result<()> {
    Store::open(context.store(NAME)?).await?;
    Ok(())
}

/// Compiles the workflows of the bundle, opens the store, takes up what the last process left.
///
/// # Errors
/// A workflow that cannot work, a time zone nobody knows, a store that cannot be opened.
pub async fn service(config: Config, context: kit::Context) -> anyhow::Result<kit::Stage> {
    let reader = bundle::Reader::open(&context.server.bundle)?;
    let windows = date::windows(&reader.workflows()?);
    let (catalogue, methods) = open::open(&reader).context("the workflows of the bundle")?;
    let timezone = rehearse::timezone(&reader)?;
    let sender = Sender::new(&config, methods).context("the client for workflow.targets")?;
    for (workflow, target) in catalogue.targets().filter(|(_, target)| !sender.knows(target)) {
        tracing::warn!(
            workflow,
            target,
            "not configured, add [workflow.targets.{target}]: it does not begin"
        );
    }
    let store = Store::open(context.store(NAME)?).await?;
    let engine = Engine {
        catalogue,
        windows: Arc::new(windows),
        store,
        sender,
        config: Arc::new(config),
        timezone,
        sending: Arc::default(),
        tasks: context.tasks.clone(),
        shutdown: context.shutdown.clone(),
    };
    engine.take_over(now(), true).await?;
    engine.expire(now()).await?;
    context.tasks.spawn(engine.clone().adopt());
    context.tasks.spawn(engine.clone().sweep());
    let service = WorkflowServiceServer::new(Server(engine))
        .max_decoding_message_size(context.server.max_message_bytes);
    Ok(kit::Stage::new(NAME).with(service))
}

struct Server(Engine);

#[tonic::async_trait]
impl WorkflowService for Server {
    async fn propose(&self, request: Request<ProposeRequest>) -> Result<Response<ProposeResponse>, Status> {
        let request = request.into_inner();
        let dry_run = request.dry_run;
        let input = input(request)?;
        if dry_run {
            let foreseen = self.0.foresee(input, now()).await.map_err(status)?;
            let proposed = foreseen.map(|(execution, reply, found)| {
                let rehearsal = found.map(rehearsal);
                ProposeResponse { rehearsal, ..self.proposed(&execution, reply) }
            });
            return Ok(Response::new(proposed.unwrap_or_default()));
        }
        let proposed = self.0.propose(input, now()).await.map_err(status)?;
        let proposed = proposed.map(|(execution, reply)| self.proposed(&execution, reply));
        Ok(Response::new(proposed.unwrap_or_default()))
    }

    async fn confirm(&self, request: Request<ConfirmRequest>) -> Result<Response<ConfirmResponse>, Status> {
        let request = request.into_inner();
        sized("execution_id", &request.execution_id, 1, MAX_ID_BYTES)?;
        sized("turn_id", &request.turn_id, 1, MAX_ID_BYTES)?;
        let attributes = attributes(request.attributes)?;
        let until = self.until();
        let clearance = match request.outside_rollout {
            true => Clearance::OutsideRollout,
            false => clearance(request.verdict.as_ref()),
        };
        let yes = Yes {
            execution: request.execution_id,
            turn: request.turn_id,
            clearance,
            verdict: scores(request.verdict.unwrap_or_default()),
            attributes,
        };
        if request.dry_run {
            let execution = self.0.get(&yes.execution).await.map_err(status)?;
            let around = self.0.around_yes(&yes, now());
            let found = self.0.rehearse(&execution, yes.clearance, around).await.map_err(status)?;
            let (status, rehearsal) = (Some(self.show(&execution)), Some(rehearsal(found)));
            return Ok(Response::new(ConfirmResponse { status, rehearsal, ..ConfirmResponse::default() }));
        }
        let (execution, message) = self.0.confirm(yes, now(), until).await.map_err(status)?;
        let explained = self.0.explanation(&execution).is_some();
        let status = Some(self.show(&execution));
        Ok(Response::new(ConfirmResponse { status, message, explained, rehearsal: None }))
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
                format!("is {}, allowed 0..=8", request.state),
            )
        })?;
        let limit = page(request.page_size)?;
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

    async fn list_notices(
        &self,
        request: Request<ListNoticesRequest>,
    ) -> Result<Response<ListNoticesResponse>, Status> {
        let limit = page(request.into_inner().page_size)?;
        let ended = self.0.notices(limit).await.map_err(status)?;
        let notice = |(execution, message)| {
            let explained = self.0.explanation(&execution).is_some();
            Notice { execution: Some(self.report(&execution)), message, explained }
        };
        Ok(Response::new(ListNoticesResponse { notices: ended.into_iter().map(notice).collect() }))
    }

    async fn acknowledge_notice(
        &self,
        request: Request<AcknowledgeNoticeRequest>,
    ) -> Result<Response<AcknowledgeNoticeResponse>, Status> {
        let told = self.0.store.told(&request.into_inner().execution_id).await;
        told.map_err(|error| status(Error::Store(error)))?;
        Ok(Response::new(AcknowledgeNoticeResponse {}))
    }

    async fn forget_executions(
        &self,
        request: Request<ForgetExecutionsRequest>,
    ) -> Result<Response<ForgetExecutionsResponse>, Status> {
        let forgotten = self.0.store.forget_conversations(request.into_inner().conversation_ids).await;
        let forgotten = forgotten.map_err(|error| status(Error::Store(error)))?;
        let executions = forgotten.map_err(|busy| status(Error::NotForgotten(busy)))?;
        Ok(Response::new(ForgetExecutionsResponse { executions }))
    }

    async fn approve(&self, request: Request<ApproveRequest>) -> Result<Response<ApproveResponse>, Status> {
        let ApproveRequest { execution_id: execution, approved, actor, note } = request.into_inner();
        sized("actor", &actor, 1, MAX_ID_BYTES)?;
        sized("note", &note, 1, MAX_NOTE_BYTES)?;
        let decision = Decision { execution, approved, actor, note };
        let (execution, message) = self.0.decide(decision, now(), self.until()).await.map_err(status)?;
        Ok(Response::new(ApproveResponse { execution: Some(self.report(&execution)), message }))
    }

    async fn compensate(
        &self,
        request: Request<CompensateRequest>,
    ) -> Result<Response<CompensateResponse>, Status> {
        let CompensateRequest { execution_id: execution, actor, note, confirmed } = request.into_inner();
        sized("actor", &actor, 1, MAX_ID_BYTES)?;
        sized("note", &note, 1, MAX_NOTE_BYTES)?;
        let undo = Undo { execution, actor, note, confirmed };
        let (execution, message) = self.0.compensate(undo, now(), self.until()).await.map_err(status)?;
        Ok(Response::new(CompensateResponse { execution: Some(self.report(&execution)), message }))
    }
}

impl Server {
    /// How long an answer may wait for the result.
    fn until(&self) -> Instant {
        let wait = Duration::from_millis(self.0.config.confirm_wait_ms);
        let deadline = kit::Call::current().deadline();
        deadline.map_or_else(|| Instant::now() + wait, |deadline| deadline - MARGIN)
    }

    fn proposed(&self, execution: &Execution, reply: Reply) -> ProposeResponse {
        let workflow = self.0.catalogue.workflow(&execution.workflow).filter(|_| reply.handled);
        ProposeResponse {
            handled: reply.handled,
            status: Some(self.show(execution)),
            message: reply.message,
            risk: workflow.map(|workflow| risk(workflow.risk)).unwrap_or_default().into(),
            confirmed: reply.confirmed,
            exhausted: reply.exhausted,
            rehearsal: None,
        }
    }

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
            approved_by: execution.approved_by.clone(),
            approval_note: execution.approval_note.clone(),
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
        attributes: attributes(request.attributes)?,
    })
}

fn attributes(given: HashMap<String, String>) -> Result<BTreeMap<String, String>, Status> {
    match kit::attributes::wrong(given.iter()) {
        Some(message) => Err(kit::fault::invalid(NAME, "OUT_OF_RANGE", "attributes", message)),
        None => Ok(given.into_iter().collect()),
    }
}

fn sized(field: &'static str, value: &str, least: usize, most: usize) -> Result<(), Status> {
    if (least..=most).contains(&value.len()) {
        return Ok(());
    }
    let message = format!("has {} bytes, allowed {least}..={most}", value.len());
    Err(kit::fault::invalid(NAME, "OUT_OF_RANGE", field, message))
}

fn page(size: u32) -> Result<u32, Status> {
    match size {
        0 => Ok(PAGE),
        1..=MAX_PAGE => Ok(size),
        _ => {
            let message = format!("is {size}, allowed 0..={MAX_PAGE}");
            Err(kit::fault::invalid(NAME, "OUT_OF_RANGE", "page_size", message))
        }
    }
}

fn rehearsal(found: Rehearsal) -> proto::Rehearsal {
    let (refused, why) = found.refused.unwrap_or_default();
    let needs_approval = found.needs_approval;
    let Some(Preview { target, method, path, body }) = found.request else {
        return proto::Rehearsal { refused, why, needs_approval, ..proto::Rehearsal::default() };
    };
    proto::Rehearsal { refused, why, needs_approval, target, method, path, body }
}

/// Whatever is not a clean permission is none.
fn clearance(verdict: Option<&Verdict>) -> Clearance {
    match verdict.map(|verdict| (verdict.status(), verdict.action())) {
        Some((SafetyStatus::Ok, SafetyAction::Allow)) => Clearance::Allowed,
        Some((SafetyStatus::Ok, _)) => Clearance::Refused,
        _ => Clearance::Unavailable,
    }
}

fn scores(verdict: Verdict) -> BTreeMap<String, f64> {
    verdict.categories.into_iter().map(|category| (category.name, category.score)).collect()
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
        State::Awaiting => ExecutionState::AwaitingApproval,
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
