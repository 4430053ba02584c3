//! One set of figures everywhere: the contract, the command line, Prometheus and OpenTelemetry tell what a recount of
//! the raw records tells.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that fails panics")]

mod calls;
mod exposed;
mod recount;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use kit::config::Balance;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::metrics::v1::{metric::Data, number_data_point};
use prost_types::Timestamp;
use proto::telemetry_service_client::TelemetryServiceClient;
use proto::*;
use recount::{Counts, Key, Raw, recount};
use tests::{Collector, Stage, firstline, scrape};

/// Numbers that look random and are the same in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        // Knuth, "The Art of Computer Programming", volume 2, 3.3.4: MMIX.
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}

const INTENTS: [(&str, &str); 4] =
    [("lost_card", "cards"), ("fees", "accounts"), ("transfer", "payments"), ("greeting", "talk")];

/// One turn, somewhat at random, in a conversation of `arm`.
fn turn(dice: &mut Dice, id: String, conversation: usize, arm: Arm, intent: usize) -> Turn {
    let (name, category) = INTENTS[intent];
    let (name, category) = (name.to_owned(), category.to_owned());
    let mut turn = Turn {
        turn_id: id,
        conversation_id: format!("c{conversation}"),
        arm: arm.into(),
        intent: Some(Intent { name, category, confidence: 0.9, ..Intent::default() }),
        cost_usd: dice.below(1000) as f64 / 1024.0,
        ..Turn::default()
    };
    let (classifier, total) = (dice.below(900) as f64 / 8.0, dice.below(9000) as f64);
    turn.timings_ms = [("classifier".to_owned(), classifier), ("total".to_owned(), total)].into();
    let outcome =
        [Outcome::Answered, Outcome::Answered, Outcome::Clarify, Outcome::Blocked, Outcome::Handoff];
    turn.set_outcome(outcome[dice.below(5) as usize]);
    if turn.outcome() == Outcome::Handoff {
        let reasons = [
            HandoffReason::LowConfidence,
            HandoffReason::SafetyPolicy,
            HandoffReason::UserKeyword,
            HandoffReason::HumanPreferred,
            HandoffReason::NoKnowledge,
        ];
        let reason = reasons[dice.below(5) as usize].into();
        turn.handoff = Some(HandoffNotice { reason, ..HandoffNotice::default() });
    }
    turn
}

