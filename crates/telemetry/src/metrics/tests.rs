use super::*;
use crate::config::{Config, Judge};
use crate::record::{Arm, Outcome, Reason};

const MINUTE: i64 = 60_000_000;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

fn kind(intent: &str) -> Kind<'_> {
    Kind { arm: Arm::Treatment, category: "cards", intent, model: "" }
}

fn turn(conversation_id: &str, outcome: Outcome, reason: Reason) -> Sample<'_> {
    Sample {
        accepted_us: 0,
        conversation_id,
        kind: kind("lost_card"),
        outcome,
        reason,
        muted: false,
        step: Step::Nothing,
        customer: "",
        grounding: Grounding::default(),
        judge: "",
        prices: "",
        cost_nanos: 0,
        timings_us: Vec::new(),
    }
}

fn answered(conversation_id: &str) -> Sample<'_> {
    turn(conversation_id, Outcome::Answered, Reason::Unspecified)
}

fn handed(conversation_id: &str, reason: Reason) -> Sample<'_> {
    turn(conversation_id, Outcome::Handoff, reason)
}

/// Settings with which one is enough.
fn config() -> Config {
    Config { min_n: 1, ..Config::default() }
}

fn window(turns: &[Sample<'_>], by: By) -> Window {
    let mut window = Window::new(by);
    turns.iter().for_each(|turn| window.add(turn, &config()).unwrap());
    window
}

fn report(turns: &[Sample<'_>]) -> Report {
    window(turns, By::Nothing).report(0, &config())
}

/// Numerator and n of a figure of a group and part.
fn counts(report: &Report, name: &str, group: &str, part: &str) -> (f64, u64) {
    let is = |figure: &&Figure| (figure.name, &*figure.group, &*figure.part) == (name, group, part);
    let figure = report.figures.iter().find(is).unwrap_or_else(|| panic!("no {name} {group} {part}"));
    assert!(
        figure.unit != Unit::Share
            || figure.value == Some(figure.numerator / figure.n as f64)
            || figure.n == 0
    );
    (figure.numerator, figure.n)
}

fn all(report: &Report, name: &str) -> (f64, u64) {
    counts(report, name, "", "")
}

#[test]
fn the_counts_are_shares_of_conversations_not_of_turns_and_muted_turns_are_no_handoffs() {
    let report = report(&[
        answered("a"),
        handed("a", Reason::LowConfidence),
        handed("a", Reason::Loop),
        handed("b", Reason::SafetyPolicy),
        handed("b", Reason::UserKeyword),
        handed("c", Reason::Unspecified),
        turn("d", Outcome::Blocked, Reason::Unspecified),
        answered("e"),
        Sample { muted: true, ..handed("e", Reason::Sentiment) },
    ]);
    let metrics = &report.metrics;
    assert_eq!((metrics.turns, metrics.conversations), (9, 5));
    assert_eq!(metrics.planned_escalation_rate, 0.2); // b
    assert_eq!(metrics.unplanned_escalation_rate, 0.6); // a, b, c: a handoff without a reason is unplanned
    assert_eq!(metrics.outcomes, [(Outcome::Answered, 2), (Outcome::Handoff, 6), (Outcome::Blocked, 1)]);
    assert_eq!(all(&report, "escalation"), (3.0, 5));
    assert_eq!(counts(&report, "escalation", "", "user_keyword"), (1.0, 5));
    let parts = |part: &str| report.figures.iter().any(|figure| figure.part == part);
    assert!(!parts("sentiment"), "the person had it already");
}

#[test]
fn who_wants_a_person_at_once_was_not_tried_to_help_and_a_greeting_is_no_help() {
    let report = report(&[
        handed("at_once", Reason::UserKeyword),
        Sample { kind: kind("greeting"), ..answered("greeted") },
        handed("greeted", Reason::UserRequest),
        answered("tried"),
        handed("tried", Reason::UserRequest),
        handed("chosen", Reason::HumanPreferred),
        answered("helped"),
    ]);
    assert_eq!(all(&report, "escalation"), (1.0, 2));
    assert_eq!(all(&report, "escalation_unplanned"), (1.0, 2));
    assert_eq!(all(&report, "escalation_planned"), (0.0, 2));
    assert_eq!(all(&report, "person_first"), (3.0, 5));
}

fn said(conversation_id: &str, rating: u8, resolved: Option<bool>) -> Rating<'_> {
    Rating { conversation_id, kind: kind("lost_card"), rating, resolved }
}

#[test]
fn a_solution_is_verified_by_the_customers_word_and_taken_back_when_they_return_for_the_same() {
    let at = |conversation_id, customer, intent, day: i64| Sample {
        customer,
        kind: kind(intent),
        accepted_us: day * DAY,
        ..answered(conversation_id)
    };
    let turns = [
        at("returns", "1", "lost_card", 0),
        at("other", "2", "lost_card", 0),
        at("late", "3", "lost_card", 0),
        at("silent", "", "lost_card", 0),
        at("unsolved", "5", "lost_card", 0),
        Sample { accepted_us: DAY, ..handed("person", Reason::NoKnowledge) },
        at("returns again", "1", "lost_card", 6),
        at("other again", "2", "fees", 6),
        at("late again", "3", "lost_card", 8),
    ];
    let mut window = window(&turns, By::Nothing);
    for (conversation, resolved) in
        [("returns", true), ("other", true), ("late", true), ("person", true), ("unsolved", false)]
    {
        window.rate(&said(conversation, 0, Some(resolved)));
    }
    let report = window.report(8 * DAY + 30 * MINUTE, &config());
    assert_eq!(all(&report, "resolution_confirmed"), (3.0, 9));
    assert_eq!(all(&report, "resolution_verified"), (2.0, 9));
    // "silent" alone: the others were spoken of, or are younger than three days, as three of them are.
    assert_eq!(all(&report, "resolution_assumed"), (1.0, 6));
    assert_eq!(all(&report, "resolution_reversed"), (1.0, 4));
    // "late again" is still open.
    assert_eq!(all(&report, "containment"), (7.0, 8));
}

#[test]
fn a_workflow_rejected_at_its_confirmation_and_a_retag_to_another_category_are_misrouted() {
    let flow = |conversation_id, step| Sample {
        step,
        ..turn(conversation_id, Outcome::ActionPending, Reason::Unspecified)
    };
    let turns = [
        flow("rejected", Step::Confirmation),
        answered("rejected"), // a question in between leaves the workflow waiting
        flow("rejected", Step::GivenUp),
        flow("done", Step::Confirmation),
        flow("done", Step::Other),
        flow("left", Step::Other),
        flow("left", Step::GivenUp),
        handed("retagged", Reason::NoKnowledge),
        handed("same", Reason::NoKnowledge),
        Sample { kind: Kind { category: "fees", ..kind("fee") }, ..answered("answered") },
        Sample { kind: kind("stolen_card"), ..answered("answered") },
    ];
    let mut window = window(&turns, By::Nothing);
    for (conversation_id, intent, by_agent) in [
        ("retagged", "fee", true),
        ("same", "stolen_card", true),
        ("answered", "fee", true),
        ("done", "fee", false),
    ] {
        let (turn_id, kind) = (conversation_id, kind("lost_card"));
        window.correct(&Correction { turn_id, conversation_id, kind, intent, by_agent });
        window.correct(&Correction { turn_id, conversation_id, kind, intent, by_agent: false });
    }
    let report = window.report(0, &config());
    assert_eq!(
        all(&report, "misrouting"),
        (2.0, 5),
        "an answered one was not routed, a customer's word is no route"
    );
    assert_eq!(all(&report, "correction_rate"), (5.0, 11), "four labels, each turn once, and a rejection");
}

#[test]
fn a_group_holds_what_happened_in_it_and_many_are_told_apart_until_a_hundred() {
    let of = |conversation, intent| Sample { kind: kind(intent), ..answered(conversation) };
    let turns =
        [of("a", "x"), Sample { kind: kind("y"), ..handed("a", Reason::Loop) }, of("b", "y"), of("c", "")];
    let report = window(&turns, By::Intent).report(0, &config());
    assert_eq!(all(&report, "escalation"), (1.0, 3));
    assert_eq!(counts(&report, "escalation", "x", ""), (0.0, 1));
    assert_eq!(counts(&report, "escalation", "y", ""), (1.0, 2));
    assert_eq!(counts(&report, "escalation", "(none)", ""), (0.0, 1));
    let names: Vec<_> = (0..150).map(|index| format!("i{index}")).collect();
    let turns: Vec<_> = names.iter().map(|name| of(name, name)).collect();
    let report = window(&turns, By::Intent).report(0, &config());
    assert_eq!(counts(&report, "cost_per_request", "i99", "").1, 1);
    assert_eq!(counts(&report, "cost_per_request", "(other)", "").1, 50);
}

fn find(report: &Report, name: &str, part: &str) -> Figure {
    report.figures.iter().find(|figure| figure.name == name && figure.part == part).unwrap().clone()
}

#[test]
fn quantiles_are_by_nearest_rank_with_the_ranks_around_them_and_total_comes_last() {
    let micros: Vec<u64> = (1..=100).map(|step| step * 10).collect();
    let timed =
        |us: &u64| Sample { timings_us: vec![("total", us * 10_000), ("workflow", *us)], ..answered("a") };
    let report = report(&micros.iter().map(timed).collect::<Vec<_>>());
    let latencies = &report.metrics.latencies;
    let [workflow, total] = latencies.as_slice() else { panic!("{latencies:?}") };
    assert_eq!((workflow.stage.as_str(), workflow.count), ("workflow", 100));
    assert_eq!((workflow.p50_ms, workflow.p95_ms), (0.5, 0.95));
    assert_eq!(total.stage, "total");
    for (got, exact) in [(total.p50_ms, 5000.0), (total.p95_ms, 9500.0)] {
        assert!((exact..=exact * 1.001).contains(&got), "{got} for {exact}");
    }
    let median = find(&report, "latency_p50", "workflow");
    // The 40th and the 61st of 100: Dixon and Massey.
    assert_eq!((median.value, median.lower, median.upper, median.n), (Some(0.5), Some(0.4), Some(0.61), 100));
    let [few] = [find(&self::report(&[timed(&7)]), "latency_p95", "workflow")];
    assert_eq!((few.value, few.lower, few.upper), (Some(0.007), None, None));
}

#[test]
fn too_few_are_called_insufficient_and_have_no_value() {
    let config = Config::default();
    let mut window = Window::new(By::Arm);
    let turns: Vec<_> = (0..30).map(|index| index.to_string()).collect();
    turns.iter().take(29).for_each(|id| window.add(&answered(id), &config).unwrap());
    window.rate(&said("1", 5, None));
    let report = window.report(HOUR, &config);
    assert!(
        report.figures.iter().all(|figure| figure.value.is_none() && figure.lower.is_none()),
        "{report:?}"
    );
    assert_eq!(find(&report, "escalation", "").note, "insufficient: 29 of at least 30");
    let mut window = self::window(&[], By::Nothing);
    turns.iter().for_each(|id| window.add(&answered(id), &config).unwrap());
    let escalation = find(&window.report(0, &config), "escalation", "");
    assert_eq!((escalation.value, escalation.lower), (Some(0.0), Some(0.0)));
    assert!(escalation.upper.unwrap() > 0.1, "none of thirty is no proof of none");
    assert_eq!(self::report(&[]).metrics.csat, None);
}

#[test]
fn satisfaction_of_both_arms_is_compared_and_said_to_be_biased_where_they_answer_differently() {
    let compare = |rated: usize| {
        let ids: Vec<_> = (0..100).map(|index| index.to_string()).collect();
        let mut window = Window::new(By::Arm);
        for (index, id) in ids.iter().enumerate() {
            let arm = if index < 50 { Arm::Treatment } else { Arm::Control };
            let kind = Kind { arm, ..kind("lost_card") };
            window.add(&Sample { kind, ..answered(id) }, &config()).unwrap();
            if index < rated.min(50) || (50..90).contains(&index) {
                window.rate(&Rating { kind, ..said(id, if index % 4 == 0 { 1 } else { 5 }, None) });
            }
        }
        let report = window.report(0, &config());
        report.figures.into_iter().find(|figure| figure.name == "csat_delta").unwrap()
    };
    let (fair, biased) = (compare(40), compare(12));
    assert_eq!(fair.value, Some(0.0));
    let interval = stats::newcombe(
        stats::Share { hits: 30, n: 40 },
        stats::Share { hits: 30, n: 40 },
        stats::Confidence::TwoSided95,
    );
    assert_eq!(fair.lower.zip(fair.upper), interval.map(|interval| (interval.lower, interval.upper)));
    assert_eq!(fair.note, "rated: 40 of 50 and 40 of 50 conversations");
    assert!(biased.note.ends_with("; biased: the arms answer at different rates"), "{}", biased.note);
}

#[test]
fn the_judges_error_is_taken_out_where_it_is_known_and_a_weak_judge_is_refused() {
    let written = |unsupported| Sample {
        grounding: Grounding {
            claims: 4,
            unsupported,
            delivered_claims: 4 - unsupported,
            delivered_unsupported: 0,
        },
        judge: "support/1 at 0.4",
        ..answered("a")
    };
    let turns: Vec<_> = (0..100).map(|index| written(u32::from(index < 24))).collect();
    let with = |judge| {
        let report = window(&turns, By::Nothing).report(0, &Config { judge, ..config() });
        find(&report, "ungrounded_generated", "")
    };
    let raw = with(Judge::default());
    assert_eq!((raw.value, raw.numerator, raw.n), (Some(0.24), 24.0, 100));
    assert_eq!((raw.note.as_str(), raw.judge.as_str()), ("uncorrected", "support/1 at 0.4"));
    let good =
        Judge { sensitivity: 0.8, specificity: 0.9, labelled_unsupported: 100, labelled_supported: 100 };
    let corrected = with(good);
    assert!((corrected.value.unwrap() - 0.2).abs() < 1e-12, "{corrected:?}");
    assert_eq!(corrected.note, "corrected for the judge's error, 0.240 before");
    let weak = with(Judge { sensitivity: 0.5, specificity: 0.7, ..good });
    assert_eq!((weak.value, weak.n), (None, 100));
    assert!(weak.note.starts_with("refused: "), "{}", weak.note);
    let report = report(&turns);
    assert_eq!(all(&report, "groundedness_generated"), (376.0, 400));
    assert_eq!(all(&report, "groundedness_delivered"), (376.0, 376));
}

#[test]
fn what_is_stored_of_a_turn_comes_back_and_turns_of_before_there_were_details_too() {
    let row = crate::record::Row {
        turn_id: "t".to_owned(),
        conversation_id: "c 7".to_owned(),
        accepted_us: 5,
        outcome: Outcome::Handoff,
        reason: Reason::Loop,
        arm: Arm::Control,
        intent: String::new(),
        category: String::new(),
        confidence: 0.0,
        bundle: String::new(),
        model: String::new(),
        input_tokens: 0,
        output_tokens: 0,
        cost_nanos: 1200,
        timings_us: vec![("classifier".to_owned(), 1250), ("total".to_owned(), 400_000)],
        muted: true,
        step: Step::GivenUp,
        customer_hash: "9f3c".to_owned(),
        unseen: false,
        exposure: None,
        calls: Vec::new(),
        saved: Vec::new(),
        drawn: None,
        grounding: Grounding { claims: 5, unsupported: 1, delivered_claims: 4, delivered_unsupported: 2 },
        judge: "support/1 at 0.4".to_owned(),
        prices: "gpt 1/1/2".to_owned(),
        encoded: Vec::new(),
    };
    let (text, details) = (sample::render(&row), sample::render_details(&row));
    let back = sample::parse(5, &text, &details, kind("")).unwrap();
    assert_eq!((back.conversation_id, back.outcome, back.reason), ("c 7", row.outcome, row.reason));
    assert_eq!(
        (back.muted, back.step, back.customer, back.grounding),
        (true, row.step, "9f3c", row.grounding)
    );
    assert_eq!((back.judge, back.prices, back.cost_nanos), (&*row.judge, &*row.prices, 1200));
    assert_eq!(back.timings_us, [("classifier", 1250), ("total", 400_000)]);
    let old = sample::parse(5, &text, "", kind("")).unwrap();
    assert_eq!((old.muted, old.step, old.timings_us), (false, Step::Nothing, back.timings_us));
    assert!(sample::parse(5, &text, "1 9 0 0 0 0 x\u{1e}\u{1e}", kind("")).is_none());
}
