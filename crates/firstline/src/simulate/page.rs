//! The page of a simulation: one file without scripts, its charts drawn here.

use anyhow::Context as _;
use minijinja::{Environment, UndefinedBehavior, Value, context};
use telemetry::rollout::{Reading, Seen, name};

use super::Simulated;
use super::history::{Guarded, History, Point};
use super::show::{counted, design, number, percent, repeated, summary};
use super::table::{Counts, share};

/// Its name turns the escaping of HTML on.
const NAME: &str = "simulate.html";
const TEMPLATE: &str = include_str!("simulate.html");
const STYLE: &str = include_str!("../page.css");
/// Width and height of a chart within its axes.
const WIDTH: f64 = 480.0;
const HEIGHT: f64 = 160.0;
/// Colours of lines; a plan with more guards uses them again.
const COLOURS: [&str; 6] =
    ["var(--mark)", "var(--amber)", "var(--wrong)", "var(--right)", "var(--soft)", "var(--text)"];
/// Evidence in either direction beyond which a chart does not go, in multiples of the limit.
const MOST: f64 = 1.5;

/// The page as HTML.
///
/// # Errors
/// The template has a mistake.
pub(super) fn page(simulated: &[Simulated], counts: &[Counts], seed: u64) -> anyhow::Result<String> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.add_template(NAME, TEMPLATE)?;
    environment.add_template("page.css", STYLE)?;
    let page = environment.get_template(NAME)?.render(context! {
        version => env!("CARGO_PKG_VERSION"),
        seed => seed,
        width => WIDTH,
        height => HEIGHT,
        scenarios => simulated.iter().map(scenario).collect::<Vec<_>>(),
        rows => counts.iter().map(row).collect::<Vec<_>>(),
        rules => counts.iter().flat_map(rules).collect::<Vec<_>>(),
    });
    page.context("the template of the report")
}

fn scenario(simulated: &Simulated) -> Value {
    let history = &simulated.history;
    context! {
        name => &simulated.name,
        summary => summary(simulated),
        repeated => simulated.counts.as_ref().map(repeated),
        customers => simulated.scenario.customers,
        days => simulated.scenario.days,
        hours => format!("{:.0}", hours(history)),
        share => step(history),
        evidence => evidence(history),
        zero => HEIGHT * MOST / (2.0 * MOST),
        limit => HEIGHT * (MOST - 1.0) / (2.0 * MOST),
        arms => arms(history),
        missing => history.missing.join("; "),
        changes => changes(history),
        guards => history.readings.iter().map(guard).collect::<Vec<_>>(),
    }
}

/// The last hour of the charts.
fn hours(history: &History) -> f64 {
    history.points.last().map_or(1.0, |point| point.hours)
}

/// Points of a line, as SVG wants them; `at` is 0 at the bottom and 1 at the top.
fn line(history: &History, at: impl Fn(&Point) -> f64) -> String {
    let width = WIDTH / hours(history);
    let point = |point: &Point| format!("{:.1},{:.1}", point.hours * width, (1.0 - at(point)) * HEIGHT);
    history.points.iter().map(point).collect::<Vec<_>>().join(" ")
}

/// The share over time, and the highest: it stays until it changes.
fn step(history: &History) -> Value {
    let width = WIDTH / hours(history);
    let most = history.points.iter().map(|point| point.share).max().unwrap_or(0).max(1);
    let y = |point: &Point| (1.0 - f64::from(point.share) / f64::from(most)) * HEIGHT;
    let corner = |pair: &[Point]| {
        let x = pair[1].hours * width;
        format!("{x:.1},{:.1} {x:.1},{:.1}", y(&pair[0]), y(&pair[1]))
    };
    let first = history.points.first().map(|first| format!("0,{:.1}", y(first)));
    let points: Vec<_> = first.into_iter().chain(history.points.windows(2).map(corner)).collect();
    context! { points => points.join(" "), most => format!("{} %", f64::from(most) / 1e3) }
}

