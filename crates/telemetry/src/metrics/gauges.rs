//! The figures of a sliding window for those who watch: Prometheus and OpenTelemetry.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use opentelemetry::KeyValue;
use prometheus::core::{Collector, Desc};
use prometheus::{GaugeVec, Opts, proto as exposition};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::figure::{Figure, NAMES, Unit};
use super::window::By;
use crate::config::Config;
use crate::store::Store;

/// What every figure is told of beside its name.
const LABELS: [&str; 2] = ["part", "arm"];

/// What is read of a figure: the ending of its name, and the number; `None` where there is none.
type Aspect = (&'static str, fn(&Figure) -> Option<f64>);

const ASPECTS: [Aspect; 5] = [
    ("", |figure| figure.value.map(|value| scaled(figure, value))),
    ("_lower", |figure| figure.lower.map(|value| scaled(figure, value))),
    ("_upper", |figure| figure.upper.map(|value| scaled(figure, value))),
    ("_numerator", |figure| Some(figure.numerator)),
    ("_n", |figure| Some(figure.n as f64)),
];

/// In the base unit of Prometheus and OpenTelemetry.
fn scaled(figure: &Figure, value: f64) -> f64 {
    if figure.unit == Unit::Millis { value / 1e3 } else { value }
}

/// The figures computed last. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Shown(Arc<Mutex<Vec<Figure>>>);

impl Shown {
    /// Takes newer ones.
    pub fn set(&self, figures: Vec<Figure>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = figures;
    }

    /// Calls `take` with each figure of a name that has this aspect.
    fn each(&self, name: &str, aspect: fn(&Figure) -> Option<f64>, mut take: impl FnMut(&Figure, f64)) {
        for figure in self.0.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            if let Some(number) = aspect(figure).filter(|_| figure.name == name) {
                take(figure, number);
            }
        }
    }
}

/// Computes the figures of `telemetry.metrics_window_s` by arm, one after another, until `shutdown`.
pub async fn run(
    store: Store,
    config: Arc<Config>,
    shown: Shown,
    now_us: fn() -> i64,
    shutdown: CancellationToken,
) {
    let window = Duration::from_secs(config.metrics_window_s).as_micros() as i64;
    let mut ticks = tokio::time::interval(Duration::from_secs(config.metrics_every_s));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = shutdown.cancelled() => return,
        }
        let to_us = now_us();
        match store.metrics(to_us - window, to_us, By::Arm, &config).await {
            Ok(report) => shown.set(report.figures),
            // Old figures must not pass for new ones.
            Err(error) => {
                shown.set(Vec::new());
                tracing::error!(error = &error as &dyn std::error::Error, "the figures were not computed");
            }
        }
    }
}

/// A gauge's name with Prometheus: `firstline_window_csat_ratio`, `firstline_window_csat_n`.
fn prometheus_name(name: &str, unit: Unit, ending: &str) -> String {
    let unit = match (unit, ending) {
        (_, "_n" | "_numerator") => "",
        (Unit::Share | Unit::Difference, _) => "_ratio",
        (Unit::Millis, _) => "_seconds",
        (Unit::Usd, _) => "_usd",
    };
    format!("firstline_window_{name}{unit}{ending}")
}

/// The figures as Prometheus collects them.
#[derive(Debug)]
pub(crate) struct Gauges(Shown);

impl Gauges {
    pub(crate) fn new(shown: Shown) -> Self {
        Self(shown)
    }
}

impl Collector for Gauges {
    fn desc(&self) -> Vec<&Desc> {
        Vec::new()
    }

    fn collect(&self) -> Vec<exposition::MetricFamily> {
        let mut families = Vec::new();
        for (name, unit, says) in NAMES {
            for (ending, aspect) in ASPECTS {
                let options = Opts::new(prometheus_name(name, unit, ending), says);
                // Names and labels are constants that Prometheus allows, which a test sees.
                let Ok(gauge) = GaugeVec::new(options, &LABELS) else { continue };
                self.0.each(name, aspect, |figure, number| {
                    gauge.with_label_values(&[&figure.part, &figure.group]).set(number);
                });
                families.extend(gauge.collect().into_iter().filter(|family| !family.get_metric().is_empty()));
            }
        }
        families
    }
}

/// Lets OpenTelemetry observe the figures, as `firstline.window.csat` and so on; nothing leaves where no exporter is
/// configured.
pub fn export(shown: &Shown) {
    let meter = opentelemetry::global::meter("firstline");
    for (name, unit, says) in NAMES {
        for (ending, aspect) in ASPECTS {
            let unit = match (unit, ending) {
                (Unit::Millis, "" | "_lower" | "_upper") => "s",
                (Unit::Usd, "" | "_lower" | "_upper" | "_numerator") => "{USD}",
                _ => "1",
            };
            let shown = shown.clone();
            let gauge =
                meter.f64_observable_gauge(format!("firstline.window.{name}{}", ending.replace('_', ".")));
            let gauge = gauge.with_description(says).with_unit(unit).with_callback(move |observer| {
                shown.each(name, aspect, |figure, number| {
                    let part = KeyValue::new("firstline.part", figure.part.clone());
                    observer.observe(number, &[part, KeyValue::new("firstline.arm", figure.group.clone())]);
                });
            });
            gauge.build();
        }
    }
}
