//! Adds up turns, ratings and labels of a group.

use std::collections::{BTreeSet, HashSet};

use hdrhistogram::Histogram;
use stats::{Share, Weighted};

use super::conversations::Conversations;
use super::sample::{Grounding, Sample};
use super::window::{Correction, Rating, Verdict, hashed};
use crate::config::Config;
use crate::record::{Error, Outcome};

/// The counts of a window.
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

/// Names that occurred, the first few of them.
#[derive(Debug, Default)]
pub(super) struct Names(BTreeSet<String>);

impl Names {
    const MOST: usize = 4;

    fn add(&mut self, name: &str) {
        if !name.is_empty() && self.0.len() <= Self::MOST && !self.0.contains(name) {
            self.0.insert(name.to_owned());
        }
    }

    /// All of them in one line.
    pub(super) fn told(&self) -> String {
        let mut told = self.0.iter().take(Self::MOST).cloned().collect::<Vec<_>>().join(", ");
        if self.0.len() > Self::MOST {
            told.push_str(", and more");
        }
        told
    }
}

/// Sentences, and answers that hold such.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Support {
    /// Sentences with support, of all.
    pub(super) claims: Share,
    /// Answers with a sentence without support, of all.
    pub(super) ungrounded: Share,
}

impl Support {
    fn add(&mut self, claims: u32, unsupported: u32) {
        if claims > 0 {
            self.claims.n += u64::from(claims);
            self.claims.hits += u64::from(claims.saturating_sub(unsupported));
            self.ungrounded.n += 1;
            self.ungrounded.hits += u64::from(unsupported > 0);
        }
    }
}

/// A group of turns, added up.
#[derive(Debug)]
pub(super) struct Tally {
    /// Whether every stage is told apart, or the whole turn and its first words only.
    stages_apart: bool,
    pub(super) turns: u64,
    outcomes: [u64; Outcome::ALL.len()],
    pub(super) conversations: Conversations,
    pub(super) cost_nanos: u64,
    /// Turns of a model that had no price.
    pub(super) unpriced: u64,
    pub(super) prices: Names,
    /// Three digits: exact below 2.048 ms, at most 0.1 % too high above.
    pub(super) stages: Vec<(String, Histogram<u64>)>,
    pub(super) written: Support,
    pub(super) delivered: Support,
    pub(super) judges: Names,
    /// Sentences with support in the eyes of second judges, of all that they judged.
    pub(super) judged: Share,
    pub(super) second_judges: Names,
    /// Ratings of 4 or 5, of all.
    pub(super) ratings: Share,
    /// Turns with an intent.
    pub(super) understood: u64,
    /// Those of them that somebody corrected, by the hash of their ids, and workflows rejected at their confirmation.
    corrected: HashSet<u64>,
    pub(super) rejected: u64,
    /// Drawn turns that people labelled, and those of them that were understood.
    pub(super) audited: Weighted,
}

/// The time until the customer saw the first words.
pub(super) const FIRST_WORDS: &str = "first_words";
/// The time of the whole turn.
pub(super) const TOTAL: &str = "total";

impl Tally {
    pub(super) fn new(stages_apart: bool) -> Self {
        Self {
            stages_apart,
            turns: 0,
            outcomes: [0; Outcome::ALL.len()],
            conversations: Conversations::default(),
            cost_nanos: 0,
            unpriced: 0,
            prices: Names::default(),
            stages: Vec::new(),
            written: Support::default(),
            delivered: Support::default(),
            judges: Names::default(),
            judged: Share::default(),
            second_judges: Names::default(),
            ratings: Share::default(),
            understood: 0,
            corrected: HashSet::new(),
            rejected: 0,
            audited: Weighted::default(),
        }
    }

