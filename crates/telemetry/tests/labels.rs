//! What people say of turns, as the stage takes it: feedback, and labels of turns that were drawn.
#![expect(clippy::unwrap_used, reason = "a test that fails panics")]

use std::time::SystemTime;

use kit::Link;
use proto::telemetry_service_client::TelemetryServiceClient;
use proto::{
    AuditItem, Evaluation, ExportRequest, Feedback, ForgetConversationsRequest, GetMetricsRequest, Intent,
    IntentDecision, Label, LabelAuditRequest, ListFeedbackRequest, ModelCall, ModelPurpose, NextAuditRequest,
    Outcome, RecordRequest, SubmitEvaluationRequest, TelemetryServiceSubmitFeedbackRequest, Turn, TurnRecord,
};
use telemetry::Config;
use telemetry::config::Audit;
use tonic::Code;

async fn client(dir: &tempfile::TempDir, audit: Audit) -> TelemetryServiceClient<Link> {
    let mut context = kit::Context::default();
    context.server.data_dir = dir.path().to_owned();
    context.server.database.url = scratch::chosen(dir.path()).map(Into::into);
    let config = Config { audit, ..Config::default() };
    let stage = telemetry::service(config, context.clone()).await.unwrap();
    TelemetryServiceClient::new(Link::local(&stage))
}

/// A record of a turn accepted `age_s` ago.
fn record(turn_id: &str, age_s: u64, question: &str) -> TurnRecord {
    let turn = Turn {
        turn_id: turn_id.to_owned(),
        conversation_id: "a".to_owned(),
        outcome: Outcome::Answered.into(),
        ..Turn::default()
    };
    let at = SystemTime::now() - std::time::Duration::from_secs(age_s);
    let (turn, accepted_at, question) = (Some(turn), Some(at.into()), question.to_owned());
    TurnRecord { turn, accepted_at, question, ..TurnRecord::default() }
}

#[tokio::test]
async fn feedback_on_what_nobody_knows_is_kept_and_of_a_turn_needs_its_id() {
    let dir = tempfile::tempdir().unwrap();
    let mut client = client(&dir, Audit::default()).await;
    let said = Feedback {
        feedback_id: "f1".to_owned(),
        conversation_id: "unknown".to_owned(),
        turn_id: "t9".to_owned(),
        demonstration: "Use the app.".to_owned(),
        intent: "card_arrival".to_owned(),
        ..Feedback::default()
    };
    let again = Feedback { demonstration: "Something else.".to_owned(), ..said.clone() };
    for feedback in [&said, &again] {
        let request = TelemetryServiceSubmitFeedbackRequest { feedback: Some(feedback.clone()) };
        client.submit_feedback(request).await.unwrap();
    }
    let request = ListFeedbackRequest { conversation_id: "unknown".to_owned() };
    assert_eq!(
        client.list_feedback(request).await.unwrap().into_inner().feedback,
        std::slice::from_ref(&said)
    );
    // The turn comes late, and is told with what was said of it.
    let mut late = record("t9", 5, "where is my card?");
    late.turn.as_mut().unwrap().conversation_id = "unknown".to_owned();
    client.record(RecordRequest { records: vec![late, record("t8", 4, "and the other?")] }).await.unwrap();
    let request = ExportRequest { with_said: true, ..ExportRequest::default() };
    let mut exported = client.export(request).await.unwrap().into_inner();
    let first = exported.message().await.unwrap().unwrap();
    assert_eq!(first.feedback, std::slice::from_ref(&said));
    let label =
        Label { intent: "card_arrival".to_owned(), source: "feedback".to_owned(), ..Label::default() };
    assert_eq!(first.labels, [label]);
    let second = exported.message().await.unwrap().unwrap();
    assert_eq!((second.feedback, second.labels), (Vec::new(), Vec::new()));
    // With its conversation goes what was said of a turn that never came.
    let unborn = Feedback { feedback_id: "f3".to_owned(), turn_id: "t10".to_owned(), ..said.clone() };
    let request = TelemetryServiceSubmitFeedbackRequest { feedback: Some(unborn) };
    client.submit_feedback(request).await.unwrap();
    let request = ForgetConversationsRequest { conversation_ids: vec!["unknown".to_owned()] };
    // The turn, its record, two labels and two pieces of feedback.
    assert_eq!(client.forget_conversations(request).await.unwrap().into_inner().deleted, 6);
    let feedback = Some(Feedback { turn_id: String::new(), feedback_id: "f2".to_owned(), ..said });
    let refused = client.submit_feedback(TelemetryServiceSubmitFeedbackRequest { feedback }).await;
    let refused = refused.unwrap_err();
    assert!(refused.message().starts_with("feedback.turn_id: "), "{}", refused.message());
}