/// Three hundred conversations of the last twenty hours: handoffs, muted turns, rejected workflows, returns.
fn raw(now: i64) -> Raw {
    let mut dice = Dice(7);
    let mut raw =
        Raw { records: Vec::new(), feedback: Vec::new(), labels: Vec::new(), evaluations: Vec::new() };
    for conversation in 0..300 {
        let arm = if conversation % 3 == 0 { Arm::Control } else { Arm::Treatment };
        let intent = dice.below(4) as usize;
        // Never near the hour after which a conversation counts as closed.
        let ago = if conversation % 10 == 0 { 1200 } else { 7200 + dice.below(60_000) as i64 };
        let customer_hash =
            if conversation % 4 == 0 { String::new() } else { format!("k{}", conversation % 90) };
        for index in 0..=dice.below(3) {
            let mut turn = turn(&mut dice, format!("t{conversation}-{index}"), conversation, arm, intent);
            if conversation % 7 == 0 && turn.outcome() != Outcome::Handoff {
                let (state, awaiting_confirmation) = match index {
                    0 => (ExecutionState::Proposed, true),
                    _ if conversation % 2 == 0 => (ExecutionState::Cancelled, false),
                    _ => (ExecutionState::Done, false),
                };
                turn.workflow = Some(WorkflowStatus {
                    state: state.into(),
                    awaiting_confirmation,
                    ..WorkflowStatus::default()
                });
            }
            let grounding = (turn.outcome() == Outcome::Answered && turn.workflow.is_none()).then(|| {
                let (claims, unsupported) = (4, dice.below(8).saturating_sub(5) as u32);
                let delivered_claims = if dice.below(9) == 0 { 0 } else { claims - unsupported };
                Grounding {
                    claims,
                    unsupported,
                    delivered_claims,
                    delivered_unsupported: 0,
                    judge: "j/1".to_owned(),
                }
            });
            let muted = turn.outcome() == Outcome::Handoff && index > 0 && dice.below(2) == 0;
            if dice.below(6) == 0 {
                let source = if dice.below(2) == 0 { "agent" } else { "customer_choice" }.to_owned();
                let intent = INTENTS[(intent + 1) % 4].0.to_owned();
                let turn_id = turn.turn_id.clone();
                raw.labels.push(SubmitLabelRequest { turn_id, intent, source, disposition: String::new() });
            }
            if grounding.is_some() && dice.below(3) == 0 {
                raw.evaluations.push(Evaluation {
                    turn_id: turn.turn_id.clone(),
                    conversation_id: turn.conversation_id.clone(),
                    name: "groundedness".to_owned(),
                    judge: "llm/1 strict".to_owned(),
                    claims: 3,
                    unsupported: dice.below(8).saturating_sub(5) as u32,
                    calls: vec![ModelCall {
                        cost_usd: dice.below(100) as f64 / 1024.0,
                        price_version: "tiny 1/1/2".to_owned(),
                        ..ModelCall::default()
                    }],
                    category: String::new(),
                });
            }
            raw.records.push(TurnRecord {
                turn: Some(turn),
                accepted_at: Some(Timestamp { seconds: now - ago + 20 * index as i64, nanos: 0 }),
                customer_hash: customer_hash.clone(),
                muted,
                grounding,
                price_version: "tiny 1/1/2".to_owned(),
                ..TurnRecord::default()
            });
        }
        if dice.below(2) == 0 {
            raw.feedback.push(Feedback {
                feedback_id: format!("f{conversation}"),
                conversation_id: format!("c{conversation}"),
                rating: dice.below(6) as u32,
                resolved: [None, Some(true), Some(true), Some(false)][dice.below(4) as usize],
                ..Feedback::default()
            });
        }
    }
    raw
}

async fn send(client: &mut TelemetryServiceClient<kit::Link>, raw: &Raw) {
    for records in raw.records.chunks(100) {
        client.record(RecordRequest { records: records.to_vec() }).await.unwrap();
    }
    for feedback in &raw.feedback {
        let feedback = Some(feedback.clone());
        client.submit_feedback(TelemetryServiceSubmitFeedbackRequest { feedback }).await.unwrap();
    }
    for label in &raw.labels {
        client.submit_label(label.clone()).await.unwrap();
    }
    for evaluation in &raw.evaluations {
        let evaluation = Some(evaluation.clone());
        client.submit_evaluation(SubmitEvaluationRequest { evaluation }).await.unwrap();
    }
}

/// What somebody tells of a figure: by the name of an aspect its number.
type Told = BTreeMap<Key, BTreeMap<&'static str, f64>>;

const LEAST: u64 = 20;

