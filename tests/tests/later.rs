//! What is done after a turn. The shadow stage: the menu answers, and the assistant too, read by nobody and without an
//! effect. And a model that judges what customers got.
#![expect(clippy::unwrap_used, reason = "a test that fails panics")]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use axum::extract::State;
use axum::response::IntoResponse as _;
use axum::routing::post;
use axum::{Json, Router};
use proto::rollout_service_client::RolloutServiceClient;
use proto::telemetry_service_client::TelemetryServiceClient;
use proto::workflow_service_client::WorkflowServiceClient;
use proto::*;
use serde_json::{Value, json};
use tests::{Transport, World, altered, demo, serve};
use tokio::task::JoinSet;

const QUESTION: &str = "How long does a replacement card take to arrive?";
const SAID: &str = "A replacement debit or credit card sent by standard post in the UK takes 3 to 5 working days to arrive [1].";
const PATIENCE: Duration = Duration::from_secs(60);
const PLAN: &str = r#"
[rollout]
id = "bank-2026"
categories = ["cards"]
max_risk = "medium"
interval_s = 1
[[stage]]
name = "shadow"
share = 0
mirror = 1
mirror_usd_per_day = 0.5
[[stage]]
name = "p1"
share = 0.01
[[guard]]
metric = "escalation_unplanned"
"#;

/// A model that answers one question, with one sentence that no passage supports when it is asked to judge, and how often
/// it was asked.
async fn model() -> (String, Arc<AtomicUsize>, JoinSet<()>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let answer = |State(asked): State<Arc<AtomicUsize>>, Json(body): Json<Value>| async move {
        asked.fetch_add(1, Ordering::SeqCst);
        let judges = body["messages"][0]["content"].as_str().unwrap().contains("\"unsupported\"");
        let said = if judges { "{\"unsupported\": [1]}" } else { SAID };
        let said = json!({"choices": [{"index": 0, "delta": {"content": said}, "finish_reason": "stop"}]});
        let usage = json!({"choices": [], "usage": {"prompt_tokens": 1000, "completion_tokens": 100}});
        let events = format!("data: {said}\n\ndata: {usage}\n\ndata: [DONE]\n\n");
        ([("content-type", "text/event-stream")], events).into_response()
    };
    let app = Router::new().route("/v1/chat/completions", post(answer)).with_state(asked.clone());
    let (address, server) = serve(app).await;
    (format!("{address}/v1"), asked, server)
}

struct Shadow {
    world: World,
    rollout: RolloutServiceClient<kit::Link>,
}

async fn world(bundle: &Path, url: &str) -> World {
    let values = [
        ("generator", "provider", "openai"),
        ("generator", "model", "tiny"),
        ("generator", "base_url", url),
        // Each question is to cost something.
        ("generator", "cache.max_mb", "0"),
        ("generator", "prices.tiny.output_usd_per_million", "0.0"),
        ("generator", "prices.tiny.input_usd_per_million", "1000.0"),
        ("orchestrator", "judge_share", "1.0"),
        // A busy machine is no fault.
        ("orchestrator", "classify_timeout_ms", "60000"),
        ("orchestrator", "safety_timeout_ms", "60000"),
        ("orchestrator", "retrieve_timeout_ms", "60000"),
        ("safety", "budget_ms", "30000"),
        ("telemetry", "min_n", "1"),
    ];
    World::over(Transport::Local, bundle, &values).await
}

impl Shadow {
    async fn start(url: &str) -> Self {
        let bundle = altered(str::to_owned);
        std::fs::write(bundle.path().join("rollout.toml"), PLAN).unwrap();
        let world = world(bundle.path(), url).await;
        let rollout = RolloutServiceClient::new(world.links.get(telemetry::NAME).unwrap());
        Self { world, rollout }
    }

    async fn apply(&self, plan: &str) {
        let (rollout_toml, by) = (plan.to_owned(), "anna".to_owned());
        let request = ApplyRolloutRequest { rollout_toml, by, dry_run: false };
        self.rollout.clone().apply_rollout(request).await.unwrap();
    }

    async fn answers(&self) -> Vec<TurnRecord> {
        let all = ListUnseenRequest { page_size: 100, ..ListUnseenRequest::default() };
        let listed = self.rollout.clone().list_unseen(all).await.unwrap();
        listed.into_inner().answers.into_iter().filter_map(|answer| answer.record).collect()
    }