#[tokio::test]
async fn drawn_turns_wait_for_their_intent_by_stratum_and_no_other_turn_is_labelled() {
    let dir = tempfile::tempdir().unwrap();
    let client = client(&dir, Audit { rate: 0.0, low_confidence_rate: 1.0 }).await;
    let asked = |turn_id: &str, age_s: u64, question: &str, category: &str, confidence: f64| {
        let mut record = record(turn_id, age_s, question);
        let (name, category) = ("refund".to_owned(), category.to_owned());
        let decision = if category.is_empty() { IntentDecision::OutOfScope } else { IntentDecision::Accept };
        let intent = Intent { name, category, confidence, decision: decision.into(), ..Intent::default() };
        record.turn.as_mut().unwrap().intent = Some(intent);
        record
    };
    let records = vec![
        asked("sure", 50, "a refund?", "cards", 0.9),
        asked("wordless", 40, "", "cards", 0.1),
        asked("newer", 10, "no refund?", "cards", 0.1),
        asked("older", 20, "refund!", "cards", 0.2),
        asked("foreign", 30, "what's for lunch", "", 0.2),
        record("unclassified", 60, "and this?"),
    ];
    client.clone().record(RecordRequest { records }).await.unwrap();
    let next = async |stratum: &str| {
        let request = NextAuditRequest { stratum: stratum.to_owned() };
        let next = client.clone().next_audit(request).await.unwrap().into_inner();
        let id = |item: &AuditItem| item.record.clone().unwrap().turn.unwrap().turn_id;
        (next.item.as_ref().map(id).unwrap_or_default(), next.waiting)
    };
    assert_eq!(next("").await, ("foreign".to_owned(), 3));
    assert_eq!(next("cards/low").await, ("older".to_owned(), 2));
    let say = async |turn_id: &str, intent: &str, correct: bool, grounded: Option<bool>| {
        let (turn_id, intent) = (turn_id.to_owned(), intent.to_owned());
        client.clone().label_audit(LabelAuditRequest { turn_id, intent, correct, grounded }).await
    };
    say("older", "", false, Some(false)).await.unwrap();
    assert_eq!(next("cards/low").await, ("older".to_owned(), 2), "its intent is not said");
    say("older", "lost_card", false, None).await.unwrap();
    say("foreign", "", true, None).await.unwrap();
    assert_eq!(next("").await, ("newer".to_owned(), 1));
    assert_eq!(next("none/low").await, (String::new(), 0));
    for (turn, intent, correct) in
        [("sure", "refund", false), ("newer", "refund", true), ("newer", "", false)]
    {
        let refused = say(turn, intent, correct, None).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{turn} {intent} {correct}");
    }
    // A turn that is sent again is not drawn again, and waits no more.
    client
        .clone()
        .record(RecordRequest { records: vec![asked("older", 20, "refund!", "cards", 0.2)] })
        .await
        .unwrap();
    assert_eq!(next("").await, ("newer".to_owned(), 1));
}

#[tokio::test]
async fn accuracy_is_told_of_all_turns_by_the_drawn_ones_and_their_probabilities() {
    let dir = tempfile::tempdir().unwrap();
    let mut client = client(&dir, Audit { rate: 0.2, low_confidence_rate: 1.0 }).await;
    let confident = |mut record: TurnRecord, confidence| {
        let intent = Intent { name: "card_arrival".to_owned(), confidence, ..Intent::default() };
        record.turn.as_mut().unwrap().intent = Some(intent);
        record
    };
    let records = (0..400).map(|n| {
        let record = record(&format!("t{n}"), 60, "Where is my card?");
        confident(record, if n % 2 == 0 { 0.3 } else { 0.9 })
    });
    client.record(RecordRequest { records: records.collect() }).await.unwrap();
    // Of the unsure turns every second is right, of the sure ones all are.
    let (mut hits, mut weights, mut squares, mut drawn) = (0.0, 0.0, 0.0, 0_u64);
    while let Some(item) = client.next_audit(NextAuditRequest::default()).await.unwrap().into_inner().item {
        let turn = item.record.unwrap().turn.unwrap();
        let correct = turn.intent.unwrap().confidence > 0.5 || drawn.is_multiple_of(2);
        let intent = if correct { String::new() } else { "something_else".to_owned() };
        let request = LabelAuditRequest { turn_id: turn.turn_id, intent, correct, grounded: None };
        client.label_audit(request).await.unwrap();
        let weight = 1.0 / item.probability;
        hits += if correct { weight } else { 0.0 };
        (weights, squares, drawn) = (weights + weight, squares + weight * weight, drawn + 1);
    }
    let found = client.get_metrics(GetMetricsRequest::default()).await.unwrap().into_inner();
    let figures = found.metrics.unwrap().figures;
    let accuracy = figures.iter().find(|figure| figure.name == "intent_accuracy").unwrap();
    assert_eq!(accuracy.n, drawn);
    assert!((200..320).contains(&drawn), "{drawn}");
    assert!((accuracy.value.unwrap() - hits / weights).abs() < 1e-12);
    let alike = format!("weighs as much as {:.0} turns drawn alike", weights * weights / squares);
    assert!(accuracy.note.contains(&alike), "{accuracy:?}");
    assert!(accuracy.lower.unwrap() < hits / weights && hits / weights < accuracy.upper.unwrap());
}

