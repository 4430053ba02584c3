use std::path::Path;

use bundle::rollout::{Guard, Metric, Stage};

use super::scenario::{BUILT_IN, Event, parse};
use super::table::{Counted, count};
use super::*;

/// Enough that a rule that is wrong in 3 of 100 rollouts stays below 6 in all but one seed of a thousand, and one that is
/// wrong in 20 never does.
const SHORT: u32 = 400;

/// Cells of the table where the candidate does no harm, and what else there is makes it hard to see.
const HARMLESS: [(&str, &str); 9] = [
    ("5 % share", "RR 1"),
    ("1 % share", "RR 1"),
    ("25 % share", "RR 1"),
    ("ramp, base rate from 10 to 30 %", "RR 1"),
    ("3 conversations a customer", "RR 1"),
    ("10 conversations a customer", "RR 1"),
    ("5 % share, with lags", "RR 1, menu 8 h, treated 1 h"),
    ("25 % share, with lags", "RR 1, menu 8 h, treated 1 h"),
    ("SLA for 95 % of turns", "5 % over it"),
];

#[test]
fn harmless_candidates_are_rolled_back_in_six_of_a_hundred_rollouts_at_most() {
    let cells = table::rows();
    let harmless = cells.iter().filter(|cell| HARMLESS.contains(&(cell.row, cell.truth)));
    let harmless: Vec<_> = harmless.map(|cell| Cell { rules: false, ..cell.clone() }).collect();
    assert_eq!(harmless.len(), HARMLESS.len());
    for cell in &harmless {
        let counts = count(cell, SHORT, 1).unwrap();
        println!("{}, {}: {:.1} %", counts.row, counts.truth, counts.percent());
        assert!(counts.percent() <= 6.0 && cell.counted == Counted::FalseAlarms, "{counts:?}");
    }
}

#[test]
fn twice_as_many_escalations_are_found_within_sixty_treated_customers() {
    let doubled = |cell: &Cell| cell.row == "5 % share" && cell.truth == "RR 2";
    let cell = table::rows().into_iter().find(doubled).unwrap();
    let counts = count(&cell, SHORT, 1).unwrap();
    assert!(counts.hits == SHORT && counts.treated.unwrap() <= 60, "{counts:?}");
    // What people use instead is as quick, and of no use where there is no harm.
    let cell = table::rows().into_iter().next().unwrap();
    let counts = count(&cell, 100, 1).unwrap();
    assert!(counts.rules[..3].iter().all(|rule| rule.hits > 10) && counts.rules[0].hits == 100, "{counts:?}");
}

#[test]
fn a_seed_leads_to_the_same_figures_with_any_number_of_threads() {
    let cell = &table::rows()[0];
    let with = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| many(6, 7, |seed| run(&cell.scenario, &cell.plan, seed, |_| true)).unwrap())
    };
    let (one, three) = (with(1), with(3));
    assert_eq!(one, three);
    assert_ne!(one[0], one[1]);
}

#[test]
fn a_customer_counts_once_and_has_what_the_scenario_says() {
    let event = Event {
        treated: 0.3,
        lag_control_s: 1800.0,
        answers_control: 0.5,
        answers_treated: 1.0,
        ..Event::of(0.2, 1.0)
    };
    let metric = Metric::EscalationUnplanned;
    let one = Scenario::of(30_000, 100.0, metric, event);
    let scenario = Scenario { contacts: 3, concentration: Some(2.0), ..one };
    let plan = plans::single(0.25, Guard { dry_run: true, ..plans::guard(metric, 1.0, 0.05, 1800) });
    let mut last = None;
    run(&scenario, &plan, 5, |looked| {
        last = Some(looked.decision.readings[0].clone());
        true
    })
    .unwrap();
    let reading = last.unwrap();
    let (treated, control) = (reading.treated, reading.control);
    // Three conversations on average: all customers but e^-3 of them come, less those of the last half hour.
    let all = (treated.n + control.n) as f64 / 30_000.0;
    assert!((0.945..0.955).contains(&all), "{all}");
    let near = |value: u64, of: u64, share: f64| (value as f64 / of as f64 - share).abs() < 0.015;
    assert!(near(treated.n, treated.n + control.n, 0.25), "{reading:?}");
    assert!(near(treated.events, treated.n, 0.3) && treated.rated == treated.n, "{reading:?}");
    // Of those that answer, all but 1/e do so in time.
    let in_time = 0.5 * (1.0 - (-1.0_f64).exp());
    assert!(near(control.rated, control.n, in_time), "{reading:?}");
    assert!(near(control.events, control.n, in_time * 0.2), "{reading:?}");
}

