//! The seam between stages: deadlines, trace context and statuses are the same over both transports.

use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kit::{Call, Context, Stage};
use proto::classifier_service_client::ClassifierServiceClient;
use proto::classifier_service_server::{ClassifierService, ClassifierServiceServer};
use proto::generator_service_client::GeneratorServiceClient;
use proto::generator_service_server::{GeneratorService, GeneratorServiceServer};
use proto::*;
use tests::Transport;
use tokio::task::JoinSet;
use tokio_stream::{Stream, StreamExt as _};
use tonic::transport::Endpoint;
use tonic::{Code, Request, Response, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_types::StatusExt as _;

/// Remembers the call it served; "wait" is never answered, "fault" is refused.
#[derive(Clone, Default)]
struct Probe(Arc<Mutex<Option<Call>>>);

#[tonic::async_trait]
impl ClassifierService for Probe {
    async fn classify(
        &self,
        request: Request<ClassifyRequest>,
    ) -> Result<Response<ClassifyResponse>, Status> {
        *self.0.lock().unwrap() = Some(Call::current());
        match request.get_ref().text.as_str() {
            "wait" => std::future::pending().await,
            "fault" => Err(kit::fault::invalid("classifier", "BAD_TEXT", "text", "is a fault")),
            _ => Ok(Response::new(ClassifyResponse::default())),
        }
    }

    async fn list_intents(
        &self,
        _: Request<ListIntentsRequest>,
    ) -> Result<Response<ListIntentsResponse>, Status> {
        Ok(Response::new(ListIntentsResponse::default()))
    }
}

#[tonic::async_trait]
impl GeneratorService for Probe {
    type GenerateStream = Pin<Box<dyn Stream<Item = Result<GenerateResponse, Status>> + Send>>;

    /// One event, then silence.
    async fn generate(&self, _: Request<GenerateRequest>) -> Result<Response<Self::GenerateStream>, Status> {
        let first = tokio_stream::once(Ok(GenerateResponse::default()));
        Ok(Response::new(Box::pin(first.chain(tokio_stream::pending()))))
    }

    async fn choose_intent(
        &self,
        _: Request<ChooseIntentRequest>,
    ) -> Result<Response<ChooseIntentResponse>, Status> {
        Err(Status::unimplemented("the probe is asked for streams only"))
    }

    async fn judge(&self, _: Request<JudgeRequest>) -> Result<Response<JudgeResponse>, Status> {
        Err(Status::unimplemented("the probe is asked for streams only"))
    }

    async fn recheck_answer(
        &self,
        _: Request<RecheckAnswerRequest>,
    ) -> Result<Response<RecheckAnswerResponse>, Status> {
        Err(Status::unimplemented("the probe is asked for streams only"))
    }

    async fn evict_answer(
        &self,
        _: Request<EvictAnswerRequest>,
    ) -> Result<Response<EvictAnswerResponse>, Status> {
        Err(Status::unimplemented("the probe is asked for streams only"))
    }
}

struct Seam {
    probe: Probe,
    link: kit::Link,
    context: Context,
}

impl Seam {
    async fn start(transport: Transport) -> Self {
        let (probe, context) = (Probe::default(), Context::default());
        let stage = Stage::new("probe")
            .with(ClassifierServiceServer::new(probe.clone()))
            .with(GeneratorServiceServer::new(probe.clone()));
        let link = tests::link(transport, stage, &context).await;
        Self { probe, link, context }
    }

    async fn classify(&self, text: &str, timeout: Option<Duration>) -> Result<(), Status> {
        let mut request = Request::new(ClassifyRequest { text: text.into(), ..ClassifyRequest::default() });
        timeout.into_iter().for_each(|timeout| request.set_timeout(timeout));
        ClassifierServiceClient::new(self.link.clone()).classify(request).await.map(|_| ())
    }
}

const TRANSPORTS: [Transport; 2] = [Transport::Local, Transport::Tcp];

#[tokio::test]
async fn a_deadline_ends_a_call_that_waits_and_a_stream_that_falls_silent() {
    for transport in TRANSPORTS {
        let seam = Seam::start(transport).await;
        let status = seam.classify("wait", Some(Duration::from_millis(50))).await.unwrap_err();
        assert_eq!(status.code(), Code::DeadlineExceeded, "{transport:?}: {status:?}");
        let mut request = Request::new(GenerateRequest::default());
        request.set_timeout(Duration::from_millis(50));
        let mut client = GeneratorServiceClient::new(seam.link.clone());
        let mut stream = client.generate(request).await.unwrap().into_inner();
        assert!(stream.next().await.unwrap().is_ok());
        let status = stream.next().await.unwrap().unwrap_err();
        assert_eq!(status.code(), Code::DeadlineExceeded, "{transport:?}: {status:?}");
        seam.context.shutdown.cancel();
    }
}

#[tokio::test]
async fn what_is_left_of_the_deadline_and_the_trace_reach_the_next_hop() {
    for transport in TRANSPORTS {
        let seam = Seam::start(transport).await;
        let known = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let call = Call::resume(known).within(Duration::from_secs(5));
        call.scope(seam.classify("hello", Some(Duration::from_secs(60)))).await.unwrap();
        let seen = seam.probe.0.lock().unwrap().unwrap();
        assert_eq!(seen.trace_id(), call.trace_id(), "{transport:?}");
        let late = seen.deadline().unwrap().saturating_duration_since(call.deadline().unwrap());
        assert!(late < Duration::from_secs(1), "{transport:?}: the shorter of both holds: {late:?}");
        let expired = Call::root().within(Duration::ZERO);
        let status = expired.scope(seam.classify("hello", None)).await.unwrap_err();
        assert_eq!(status.code(), Code::DeadlineExceeded, "{transport:?}: no call is made without time");
        seam.context.shutdown.cancel();
    }
}

#[tokio::test]
async fn a_fault_carries_reason_stage_and_field() {
    for transport in TRANSPORTS {
        let seam = Seam::start(transport).await;
        let status = seam.classify("fault", None).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
        let info = status.get_details_error_info().unwrap();
        assert_eq!((info.reason.as_str(), info.domain.as_str()), ("BAD_TEXT", "firstline.v1"));
        assert_eq!(info.metadata["stage"], "classifier");
        assert_eq!(status.get_details_bad_request().unwrap().field_violations[0].field, "text");
        seam.context.shutdown.cancel();
    }
}

#[tokio::test]
async fn a_stage_that_is_gone_is_unavailable_and_back_when_it_is_back() {
    let context = Context::default();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let link =
        kit::Link::remote(&format!("http://{address}"), kit::config::Balance::Single, &context).unwrap();
    let seam = Seam { probe: Probe::default(), link, context };
    let status = seam.classify("hello", None).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    let listener = tokio::net::TcpListener::bind(address).await.unwrap();
    let stage = Stage::new("probe").with(ClassifierServiceServer::new(seam.probe.clone()));
    let serving = seam.context.clone();
    seam.context.tasks.spawn(async move { kit::serve::serve(listener, stage, &serving).await.unwrap() });
    seam.classify("hello", None).await.unwrap();
    seam.context.shutdown.cancel();
}

/// The system has accepted their connections, which nobody has taken from it when the listener ends.
#[tokio::test]
async fn who_comes_just_before_a_stage_stops_is_answered() {
    let context = Context::default();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = Endpoint::from_shared(format!("http://{}", listener.local_addr().unwrap())).unwrap();
    let mut waiting = JoinSet::new();
    for _ in 0..8 {
        let mut client = HealthClient::new(endpoint.connect().await.unwrap());
        waiting.spawn(async move { client.check(HealthCheckRequest::default()).await });
    }
    context.shutdown.cancel();
    kit::serve::serve(listener, Stage::new("probe"), &context).await.unwrap();
    for answer in waiting.join_all().await {
        answer.unwrap();
    }
}