/// Whether everything told is what the recount says; the first difference otherwise.
fn compare(told: &Told, expected: &BTreeMap<Key, Counts>, scale: f64) -> Result<(), String> {
    let keys: Vec<_> = told.keys().filter(|key| key.0 != "csat_delta").collect();
    if !keys.iter().copied().eq(expected.keys()) {
        return Err(format!("told are {keys:?}, not {:?}", expected.keys().collect::<Vec<_>>()));
    }
    for (key, (numerator, n, value)) in expected {
        let told = &told[key];
        let scale = if key.0.starts_with("latency") { scale } else { 1.0 };
        let value = (*n >= LEAST).then_some(value / scale);
        // What a histogram keeps of a time is at most 0.1 % too high.
        let near = |got: f64, exact: f64| (got - exact).abs() <= exact.abs() * 1e-3 + 1e-9;
        let same = match (told.get("value"), value) {
            (Some(got), Some(value)) => near(*got, value),
            (None, None) => true,
            _ => false,
        };
        if !same || told["n"] != *n as f64 || (told["numerator"] - numerator).abs() > 1e-6 {
            return Err(format!("{key:?} is told as {told:?}, counted as {numerator} of {n}, {value:?}"));
        }
        if let (Some(lower), Some(upper)) = (told.get("lower"), told.get("upper")) {
            if key.0 != "latency_p50" && key.0 != "latency_p95" {
                // The ends of Wilson's interval are where the score test is at 1.96.
                for end in [*lower, *upper].into_iter().filter(|end| *end > 1e-9 && *end < 1.0 - 1e-9) {
                    let score = (value.unwrap() - end).abs() / (end * (1.0 - end) / *n as f64).sqrt();
                    if (score - 1.96).abs() > 1e-3 {
                        return Err(format!("{key:?} ends at {end}, where the score is {score}"));
                    }
                }
            }
            if *lower > told["value"] || told["value"] > *upper {
                return Err(format!("{key:?} lies outside its interval: {told:?}"));
            }
        }
    }
    Ok(())
}

fn by_contract(metrics: &Metrics) -> Told {
    let told = metrics.figures.iter().map(|figure| {
        let key = (figure.name.clone(), figure.part.clone(), figure.group.clone());
        let ends = [("value", figure.value), ("lower", figure.lower), ("upper", figure.upper)];
        let ends = ends.into_iter().filter_map(|(aspect, end)| Some((aspect, end?)));
        (key, ends.chain([("n", figure.n as f64), ("numerator", figure.numerator)]).collect())
    });
    told.collect()
}

fn by_command_line(url: &str) -> Told {
    let asked = firstline(&["metrics", "--window", "24h", "--by", "arm", "--json", "--endpoint", url]);
    assert_eq!(asked.code, Some(0), "{}", asked.stderr);
    let value: serde_json::Value = serde_json::from_str(&asked.stdout).unwrap();
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let told = value["figures"].as_array().unwrap().iter().map(|figure| {
        let aspects = ["value", "lower", "upper", "n", "numerator"];
        let told = aspects.into_iter().filter_map(|aspect| Some((aspect, figure[aspect].as_f64()?)));
        ((text(&figure["name"]), text(&figure["part"]), text(&figure["group"])), told.collect())
    });
    told.collect()
}

/// The name of a figure and its aspect, from that of a gauge without its unit.
fn aspect(name: &str, separator: char) -> (String, &'static str) {
    for aspect in ["lower", "upper", "numerator", "n"] {
        if let Some(rest) = name.strip_suffix(aspect).and_then(|rest| rest.strip_suffix(separator)) {
            return (plain(rest), aspect);
        }
    }
    (plain(name), "value")
}

fn plain(name: &str) -> String {
    name.strip_suffix("_usd").unwrap_or(name).to_owned()
}

fn by_prometheus(text: &str) -> Told {
    let mut told = Told::new();
    for line in text.lines() {
        let Some(rest) = line.strip_prefix("firstline_window_") else { continue };
        let (name, rest) = rest.split_once('{').unwrap();
        let (labels, number) = rest.split_once("} ").unwrap();
        let name = ["_ratio", "_seconds"].iter().find_map(|unit| name.strip_suffix(unit)).unwrap_or(name);
        let (name, aspect) = aspect(name, '_');
        let label = |key: &str| {
            labels.split_once(&format!("{key}=\"")).unwrap().1.split_once('"').unwrap().0.to_owned()
        };
        let key = (name, label("part"), label("arm"));
        told.entry(key).or_default().insert(aspect, number.parse().unwrap());
    }
    told
}

