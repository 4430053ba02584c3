//! The settings of the table.

use bundle::rollout::{Guard, Metric, Plan};

use super::super::plans::{certificate, guard, latency, ramp, single};
use super::super::scenario::{Event, Scenario};
use super::{Cell, Counted, Design};

const ESCALATED: Metric = Metric::EscalationUnplanned;
/// Of most cells: the conversations, and the hours they come in.
const CONVERSATIONS: u64 = 20_000;
const HOURS: f64 = 100.0;
/// Time for an event where it takes hours: nearly all of them happen within.
const LONG_S: u32 = 48 * 3600;

/// All settings.
pub(in super::super) fn rows() -> Vec<Cell> {
    [shares(), metrics(), ramps(), sticky(), lags(), slow(), certificates()].concat()
}

/// A cell that rolls back.
fn cell(row: &'static str, truth: &'static str, of: (Scenario, Plan), design: (f64, u64)) -> Cell {
    let counted = if truth.starts_with("RR 1,") || truth == "RR 1" {
        Counted::FalseAlarms
    } else {
        Counted::Detections
    };
    let treated = (design.1 > 0).then_some(design.1);
    let design = Some(Design { percent: Some(design.0), treated });
    Cell { row, truth, scenario: of.0, plan: of.1, counted, design, rules: false }
}

fn escalation(r0: f64) -> Guard {
    guard(ESCALATED, r0, 0.05, 1800)
}

fn usual(metric: Metric, event: Event) -> Scenario {
    Scenario::of(CONVERSATIONS, HOURS, metric, event)
}

/// Escalations of one customer in five.
fn escalating(ratio: f64) -> Scenario {
    usual(ESCALATED, Event::of(0.2, ratio))
}

fn shares() -> Vec<Cell> {
    let of = |row, share, r0, ratio, truth, design| {
        let cell = cell(row, truth, (escalating(ratio), single(share, escalation(r0))), design);
        // Within what is tolerated.
        if ratio <= r0 { Cell { counted: Counted::FalseAlarms, ..cell } } else { cell }
    };
    let with_rules = |cell: Cell| Cell { rules: true, ..cell };
    let five = |ratio, truth, design| with_rules(of("5 % share", 0.05, 1.0, ratio, truth, design));
    let tolerant = |ratio, truth, design| of("5 % share, r0 = 1.25", 0.05, 1.25, ratio, truth, design);
    let one = |ratio, truth, design| of("1 % share", 0.01, 1.0, ratio, truth, design);
    let quarter = |ratio, truth, design| of("25 % share", 0.25, 1.0, ratio, truth, design);
    vec![
        five(1.0, "RR 1", (2.0, 0)),
        five(1.25, "RR 1.25", (64.7, 480)),
        five(1.5, "RR 1.5", (99.9, 181)),
        five(2.0, "RR 2", (100.0, 51)),
        five(3.0, "RR 3", (100.0, 18)),
        tolerant(1.0, "RR 1", (0.3, 0)),
        tolerant(1.25, "RR 1.25", (1.9, 0)),
        tolerant(1.5, "RR 1.5", (51.8, 517)),
        tolerant(2.0, "RR 2", (100.0, 110)),
        tolerant(3.0, "RR 3", (100.0, 25)),
        with_rules(one(1.0, "RR 1", (2.9, 0))),
        one(1.5, "RR 1.5", (60.4, 92)),
        one(2.0, "RR 2", (99.1, 45)),
        one(3.0, "RR 3", (100.0, 13)),
        with_rules(quarter(1.0, "RR 1", (1.5, 0))),
        quarter(1.25, "RR 1.25", (99.9, 982)),
        quarter(1.5, "RR 1.5", (100.0, 259)),
        quarter(2.0, "RR 2", (100.0, 83)),
    ]
}

fn metrics() -> Vec<Cell> {
    let ungrounded = |ratio, truth, design| {
        let scenario = usual(Metric::UngroundedDelivered, Event::of(0.02, ratio));
        let plan = single(0.05, guard(Metric::UngroundedDelivered, 1.0, 0.05, 120));
        cell("ungrounded, 2 %", truth, (scenario, plan), design)
    };
    let rated = |ratio, answers_treated, alpha| {
        let event = Event { answers_control: 0.15, answers_treated, ..Event::of(0.2, ratio) };
        let plan = single(0.05, guard(Metric::Dissatisfied, 1.0, alpha, 1800));
        (usual(Metric::Dissatisfied, event), plan)
    };
    let dissatisfied =
        |ratio, truth, design| cell("dissatisfied, 3 %: 15 % rate", truth, rated(ratio, 0.15, 0.05), design);
    // As well rated, by twice as many.
    let biased = |row, alpha| Cell { design: None, ..cell(row, "RR 1", rated(1.0, 0.3, alpha), (0.0, 0)) };
    vec![
        Cell { rules: true, ..ungrounded(1.0, "RR 1", (2.4, 0)) },
        ungrounded(2.0, "RR 2", (86.0, 374)),
        ungrounded(4.0, "RR 4", (100.0, 70)),
        Cell { rules: true, ..dissatisfied(1.0, "RR 1", (3.1, 0)) },
        dissatisfied(1.5, "RR 1.5", (45.7, 423)),
        dissatisfied(2.0, "RR 2", (95.5, 270)),
        dissatisfied(3.0, "RR 3", (100.0, 87)),
        biased("dissatisfied, treated rate twice as often", 0.05),
        biased("the same, guard at 0.01", 0.01),
    ]
}

