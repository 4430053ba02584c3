use bundle::Risk;
use bundle::rollout::{Action as Do, Compares, Guard, Kind, Metric, Plan, Stage, Tripwires};

use super::*;

mod property;
mod unseen;

const HOUR: i64 = 3_600_000_000;

fn stage(name: &str, share: f64) -> Stage {
    Stage {
        name: name.to_owned(),
        share,
        mirror: 0.0,
        mirror_usd_per_day: 0.0,
        max_escalation: 0.0,
        audience: String::new(),
        categories: vec!["cards".to_owned()],
        max_risk: Risk::Low,
        min_hours: 1.0,
        min_customers: 50,
        approval: false,
        certificate: Default::default(),
    }
}

fn guard(metric: Metric, kind: Kind, action: Do) -> Guard {
    Guard {
        metric,
        kind,
        action,
        r0: 1.0,
        alpha: 0.01,
        window_s: 60,
        sla_ms: 4000,
        q: 0.95,
        cap_usd: 0.02,
        max_rate: 0.02,
        hold_margin: None,
        dry_run: false,
    }
}

/// Four stages: staff, then 1, 5 and all but 5 per cent of customers.
fn plan() -> Plan {
    let staff = Stage { audience: "staff".to_owned(), min_customers: 0, ..stage("internal", 1.0) };
    Plan {
        id: "r".to_owned(),
        salt: "r".to_owned(),
        candidate: String::new(),
        compares: Compares::Assistant,
        interval_s: 60,
        cooldown_hours: 24.0,
        holdback: 0.05,
        min_customers: 50,
        stages: vec![staff, stage("p1", 0.01), stage("p5", 0.05), stage("all", 1.0)],
        guards: vec![
            guard(Metric::EscalationUnplanned, Kind::Relative, Do::Rollback),
            guard(Metric::LatencyOverSla, Kind::RelativeAbsolute, Do::Rollback),
            guard(Metric::CostPerRequest, Kind::Cap, Do::Hold),
        ],
        tripwires: Tripwires { failed_share: 0.5, dispositions: vec!["leak".to_owned()] },
    }
}

fn applied(plan: Plan) -> Entry {
    Entry::Applied { plan: Box::new(plan), by: "anna".to_owned(), seen: Cursor::default() }
}

fn ordered(order: Order) -> Entry {
    Entry::Ordered { order, by: "anna".to_owned(), reason: String::new() }
}

/// An hour in which `n` customers of each arm matured at a share, `events` of them with an escalation.
fn tick(stage: &str, share: u32, n: u64, events: (u64, u64)) -> Tick {
    // Those of the menu are as many as the share says, but enough for a verdict.
    let control = (n * u64::from(100_000 - share)).checked_div(share.into()).unwrap_or(0);
    let of = |metric, events: (u64, u64)| Matured {
        metric,
        share,
        sticky: true,
        treated: Seen { n, events: events.0, rated: 0 },
        control: Seen { n: control.max(60), events: events.1, rated: 0 },
    };
    Tick {
        turns: 100,
        exposed: vec![Exposed { stage: stage.to_owned(), share, sticky: true, treated: n, control }],
        matured: vec![of(Metric::EscalationUnplanned, events), of(Metric::LatencyOverSla, (0, 0))],
        cost: Cost { turns: 50, nanos: 50_000_000 },
        ..Tick::default()
    }
}

struct Run {
    state: State,
    at_us: i64,
}

impl Run {
    fn begin(plan: Plan) -> Self {
        Self { state: State::begin(0, &applied(plan)).unwrap().0, at_us: 0 }
    }

    fn hour(&mut self, tick: Tick) -> Decision {
        self.at_us += HOUR;
        self.state.step(self.at_us, &Entry::Observed(tick)).unwrap()
    }

    fn order(&mut self, order: Order) -> Result<Decision, Refused> {
        self.state.step(self.at_us, &ordered(order))
    }

    /// To the stage with 5 per cent.
    fn at_five(plan: Plan) -> Self {
        let mut run = Self::begin(plan);
        assert_eq!(run.hour(tick("internal", 100_000, 9, (0, 0))).share, 1000);
        assert_eq!(run.hour(tick("p1", 1000, 60, (1, 99))).share, 5000);
        run
    }
}

#[test]
fn an_equal_candidate_climbs_to_the_holdback_and_stays() {
    let mut run = Run::at_five(plan());
    let decision = run.hour(tick("p5", 5000, 60, (5, 95)));
    assert_eq!((decision.action, decision.share, decision.stage.as_str()), (Action::Advanced, 95_000, "all"));
    let decision = run.hour(tick("all", 95_000, 60, (19, 1)));
    assert_eq!((decision.action, decision.verdict), (Action::Kept, Verdict::Pass));
    assert_eq!(run.state.version(), 4);
}