/// The evidence of each guard, as a multiple of its limit.
fn evidence(history: &History) -> Vec<Value> {
    let of = |(index, reading): (usize, &Reading)| {
        let at = |point: &Point| {
            let evidence = point.guards.get(index).map_or(0.0, |guard| guard.evidence);
            (evidence.clamp(-MOST, MOST) + MOST) / (2.0 * MOST)
        };
        let colour = COLOURS[index % COLOURS.len()];
        context! { name => words(reading), points => line(history, at), colour }
    };
    history.readings.iter().enumerate().map(of).collect()
}

/// The share of the units with the event in both arms, by guard.
fn arms(history: &History) -> Vec<Value> {
    let of = |(index, reading): (usize, &Reading)| {
        let rate = |point: &Point, arm: fn(&Guarded) -> f64| point.guards.get(index).map_or(0.0, arm);
        let highest = |point: &Point| rate(point, |guard| guard.treated.max(guard.control));
        // The first customers say little, and would flatten the rest.
        let settled = history.points.iter().skip(history.points.len() / 20);
        let most = settled.map(highest).fold(0.0, f64::max).max(1e-3);
        let of = |arm: fn(&Guarded) -> f64| line(history, |point| (rate(point, arm) / most).min(1.0));
        context! {
            name => words(reading),
            most => format!("{:.1} %", most * 100.0),
            treated => of(|guard| guard.treated),
            control => of(|guard| guard.control),
        }
    };
    let counted = |(_, reading): &(usize, &Reading)| reading.treated.n > 0;
    history.readings.iter().enumerate().filter(counted).map(of).collect()
}

fn changes(history: &History) -> Vec<Value> {
    let of = |change: &super::history::Change| {
        context! {
            hours => format!("{:.1}", change.when.hours),
            conversations => change.when.conversations,
            treated => change.when.treated,
            action => change.action.replace('_', " "),
            stage => &change.stage,
            share => format!("{} %", f64::from(change.share) / 1e3),
            reasons => change.reasons.join("; "),
        }
    };
    history.changes.iter().map(of).collect()
}

fn guard(reading: &Reading) -> Value {
    let of = |seen: Seen| match seen.n {
        0 => "–".to_owned(),
        n => format!("{} of {n}, {:.2} %", seen.events, seen.events as f64 / n as f64 * 100.0),
    };
    context! {
        name => words(reading),
        treated => of(reading.treated),
        control => of(reading.control),
        evidence => format!("{:.2}", reading.evidence),
        limit => format!("{:.2}", reading.limit),
        verdict => format!("{:?}", reading.verdict).to_lowercase(),
        words => &reading.words,
    }
}

fn words(reading: &Reading) -> String {
    name(reading.metric).replace('_', " ")
}

fn row(counts: &Counts) -> Value {
    context! {
        row => counts.row,
        truth => counts.truth,
        runs => counts.runs,
        counted => counted(counts.counted),
        fault => counts.counted.is_fault(),
        share => counts.percent(),
        percent => percent(counts.percent()),
        treated => number(counts.treated),
        conversations => number(counts.conversations),
        design => design(counts),
    }
}

fn rules(counts: &Counts) -> Option<Value> {
    let of = |rule: &super::table::Rule| {
        let percent = percent(share(rule.hits, counts.runs));
        context! { percent, treated => number(rule.treated) }
    };
    let names = || counts.rules.iter().map(|rule| rule.name).collect::<Vec<_>>();
    (!counts.rules.is_empty()).then(|| {
        context! {
            row => counts.row,
            truth => counts.truth,
            fault => counts.counted.is_fault(),
            names => names(),
            controller => percent(counts.percent()),
            treated => number(counts.treated),
            rules => counts.rules.iter().map(of).collect::<Vec<_>>(),
        }
    })
}
