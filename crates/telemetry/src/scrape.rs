//! The Prometheus endpoint: counters of what was newly stored, as text over HTTP.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::{Router, routing};
use prometheus::{
    Counter, GaugeVec, HistogramOpts, HistogramVec, IntCounterVec, Opts, Registry, TEXT_FORMAT, TextEncoder,
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::metrics::gauges::{Gauges, Shown};
use crate::record::{Outcome, Row};

/// What was stored since the process began.
#[derive(Debug)]
pub struct Counters {
    registry: Registry,
    turns: IntCounterVec,
    handoffs: IntCounterVec,
    stages: HistogramVec,
    cost: Counter,
    tokens: IntCounterVec,
    feedback: IntCounterVec,
    undelivered: GaugeVec,
    undelivered_age: GaugeVec,
    /// When the oldest undelivered handoff was created, in Unix seconds, by connector.
    oldest: Mutex<BTreeMap<String, i64>>,
}

impl Counters {
    /// Counters at zero, beside the figures that are shown.
    ///
    /// # Errors
    /// A name or label Prometheus does not allow.
    pub fn new(shown: Shown) -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        registry.register(Box::new(Gauges::new(shown)))?;
        let counter = |name: &str, help: &str, labels: &[&str]| {
            let counter = IntCounterVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(counter.clone())).map(|()| counter)
        };
        let turns = counter("firstline_turns_total", "Turns recorded.", &["outcome", "arm"])?;
        let handoffs = counter("firstline_handoffs_total", "Turns handed to a person.", &["reason"])?;
        let tokens = counter("firstline_tokens_total", "Tokens of model calls.", &["direction"])?;
        let feedback =
            counter("firstline_feedback_total", "Feedback stored, rating 1 to 5 or none.", &["rating"])?;
        let cost = Counter::new("firstline_turn_cost_usd_total", "Cost of model calls in US dollars.")?;
        registry.register(Box::new(cost.clone()))?;
        // From 1 ms, each bucket half as wide again, to 38 s: what a stage takes lies within.
        let buckets = prometheus::exponential_buckets(0.001, 1.5, 27)?;
        let options = HistogramOpts::new("firstline_stage_duration_seconds", "Time a stage took in a turn.");
        let stages = HistogramVec::new(options.buckets(buckets), &["stage"])?;
        registry.register(Box::new(stages.clone()))?;
        let gauge = |name: &str, help: &str| {
            let gauge = GaugeVec::new(Opts::new(name, help), &["connector"])?;
            registry.register(Box::new(gauge.clone())).map(|()| gauge)
        };
        let undelivered =
            gauge("firstline_handoffs_undelivered", "Handoffs that a helpdesk does not have yet.")?;
        let undelivered_age =
            gauge("firstline_handoff_undelivered_age_seconds", "Age of the oldest of them; 0 without any.")?;
        let oldest = Mutex::default();
        Ok(Self {
            registry,
            turns,
            handoffs,
            stages,
            cost,
            tokens,
            feedback,
            undelivered,
            undelivered_age,
            oldest,
        })
    }

    /// Counts a turn; call once for each turn stored for the first time.
    pub fn count_turn(&self, row: &Row) {
        self.turns.with_label_values(&[row.outcome.name(), row.arm.name()]).inc();
        if row.outcome == Outcome::Handoff && !row.muted {
            self.handoffs.with_label_values(&[row.reason.name()]).inc();
        }
        for (stage, micros) in &row.timings_us {
            self.stages.with_label_values(&[stage]).observe(*micros as f64 / 1e6);
        }
        self.count_cost(row.cost_nanos);
        self.tokens.with_label_values(&["input"]).inc_by(row.input_tokens.unsigned_abs());
        self.tokens.with_label_values(&["output"]).inc_by(row.output_tokens.unsigned_abs());
    }

    /// Counts what model calls cost, in billionths of a US dollar.
    pub fn count_cost(&self, nanos: i64) {
        self.cost.inc_by(nanos as f64 / 1e9);
    }

    /// Counts feedback; call once for each feedback stored for the first time.
    pub fn count_feedback(&self, rating: u8) {
        let rating = if rating == 0 { "none".to_owned() } else { rating.to_string() };
        self.feedback.with_label_values(&[&rating]).inc();
    }

    /// Takes what waits to reach a helpdesk, and since when, in Unix seconds.
    pub fn wait_for_helpdesk(&self, connector: &str, undelivered: u64, oldest: Option<i64>) {
        self.undelivered.with_label_values(&[connector]).set(undelivered as f64);
        let mut all = self.oldest.lock().unwrap_or_else(PoisonError::into_inner);
        // Nothing waits since ever.
        all.insert(connector.to_owned(), oldest.unwrap_or(i64::MAX));
    }

    /// Lets what waits grow older, also while nobody tells of it.
    fn age(&self) {
        let now = jiff::Timestamp::now().as_second();
        for (connector, oldest) in &*self.oldest.lock().unwrap_or_else(PoisonError::into_inner) {
            let age = now.saturating_sub(*oldest).max(0);
            self.undelivered_age.with_label_values(&[connector]).set(age as f64);
        }
    }

    fn response(&self) -> Response {
        self.age();
        match TextEncoder::new().encode_to_string(&self.registry.gather()) {
            Ok(text) => ([(header::CONTENT_TYPE, TEXT_FORMAT)], text).into_response(),
            Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
        }
    }
}

/// How long a scrape under way may take to end after shutdown.
const GRACE: Duration = Duration::from_secs(1);

/// Serves `GET /metrics` on `listener` until `shutdown`.
pub async fn serve(listener: TcpListener, counters: Arc<Counters>, shutdown: CancellationToken) {
    let metrics = routing::get(move || std::future::ready(counters.response()));
    let router = Router::new().route("/metrics", metrics);
    let server = axum::serve(listener, router).with_graceful_shutdown(shutdown.clone().cancelled_owned());
    let patience = async {
        shutdown.cancelled().await;
        tokio::time::sleep(GRACE).await;
    };
    // A peer that holds a half-sent request open must not hold the process.
    tokio::select! {
        _ = server => {}
        () = patience => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_for_a_helpdesk_grows_older_by_itself_and_is_zero_without_any() {
        let counters = Counters::new(Shown::default()).unwrap();
        let shown = || {
            counters.age();
            TextEncoder::new().encode_to_string(&counters.registry.gather()).unwrap()
        };
        let hour_ago = jiff::Timestamp::now().as_second() - 3600;
        counters.wait_for_helpdesk("chat", 2, Some(hour_ago));
        let text = shown();
        assert!(text.contains("firstline_handoffs_undelivered{connector=\"chat\"} 2"), "{text}");
        assert!(text.contains("undelivered_age_seconds{connector=\"chat\"} 36"), "{text}");
        counters.wait_for_helpdesk("chat", 0, None);
        assert!(shown().contains("undelivered_age_seconds{connector=\"chat\"} 0"));
    }
}
