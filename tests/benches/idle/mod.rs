//! Stages that do no work: each answers at once, so that only the pipeline costs.

use std::pin::Pin;

use kit::Stage;
use proto::*;
use tokio_stream::Stream;
use tonic::{Request, Response, Status};

type Streaming<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;
type Answer<T> = Result<Response<T>, Status>;

const SENTENCE: &str = "A cash withdrawal abroad costs 2 pounds.";

#[derive(Clone, Copy)]
pub(crate) struct Idle;

impl Idle {
    pub(crate) fn classifier() -> Stage {
        Stage::new("classifier").with(classifier_service_server::ClassifierServiceServer::new(Self))
    }

    pub(crate) fn stages() -> Vec<(&'static str, Stage)> {
        vec![
            ("classifier", Self::classifier()),
            ("safety", Stage::new("safety").with(safety_service_server::SafetyServiceServer::new(Self))),
            (
                "retriever",
                Stage::new("retriever").with(retriever_service_server::RetrieverServiceServer::new(Self)),
            ),
            (
                "generator",
                Stage::new("generator").with(generator_service_server::GeneratorServiceServer::new(Self)),
            ),
            (
                "workflow",
                Stage::new("workflow").with(workflow_service_server::WorkflowServiceServer::new(Self)),
            ),
            (
                "telemetry",
                Stage::new("telemetry").with(telemetry_service_server::TelemetryServiceServer::new(Self)),
            ),
        ]
    }
}

fn answer<T>(message: T) -> Answer<T> {
    Ok(Response::new(message))
}

fn allow(text: &str) -> Option<Verdict> {
    Some(Verdict {
        action: SafetyAction::Allow.into(),
        status: SafetyStatus::Ok.into(),
        text: text.to_owned(),
        ..Verdict::default()
    })
}

fn unused<T>() -> Answer<T> {
    Err(Status::unimplemented("not part of the bench"))
}

#[tonic::async_trait]
impl classifier_service_server::ClassifierService for Idle {
    async fn classify(&self, _: Request<ClassifyRequest>) -> Answer<ClassifyResponse> {
        let intent = Intent {
            name: "atm_abroad".to_owned(),
            confidence: 0.9,
            decision: IntentDecision::Accept.into(),
            ..Intent::default()
        };
        answer(ClassifyResponse { intent: Some(intent), embedding: None })
    }

    async fn list_intents(&self, _: Request<ListIntentsRequest>) -> Answer<ListIntentsResponse> {
        unused()
    }
}

#[tonic::async_trait]
impl safety_service_server::SafetyService for Idle {
    async fn screen_input(&self, request: Request<ScreenInputRequest>) -> Answer<ScreenInputResponse> {
        answer(ScreenInputResponse { verdict: allow(&request.get_ref().text) })
    }

    async fn screen_passages(
        &self,
        request: Request<ScreenPassagesRequest>,
    ) -> Answer<ScreenPassagesResponse> {
        answer(ScreenPassagesResponse {
            verdicts: request.get_ref().passages.iter().filter_map(|_| allow("")).collect(),
        })
    }

    async fn screen_output(&self, request: Request<ScreenOutputRequest>) -> Answer<ScreenOutputResponse> {
        answer(ScreenOutputResponse { verdict: allow(&request.get_ref().text) })
    }

    async fn screen_action(&self, _: Request<ScreenActionRequest>) -> Answer<ScreenActionResponse> {
        answer(ScreenActionResponse { verdict: allow("") })
    }
}

#[tonic::async_trait]
impl retriever_service_server::RetrieverService for Idle {
    async fn retrieve(&self, _: Request<RetrieveRequest>) -> Answer<RetrieveResponse> {
        let passage = Passage {
            document_id: "cash-abroad".to_owned(),
            text: SENTENCE.to_owned(),
            audience: Audience::Public.into(),
            ..Passage::default()
        };
        answer(RetrieveResponse { passages: vec![passage], index_version: String::new() })
    }

    async fn put_documents(
        &self,
        _: Request<tonic::Streaming<PutDocumentsRequest>>,
    ) -> Answer<PutDocumentsResponse> {
        unused()
    }

    async fn delete_documents(&self, _: Request<DeleteDocumentsRequest>) -> Answer<DeleteDocumentsResponse> {
        unused()
    }

    async fn get_index(&self, _: Request<GetIndexRequest>) -> Answer<GetIndexResponse> {
        unused()
    }
}

#[tonic::async_trait]
impl generator_service_server::GeneratorService for Idle {
    type GenerateStream = Streaming<GenerateResponse>;

    async fn generate(&self, _: Request<GenerateRequest>) -> Answer<Self::GenerateStream> {
        let citation = Citation {
            document_id: "cash-abroad".to_owned(),
            quote: SENTENCE.to_owned(),
            ..Citation::default()
        };
        let generation = Generation {
            text: SENTENCE.to_owned(),
            citations: vec![citation],
            model: "none".to_owned(),
            ..Generation::default()
        };
        let event = Some(generate_response::Event::Final(generation));
        answer(Box::pin(tokio_stream::once(Ok(GenerateResponse { event }))))
    }

