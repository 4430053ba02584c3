//! The stage as its callers see it: over a link, over HTTP, and across a restart.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that fails panics")]

use std::collections::HashMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use kit::Link;
use prost_types::Timestamp;
use proto::telemetry_service_client::TelemetryServiceClient;
use proto::{
    Arm, ExportRequest, Feedback, GetMetricsRequest, HandoffNotice, HandoffReason, Outcome, RecordRequest,
    SubmitLabelRequest, TelemetryServiceSubmitFeedbackRequest, Turn, TurnRecord, Usage, WatchMetricsRequest,
    WatchTurnsRequest,
};
use telemetry::Config;
use tonic::Code;
use tonic_types::StatusExt as _;

type Client = TelemetryServiceClient<Link>;

fn context(dir: &tempfile::TempDir) -> kit::Context {
    let mut context = kit::Context::default();
    context.server.data_dir = dir.path().to_owned();
    context.server.database.url = scratch::chosen(dir.path()).map(Into::into);
    context
}

async fn client(context: &kit::Context) -> Client {
    let stage = telemetry::service(Config::default(), context.clone()).await.unwrap();
    TelemetryServiceClient::new(Link::local(&stage))
}

fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64
}

/// A record of a turn accepted `age_s` ago.
fn record(turn_id: &str, conversation_id: &str, age_s: i64, outcome: Outcome) -> TurnRecord {
    let turn = Turn {
        turn_id: turn_id.to_owned(),
        conversation_id: conversation_id.to_owned(),
        arm: Arm::Treatment.into(),
        outcome: outcome.into(),
        ..Turn::default()
    };
    let accepted_at = Some(Timestamp { seconds: now() - age_s, nanos: 0 });
    TurnRecord { turn: Some(turn), accepted_at, ..TurnRecord::default() }
}

fn with(mut record: TurnRecord, change: impl FnOnce(&mut Turn)) -> TurnRecord {
    change(record.turn.as_mut().unwrap());
    record
}

fn handoff(turn_id: &str, conversation_id: &str, reason: HandoffReason) -> TurnRecord {
    let notice = HandoffNotice { reason: reason.into(), ..HandoffNotice::default() };
    with(record(turn_id, conversation_id, 60, Outcome::Handoff), |turn| turn.handoff = Some(notice))
}

fn timings(pairs: &[(&str, f64)]) -> HashMap<String, f64> {
    pairs.iter().map(|(stage, millis)| ((*stage).to_owned(), *millis)).collect()
}

/// Four turns of three conversations, with every figure worked out in the tests.
fn fixture() -> Vec<TurnRecord> {
    vec![
        with(record("t1", "a", 100, Outcome::Answered), |turn| {
            turn.cost_usd = 0.5;
            turn.usage = Some(Usage { input_tokens: 900, output_tokens: 40, cached_input_tokens: 0 });
            turn.timings_ms = timings(&[("classifier", 1.25), ("total", 400.0)]);
        }),
        with(handoff("t2", "a", HandoffReason::LowConfidence), |turn| {
            turn.timings_ms = timings(&[("classifier", 0.75), ("total", 20.0)]);
        }),
        with(handoff("t3", "b", HandoffReason::SafetyPolicy), |turn| {
            turn.cost_usd = 0.25;
            turn.timings_ms = timings(&[("classifier", 1.5), ("total", 1000.0)]);
        }),
        with(record("t4", "c", 30, Outcome::Legacy), |turn| turn.arm = Arm::Control.into()),
    ]
}

async fn rate(client: &mut Client, feedback_id: &str, rating: u32) -> Result<(), tonic::Status> {
    let feedback = Feedback {
        feedback_id: feedback_id.to_owned(),
        conversation_id: "a".to_owned(),
        rating,
        ..Feedback::default()
    };
    let request = TelemetryServiceSubmitFeedbackRequest { feedback: Some(feedback) };
    client.submit_feedback(request).await.map(|_| ())
}

async fn metrics(client: &mut Client) -> proto::Metrics {
    client.get_metrics(GetMetricsRequest::default()).await.unwrap().into_inner().metrics.unwrap()
}

async fn check_fixture(client: &mut Client) {
    let figures = metrics(client).await;
    assert_eq!((figures.turns, figures.conversations), (4, 3));
    let outcomes: Vec<_> = figures.outcomes.iter().map(|count| (count.outcome(), count.turns)).collect();
    assert_eq!(outcomes, [(Outcome::Answered, 1), (Outcome::Handoff, 2), (Outcome::Legacy, 1)]);
    assert_eq!(figures.unplanned_escalation_rate, 1.0 / 3.0);
    assert_eq!(figures.planned_escalation_rate, 1.0 / 3.0);
    assert_eq!((figures.cost_usd, figures.cost_per_request_usd), (0.75, 0.1875));
    assert_eq!((figures.csat, figures.ratings), (Some(2.0 / 3.0), 3));
    let [classifier, total] = figures.latencies.as_slice() else { panic!("{:?}", figures.latencies) };
    assert_eq!((classifier.stage.as_str(), classifier.count), ("classifier", 3));
    assert_eq!((classifier.p50_ms, classifier.p95_ms), (1.25, 1.5));
    assert_eq!((total.stage.as_str(), total.count), ("total", 3));
    for (got, exact) in [(total.p50_ms, 400.0), (total.p95_ms, 1000.0)] {
        assert!((exact..=exact * 1.001).contains(&got), "{got} for {exact}");
    }
    assert_eq!(figures.to.unwrap().seconds - figures.from.unwrap().seconds, 3600);
}