#[test]
fn every_gate_keeps_the_stage_and_is_named() {
    let mut gated = plan();
    gated.stages[2].approval = true;
    gated.stages[2].min_hours = 1.5;
    gated.stages[2].min_customers = 100;
    gated.stages[2].certificate.insert(Metric::EscalationUnplanned, 1.25);
    let mut run = Run::at_five(gated);
    let decision = run.hour(tick("p5", 5000, 60, (5, 95)));
    assert_eq!(
        decision.missing,
        [
            "1.0 of 1.5 hours in stage p5",
            "60 of 100 treated customers in stage p5",
            "a certificate that escalation_unplanned is below 1.25 times that of the control",
            "a person's approval",
        ]
    );
    run.order(Order::Approve).unwrap();
    let decision = run.hour(tick("p5", 5000, 60, (50, 950)));
    assert_eq!((decision.action, decision.share), (Action::Kept, 5000), "{decision:?}");
    let decision = run.hour(tick("p5", 5000, 60, (0, 500)));
    assert_eq!(decision.action, Action::Advanced, "{decision:?}");
}

#[test]
fn a_harmful_candidate_is_rolled_back_in_the_look_that_shows_it_and_armed_again_by_a_person_only() {
    let mut run = Run::at_five(plan());
    let decision = run.hour(tick("p5", 5000, 60, (30, 200)));
    assert_eq!((decision.action, decision.share, decision.fallback), (Action::RolledBack, 0, 0));
    assert_eq!(
        decision.reasons,
        ["escalation_unplanned: FAIL, more than 1 times as often as without the assistant"]
    );
    assert_eq!(run.hour(tick("p5", 5000, 60, (0, 500))).share, 0);
    assert_eq!(run.order(Order::Approve), Err(Refused::RolledBack));
    assert!(matches!(run.order(Order::Rearm), Err(Refused::Cooling(_))));
    run.at_us += 24 * HOUR;
    let decision = run.order(Order::Rearm).unwrap();
    assert_eq!((decision.stage.as_str(), decision.share, run.state.epoch()), ("internal", 0, 2));
    // With no evidence of before.
    assert_eq!(run.hour(tick("internal", 100_000, 9, (0, 0))).action, Action::Advanced);
}

#[test]
fn without_data_the_share_is_held_and_goes_down_after_four_looks_and_comes_back_when_the_guards_pass() {
    let mut run = Run::at_five(plan());
    for look in 1..=3 {
        let decision = run.hour(Tick::default());
        assert_eq!((decision.action, decision.share), (Action::Held, 5000), "{look}");
        assert_eq!(decision.reasons, ["INCONCLUSIVE: no turn was recorded since the last look"]);
    }
    let decision = run.hour(Tick::default());
    assert_eq!((decision.action, decision.share), (Action::SteppedDown, 1000));
    // Where nobody writes one per cent stays, to see when somebody does.
    for _ in 0..8 {
        assert_eq!(run.hour(Tick::default()).share, 1000);
    }
    let decision = run.hour(tick("p5", 1000, 60, (1, 99)));
    assert_eq!((decision.action, decision.share, decision.stage.as_str()), (Action::SteppedUp, 5000, "p5"));
}

#[test]
fn what_makes_no_sense_is_an_error_that_leads_down_to_nothing_and_up_again_by_a_person() {
    let mut run = Run::at_five(plan());
    let broken = [
        Tick { fault: "the store failed".to_owned(), ..tick("p5", 5000, 60, (5, 95)) },
        tick("p5", 5000, 3, (4, 0)),
        Tick { last: Failures { turns: 3, failed: 4 }, ..tick("p5", 5000, 60, (5, 95)) },
        Tick { fault: "the store failed".to_owned(), ..Tick::default() },
    ];
    for (tick, share) in broken.iter().zip([5000, 5000, 5000, 1000]) {
        let decision = run.hour(tick.clone());
        assert_eq!((decision.verdict, decision.share), (Verdict::Error, share), "{decision:?}");
    }
    for tick in &broken {
        run.hour(tick.clone());
    }
    assert_eq!(run.state.share(), 0);
    let good = || tick("p5", 5000, 60, (5, 95));
    assert_eq!(run.hour(good()).missing, ["a person's approval, since the share was lowered to nothing"]);
    run.order(Order::Approve).unwrap();
    assert_eq!(run.hour(good()).share, 1000);
    assert_eq!(run.hour(good()).share, 5000);
    // The clock of the store goes back.
    run.at_us -= 9 * HOUR;
    let decision = run.hour(good());
    assert_eq!((decision.verdict, decision.action), (Verdict::Error, Action::Held));
}

