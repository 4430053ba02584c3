//! The figures once more, from the raw records, as plainly as it goes.

use std::collections::{BTreeMap, BTreeSet};

use proto::{Arm, Evaluation, Feedback, HandoffReason, Outcome, SubmitLabelRequest, TurnRecord};

/// What was sent.
pub struct Raw {
    pub records: Vec<TurnRecord>,
    pub feedback: Vec<Feedback>,
    pub labels: Vec<SubmitLabelRequest>,
    pub evaluations: Vec<Evaluation>,
}

/// Name, part and arm of a figure.
pub type Key = (String, String, String);

/// Numerator, n and value, also where there are too few.
pub type Counts = (f64, u64, f64);

const PLANNED: [HandoffReason; 4] = [
    HandoffReason::SafetyPolicy,
    HandoffReason::HumanPreferred,
    HandoffReason::Budget,
    HandoffReason::IntentPolicy,
];

fn seconds(record: &TurnRecord) -> i64 {
    record.accepted_at.as_ref().unwrap().seconds
}

fn turn(record: &TurnRecord) -> &proto::Turn {
    record.turn.as_ref().unwrap()
}

/// The reason of a handoff that is one of its own.
fn handed(record: &TurnRecord) -> Option<HandoffReason> {
    let handed = turn(record).outcome() == Outcome::Handoff && !record.muted;
    handed.then(|| turn(record).handoff.as_ref().unwrap().reason())
}

fn tried(record: &TurnRecord) -> bool {
    use HandoffReason::{HumanPreferred, UserKeyword, UserRequest};
    let greets = turn(record).intent.as_ref().is_some_and(|intent| intent.name == "greeting");
    let greeted = greets && turn(record).outcome() == Outcome::Answered;
    !record.muted && !greeted && !matches!(handed(record), Some(UserKeyword | UserRequest | HumanPreferred))
}

/// Every figure of all turns and of both arms, at a moment in Unix seconds.
pub fn recount(raw: &Raw, now: i64) -> BTreeMap<Key, Counts> {
    let mut figures = BTreeMap::new();
    for (group, arm) in [("", None), ("control", Some(Arm::Control)), ("treatment", Some(Arm::Treatment))] {
        let within = |record: &&TurnRecord| arm.is_none_or(|arm| turn(record).arm() == arm);
        let mut records: Vec<&TurnRecord> = raw.records.iter().filter(within).collect();
        records.sort_by_key(|record| seconds(record));
        let mut put = |name: &str, part: &str, numerator: f64, n: usize| {
            let key = (name.to_owned(), part.to_owned(), group.to_owned());
            figures.insert(key, (numerator, n as u64, numerator / n as f64));
        };
        let of = |said: &&Evaluation| records.iter().any(|record| turn(record).turn_id == said.turn_id);
        let judged: Vec<_> = raw.evaluations.iter().filter(of).collect();
        let (claims, bad) =
            judged.iter().fold((0, 0), |sum, one| (sum.0 + one.claims, sum.1 + one.unsupported));
        put("groundedness_judged", "", f64::from(claims - bad), claims as usize);
        let cost: f64 = records.iter().map(|record| turn(record).cost_usd).sum();
        let cost = cost + judged.iter().flat_map(|one| &one.calls).map(|call| call.cost_usd).sum::<f64>();
        turns(&records, cost, &mut put);
        let ids: BTreeSet<&str> = records.iter().map(|record| &*turn(record).conversation_id).collect();
        let said: Vec<_> = raw.feedback.iter().filter(|said| ids.contains(&*said.conversation_id)).collect();
        let rated: Vec<_> = said.iter().filter(|said| said.rating > 0).collect();
        put("csat", "", rated.iter().filter(|said| said.rating > 3).count() as f64, rated.len());
        conversations(&records, &said, &raw.labels, (now, cost), &mut put);
        let mut stages: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
        for record in records.iter().filter(|record| !record.muted) {
            turn(record).timings_ms.iter().for_each(|(stage, ms)| stages.entry(stage).or_default().push(*ms));
        }
        for (stage, mut times) in stages {
            times.sort_by(f64::total_cmp);
            for (name, share) in [("latency_p50", 0.5), ("latency_p95", 0.95)] {
                let nearest = times[(times.len() as f64 * share).ceil() as usize - 1];
                let key = (name.to_owned(), stage.to_owned(), group.to_owned());
                figures.insert(key, (times.len() as f64, times.len() as u64, nearest));
            }
        }
    }
    figures
}

