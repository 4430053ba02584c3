//! What is newly stored, counted for Prometheus and OpenTelemetry. Attributes are named as labels of Prometheus are.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use opentelemetry::KeyValue;
use opentelemetry::metrics::{AsyncInstrument, Counter, Histogram, Meter};

use crate::record::{Arm, Outcome, Reason, Row};

/// How long a connector that no report names any more is remembered: others may still name it.
const REMEMBERED: Duration = Duration::from_secs(60);

/// By connector: the handoffs that its helpdesk does not have, when the oldest was created, in Unix seconds, and when that
/// was reported.
type Waiting = Arc<Mutex<BTreeMap<String, (u64, Option<i64>, Instant)>>>;

/// What was stored since the process began.
#[derive(Debug)]
pub struct Counters {
    turns: Counter<u64>,
    handoffs: Counter<u64>,
    stages: Histogram<f64>,
    cost: Counter<f64>,
    tokens: Counter<u64>,
    feedback: Counter<u64>,
    waiting: Waiting,
}

impl Counters {
    /// Counters at zero.
    #[must_use]
    pub fn new(meter: &Meter) -> Self {
        let counter =
            |name: &'static str, says: &'static str| meter.u64_counter(name).with_description(says).build();
        // From 1 ms, each bucket half as wide again, to 38 s: what a stage takes lies within.
        let bounds = (0..27).map(|power| 0.001 * 1.5_f64.powi(power)).collect();
        let stages = meter.f64_histogram("firstline.stage.duration").with_unit("s").with_boundaries(bounds);
        let cost = meter.f64_counter("firstline.turn.cost_usd").with_unit("{USD}");
        let waiting = Waiting::default();
        observe(meter, &waiting);
        let counters = Self {
            turns: counter("firstline.turns", "Turns recorded."),
            handoffs: counter("firstline.handoffs", "Turns handed to a person."),
            stages: stages.with_description("Time a stage took in a turn.").build(),
            cost: cost.with_description("Cost of model calls in US dollars.").build(),
            tokens: counter("firstline.tokens", "Tokens of model calls."),
            feedback: counter("firstline.feedback", "Feedback stored, rating 1 to 5 or none."),
            waiting,
        };
        counters.begin();
        counters
    }

    /// Shows what may be counted before it is: the first event of a series that was not there is no increase.
    fn begin(&self) {
        for outcome in Outcome::ALL {
            for arm in [Arm::Control, Arm::Treatment] {
                self.turns.add(0, &of_turn(outcome, arm));
            }
        }
        for reason in Reason::ALL {
            self.handoffs.add(0, &[KeyValue::new("reason", reason.name())]);
        }
        self.count_cost(0);
    }

    /// Counts a turn; call once for each turn stored for the first time.
    pub fn count_turn(&self, row: &Row) {
        self.turns.add(1, &of_turn(row.outcome, row.arm));
        if row.outcome == Outcome::Handoff && !row.muted {
            self.handoffs.add(1, &[KeyValue::new("reason", row.reason.name())]);
        }
        for (stage, micros) in &row.timings_us {
            self.stages.record(*micros as f64 / 1e6, &[KeyValue::new("stage", stage.clone())]);
        }
        self.count_cost(row.cost_nanos);
        for (direction, tokens) in [("input", row.input_tokens), ("output", row.output_tokens)] {
            self.tokens.add(tokens.unsigned_abs(), &[KeyValue::new("direction", direction)]);
        }
    }

    /// Counts what model calls cost, in billionths of a US dollar.
    pub fn count_cost(&self, nanos: i64) {
        self.cost.add(nanos as f64 / 1e9, &[]);
    }

    /// Counts feedback; call once for each feedback stored for the first time.
    pub fn count_feedback(&self, rating: u8) {
        let rating = if rating == 0 { "none".to_owned() } else { rating.to_string() };
        self.feedback.add(1, &[KeyValue::new("rating", rating)]);
    }

    /// Takes a report of what waits to reach helpdesks: by connector how many, and since when, in Unix seconds. Of connectors
    /// that no report has named for a minute nothing is shown.
    pub fn wait_for_helpdesks(
        &self,
        report: impl IntoIterator<Item = (String, u64, Option<i64>)>,
        now: Instant,
    ) {
        let mut all = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        all.extend(report.into_iter().map(|(connector, number, oldest)| (connector, (number, oldest, now))));
        all.retain(|_, (.., reported)| now.duration_since(*reported) < REMEMBERED);
    }
}

fn of_turn(outcome: Outcome, arm: Arm) -> [KeyValue; 2] {
    [KeyValue::new("outcome", outcome.name()), KeyValue::new("arm", arm.name())]
}

/// Lets what waits be seen, and grow older while nobody tells of it.
fn observe(meter: &Meter, waiting: &Waiting) {
    let each = |observer: &dyn AsyncInstrument<f64>,
                waiting: &Waiting,
                number: fn(u64, Option<i64>) -> f64| {
        for (connector, (undelivered, oldest, _)) in &*waiting.lock().unwrap_or_else(PoisonError::into_inner)
        {
            observer.observe(number(*undelivered, *oldest), &[KeyValue::new("connector", connector.clone())]);
        }
    };
    let seen = waiting.clone();
    let gauge = meter.f64_observable_gauge("firstline.handoffs.undelivered");
    let gauge = gauge.with_description("Handoffs that a helpdesk does not have yet.");
    gauge.with_callback(move |observer| each(observer, &seen, |undelivered, _| undelivered as f64)).build();
    let seen = waiting.clone();
    let gauge = meter.f64_observable_gauge("firstline.handoff.undelivered.age").with_unit("s");
    let gauge = gauge.with_description("Age of the oldest of them; 0 without any.");
    gauge.with_callback(move |observer| each(observer, &seen, |_, oldest| age(oldest))).build();
}

/// Seconds since a moment; 0 without one.
fn age(oldest: Option<i64>) -> f64 {
    let now = jiff::Timestamp::now().as_second();
    oldest.map_or(0.0, |oldest| now.saturating_sub(oldest).max(0) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_for_a_helpdesk_grows_older_by_itself_and_is_zero_without_any() {
        let metrics = kit::Metrics::default();
        let counters = Counters::new(&metrics.meter());
        let hour_ago = jiff::Timestamp::now().as_second() - 3600;
        let (chat, start) = ("chat".to_owned(), Instant::now());
        counters.wait_for_helpdesks([(chat.clone(), 2, Some(hour_ago))], start);
        let text = metrics.text().unwrap();
        assert!(text.contains("firstline_handoffs_undelivered{connector=\"chat\"} 2"), "{text}");
        assert!(text.contains("undelivered_age_seconds{connector=\"chat\"} 36"), "{text}");
        counters.wait_for_helpdesks([(chat, 0, None)], start);
        assert!(metrics.text().unwrap().contains("undelivered_age_seconds{connector=\"chat\"} 0"));
        counters.wait_for_helpdesks([], start + REMEMBERED / 2);
        assert!(metrics.text().unwrap().contains("undelivered_age_seconds{"), "another one may name it");
        counters.wait_for_helpdesks([], start + REMEMBERED);
        assert!(!metrics.text().unwrap().contains("undelivered_age_seconds{"), "its connector is gone");
    }
}
