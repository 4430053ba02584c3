//! The orchestrator over gRPC.

use std::pin::Pin;
use std::sync::Arc;

use anyhow::Context as _;
use futures::FutureExt as _;
use kit::Call;
use kit::fault::{invalid, status};
use proto::assistant_service_server::{AssistantService, AssistantServiceServer};
use proto::*;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt as _};
use tonic::{Request, Response, Status};

use crate::config::Config;
use crate::desk::{End, Place};
use crate::turn::{Act, Error, Events, Orchestrator};
use crate::{deliver, door, feedback, later, push};

/// Name of the stage.
pub const NAME: &str = "orchestrator";
const PAGE: u32 = 50;
const MAX_PAGE: u32 = 1000;
const EVENTS: usize = 64;
const MAX_NOTE_BYTES: usize = 64 * 1024;
/// What a caller is told whose turn panicked.
const CUT: &str = "the turn ended early; the reaper hands it over";

/// Opens the journal, ends the orphans of an earlier process, and serves.
///
/// # Errors
/// A bundle with problems, a journal that cannot be opened, a missing link.
pub async fn service(config: Config, context: kit::Context) -> anyhow::Result<kit::Stage> {
    let (orchestrator, waiting) = Orchestrator::open(config, &context).await?;
    let orchestrator = Arc::new(orchestrator);
    while orchestrator.reap(true).await.context("the journal")? > 0 {}
    push::start(&orchestrator, &context)?;
    door::open(&orchestrator, &context).await?;
    deliver::start(&orchestrator, &context);
    context.tasks.spawn(later::run(orchestrator.clone(), waiting, context.shutdown.clone()));
    let max = context.server.max_message_bytes;
    let server = AssistantServiceServer::new(Server { orchestrator, context });
    Ok(kit::Stage::new(NAME).with(server.max_decoding_message_size(max)))
}

struct Server {
    orchestrator: Arc<Orchestrator>,
    context: kit::Context,
}

impl Server {
    /// Runs a turn in a task of its own: it reaches its outcome also when the caller goes away.
    async fn run(&self, message: Message, act: Act, events: Events) -> Result<Turn, Status> {
        let orchestrator = self.orchestrator.clone();
        let turn = async move { Box::pin(orchestrator.run(message, act, events)).await };
        self.apart(turn, CUT).await?.map_err(|error| status(NAME, &error))
    }

    /// Runs work in a task of its own, with the caller's trace; who waits for it is told `cut` when it panics.
    async fn apart<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
        cut: &'static str,
    ) -> Result<T, Status> {
        let task = self.context.tasks.spawn(Call::current().scope(work));
        task.await.map_err(|_| Status::internal(cut))
    }

    async fn handoff(&self, id: &str) -> Result<Handoff, Status> {
        let handoff = self.orchestrator.journal.handoff(id, "").await.map_err(unread)?;
        handoff.ok_or_else(|| status(NAME, &Error::NotFound("handoff_id")))
    }

    async fn must(&self, done: Result<bool, sql::Error>, id: &str, what: &str) -> Result<Handoff, Status> {
        let done = done.map_err(unread)?;
        let handoff = self.handoff(id).await?;
        if done {
            return Ok(handoff);
        }
        let (state, owner) = (handoff.state().as_str_name(), &handoff.assignee);
        let message = format!(
            "handoff_id: {what}, but it is {state}{}{owner}",
            if owner.is_empty() { "" } else { " by " }
        );
        Err(status(NAME, &Error::Precondition(message)))
    }
}

fn unread(error: sql::Error) -> Status {
    status(NAME, &Error::from(error))
}

fn some<T>(part: Option<T>, field: &'static str) -> Result<T, Status> {
    part.ok_or_else(|| invalid(NAME, "MISSING_FIELD", field, "must be set"))
}

fn filled(text: &str, field: &'static str) -> Result<(), Status> {
    match text.trim() {
        "" => Err(invalid(NAME, "EMPTY_FIELD", field, "must not be empty")),
        _ => Ok(()),
    }
}

fn bounded(field: &'static str, id: &str) -> Result<(), Status> {
    crate::admit::check_id(field, id).map_err(|error| status(NAME, &error))
}

