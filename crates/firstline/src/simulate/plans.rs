//! Plans that are built in: the one a company begins with, and those of the rows of the table.

use std::collections::BTreeMap;

use bundle::Risk;
use bundle::rollout::{Action, Compares, Guard, Kind, Metric, Plan, Stage, Tripwires};

const MINUTE: u32 = 60;
const HOUR: u32 = 3600;

/// Five stages, five guards that share a chance of 0.05 of a false alarm, and a cap on the cost.
pub(super) fn standard() -> Plan {
    let shares =
        [("p1", 0.01, 50), ("p5", 0.05, 200), ("p25", 0.25, 500), ("p50", 0.5, 500), ("all", 1.0, 0)];
    let stages =
        shares.map(|(name, share, customers)| Stage { min_customers: customers, ..stage(name, share, 24.0) });
    let guards = vec![
        guard(Metric::EscalationUnplanned, 1.0, 0.02, 30 * MINUTE),
        guard(Metric::UngroundedDelivered, 1.0, 0.01, 2 * MINUTE),
        guard(Metric::Dissatisfied, 1.0, 0.01, 24 * HOUR),
        latency(0.005),
        Guard { kind: Kind::Cap, action: Action::Hold, ..guard(Metric::CostPerRequest, 1.0, 0.005, MINUTE) },
    ];
    Plan { interval_s: 5 * MINUTE, holdback: 0.05, min_customers: 50, ..plan(stages.into(), guards) }
}

/// One stage at a share, with one guard that has the whole chance of a false alarm. A look every half hour.
pub(super) fn single(share: f64, guard: Guard) -> Plan {
    plan(vec![stage("only", share, 0.0)], vec![guard])
}

/// A quarter of a hundred hours each at 1, 5, 25 and 50 per cent.
pub(super) fn ramp(guard: Guard) -> Plan {
    let shares = [("p1", 0.01), ("p5", 0.05), ("p25", 0.25), ("p50", 0.5)];
    plan(shares.map(|(name, share)| stage(name, share, 25.0)).into(), vec![guard])
}

/// Goes on once it is certain that escalations are less than 1.25 times those of the menu.
pub(super) fn certificate(share: f64) -> Plan {
    let certificate = BTreeMap::from([(Metric::EscalationUnplanned, 1.25)]);
    let first = Stage { certificate, ..stage("certified", share, 0.0) };
    // Nothing acts but the certificate.
    let guard = Guard { dry_run: true, ..guard(Metric::EscalationUnplanned, 1.0, 0.05, 30 * MINUTE) };
    plan(vec![first, stage("after", 1.0, 0.0)], vec![guard])
}

pub(super) fn guard(metric: Metric, r0: f64, alpha: f64, window_s: u32) -> Guard {
    Guard {
        metric,
        kind: Kind::Relative,
        action: Action::Rollback,
        r0,
        alpha,
        window_s,
        sla_ms: 4000,
        q: 0.95,
        cap_usd: 0.05,
        max_rate: 0.05,
        hold_margin: None,
        dry_run: false,
    }
}

pub(super) fn latency(alpha: f64) -> Guard {
    Guard { kind: Kind::RelativeAbsolute, ..guard(Metric::LatencyOverSla, 1.0, alpha, 30 * MINUTE) }
}

fn stage(name: &str, share: f64, min_hours: f64) -> Stage {
    Stage {
        name: name.to_owned(),
        share,
        mirror: 0.0,
        mirror_usd_per_day: 0.0,
        max_escalation: 0.0,
        audience: String::new(),
        categories: vec!["all".to_owned()],
        max_risk: Risk::High,
        min_hours,
        min_customers: 0,
        approval: false,
        certificate: BTreeMap::new(),
    }
}

fn plan(stages: Vec<Stage>, guards: Vec<Guard>) -> Plan {
    Plan {
        id: "simulated".to_owned(),
        salt: "simulated".to_owned(),
        candidate: String::new(),
        compares: Compares::Assistant,
        interval_s: 30 * MINUTE,
        cooldown_hours: 24.0,
        holdback: 0.0,
        min_customers: 1,
        stages,
        guards,
        tripwires: Tripwires { failed_share: 0.5, dispositions: Vec::new() },
    }
}
