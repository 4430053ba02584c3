//! What happens when a model cannot answer and there are others.

use std::time::Duration;

use axum::body::Bytes;
use axum::http::StatusCode;
use generator::Config;
use generator::config::{Model as Further, Price};
use serde_json::json;
use tests::model::{Model, Script, event, finish, said, usage, whole, words};
use tokio::time::Instant;

use crate::{GOOD, GOOD_SHOWN, Outcome, QUESTION, config, writer};

/// The first model, and a second one at a tenth of its price.
pub fn chain(first: &str, second: &str) -> Config {
    let price =
        Price { input_usd_per_million: 0.1, output_usd_per_million: 1.0, cached_input_usd_per_million: None };
    let further = Further {
        model: "large".to_owned(),
        base_url: second.to_owned(),
        price: Some(price),
        ..Further::default()
    };
    Config {
        idle_timeout_ms: 1_000,
        timeout_ms: 2_000,
        fallback: vec!["second".to_owned()],
        cache: generator::cache::Settings { max_mb: 0, ..Default::default() },
        models: [("second".to_owned(), further)].into(),
        ..config(first)
    }
}

/// Faults of a provider, each with how many calls it gets.
fn faults() -> Vec<(&'static str, Script)> {
    let status = |code, after| Script::Status(code, after, r#"{"error": {"message": "no"}}"#);
    let slow: Vec<Bytes> = GOOD.split_inclusive(' ').map(words).collect();
    vec![
        ("429 with Retry-After", status(StatusCode::TOO_MANY_REQUESTS, "1")),
        ("429 without", status(StatusCode::TOO_MANY_REQUESTS, "")),
        ("500", status(StatusCode::INTERNAL_SERVER_ERROR, "")),
        ("hang", Script::Silent(Vec::new())),
        ("silence after a sentence", Script::Silent(said("A replacement card costs 5 pounds [1]. It arr"))),
        ("slow drip", Script::Drip(slow, Duration::from_millis(250))),
        ("truncated stream", Script::Events(said("A replacement card costs 5 pounds [1]. It arrives"))),
        ("invalid JSON", Script::Events(vec![Bytes::from_static(b"data: {\"choices\": oops}\n\n")])),
        ("50 MB", Script::Events(vec![words(&"A replacement card costs 5 pounds [1]. ".repeat(1_300_000))])),
        ("an error within", Script::Events([said("A repl"), vec![event(&json!({"error": {}}))]].concat())),
        ("a login page", Script::Status(StatusCode::OK, "", "<html>login</html>")),
    ]
}

#[tokio::test]
async fn every_fault_of_a_provider_ends_in_the_answer_of_the_next_one() {
    for (fault, script) in faults() {
        let (first, second) = (Model::scripted(vec![script]).await, Model::scripted(vec![whole(GOOD)]).await);
        let deadline = Instant::now() + Duration::from_secs(5);
        let Outcome { answer, shown, .. } =
            crate::ask(chain(&first.url, &second.url), QUESTION, Some(deadline)).await;
        assert!(Instant::now() < deadline, "{fault}");
        assert_eq!((shown.as_str(), answer.text.as_str()), (GOOD_SHOWN, GOOD_SHOWN), "{fault}");
        // Nobody waits for a second try of the first while there is another.
        assert_eq!((first.calls(), second.calls()), (1, 1), "{fault}");
        let prices = ["large 0.1/0.1/1", "tiny 1/0.5/10, large 0.1/0.1/1"];
        assert!(prices.contains(&answer.prices().as_str()), "{fault}: {}", answer.prices());
        // What the first cost is in the bill.
        let own = 100.0 * 0.1 / 1e6 + 20.0 / 1e6;
        let both = answer.prices() == prices[1];
        assert_eq!(answer.cost_usd() > own + 1e-9, both, "{fault}: {}", answer.cost_usd());
    }
}

#[tokio::test]
async fn a_usage_that_cannot_be_true_is_no_reason_to_ask_another() {
    let lie = Script::Events([said(GOOD), vec![finish("stop"), usage(1_000_000_000, 0)]].concat());
    let (first, second) = (Model::scripted(vec![lie]).await, Model::scripted(vec![whole(GOOD)]).await);
    let Outcome { answer, shown, .. } = crate::ask(chain(&first.url, &second.url), QUESTION, None).await;
    assert_eq!((shown.as_str(), second.calls()), (GOOD_SHOWN, 0));
    assert!(answer.usage().input < 2_000 && answer.cost_usd() < 0.01, "{answer:?}");
}

#[tokio::test]
async fn who_is_silenced_is_never_asked_and_quotes_answer_when_all_are() {
    for (silenced, calls) in [(vec!["tiny"], (0, 1)), (vec!["tiny", "large"], (0, 0))] {
        let (first, second) =
            (Model::scripted(vec![whole(GOOD)]).await, Model::scripted(vec![whole(GOOD)]).await);
        let silenced = silenced.into_iter().map(str::to_owned).collect();
        let config = Config { silenced, ..chain(&first.url, &second.url) };
        let Outcome { answer, .. } = crate::ask(config, QUESTION, None).await;
        assert_eq!((first.calls(), second.calls()), calls);
        assert!(!answer.text.is_empty() && answer.calls.len() == calls.1, "{answer:?}");
    }
}

#[tokio::test]
async fn a_provider_that_fails_is_left_alone_and_one_that_says_so_too() {
    let broken = Script::Status(StatusCode::INTERNAL_SERVER_ERROR, "", "oops");
    let limited = Script::Status(StatusCode::TOO_MANY_REQUESTS, "60", "{}");
    for (script, calls) in [(broken, 5), (limited, 1)] {
        let (first, second) = (Model::scripted(vec![script]).await, Model::scripted(vec![whole(GOOD)]).await);
        // A breaker that is tried once a second: longer than this test takes with a server on loopback.
        let writer = writer(chain(&first.url, &second.url));
        for _ in 0..8 {
            assert_eq!(crate::ask_of(&writer, QUESTION, None).await.shown, GOOD_SHOWN);
        }
        assert!((calls..=calls + 2).contains(&first.calls()), "{} calls", first.calls());
        assert_eq!(second.calls(), 8);
    }
}

#[tokio::test]
async fn beyond_its_limits_of_a_minute_a_model_is_not_asked() {
    let down = Model::scripted(vec![Script::Status(StatusCode::BAD_GATEWAY, "", "")]).await;
    let limited = Model::scripted(vec![whole(GOOD)]).await;
    let mut config = chain(&down.url, &limited.url);
    config.models.get_mut("second").unwrap().requests_per_minute = 2;
    let writer = writer(config);
    for model in ["tiny-1", "tiny-1", "extractive"] {
        assert_eq!(crate::ask_of(&writer, QUESTION, None).await.answer.model, model);
    }
    assert_eq!(limited.calls(), 2);
}

#[tokio::test]
async fn a_server_that_answers_as_a_whole_and_azure_are_spoken_to_as_they_want() {
    let said = json!({"id": "c1", "model": "phi", "usage": {"prompt_tokens": 90, "completion_tokens": 12},
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": GOOD}}]});
    let body: &'static str = Box::leak(said.to_string().into_boxed_str());
    let down = Model::scripted(vec![Script::Status(StatusCode::BAD_GATEWAY, "", "")]).await;
    let second = Model::scripted(vec![Script::Status(StatusCode::OK, "", body)]).await;
    let mut config = chain(&down.url, &second.url);
    let further = config.models.get_mut("second").unwrap();
    (further.unary, further.api_version) = (true, "2025-01-01".to_owned());
    (further.api_key, further.max_tokens) = (Some("az-key".to_owned().into()), Some(64));
    let Outcome { answer, shown, .. } = crate::ask(config, QUESTION, None).await;
    assert_eq!((shown.as_str(), answer.model.as_str()), (GOOD_SHOWN, "phi"));
    assert_eq!((answer.usage().input, answer.usage().output), (90, 12));
    let (headers, asked) = second.take_seen().remove(0);
    assert_eq!((headers["api-key"].to_str().unwrap(), headers.get("authorization")), ("az-key", None));
    assert_eq!(
        (&asked["stream"], asked.get("stream_options"), &asked["max_tokens"]),
        (&json!(false), None, &json!(64))
    );
}
