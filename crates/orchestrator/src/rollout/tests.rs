use stats::BUCKETS;

use super::*;

fn plan(share: u32) -> RolloutPlan {
    RolloutPlan {
        rollout_id: "r".into(),
        version: 3,
        epoch: 1,
        salt: "s".into(),
        stage: "p5".into(),
        share,
        fallback_share: share / 5,
        audiences: vec![proto::RolloutAudience { name: "staff".into(), share: BUCKETS }],
        categories: vec!["cards".into()],
        max_risk: proto::Risk::Medium.into(),
        interval: Some(prost_types::Duration { seconds: 60, nanos: 0 }),
        phase: RolloutPhase::Running.into(),
        ..RolloutPlan::default()
    }
}

fn intent(category: &str, risk: proto::Risk) -> Intent {
    Intent {
        category: category.into(),
        risk: risk.into(),
        decision: IntentDecision::Accept.into(),
        ..Intent::default()
    }
}

fn asked<'a>(key: &'a str, intent: &'a Intent, arm: Arm) -> Asked<'a> {
    Asked { key, conversation_id: key, audience: "", intent: Some(intent), arm, in_workflow: false }
}

#[test]
fn a_conversation_is_exposed_once_and_stays_in_control_when_the_share_rises() {
    let cards = intent("cards", proto::Risk::Low);
    let (bucket_of, key) = (bucket("s", "c1"), "c1");
    let first = assign(&plan(bucket_of), bucket_of, &asked(key, &cards, Arm::Unspecified));
    let exposure = first.exposure.unwrap();
    assert_eq!((first.arm, exposure.treated, exposure.share), (Arm::Control, false, bucket_of));
    let more = bucket_of + 1;
    let later = assign(&plan(more), more, &asked(key, &cards, Arm::Control));
    assert_eq!((later.arm, later.exposure), (Arm::Control, None));
    // Another conversation of the same customer is treated now, and back in control when the share falls.
    let other = assign(&plan(more), more, &asked(key, &cards, Arm::Unspecified));
    assert_eq!((other.arm, other.exposure.unwrap().treated), (Arm::Treatment, true));
    assert_eq!(assign(&plan(0), 0, &asked(key, &cards, Arm::Treatment)).arm, Arm::Control);
    assert_eq!(assign(&plan(0), 0, &asked(key, &cards, Arm::Unspecified)).exposure, None);
}

#[test]
fn only_eligible_conversations_enter_an_arm() {
    for (category, risk) in
        [("fraud", proto::Risk::Low), ("cards", proto::Risk::High), ("cards", proto::Risk::Unspecified)]
    {
        let intent = intent(category, risk);
        let assigned = assign(&plan(BUCKETS), BUCKETS, &asked("c1", &intent, Arm::Unspecified));
        assert_eq!((assigned.arm, assigned.exposure), (Arm::Control, None), "{category} {risk:?}");
    }
    // A question out of scope goes on in the arm of the conversation, but puts none into one.
    let unknown = Intent { decision: IntentDecision::OutOfScope.into(), ..intent("cards", proto::Risk::Low) };
    for (arm, then) in [(Arm::Unspecified, Arm::Control), (Arm::Treatment, Arm::Treatment)] {
        let assigned = assign(&plan(BUCKETS), BUCKETS, &asked("c1", &unknown, arm));
        assert_eq!((assigned.arm, assigned.exposure), (then, None));
    }
}

#[test]
fn an_audience_is_treated_whatever_the_share_but_not_after_a_rollback() {
    let cards = intent("cards", proto::Risk::Low);
    let staff = Asked { audience: "staff", ..asked("c1", &cards, Arm::Unspecified) };
    let assigned = assign(&plan(0), 0, &staff);
    assert_eq!((assigned.arm, assigned.exposure.unwrap().share), (Arm::Treatment, BUCKETS));
    let mut gone = plan(0);
    gone.set_phase(RolloutPhase::RolledBack);
    assert_eq!(assign(&gone, 0, &staff).arm, Arm::Control);
}