#[tokio::test]
async fn an_evaluation_counts_once_with_its_turn_and_goes_with_its_conversation() {
    let dir = tempfile::tempdir().unwrap();
    let client = client(&dir, Audit::default()).await;
    let call = |cost_usd, prices: &str| ModelCall {
        purpose: ModelPurpose::Judge.into(),
        model: "strict".to_owned(),
        usage: None,
        cost_usd,
        price_version: prices.to_owned(),
    };
    let judged = |turn_id: &str, judge: &str, claims, unsupported| Evaluation {
        turn_id: turn_id.to_owned(),
        conversation_id: "a".to_owned(),
        name: "groundedness".to_owned(),
        judge: judge.to_owned(),
        claims,
        unsupported,
        calls: vec![call(0.25, "strict 1/1/10")],
        category: String::new(),
    };
    let submit = async |evaluation: Evaluation| {
        let request = SubmitEvaluationRequest { evaluation: Some(evaluation) };
        client.clone().submit_evaluation(request).await
    };
    // A verdict may come before the record of its turn.
    submit(judged("t1", "llm/1 strict", 20, 5)).await.unwrap();
    submit(judged("t1", "llm/1 strict", 20, 20)).await.unwrap();
    submit(judged("t2", "llm/1 strict", 10, 0)).await.unwrap();
    submit(judged("t1", "llm/1 mild", 20, 0)).await.unwrap();
    submit(judged("old", "llm/1 strict", 20, 20)).await.unwrap();
    submit(judged("unknown", "llm/1 strict", 20, 20)).await.unwrap();
    let records = vec![record("t1", 60, ""), record("t2", 50, ""), record("old", 7200, "")];
    client.clone().record(RecordRequest { records }).await.unwrap();
    let figure = async |name: &str| {
        let found = client.clone().get_metrics(GetMetricsRequest::default()).await.unwrap().into_inner();
        found.metrics.unwrap().figures.into_iter().find(|figure| figure.name == name).unwrap()
    };
    let found = figure("groundedness_judged").await;
    assert_eq!((found.numerator, found.n, found.value), (45.0, 50, Some(0.9)));
    assert_eq!((found.judge.as_str(), found.note.as_str()), ("llm/1 mild, llm/1 strict", "uncorrected"));
    let cost = figure("cost_per_request").await;
    assert_eq!((cost.numerator, cost.n, cost.price_version.as_str()), (0.75, 2, "strict 1/1/10"));
    for (field, wrong) in [
        ("evaluation.turn_id", judged("", "j", 1, 0)),
        (
            "evaluation.conversation_id",
            Evaluation { conversation_id: String::new(), ..judged("t", "j", 1, 0) },
        ),
        ("evaluation.name", Evaluation { name: "tone".to_owned(), ..judged("t", "j", 1, 0) }),
        ("evaluation.judge", judged("t", "", 1, 0)),
        ("evaluation.claims", judged("t", "j", 0, 0)),
        ("evaluation.claims", judged("t", "j", 1001, 0)),
        ("evaluation.unsupported", judged("t", "j", 3, 4)),
        ("evaluation.category", Evaluation { category: "a\nb".to_owned(), ..judged("t", "j", 1, 0) }),
        ("calls.cost_usd", Evaluation { calls: vec![call(f64::NAN, "")], ..judged("t", "j", 1, 0) }),
        ("calls.price_version", Evaluation { calls: vec![call(0.0, "a\nb")], ..judged("t", "j", 1, 0) }),
    ] {
        let refused = submit(wrong).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument);
        assert!(refused.message().starts_with(&format!("{field}: ")), "{}", refused.message());
    }
    let request = ForgetConversationsRequest { conversation_ids: vec!["a".to_owned()] };
    // Three turns with their records, and five evaluations.
    assert_eq!(client.clone().forget_conversations(request).await.unwrap().into_inner().deleted, 11);
    assert_eq!(figure("groundedness_judged").await.n, 0);
}
