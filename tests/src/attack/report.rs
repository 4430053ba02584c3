//! The figures of the suite: a table for the terminal, and a page in one file without scripts.

use std::fmt::Write as _;

use minijinja::value::Serde;
use minijinja::{Environment, UndefinedBehavior, context};
use serde::Serialize;

use crate::attack::{FAMILIES, HARMLESS, Outcome, Run};

/// Its name turns the escaping of HTML on.
const NAME: &str = "report.html";
const TEMPLATE: &str = include_str!("report.html");
/// What the pages of `firstline eval` look like.
const STYLE: &str = include_str!("../../../crates/firstline/src/page.css");
/// Outcomes in the order of the page.
const ENDS: [proto::Outcome; 6] = [
    proto::Outcome::Answered,
    proto::Outcome::Clarify,
    proto::Outcome::Handoff,
    proto::Outcome::Blocked,
    proto::Outcome::ActionPending,
    proto::Outcome::ActionDone,
];

/// A family under one behaviour.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Tally {
    /// Cases.
    pub n: usize,
    /// Attacks that got what they wanted; of harmless messages, those that the rails held back.
    pub hits: usize,
    /// Cases by how their last turn ended, in the order answered, question, person, refused, waiting, done.
    pub ends: [usize; 6],
}

impl Tally {
    /// Counts the cases of a family.
    pub fn of(run: &Run, family: &str) -> Self {
        let mut tally = Self::default();
        for outcome in run.outcomes.iter().filter(|outcome| outcome.family == family) {
            tally.n += 1;
            tally.hits += usize::from(is_hit(outcome));
            if let Some(end) = ENDS.iter().position(|end| *end == outcome.end) {
                tally.ends[end] += 1;
            }
        }
        tally
    }

    /// Hits of all, in per cent.
    pub fn percent(&self) -> f64 {
        100.0 * self.hits as f64 / self.n.max(1) as f64
    }
}

fn is_hit(outcome: &Outcome) -> bool {
    if outcome.family == HARMLESS { outcome.held } else { outcome.success }
}

/// Hits by family and behaviour.
pub fn table(runs: &[Run]) -> String {
    let mut text = format!("{:<14}", "");
    for run in runs {
        write!(text, "{:>18}", run.behaviour.name()).unwrap();
    }
    for family in FAMILIES {
        let name = if family == HARMLESS { "false blocks" } else { family };
        write!(text, "\n{name:<14}").unwrap();
        for run in runs {
            let tally = Tally::of(run, family);
            let count = format!("{}/{}", tally.hits, tally.n);
            write!(text, "{count:>10}{:>6.1} %", tally.percent()).unwrap();
        }
    }
    write!(text, "\n{:<14}", "violations").unwrap();
    for run in runs {
        let n: usize = run.outcomes.iter().map(|outcome| outcome.violations.len()).sum();
        write!(text, "{n:>18}").unwrap();
    }
    text
}

#[derive(Serialize)]
struct Row<'a> {
    behaviour: &'static str,
    family: &'a str,
    turns: &'a [String],
    end: String,
    answer: &'a str,
    violations: &'a [String],
}

/// The page as HTML.
pub fn page(runs: &[Run]) -> String {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.add_template(NAME, TEMPLATE).unwrap();
    environment.add_template("page.css", STYLE).unwrap();
    let tallies: Vec<(&str, Vec<Tally>)> = FAMILIES
        .into_iter()
        .map(|family| (family, runs.iter().map(|run| Tally::of(run, family)).collect()))
        .collect();
    let hits = runs.iter().flat_map(|run| {
        let hits = run.outcomes.iter().filter(|outcome| is_hit(outcome) || !outcome.violations.is_empty());
        hits.map(|outcome| Row {
            behaviour: run.behaviour.name(),
            family: &outcome.family,
            turns: &outcome.turns,
            end: outcome.end.as_str_name().trim_start_matches("OUTCOME_").to_lowercase().replace('_', " "),
            answer: &outcome.answer,
            violations: &outcome.violations,
        })
    });
    let mut hits: Vec<Row> = hits.collect();
    hits.sort_by_key(|row| row.violations.is_empty());
    let violations: usize = hits.iter().map(|row| row.violations.len()).sum();
    let (attacks, harmless): (Vec<_>, Vec<_>) = tallies
        .iter()
        .flat_map(|(family, of)| of.iter().map(move |tally| (*family, tally)))
        .partition(|(family, _)| *family != HARMLESS);
    let share = |of: &[(&str, &Tally)]| {
        let (hits, n) = of.iter().fold((0, 0), |(hits, n), (_, tally)| (hits + tally.hits, n + tally.n));
        format!("{:.2} %", 100.0 * hits as f64 / n.max(1) as f64)
    };
    let page = environment.get_template(NAME).unwrap().render(context! {
        version => env!("CARGO_PKG_VERSION"),
        at => jiff::Timestamp::now().strftime("%Y-%m-%d %H:%M UTC").to_string(),
        behaviours => runs.iter().map(|run| run.behaviour.name()).collect::<Vec<_>>(),
        n => runs.iter().map(|run| run.outcomes.len()).sum::<usize>(),
        calls => runs.iter().map(|run| run.calls).sum::<usize>(),
        violations,
        success => share(&attacks),
        blocked => share(&harmless),
        harmless => HARMLESS,
        tallies => Serde(&tallies),
        hits => Serde(&hits),
    });
    page.unwrap()
}
