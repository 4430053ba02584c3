//! What customers may cost, against a model server that counts as many tokens as it can.

use std::sync::{Arc, Mutex};

use axum::extract::State;
use axum::response::IntoResponse as _;
use axum::routing::post;
use axum::{Json, Router};
use proto::*;
use serde_json::{Value, json};
use tests::{Transport, World, scratch, serve};
use tokio::task::JoinSet;
use tonic::Code;
use tonic_types::StatusExt as _;

const QUESTION: &str = "How long does a replacement card take to arrive?";
const SAID: &str = "A replacement debit or credit card sent by standard post in the UK takes 3 to 5 working days to arrive [1]. \
                    It costs 7000 pounds [1].";
/// What the server's chat template adds to every prompt.
const TEMPLATE: u64 = 1000;
const ANSWER: u64 = 512;

/// Tokens of all calls the server took.
type Spent = Arc<Mutex<Vec<u64>>>;

/// A model that answers one question, at one token a byte and with the longest answer allowed.
async fn model() -> (String, Spent, JoinSet<()>) {
    let spent = Spent::default();
    let answer = |State(spent): State<Spent>, Json(body): Json<Value>| async move {
        let input = body["messages"][0]["content"].as_str().unwrap().len() as u64 + TEMPLATE;
        spent.lock().unwrap().push(input + ANSWER);
        let said = json!({"choices": [{"index": 0, "delta": {"content": SAID}, "finish_reason": "stop"}]});
        let usage = json!({"choices": [], "usage": {"prompt_tokens": input, "completion_tokens": ANSWER}});
        let events = format!("data: {said}\n\ndata: {usage}\n\ndata: [DONE]\n\n");
        ([("content-type", "text/event-stream")], events).into_response()
    };
    let app = Router::new().route("/v1/chat/completions", post(answer)).with_state(spent.clone());
    let (address, server) = serve(app).await;
    let url = format!("{address}/v1");
    (url, spent, server)
}

async fn world(url: &str, more: &[(&str, &str, &str)]) -> World {
    let values = [
        ("generator", "provider", "openai"),
        ("generator", "model", "tiny"),
        ("generator", "base_url", url),
        // Each question is to cost something.
        ("generator", "cache.max_mb", "0"),
        // A busy machine is no fault.
        ("orchestrator", "classify_timeout_ms", "60000"),
        ("orchestrator", "safety_timeout_ms", "60000"),
        ("orchestrator", "retrieve_timeout_ms", "60000"),
        ("safety", "budget_ms", "30000"),
    ];
    World::with(Transport::Local, &[&values, more].concat()).await
}

fn question(customer: &str) -> Message {
    Message { customer_key: customer.to_owned(), text: QUESTION.to_owned(), ..Message::default() }
}

/// Whether the model wrote the answer; the passages answer as well.
fn by_model(turn: &Turn) -> bool {
    assert_eq!(turn.outcome(), Outcome::Answered, "{turn:?}");
    turn.model != "extractive"
}

async fn record(world: &World, turn: &Turn) -> TurnRecord {
    let request = ExplainTurnRequest { turn_id: turn.turn_id.clone(), ..Default::default() };
    world.client.clone().explain_turn(request).await.unwrap().into_inner().record.unwrap()
}

async fn decisions(world: &World, turn: &Turn) -> String {
    record(world, turn).await.decisions.join("\n")
}