#[test]
fn a_scenario_names_the_line_of_what_is_wrong() {
    for (name, text) in BUILT_IN {
        parse(Path::new(name), text).unwrap();
    }
    let wrong = |text: &str| parse(Path::new("s.toml"), text).unwrap_err().to_string();
    let head = "customers = 10\ndays = 1\n";
    let event = "[event.failed]\ncontrol = 0.5\n";
    assert_eq!(wrong(&format!("{head}{event}treated = 1.2")), "s.toml:5: 1.2 is not within 0 to 1");
    assert_eq!(wrong("customers = 10\ndays = 0"), "s.toml:2: 0 is not within 0.001 to 366");
    assert_eq!(wrong("customers = 0\ndays = 1"), "s.toml:1: 0 is not within 1 to 1000000000");
    assert!(wrong(&format!("{head}user = 3")).starts_with("s.toml:3: unknown field `user`"));
    assert!(wrong(&format!("{head}[event.fail]")).starts_with("s.toml:3: unknown variant `fail`"));
    assert!(wrong(&format!("{head}{event}treated = 0.1\ndrift = 3")).contains("event.failed"));
}

#[test]
fn the_page_stands_alone_and_says_what_the_table_says() {
    let folder = tempfile::tempdir().unwrap();
    let report = folder.path().join("new/report.html");
    let args = SimulateArgs {
        scenario: vec!["worse".to_owned()],
        customers: None,
        days: None,
        seed: 1,
        runs: Some(3),
        table: false,
        report: report.clone(),
    };
    assert!(simulate(&args, false).unwrap());
    let page = std::fs::read_to_string(&report).unwrap();
    assert!(page.contains("rolled back after") && page.contains("3 runs: 100.0 % rolled back"), "{page}");
    for foreign in ["<script", "http:", "https:", "url("] {
        assert!(!page.contains(foreign), "{foreign}");
    }
    let cell = &table::rows()[3];
    let counts = count(cell, 20, 1).unwrap();
    let page = page::page(&[], std::slice::from_ref(&counts), 1).unwrap();
    let cells = format!("<td>{}</td><td>{}</td><td class=\"num\">20</td>", cell.row, cell.truth);
    assert!(page.contains(&cells) && page.contains("100.0 (51)"), "{page}");
    assert!(page.contains(counts.rules[2].name));
}

/// Staff first, then half of all customers, then all, with a person in between.
#[test]
fn audiences_approvals_and_tripwires_of_a_plan_are_simulated_too() {
    let metric = Metric::EscalationUnplanned;
    let half = plans::single(0.5, plans::guard(metric, 1.0, 0.01, 1800));
    let stage = |name: &str| Stage { name: name.to_owned(), ..half.stages[0].clone() };
    let staff = Stage { audience: "staff".to_owned(), min_customers: 50, ..stage("internal") };
    let stages = vec![staff, Stage { approval: true, ..stage("p50") }, Stage { share: 1.0, ..stage("all") }];
    let plan = Plan { stages, ..half.clone() };
    let one = Scenario::of(4000, 40.0, metric, Event::of(0.2, 1.0));
    let scenario = Scenario { audience: 0.1, ..one };
    let mut history = History::new(&scenario, &plan);
    let mut staff = 0;
    let outcome = run(&scenario, &plan, 1, |looked| {
        history.take(looked);
        staff = if looked.decision.stage == "internal" { looked.when.treated } else { staff };
        true
    });
    assert_eq!(outcome.unwrap().stage, "all");
    let changes: Vec<_> = history.changes.iter().map(|change| (change.action, change.share)).collect();
    assert_eq!(changes, [("advanced", 50_000), ("advanced", 100_000)]);
    // A tenth of 100 customers each half hour, until there are fifty.
    assert!((30..70).contains(&staff), "{staff}");
    let event = Event { treated: 0.7, ..Event::of(0.0, 1.0) };
    let failing = Scenario::of(4000, 40.0, Metric::Failed, event);
    let watched = Guard { dry_run: true, ..plans::guard(Metric::Failed, 1.0, 0.01, 1800) };
    let mut reasons = Vec::new();
    run(&failing, &Plan { guards: vec![watched], ..half }, 1, |looked| {
        reasons.clone_from(&looked.decision.reasons);
        true
    })
    .unwrap();
    assert!(reasons[0].starts_with("tripwire"), "{reasons:?}");
}