type Put<'a> = dyn FnMut(&str, &str, f64, usize) + 'a;

/// What is counted by turns.
fn turns(records: &[&TurnRecord], cost: f64, put: &mut Put<'_>) {
    put("cost_per_request", "", cost, records.len());
    let all: Vec<_> = records.iter().filter_map(|record| record.grounding.as_ref()).collect();
    let written: Vec<_> = all.iter().map(|one| (one.claims, one.unsupported)).collect();
    let delivered: Vec<_> = all
        .iter()
        .map(|one| (one.delivered_claims, one.delivered_unsupported))
        .filter(|one| one.0 > 0)
        .collect();
    for (kind, answers) in [("generated", written), ("delivered", delivered)] {
        let (claims, bad) = answers.iter().fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
        put(&format!("groundedness_{kind}"), "", f64::from(claims - bad), claims as usize);
        let with = answers.iter().filter(|one| one.1 > 0).count();
        put(&format!("ungrounded_{kind}"), "", with as f64, answers.len());
    }
}

/// What is counted by conversations.
fn conversations(
    records: &[&TurnRecord],
    said: &[&Feedback],
    labels: &[SubmitLabelRequest],
    (now, cost): (i64, f64),
    put: &mut Put<'_>,
) {
    let mut all: BTreeMap<&str, Vec<&TurnRecord>> = BTreeMap::new();
    records.iter().for_each(|record| all.entry(&turn(record).conversation_id).or_default().push(record));
    let has_tried = |turns: &&Vec<&TurnRecord>| turns.iter().any(|record| tried(record));
    let helped: Vec<_> = all.values().filter(has_tried).collect();
    let escalated = |turns: &Vec<&TurnRecord>| turns.iter().any(|record| handed(record).is_some());
    let quiet = |turns: &Vec<&TurnRecord>, hours: i64| now - seconds(turns.last().unwrap()) >= hours * 3600;
    let count = |of: &dyn Fn(&Vec<&TurnRecord>) -> bool| helped.iter().filter(|turns| of(turns)).count();
    let n = helped.len();
    let of = |turns: &Vec<&TurnRecord>| turn(turns[0]).conversation_id.clone();
    let rated = |turns: &Vec<&TurnRecord>| {
        said.iter().any(|said| said.conversation_id == of(turns) && said.rating > 0)
    };
    put("response_rate", "", count(&rated) as f64, n);
    let wanted = |turns: &&Vec<&TurnRecord>| {
        let first = turns.iter().position(|record| tried(record)).unwrap_or(turns.len());
        turns[..first].iter().any(|record| handed(record).is_some())
    };
    put("person_first", "", all.values().filter(wanted).count() as f64, all.len());
    let reasons =
        |turns: &Vec<&TurnRecord>| turns.iter().filter_map(|record| handed(record)).collect::<Vec<_>>();
    put("escalation", "", count(&escalated) as f64, n);
    for reason in helped.iter().flat_map(|turns| reasons(turns)).collect::<BTreeSet<_>>() {
        let part = reason.as_str_name().trim_start_matches("HANDOFF_REASON_").to_lowercase();
        put("escalation", &part, count(&|turns| reasons(turns).contains(&reason)) as f64, n);
    }
    let planned = |turns: &Vec<&TurnRecord>| reasons(turns).iter().any(|reason| PLANNED.contains(reason));
    let unplanned = |turns: &Vec<&TurnRecord>| reasons(turns).iter().any(|reason| !PLANNED.contains(reason));
    put("escalation_planned", "", count(&planned) as f64, n);
    put("escalation_unplanned", "", count(&unplanned) as f64, n);
    let contained = |turns: &Vec<&TurnRecord>| !escalated(turns) && quiet(turns, 1);
    put("containment", "", count(&contained) as f64, count(&|turns| quiet(turns, 1)));

    let solved = |turns: &Vec<&TurnRecord>| {
        said.iter().filter(|said| said.conversation_id == of(turns)).find_map(|said| said.resolved)
    };
    let intents = |turns: &Vec<&TurnRecord>| -> Vec<String> {
        let named =
            turns.iter().filter(|record| !record.muted).filter_map(|record| turn(record).intent.as_ref());
        named.map(|intent| intent.name.clone()).filter(|name| !name.is_empty()).collect()
    };
    let returned = |turns: &Vec<&TurnRecord>| {
        let (customer, last) = (&turns[0].customer_hash, turns.last().unwrap());
        all.values().any(|other| {
            let after = seconds(other[0]) - seconds(last);
            !customer.is_empty()
                && other[0].customer_hash == *customer
                && (1..=7 * 86_400).contains(&after)
                && intents(other).first() == intents(turns).last()
        })
    };
    let confirmed = |turns: &Vec<&TurnRecord>| !escalated(turns) && solved(turns) == Some(true);
    let assumed = |turns: &Vec<&TurnRecord>| !escalated(turns) && solved(turns).is_none() && quiet(turns, 72);
    let verified = count(&|turns| confirmed(turns) && !returned(turns));
    put("resolution_confirmed", "", count(&confirmed) as f64, n);
    put("resolution_assumed", "", count(&assumed) as f64, count(&|turns| quiet(turns, 72)));
    put("resolution_verified", "", verified as f64, n);
    let solved_somehow = |turns: &Vec<&TurnRecord>| confirmed(turns) || assumed(turns);
    let reversed = count(&|turns| solved_somehow(turns) && returned(turns));
    put("resolution_reversed", "", reversed as f64, count(&solved_somehow));
    put("cost_per_conversation", "", cost, all.len());
    put("cost_per_verified_resolution", "", cost, verified);

    let labelled = |record: &TurnRecord, agent: bool| {
        let intent = turn(record).intent.as_ref().map_or("", |intent| &intent.name);
        labels.iter().any(|label| {
            let counts = label.source == "agent" || !agent && label.source == "customer_choice";
            counts && label.turn_id == turn(record).turn_id && label.intent != intent && !intent.is_empty()
        })
    };
    let understood: Vec<_> = records
        .iter()
        .filter(|record| {
            !record.muted && turn(record).intent.as_ref().is_some_and(|intent| !intent.name.is_empty())
        })
        .collect();
    let rejected = |turns: &Vec<&TurnRecord>| {
        let flows: Vec<_> = turns.iter().filter_map(|record| turn(record).workflow.as_ref()).collect();
        flows
            .windows(2)
            .filter(|pair| {
                pair[0].awaiting_confirmation && pair[1].state() == proto::ExecutionState::Cancelled
            })
            .count()
    };
    let rejections: usize = all.values().map(&rejected).sum();
    let corrected = understood.iter().filter(|record| labelled(record, false)).count();
    put("correction_rate", "", (corrected + rejections) as f64, understood.len());
    // The turns of these tests have no question, so that none is drawn; what is drawn has a test in telemetry.
    put("intent_accuracy", "", 0.0, 0);
    let routed = |turns: &Vec<&TurnRecord>| {
        escalated(turns) || turns.iter().any(|record| turn(record).workflow.is_some())
    };
    // Every label of these tests names an intent of another category.
    let wrong = |turns: &Vec<&TurnRecord>| {
        routed(turns) && (rejected(turns) > 0 || turns.iter().any(|record| labelled(record, true)))
    };
    put("misrouting", "", count(&wrong) as f64, count(&routed));
}
