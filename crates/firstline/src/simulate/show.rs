//! What the simulation prints.

use serde_json::json;
use telemetry::rollout::{Reading, name};

use super::history::Change;
use super::table::{Counted, Counts, share};
use super::{Repeated, Simulated};
use crate::show::line;

/// What came of a scenario.
pub(super) fn scenario(simulated: &Simulated, json: bool) {
    let history = &simulated.history;
    if json {
        let value = json!({
            "scenario": simulated.name,
            "customers": simulated.scenario.customers,
            "days": simulated.scenario.days,
            "rolled_back": history.outcome.rolled_back,
            "stage": history.outcome.stage,
            "end": history.outcome.end,
            "changes": history.changes,
            "missing": history.missing,
            "readings": history.readings,
            "runs": simulated.counts,
        });
        return line(&value.to_string());
    }
    line(&format!("{}: {}", simulated.name, summary(simulated)));
    history.changes.iter().for_each(|change| line(&format!("  {}", changed(change))));
    history.missing.iter().for_each(|missing| line(&format!("  waits for: {missing}")));
    history.readings.iter().for_each(|reading| line(&format!("  {}", read(reading))));
    if let Some(counts) = &simulated.counts {
        line(&format!("  {}", repeated(counts)));
    }
}

/// What became of the rollout, in a line.
pub(super) fn summary(simulated: &Simulated) -> String {
    let outcome = &simulated.history.outcome;
    let end = outcome.end;
    match outcome.rolled_back {
        Some(when) => format!(
            "rolled back after {:.1} hours, {} conversations and {} treated customers",
            when.hours, when.conversations, when.treated
        ),
        None => format!(
            "in stage {} after {:.1} hours, {} conversations and {} treated customers",
            outcome.stage, end.hours, end.conversations, end.treated
        ),
    }
}

pub(super) fn changed(change: &Change) -> String {
    let Change { when, action, stage, share, reasons } = change;
    let action = action.replace('_', " ");
    let percent = f64::from(*share) / 1e3;
    format!("{:8.1} h  {action:<12} {stage:<8} {percent:5} %  {}", when.hours, reasons.join("; "))
}

fn read(reading: &Reading) -> String {
    let of = |seen: telemetry::rollout::Seen| format!("{} of {}", seen.events, seen.n);
    format!(
        "{:<22} treated {:<16} menu {:<18} evidence {:8.2} of {:.2}  {}",
        name(reading.metric),
        of(reading.treated),
        of(reading.control),
        reading.evidence,
        reading.limit,
        reading.words
    )
}

/// What came of many runs, in a line.
pub(super) fn repeated(counts: &Repeated) -> String {
    let Repeated { runs, rolled_back, treated, through } = counts;
    let median = treated.map(|treated| format!(" after a median of {treated} treated customers"));
    format!(
        "{runs} runs: {:.1} % rolled back{}, {:.1} % in the last stage",
        share(*rolled_back, *runs),
        median.unwrap_or_default(),
        share(*through, *runs)
    )
}

/// The head of the table.
pub(super) fn head(json: bool) {
    if !json {
        line(&row("setting", "truth", "runs", "counted", "per cent", "treated", "design"));
    }
}

/// A line of the table, and one for each rule that people use instead.
pub(super) fn counts(counts: &Counts, json: bool) {
    if json {
        return line(&json!(counts).to_string());
    }
    let (percent, treated) = (percent(counts.percent()), number(counts.treated));
    let runs = counts.runs.to_string();
    line(&row(counts.row, counts.truth, &runs, counted(counts.counted), &percent, &treated, &design(counts)));
    for rule in &counts.rules {
        let percent = format!("{:.1}", share(rule.hits, counts.runs));
        line(&row(&format!("  {}", rule.name), "", "", "", &percent, &number(rule.treated), ""));
    }
}

/// What is counted, in words.
pub(super) fn counted(counted: Counted) -> &'static str {
    match counted {
        Counted::FalseAlarms => "false alarms",
        Counted::Detections => "rolled back",
        Counted::Certificates => "certified",
        Counted::FalseCertificates => "falsely certified",
    }
}

/// The figures of the design, "2.0" or "100.0 (51)"; empty without.
pub(super) fn design(counts: &Counts) -> String {
    let Some(design) = counts.design else { return String::new() };
    let share = design.percent.map(percent);
    let treated = design.treated.map(|treated| format!("({treated})"));
    share.into_iter().chain(treated).collect::<Vec<_>>().join(" ")
}

pub(super) fn percent(percent: f64) -> String {
    format!("{percent:.1}")
}

pub(super) fn number(number: Option<u64>) -> String {
    number.map_or_else(|| "–".to_owned(), |number| number.to_string())
}

fn row(
    setting: &str,
    truth: &str,
    runs: &str,
    counted: &str,
    percent: &str,
    treated: &str,
    design: &str,
) -> String {
    format!("{setting:<56} {truth:<29} {runs:>5} {counted:<17} {percent:>8} {treated:>7}  {design}")
}
