//! One figure with what is needed to trust it or not.

use hdrhistogram::Histogram;
use stats::{Confidence, Interval, Share};

/// What a figure is counted in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// 0..=1.
    Share,
    /// -1..=1.
    Difference,
    /// Milliseconds.
    Millis,
    /// US dollars.
    Usd,
}

impl Unit {
    /// As the contract spells it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Share => "share",
            Self::Difference => "difference",
            Self::Millis => "ms",
            Self::Usd => "usd",
        }
    }
}

/// Every name of a figure with its unit and what it says.
pub const NAMES: [(&str, Unit, &str); 25] = [
    ("csat", Unit::Share, "ratings of 4 or 5, of all ratings"),
    ("csat_delta", Unit::Difference, "csat of the treatment arm less that of the control arm"),
    ("response_rate", Unit::Share, "conversations with a rating, of those the assistant tried to help"),
    (
        "person_first",
        Unit::Share,
        "conversations in which a person was asked for before the assistant tried, of all",
    ),
    ("escalation", Unit::Share, "handed to a person, of conversations the assistant tried to help"),
    ("escalation_planned", Unit::Share, "of them, for a reason that was decided beforehand"),
    ("escalation_unplanned", Unit::Share, "of them, for any other reason"),
    (
        "containment",
        Unit::Share,
        "closed without a person, of closed conversations the assistant tried to help",
    ),
    ("resolution_confirmed", Unit::Share, "contained, and the customer said that it is solved"),
    ("resolution_assumed", Unit::Share, "contained and silent for 72 hours, without a word about it"),
    (
        "resolution_verified",
        Unit::Share,
        "confirmed, and the customer did not come back for it within 7 days",
    ),
    (
        "resolution_reversed",
        Unit::Share,
        "of confirmed and assumed ones, those who came back for it within 7 days",
    ),
    (
        "intent_accuracy",
        Unit::Share,
        "turns whose intent was right, of all with a question and an intent: estimated from those that were drawn for the audit and labelled",
    ),
    (
        "correction_rate",
        Unit::Share,
        "turns whose intent somebody corrected; a biased sample, not the accuracy",
    ),
    (
        "misrouting",
        Unit::Share,
        "led elsewhere than they should have been, of those led to a workflow or a person",
    ),
    ("groundedness_generated", Unit::Share, "sentences with support, of those written"),
    ("groundedness_delivered", Unit::Share, "sentences with support, of those delivered"),
    (
        "groundedness_judged",
        Unit::Share,
        "sentences with support in the eyes of a model, of those that it judged",
    ),
    ("ungrounded_generated", Unit::Share, "answers with an unsupported sentence, of those written"),
    ("ungrounded_delivered", Unit::Share, "answers with an unsupported sentence, of those delivered"),
    ("latency_p50", Unit::Millis, "half of the turns took no longer, by stage"),
    ("latency_p95", Unit::Millis, "95 of 100 turns took no longer, by stage"),
    ("cost_per_request", Unit::Usd, "cost of all model calls by turns"),
    ("cost_per_conversation", Unit::Usd, "cost of all model calls by conversations"),
    ("cost_per_verified_resolution", Unit::Usd, "cost of all model calls by verified resolutions"),
];

/// One figure.
#[derive(Debug, Clone, PartialEq)]
pub struct Figure {
    /// One of [`NAMES`].
    pub name: &'static str,
    /// What it is counted in.
    pub unit: Unit,
    /// The figure; `None` when there is too little to tell.
    pub value: Option<f64>,
    /// What was counted or added up of `n`; of a quantile, `n`.
    pub numerator: f64,
    /// What it is out of.
    pub n: u64,
    /// The 95 % interval; either end may be missing.
    pub lower: Option<f64>,
    /// Its upper end.
    pub upper: Option<f64>,
    /// The group it is of, empty when of all.
    pub group: String,
    /// The stage or reason it is of, empty when of all.
    pub part: String,
    /// What else is to be known.
    pub note: String,
    /// Whose word it is, empty without a judge.
    pub judge: String,
    /// Prices of a cost.
    pub prices: String,
}

impl Figure {
    /// A figure without a value; its unit is that of [`NAMES`].
    pub(super) fn empty(name: &'static str, numerator: f64, n: u64) -> Self {
        let unit = NAMES.iter().find(|(known, ..)| *known == name).map_or(Unit::Share, |(_, unit, _)| *unit);
        Self {
            name,
            unit,
            value: None,
            numerator,
            n,
            lower: None,
            upper: None,
            group: String::new(),
            part: String::new(),
            note: String::new(),
            judge: String::new(),
            prices: String::new(),
        }
    }

    /// A share with its interval, where it is of `least` or more.
    pub(super) fn share(name: &'static str, share: Share, least: u64) -> Self {
        let figure = Self::empty(name, share.hits as f64, share.n);
        figure.told(least, share.value(), share.interval(Confidence::TwoSided95))
    }

    /// A sum by `n`, where that is `least` or more.
    pub(super) fn mean(name: &'static str, sum: f64, n: u64, least: u64) -> Self {
        let value = (n > 0).then(|| sum / n as f64);
        Self::empty(name, sum, n).told(least, value, None)
    }

    /// A quantile of microseconds in milliseconds, with the measurements between which it lies.
    pub(super) fn quantile(name: &'static str, times: &Histogram<u64>, quantile: f64, least: u64) -> Self {
        let n = times.len();
        let millis = |quantile| times.value_at_quantile(quantile) as f64 / 1e3;
        // Half a rank below, so that no rounding reaches the next one.
        let at_rank = |rank: u64| millis((rank as f64 - 0.5) / n as f64);
        let (lower, upper) = stats::quantile_ranks(n, quantile, Confidence::TwoSided95);
        let figure = Self::empty(name, n as f64, n).told(least, (n > 0).then(|| millis(quantile)), None);
        let enough = figure.value.is_some();
        let (lower, upper) = (lower.filter(|_| enough).map(at_rank), upper.filter(|_| enough).map(at_rank));
        Self { lower, upper, ..figure }
    }

    /// With a value and its interval where there is enough, with a note else.
    pub(super) fn told(self, least: u64, value: Option<f64>, interval: Option<Interval>) -> Self {
        if self.n < least.max(1) {
            let note = format!("insufficient: {} of at least {}", self.n, least.max(1));
            return self.noted(&note);
        }
        let (lower, upper) = interval.map(|Interval { lower, upper }| (lower, upper)).unzip();
        Self { value, lower, upper, ..self }
    }

    /// With more to be known.
    pub(super) fn noted(mut self, note: &str) -> Self {
        if !self.note.is_empty() && !note.is_empty() {
            self.note.push_str("; ");
        }
        self.note.push_str(note);
        self
    }

    pub(super) fn part(self, part: &str) -> Self {
        Self { part: part.to_owned(), ..self }
    }
}