#[test]
fn metrics_are_those_worked_out_by_hand_and_the_same_when_all_is_sent_again_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    for _ in 0..2 {
        // A runtime of its own: dropping it is the end of the process as far as the store can tell.
        tokio::runtime::Runtime::new().unwrap().block_on(async {
            let mut client = client(&context(&dir)).await;
            let old = record("old", "z", 2 * 3600, Outcome::Answered);
            for records in [fixture(), vec![old], fixture()] {
                let sent = records.len();
                let response = client.record(RecordRequest { records }).await.unwrap().into_inner();
                assert_eq!(response.stored as usize, sent);
            }
            for (feedback_id, rating) in [("f1", 5), ("f2", 4), ("f3", 2), ("f4", 0), ("f1", 1)] {
                rate(&mut client, feedback_id, rating).await.unwrap();
            }
            check_fixture(&mut client).await;
        });
    }
}

#[tokio::test]
async fn an_empty_store_has_metrics_without_csat() {
    let dir = tempfile::tempdir().unwrap();
    let figures = metrics(&mut client(&context(&dir)).await).await;
    assert_eq!((figures.turns, figures.unplanned_escalation_rate, figures.csat), (0, 0.0, None));
}

#[tokio::test]
async fn prometheus_counts_a_turn_once_however_often_it_is_sent() {
    let dir = tempfile::tempdir().unwrap();
    let context = context(&dir);
    let mut client = client(&context).await;
    let muted = TurnRecord { muted: true, ..handoff("t5", "b", HandoffReason::SafetyPolicy) };
    for _ in 0..3 {
        let records = fixture().into_iter().chain([muted.clone()]).collect();
        client.record(RecordRequest { records }).await.unwrap();
        rate(&mut client, "f1", 5).await.unwrap();
    }
    let text = context.metrics.text().unwrap();
    for line in [
        "firstline_turns_total{arm=\"treatment\",outcome=\"answered\"} 1",
        "firstline_turns_total{arm=\"treatment\",outcome=\"handoff\"} 3",
        "firstline_turns_total{arm=\"control\",outcome=\"legacy\"} 1",
        "firstline_handoffs_total{reason=\"low_confidence\"} 1",
        "firstline_handoffs_total{reason=\"safety_policy\"} 1",
        "firstline_stage_duration_seconds_bucket{stage=\"classifier\",le=\"0.001\"} 1",
        "firstline_stage_duration_seconds_count{stage=\"classifier\"} 3",
        "firstline_stage_duration_seconds_sum{stage=\"total\"} 1.42",
        "firstline_turn_cost_usd_total 0.75",
        "firstline_tokens_total{direction=\"input\"} 900",
        "firstline_tokens_total{direction=\"output\"} 40",
        "firstline_feedback_total{rating=\"5\"} 1",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
}

async fn exported(client: &mut Client, request: ExportRequest) -> Vec<(i64, String)> {
    let mut stream = client.export(request).await.unwrap().into_inner();
    let mut found = Vec::new();
    while let Some(response) = stream.message().await.unwrap() {
        let record = response.record.unwrap();
        found.push((record.accepted_at.unwrap().seconds, record.turn.unwrap().turn_id));
    }
    found
}

#[tokio::test]
async fn an_export_of_5000_records_holds_each_once_oldest_first_also_where_many_share_a_moment() {
    let dir = tempfile::tempdir().unwrap();
    let mut client = client(&context(&dir)).await;
    let start = now() - 3600;
    // 7919 is coprime to 5000, so this visits every index once, out of order; 500 records share a second.
    let mut records = (0..5000).map(|step| {
        let index = step * 7919 % 5000;
        let mut record = record(&format!("t{index:04}"), "a", 0, Outcome::Answered);
        record.accepted_at = Some(Timestamp { seconds: start + index / 500, nanos: 0 });
        record
    });
    let mut sent = Vec::new();
    loop {
        let batch: Vec<_> = records.by_ref().take(500).collect();
        if batch.is_empty() {
            break;
        }
        let keys = |record: &TurnRecord| {
            (record.accepted_at.unwrap().seconds, record.turn.as_ref().unwrap().turn_id.clone())
        };
        sent.extend(batch.iter().map(keys));
        client.record(RecordRequest { records: batch }).await.unwrap();
    }
    // Oldest first, and within a moment in the order of arrival, which the stable sort keeps.
    sent.sort_by_key(|(second, _)| *second);
    assert!(exported(&mut client, ExportRequest::default()).await == sent);
    let at = |seconds| Some(Timestamp { seconds, nanos: 0 });
    let part =
        exported(&mut client, ExportRequest { from: at(start + 2), to: at(start + 5), ..Default::default() })
            .await;
    assert!(part == sent[1000..2500], "from is inclusive, to exclusive");
}

#[tokio::test]
async fn a_slow_watcher_loses_the_oldest_records_and_streams_end_on_shutdown() {
    let dir = tempfile::tempdir().unwrap();
    let context = context(&dir);
    let mut client = client(&context).await;
    let mut turns = client.watch_turns(WatchTurnsRequest {}).await.unwrap().into_inner();
    let mut figures = client.watch_metrics(WatchMetricsRequest::default()).await.unwrap().into_inner();
    for batch in 0..4 {
        let records = (0..500).map(|i| record(&(batch * 500 + i).to_string(), "a", 1, Outcome::Answered));
        client.record(RecordRequest { records: records.collect() }).await.unwrap();
    }
    // 2000 came, 1024 are kept.
    for expected in 976..2000 {
        let response = turns.message().await.unwrap().unwrap();
        assert_eq!(response.record.unwrap().turn.unwrap().turn_id, expected.to_string());
    }
    assert_eq!(figures.message().await.unwrap().unwrap().metrics.unwrap().turns, 2000);
    let mut export = client.export(ExportRequest::default()).await.unwrap().into_inner();
    assert!(export.message().await.unwrap().is_some());
    context.shutdown.cancel();
    assert!(turns.message().await.unwrap().is_none());
    assert!(figures.message().await.unwrap().is_none());
    let cut = loop {
        match export.message().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("a shortened export looks complete"),
            Err(status) => break status,
        }
    };
    assert_eq!(cut.code(), Code::Unavailable);
    context.tasks.close();
    tokio::time::timeout(Duration::from_secs(10), context.tasks.wait()).await.unwrap();
}

