//! Logs and traces of a process. Traces leave only when an `OTEL_*` endpoint is set.

use std::io::IsTerminal as _;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context as _;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _};

static EXPORTING: AtomicBool = AtomicBool::new(false);

/// Whether spans leave this process.
pub fn exporting() -> bool {
    EXPORTING.load(Ordering::Relaxed)
}

/// Flushes what is still to be exported when it is shut down.
#[derive(Debug)]
#[must_use = "spans are lost unless it is shut down"]
pub struct Guard(Option<SdkTracerProvider>);

impl Guard {
    /// Exports the last spans; blocks for some seconds at most.
    pub fn shutdown(self) {
        if let Some(Err(error)) = self.0.map(|provider| provider.shutdown()) {
            tracing::warn!(%error, "the last spans were not exported");
        }
    }
}

/// Starts logs and, when `OTEL_EXPORTER_OTLP_ENDPOINT` or its `_TRACES_` form is set, traces.
/// Logs go to stderr: readable on a terminal, JSON elsewhere; `RUST_LOG` wins over `level`.
/// Must run inside the runtime, since the exporter connects there.
///
/// # Errors
/// The exporter cannot be built from the `OTEL_*` variables.
pub fn init(service: &'static str, level: &str) -> anyhow::Result<Guard> {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    let logs = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let terminal = std::io::stderr().is_terminal();
    let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let logs = match terminal {
        true => logs.with_ansi(!no_color).boxed(),
        false => logs.json().flatten_event(true).with_current_span(false).with_span_list(false).boxed(),
    };
    let provider = provider(service)?;
    let traces = provider.as_ref().map(|provider| {
        let level = tracing_subscriber::filter::LevelFilter::INFO;
        tracing_opentelemetry::layer().with_tracer(provider.tracer("firstline")).with_filter(level)
    });
    EXPORTING.store(provider.is_some(), Ordering::Relaxed);
    // A second call in one process (tests run several stages) keeps the first subscriber.
    let _ = tracing_subscriber::registry().with(traces).with(logs.with_filter(filter)).try_init();
    Ok(Guard(provider))
}

fn provider(service: &'static str) -> anyhow::Result<Option<SdkTracerProvider>> {
    let set = |name| std::env::var(name).is_ok_and(|value| !value.is_empty());
    let disabled = std::env::var("OTEL_SDK_DISABLED").is_ok_and(|value| value.eq_ignore_ascii_case("true"));
    if disabled || !(set("OTEL_EXPORTER_OTLP_ENDPOINT") || set("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")) {
        return Ok(None);
    }
    let exporter = opentelemetry_otlp::SpanExporter::builder()
        .with_tonic()
        .build()
        .context("cannot build the trace exporter from the OTEL_* variables")?;
    let resource =
        Resource::builder().with_attribute(opentelemetry::KeyValue::new("service.namespace", "firstline"));
    let resource = match set("OTEL_SERVICE_NAME") {
        true => resource.build(),
        false => resource.with_service_name(service).build(),
    };
    Ok(Some(SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource).build()))
}

/// The name of a status code as the RPC semantic conventions spell it.
pub(crate) fn status_name(code: tonic::Code) -> &'static str {
    use tonic::Code;
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}
