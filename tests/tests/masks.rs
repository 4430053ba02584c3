//! What a customer reads of an answer whose model repeats a mask.

use std::sync::{Arc, Mutex};

use axum::extract::State;
use axum::response::IntoResponse as _;
use axum::routing::post;
use axum::{Json, Router};
use proto::*;
use serde_json::{Value, json};
use tests::{Transport, World, serve};
use tokio::task::JoinSet;

type Prompts = Arc<Mutex<Vec<String>>>;

/// A model that answers with the first sentence of the first passage, addressed to the mask of an e-mail address.
async fn model() -> (String, Prompts, JoinSet<()>) {
    let prompts = Prompts::default();
    let answer = |State(prompts): State<Prompts>, Json(body): Json<Value>| async move {
        let prompt = body.to_string();
        let system = body["messages"][0]["content"].as_str().unwrap_or_default().to_owned();
        let passage = system.lines().find_map(|line| line.strip_prefix("[1] ")).unwrap_or("{\"text\": \"\"}");
        let text = serde_json::from_str::<Value>(passage).unwrap()["text"].as_str().unwrap().to_owned();
        let first = text.lines().find(|line| line.ends_with('.')).unwrap_or_default();
        let first = first.split(". ").next().unwrap().trim_end_matches('.');
        prompts.lock().unwrap().push(prompt);
        let said = format!("{first}, [EMAIL_ADDRESS] [1].");
        let said = json!({"choices": [{"index": 0, "delta": {"content": said}, "finish_reason": "stop"}]});
        let events = format!("data: {said}\n\ndata: [DONE]\n\n");
        ([("content-type", "text/event-stream")], events).into_response()
    };
    let app = Router::new().route("/v1/chat/completions", post(answer)).with_state(prompts.clone());
    let (address, server) = serve(app).await;
    let url = format!("{address}/v1");
    (url, prompts, server)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repeated_mask_becomes_the_customers_own_value_for_the_customer_alone() {
    let (url, prompts, _server) = model().await;
    let values = [
        ("generator", "provider", "openai"),
        ("generator", "model", "tiny"),
        ("generator", "base_url", url.as_str()),
        // The grounding check drops most sentences with a mask in them; here it lets them through.
        ("generator", "sentence_threshold", "0.0"),
    ];
    let world = World::with(Transport::Local, &values).await;
    let text = "What is the contactless limit of ann@example.com?".to_owned();
    let message = Message { text, request_id: "once".to_owned(), ..Message::default() };
    let turn = world.ask(message.clone()).await;
    assert_eq!((turn.outcome(), turn.model.as_str()), (Outcome::Answered, "tiny"), "{turn:?}");
    assert!(turn.answer.contains(", ann@example.com"), "{}", turn.answer);
    assert_eq!(world.ask(message).await, turn, "the same request is answered alike");
    let prompts = prompts.lock().unwrap().join("\n");
    assert!(prompts.contains("EMAIL_ADDRESS") && !prompts.contains("ann@example.com"), "{prompts}");
    let request = ExplainTurnRequest { turn_id: turn.turn_id.clone(), ..Default::default() };
    let record = world.client.clone().explain_turn(request).await.unwrap().into_inner();
    let record = format!("{record:?}");
    assert!(record.contains("[EMAIL_ADDRESS]") && !record.contains("ann@example.com"), "{record}");
    world.stop().await;
}
