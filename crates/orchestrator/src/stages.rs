//! The stages as the orchestrator calls them: a budget each, one retry where it is safe.

use std::future::Future;
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use proto::classifier_service_client::ClassifierServiceClient;
use proto::generate_response::Event;
use proto::generator_service_client::GeneratorServiceClient;
use proto::retriever_service_client::RetrieverServiceClient;
use proto::rollout_service_client::RolloutServiceClient;
use proto::safety_service_client::SafetyServiceClient;
use proto::telemetry_service_client::TelemetryServiceClient;
use proto::workflow_service_client::WorkflowServiceClient;
use proto::*;
use tonic::{Code, Request, Response, Status, Streaming};

use crate::config::Config;

/// A stage that did not answer.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{stage}: {code}: {message}")]
pub(crate) struct Failure {
    pub(crate) stage: &'static str,
    code: Code,
    message: String,
}

impl Failure {
    /// Whether the stage understood the request and will never take it.
    pub(crate) fn refused(&self) -> bool {
        matches!(self.code, Code::InvalidArgument | Code::OutOfRange)
    }

    /// Whether the stage, or the server behind it, did not take the call, or was lost in it.
    pub(crate) fn unreached(&self) -> bool {
        self.code == Code::Unavailable
    }
}

/// What a stage said and how long it took, in milliseconds.
pub(crate) struct Timed<T> {
    pub(crate) result: Result<T, Failure>,
    pub(crate) ms: f64,
}

pub(crate) type Telemetry = TelemetryServiceClient<kit::Link>;

/// Clients of all stages.
#[derive(Debug, Clone)]
pub(crate) struct Stages {
    classifier: ClassifierServiceClient<kit::Link>,
    safety: SafetyServiceClient<kit::Link>,
    retriever: RetrieverServiceClient<kit::Link>,
    generator: GeneratorServiceClient<kit::Link>,
    workflow: WorkflowServiceClient<kit::Link>,
    telemetry: Telemetry,
    rollout: RolloutServiceClient<kit::Link>,
    classify_budget: Duration,
    safety_budget: Duration,
    retrieve_budget: Duration,
    generate_budget: Duration,
    choose_budget: Duration,
    workflow_budget: Duration,
    passages: u32,
}

const TELEMETRY_BUDGET: Duration = Duration::from_secs(5);
/// Longest wait for the cache of answers to forget one: who gives feedback waits for it.
const EVICT_BUDGET: Duration = Duration::from_millis(500);

impl Stages {
    pub(crate) fn new(config: &Config, links: &kit::Links, max_message_bytes: usize) -> anyhow::Result<Self> {
        let ms = Duration::from_millis;
        Ok(Self {
            classifier: ClassifierServiceClient::new(links.get("classifier")?),
            safety: SafetyServiceClient::new(links.get("safety")?)
                .max_decoding_message_size(max_message_bytes * 4),
            retriever: RetrieverServiceClient::new(links.get("retriever")?)
                .max_decoding_message_size(max_message_bytes * 4),
            generator: GeneratorServiceClient::new(links.get("generator")?),
            workflow: WorkflowServiceClient::new(links.get("workflow")?),
            telemetry: Telemetry::new(links.get("telemetry")?),
            rollout: RolloutServiceClient::new(links.get("telemetry")?),
            classify_budget: ms(config.classify_timeout_ms),
            safety_budget: ms(config.safety_timeout_ms),
            retrieve_budget: ms(config.retrieve_timeout_ms),
            generate_budget: ms(config.generate_timeout_ms),
            choose_budget: ms(config.choose_timeout_ms),
            workflow_budget: ms(config.workflow_timeout_ms),
            passages: config.passages,
        })
    }