type Responses = Pin<Box<dyn Stream<Item = Result<ConverseResponse, Status>> + Send>>;

#[tonic::async_trait]
impl AssistantService for Server {
    type ConverseStream = Responses;

    async fn ask(&self, request: Request<AskRequest>) -> Result<Response<AskResponse>, Status> {
        let message = some(request.into_inner().message, "message")?;
        let turn = self.run(message, Act::Say, None).await?;
        Ok(Response::new(AskResponse { turn: Some(turn) }))
    }

    async fn converse(&self, request: Request<ConverseRequest>) -> Result<Response<Responses>, Status> {
        let message = some(request.into_inner().message, "message")?;
        let (events, received) = mpsc::channel(EVENTS);
        let orchestrator = self.orchestrator.clone();
        let call = Call::current();
        let (refusal, refused) = mpsc::channel(1);
        self.context.tasks.spawn(call.scope(async move {
            let turn = std::panic::AssertUnwindSafe(orchestrator.run(message, Act::Say, Some(events)));
            let refused = match Box::pin(turn.catch_unwind()).await {
                Ok(Ok(_)) => return,
                Ok(Err(error)) => status(NAME, &error),
                Err(_) => Status::internal(CUT),
            };
            let _ = refusal.send(refused).await;
        }));
        let events = ReceiverStream::new(received).map(|event| Ok(ConverseResponse { event: Some(event) }));
        let refusals = ReceiverStream::new(refused).map(Err);
        Ok(Response::new(Box::pin(events.merge(refusals))))
    }

    async fn submit_feedback(
        &self,
        request: Request<SubmitFeedbackRequest>,
    ) -> Result<Response<SubmitFeedbackResponse>, Status> {
        let given = some(request.into_inner().feedback, "feedback")?;
        bounded("feedback.feedback_id", &given.feedback_id)?;
        bounded("feedback.conversation_id", &given.conversation_id)?;
        bounded("feedback.turn_id", &given.turn_id)?;
        bounded("feedback.intent", &given.intent)?;
        feedback::check(&given).map_err(|(reason, field, message)| invalid(NAME, reason, field, message))?;
        self.orchestrator.keep_feedback(given).await.map_err(|error| status(NAME, &error))?;
        Ok(Response::new(SubmitFeedbackResponse {}))
    }

    async fn confirm_action(
        &self,
        request: Request<ConfirmActionRequest>,
    ) -> Result<Response<ConfirmActionResponse>, Status> {
        let request = request.into_inner();
        let ConfirmActionRequest { request_id, conversation_id, execution_id, customer_key, .. } = request;
        filled(&conversation_id, "conversation_id")?;
        filled(&execution_id, "execution_id")?;
        let text = if request.confirm { "yes" } else { "no, thank you" }.to_owned();
        let attributes = request.attributes;
        let message =
            Message { request_id, conversation_id, customer_key, text, attributes, ..Message::default() };
        let turn = self.run(message, Act::Decide { execution_id }, None).await?;
        Ok(Response::new(ConfirmActionResponse { turn: Some(turn) }))
    }

    async fn request_handoff(
        &self,
        request: Request<RequestHandoffRequest>,
    ) -> Result<Response<RequestHandoffResponse>, Status> {
        let RequestHandoffRequest { conversation_id, customer_key, request_id } = request.into_inner();
        let message = Message { request_id, conversation_id, customer_key, ..Message::default() };
        let turn = self.run(message, Act::AskForPerson, None).await?;
        Ok(Response::new(RequestHandoffResponse { turn: Some(turn) }))
    }

    async fn get_conversation(
        &self,
        request: Request<GetConversationRequest>,
    ) -> Result<Response<GetConversationResponse>, Status> {
        let id = request.into_inner().conversation_id;
        filled(&id, "conversation_id")?;
        let journal = &self.orchestrator.journal;
        let found = journal.conversation(&id).await.map_err(unread)?;
        let (utterances, turns) = found.ok_or_else(|| status(NAME, &Error::NotFound("conversation_id")))?;
        let handoff = journal.handoff("", &id).await.map_err(unread)?;
        // What people write for each other is for the desk alone; this may be shown to the customer.
        let handoff = handoff.map(|open| Handoff { notes: Vec::new(), deliveries: Vec::new(), ..open });
        Ok(Response::new(GetConversationResponse { utterances, turns, handoff }))
    }

