//! Metrics as the contract has them.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use proto::Grouping;

use super::figure::Figure;
use super::tally::Latency;
use super::window::{By, Report};
use crate::config::Config;
use crate::record::Error;
use crate::server::{now_us, timestamp};
use crate::store::Store;

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);
const LONGEST_WINDOW: Duration = Duration::from_secs(90 * 24 * 3600);

/// A window up to now, and what its figures are told apart by.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked {
    window: Duration,
    grouping: Grouping,
}

impl Asked {
    /// # Errors
    /// `Invalid` with the field.
    pub(crate) fn new(window: Option<prost_types::Duration>, by: i32) -> Result<Self, Error> {
        let window = span("window", window, HOUR, SECOND..=LONGEST_WINDOW)?;
        let grouping = Grouping::try_from(by);
        let grouping = grouping.map_err(|_| Error::invalid("by", format!("is {by}, allowed 0..=4")))?;
        Ok(Self { window, grouping })
    }

    /// # Errors
    /// `Store`, `Malformed`.
    pub(crate) async fn metrics(self, store: &Store, config: &Arc<Config>) -> Result<proto::Metrics, Error> {
        let to_us = now_us();
        let from_us = to_us - self.window.as_micros() as i64;
        let by = match self.grouping {
            Grouping::Unspecified => By::Nothing,
            Grouping::Arm => By::Arm,
            Grouping::Category => By::Category,
            Grouping::Intent => By::Intent,
            Grouping::Model => By::Model,
        };
        let report = store.metrics(from_us, to_us, by, config).await?;
        Ok(proto::Metrics {
            from: Some(timestamp(from_us)),
            to: Some(timestamp(to_us)),
            by: self.grouping.into(),
            ..told(report)
        })
    }
}

/// Time between two messages.
///
/// # Errors
/// `Invalid`.
pub(crate) fn interval(every: Option<prost_types::Duration>) -> Result<Duration, Error> {
    span("interval", every, 5 * SECOND, SECOND..=HOUR)
}

fn told(Report { metrics, figures }: Report) -> proto::Metrics {
    let count = |(outcome, turns)| proto::OutcomeCount { outcome: outcome as i32, turns };
    let latency = |latency: Latency| {
        let Latency { stage, count, p50_ms, p95_ms } = latency;
        proto::StageLatency { stage, count, p50_ms, p95_ms }
    };
    proto::Metrics {
        turns: metrics.turns,
        conversations: metrics.conversations,
        outcomes: metrics.outcomes.into_iter().map(count).collect(),
        planned_escalation_rate: metrics.planned_escalation_rate,
        unplanned_escalation_rate: metrics.unplanned_escalation_rate,
        latencies: metrics.latencies.into_iter().map(latency).collect(),
        cost_per_request_usd: metrics.cost_per_request_usd,
        cost_usd: metrics.cost_usd,
        csat: metrics.csat,
        ratings: metrics.ratings,
        figures: figures.into_iter().map(figure).collect(),
        ..proto::Metrics::default()
    }
}

fn figure(figure: Figure) -> proto::Figure {
    proto::Figure {
        name: figure.name.to_owned(),
        unit: figure.unit.name().to_owned(),
        value: figure.value,
        numerator: figure.numerator,
        n: figure.n,
        lower: figure.lower,
        upper: figure.upper,
        group: figure.group,
        note: figure.note,
        judge: figure.judge,
        price_version: figure.prices,
        part: figure.part,
    }
}

fn span(
    field: &'static str,
    value: Option<prost_types::Duration>,
    default: Duration,
    allowed: RangeInclusive<Duration>,
) -> Result<Duration, Error> {
    let Some(value) = value else { return Ok(default) };
    Duration::try_from(value).ok().filter(|span| allowed.contains(span)).ok_or_else(|| {
        let (seconds, from, to) = (value.seconds, allowed.start().as_secs(), allowed.end().as_secs());
        Error::invalid(field, format!("is about {seconds} s, allowed {from}..={to} s"))
    })
}
