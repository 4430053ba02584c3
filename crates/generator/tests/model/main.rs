//! The generator against a real HTTP server that speaks, or breaks, the OpenAI protocol.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, and so do its helpers")]

mod choose;

use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use futures::{StreamExt as _, stream};
use generator::Config;
use generator::answer::{Answer, Passage, Request, Usage};
use generator::config::{Price, Provider};
use generator::prompt::Prompt;
use generator::write::{Event, Writer};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::Instant;

const GOOD: &str = "A replacement card costs 5 pounds [1]. It arrives within 3 to 5 working days [1].";
const GOOD_SHOWN: &str = "A replacement card costs 5 pounds. It arrives within 3 to 5 working days.";

/// What the server does with one call.
enum Script {
    Status(StatusCode, &'static str, &'static str),
    Events(Vec<Bytes>),
    /// The first events, then the last one for ever.
    Endless(Vec<Bytes>),
    /// The events, then silence.
    Silent(Vec<Bytes>),
}

struct Fake {
    url: String,
    calls: Arc<AtomicUsize>,
    seen: Arc<Mutex<Vec<(HeaderMap, Value)>>>,
    _server: JoinSet<()>,
}

type Scripts = (Arc<Vec<Script>>, Arc<AtomicUsize>, Arc<Mutex<Vec<(HeaderMap, Value)>>>);

async fn reply(State((scripts, calls, seen)): State<Scripts>, headers: HeaderMap, body: Bytes) -> Response {
    seen.lock().unwrap().push((headers, serde_json::from_slice(&body).unwrap()));
    let call = calls.fetch_add(1, Ordering::SeqCst);
    let events = |body| ([("content-type", "text/event-stream")], body).into_response();
    match &scripts[call.min(scripts.len() - 1)] {
        Script::Status(status, retry_after, body) => {
            let kind = if body.starts_with('<') { "text/html" } else { "application/json" };
            let mut response = (*status, [("content-type", kind)], *body).into_response();
            if !retry_after.is_empty() {
                response.headers_mut().insert("retry-after", retry_after.parse().unwrap());
            }
            response
        }
        Script::Events(chunks) => {
            events(Body::from_stream(stream::iter(chunks.clone()).map(Ok::<_, Infallible>)))
        }
        Script::Endless(chunks) => {
            let last = chunks.last().unwrap().clone();
            let all = stream::iter(chunks.clone()).chain(stream::repeat(last));
            events(Body::from_stream(all.map(Ok::<_, Infallible>)))
        }
        Script::Silent(chunks) => {
            let all = stream::iter(chunks.clone()).chain(stream::pending());
            events(Body::from_stream(all.map(Ok::<_, Infallible>)))
        }
    }
}

async fn fake(scripts: Vec<Script>) -> Fake {
    let (calls, seen) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(Vec::new())));
    let state: Scripts = (Arc::new(scripts), Arc::clone(&calls), Arc::clone(&seen));
    let app = Router::new().route("/v1/chat/completions", post(reply)).with_state(state);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v1/", listener.local_addr().unwrap());
    let mut server = JoinSet::new();
    server.spawn(async move { axum::serve(listener, app).await.unwrap() });
    Fake { url, calls, seen, _server: server }
}

fn event(value: &Value) -> Bytes {
    Bytes::from(format!("data: {value}\n\n"))
}

fn words(text: &str) -> Bytes {
    event(&json!({"id": "x", "model": "tiny-1", "choices": [{"index": 0, "delta": {"content": text}}]}))
}

