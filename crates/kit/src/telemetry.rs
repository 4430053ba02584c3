//! Logs, traces and metrics of a process. Traces and metrics leave only when an `OTEL_*` endpoint is set.

use std::io::IsTerminal as _;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context as _;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::metrics::SdkMeterProvider;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::format;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _};

use crate::metrics::Metrics;
use crate::{evaluation, log};

static EXPORTING: AtomicBool = AtomicBool::new(false);

/// Whether spans leave this process.
pub fn exporting() -> bool {
    EXPORTING.load(Ordering::Relaxed)
}

/// Flushes what is still to be exported when it is shut down.
#[derive(Debug)]
#[must_use = "spans and metrics are lost unless it is shut down"]
pub struct Guard {
    traces: Option<SdkTracerProvider>,
    /// What this process measures.
    pub metrics: Metrics,
}

impl Guard {
    /// Exports the last spans and metrics; blocks for some seconds at most.
    pub fn shutdown(self) {
        if let Some(Err(error)) = self.traces.map(|provider| provider.shutdown()) {
            tracing::warn!(%error, "the last spans were not exported");
        }
        if let Err(error) = self.metrics.shutdown() {
            tracing::warn!(%error, "the last metrics were not exported");
        }
    }
}

/// Starts logs, metrics and traces; traces and metrics leave when `OTEL_EXPORTER_OTLP_ENDPOINT` or its `_TRACES_` or
/// `_METRICS_` form is set.
/// Logs go to stderr: readable on a terminal, JSON elsewhere; `RUST_LOG` wins over `level`.
/// Must run inside the runtime, since the exporter connects there.
///
/// # Errors
/// The exporter cannot be built from the `OTEL_*` variables.
pub fn init(service: &'static str, level: &str) -> anyhow::Result<Guard> {
    // What the exporters tell of themselves is for whoever asks for it.
    let quiet = if level == "info" { "warn" } else { level };
    let usual = format!("{level},opentelemetry={quiet},opentelemetry_sdk={quiet}");
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(usual));
    let logs = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let terminal = std::io::stderr().is_terminal();
    let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let logs = match terminal {
        true => logs.with_ansi(!no_color).boxed(),
        false => {
            let json = format().json().flatten_event(true).with_current_span(false).with_span_list(false);
            logs.json().event_format(log::InCall(json)).boxed()
        }
    };
    let metrics = metrics(service)?;
    metrics.install();
    let provider = traces(service)?;
    let traces = provider.as_ref().map(|provider| {
        let kept = Targets::new().with_default(LevelFilter::INFO);
        let kept = kept.with_target(evaluation::TARGET, LevelFilter::DEBUG);
        tracing_opentelemetry::layer().with_tracer(provider.tracer("firstline")).with_filter(kept)
    });
    EXPORTING.store(provider.is_some(), Ordering::Relaxed);
    // A second call in one process (tests run several stages) keeps the first subscriber.
    let _ = tracing_subscriber::registry().with(traces).with(logs.with_filter(filter)).try_init();
    Ok(Guard { traces: provider, metrics })
}

fn set(name: &str) -> bool {
    std::env::var(name).is_ok_and(|value| !value.is_empty())
}

/// Whether there is an endpoint for everything, or for this alone.
fn leaves(endpoint: &str) -> bool {
    let disabled = std::env::var("OTEL_SDK_DISABLED").is_ok_and(|value| value.eq_ignore_ascii_case("true"));
    !disabled && (set("OTEL_EXPORTER_OTLP_ENDPOINT") || set(endpoint))
}

fn resource(service: &'static str) -> Resource {
    let resource =
        Resource::builder().with_attribute(opentelemetry::KeyValue::new("service.namespace", "firstline"));
    match set("OTEL_SERVICE_NAME") {
        true => resource.build(),
        false => resource.with_service_name(service).build(),
    }
}

fn traces(service: &'static str) -> anyhow::Result<Option<SdkTracerProvider>> {
    if !leaves("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") {
        return Ok(None);
    }
    let exporter = opentelemetry_otlp::SpanExporter::builder()
        .with_tonic()
        .build()
        .context("cannot build the trace exporter from the OTEL_* variables")?;
    let provider =
        SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource(service));
    Ok(Some(provider.build()))
}

/// Exports every `OTEL_METRIC_EXPORT_INTERVAL` milliseconds, a minute when that is not set.
fn metrics(service: &'static str) -> anyhow::Result<Metrics> {
    let builder = SdkMeterProvider::builder().with_resource(resource(service));
    if !leaves("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT") {
        return Ok(Metrics::new(builder));
    }
    let exporter = opentelemetry_otlp::MetricExporter::builder()
        .with_tonic()
        .build()
        .context("cannot build the metric exporter from the OTEL_* variables")?;
    Ok(Metrics::new(builder.with_periodic_exporter(exporter)))
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