    /// The intent, and in the dense tier the text as a vector.
    pub(crate) async fn classify(&self, text: &str) -> Timed<(Intent, Option<Embedding>)> {
        let request = ClassifyRequest { text: text.to_owned(), alternatives: 3 };
        let response = again("classifier", self.classify_budget, request, |request| {
            let mut client = self.classifier.clone();
            async move { client.classify(request).await }
        });
        timed(async {
            let ClassifyResponse { intent, embedding } = response.await?;
            Ok((intent.ok_or_else(|| garbage("classifier")).and_then(plausible)?, embedding))
        })
        .await
    }

    pub(crate) async fn screen_input(&self, text: &str) -> Timed<Verdict> {
        let request = ScreenInputRequest { text: text.to_owned() };
        let response = again("safety", self.safety_budget, request, |request| {
            let mut client = self.safety.clone();
            async move { client.screen_input(request).await }
        });
        timed(async { response.await?.verdict.ok_or_else(|| garbage("safety")) }).await
    }

    pub(crate) async fn screen_passages(&self, passages: Vec<Passage>) -> Timed<Vec<Verdict>> {
        let n = passages.len();
        let response = again("safety", self.safety_budget, ScreenPassagesRequest { passages }, |request| {
            let mut client = self.safety.clone();
            async move { client.screen_passages(request).await }
        });
        let verdicts = async {
            Some(response.await?.verdicts)
                .filter(|verdicts| verdicts.len() == n)
                .ok_or_else(|| garbage("safety"))
        };
        timed(verdicts).await
    }

    pub(crate) async fn screen_output(
        &self,
        text: &str,
        question: &str,
        passages: &[Passage],
    ) -> Timed<Verdict> {
        let request = ScreenOutputRequest {
            text: text.to_owned(),
            question: question.to_owned(),
            passages: passages.to_vec(),
        };
        let response = again("safety", self.safety_budget, request, |request| {
            let mut client = self.safety.clone();
            async move { client.screen_output(request).await }
        });
        timed(async { response.await?.verdict.ok_or_else(|| garbage("safety")) }).await
    }

    pub(crate) async fn screen_action(&self, request: ScreenActionRequest) -> Timed<Verdict> {
        let response = again("safety", self.safety_budget, request, |request| {
            let mut client = self.safety.clone();
            async move { client.screen_action(request).await }
        });
        timed(async { response.await?.verdict.ok_or_else(|| garbage("safety")) }).await
    }

    pub(crate) async fn retrieve(
        &self,
        query: &str,
        category: &str,
        embedding: Option<Embedding>,
    ) -> Timed<Vec<Passage>> {
        let request = RetrieveRequest {
            query: query.to_owned(),
            audience: Audience::Public.into(),
            category: category.to_owned(),
            k: self.passages,
            embedding,
        };
        let response = again("retriever", self.retrieve_budget, request, |request| {
            let mut client = self.retriever.clone();
            async move { client.retrieve(request).await }
        });
        timed(async {
            let mut passages = response.await?.passages;
            // The index filters by audience; a passage that says otherwise is a fault, never an answer.
            passages.retain(|passage| passage.audience() == Audience::Public && passage.score.is_finite());
            Ok(passages)
        })
        .await
    }

    /// Opens the stream of an answer; [`Generating::next`] reads it within the same budget.
    pub(crate) async fn generate(
        &self,
        request: GenerateRequest,
        within: Duration,
    ) -> Result<Generating, Failure> {
        let stream = again("generator", within, request, |request| {
            let mut client = self.generator.clone();
            async move { client.generate(request).await }
        });
        Ok(Generating(stream.await?))
    }

    /// Asks once: a model's choice costs money.
    pub(crate) async fn choose_intent(&self, request: ChooseIntentRequest) -> Timed<ChooseIntentResponse> {
        let mut client = self.generator.clone();
        timed(once("generator", self.choose_budget, request, |request| async move {
            client.choose_intent(request).await
        }))
        .await
    }

    /// Asks once, as a model's choice; of an answer that the customer has, so that it may take as long as another.
    pub(crate) async fn judge(&self, request: JudgeRequest) -> Result<JudgeResponse, Failure> {
        let mut client = self.generator.clone();
        let judge = |request| async move { client.judge(request).await };
        once("generator", self.generate_budget, request, judge).await
    }

