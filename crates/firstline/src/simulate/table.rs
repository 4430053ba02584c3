//! The table: what the controller does in settings whose truth is known, beside what the design was chosen by.

mod rows;

use bundle::rollout::Plan;
use serde::Serialize;
use telemetry::rollout::Action;

use super::rules::{Fired, RULES, fired};
use super::run::{many, mix, run};
use super::scenario::Scenario;

pub(super) use rows::rows;

/// A setting of the table.
#[derive(Debug, Clone)]
pub(super) struct Cell {
    /// What is special about it.
    pub(super) row: &'static str,
    /// How bad the candidate is.
    pub(super) truth: &'static str,
    pub(super) scenario: Scenario,
    pub(super) plan: Plan,
    pub(super) counted: Counted,
    /// What the prototype did.
    pub(super) design: Option<Design>,
    /// Whether the rules that people use instead are asked too.
    pub(super) rules: bool,
}

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Counted {
    /// Rollouts that were rolled back although the candidate does no harm: a false alarm.
    FalseAlarms,
    /// Rollouts that were rolled back because it does.
    Detections,
    /// Rollouts whose first stage was over.
    Certificates,
    /// The same where it should not be.
    FalseCertificates,
}

impl Counted {
    fn is_certificate(self) -> bool {
        matches!(self, Self::Certificates | Self::FalseCertificates)
    }

    /// Whether it is a fault of the controller.
    pub(super) fn is_fault(self) -> bool {
        matches!(self, Self::FalseAlarms | Self::FalseCertificates)
    }
}

/// Figures of the prototype (Python and numpy, seeded, 1,500 runs a cell, 400 with customers that come again, 600 of
/// certificates), by which the rules of the controller were chosen.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Design {
    /// Share of the runs, per cent, where it was noted.
    pub(super) percent: Option<f64>,
    /// Median of the treated customers until then, where it was noted.
    pub(super) treated: Option<u64>,
}

/// What came of a cell.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Counts {
    pub(super) row: &'static str,
    pub(super) truth: &'static str,
    pub(super) counted: Counted,
    pub(super) runs: u32,
    /// Runs that were rolled back, or certified.
    pub(super) hits: u32,
    /// Median of the treated customers until then.
    pub(super) treated: Option<u64>,
    /// Median of the conversations until then.
    pub(super) conversations: Option<u64>,
    pub(super) design: Option<Design>,
    pub(super) rules: Vec<Rule>,
}

/// What a rule that people use instead would have done.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Rule {
    pub(super) name: &'static str,
    pub(super) hits: u32,
    pub(super) treated: Option<u64>,
}

impl Counts {
    pub(super) fn percent(&self) -> f64 {
        share(self.hits, self.runs)
    }
}

/// Per cent of the runs.
pub(super) fn share(hits: u32, runs: u32) -> f64 {
    f64::from(hits) / f64::from(runs) * 100.0
}

/// Simulates a cell `runs` times.
pub(super) fn count(cell: &Cell, runs: u32, seed: u64) -> anyhow::Result<Counts> {
    // Cells that have a name of their own have customers of their own.
    let seed = (cell.row.bytes().chain(cell.truth.bytes())).fold(seed, |seed, byte| mix(seed, byte.into()));
    let ends = many(runs, seed, |seed| {
        let certificate = cell.counted.is_certificate();
        let outcome = run(&cell.scenario, &cell.plan, seed, |looked| {
            !certificate || looked.decision.action != Action::Advanced
        })?;
        Ok(if certificate { outcome.advanced } else { outcome.rolled_back })
    })?;
    let hits: Vec<_> = ends.into_iter().flatten().collect();
    let rules = if cell.rules { rules(cell, runs, seed)? } else { Vec::new() };
    Ok(Counts {
        row: cell.row,
        truth: cell.truth,
        counted: cell.counted,
        runs,
        hits: hits.len() as u32,
        treated: median(hits.iter().map(|when| when.treated)),
        conversations: median(hits.iter().map(|when| when.conversations)),
        design: cell.design,
        rules,
    })
}

fn rules(cell: &Cell, runs: u32, seed: u64) -> anyhow::Result<Vec<Rule>> {
    let ends: Vec<Fired> = many(runs, seed, |seed| fired(&cell.scenario, &cell.plan, seed))?;
    let rule = |(index, name)| {
        let hits: Vec<u64> = ends.iter().filter_map(|fired| fired[index]).collect();
        Rule { name, hits: hits.len() as u32, treated: median(hits.into_iter()) }
    };
    Ok(RULES.into_iter().enumerate().map(rule).collect())
}

pub(super) fn median(values: impl Iterator<Item = u64>) -> Option<u64> {
    let mut values: Vec<u64> = values.collect();
    values.sort_unstable();
    values.get(values.len() / 2).copied()
}
