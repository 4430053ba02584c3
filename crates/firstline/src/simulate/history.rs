//! How a simulation went: as much of it as a chart can show.

use bundle::rollout::Plan;
use serde::Serialize;
use telemetry::rollout::{Action, Decision, Reading};

use super::run::{Looked, Outcome, When};
use super::scenario::Scenario;

/// Points of a chart, about.
const POINTS: usize = 600;
/// Changes that are told of.
const CHANGES: usize = 100;

/// How a simulation went.
pub(super) struct History {
    every: usize,
    looks: usize,
    pub(super) points: Vec<Point>,
    pub(super) changes: Vec<Change>,
    /// What the next stage waits for at the end.
    pub(super) missing: Vec<String>,
    /// The last look.
    pub(super) readings: Vec<Reading>,
    pub(super) outcome: Outcome,
}

/// What is known at a time.
pub(super) struct Point {
    pub(super) hours: f64,
    /// Of the customers that are treated, 0..=100000.
    pub(super) share: u32,
    /// By guard: evidence by its limit, events of treated units and of the control.
    pub(super) guards: Vec<Guarded>,
}

pub(super) struct Guarded {
    /// The logarithm of the evidence, divided by that at which the guard fails.
    pub(super) evidence: f64,
    /// Share of the units with the event.
    pub(super) treated: f64,
    pub(super) control: f64,
}

/// A decision that changed something, or the first to say why nothing does.
#[derive(Serialize)]
pub(super) struct Change {
    pub(super) when: When,
    pub(super) action: &'static str,
    pub(super) stage: String,
    /// Customers that are treated, in buckets of 100000.
    pub(super) share: u32,
    pub(super) reasons: Vec<String>,
}

impl History {
    pub(super) fn new(scenario: &Scenario, plan: &Plan) -> Self {
        let looks = scenario.seconds() / f64::from(plan.interval_s);
        Self {
            every: (looks as usize / POINTS).max(1),
            looks: 0,
            points: Vec::new(),
            changes: Vec::new(),
            missing: Vec::new(),
            readings: Vec::new(),
            outcome: Outcome::default(),
        }
    }

    pub(super) fn take(&mut self, looked: &Looked<'_>) {
        let decision = looked.decision;
        let room = self.changes.len() < CHANGES;
        let changed = room && !matches!(decision.action, Action::Kept | Action::Held);
        if self.looks.is_multiple_of(self.every) || changed {
            self.points.push(Point::of(looked));
        }
        self.looks += 1;
        let said = self.changes.last().map(|change| (change.action, &change.reasons));
        let held = room
            && decision.action == Action::Held
            && said != Some((decision.action.name(), &decision.reasons));
        if changed || held {
            self.changes.push(Change::of(looked.when, decision));
        }
        self.missing.clone_from(&decision.missing);
        self.readings.clone_from(&decision.readings);
    }
}

impl Point {
    fn of(looked: &Looked<'_>) -> Self {
        let rate = |events: u64, n: u64| if n == 0 { 0.0 } else { events as f64 / n as f64 };
        let guard = |reading: &Reading| Guarded {
            evidence: reading.evidence / reading.limit,
            treated: rate(reading.treated.events, reading.treated.n),
            control: rate(reading.control.events, reading.control.n),
        };
        Self {
            hours: looked.when.hours,
            share: looked.decision.share,
            guards: looked.decision.readings.iter().map(guard).collect(),
        }
    }
}

impl Change {
    fn of(when: When, decision: &Decision) -> Self {
        Self {
            when,
            action: decision.action.name(),
            stage: decision.stage.clone(),
            share: decision.share,
            reasons: decision.reasons.clone(),
        }
    }
}
