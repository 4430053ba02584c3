//! Computes the figures of a window of turns; knows neither clock nor store.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher};

use hdrhistogram::Histogram;

use crate::record::{Error, Outcome, Reason};

/// One turn, as far as metrics need it.
#[derive(Debug, Clone)]
pub struct Sample<'a> {
    /// Id of the conversation.
    pub conversation_id: &'a str,
    /// How the turn ended.
    pub outcome: Outcome,
    /// Why a person took over, when the outcome is a handoff.
    pub reason: Reason,
    /// Cost in billionths of a US dollar.
    pub cost_nanos: u64,
    /// Microseconds by stage, and "total".
    pub timings_us: Vec<(&'a str, u64)>,
}

/// Ratings of a window.
#[derive(Debug, Clone, Copy, Default)]
pub struct Ratings {
    /// Feedback with a rating of 1..=5.
    pub given: u64,
    /// Feedback with a rating of 4 or 5.
    pub positive: u64,
}

/// The figures of a window.
#[derive(Debug, Clone, PartialEq)]
pub struct Metrics {
    /// Turns in the window.
    pub turns: u64,
    /// Conversations with a turn in the window.
    pub conversations: u64,
    /// Turns by outcome, without outcomes that did not occur.
    pub outcomes: Vec<(Outcome, u64)>,
    /// Conversations with a planned handoff / conversations, 0..=1; 0 without conversations.
    pub planned_escalation_rate: f64,
    /// Conversations with an unplanned handoff / conversations, 0..=1; 0 without conversations.
    pub unplanned_escalation_rate: f64,
    /// Latency by stage in the order of the names, "total" last.
    pub latencies: Vec<Latency>,
    /// Mean cost of a turn in US dollars; 0 without turns.
    pub cost_per_request_usd: f64,
    /// Cost of all turns in US dollars.
    pub cost_usd: f64,
    /// Ratings of 4 or 5 / ratings; `None` without ratings.
    pub csat: Option<f64>,
    /// Ratings in the window.
    pub ratings: u64,
}

/// Latency of a stage, in milliseconds, over turns that ran it.
#[derive(Debug, Clone, PartialEq)]
pub struct Latency {
    /// Name of the stage, or "total".
    pub stage: String,
    /// Number of measurements.
    pub count: u64,
    /// Median: the smallest measurement that half of them do not exceed.
    pub p50_ms: f64,
    /// The smallest measurement that 95 % of them do not exceed.
    pub p95_ms: f64,
}

/// Whether a conversation was handed off for planned and for unplanned reasons; both may be true.
#[derive(Debug, Clone, Copy, Default)]
struct Handoffs {
    planned: bool,
    unplanned: bool,
}

/// Adds up turns; its memory grows with conversations (16 bytes each), not with turns.
#[derive(Debug, Default)]
pub struct Tally {
    turns: u64,
    outcomes: [u64; Outcome::ALL.len()],
    /// By hash of the id: at a million conversations two share one with a chance below 3 in 10^8.
    conversations: HashMap<u64, Handoffs, BuildHasherDefault<Identity>>,
    hasher: BuildHasherDefault<DefaultHasher>,
    cost_nanos: u64,
    /// Three digits: exact below 2.048 ms, at most 0.1 % too high above.
    stages: Vec<(String, Histogram<u64>)>,
}

/// The hasher of keys that are hashes already.
#[derive(Debug, Default)]
struct Identity(u64);

impl std::hash::Hasher for Identity {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0 = bytes.iter().fold(self.0, |hash, byte| hash.rotate_left(8) ^ u64::from(*byte));
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

impl Tally {
    /// Adds one turn.
    ///
    /// # Errors
    /// `Malformed` when a timing is beyond what a histogram holds; stored ones are at most a day.
    pub fn add(&mut self, turn: &Sample<'_>) -> Result<(), Error> {
        self.turns += 1;
        self.outcomes[turn.outcome as usize - 1] += 1;
        self.cost_nanos = self.cost_nanos.saturating_add(turn.cost_nanos);
        let handoffs = self.conversations.entry(self.hasher.hash_one(turn.conversation_id)).or_default();
        if turn.outcome == Outcome::Handoff {
            handoffs.planned |= turn.reason.is_planned();
            handoffs.unplanned |= !turn.reason.is_planned();
        }
        for (place, (stage, micros)) in turn.timings_us.iter().enumerate() {
            let index = self.stage(place, stage)?;
            self.stages[index].1.record(*micros).map_err(|_| Error::Malformed)?;
        }
        Ok(())
    }

    /// The index of a stage. Turns list their stages in the same order, so `place` is most often right.
    fn stage(&mut self, place: usize, stage: &str) -> Result<usize, Error> {
        if self.stages.get(place).is_some_and(|(name, _)| name == stage) {
            return Ok(place);
        }
        if let Some(index) = self.stages.iter().position(|(name, _)| name == stage) {
            return Ok(index);
        }
        let histogram = Histogram::new(3).map_err(|_| Error::Malformed)?;
        self.stages.push((stage.to_owned(), histogram));
        Ok(self.stages.len() - 1)
    }