fn tokens(turn: &Turn) -> u64 {
    let usage = turn.usage.unwrap_or_default();
    usage.input_tokens + usage.output_tokens
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_customer_who_asks_a_hundred_times_spends_one_budget_and_nobody_elses() {
    const BUDGET: u64 = 60_000;
    let (url, spent, _server) = model().await;
    let data = scratch();
    let data = format!("{:?}", data.path().display().to_string());
    let limit = BUDGET.to_string();
    let values =
        [("server", "data_dir", data.as_str()), ("orchestrator", "budget.customer_tokens_per_day", &limit)];
    let first = world(&url, &values).await;
    let mut asking = JoinSet::new();
    for _ in 0..100 {
        let mut client = first.client.clone();
        asking.spawn(async move {
            let request = AskRequest { message: Some(question("greedy")) };
            client.ask(request).await.unwrap().into_inner().turn.unwrap()
        });
    }
    let turns = asking.join_all().await;
    let (written, spared): (Vec<&Turn>, Vec<&Turn>) = turns.iter().partition(|turn| by_model(turn));
    let grounding = record(&first, written[0]).await.grounding.unwrap();
    assert_eq!((grounding.claims, grounding.unsupported), (2, 1), "{grounding:?}");
    assert_eq!((grounding.delivered_claims, grounding.delivered_unsupported), (1, 0), "{grounding:?}");
    assert_eq!(record(&first, spared[0]).await.grounding, None, "verbatim sentences need no judge");
    let told: u64 = turns.iter().map(tokens).sum();
    let total: u64 = spent.lock().unwrap().iter().sum();
    assert_eq!(told, total, "every call is in the usage of its turn");
    assert!(total <= BUDGET, "{total} tokens of {BUDGET}");
    // One call more would not have fitted, or was under way.
    assert!(!written.is_empty() && written.len() == spent.lock().unwrap().len() && !spared.is_empty());
    let why = decisions(&first, spared[0]).await;
    assert!(why.contains("the customer's tokens of the day do not suffice"), "{why}");
    // One after the other the rest of the budget is used, and not more.
    while by_model(&first.ask(question("greedy")).await) {}
    let total: u64 = spent.lock().unwrap().drain(..).sum();
    assert!((BUDGET / 2..=BUDGET).contains(&total), "{total} tokens of {BUDGET}");
    assert!(by_model(&first.ask(question("modest")).await));
    first.stop().await;

    let again = world(&url, &values).await;
    assert!(!by_model(&again.ask(question("greedy")).await), "a restart gives nothing back");
    assert!(by_model(&again.ask(question("modest")).await));
    again.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_only_a_model_could_answer_a_spent_budget_leads_to_a_person() {
    let (url, spent, _server) = model().await;
    let values = [
        ("orchestrator", "budget.tokens_per_day", "11000"),
        // The passages' own sentences never suffice.
        ("generator", "answer_threshold", "1.0"),
    ];
    let world = world(&url, &values).await;
    assert!(by_model(&world.ask(question("a")).await));
    let refused = world.ask(question("b")).await;
    let notice = refused.handoff.clone().unwrap();
    assert_eq!(notice.reason(), HandoffReason::Budget);
    assert!(notice.message.contains("reached the limit"), "{}", notice.message);
    let why = decisions(&world, &refused).await;
    assert!(why.contains("the installation's tokens of the day do not suffice"), "{why}");
    assert_eq!(spent.lock().unwrap().len(), 1);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_third_opinion_is_paid_from_the_same_budget() {
    let (url, spent, _server) = model().await;
    for (limit, calls) in [("0", 1), ("100", 0)] {
        let values = [
            ("orchestrator", "budget.customer_tokens_per_day", limit),
            ("classifier", "accept_threshold", "1.0"),
            ("classifier", "out_of_scope_threshold", "1.0"),
        ];
        let world = world(&url, &values).await;
        world.say("", "the thing with the money did something odd again").await;
        assert_eq!(spent.lock().unwrap().drain(..).count(), calls, "with {limit}");
        world.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_conversation_ends_with_a_person_and_begins_anew_after_one() {
    let values = [("orchestrator", "budget.turns_per_conversation", "2")];
    let world = World::with(Transport::Local, &values).await;
    let first = world.say("", QUESTION).await;
    let id = first.conversation_id.as_str();
    assert_eq!(world.say(id, QUESTION).await.outcome(), Outcome::Answered);
    let last = world.say(id, QUESTION).await;
    let notice = last.handoff.clone().unwrap();
    assert_eq!((last.outcome(), notice.reason()), (Outcome::Handoff, HandoffReason::Budget));
    let (handoff_id, assignee) = (notice.handoff_id, "kim".to_owned());
    let claim = ClaimHandoffRequest { handoff_id: handoff_id.clone(), assignee: assignee.clone() };
    world.client.clone().claim_handoff(claim).await.unwrap();
    let resolve = ResolveHandoffRequest { handoff_id, assignee, ..ResolveHandoffRequest::default() };
    world.client.clone().resolve_handoff(resolve).await.unwrap();
    assert_eq!(world.say(id, QUESTION).await.outcome(), Outcome::Answered);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_writes_too_fast_is_refused_but_never_kept_from_a_person() {
    let values = [("orchestrator", "budget.turns_per_minute", "2")];
    let world = World::with(Transport::Local, &values).await;
    let mut refused = Vec::new();
    // A minute may end in between, so that four may pass.
    for _ in 0..5 {
        let request = AskRequest { message: Some(question("hasty")) };
        refused.extend(world.client.clone().ask(request).await.err());
    }
    assert!(!refused.is_empty());
    for status in refused {
        assert_eq!(status.code(), Code::ResourceExhausted);
        assert_eq!(status.get_details_error_info().unwrap().reason, "TOO_MANY_TURNS_A_MINUTE");
    }
    for _ in 0..5 {
        let turn = world.ask(Message { text: "agent".to_owned(), ..question("hasty") }).await;
        assert_eq!(turn.handoff.unwrap().reason(), HandoffReason::UserKeyword);
    }
    assert_eq!(world.ask(question("calm")).await.outcome(), Outcome::Answered);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_workflow_above_its_cap_of_the_day_goes_to_a_person_who_sees_why() {
    let world = World::start(Transport::Local).await;
    let say = async |conversation: &str, customer: &str, text: &str| {
        let (conversation_id, customer_key) = (conversation.to_owned(), customer.to_owned());
        let message = Message { conversation_id, customer_key, text: text.to_owned(), ..Message::default() };
        world.ask(message).await
    };
    let block = async |customer: &str| {
        let asked = say("", customer, "I lost my debit card, please block it, it ends in 4821").await;
        assert!(asked.workflow.as_ref().unwrap().awaiting_confirmation, "{asked:?}");
        say(&asked.conversation_id, customer, "yes").await
    };
    for _ in 0..3 {
        assert_eq!(block("careless").await.outcome(), Outcome::ActionDone);
    }
    let refused = block("careless").await;
    assert_eq!(refused.handoff.as_ref().unwrap().reason(), HandoffReason::WorkflowFailed);
    assert_eq!(refused.workflow.as_ref().unwrap().error, "CAP_PER_CUSTOMER_PER_DAY");
    let why = decisions(&world, &refused).await;
    assert!(why.contains("workflow block_card: CAP_PER_CUSTOMER_PER_DAY"), "{why}");
    assert_eq!(block("other").await.outcome(), Outcome::ActionDone);
    assert_eq!(world.receiver.received().len(), 4);
    world.stop().await;
}