    /// Asks once, as [`Stages::judge`].
    pub(crate) async fn recheck(
        &self,
        request: RecheckAnswerRequest,
    ) -> Result<RecheckAnswerResponse, Failure> {
        let mut client = self.generator.clone();
        let recheck = |request| async move { client.recheck_answer(request).await };
        once("generator", self.generate_budget, request, recheck).await
    }

    pub(crate) async fn evict(&self, cache_key: String) -> Result<(), Failure> {
        let (mut client, request) = (self.generator.clone(), EvictAnswerRequest { cache_key });
        let evict = |request| async move { client.evict_answer(request).await };
        once("generator", EVICT_BUDGET, request, evict).await.map(|_| ())
    }

    /// The same turn twice is one: another replica may answer for one that is gone.
    pub(crate) async fn propose(&self, request: ProposeRequest) -> Timed<ProposeResponse> {
        timed(again("workflow", self.workflow_budget, request, |request| {
            let mut client = self.workflow.clone();
            async move { client.propose(request).await }
        }))
        .await
    }

    /// The same execution twice is one: another replica may answer for one that is gone.
    pub(crate) async fn confirm(&self, request: ConfirmRequest) -> Timed<ConfirmResponse> {
        timed(again("workflow", self.workflow_budget, request, |request| {
            let mut client = self.workflow.clone();
            async move { client.confirm(request).await }
        }))
        .await
    }

    pub(crate) async fn cancel(&self, execution_id: String) -> Result<CancelResponse, Failure> {
        let mut client = self.workflow.clone();
        let request = CancelRequest { execution_id };
        once("workflow", self.workflow_budget, request, |request| async move { client.cancel(request).await })
            .await
    }

    /// Executions that ended after their turn and whose conversation has not been told.
    pub(crate) async fn notices(&self) -> Result<Vec<Notice>, Failure> {
        let mut client = self.workflow.clone();
        let list = |request| async move { client.list_notices(request).await };
        Ok(once("workflow", self.workflow_budget, ListNoticesRequest::default(), list).await?.notices)
    }

    pub(crate) async fn acknowledge(&self, execution_id: String) -> Result<(), Failure> {
        let (mut client, request) = (self.workflow.clone(), AcknowledgeNoticeRequest { execution_id });
        let acknowledge = |request| async move { client.acknowledge_notice(request).await };
        once("workflow", self.workflow_budget, request, acknowledge).await.map(|_| ())
    }

    /// Deletes the executions of conversations; returns how many.
    pub(crate) async fn forget_executions(&self, conversation_ids: Vec<String>) -> Result<u64, Failure> {
        let (mut client, request) = (self.workflow.clone(), ForgetExecutionsRequest { conversation_ids });
        let forget = |request| async move { client.forget_executions(request).await };
        Ok(once("workflow", self.workflow_budget, request, forget).await?.executions)
    }

    /// The executions of a conversation.
    pub(crate) async fn executions(&self, conversation_id: String) -> Result<Vec<Execution>, Failure> {
        let mut client = self.workflow.clone();
        let request =
            ListExecutionsRequest { conversation_id, page_size: 1000, ..ListExecutionsRequest::default() };
        let listed = once("workflow", self.workflow_budget, request, |request| async move {
            client.list_executions(request).await
        });
        Ok(listed.await?.executions)
    }

    /// One call of telemetry.
    pub(crate) async fn telemetry<Q, R, F>(
        &self,
        request: Q,
        call: impl FnOnce(Telemetry, Request<Q>) -> F,
    ) -> Result<R, Failure>
    where
        F: Future<Output = Result<Response<R>, Status>>,
    {
        let client = self.telemetry.clone();
        once("telemetry", TELEMETRY_BUDGET, request, |request| call(client, request)).await
    }

