//! What a process measures of itself: for Prometheus on its admin port, for OpenTelemetry where an endpoint is set.

use opentelemetry::metrics::{Meter, MeterProvider as _};
use opentelemetry_sdk::metrics::{MeterProviderBuilder, SdkMeterProvider};
use prometheus::process_collector::ProcessCollector;
use prometheus::{Registry, TextEncoder};

/// Name of the meter, as of the tracer.
const SCOPE: &str = "firstline";

/// The instruments of a process, or of a test. Clones share them.
#[derive(Debug, Clone)]
pub struct Metrics {
    registry: Registry,
    provider: SdkMeterProvider,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new(SdkMeterProvider::builder())
    }
}

impl Metrics {
    /// Those of a provider, with Prometheus as one more reader. Names are the OpenTelemetry ones in its spelling: units
    /// are endings, counters end in `_total`.
    pub(crate) fn new(builder: MeterProviderBuilder) -> Self {
        let registry = Registry::new();
        // What the process takes: `process_resident_memory_bytes`, `process_cpu_seconds_total` and so on.
        let own = registry.register(Box::new(ProcessCollector::for_self()));
        if let Err(error) = own {
            tracing::error!(%error, "no metrics of the process");
        }
        let exporter = opentelemetry_prometheus::exporter().with_registry(registry.clone());
        // A registry of its own refuses nothing.
        let provider = match exporter.without_target_info().scope_info_enabled(false).build() {
            Ok(exporter) => builder.with_reader(exporter).build(),
            Err(error) => {
                tracing::error!(%error, "no metrics for Prometheus");
                builder.build()
            }
        };
        Self { registry, provider }
    }

    /// Where instruments come from.
    #[must_use]
    pub fn meter(&self) -> Meter {
        self.provider.meter(SCOPE)
    }

    /// All that was measured, in the text format of Prometheus.
    ///
    /// # Errors
    /// Two metrics of one name.
    pub fn text(&self) -> Result<String, prometheus::Error> {
        TextEncoder::new().encode_to_string(&self.registry.gather())
    }

    /// Lets everything in this process that has no context measure here too.
    pub(crate) fn install(&self) {
        opentelemetry::global::set_meter_provider(self.provider.clone());
    }

    /// Exports what was not yet; blocks for some seconds at most.
    pub(crate) fn shutdown(&self) -> opentelemetry_sdk::error::OTelSdkResult {
        self.provider.shutdown()
    }
}
