//! A stage as routes, and the one way to serve it: limits, health, reflection, drain.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use futures::future::BoxFuture;
use http::{Request, Response};
use opentelemetry::trace::TraceContextExt as _;
use secrecy::ExposeSecret as _;
use tokio::net::TcpListener;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::body::Body;
use tonic::server::NamedService;
use tonic::service::Routes;
use tonic::transport::Server as Http2;
use tower::Service;
use tracing::Instrument as _;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

use crate::call::Call;
use crate::config::{self, Database, Optional};
use crate::guard::Guard;
use crate::link::Links;
use crate::metrics::Metrics;
use crate::{accept, admin, fault, rpc, telemetry, tls};

// Limits of promises.md, "What gRPC does not do for you": every one is off or infinite unless set.
const MAX_CONCURRENT_STREAMS: u32 = 1024;
const MAX_CONNECTION_AGE: Duration = Duration::from_secs(3600);
const MAX_CONNECTION_AGE_GRACE: Duration = Duration::from_secs(60);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
const MAX_PENDING_ACCEPT_RESET_STREAMS: usize = 20;
const MAX_LOCAL_ERROR_RESET_STREAMS: usize = 1024;
const MAX_HEADER_LIST_BYTES: u32 = 16 * 1024;
const MAX_REQUEST: Duration = Duration::from_secs(120);

/// What a stage gets from its process.
#[derive(Debug, Clone, Default)]
pub struct Context {
    /// The shared configuration.
    pub server: config::Server,
    /// Ways to the other stages.
    pub links: Links,
    /// What this process measures.
    pub metrics: Metrics,
    /// Where background work is spawned; awaited at the end.
    pub tasks: TaskTracker,
    /// Ends background work.
    pub shutdown: CancellationToken,
}

impl Context {
    /// Ends background work and waits for it, for the time of a drain at most.
    pub async fn finish(&self) {
        self.shutdown.cancel();
        self.tasks.close();
        let drain = Duration::from_millis(self.server.drain_ms);
        if tokio::time::timeout(drain, self.tasks.wait()).await.is_err() {
            tracing::warn!("drain time is over, background work is cut");
        }
    }

    /// Creates and returns the data folder.
    ///
    /// # Errors
    /// The folder cannot be created.
    pub fn data_dir(&self) -> anyhow::Result<PathBuf> {
        use anyhow::Context as _;
        let dir = &self.server.data_dir;
        std::fs::create_dir_all(dir)
            .with_context(|| format!("server.data_dir: cannot create {}", dir.display()))?;
        Ok(dir.clone())
    }

    /// Where a stage keeps what it owns: its schema of the configured server, or its file in the data folder.
    ///
    /// # Errors
    /// The folder cannot be created.
    pub fn store(&self, stage: &str) -> anyhow::Result<sql::Source> {
        let Database { url, ca, connections } = &self.server.database;
        let Some(url) = url.clone().filter(|url| !url.expose_secret().is_empty()) else {
            return Ok(sql::Source::File(self.data_dir()?.join(stage).with_extension("db")));
        };
        let ca = Some(ca.clone()).filter(|path| !path.as_os_str().is_empty());
        let server = sql::Server { url, ca, connections: *connections };
        Ok(sql::Source::Postgres { server, schema: format!("firstline_{stage}") })
    }
}

/// A stage ready to serve: its gRPC services under their names.
#[derive(Debug, Clone)]
pub struct Stage {
    name: &'static str,
    routes: Routes,
    services: Vec<&'static str>,
    /// Names of health checks beside the services', and whether each serves.
    parts: Vec<(&'static str, bool)>,
}

impl Stage {
    /// A stage without services.
    pub fn new(name: &'static str) -> Self {
        Self { name, routes: Routes::default(), services: Vec::new(), parts: Vec::new() }
    }

    /// Adds a health check of a part that the stage can do without: whoever asks for this name learns whether it
    /// serves, the health of the stage itself is not touched.
    #[must_use]
    pub fn reporting(mut self, part: &'static str, serves: bool) -> Self {
        self.parts.push((part, serves));
        self
    }

    /// Adds a gRPC service.
    #[must_use]
    pub fn with<S>(mut self, service: S) -> Self
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
        S: NamedService + Clone + Send + Sync + 'static,
        S::Future: Send + 'static,
    {
        self.services.push(S::NAME);
        self.routes = self.routes.add_service(service);
        self
    }

