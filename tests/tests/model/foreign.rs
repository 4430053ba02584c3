//! Against a model server of another make, LLMock: it reads the protocol in its own way, breaks it in its own way, and
//! judges how it was called.

use generator::Config;
use generator::opinion::Opinion;
use serde_json::{Value, json};
use tests::{Foreign, python};
use tokio::process::Command;

use crate::chain::chain;
use crate::choose::choose;
use crate::{GOOD, GOOD_SHOWN, Outcome, QUESTION, ask, config};

async fn mock() -> Foreign {
    let mut command = Command::new(python());
    command.args(["-m", "uvicorn", "llmock.main:app", "--host", "127.0.0.1", "--port", "0"]);
    Foreign::start(command, "/health").await
}

/// Asks the server, which meets the next calls as it is told.
async fn asked(mock: &Foreign, behaviours: Value, change: impl FnOnce(&mut Config)) -> Outcome {
    mock.post("/_llmock/scenario", &json!({ "behaviors": behaviours })).await;
    let mut config = config(&format!("{}/v1", mock.url));
    // A busy machine is no fault.
    (config.timeout_ms, config.idle_timeout_ms) = (60_000, 60_000);
    change(&mut config);
    ask(config, QUESTION, None).await
}

/// What the server finds wrong with the calls so far.
async fn findings(mock: &Foreign) -> Value {
    mock.get("/_llmock/verdict").await.unwrap()["findings"].clone()
}

#[tokio::test]
async fn its_words_come_through_as_a_stream_and_as_a_whole() {
    let mock = mock().await;
    let reply = json!([{"type": "reply", "text": GOOD}]);
    let streamed = asked(&mock, reply, |_| ()).await;
    assert_eq!((streamed.shown.as_str(), streamed.deltas), (GOOD_SHOWN, 2));
    assert_eq!(streamed.answer.model, "tiny");
    let no_streams = json!({"type": "fail", "status": 404, "times": null, "match": {"stream": true}});
    let url = format!("{}/v1", mock.url);
    let whole = asked(&mock, json!([no_streams, {"type": "reply", "text": GOOD}]), |config| {
        *config = chain(&url, &url);
        config.models.get_mut("second").unwrap().unary = true;
    });
    let whole = whole.await;
    assert_eq!((whole.shown.as_str(), whole.answer.model.as_str()), (GOOD_SHOWN, "large"));
    assert!(streamed.answer.usage().input > 100, "{:?}", streamed.answer.usage());
    assert_eq!(whole.answer.usage(), streamed.answer.usage(), "a prompt costs the same either way");
    assert_eq!(findings(&mock).await, json!([]));
}

#[tokio::test]
async fn its_words_without_support_are_held_back() {
    let mock = mock().await;
    let false_price = "A replacement card costs 15 pounds [1]. Paris is the capital of France [2].";
    let reply = json!([{"type": "reply", "text": false_price}]);
    let Outcome { answer, shown, deltas } = asked(&mock, reply, |_| ()).await;
    assert!(answer.abstained(), "{shown}");
    assert_eq!((answer.model.as_str(), deltas, answer.unsupported), ("tiny", 0, 2));
}

#[tokio::test]
async fn it_reads_the_schema_of_a_choice() {
    let mock = mock().await;
    // Without a script it says the first that the schema allows.
    let opinion = choose(Config { choice_timeout_ms: 60_000, ..config(&format!("{}/v1", mock.url)) }).await;
    let Opinion::Given { said, .. } = opinion else { panic!("a model is configured") };
    assert_eq!(said, Ok(Some("declined_card".to_owned())));
}

#[tokio::test]
async fn it_finds_no_fault_with_how_its_refusals_are_met() {
    let mock = mock().await;
    let refusal = |status: u16| json!({"type": "fail", "status": status});
    let limit = json!({"type": "fail", "status": 429, "retry_after": 1});
    for (refusal, model) in [
        (limit, "tiny"),
        (refusal(500), "tiny"),
        (refusal(503), "tiny"),
        (refusal(400), "extractive"),
        (refusal(401), "extractive"),
        (refusal(404), "extractive"),
    ] {
        let said = format!("{refusal}");
        let script = json!([refusal, {"type": "reply", "text": GOOD}]);
        let Outcome { answer, shown, .. } = asked(&mock, script, |_| ()).await;
        assert_eq!((answer.model.as_str(), shown.is_empty()), (model, false), "{said}");
        assert_eq!(findings(&mock).await, json!([]), "{said}");
        mock.post("/_llmock/reset", &json!({})).await;
    }
}

#[tokio::test]
async fn its_broken_streams_are_no_answers() {
    let mock = mock().await;
    for kind in ["disconnect", "truncate", "malformed", "stall"] {
        let fault = json!({"type": "stream_fault", "kind": kind, "after_chunks": 12});
        let script = json!([fault, {"type": "reply", "text": GOOD}]);
        let stalls = kind == "stall";
        let outcome = asked(&mock, script, |config| {
            if stalls {
                config.idle_timeout_ms = 1_000;
            }
        });
        let Outcome { answer, shown, deltas } = outcome.await;
        assert_eq!(answer.model, "extractive", "{kind}");
        assert!(shown.starts_with("A replacement card costs 5 pounds."), "{kind}: {shown}");
        assert!(deltas > 0 && answer.usage().output > 0, "{kind}: it was paid for: {answer:?}");
    }
}