    /// The figures of all turns added, with the ratings of the same window.
    pub fn metrics(mut self, ratings: Ratings) -> Metrics {
        let share = |part: usize, whole: usize| if whole == 0 { 0.0 } else { part as f64 / whole as f64 };
        let conversations = self.conversations.len();
        let planned = self.conversations.values().filter(|handoffs| handoffs.planned).count();
        let unplanned = self.conversations.values().filter(|handoffs| handoffs.unplanned).count();
        let outcomes = Outcome::ALL.into_iter().zip(self.outcomes).filter(|(_, turns)| *turns > 0);
        self.stages.sort_by(|(a, _), (b, _)| (a == "total", a).cmp(&(b == "total", b)));
        let cost_usd = self.cost_nanos as f64 / 1e9;
        Metrics {
            turns: self.turns,
            conversations: conversations as u64,
            outcomes: outcomes.collect(),
            planned_escalation_rate: share(planned, conversations),
            unplanned_escalation_rate: share(unplanned, conversations),
            latencies: self.stages.into_iter().map(latency).collect(),
            cost_per_request_usd: if self.turns == 0 { 0.0 } else { cost_usd / self.turns as f64 },
            cost_usd,
            csat: (ratings.given > 0).then(|| ratings.positive as f64 / ratings.given as f64),
            ratings: ratings.given,
        }
    }
}

fn latency((stage, histogram): (String, Histogram<u64>)) -> Latency {
    let millis = |quantile| histogram.value_at_quantile(quantile) as f64 / 1e3;
    Latency { stage, count: histogram.len(), p50_ms: millis(0.5), p95_ms: millis(0.95) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turn(conversation_id: &str, outcome: Outcome, reason: Reason) -> Sample<'_> {
        Sample { conversation_id, outcome, reason, cost_nanos: 0, timings_us: Vec::new() }
    }

    fn metrics(turns: &[Sample<'_>]) -> Metrics {
        let mut tally = Tally::default();
        turns.iter().for_each(|turn| tally.add(turn).unwrap());
        tally.metrics(Ratings::default())
    }

    #[test]
    fn escalation_is_a_share_of_conversations_not_of_turns() {
        let figures = metrics(&[
            turn("a", Outcome::Answered, Reason::Unspecified),
            turn("a", Outcome::Handoff, Reason::LowConfidence),
            turn("a", Outcome::Handoff, Reason::Loop),
            turn("b", Outcome::Handoff, Reason::SafetyPolicy),
            turn("b", Outcome::Handoff, Reason::UserKeyword),
            turn("c", Outcome::Handoff, Reason::Unspecified),
            turn("d", Outcome::Blocked, Reason::Unspecified),
            turn("e", Outcome::Answered, Reason::Unspecified),
        ]);
        assert_eq!((figures.turns, figures.conversations), (8, 5));
        assert_eq!(figures.planned_escalation_rate, 0.2); // b
        assert_eq!(figures.unplanned_escalation_rate, 0.6); // a, b, c: a handoff without a reason is unplanned
        assert_eq!(figures.outcomes, [(Outcome::Answered, 2), (Outcome::Handoff, 5), (Outcome::Blocked, 1)]);
    }

    #[test]
    fn quantiles_are_by_nearest_rank_and_total_comes_last() {
        let micros: Vec<u64> = (1..=20).map(|step| step * 100).collect();
        let turns: Vec<_> = micros
            .iter()
            .map(|us| Sample {
                timings_us: vec![("total", us * 1000), ("workflow", *us)],
                ..turn("a", Outcome::Answered, Reason::Unspecified)
            })
            .collect();
        let latencies = metrics(&turns).latencies;
        let [workflow, total] = latencies.as_slice() else { panic!("{latencies:?}") };
        assert_eq!((workflow.stage.as_str(), workflow.count), ("workflow", 20));
        assert_eq!((workflow.p50_ms, workflow.p95_ms), (1.0, 1.9));
        assert_eq!(total.stage, "total");
        for (got, exact) in [(total.p50_ms, 1000.0), (total.p95_ms, 1900.0)] {
            assert!((exact..=exact * 1.001).contains(&got), "{got} for {exact}");
        }
    }

    #[test]
    fn an_empty_window_has_zero_rates_and_no_csat() {
        let figures = metrics(&[]);
        assert_eq!(
            (figures.planned_escalation_rate, figures.cost_per_request_usd, figures.csat),
            (0.0, 0.0, None)
        );
        let rated = Tally::default().metrics(Ratings { given: 4, positive: 3 });
        assert_eq!((rated.csat, rated.ratings), (Some(0.75), 4));
    }
}