#[tokio::test]
async fn bad_requests_name_the_field_and_what_is_allowed_and_store_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut client = client(&context(&dir)).await;
    let good = record("good", "a", 1, Outcome::Answered);
    let bad = |change: fn(&mut Turn)| with(record("bad", "a", 1, Outcome::Answered), change);
    for (record, field) in [
        (TurnRecord::default(), "turn"),
        (TurnRecord { accepted_at: None, ..good.clone() }, "accepted_at"),
        (bad(|turn| turn.turn_id.clear()), "turn.turn_id"),
        (bad(|turn| turn.outcome = 0), "turn.outcome"),
        (bad(|turn| turn.cost_usd = f64::NAN), "turn.cost_usd"),
        (bad(|turn| turn.timings_ms = timings(&[("a,b", 1.0)])), "turn.timings_ms"),
    ] {
        let records = vec![good.clone(), record];
        let status = client.record(RecordRequest { records }).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
        let violation = &status.get_details_bad_request().unwrap().field_violations[0];
        assert_eq!(violation.field, field);
        assert!(violation.description.contains("records[1]"), "{}", violation.description);
    }
    assert_eq!(metrics(&mut client).await.turns, 0);
    let status = rate(&mut client, "f1", 6).await.unwrap_err();
    assert_eq!(status.message(), "feedback.rating: is 6, allowed 1..=5, or 0 for none");
    let label = SubmitLabelRequest {
        turn_id: "t1".to_owned(),
        intent: "x".to_owned(),
        source: String::new(),
        ..Default::default()
    };
    assert_eq!(client.submit_label(label).await.unwrap_err().code(), Code::InvalidArgument);
    for seconds in [0, -5, 90 * 86_400 + 1] {
        let window = Some(prost_types::Duration { seconds, nanos: 0 });
        let status = client.get_metrics(GetMetricsRequest { window, by: 0 }).await.unwrap_err();
        assert!(status.message().ends_with("allowed 1..=7776000 s"), "{}", status.message());
    }
}

#[test]
fn the_numbers_stored_are_those_of_the_contract() {
    use telemetry::record;
    for outcome in record::Outcome::ALL {
        let contract = Outcome::try_from(outcome as i32).unwrap().as_str_name();
        assert_eq!(contract, format!("OUTCOME_{}", outcome.name().to_uppercase()));
    }
    for reason in record::Reason::ALL {
        let contract = HandoffReason::try_from(reason as i32).unwrap().as_str_name();
        assert_eq!(contract, format!("HANDOFF_REASON_{}", reason.name().to_uppercase()));
    }
    assert!(
        Outcome::try_from(8).is_err() && HandoffReason::try_from(17).is_err(),
        "a new one needs a name here"
    );
}
