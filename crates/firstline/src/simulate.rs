//! `firstline simulate`: what the controller of the rollout does with customers that are made up.

mod history;
mod page;
mod plans;
mod rules;
mod run;
mod scenario;
mod show;
mod table;
mod world;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use bundle::rollout::Plan;
use clap::Args;

use crate::show::Bar;
use history::History;
use run::{many, mix, run};
use scenario::Scenario;
use table::{Cell, Counts};

/// Runs of a cell of the table unless the command line says otherwise.
const RUNS: u32 = 1500;

#[derive(Args)]
pub(crate) struct SimulateArgs {
    /// equal, worse, better, slower, drift, biased, or a TOML file of customers and events
    #[arg(long, value_name = "NAME_OR_FILE", required_unless_present = "table")]
    scenario: Vec<String>,
    /// Customers; default: as the scenario says
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    customers: Option<u64>,
    /// Days; default: as the scenario says
    #[arg(long, value_name = "D", value_parser = days)]
    days: Option<f64>,
    /// The same seed leads to the same figures, with any number of threads
    #[arg(long, value_name = "S", default_value_t = 1)]
    seed: u64,
    /// How often; default: a scenario once, a cell of the table 1500 times
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    runs: Option<u32>,
    /// Settings whose truth is known, each many times: false alarms, detections, certificates
    #[arg(long)]
    table: bool,
    /// A page to read in a browser
    #[arg(long, value_name = "FILE.html", default_value = "simulate.html")]
    report: PathBuf,
}

fn days(text: &str) -> Result<f64, String> {
    let days = text.parse().ok().filter(|days| (0.001..=366.0).contains(days));
    days.ok_or_else(|| "days are 0.001 to 366".to_owned())
}

/// A scenario and what came of it.
struct Simulated {
    name: String,
    scenario: Scenario,
    /// Of the first run.
    history: History,
    /// Of all runs, when there are several.
    counts: Option<Repeated>,
}

/// Many runs of a scenario.
#[derive(serde::Serialize)]
struct Repeated {
    runs: u32,
    rolled_back: u32,
    /// Median of the treated customers until then.
    treated: Option<u64>,
    /// Runs that were in the last stage at the end.
    through: u32,
}

/// Simulates scenarios, or the table, or both; prints what came of them, and writes a page.
pub(crate) fn simulate(args: &SimulateArgs, json: bool) -> anyhow::Result<bool> {
    let simulated: Vec<_> = args.scenario.iter().map(|name| one(name, args)).collect::<Result<_, _>>()?;
    simulated.iter().for_each(|simulated| show::scenario(simulated, json));
    let counts = if args.table { counts(args, json)? } else { Vec::new() };
    write(&args.report, &page::page(&simulated, &counts, args.seed)?)?;
    if !json {
        crate::show::line(&format!("report: {}", args.report.display()));
    }
    Ok(true)
}

fn one(name: &str, args: &SimulateArgs) -> anyhow::Result<Simulated> {
    let (mut scenario, plan) = scenario::read(name)?;
    scenario.customers = args.customers.unwrap_or(scenario.customers);
    scenario.days = args.days.unwrap_or(scenario.days);
    scenario::fits(&plan)?;
    let mut history = History::new(&scenario, &plan);
    let bar = Bar::new("simulating");
    let total = scenario.conversations();
    let outcome = run(&scenario, &plan, mix(args.seed, 0), |looked| {
        bar.set(looked.when.conversations, total);
        history.take(looked);
        true
    })?;
    bar.finish();
    history.outcome = outcome;
    let counts = args.runs.filter(|runs| *runs > 1).map(|runs| repeat(&scenario, &plan, runs, args.seed));
    Ok(Simulated { name: name.to_owned(), history, counts: counts.transpose()?, scenario })
}

fn repeat(scenario: &Scenario, plan: &Plan, runs: u32, seed: u64) -> anyhow::Result<Repeated> {
    let outcomes = many(runs, seed, |seed| run(scenario, plan, seed, |_| true))?;
    let back: Vec<_> = outcomes.iter().filter_map(|outcome| outcome.rolled_back).collect();
    let last = plan.stages.last().map(|stage| stage.name.as_str());
    let through =
        |outcome: &&run::Outcome| outcome.rolled_back.is_none() && Some(outcome.stage.as_str()) == last;
    Ok(Repeated {
        runs,
        rolled_back: back.len() as u32,
        treated: table::median(back.iter().map(|when| when.treated)),
        through: outcomes.iter().filter(through).count() as u32,
    })
}

/// Every cell of the table, printed as it comes.
fn counts(args: &SimulateArgs, json: bool) -> anyhow::Result<Vec<Counts>> {
    show::head(json);
    let cells = table::rows();
    let count = |cell: &Cell| {
        let counts = table::count(cell, args.runs.unwrap_or(RUNS), args.seed)?;
        show::counts(&counts, json);
        Ok(counts)
    };
    cells.iter().map(count).collect()
}

fn write(file: &Path, page: &str) -> anyhow::Result<()> {
    if let Some(folder) = file.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    }
    std::fs::write(file, page).with_context(|| format!("cannot write {}", file.display()))
}
