//! The outside world of a test: a receiver of workflow requests and a collector of traces.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::serve::ListenerExt as _;
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_server::{
    MetricsService, MetricsServiceServer,
};
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsServiceRequest, ExportMetricsServiceResponse,
};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::trace::v1::span::Event;
use standardwebhooks::Webhook;
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};

/// The signing secret shared with the receiver.
pub const SECRET: &str = "whsec_dGhlIHNlY3JldCBvZiBhbGwgdGhlIHRlc3Rz";

/// Serves routes on a free port of loopback until the task set goes; with "http://" and the address.
pub async fn serve(app: Router) -> (String, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let mut server = JoinSet::new();
    // A small event must not wait for the acknowledgement of the one before.
    let listener = listener.tap_io(|stream| stream.set_nodelay(true).unwrap());
    server.spawn(async move { axum::serve(listener, app).await.unwrap() });
    (address, server)
}

/// One request that reached the receiver with a good signature.
#[derive(Debug, Clone)]
pub struct Received {
    /// Path of the request.
    pub path: String,
    /// Its idempotency key.
    pub key: String,
    /// Its body.
    pub body: serde_json::Value,
}

/// A server that verifies and records workflow requests.
#[derive(Debug)]
pub struct Receiver {
    /// Where it listens.
    pub url: String,
    received: Arc<Mutex<Vec<Received>>>,
    _server: JoinSet<()>,
}

impl Receiver {
    /// Listens on a free loopback port.
    pub async fn start() -> Self {
        let received = Arc::new(Mutex::new(Vec::new()));
        let (url, server) = serve(Router::new().fallback(take).with_state(received.clone())).await;
        Self { url, received, _server: server }
    }

    /// What came so far.
    pub fn received(&self) -> Vec<Received> {
        self.received.lock().unwrap().clone()
    }
}

async fn take(
    State(received): State<Arc<Mutex<Vec<Received>>>>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    if Webhook::new(SECRET).unwrap().verify(&body, &headers).is_err() {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let key = headers["idempotency-key"].to_str().unwrap().to_owned();
    let body = serde_json::from_slice(&body).unwrap();
    received.lock().unwrap().push(Received { path: uri.path().to_owned(), key, body });
    axum::Json(serde_json::json!({ "reference": "REF-1" })).into_response()
}

/// An OTLP collector that keeps spans by trace: service name and span name; and the newest metrics.
#[derive(Debug)]
pub struct Collector {
    /// Where it listens.
    pub url: String,
    spans: Spans,
    events: Events,
    metrics: Arc<Mutex<ExportMetricsServiceRequest>>,
    whole: Arc<Mutex<String>>,
    server: JoinHandle<()>,
}

type Spans = Arc<Mutex<BTreeMap<String, Vec<(String, String)>>>>;
type Events = Arc<Mutex<Vec<(String, Event)>>>;

impl Collector {
    /// Listens on a free loopback port.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (spans, events) = (Spans::default(), Events::default());
        let (metrics, whole) = (Arc::default(), Arc::<Mutex<String>>::default());
        let traced = TraceServiceServer::new(Sink(spans.clone(), events.clone(), whole.clone()));
        let measured = MetricsServiceServer::new(Gauge(Arc::clone(&metrics), whole.clone()));
        let incoming = tonic::transport::server::TcpIncoming::from(listener);
        let serving = tonic::transport::Server::builder().add_service(traced).add_service(measured);
        let serving = serving.serve_with_incoming(incoming);
        #[expect(clippy::disallowed_methods, reason = "aborted when the handle is dropped")]
        let server = tokio::spawn(async move { serving.await.unwrap() });
        Self { url, spans, events, metrics, whole, server }
    }

    /// All that was exported, attributes and events too.
    pub fn whole(&self) -> String {
        self.whole.lock().unwrap().clone()
    }

    /// The last metrics that were exported.
    pub fn metrics(&self) -> ExportMetricsServiceRequest {
        self.metrics.lock().unwrap().clone()
    }

    /// Events of spans, each with the name of its span.
    pub fn events(&self) -> Vec<(String, Event)> {
        self.events.lock().unwrap().clone()
    }

    /// Spans by trace id, each as service name and span name.
    pub fn traces(&self) -> BTreeMap<String, Vec<(String, String)>> {
        self.spans.lock().unwrap().clone()
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.server.abort();
    }
}

struct Sink(Spans, Events, Arc<Mutex<String>>);

#[tonic::async_trait]
impl TraceService for Sink {
    async fn export(
        &self,
        request: tonic::Request<ExportTraceServiceRequest>,
    ) -> Result<tonic::Response<ExportTraceServiceResponse>, tonic::Status> {
        use opentelemetry_proto::tonic::common::v1::any_value::Value;
        let (mut spans, mut events) = (self.0.lock().unwrap(), self.1.lock().unwrap());
        let request = request.into_inner();
        self.2.lock().unwrap().push_str(&format!("{request:?}"));
        for group in request.resource_spans {
            let attributes = group.resource.unwrap_or_default().attributes;
            let service = attributes.into_iter().find(|attribute| attribute.key == "service.name");
            let service = match service.and_then(|attribute| attribute.value?.value) {
                Some(Value::StringValue(name)) => name,
                _ => String::new(),
            };
            for span in group.scope_spans.into_iter().flat_map(|scope| scope.spans) {
                let trace = span.trace_id.iter().map(|byte| format!("{byte:02x}")).collect();
                events.extend(span.events.into_iter().map(|event| (span.name.clone(), event)));
                spans.entry(trace).or_default().push((service.clone(), span.name));
            }
        }
        Ok(tonic::Response::new(ExportTraceServiceResponse::default()))
    }
}

struct Gauge(Arc<Mutex<ExportMetricsServiceRequest>>, Arc<Mutex<String>>);

#[tonic::async_trait]
impl MetricsService for Gauge {
    async fn export(
        &self,
        request: tonic::Request<ExportMetricsServiceRequest>,
    ) -> Result<tonic::Response<ExportMetricsServiceResponse>, tonic::Status> {
        let request = request.into_inner();
        self.1.lock().unwrap().push_str(&format!("{request:?}"));
        *self.0.lock().unwrap() = request;
        Ok(tonic::Response::new(ExportMetricsServiceResponse::default()))
    }
}
