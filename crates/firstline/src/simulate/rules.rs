//! Rules that people use instead, on the same counts: what they would have done.

use std::collections::VecDeque;

use bundle::rollout::{Guard, Plan};
use stats::sequential::{Arms, excess};
use stats::{BUCKETS, Confidence, Share, newcombe};
use telemetry::rollout::{Matured, Seen};

use super::run::{Looked, run};
use super::scenario::Scenario;

/// The rules by name.
pub(super) const RULES: [&str; 4] = [
    "over 25 % in 5 intervals",
    "last 200 over 1.25 times the menu's, 3 times in a row",
    "Newcombe 95 % at every look",
    "the controller's evidence, as events come",
];

/// When each of the rules would have rolled back: after how many treated customers.
pub(super) type Fired = [Option<u64>; RULES.len()];

/// Simulates with guards that only report, until each rule has had its say.
pub(super) fn fired(scenario: &Scenario, plan: &Plan, seed: u64) -> anyhow::Result<Fired> {
    let dry = |guard: &Guard| Guard { dry_run: true, ..guard.clone() };
    let plan = Plan { guards: plan.guards.iter().map(dry).collect(), ..plan.clone() };
    let mut rules =
        Rules { limit: plan.guards.first().map_or(0.0, |guard| -guard.alpha.ln()), ..Rules::default() };
    run(scenario, &plan, seed, |looked| rules.take(looked))?;
    Ok(rules.fired)
}

#[derive(Default)]
struct Rules {
    fired: Fired,
    failures: u32,
    window: Window,
    all: [Seen; 2],
    /// By the share at which they happened.
    came: Vec<Arms>,
    /// Of the logarithm of the evidence.
    limit: f64,
}

impl Rules {
    /// Whether one of the rules has not fired yet.
    fn take(&mut self, looked: &Looked<'_>) -> bool {
        let breached = [
            looked.matured.as_ref().is_some_and(|row| self.fixed(row)),
            looked.matured.as_ref().is_some_and(|row| self.window.take(row)),
            looked.matured.as_ref().is_some_and(|row| self.interval(row)),
            self.event_order(looked),
        ];
        for (fired, _) in self.fired.iter_mut().zip(breached).filter(|(_, breached)| *breached) {
            fired.get_or_insert(looked.when.treated);
        }
        self.fired.iter().any(Option::is_none)
    }

    fn fixed(&mut self, row: &Matured) -> bool {
        self.failures += u32::from(rate(row.treated) > 0.25);
        self.failures >= 5
    }

    fn interval(&mut self, row: &Matured) -> bool {
        let [control, treated] = &mut self.all;
        add(control, row.control);
        add(treated, row.treated);
        let share = |seen: &Seen| Share { hits: seen.events, n: seen.n };
        newcombe(share(treated), share(control), Confidence::TwoSided95)
            .is_some_and(|interval| interval.lower > 0.0)
    }

    fn event_order(&mut self, looked: &Looked<'_>) -> bool {
        let [control, treated] = looked.came;
        let share = f64::from(looked.share) / f64::from(BUCKETS);
        match self.came.last_mut() {
            Some(last) if last.share == share => {
                last.control += control;
                last.treated += treated;
            }
            _ => self.came.push(Arms { share, treated, control }),
        }
        excess(&self.came, 1.0) >= self.limit
    }
}

/// The last 200 treated units, and those of the control that came with them.
#[derive(Default)]
struct Window {
    rows: VecDeque<[Seen; 2]>,
    sum: [Seen; 2],
    in_a_row: u32,
}

impl Window {
    fn take(&mut self, row: &Matured) -> bool {
        self.rows.push_back([row.control, row.treated]);
        add(&mut self.sum[0], row.control);
        add(&mut self.sum[1], row.treated);
        while let Some(oldest) =
            self.rows.front().filter(|oldest| self.sum[1].n - oldest[1].n >= 200).copied()
        {
            self.rows.pop_front();
            for (sum, old) in self.sum.iter_mut().zip(oldest) {
                sum.n -= old.n;
                sum.events -= old.events;
            }
        }
        let [control, treated] = self.sum;
        let over = treated.n >= 100 && rate(treated) > 1.25 * rate(control);
        self.in_a_row = if over { self.in_a_row + 1 } else { 0 };
        self.in_a_row >= 3
    }
}

fn add(sum: &mut Seen, more: Seen) {
    sum.n += more.n;
    sum.events += more.events;
}

fn rate(seen: Seen) -> f64 {
    if seen.n == 0 { 0.0 } else { seen.events as f64 / seen.n as f64 }
}
