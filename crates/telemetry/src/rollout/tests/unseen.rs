//! What unseen answers do to a rollout.

use super::*;

/// A stage that nobody is treated in, before the others.
fn mirrored() -> Plan {
    let shadow = Stage {
        mirror: 0.1,
        mirror_usd_per_day: 5.0,
        max_escalation: 0.3,
        min_customers: 100,
        ..stage("shadow", 0.0)
    };
    let mut plan = plan();
    plan.stages.insert(0, shadow);
    plan.guards.push(guard(Metric::UngroundedDelivered, Kind::Absolute, Do::Rollback));
    plan.guards.push(guard(Metric::Dissatisfied, Kind::Absolute, Do::Rollback));
    plan
}

/// An hour of `n` unseen answers, so many of them for a person and so many without ground.
fn hour(n: u64, escalated: u64, ungrounded: u64) -> Tick {
    let of = |metric, events| Matured {
        metric,
        share: 0,
        sticky: false,
        treated: Seen { n, events, rated: 0 },
        control: Seen::default(),
    };
    let unseen =
        vec![of(Metric::EscalationUnplanned, escalated), of(Metric::UngroundedDelivered, ungrounded)];
    Tick { turns: 1000, unseen, cost: Cost { turns: n, nanos: n }, ..Tick::default() }
}

#[test]
fn enough_unseen_answers_that_help_open_the_next_stage_and_count_for_nothing_in_it() {
    let mut run = Run::begin(mirrored());
    let decision = run.hour(hour(99, 10, 0));
    assert_eq!((decision.action, decision.share), (Action::Kept, 0));
    assert_eq!(decision.missing, ["99 of 100 conversations answered unseen in stage shadow"]);
    let decision = run.hour(hour(1, 0, 0));
    assert_eq!((decision.action, decision.stage.as_str()), (Action::Advanced, "internal"));
    // Staff see it, and nobody else: what was shown unseen is no evidence of what customers are shown.
    let decision = run.hour(Tick { turns: 10, ..Tick::default() });
    assert_eq!((decision.action, decision.stage.as_str()), (Action::Advanced, "p1"));
    let decision = run.hour(Tick { turns: 10, ..Tick::default() });
    let guarded = decision.readings.iter().find(|one| one.metric == Metric::UngroundedDelivered).unwrap();
    assert_eq!((guarded.verdict, guarded.treated.n), (Verdict::Inconclusive, 0));
    assert_eq!(run.state.unseen().treated(Metric::EscalationUnplanned).n, 100);
}

#[test]
fn unseen_answers_that_would_mostly_go_to_a_person_keep_the_stage() {
    let mut run = Run::begin(mirrored());
    let decision = run.hour(hour(100, 31, 0));
    assert_eq!(decision.action, Action::Kept);
    assert_eq!(
        decision.missing,
        ["unseen answers that help: 31 of 100 would go to a person unplanned, allowed 30 %"]
    );
    assert_eq!(run.hour(hour(10, 0, 0)).action, Action::Advanced);
}

#[test]
fn a_guard_of_its_own_measure_rolls_back_before_anybody_is_treated() {
    let mut run = Run::begin(mirrored());
    let decision = run.hour(hour(100, 0, 20));
    assert_eq!((decision.action, decision.phase), (Action::RolledBack, Phase::RolledBack));
    assert!(decision.reasons[0].starts_with("ungrounded_delivered: FAIL"), "{:?}", decision.reasons);
}