#[test]
fn without_a_word_of_the_controller_the_share_only_falls() {
    let second = Duration::from_secs(1);
    assert_eq!(share(&plan(5000), 241 * second), 5000);
    assert_eq!(share(&plan(5000), 242 * second), 1000);
    let mut wrong = plan(100);
    wrong.fallback_share = 5000;
    assert_eq!(share(&wrong, 242 * second), 100);
    wrong.set_phase(RolloutPhase::RolledBack);
    assert_eq!(share(&wrong, Duration::ZERO), 0);
    let rollout = Rollout::new(Some(plan(5000)), true, 0.02);
    assert!(!rollout.hear(RolloutPlan { version: 2, ..plan(90_000) }), "an older plan is not followed");
    let cards = intent("cards", proto::Risk::Low);
    let shares = (0..1000)
        .map(|n| format!("c{n}"))
        .filter(|key| rollout.assign(&asked(key, &cards, Arm::Unspecified)).arm == Arm::Treatment);
    let expected = (0..1000).filter(|n| bucket("s", &format!("c{n}")) < 2000).count();
    assert_eq!(shares.count(), expected, "the installation's own limit holds");
}

#[test]
fn nobody_is_treated_before_a_plan_is_known_and_nobody_is_left_in_a_workflow() {
    let cards = intent("cards", proto::Risk::Low);
    let rollout = Rollout::new(None, true, 1.0);
    assert_eq!(rollout.assign(&asked("c1", &cards, Arm::Unspecified)).arm, Arm::Control);
    let none = Rollout::new(None, false, 1.0);
    assert_eq!(none.assign(&asked("c1", &cards, Arm::Unspecified)).arm, Arm::Treatment);
    let mut gone = plan(0);
    gone.set_phase(RolloutPhase::RolledBack);
    let rollout = Rollout::new(Some(gone), true, 1.0);
    let working = Asked { in_workflow: true, ..asked("c1", &cards, Arm::Treatment) };
    assert_eq!(rollout.assign(&working).arm, Arm::Treatment);
    assert_eq!(rollout.assign(&asked("c1", &cards, Arm::Treatment)).arm, Arm::Control);
}

#[test]
fn a_conversation_of_the_menu_is_answered_unseen_once_and_not_without_a_controller() {
    let cards = intent("cards", proto::Risk::Low);
    let mirrored =
        RolloutPlan { mirror_share: 20_000, mirror_usd_per_day: 5.0, audiences: Vec::new(), ..plan(0) };
    let rollout = Rollout::new(Some(mirrored.clone()), true, 1.0);
    let assigned = |key: &str, arm| rollout.assign(&asked(key, &cards, arm));
    let unseen: Vec<_> = (0..1000)
        .map(|n| format!("c{n}"))
        .filter(|key| {
            let Assigned { arm, exposure, mirrored, .. } = assigned(key, Arm::Unspecified);
            assert_eq!((arm, exposure), (Arm::Control, None));
            mirrored.is_some()
        })
        .collect();
    assert!((160..240).contains(&unseen.len()), "{}", unseen.len());
    let first = assigned(&unseen[0], Arm::Unspecified).mirrored.unwrap();
    assert_eq!((first.exposure.share, first.exposure.treated, first.usd_per_day), (0, true, 5.0));
    assert_eq!(assigned(&unseen[0], Arm::Control).mirrored, None, "later messages answer what the menu said");
    // Those are not the ones who will be treated first.
    assert!(unseen.iter().any(|key| bucket("s", key) > 20_000));
    let high = intent("cards", proto::Risk::High);
    assert_eq!(rollout.assign(&asked(&unseen[0], &high, Arm::Unspecified)).mirrored, None);
    assert!(is_silent(&mirrored, Duration::from_secs(242)));
    let mut gone = mirrored;
    gone.set_phase(RolloutPhase::RolledBack);
    let rollout = Rollout::new(Some(gone), true, 1.0);
    assert_eq!(rollout.assign(&asked(&unseen[0], &cards, Arm::Unspecified)).mirrored, None);
}

#[test]
fn a_workflow_is_in_the_rollout_as_long_as_its_category_is() {
    let rollout = Rollout::new(Some(plan(5000)), true, 1.0);
    assert!(rollout.has("cards", Risk::Medium));
    assert!(!rollout.has("cards", Risk::High) && !rollout.has("loans", Risk::Low));
    let mut gone = plan(5000);
    (gone.version, gone.phase) = (4, RolloutPhase::RolledBack.into());
    rollout.hear(gone);
    assert!(!rollout.has("cards", Risk::Low));
    assert!(Rollout::new(None, false, 1.0).has("cards", Risk::High), "without a rollout everything is");
    let models = RolloutPlan { compares: RolloutCompares::Model.into(), ..plan(0) };
    let rollout = Rollout::new(Some(models), false, 1.0);
    assert!(rollout.compares_models() && rollout.has("loans", Risk::High), "where models are compared, too");
    assert!(!Rollout::new(None, true, 1.0).has("cards", Risk::Low));
}
