//! The model's choice among intents, against a real HTTP server.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, and so do its helpers")]

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State;
use axum::response::IntoResponse as _;
use axum::routing::post;
use generator::Config;
use generator::choose::{Choice, Opinion};
use generator::config::{Price, Provider};
use generator::prompt::Prompt;
use generator::write::Writer;
use serde_json::{Value, json};
use tokio::task::JoinSet;

/// A server that says `reply` to every call; the calls it got.
async fn model(reply: &'static str) -> (String, Arc<Mutex<Vec<Value>>>, JoinSet<()>) {
    type Seen = Arc<Mutex<Vec<Value>>>;
    let seen = Seen::default();
    let answer = move |State(seen): State<Seen>, axum::Json(body): axum::Json<Value>| async move {
        seen.lock().unwrap().push(body);
        let said = json!({"model": "tiny-1", "choices": [{"index": 0, "delta": {"content": reply}}]});
        let done = json!({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]});
        let usage = json!({"choices": [], "usage": {"prompt_tokens": 100, "completion_tokens": 10}});
        let events = format!("data: {said}\n\ndata: {done}\n\ndata: {usage}\n\ndata: [DONE]\n\n");
        ([("content-type", "text/event-stream")], events).into_response()
    };
    let app = Router::new().route("/v1/chat/completions", post(answer)).with_state(seen.clone());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    let mut server = JoinSet::new();
    server.spawn(async move { axum::serve(listener, app).await.unwrap() });
    (url, seen, server)
}

async fn choose(config: Config) -> Result<Opinion, generator::chat::Error> {
    kit::run::install_tls();
    let writer = Writer::new(config, Prompt::new("Harbour Bank", None).unwrap()).unwrap();
    let choice =
        |name: &str| Choice { name: name.to_owned(), title: name.to_uppercase(), description: String::new() };
    writer.choose("it was \"declined\"", &[choice("declined_card"), choice("card_pin")], None).await
}

fn config(url: &str) -> Config {
    let price = Price {
        input_usd_per_million: 1.0,
        output_usd_per_million: 10.0,
        cached_input_usd_per_million: None,
    };
    Config {
        provider: Provider::Openai,
        base_url: url.to_owned(),
        model: "tiny".to_owned(),
        prices: [("tiny".to_owned(), price)].into(),
        ..Config::default()
    }
}

#[tokio::test]
async fn the_model_chooses_one_of_the_names_it_is_given_or_none() {
    let (url, seen, _server) = model(r#"{"intent": "card_pin"}"#).await;
    let Opinion::Given { name, model: by, usage, cost_usd } = choose(config(&url)).await.unwrap() else {
        panic!("a model is configured");
    };
    assert_eq!((name.as_deref(), by.as_str()), (Some("card_pin"), "tiny-1"));
    assert_eq!((usage.input, usage.output), (100, 10));
    assert!((cost_usd - 200e-6).abs() < 1e-12, "{cost_usd}");
    let asked = seen.lock().unwrap().remove(0);
    let schema = &asked["response_format"]["json_schema"];
    assert_eq!(schema["strict"], true);
    assert_eq!(
        schema["schema"]["properties"]["intent"]["enum"],
        json!(["declined_card", "card_pin", "none"])
    );
    let prompt = asked["messages"][0]["content"].as_str().unwrap();
    assert!(prompt.contains(r#"it was \"declined\""#), "the message stands as JSON: {prompt}");

    let (url, _, _server) = model(r#"{"intent": "none"}"#).await;
    assert!(matches!(choose(config(&url)).await.unwrap(), Opinion::Given { name: None, .. }));
    for garbage in [r#"{"intent": "refund"}"#, "card_pin"] {
        let (url, _, _server) = model(garbage).await;
        assert_eq!(choose(config(&url)).await.unwrap_err().reason(), "GARBAGE", "{garbage}");
    }
}

#[tokio::test]
async fn no_model_and_a_choice_over_its_budget_cost_nothing() {
    assert!(matches!(choose(Config::default()).await.unwrap(), Opinion::Skipped(_)));
    let (url, seen, _server) = model(r#"{"intent": "card_pin"}"#).await;
    let dear = Config { choice_max_cost_usd: 0.0001, ..config(&url) };
    let Opinion::Skipped(why) = choose(dear).await.unwrap() else { panic!("the budget is too small") };
    assert!(why.contains("choice_max_cost_usd"), "{why}");
    assert!(seen.lock().unwrap().is_empty());
}
