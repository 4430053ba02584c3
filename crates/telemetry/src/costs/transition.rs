//! The move from a provider's models to one on machines of one's own, and back: when it is worth it, and when not any
//! more. Whether answers stay as good is for the guards of the rollout that it is made as.

use kit::Violation;
use kit::config::within;
use serde::{Deserialize, Serialize};

/// What is done when a threshold is crossed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Perform {
    /// It is said, in the log and by `firstline cost`.
    #[default]
    Propose,
    /// The plan is applied.
    Apply,
}

/// Table `[telemetry.transition]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Transition {
    /// US dollars of a day from which on machines of one's own are to be used, as forecast for providers alone,
    /// 0..=10000000; 0: no threshold.
    pub usd_per_day: f64,
    /// The same of a month.
    pub usd_per_month: f64,
    /// Share of a threshold, 0..=0.9, by which the forecast must fall below it before the move is taken back, and rise
    /// above it before one that was rolled back is tried again.
    pub hysteresis: f64,
    /// What is done.
    pub perform: Perform,
    /// Path of the plan of the rollout, with `compares = "model"`; needed with a threshold.
    pub plan: String,
}

impl Default for Transition {
    fn default() -> Self {
        let plan = String::new();
        Self { usd_per_day: 0.0, usd_per_month: 0.0, hysteresis: 0.2, perform: Perform::Propose, plan }
    }
}

impl Transition {
    pub(crate) fn validate(&self, found: &mut Vec<Violation>) {
        within("transition.usd_per_day", self.usd_per_day, 0.0..=1e7, found);
        within("transition.usd_per_month", self.usd_per_month, 0.0..=1e7, found);
        within("transition.hysteresis", self.hysteresis, 0.0..=0.9, found);
        if self.is_on() && self.plan.is_empty() {
            let message = "is empty, needed is the path of a plan where a threshold is set".to_owned();
            found.push(Violation { key: "transition.plan".to_owned(), message });
        }
    }

    /// Whether there is a threshold.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.usd_per_day > 0.0 || self.usd_per_month > 0.0
    }

    /// The thresholds with what is expected, each with its name.
    fn pairs(&self, expected: &Expected) -> impl Iterator<Item = (&'static str, f64, f64)> {
        let all = [("day", self.usd_per_day, expected.day), ("month", self.usd_per_month, expected.month)];
        all.into_iter().filter(|(_, threshold, _)| *threshold > 0.0)
    }
}

/// What providers alone would cost, in US dollars.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Expected {
    /// This day.
    pub day: f64,
    /// This month.
    pub month: f64,
    /// Whether an answer on full machines of one's own costs less than a provider's; `None` where that is unknown.
    pub is_cheaper: Option<bool>,
}

/// Where the rollout of the plan stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It was never begun, or another one came after it.
    None,
    /// It goes on, or has reached its end.
    Running,
    /// It was rolled back.
    RolledBack,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Move {
    /// Begin.
    Begin,
    /// Begin again.
    Again,
    /// Take it back.
    Back,
}

/// What is to be done, and why; `None`: nothing.
#[must_use]
pub fn next(config: &Transition, expected: &Expected, standing: Standing) -> Option<(Move, String)> {
    let over = |factor: f64| {
        let mut passed = config.pairs(expected).filter(|(_, threshold, usd)| *usd > threshold * factor);
        passed.next().map(|(name, threshold, usd)| {
            format!("{usd:.2} USD this {name} by providers, over {threshold:.2}")
        })
    };
    let begins = |factor| over(factor).filter(|_| expected.is_cheaper != Some(false));
    match standing {
        Standing::None => begins(1.0).map(|why| (Move::Begin, why)),
        Standing::RolledBack => begins(1.0 + config.hysteresis).map(|why| (Move::Again, why)),
        Standing::Running => {
            let least = 1.0 - config.hysteresis;
            let under =
                config.is_on() && config.pairs(expected).all(|(_, threshold, usd)| usd < threshold * least);
            let pairs = config.pairs(expected).map(|(name, threshold, usd)| {
                format!("{usd:.2} USD this {name} by providers, under {:.2}", threshold * least)
            });
            under.then(|| (Move::Back, pairs.collect::<Vec<_>>().join(" and ")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Transition {
        Transition { usd_per_day: 100.0, usd_per_month: 2000.0, ..Transition::default() }
    }

    fn moved(day: f64, month: f64, is_cheaper: Option<bool>, standing: Standing) -> Option<Move> {
        next(&config(), &Expected { day, month, is_cheaper }, standing).map(|(it, _)| it)
    }

    #[test]
    fn either_threshold_begins_it_and_only_both_take_it_back() {
        use Standing::{None as Never, RolledBack, Running};
        for (day, month, is_cheaper, standing, expected) in [
            (99.0, 1999.0, None, Never, None),
            (101.0, 0.0, None, Never, Some(Move::Begin)),
            (0.0, 2001.0, Some(true), Never, Some(Move::Begin)),
            (500.0, 9000.0, Some(false), Never, None),
            (101.0, 2001.0, None, RolledBack, None),
            (121.0, 0.0, None, RolledBack, Some(Move::Again)),
            (500.0, 0.0, Some(false), RolledBack, None),
            (81.0, 0.0, None, Running, None),
            (0.0, 1601.0, None, Running, None),
            (79.0, 1599.0, Some(true), Running, Some(Move::Back)),
            (500.0, 9000.0, None, Running, None),
        ] {
            assert_eq!(
                moved(day, month, is_cheaper, standing),
                expected,
                "{day} {month} {is_cheaper:?} {standing:?}"
            );
        }
        let (_, why) = next(&config(), &Expected { day: 120.5, ..Expected::default() }, Never).unwrap();
        assert_eq!(why, "120.50 USD this day by providers, over 100.00");
        assert_eq!(
            next(&Transition::default(), &Expected::default(), Running),
            None,
            "no threshold, no move"
        );
    }
}