fn ramps() -> Vec<Cell> {
    const RAMP: &str = "ramp 1, 5, 25, 50 %";
    let drifting = usual(ESCALATED, Event { drift: 3.0, ..Event::of(0.1, 1.0) });
    let plan = || ramp(escalation(1.0));
    vec![
        cell(RAMP, "RR 1", (escalating(1.0), plan()), (3.0, 0)),
        cell(RAMP, "RR 1.5", (escalating(1.5), plan()), (100.0, 175)),
        cell(RAMP, "RR 2", (escalating(2.0), plan()), (100.0, 44)),
        Cell { rules: true, ..cell("ramp, base rate from 10 to 30 %", "RR 1", (drifting, plan()), (3.0, 0)) },
    ]
}

fn sticky() -> Vec<Cell> {
    let of = |row, truth, contacts, ratio, every_contact, design| {
        let customers = CONVERSATIONS / u64::from(contacts);
        let one = Scenario::of(customers, HOURS, ESCALATED, Event::of(0.2, ratio));
        let scenario = Scenario { contacts, concentration: Some(2.0), every_contact, ..one };
        cell(row, truth, (scenario, single(0.05, escalation(1.0))), design)
    };
    // What counting conversations leads to is no fault of the controller's.
    let every = |row, truth, contacts, ratio, design| Cell {
        counted: Counted::Detections,
        ..of(row, truth, contacts, ratio, true, design)
    };
    vec![
        of("3 conversations a customer", "RR 1", 3, 1.0, false, (2.0, 0)),
        of("3 conversations a customer", "RR 1.5", 3, 1.5, false, (79.0, 0)),
        of("10 conversations a customer", "RR 1", 10, 1.0, false, (2.2, 0)),
        every("3 a customer, every one counted", "RR 1", 3, 1.0, (7.2, 0)),
        every("3 a customer, every one counted", "RR 1.5", 3, 1.5, (93.5, 0)),
        every("10 a customer, every one counted", "RR 1", 10, 1.0, (15.8, 0)),
    ]
}

fn lags() -> Vec<Cell> {
    // The last that counts has its whole window before the end.
    let hours = HOURS + f64::from(LONG_S / 3600);
    let customers = (CONVERSATIONS as f64 / HOURS * hours) as u64;
    let of = |row, truth, share, control_h: f64, treated_h: f64, percent| {
        let event = Event {
            lag_control_s: control_h * 3600.0,
            lag_treated_s: treated_h * 3600.0,
            ..Event::of(0.2, 1.0)
        };
        let plan = single(share, guard(ESCALATED, 1.0, 0.05, LONG_S));
        let scenario = Scenario::of(customers, hours, ESCALATED, event);
        Cell { rules: true, ..cell(row, truth, (scenario, plan), (percent, 0)) }
    };
    vec![
        of("5 % share, with lags", "RR 1, menu 2 h, treated 2 h", 0.05, 2.0, 2.0, 2.5),
        of("5 % share, with lags", "RR 1, menu 2 h, treated 0.5 h", 0.05, 2.0, 0.5, 4.5),
        of("5 % share, with lags", "RR 1, menu 8 h, treated 1 h", 0.05, 8.0, 1.0, 3.4),
        of("25 % share, with lags", "RR 1, menu 2 h, treated 2 h", 0.25, 2.0, 2.0, 4.8),
        of("25 % share, with lags", "RR 1, menu 2 h, treated 0.5 h", 0.25, 2.0, 0.5, 4.2),
        of("25 % share, with lags", "RR 1, menu 8 h, treated 1 h", 0.25, 8.0, 1.0, 4.8),
    ]
}

fn slow() -> Vec<Cell> {
    // 5,000 treated; a menu is never slow.
    let of = |truth, treated, counted, design| {
        let event = Event { treated, ..Event::of(0.0, 1.0) };
        let of = (usual(Metric::LatencyOverSla, event), single(0.25, latency(0.05)));
        Cell { counted, ..cell("SLA for 95 % of turns", truth, of, design) }
    };
    vec![
        of("5 % over it", 0.05, Counted::FalseAlarms, (3.9, 0)),
        of("7 % over it", 0.07, Counted::Detections, (99.7, 1008)),
        of("10 % over it", 0.1, Counted::Detections, (100.0, 152)),
        of("20 % over it", 0.2, Counted::Detections, (100.0, 22)),
    ]
}

fn certificates() -> Vec<Cell> {
    let of = |row, share, truth, ratio, percent, treated| {
        let scenario = Scenario::of(100_000, 500.0, ESCALATED, Event::of(0.2, ratio));
        let design = Some(Design { percent, treated });
        let cell = cell(row, truth, (scenario, certificate(share)), (0.0, 0));
        Cell { counted: Counted::Certificates, design, ..cell }
    };
    let shares = [
        ("certificate of RR < 1.25 at 1 %", 0.01, Some(78.0), 402, 256),
        ("certificate of RR < 1.25 at 5 %", 0.05, None, 635, 296),
        ("certificate of RR < 1.25 at 25 %", 0.25, None, 912, 466),
        ("certificate of RR < 1.25 at 50 %", 0.5, None, 1576, 702),
    ];
    let cells = |(row, share, percent, equal, better)| {
        [
            of(row, share, "RR 1", 1.0, percent, Some(equal)),
            of(row, share, "RR 0.9", 0.9, None, Some(better)),
            Cell { counted: Counted::FalseCertificates, ..of(row, share, "RR 1.25", 1.25, None, None) },
        ]
    };
    shares.into_iter().flat_map(cells).collect()
}