    /// What was answered unseen in a conversation.
    pub(crate) async fn unseen_of(&self, conversation_id: String) -> Result<Vec<TurnRecord>, Failure> {
        let (mut client, request) =
            (self.rollout.clone(), ListUnseenRequest { conversation_id, ..Default::default() });
        let list = |request| async move { client.list_unseen(request).await };
        let listed = once("telemetry", TELEMETRY_BUDGET, request, list).await?.answers;
        Ok(listed.into_iter().filter_map(|answer| answer.record).collect())
    }

    /// What the controller of the rollout says, for as long as it does.
    pub(crate) async fn watch_plan(&self) -> Result<Plans, Failure> {
        let mut client = self.rollout.clone();
        let told = tokio::time::timeout(TELEMETRY_BUDGET, client.watch_plan(WatchPlanRequest {})).await;
        let told = told.unwrap_or_else(|_| Err(Status::deadline_exceeded("no connection in time")));
        told.map(|told| Plans(told.into_inner())).map_err(|status| failure("telemetry", &status))
    }
}

/// Plans of the rollout on their way.
pub(crate) struct Plans(Streaming<WatchPlanResponse>);

impl Plans {
    /// The next word of the controller, which may be that there is no plan; `None` when it has gone.
    pub(crate) async fn next(&mut self) -> Option<Option<RolloutPlan>> {
        Some(self.0.next().await?.ok()?.plan)
    }
}

/// An answer on its way.
pub(crate) struct Generating(Streaming<GenerateResponse>);

impl Generating {
    /// The next event; the stream ends with an error unless a final event came.
    pub(crate) async fn next(&mut self) -> Result<Event, Failure> {
        match self.0.next().await {
            Some(Ok(response)) => response.event.ok_or_else(|| garbage("generator")),
            Some(Err(status)) => Err(failure("generator", &status)),
            None => Err(garbage("generator")),
        }
    }
}

/// One call within a budget.
async fn once<Q, R, F>(
    stage: &'static str,
    budget: Duration,
    request: Q,
    call: impl FnOnce(Request<Q>) -> F,
) -> Result<R, Failure>
where
    F: Future<Output = Result<Response<R>, Status>>,
{
    let mut request = Request::new(request);
    request.set_timeout(budget);
    // The link enforces the deadline of a call; this also ends the wait for a connection to make it on.
    match tokio::time::timeout(budget, call(request)).await {
        Ok(answer) => answer.map(Response::into_inner).map_err(|status| failure(stage, &status)),
        Err(_) => Err(failure(stage, &Status::deadline_exceeded("no connection in time"))),
    }
}

/// As [`once`], and once more when the stage was not reachable: for calls without effect only.
async fn again<Q: Clone, R, F>(
    stage: &'static str,
    budget: Duration,
    request: Q,
    call: impl Fn(Request<Q>) -> F,
) -> Result<R, Failure>
where
    F: Future<Output = Result<Response<R>, Status>>,
{
    match once(stage, budget, request.clone(), &call).await {
        Err(failure) if failure.code == Code::Unavailable => once(stage, budget, request, &call).await,
        answer => answer,
    }
}

async fn timed<T>(call: impl Future<Output = Result<T, Failure>>) -> Timed<T> {
    let start = Instant::now();
    let result = call.await;
    Timed { result, ms: start.elapsed().as_secs_f64() * 1e3 }
}

fn failure(stage: &'static str, status: &Status) -> Failure {
    Failure { stage, code: status.code(), message: status.message().to_owned() }
}

fn garbage(stage: &'static str) -> Failure {
    Failure {
        stage,
        code: Code::DataLoss,
        message: "the response lacks a part or is out of range".to_owned(),
    }
}

/// A classification outside its ranges counts as none.
fn plausible(intent: Intent) -> Result<Intent, Failure> {
    let unit = 0.0..=1.0;
    let fits = unit.contains(&intent.confidence) && unit.contains(&intent.out_of_scope_score);
    if fits { Ok(intent) } else { Err(garbage("classifier")) }
}