    /// Adds the services of another stage, for callers who know one address.
    #[must_use]
    pub fn beside(mut self, other: &Self) -> Self {
        self.services.extend(&other.services);
        let routes = std::mem::take(&mut self.routes).into_axum_router();
        self.routes = routes.merge(other.routes.clone().into_axum_router().reset_fallback()).into();
        self
    }

    /// The stage as a service that sees the caller's deadline and trace.
    pub fn service(&self) -> InCall<Routes> {
        InCall { inner: self.routes.clone().prepare(), stage: self.name, guard: None }
    }
}

/// Lets a request in, and runs it inside its [`Call`], in a span, until its deadline.
#[derive(Debug, Clone)]
pub struct InCall<S> {
    inner: S,
    stage: &'static str,
    /// Whoever is in this process needs no leave.
    guard: Option<Arc<Guard>>,
}

impl<S> Service<Request<Body>> for InCall<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, context: &mut std::task::Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let (call, inbound) = Call::extract(request.headers());
        let (stage, start) = (self.stage, Instant::now());
        let method = method(request.uri().path()).to_owned();
        // Health and reflection are the platform's own traffic.
        let own = method.starts_with("grpc.");
        let done = move |method: String, response: Response<Body>| {
            let response = fault::too_large(stage, response);
            if own { response } else { rpc::measured(start, method, response) }
        };
        let caller = match self.guard.as_ref().map(|guard| guard.admit(&request)).transpose() {
            Ok(caller) => caller,
            Err(status) => {
                return Box::pin(std::future::ready(Ok(done(method, status.into_http()))));
            }
        };
        if !telemetry::exporting() || own {
            let response = until_deadline(call, call.scope(self.inner.call(request)));
            return Box::pin(async move { response.await.map(|response| done(method, response)) });
        }
        let span = server_span(stage, &method);
        if let Some(caller) = &caller {
            span.record("firstline.caller", &caller.name);
        }
        if inbound {
            let parent = opentelemetry::Context::new().with_remote_span_context(call.remote());
            let _ = span.set_parent(parent);
        }
        let call = call.with_span(span.context().span().span_context());
        let response = span.in_scope(|| self.inner.call(request));
        let scoped = call.scope(response);
        Box::pin(
            async move {
                let response = until_deadline(call, scoped).await;
                let response = response.map(|response| done(method, response));
                if let Ok(response) = &response {
                    record_status(response);
                }
                response
            }
            .instrument(span),
        )
    }
}

/// The RPC of a path, as the conventions write it: "firstline.v1.ClassifierService/Classify".
fn method(path: &str) -> &str {
    path.trim_start_matches('/')
}

fn server_span(stage: &'static str, method: &str) -> tracing::Span {
    let verb = method.rsplit('/').next().unwrap_or(method);
    tracing::info_span!(
        "rpc",
        otel.name = format!("{stage}/{verb}"),
        otel.kind = "server",
        rpc.system.name = "grpc",
        rpc.method = method,
        rpc.response.status_code = tracing::field::Empty,
        firstline.caller = tracing::field::Empty,
        otel.status_code = tracing::field::Empty,
    )
}

fn record_status(response: &Response<Body>) {
    let code =
        response.headers().get("grpc-status").and_then(|value| value.to_str().ok()?.parse::<i32>().ok());
    let code = tonic::Code::from_i32(code.unwrap_or(0));
    let span = tracing::Span::current();
    span.record("rpc.response.status_code", telemetry::status_name(code));
    if matches!(code, tonic::Code::Internal | tonic::Code::Unknown | tonic::Code::Unavailable) {
        span.record("otel.status_code", "ERROR");
    }
}

async fn until_deadline(
    call: Call,
    response: impl Future<Output = Result<Response<Body>, Infallible>>,
) -> Result<Response<Body>, Infallible> {
    match call.deadline() {
        None => response.await,
        Some(deadline) => tokio::time::timeout_at(deadline, response)
            .await
            .unwrap_or_else(|_| Ok(crate::link::expired().into_http())),
    }
}

/// Where a process is reached.
#[derive(Debug)]
pub struct Doors {
    /// For those who call the stage.
    pub main: TcpListener,
    /// For health and metrics alone.
    pub admin: Option<TcpListener>,
}