    async fn list_handoffs(
        &self,
        request: Request<ListHandoffsRequest>,
    ) -> Result<Response<ListHandoffsResponse>, Status> {
        let request = request.into_inner();
        let limit = if request.page_size == 0 { PAGE } else { request.page_size };
        if limit > MAX_PAGE {
            let message = format!("is {limit}, allowed 0..={MAX_PAGE}");
            return Err(invalid(NAME, "PAGE_TOO_LARGE", "page_size", message));
        }
        let Some(after) = Place::parse(&request.page_token) else {
            let what = "must be the next_page_token of a page before, or empty";
            return Err(invalid(NAME, "WRONG_PAGE_TOKEN", "page_token", what));
        };
        let handoffs = self.orchestrator.journal.handoffs(request.state(), after, limit).await;
        let handoffs = handoffs.map_err(unread)?;
        let last = handoffs.last().filter(|_| handoffs.len() == limit as usize).map(Place::of);
        let next_page_token = last.map(|place| place.token()).unwrap_or_default();
        Ok(Response::new(ListHandoffsResponse { handoffs, next_page_token }))
    }

    async fn get_handoff(
        &self,
        request: Request<GetHandoffRequest>,
    ) -> Result<Response<GetHandoffResponse>, Status> {
        let GetHandoffRequest { handoff_id, suggest } = request.into_inner();
        filled(&handoff_id, "handoff_id")?;
        let handoff = self.handoff(&handoff_id).await?;
        if !suggest {
            return Ok(Response::new(GetHandoffResponse { handoff: Some(handoff), suggestion: None }));
        }
        let (orchestrator, read) = (self.orchestrator.clone(), handoff.clone());
        // In a task of its own: what a model was asked is paid also when the caller goes away.
        let work = async move { Box::pin(orchestrator.suggest(&read)).await };
        let suggestion = self.apart(work, "the draft ended early").await?;
        Ok(Response::new(GetHandoffResponse { handoff: Some(handoff), suggestion: Some(suggestion) }))
    }

    async fn claim_handoff(
        &self,
        request: Request<ClaimHandoffRequest>,
    ) -> Result<Response<ClaimHandoffResponse>, Status> {
        let ClaimHandoffRequest { handoff_id, assignee } = request.into_inner();
        filled(&assignee, "assignee")?;
        let done = self.orchestrator.journal.claim(handoff_id.clone(), assignee).await;
        let handoff = self.must(done, &handoff_id, "can be claimed while it waits").await?;
        Ok(Response::new(ClaimHandoffResponse { handoff: Some(handoff) }))
    }

    async fn reply_as_agent(
        &self,
        request: Request<ReplyAsAgentRequest>,
    ) -> Result<Response<ReplyAsAgentResponse>, Status> {
        let ReplyAsAgentRequest { handoff_id, assignee, text } = request.into_inner();
        filled(&text, "text")?;
        let done = self.orchestrator.journal.reply(handoff_id.clone(), assignee, text).await;
        self.must(done, &handoff_id, "only its claimant replies").await?;
        self.orchestrator.spooled.notify_one();
        Ok(Response::new(ReplyAsAgentResponse {}))
    }

    async fn resolve_handoff(
        &self,
        request: Request<ResolveHandoffRequest>,
    ) -> Result<Response<ResolveHandoffResponse>, Status> {
        let ResolveHandoffRequest { handoff_id, assignee, intent, disposition } = request.into_inner();
        bounded("intent", &intent)?;
        bounded("disposition", &disposition)?;
        let turn_id = self.handoff(&handoff_id).await?.turn_id;
        let how = End::of(turn_id, intent, disposition);
        let done = self.orchestrator.journal.resolve(handoff_id.clone(), assignee, how).await;
        self.orchestrator.spooled.notify_one();
        let handoff = self.must(done, &handoff_id, "only its claimant resolves it").await?;
        Ok(Response::new(ResolveHandoffResponse { handoff: Some(handoff) }))
    }

