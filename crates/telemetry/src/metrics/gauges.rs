//! The figures of a sliding window for those who watch: Prometheus and OpenTelemetry.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::metrics::Meter;
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

/// Lets the figures be observed, as `firstline.window.csat` and so on.
pub fn export(shown: &Shown, meter: &Meter) {
    for (name, unit, says) in NAMES {
        for (ending, aspect) in ASPECTS {
            let is_count = ["_n", "_numerator"].contains(&ending);
            let (unit, money) = match unit {
                Unit::Usd if ending != "_n" => ("{USD}", "_usd"),
                _ if is_count => ("{count}", ""),
                Unit::Millis => ("s", ""),
                _ => ("1", ""),
            };
            let shown = shown.clone();
            let name_of = format!("firstline.window.{name}{money}{}", ending.replace('_', "."));
            let gauge = meter.f64_observable_gauge(name_of).with_description(says).with_unit(unit);
            let gauge = gauge.with_callback(move |observer| {
                shown.each(name, aspect, |figure, number| {
                    let part = KeyValue::new(LABELS[0], figure.part.clone());
                    observer.observe(number, &[part, KeyValue::new(LABELS[1], figure.group.clone())]);
                });
            });
            gauge.build();
        }
    }
}