impl From<TcpListener> for Doors {
    fn from(main: TcpListener) -> Self {
        Self { main, admin: None }
    }
}

impl Doors {
    /// Binds the addresses of a stage.
    ///
    /// # Errors
    /// A port is taken or an address is not of this machine, with the key to change.
    pub async fn open(main: SocketAddr, Optional(admin): Optional, stage: &str) -> anyhow::Result<Self> {
        use anyhow::Context as _;
        let cannot = |address, key| format!("cannot listen on {address} (server.{key}.{stage})");
        let main = crate::run::bind(main, stage).await?;
        let admin = match admin {
            Some(address) => {
                let bound = TcpListener::bind(address).await;
                Some(bound.with_context(|| cannot(address, "admin"))?)
            }
            None => None,
        };
        Ok(Self { main, admin })
    }
}

/// Serves a stage until `shutdown`, then reports NOT_SERVING, lets requests in flight finish for
/// `drain_ms` and returns.
///
/// # Errors
/// A listener fails, the descriptors do not decode, or a file of `server.tls` or `server.jwt` cannot be used.
pub async fn serve(doors: impl Into<Doors>, stage: Stage, context: &Context) -> anyhow::Result<()> {
    let Doors { main, admin } = doors.into();
    let (greeting, guard) = (tls::greeting(context)?, Guard::new(stage.name, context)?.map(Arc::new));
    let (reporter, health) = tonic_health::server::health_reporter();
    for service in &stage.services {
        reporter.set_service_status(service, tonic_health::ServingStatus::Serving).await;
    }
    for (part, serves) in &stage.parts {
        let status = if *serves {
            tonic_health::ServingStatus::Serving
        } else {
            tonic_health::ServingStatus::NotServing
        };
        reporter.set_service_status(part, status).await;
    }
    // Both versions: Python's client and older grpcurls know the first only.
    let (first, reflection) = (reflection(&stage).build_v1alpha()?, reflection(&stage).build_v1()?);
    let name = stage.name;
    let probes = Routes::new(health.clone());
    let routes = stage.routes.add_service(health).add_service(first).add_service(reflection).prepare();
    let services = stage.services;
    let (draining, close) = (context.shutdown.clone(), CancellationToken::new());
    let closing = close.clone();
    // Serving ends with the last connection that came in time, see `accept`.
    let stop = async move {
        draining.cancelled().await;
        for service in services.iter().chain([&""]) {
            reporter.set_service_status(service, tonic_health::ServingStatus::NotServing).await;
        }
        closing.cancel();
        std::future::pending().await
    };
    let serving = hardened()
        .layer(tower::layer::layer_fn(move |inner| InCall { inner, stage: name, guard: guard.clone() }))
        .add_routes(routes)
        .serve_with_incoming_shutdown(accept::connections(main, greeting, close), stop);
    let admin = async {
        match admin {
            Some(listener) => admin::serve(listener, probes, &context.metrics).await,
            None => std::future::pending().await,
        }
    };
    let drain = Duration::from_millis(context.server.drain_ms);
    let late = async {
        context.shutdown.cancelled().await;
        tokio::time::sleep(drain).await;
    };
    tokio::select! {
        served = serving => served?,
        // It answers until the last request is done, so that a probe sees the drain.
        failed = admin => failed?,
        () = late => tracing::warn!(stage = name, "drain time is over, requests in flight are cut"),
    }
    Ok(())
}

/// Describes the services that this stage serves, and no other.
fn reflection(stage: &Stage) -> tonic_reflection::server::Builder<'static> {
    let described = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(proto::DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .with_service_name("grpc.health.v1.Health");
    stage.services.iter().fold(described, |described, service| described.with_service_name(*service))
}

pub(crate) fn hardened() -> Http2 {
    Http2::builder()
        .timeout(MAX_REQUEST)
        .max_concurrent_streams(MAX_CONCURRENT_STREAMS)
        .max_connection_age(MAX_CONNECTION_AGE)
        .max_connection_age_grace(MAX_CONNECTION_AGE_GRACE)
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .http2_max_pending_accept_reset_streams(Some(MAX_PENDING_ACCEPT_RESET_STREAMS))
        .http2_max_local_error_reset_streams(Some(MAX_LOCAL_ERROR_RESET_STREAMS))
        .http2_max_header_list_size(MAX_HEADER_LIST_BYTES)
}