    /// Adds one turn.
    pub(super) fn add(&mut self, turn: &Sample<'_>, config: &Config) -> Result<(), Error> {
        self.turns += 1;
        self.outcomes[turn.outcome as usize - 1] += 1;
        self.cost_nanos = self.cost_nanos.saturating_add(turn.cost_nanos);
        self.prices.add(turn.prices);
        self.judges.add(turn.judge);
        let modelled = !matches!(turn.kind.model, "" | "extractive" | "curated");
        self.unpriced += u64::from(modelled && turn.prices.is_empty());
        let greets = config.greeting_intents.iter().any(|intent| intent == turn.kind.intent);
        let rejects = self.conversations.add(turn, greets);
        self.rejected += u64::from(rejects);
        let Grounding { claims, unsupported, delivered_claims, delivered_unsupported } = turn.grounding;
        self.written.add(claims, unsupported);
        self.delivered.add(delivered_claims, delivered_unsupported);
        if turn.muted {
            // Nobody waited for the assistant.
            return Ok(());
        }
        self.understood += u64::from(!turn.kind.intent.is_empty());
        for (place, (stage, micros)) in turn.timings_us.iter().enumerate() {
            if self.stages_apart || [FIRST_WORDS, TOTAL].contains(stage) {
                let index = self.stage(place, stage)?;
                self.stages[index].1.record(*micros).map_err(|_| Error::Malformed)?;
            }
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

    pub(super) fn rate(&mut self, rating: &Rating<'_>) {
        if rating.rating > 0 {
            self.ratings.n += 1;
            self.ratings.hits += u64::from(rating.rating >= 4);
        }
        self.conversations.rate(rating);
    }

    pub(super) fn evaluate(&mut self, verdict: &Verdict<'_>) {
        if verdict.claims > 0 {
            self.judged.n += u64::from(verdict.claims);
            self.judged.hits += u64::from(verdict.claims.saturating_sub(verdict.unsupported));
            self.second_judges.add(verdict.judge);
        }
        self.cost_nanos = self.cost_nanos.saturating_add(verdict.cost_nanos);
        self.prices.add(verdict.prices);
    }

    pub(super) fn correct(&mut self, label: &Correction<'_>, elsewhere: bool) {
        self.corrected.insert(hashed(label.turn_id));
        if label.by_agent && elsewhere {
            self.conversations.misroute(label.conversation_id);
        }
    }

    /// Turns whose intent somebody said to be another one, of those that have one.
    pub(super) fn corrections(&self) -> Share {
        let hits = self.corrected.len() as u64 + self.rejected;
        Share { hits: hits.min(self.understood), n: self.understood }
    }

    /// The counts of all turns added.
    pub(super) fn metrics(&self) -> Metrics {
        let share = |part: u64, whole: u64| if whole == 0 { 0.0 } else { part as f64 / whole as f64 };
        let conversations = self.conversations.len();
        let (planned, unplanned) = self.conversations.handed_over();
        let outcomes = Outcome::ALL.into_iter().zip(self.outcomes).filter(|(_, turns)| *turns > 0);
        let mut latencies: Vec<_> = self.stages.iter().map(latency).collect();
        latencies.sort_by(|a, b| (a.stage == TOTAL, &a.stage).cmp(&(b.stage == TOTAL, &b.stage)));
        let cost_usd = self.cost_nanos as f64 / 1e9;
        Metrics {
            turns: self.turns,
            conversations,
            outcomes: outcomes.collect(),
            planned_escalation_rate: share(planned, conversations),
            unplanned_escalation_rate: share(unplanned, conversations),
            latencies,
            cost_per_request_usd: if self.turns == 0 { 0.0 } else { cost_usd / self.turns as f64 },
            cost_usd,
            csat: self.ratings.value(),
            ratings: self.ratings.n,
        }
    }
}

fn latency((stage, histogram): &(String, Histogram<u64>)) -> Latency {
    let millis = |quantile| histogram.value_at_quantile(quantile) as f64 / 1e3;
    Latency { stage: stage.clone(), count: histogram.len(), p50_ms: millis(0.5), p95_ms: millis(0.95) }
}
