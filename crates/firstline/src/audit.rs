//! `firstline audit`: whether the promises hold, from the stores and from what was seen outside.

use std::path::PathBuf;

use audit::{Finding, History, Scope};
use clap::Args;
use kit::config::Settings;

use crate::show::line;

/// Broken promises that are shown of each.
const SHOWN: usize = 20;

#[derive(Args)]
pub(crate) struct AuditArgs {
    /// What callers and receivers saw: JSON lines of turn, refused, feedback and request events
    #[arg(long, value_name = "FILE")]
    history: Vec<PathBuf>,
    /// Logs of the processes, searched for panics
    #[arg(long, value_name = "FILE")]
    log: Vec<PathBuf>,
    /// Look at what was accepted in so many hours, 1..=87600
    #[arg(long, value_name = "HOURS", default_value_t = 24, value_parser = clap::value_parser!(u32).range(1..=87_600))]
    since: u32,
}

/// Prints what was looked at and what is broken; fails when anything is.
pub(crate) async fn run(settings: &Settings, args: AuditArgs, json: bool) -> anyhow::Result<bool> {
    let context = kit::Context { server: settings.server()?, ..kit::Context::default() };
    let workflows = bundle::Reader::open(&context.server.bundle)?.workflows()?;
    let mut history = History::default();
    for file in &args.history {
        history.0.extend(History::read(file)?.0);
    }
    let hours = jiff::SignedDuration::from_hours(args.since.into());
    let findings = audit::run(Scope {
        orchestrator: context.store(orchestrator::NAME)?,
        workflow: context.store(workflow::NAME)?,
        telemetry: context.store(telemetry::NAME)?,
        idempotent: audit::idempotent(&workflows),
        risky: audit::risky(&workflows),
        history,
        logs: args.log,
        since: (jiff::Timestamp::now() - hours).as_microsecond(),
    })
    .await?;
    if json {
        line(&serde_json::to_string(&findings)?);
    } else {
        findings.iter().for_each(show);
    }
    Ok(findings.iter().all(|finding| finding.broken.is_empty()))
}

fn show(finding: &Finding) {
    let Finding { promise, says, looked_at, broken } = finding;
    let verdict = if broken.is_empty() { "holds".to_owned() } else { format!("BROKEN {}x", broken.len()) };
    line(&format!("{promise:<4} {verdict:<12} {looked_at:>8} looked at  {says}"));
    broken.iter().take(SHOWN).for_each(|broken| line(&format!("     {broken}")));
    if broken.len() > SHOWN {
        line(&format!("     and {} more", broken.len() - SHOWN));
    }
}