    async fn forget_customer(
        &self,
        request: Request<ForgetCustomerRequest>,
    ) -> Result<Response<ForgetCustomerResponse>, Status> {
        let key = request.into_inner().customer_key;
        filled(&key, "customer_key")?;
        let orchestrator = self.orchestrator.clone();
        let work = async move { orchestrator.forget(key).await };
        let forgotten = self.apart(work, "the deletion ended early; repeat it").await?;
        Ok(Response::new(forgotten.map_err(|error| status(NAME, &error))?))
    }

    type ExportCustomerStream = Pin<Box<dyn Stream<Item = Result<ExportCustomerResponse, Status>> + Send>>;

    async fn export_customer(
        &self,
        request: Request<ExportCustomerRequest>,
    ) -> Result<Response<Self::ExportCustomerStream>, Status> {
        let key = request.into_inner().customer_key;
        filled(&key, "customer_key")?;
        let ids = self.orchestrator.journal.conversations_of(&key).await.map_err(unread)?;
        let orchestrator = self.orchestrator.clone();
        let conversations = futures::stream::iter(ids).then(move |id| {
            let orchestrator = orchestrator.clone();
            async move { orchestrator.export(id).await.map_err(|error| status(NAME, &error)) }
        });
        Ok(Response::new(Box::pin(conversations)))
    }

    async fn assign_handoff(
        &self,
        request: Request<AssignHandoffRequest>,
    ) -> Result<Response<AssignHandoffResponse>, Status> {
        let AssignHandoffRequest { handoff_id, assignee, actor } = request.into_inner();
        for (field, name) in [("assignee", &assignee), ("actor", &actor)] {
            filled(name, field)?;
            bounded(field, name)?;
        }
        let done = self.orchestrator.journal.assign(handoff_id.clone(), assignee, actor).await;
        let handoff = self.must(done, &handoff_id, "can be given to somebody until it is resolved").await?;
        Ok(Response::new(AssignHandoffResponse { handoff: Some(handoff) }))
    }

    async fn add_note(&self, request: Request<AddNoteRequest>) -> Result<Response<AddNoteResponse>, Status> {
        let AddNoteRequest { handoff_id, author, text } = request.into_inner();
        filled(&author, "author")?;
        bounded("author", &author)?;
        filled(&text, "text")?;
        if text.len() > MAX_NOTE_BYTES {
            let message = format!("{} bytes, allowed up to {MAX_NOTE_BYTES}", text.len());
            return Err(invalid(NAME, "NOTE_TOO_LONG", "text", message));
        }
        let done = self.orchestrator.journal.note(handoff_id.clone(), author, text).await;
        let handoff = self.must(done, &handoff_id, "takes notes until it is resolved").await?;
        Ok(Response::new(AddNoteResponse { handoff: Some(handoff) }))
    }

    async fn redeliver_handoff(
        &self,
        request: Request<RedeliverHandoffRequest>,
    ) -> Result<Response<RedeliverHandoffResponse>, Status> {
        let id = request.into_inner().handoff_id;
        filled(&id, "handoff_id")?;
        let done = self.orchestrator.journal.redeliver(&id).await;
        let handoff = self.must(done, &id, "only what a helpdesk refused is sent again").await?;
        Ok(Response::new(RedeliverHandoffResponse { handoff: Some(handoff) }))
    }

    async fn list_stages(
        &self,
        _: Request<ListStagesRequest>,
    ) -> Result<Response<ListStagesResponse>, Status> {
        let links = self.context.links.iter();
        let stages = links.map(|(name, link)| crate::reach::reach(name, link));
        Ok(Response::new(ListStagesResponse { stages: futures::future::join_all(stages).await }))
    }

    async fn explain_turn(
        &self,
        request: Request<ExplainTurnRequest>,
    ) -> Result<Response<ExplainTurnResponse>, Status> {
        let ExplainTurnRequest { turn_id, trace_id } = request.into_inner();
        let found = self.orchestrator.journal.record(&turn_id, &trace_id).await;
        let record = found.map_err(unread)?;
        let asked = if turn_id.is_empty() { "trace_id" } else { "turn_id" };
        let record = record.ok_or_else(|| status(NAME, &Error::NotFound(asked)))?;
        Ok(Response::new(ExplainTurnResponse { record: Some(record) }))
    }
}