    /// Begins conversations with a text, each of which the menu answers, until one of them is answered unseen.
    async fn until_answered(&self, text: &str) -> TurnRecord {
        let (start, mut begun) = (Instant::now(), Vec::new());
        loop {
            let (customer_key, text) = ("c1".to_owned(), text.to_owned());
            let turn = self.world.ask(Message { customer_key, text, ..Message::default() }).await;
            assert_eq!((turn.outcome(), turn.arm()), (Outcome::Legacy, Arm::Control), "{turn:?}");
            begun.push(turn.conversation_id);
            // What was under way before may come in between.
            let is_one = |record: &TurnRecord| begun.contains(&record.turn.as_ref().unwrap().conversation_id);
            if let Some(answered) = self.answers().await.into_iter().find(is_one) {
                return answered;
            }
            assert!(start.elapsed() < PATIENCE, "nothing is answered unseen");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unseen_answers_reach_nobody_do_nothing_and_stop_at_their_cost() {
    let (url, asked, _server) = model().await;
    let shadow = Shadow::start(&url).await;
    shadow.apply(PLAN).await;
    let answered = shadow.until_answered(QUESTION).await;
    let turn = answered.turn.unwrap();
    assert_eq!(
        (turn.outcome(), turn.arm(), turn.model.as_str()),
        (Outcome::Answered, Arm::Treatment, "tiny")
    );
    assert_eq!((answered.question.as_str(), answered.unseen), (QUESTION, true));
    assert!(turn.turn_id.starts_with("u_") && turn.cost_usd > 0.5, "{turn:?}");
    let read = GetConversationRequest { conversation_id: turn.conversation_id.clone() };
    let read = shadow.world.client.clone().get_conversation(read).await.unwrap().into_inner();
    assert!(!format!("{read:?}").contains("working days"), "{read:?}");
    // It is held of the customer all the same.
    let export = ExportCustomerRequest { customer_key: "c1".to_owned() };
    let mut held = shadow.world.client.clone().export_customer(export).await.unwrap().into_inner();
    let mut records = Vec::new();
    while let Some(held) = held.message().await.unwrap() {
        records.extend(held.records);
    }
    assert!(records.iter().any(|record| record.unseen && record.turn.as_ref() == Some(&turn)), "{records:?}");
    // The money of the day is spent: nothing more is begun, in this conversation or another.
    for conversation in [turn.conversation_id.as_str(), "", ""] {
        let (customer_key, conversation_id) = ("c1".to_owned(), conversation.to_owned());
        let text = QUESTION.to_owned();
        let message = Message { customer_key, conversation_id, text, ..Message::default() };
        assert_eq!(shadow.world.ask(message).await.outcome(), Outcome::Legacy);
    }
    // What needs no model waits in the same line behind them, and is answered once there is money again.
    shadow.apply(&PLAN.replace("= 0.5", "= 500.0")).await;
    let wanted = shadow.until_answered("I lost my card 1234").await;
    let (turn, decisions) = (wanted.turn.unwrap(), wanted.decisions.join("\n"));
    assert_eq!(turn.outcome(), Outcome::ActionPending, "{turn:?}");
    assert!(decisions.contains("dry run: a yes would send a POST"), "{decisions}");
    // Only words are read: digits of a time or an identifier may be these by chance.
    let words =
        format!("{} {decisions} {} {:?}", wanted.question, turn.answer, turn.workflow.map(|it| it.slots));
    assert!(!words.contains("1234"), "{words}");
    // One, and one that was under way beside it; each is kept.
    let (asked, start) = (asked.load(Ordering::SeqCst), Instant::now());
    assert!((1..=2).contains(&asked), "{asked} asked");
    let by_model = |record: &&TurnRecord| record.turn.as_ref().unwrap().model == "tiny";
    while shadow.answers().await.iter().filter(by_model).count() != asked {
        assert!(start.elapsed() < PATIENCE, "{asked} asked, and not as many kept");
    }
    let mut stage = WorkflowServiceClient::new(shadow.world.links.get(workflow::NAME).unwrap());
    let begun = stage.list_executions(ListExecutionsRequest::default()).await.unwrap().into_inner();
    assert_eq!((begun.executions, shadow.world.receiver.received().len()), (Vec::new(), 0));
    let handed = shadow.world.client.clone().list_handoffs(ListHandoffsRequest::default()).await.unwrap();
    assert_eq!(handed.into_inner().handoffs, Vec::new());
    drop((stage, shadow.rollout));
    shadow.world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_customer_got_is_judged_by_a_model_after_the_turn() {
    let (url, asked, _server) = model().await;
    let world = world(&demo(), &url).await;
    let turn = world.say("", QUESTION).await;
    assert_eq!((turn.outcome(), turn.model.as_str()), (Outcome::Answered, "tiny"));
    let telemetry = TelemetryServiceClient::new(world.links.get(telemetry::NAME).unwrap());
    let start = Instant::now();
    let judged = loop {
        let metrics = telemetry.clone().get_metrics(GetMetricsRequest::default()).await.unwrap();
        let figures = metrics.into_inner().metrics.unwrap().figures;
        let judged = figures.into_iter().find(|figure| figure.name == "groundedness_judged");
        if let Some(judged) = judged.filter(|judged| judged.n > 0) {
            break judged;
        }
        assert!(start.elapsed() < PATIENCE, "nothing is judged");
        tokio::task::yield_now().await;
    };
    assert_eq!((judged.n, judged.numerator, judged.judge.as_str()), (1, 0.0, "llm/1 tiny"));
    assert_eq!(asked.load(Ordering::SeqCst), 2);
    drop(telemetry);
    world.stop().await;
}