#[test]
fn what_is_held_does_not_rise() {
    let good = || tick("p5", 5000, 60, (5, 95));
    let doubts: [(&str, Tick); 2] = [
        ("INVALID: 1 customers met another bundle than the candidate", Tick { strangers: 1, ..good() }),
        (
            "INVALID: customers are not assigned as the share says",
            Tick {
                exposed: vec![Exposed {
                    stage: "p5".to_owned(),
                    share: 5000,
                    sticky: true,
                    treated: 200,
                    control: 800,
                }],
                ..good()
            },
        ),
    ];
    for (reason, tick) in doubts {
        let decision = Run::at_five(plan()).hour(tick);
        assert_eq!((decision.action, decision.reasons), (Action::Held, vec![reason.to_owned()]));
    }
    let mut run = Run::at_five(plan());
    run.order(Order::Hold).unwrap();
    assert_eq!(run.hour(good()).reasons, ["held: by anna"]);
    run.order(Order::Release).unwrap();
    assert_eq!(run.hour(good()).action, Action::Advanced);
    // A costly turn holds after three intervals in a row.
    let mut waiting = plan();
    waiting.stages[2].approval = true;
    let mut run = Run::at_five(waiting);
    let costly = || Tick { cost: Cost { turns: 10, nanos: 300_000_000 }, ..good() };
    let actions: Vec<_> = (0..3).map(|_| run.hour(costly()).action).collect();
    assert_eq!(actions, [Action::Kept, Action::Kept, Action::Held]);
}

#[test]
fn a_margin_holds_before_there_is_evidence_to_roll_back() {
    let mut careful = plan();
    careful.guards[0].hold_margin = Some(0.02);
    let some = || tick("p5", 5000, 60, (9, 60));
    let decision = Run::at_five(careful).hour(some());
    assert_eq!((decision.action, decision.share), (Action::Held, 5000), "{decision:?}");
    assert_eq!(
        decision.reasons,
        ["escalation_unplanned: FAIL, more than 2 points more often than without the assistant"]
    );
    assert_eq!(Run::at_five(plan()).hour(some()).action, Action::Advanced);
}

#[test]
fn a_tripwire_needs_no_statistics() {
    let failing = Tick { last: Failures { turns: 20, failed: 10 }, ..tick("p5", 5000, 1, (0, 0)) };
    let leaking = Tick { incidents: 1, ..tick("p5", 5000, 1, (0, 0)) };
    for tick in [failing, leaking] {
        assert_eq!(Run::at_five(plan()).hour(tick).action, Action::RolledBack);
    }
    let few = Tick { last: Failures { turns: 19, failed: 19 }, ..tick("p5", 5000, 1, (0, 0)) };
    assert_ne!(Run::at_five(plan()).hour(few).action, Action::RolledBack);
    assert_eq!(Run::at_five(plan()).order(Order::Abort).unwrap().share, 0);
}

#[test]
fn latency_rolls_back_only_beyond_the_sla_and_only_if_the_menu_is_quicker() {
    let slow = |treated: Seen, control: Seen| Tick {
        matured: vec![
            Matured { metric: Metric::LatencyOverSla, share: 5000, sticky: true, treated, control },
            Matured {
                metric: Metric::EscalationUnplanned,
                share: 5000,
                sticky: true,
                treated: Seen { n: 60, ..Seen::default() },
                control: Seen { n: 60, ..Seen::default() },
            },
        ],
        ..tick("p5", 5000, 60, (0, 0))
    };
    let seen = |n, events| Seen { n, events, rated: 0 };
    // Slower than the menu, but only in 3 of 100 turns.
    let decision = Run::at_five(plan()).hour(slow(seen(1000, 30), seen(19_000, 0)));
    assert_eq!(decision.action, Action::Advanced, "{decision:?}");
    // As slow as everything else.
    let decision = Run::at_five(plan()).hour(slow(seen(1000, 200), seen(19_000, 3800)));
    assert_eq!((decision.action, decision.verdict), (Action::Held, Verdict::Fail), "{decision:?}");
    let decision = Run::at_five(plan()).hour(slow(seen(1000, 200), seen(19_000, 0)));
    assert_eq!(decision.action, Action::RolledBack, "{decision:?}");
}

#[test]
fn a_new_plan_may_treat_fewer_at_once_and_never_more() {
    let mut run = Run::at_five(plan());
    let mut more = plan();
    more.stages[2].share = 0.2;
    let apply = |run: &mut Run, plan| run.state.step(run.at_us, &applied(plan));
    assert_eq!(apply(&mut run, more), Err(Refused::Raises { from: 5000, to: 20_000 }));
    let mut fewer = plan();
    fewer.stages[2].share = 0.02;
    assert_eq!(apply(&mut run, fewer).unwrap().share, 2000);
    let other = Plan { id: "s".to_owned(), ..plan() };
    assert_eq!(apply(&mut run, other.clone()), Err(Refused::Other("r".to_owned())));
    run.order(Order::Abort).unwrap();
    let version = run.state.version();
    assert_eq!(apply(&mut run, other).unwrap().version, version + 1);
    let resalted = Plan { salt: "t".to_owned(), ..run.state.plan().clone() };
    assert_eq!(apply(&mut run, resalted), Err(Refused::Salt));
}
