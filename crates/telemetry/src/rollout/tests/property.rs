use proptest::prelude::*;

use super::*;

fn any_tick() -> impl Strategy<Value = Tick> {
    let share = prop_oneof![Just(1000_u32), Just(5000), Just(95_000)];
    let counts = (0_u64..200, 0_u64..40, 0_u64..400);
    let rest = (0_u64..3, 0_u64..30, any::<bool>(), 0_u64..60);
    (share, counts, rest).prop_map(|(share, (n, treated, control), (turns, failed, fault, cost))| {
        let row = |metric, seen| Matured {
            metric,
            share,
            sticky: failed > 15,
            treated: seen,
            control: Seen { n: 400, events: control, rated: 0 },
        };
        Tick {
            turns,
            exposed: vec![Exposed {
                stage: "p1".to_owned(),
                share,
                sticky: true,
                treated: n,
                control: n * 19,
            }],
            matured: vec![
                row(Metric::EscalationUnplanned, Seen { n, events: treated, rated: 0 }),
                row(Metric::LatencyOverSla, Seen { n, events: treated / 8, rated: 0 }),
            ],
            cost: Cost { turns: 10, nanos: cost * 10_000_000 },
            last: Failures { turns: failed, failed: failed / 3 },
            incidents: u64::from(n == 7),
            strangers: u64::from(n == 8),
            fault: if fault && n % 4 == 0 { "gone".to_owned() } else { String::new() },
            ..Tick::default()
        }
    })
}

fn any_entry() -> impl Strategy<Value = Entry> {
    let orders = [Order::Approve, Order::Hold, Order::Release, Order::Abort, Order::Rearm];
    prop_oneof![
        20 => any_tick().prop_map(Entry::Observed),
        2 => proptest::sample::select(orders.to_vec()).prop_map(ordered),
        1 => Just(applied(plan())),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]
    #[test]
    fn the_share_never_rises_on_harm_doubt_or_ignorance(
        entries in prop::collection::vec((any_entry(), 0_i64..40), 1..80),
    ) {
        let (mut state, first) = State::begin(0, &applied(plan())).unwrap();
        let (mut at_us, mut last, mut log) = (0, first, Vec::new());
        for (entry, hours) in entries {
            at_us += hours * HOUR / 2;
            let before = state.clone();
            let Ok(decision) = state.step(at_us, &entry) else {
                prop_assert_eq!(state.version(), before.version());
                continue;
            };
            let acting = || decision.readings.iter().filter(|reading| !reading.dry_run);
            let of = |verdict| acting().filter(|reading| reading.verdict == verdict).count();
            if decision.share > last.share {
                let Entry::Observed(tick) = &entry else { panic!("{entry:?} raised the share") };
                prop_assert!(matches!(decision.action, Action::Advanced | Action::SteppedUp));
                prop_assert!(tick.fault.is_empty() && tick.turns > 0 && tick.incidents == 0 && tick.strangers == 0);
                prop_assert_eq!(of(Verdict::Fail) + of(Verdict::Error), 0);
                prop_assert!(last.share == 0 || of(Verdict::Inconclusive) == 0);
            }
            let harm = acting().any(|reading| reading.verdict == Verdict::Fail && reading.action == Do::Rollback);
            if harm {
                prop_assert_eq!((decision.share, decision.phase), (0, Phase::RolledBack));
            }
            let same = (decision.share, decision.phase, &decision.stage) == (last.share, last.phase, &last.stage);
            prop_assert!(decision.version >= last.version);
            prop_assert!(same || decision.version > last.version);
            prop_assert!(decision.fallback <= decision.share);
            log.push((at_us, serde_json::to_string(&entry).unwrap(), serde_json::to_string(&decision).unwrap()));
            last = decision;
        }
        // The log alone leads to the same decisions, bit for bit.
        let (mut state, _) = State::begin(0, &applied(plan())).unwrap();
        for (at_us, entry, decision) in log {
            let again = state.step(at_us, &serde_json::from_str(&entry).unwrap()).unwrap();
            prop_assert_eq!(serde_json::to_string(&again).unwrap(), decision);
        }
    }
}
