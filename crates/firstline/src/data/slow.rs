//! `firstline slow`: the turns of a window that took longest, and where their time went.

use clap::Args;
use kit::config::Settings;
use proto::Turn;
use serde_json::json;

use super::export::Source;
use super::window::Window;
use crate::desk::Running;
use crate::show;

/// The whole turn, among the times of its stages.
const TOTAL: &str = "total";

#[derive(Args)]
pub(crate) struct SlowArgs {
    /// Only turns of so long ago and later, such as 7d or 15m
    #[arg(long, value_name = "TIME", default_value = "1h")]
    window: Window,
    /// So many of them, 1 to 1000
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=1000))]
    count: u16,
    #[command(flatten)]
    at: Running,
}

/// Prints the slowest turns, the slowest first, each with its stages.
pub(crate) async fn slow(settings: &Settings, args: SlowArgs, as_json: bool) -> anyhow::Result<bool> {
    let source = Source::at(&args.at, settings)?;
    let now = jiff::Timestamp::now();
    let mut records = source.records(Some(args.window.before(now)?), now, false).await?;
    let (mut slowest, mut turns) = (Slowest { most: usize::from(args.count), turns: Vec::new() }, 0_u64);
    while let Some(exported) = source.next(&mut records).await? {
        if let Some(turn) = exported.record.and_then(|record| record.turn) {
            slowest.add(turn);
            turns += 1;
        }
    }
    if !as_json {
        show::line(&format!("{turns} turns"));
    }
    for turn in slowest.turns {
        show::line(&if as_json { whole(&turn) } else { line(&turn) });
    }
    Ok(true)
}

fn total(turn: &Turn) -> f64 {
    turn.timings_ms.get(TOTAL).copied().unwrap_or_default()
}

/// The slowest turns so far, the slowest first.
struct Slowest {
    most: usize,
    turns: Vec<Turn>,
}

impl Slowest {
    fn add(&mut self, turn: Turn) {
        let place = self.turns.partition_point(|slower| total(slower) >= total(&turn));
        if place < self.most {
            self.turns.insert(place, turn);
            self.turns.truncate(self.most);
        }
    }
}

fn whole(turn: &Turn) -> String {
    let (turn_id, trace_id, timings_ms) = (&turn.turn_id, &turn.trace_id, &turn.timings_ms);
    let outcome = show::name(turn.outcome().as_str_name(), "OUTCOME_");
    json!({ "turn_id": turn_id, "trace_id": trace_id, "outcome": outcome, "timings_ms": timings_ms })
        .to_string()
}

fn line(turn: &Turn) -> String {
    let mut stages: Vec<_> = turn.timings_ms.iter().filter(|(stage, _)| *stage != TOTAL).collect();
    stages.sort_by(|a, b| b.1.total_cmp(a.1));
    let stages: Vec<String> = stages.iter().map(|(stage, ms)| format!("{stage} {ms:.1}")).collect();
    format!("{:>9.1} ms  {}  trace {}  {}", total(turn), turn.turn_id, turn.trace_id, stages.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slowest_turns_are_kept_and_the_stage_that_took_longest_comes_first() {
        let turn = |id: &str, ms: f64| Turn {
            turn_id: id.to_owned(),
            timings_ms: [(TOTAL, ms), ("retriever", 1.0), ("generator", ms - 2.0)]
                .map(|(stage, ms)| (stage.to_owned(), ms))
                .into(),
            ..Turn::default()
        };
        let mut slowest = Slowest { most: 2, turns: Vec::new() };
        for (id, ms) in [("a", 20.0), ("b", 5.0), ("c", 30.0), ("d", 10.0)] {
            slowest.add(turn(id, ms));
        }
        let lines: Vec<String> = slowest.turns.iter().map(line).collect();
        assert_eq!(lines[0].trim(), "30.0 ms  c  trace   generator 28.0, retriever 1.0");
        assert!(lines.len() == 2 && lines[1].contains(" a "), "{lines:?}");
    }
}
