//! A model server: it speaks the OpenAI protocol, breaks it, or answers as its model's name says.

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
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio_stream::{self as stream, StreamExt as _};

use crate::behave::Behaviour;
use crate::receiver::serve;

/// What the server does with one call.
#[derive(Debug, Clone)]
pub enum Script {
    /// A status, the header `retry-after` unless empty, and a body.
    Status(StatusCode, &'static str, &'static str),
    /// These events, then the end.
    Events(Vec<Bytes>),
    /// The first events, then the last one for ever.
    Endless(Vec<Bytes>),
    /// The events, then silence.
    Silent(Vec<Bytes>),
    /// The events, with so much time between two.
    Drip(Vec<Bytes>, Duration),
}

/// A server on a free loopback port.
#[derive(Debug)]
pub struct Model {
    /// Its base URL.
    pub url: String,
    calls: Arc<Calls>,
    _server: JoinSet<()>,
}

#[derive(Debug)]
struct Calls {
    /// By call, the last one for all that follow; none when the model's name says what to do.
    scripts: Vec<Script>,
    made: AtomicUsize,
    seen: Mutex<Vec<(HeaderMap, Value)>>,
}

impl Model {
    /// Answers the calls in turn by these scripts, the last one also all that follow.
    pub async fn scripted(scripts: Vec<Script>) -> Self {
        assert!(!scripts.is_empty());
        Self::start(scripts).await
    }

    /// Answers every call as the model's name says: a [`Behaviour`] or a fault of [`fault`].
    pub async fn behaving() -> Self {
        Self::start(Vec::new()).await
    }

    async fn start(scripts: Vec<Script>) -> Self {
        let calls = Arc::new(Calls { scripts, made: AtomicUsize::new(0), seen: Mutex::default() });
        let app = Router::new().route("/v1/chat/completions", post(reply)).with_state(Arc::clone(&calls));
        let (address, server) = serve(app).await;
        let url = format!("{address}/v1/");
        Self { url, calls, _server: server }
    }

    /// How many calls came so far.
    pub fn calls(&self) -> usize {
        self.calls.made.load(Ordering::SeqCst)
    }

    /// Headers and bodies of the calls since they were last taken.
    pub fn take_seen(&self) -> Vec<(HeaderMap, Value)> {
        std::mem::take(&mut self.calls.seen.lock().unwrap())
    }
}

async fn reply(State(calls): State<Arc<Calls>>, headers: HeaderMap, body: Bytes) -> Response {
    let body: Value = serde_json::from_slice(&body).unwrap();
    let call = calls.made.fetch_add(1, Ordering::SeqCst);
    let script = match calls.scripts.get(call).or(calls.scripts.last()) {
        Some(script) => script.clone(),
        None => by_name(&body),
    };
    calls.seen.lock().unwrap().push((headers, body));
    let events = |body| ([("content-type", "text/event-stream")], body).into_response();
    match script {
        Script::Status(status, retry_after, body) => {
            let kind = if body.starts_with('<') { "text/html" } else { "application/json" };
            let mut response = (status, [("content-type", kind)], body).into_response();
            if !retry_after.is_empty() {
                response.headers_mut().insert("retry-after", retry_after.parse().unwrap());
            }
            response
        }
        Script::Events(chunks) => events(Body::from_stream(stream::iter(chunks).map(Ok::<_, Infallible>))),
        Script::Endless(chunks) => {
            let last = chunks.last().unwrap().clone();
            let all = stream::iter(chunks).chain(stream::iter(std::iter::repeat(last)));
            events(Body::from_stream(all.map(Ok::<_, Infallible>)))
        }
        Script::Drip(chunks, pause) => {
            let all = stream::iter(chunks).map(Ok::<_, Infallible>).throttle(pause);
            events(Body::from_stream(all))
        }
        Script::Silent(chunks) => {
            let all = stream::iter(chunks).chain(stream::pending());
            events(Body::from_stream(all.map(Ok::<_, Infallible>)))
        }
    }
}

fn by_name(body: &Value) -> Script {
    let name = body["model"].as_str().unwrap();
    let prompt = body["messages"][0]["content"].as_str().unwrap();
    let names = &body["response_format"]["json_schema"]["schema"]["properties"]["intent"]["enum"];
    let names = names.as_array().map(|names| names.iter().filter_map(Value::as_str).collect::<Vec<_>>());
    match Behaviour::named(name) {
        Some(behaviour) => {
            let said = match names {
                Some(names) => behaviour.choose(prompt, &names),
                None => behaviour.answer(prompt),
            };
            counted(name, prompt, &said)
        }
        None => fault(name).unwrap_or_else(|| panic!("no such behaviour: {name}")),
    }
}

/// A fault by its name: "status-429", "status-500", "hang", "cut", "garbage" or "endless".
pub fn fault(name: &str) -> Option<Script> {
    Some(match name {
        "status-429" => {
            Script::Status(StatusCode::TOO_MANY_REQUESTS, "60", r#"{"error": {"message": "slow down"}}"#)
        }
        "status-500" => Script::Status(StatusCode::INTERNAL_SERVER_ERROR, "", "oops"),
        "hang" => Script::Silent(said("A replacement")),
        "cut" => Script::Events(said("A replacement card costs 5 pounds [1]. It arrives")),
        "garbage" => Script::Events(vec![Bytes::from_static(b"data: {\"choices\": \xff\xfe}\n\n")]),
        "endless" => Script::Endless(vec![words("A replacement card costs 5 pounds [1]. ")]),
        _ => return None,
    })
}

/// One server-sent event.
pub fn event(value: &Value) -> Bytes {
    Bytes::from(format!("data: {value}\n\n"))
}

/// An event with some words of the answer.
pub fn words(text: &str) -> Bytes {
    event(&json!({"id": "x", "model": "tiny-1", "choices": [{"index": 0, "delta": {"content": text}}]}))
}

/// The event that ends an answer.
pub fn finish(reason: &str) -> Bytes {
    event(&json!({"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]}))
}

/// The event with the tokens spent.
pub fn usage(input: u64, output: u64) -> Bytes {
    let details = json!({"cached_tokens": 40});
    let usage =
        json!({"prompt_tokens": input, "completion_tokens": output, "prompt_tokens_details": details});
    event(&json!({"choices": [], "usage": usage}))
}

/// A stream of one text, cut into pieces of five characters, or more where it is long.
pub fn said(text: &str) -> Vec<Bytes> {
    let characters: Vec<char> = text.chars().collect();
    characters
        .chunks((characters.len() / 100).max(5))
        .map(|piece| words(&piece.iter().collect::<String>()))
        .collect()
}

/// A whole answer as the protocol wants it.
pub fn whole(text: &str) -> Script {
    used(text, usage(100, 20))
}

/// A whole answer of the model that was asked for, with as many tokens as OpenAI's tokenizer counts.
fn counted(name: &str, prompt: &str, text: &str) -> Script {
    let count = |text: &str| tiktoken_rs::o200k_base_singleton().encode_ordinary(text).len() as u64;
    let Script::Events(mut events) = used(text, usage(count(prompt), count(text))) else { unreachable!() };
    events.insert(0, event(&json!({"id": "x", "model": name, "choices": []})));
    Script::Events(events)
}

fn used(text: &str, usage: Bytes) -> Script {
    Script::Events([said(text), vec![finish("stop"), usage, Bytes::from("data: [DONE]\n\n")]].concat())
}