fn finish(reason: &str) -> Bytes {
    event(&json!({"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]}))
}

fn usage(input: u64, output: u64) -> Bytes {
    let details = json!({"cached_tokens": 40});
    let usage =
        json!({"prompt_tokens": input, "completion_tokens": output, "prompt_tokens_details": details});
    event(&json!({"choices": [], "usage": usage}))
}

/// A stream of one text, cut into pieces of five characters.
fn said(text: &str) -> Vec<Bytes> {
    let characters: Vec<char> = text.chars().collect();
    characters.chunks(5).map(|piece| words(&piece.iter().collect::<String>())).collect()
}

fn whole(text: &str) -> Script {
    Script::Events(
        [said(text), vec![finish("stop"), usage(100, 20), Bytes::from("data: [DONE]\n\n")]].concat(),
    )
}

fn passages() -> Vec<Passage> {
    let cards = "A replacement card costs 5 pounds. It arrives within 3 to 5 working days.";
    let branches = "Branches are open from 9:30 to 16:30 on weekdays.";
    [("cards", "Replacement cards", cards), ("branches", "Branches", branches)]
        .map(|(id, title, text)| Passage {
            document_id: id.to_owned(),
            title: title.to_owned(),
            text: text.to_owned(),
            score: 1.0,
            ..Passage::default()
        })
        .to_vec()
}

fn config(url: &str) -> Config {
    let price = Price {
        input_usd_per_million: 1.0,
        output_usd_per_million: 10.0,
        cached_input_usd_per_million: Some(0.5),
    };
    Config {
        provider: Provider::Openai,
        base_url: url.to_owned(),
        model: "tiny".to_owned(),
        timeout_ms: 5_000,
        max_answer_bytes: 2_000,
        prices: [("tiny".to_owned(), price)].into(),
        ..Config::default()
    }
}

struct Outcome {
    answer: Answer,
    /// What a reader of the deltas ends up with.
    shown: String,
    deltas: usize,
}

async fn ask(config: Config, question: &str, deadline: Option<Instant>) -> Outcome {
    kit::run::install_tls();
    let writer = Writer::new(config, Prompt::new("Harbour \"Bank\"", None).unwrap()).unwrap();
    let request = Request {
        question: question.to_owned(),
        passages: passages(),
        turn_id: "t1".to_owned(),
        min_support: 0.0,
        ..Request::default()
    };
    let (sender, mut receiver) = tokio::sync::mpsc::channel(64);
    writer.write(&request, deadline, &sender).await;
    drop(sender);
    let (mut shown, mut deltas) = (String::new(), 0);
    while let Some(event) = receiver.recv().await {
        match event {
            Event::Delta { text, restart } => {
                deltas += 1;
                if restart {
                    shown.clear();
                }
                shown.push_str(&text);
            }
            Event::Final(answer) => {
                assert!(receiver.recv().await.is_none(), "the final event is the last");
                assert_eq!(shown, answer.text, "the deltas add up to the text");
                for citation in &answer.citations {
                    assert!(request.passages[citation.passage].text.contains(&citation.quote));
                }
                assert_eq!(answer.abstained(), answer.text.is_empty());
                assert_eq!(answer.abstained(), answer.citations.is_empty());
                return Outcome { answer, shown, deltas };
            }
        }
    }
    panic!("no final event");
}

const QUESTION: &str = "How much does a replacement card cost?";

/// Asks a server that fails like this; the answer must be the passages' own and the calls as many.
async fn falls_back(scripts: Vec<Script>, calls: usize) -> Outcome {
    let fake = fake(scripts).await;
    let outcome = ask(config(&fake.url), QUESTION, None).await;
    assert_eq!(fake.calls.load(Ordering::SeqCst), calls, "calls");
    assert_eq!(outcome.answer.model, "extractive");
    assert_eq!(outcome.answer.prompt_version, "");
    assert!(outcome.shown.starts_with("A replacement card costs 5 pounds."), "{}", outcome.shown);
    outcome
}

#[tokio::test]
async fn a_stream_becomes_an_answer_with_citations_usage_and_cost() {
    let fake = fake(vec![whole(GOOD)]).await;
    let config =
        Config { api_key: Some("sk-test".to_owned().into()), temperature: Some(0.5), ..config(&fake.url) };
    let Outcome { answer, deltas, .. } = ask(config, QUESTION, None).await;
    assert_eq!(answer.text, GOOD_SHOWN);
    assert_eq!(deltas, 2);
    assert_eq!(answer.citations.iter().map(|citation| citation.passage).collect::<Vec<_>>(), [0, 0]);
    assert_eq!(answer.citations[1].quote, "It arrives within 3 to 5 working days.");
    assert_eq!(answer.model, "tiny-1");
    assert_eq!(answer.usage, Usage { input: 100, cached: 40, output: 20 });
    assert!((answer.cost_usd - (60.0 + 20.0 + 200.0) / 1e6).abs() < 1e-12, "{}", answer.cost_usd);
    assert!(answer.prompt_version.starts_with("answer@1-"));
    let (headers, body) = fake.seen.lock().unwrap().pop().unwrap();
    assert_eq!(headers["authorization"], "Bearer sk-test");
    assert_eq!(body["stream_options"]["include_usage"], true);
    assert_eq!((&body["max_tokens"], &body["temperature"]), (&json!(512), &json!(0.5)));
    assert!(body["messages"][0]["content"].as_str().unwrap().contains("[2] {\"title\": \"Branches\""));
}

#[tokio::test]
async fn without_a_key_none_is_sent_and_without_usage_it_is_estimated() {
    let fake = fake(vec![Script::Events([said(GOOD), vec![finish("stop")]].concat())]).await;
    let Outcome { answer, .. } = ask(config(&fake.url), QUESTION, None).await;
    assert_eq!(answer.text, GOOD_SHOWN);
    assert_eq!(answer.usage.output, (GOOD.len() as u64).div_ceil(4));
    assert!(answer.usage.input > 100 && answer.cost_usd > 0.0);
    assert!(!fake.seen.lock().unwrap()[0].0.contains_key("authorization"));
}

#[tokio::test]
async fn a_usage_that_cannot_be_true_is_estimated() {
    let lie = Script::Events([said(GOOD), vec![finish("stop"), usage(1_000_000_000, 0)]].concat());
    let fake = fake(vec![lie]).await;
    let Outcome { answer, .. } = ask(config(&fake.url), QUESTION, None).await;
    assert!(answer.usage.input < 2_000 && answer.usage.output > 0, "{:?}", answer.usage);
}

#[tokio::test]
async fn a_rate_limit_is_retried_once_when_its_wait_fits_the_deadline() {
    const LIMIT: &str = r#"{"error":{"message":"slow down","type":"rate_limit_error"}}"#;
    let limited = |after| Script::Status(StatusCode::TOO_MANY_REQUESTS, after, LIMIT);
    let retried = fake(vec![limited("0"), whole(GOOD)]).await;
    assert_eq!(ask(config(&retried.url), QUESTION, None).await.answer.model, "tiny-1");
    assert_eq!(retried.calls.load(Ordering::SeqCst), 2);
    falls_back(vec![limited("0"), limited("0"), whole(GOOD)], 2).await;
    falls_back(vec![limited("60"), whole(GOOD)], 1).await;
    falls_back(vec![limited("Wed, 21 Oct 2099 07:28:00 GMT"), whole(GOOD)], 1).await;
    falls_back(vec![limited(""), whole(GOOD)], 1).await;
}

#[tokio::test]
async fn a_server_error_is_retried_once_and_a_refusal_never() {
    let broken = || Script::Status(StatusCode::INTERNAL_SERVER_ERROR, "", "oops");
    let fake = fake(vec![broken(), whole(GOOD)]).await;
    assert_eq!(ask(config(&fake.url), QUESTION, None).await.answer.model, "tiny-1");
    assert_eq!(fake.calls.load(Ordering::SeqCst), 2);
    falls_back(vec![broken(), broken(), whole(GOOD)], 2).await;
    falls_back(vec![Script::Status(StatusCode::UNAUTHORIZED, "", "{}"), whole(GOOD)], 1).await;
    falls_back(vec![Script::Status(StatusCode::FOUND, "", ""), whole(GOOD)], 1).await;
}

#[tokio::test]
async fn a_stream_that_breaks_off_is_replaced_and_its_tokens_count() {
    let outcome =
        falls_back(vec![Script::Events(said("A replacement card costs 5 pounds [1]. It arrives"))], 1).await;
    assert!(outcome.deltas > 2, "the first sentence left before the stream broke");
    assert!(outcome.answer.usage.output > 0 && outcome.answer.cost_usd > 0.0);
    let mut cut = said(GOOD);
    cut.truncate(3);
    let pound = words("5 £");
    let inside = pound.iter().position(|byte| *byte == 0xc2).unwrap() + 1;
    cut.push(pound.slice(..inside));
    falls_back(vec![Script::Events(cut)], 1).await;
    falls_back(vec![Script::Events(vec![Bytes::from_static(b"data: {\"choices\": \xff\xfe}\n\n")])], 1).await;
    let error = event(&json!({"error": {"message": "overloaded"}}));
    falls_back(vec![Script::Events([said("A replacement"), vec![error]].concat())], 1).await;
}

#[tokio::test]
async fn a_stream_that_never_ends_is_cut() {
    falls_back(vec![Script::Endless(vec![words("A replacement card costs 5 pounds [1]. ")])], 1).await;
    // Neither events without text nor one line without an end may fill the memory.
    falls_back(vec![Script::Endless(vec![event(&json!({"choices": []}))])], 1).await;
    falls_back(vec![Script::Endless(vec![Bytes::from(vec![b'x'; 65_536])])], 1).await;
}

#[tokio::test]
async fn silence_and_the_callers_deadline_end_the_call() {
    let fake = fake(vec![Script::Silent(said("A replacement"))]).await;
    let idle = Config { idle_timeout_ms: 100, ..config(&fake.url) };
    assert_eq!(ask(idle, QUESTION, None).await.answer.model, "extractive");
    let start = Instant::now();
    let deadline = start + Duration::from_millis(400);
    assert_eq!(ask(config(&fake.url), QUESTION, Some(deadline)).await.answer.model, "extractive");
    assert!(Instant::now() < deadline, "{:?}", start.elapsed());
}

#[tokio::test]
async fn replies_that_are_no_answer_are_replaced() {
    falls_back(vec![Script::Status(StatusCode::OK, "", "<html>login</html>")], 1).await;
    falls_back(vec![Script::Status(StatusCode::OK, "", "{}")], 1).await;
    falls_back(
        vec![Script::Events(vec![event(&json!({"choices": []})), Bytes::from("data: [DONE]\n\n")])],
        1,
    )
    .await;
    falls_back(vec![Script::Events(vec![finish("stop")])], 1).await;
    falls_back(vec![Script::Events([said(GOOD), vec![finish("content_filter")]].concat())], 1).await;
    let deep = format!("data: {}\n\n", "[".repeat(100_000));
    falls_back(vec![Script::Events(vec![Bytes::from(deep)])], 1).await;
}

#[tokio::test]
async fn nobody_listening_is_answered_by_the_passages_or_not_at_all() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    drop(listener);
    assert_eq!(ask(config(&url), QUESTION, None).await.shown, GOOD_SHOWN);
    let foreign = ask(config(&url), "Who painted the famous ceiling in Rome?", None).await.answer;
    assert!(foreign.abstained() && foreign.model == "extractive");
}

#[tokio::test]
async fn what_the_passages_do_not_say_never_leaves() {
    let words = "Branches are open from 9:30 to 16:30 on weekdays [1][8]. Branches also sell ice cream [2]. A \
                 replacement card costs 15 pounds [1]. I hope this helps!";
    let mixed = fake(vec![whole(words)]).await;
    let Outcome { answer, .. } = ask(config(&mixed.url), "When are branches open?", None).await;
    assert_eq!(answer.text, "Branches are open from 9:30 to 16:30 on weekdays.");
    assert_eq!(answer.citations.len(), 1);
    assert_eq!(answer.citations[0].passage, 1, "the false citation is replaced by the true one");
    for nothing in ["Paris is the capital of France [1].", "NO_ANSWER", "I can't help with that."] {
        let fake = fake(vec![whole(nothing)]).await;
        let Outcome { answer, deltas, .. } = ask(config(&fake.url), QUESTION, None).await;
        assert!(answer.abstained(), "{}", answer.text);
        assert_eq!((answer.model.as_str(), deltas), ("tiny-1", 0));
    }
}

#[tokio::test]
async fn an_answer_at_the_token_limit_loses_only_its_unfinished_sentence() {
    let text = "A replacement card costs 5 pounds [1]. It arrives within 3 to";
    let fake = fake(vec![Script::Events([said(text), vec![finish("length")]].concat())]).await;
    let Outcome { answer, .. } = ask(config(&fake.url), QUESTION, None).await;
    assert_eq!(answer.text, "A replacement card costs 5 pounds.");
}