fn by_opentelemetry(collector: &Collector) -> Told {
    let mut told = Told::new();
    let scopes = collector.metrics().resource_metrics.into_iter().flat_map(|resource| resource.scope_metrics);
    for metric in scopes.flat_map(|scope| scope.metrics) {
        let Some(name) = metric.name.strip_prefix("firstline.window.") else { continue };
        let Some(Data::Gauge(gauge)) = metric.data else { panic!("{name} is no gauge") };
        let (name, aspect) = aspect(name, '.');
        for point in gauge.data_points {
            let attribute = |key: &str| {
                let found = point.attributes.iter().find(|attribute| attribute.key == key).unwrap();
                match found.value.as_ref().unwrap().value.as_ref().unwrap() {
                    Value::StringValue(text) => text.clone(),
                    other => panic!("{other:?}"),
                }
            };
            let Some(number_data_point::Value::AsDouble(number)) = point.value else { panic!("{point:?}") };
            let key = (name.clone(), attribute("part"), attribute("arm"));
            told.entry(key).or_default().insert(aspect, number);
        }
    }
    told
}

/// Waits until what is told is what was counted.
async fn until(who: &str, expected: &BTreeMap<Key, Counts>, mut told: impl FnMut() -> Told) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while let Err(difference) = compare(&told(), expected, 1000.0) {
        assert!(Instant::now() < deadline, "{who}: {difference}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_contract_the_command_line_prometheus_and_opentelemetry_tell_what_a_recount_tells() {
    let collector = Collector::start().await;
    let stage = Stage::start("telemetry", "metrics_every_s = 1\nmin_n = 20", &collector.url);
    let link = kit::Link::remote(&stage.url(), Balance::Single, &kit::Context::default()).unwrap();
    let mut client = TelemetryServiceClient::new(link);
    let now = jiff::Timestamp::now().as_second();
    let raw = raw(now);
    send(&mut client, &raw).await;
    let expected = recount(&raw, now);
    for name in [
        "escalation",
        "resolution_verified",
        "resolution_reversed",
        "misrouting",
        "correction_rate",
        "groundedness_judged",
    ] {
        let (numerator, n, _) = expected[&(name.to_owned(), String::new(), String::new())];
        assert!(numerator > 0.0 && numerator < n as f64, "{name}: {numerator} of {n} proves little");
    }
    let window = Some(prost_types::Duration { seconds: 86_400, nanos: 0 });
    let request = GetMetricsRequest { window, by: Grouping::Arm.into() };
    let metrics = client.get_metrics(request).await.unwrap().into_inner().metrics.unwrap();
    assert_eq!(metrics.turns as usize, raw.records.len());
    let prices = metrics.figures.iter().find(|figure| figure.name == "cost_per_request").unwrap();
    assert_eq!(prices.price_version, "tiny 1/1/2");
    let judged = metrics.figures.iter().find(|figure| figure.name == "ungrounded_generated").unwrap();
    assert_eq!((judged.judge.as_str(), judged.note.as_str()), ("j/1", "uncorrected"));
    let second = metrics.figures.iter().find(|figure| figure.name == "groundedness_judged").unwrap();
    assert_eq!((second.judge.as_str(), second.note.as_str()), ("llm/1 strict", "uncorrected"));
    compare(&by_contract(&metrics), &expected, 1.0).unwrap();
    let watch = WatchMetricsRequest { window, interval: None, by: Grouping::Arm.into() };
    let mut watched = client.watch_metrics(watch).await.unwrap().into_inner();
    let watched = watched.message().await.unwrap().unwrap().metrics.unwrap();
    compare(&by_contract(&watched), &expected, 1.0).unwrap();
    compare(&by_command_line(&stage.url()), &expected, 1.0).unwrap();
    let table = firstline(&["metrics", "--endpoint", &stage.url()]).stdout;
    let line = |name: &str| table.lines().find(|line| line.trim_start().starts_with(name)).unwrap();
    assert!(
        line("resolution assumed").contains("insufficient: 0 of at least 20"),
        "a day is too short: {table}"
    );
    assert!(line("containment").contains(" % to "), "{table}");
    until("Prometheus", &expected, || by_prometheus(&scrape(stage.admin))).await;
    until("OpenTelemetry", &expected, || by_opentelemetry(&collector)).await;
}