    async fn choose_intent(&self, _: Request<ChooseIntentRequest>) -> Answer<ChooseIntentResponse> {
        Ok(Response::new(ChooseIntentResponse::default()))
    }

    async fn judge(&self, _: Request<JudgeRequest>) -> Answer<JudgeResponse> {
        unused()
    }

    async fn recheck_answer(&self, _: Request<RecheckAnswerRequest>) -> Answer<RecheckAnswerResponse> {
        unused()
    }

    async fn evict_answer(&self, _: Request<EvictAnswerRequest>) -> Answer<EvictAnswerResponse> {
        unused()
    }
}

#[tonic::async_trait]
impl workflow_service_server::WorkflowService for Idle {
    async fn propose(&self, _: Request<ProposeRequest>) -> Answer<ProposeResponse> {
        answer(ProposeResponse::default())
    }

    async fn confirm(&self, _: Request<ConfirmRequest>) -> Answer<ConfirmResponse> {
        unused()
    }

    async fn cancel(&self, _: Request<CancelRequest>) -> Answer<CancelResponse> {
        unused()
    }

    async fn get_execution(&self, _: Request<GetExecutionRequest>) -> Answer<GetExecutionResponse> {
        unused()
    }

    async fn list_executions(&self, _: Request<ListExecutionsRequest>) -> Answer<ListExecutionsResponse> {
        unused()
    }

    async fn resolve_unknown(&self, _: Request<ResolveUnknownRequest>) -> Answer<ResolveUnknownResponse> {
        unused()
    }

    async fn list_notices(&self, _: Request<ListNoticesRequest>) -> Answer<ListNoticesResponse> {
        answer(ListNoticesResponse::default())
    }

    async fn acknowledge_notice(
        &self,
        _: Request<AcknowledgeNoticeRequest>,
    ) -> Answer<AcknowledgeNoticeResponse> {
        unused()
    }

    async fn forget_executions(
        &self,
        _: Request<ForgetExecutionsRequest>,
    ) -> Answer<ForgetExecutionsResponse> {
        unused()
    }

    async fn approve(&self, _: Request<ApproveRequest>) -> Answer<ApproveResponse> {
        unused()
    }

    async fn compensate(&self, _: Request<CompensateRequest>) -> Answer<CompensateResponse> {
        unused()
    }
}

#[tonic::async_trait]
impl telemetry_service_server::TelemetryService for Idle {
    async fn list_feedback(&self, _: Request<ListFeedbackRequest>) -> Answer<ListFeedbackResponse> {
        unused()
    }

    async fn forget_conversations(
        &self,
        _: Request<ForgetConversationsRequest>,
    ) -> Answer<ForgetConversationsResponse> {
        unused()
    }

    type WatchMetricsStream = Streaming<WatchMetricsResponse>;
    type WatchTurnsStream = Streaming<WatchTurnsResponse>;
    type ExportStream = Streaming<ExportResponse>;

    async fn record(&self, request: Request<RecordRequest>) -> Answer<RecordResponse> {
        answer(RecordResponse { stored: request.get_ref().records.len() as u32 })
    }

    async fn submit_feedback(
        &self,
        _: Request<TelemetryServiceSubmitFeedbackRequest>,
    ) -> Answer<TelemetryServiceSubmitFeedbackResponse> {
        answer(TelemetryServiceSubmitFeedbackResponse {})
    }

    async fn submit_label(&self, _: Request<SubmitLabelRequest>) -> Answer<SubmitLabelResponse> {
        answer(SubmitLabelResponse {})
    }

    async fn submit_evaluation(
        &self,
        _: Request<SubmitEvaluationRequest>,
    ) -> Answer<SubmitEvaluationResponse> {
        unused()
    }

    async fn next_audit(&self, _: Request<NextAuditRequest>) -> Answer<NextAuditResponse> {
        unused()
    }

    async fn label_audit(&self, _: Request<LabelAuditRequest>) -> Answer<LabelAuditResponse> {
        unused()
    }

    async fn report_deliveries(
        &self,
        _: Request<ReportDeliveriesRequest>,
    ) -> Answer<ReportDeliveriesResponse> {
        answer(ReportDeliveriesResponse {})
    }

    async fn get_metrics(&self, _: Request<GetMetricsRequest>) -> Answer<GetMetricsResponse> {
        unused()
    }

    async fn watch_metrics(&self, _: Request<WatchMetricsRequest>) -> Answer<Self::WatchMetricsStream> {
        unused()
    }

    async fn watch_turns(&self, _: Request<WatchTurnsRequest>) -> Answer<Self::WatchTurnsStream> {
        unused()
    }

    async fn export(&self, _: Request<ExportRequest>) -> Answer<Self::ExportStream> {
        unused()
    }
}
