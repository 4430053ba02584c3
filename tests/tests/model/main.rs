//! The generator against a real HTTP server that speaks, or breaks, the OpenAI protocol.

mod cache;
mod chain;
mod choose;
mod foreign;
mod judge;
mod saving;

use std::time::Duration;

use axum::body::Bytes;
use axum::http::StatusCode;
use generator::Config;
use generator::answer::{Answer, Passage, Request, Usage};
use generator::config::{Price, Provider};
use generator::prompt::Prompt;
use generator::write::{Event, Writer};
use serde_json::json;
use tests::model::{Model, Script, event, finish, said, usage, whole, words};
use tokio::time::Instant;

const GOOD: &str = "A replacement card costs 5 pounds [1]. It arrives within 3 to 5 working days [1].";
const GOOD_SHOWN: &str = "A replacement card costs 5 pounds. It arrives within 3 to 5 working days.";

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

fn writer(config: Config) -> Writer {
    kit::run::install_tls();
    Writer::new(config, Prompt::new("Harbour \"Bank\"", None).unwrap()).unwrap()
}

async fn ask(config: Config, question: &str, deadline: Option<Instant>) -> Outcome {
    ask_of(&writer(config), question, deadline).await
}

async fn ask_of(writer: &Writer, question: &str, deadline: Option<Instant>) -> Outcome {
    let request = Request {
        question: question.to_owned(),
        passages: passages(),
        turn_id: "t1".to_owned(),
        min_support: 0.0,
        ..Request::default()
    };
    collect(writer, &request, deadline).await
}

/// The answer to a request, and what a reader of its deltas ends up with.
async fn collect(writer: &Writer, request: &Request, deadline: Option<Instant>) -> Outcome {
    let (sender, mut receiver) = tokio::sync::mpsc::channel(64);
    writer.write(request, deadline, &sender).await;
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
                return Outcome { answer: *answer, shown, deltas };
            }
        }
    }
    panic!("no final event");
}

const QUESTION: &str = "How much does a replacement card cost?";

/// Asks a server that fails like this; the answer must be the passages' own and the calls as many.
async fn falls_back(scripts: Vec<Script>, calls: usize) -> Outcome {
    let fake = Model::scripted(scripts).await;
    let outcome = ask(config(&fake.url), QUESTION, None).await;
    assert_eq!(fake.calls(), calls, "calls");
    assert_eq!(outcome.answer.model, "extractive");
    assert_eq!(outcome.answer.prompt_version, "");
    assert!(outcome.shown.starts_with("A replacement card costs 5 pounds."), "{}", outcome.shown);
    outcome
}

#[tokio::test]
async fn a_stream_becomes_an_answer_with_citations_usage_and_cost() {
    let fake = Model::scripted(vec![whole(GOOD)]).await;
    let config =
        Config { api_key: Some("sk-test".to_owned().into()), temperature: Some(0.5), ..config(&fake.url) };
    let Outcome { answer, deltas, .. } = ask(config, QUESTION, None).await;
    assert_eq!(answer.text, GOOD_SHOWN);
    assert_eq!(deltas, 2);
    assert_eq!(answer.citations.iter().map(|citation| citation.passage).collect::<Vec<_>>(), [0, 0]);
    assert_eq!(answer.citations[1].quote, "It arrives within 3 to 5 working days.");
    assert_eq!(answer.model, "tiny-1");
    assert_eq!(answer.usage(), Usage { input: 100, cached: 40, output: 20 });
    assert!((answer.cost_usd() - (60.0 + 20.0 + 200.0) / 1e6).abs() < 1e-12, "{}", answer.cost_usd());
    assert_eq!(answer.prices(), "tiny 1/0.5/10");
    assert_eq!((answer.unsupported, answer.judge.as_str()), (0, "support/1 at 0.4, overlap 0"));
    assert!(answer.prompt_version.starts_with("answer@2-"));
    let (headers, body) = fake.take_seen().pop().unwrap();
    assert_eq!(headers["authorization"], "Bearer sk-test");
    assert_eq!(body["stream_options"]["include_usage"], true);
    assert_eq!((&body["max_tokens"], &body["temperature"]), (&json!(512), &json!(0.5)));
    let prompt = body["messages"][0]["content"].as_str().unwrap();
    assert!(
        prompt.contains("[1] {\"title\": \"Replacement^cards\"") && !prompt.contains("Branches"),
        "{prompt}"
    );
    assert!(answer.saved.packing_tokens > 10 && answer.saved.packing_usd > 0.0, "{:?}", answer.saved);
}

#[tokio::test]
async fn without_a_key_none_is_sent_and_without_usage_it_is_estimated() {
    let fake = Model::scripted(vec![Script::Events([said(GOOD), vec![finish("stop")]].concat())]).await;
    let Outcome { answer, .. } = ask(config(&fake.url), QUESTION, None).await;
    assert_eq!(answer.text, GOOD_SHOWN);
    assert_eq!(answer.usage().output, 23, "as many as OpenAI's tokenizer counts");
    assert!(answer.usage().input > 100 && answer.cost_usd() > 0.0);
    assert!(!fake.take_seen()[0].0.contains_key("authorization"));
}

#[tokio::test]
async fn a_usage_that_cannot_be_true_is_estimated() {
    let lie = Script::Events([said(GOOD), vec![finish("stop"), usage(1_000_000_000, 0)]].concat());
    let fake = Model::scripted(vec![lie]).await;
    let Outcome { answer, .. } = ask(config(&fake.url), QUESTION, None).await;
    assert!(answer.usage().input < 2_000 && answer.usage().output > 0, "{:?}", answer.usage());
}

#[tokio::test]
async fn a_rate_limit_is_retried_once_when_its_wait_fits_the_deadline() {
    const LIMIT: &str = r#"{"error":{"message":"slow down","type":"rate_limit_error"}}"#;
    let limited = |after| Script::Status(StatusCode::TOO_MANY_REQUESTS, after, LIMIT);
    let retried = Model::scripted(vec![limited("0"), whole(GOOD)]).await;
    assert_eq!(ask(config(&retried.url), QUESTION, None).await.answer.model, "tiny-1");
    assert_eq!(retried.calls(), 2);
    falls_back(vec![limited("0"), limited("0"), whole(GOOD)], 2).await;
    falls_back(vec![limited("60"), whole(GOOD)], 1).await;
    falls_back(vec![limited("Wed, 21 Oct 2099 07:28:00 GMT"), whole(GOOD)], 1).await;
    falls_back(vec![limited(""), whole(GOOD)], 1).await;
}

#[tokio::test]
async fn a_server_error_is_retried_once_and_a_refusal_never() {
    let broken = || Script::Status(StatusCode::INTERNAL_SERVER_ERROR, "", "oops");
    let fake = Model::scripted(vec![broken(), whole(GOOD)]).await;
    assert_eq!(ask(config(&fake.url), QUESTION, None).await.answer.model, "tiny-1");
    assert_eq!(fake.calls(), 2);
    falls_back(vec![broken(), broken(), whole(GOOD)], 2).await;
    falls_back(vec![Script::Status(StatusCode::UNAUTHORIZED, "", "{}"), whole(GOOD)], 1).await;
    falls_back(vec![Script::Status(StatusCode::FOUND, "", ""), whole(GOOD)], 1).await;
}

#[tokio::test]
async fn a_stream_that_breaks_off_is_replaced_and_its_tokens_count() {
    let broken =
        "A replacement card costs 5 pounds [1]. It arrives within 3 to 5 working days [1]. Branches are open";
    let outcome = falls_back(vec![Script::Events(said(broken))], 1).await;
    assert!(outcome.deltas > 2, "the first sentence left before the stream broke");
    assert!(outcome.answer.usage().output > 0 && outcome.answer.cost_usd() > 0.0);
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
    let fake = Model::scripted(vec![Script::Silent(said("A replacement"))]).await;
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
    let mixed = Model::scripted(vec![whole(words)]).await;
    let Outcome { answer, .. } = ask(config(&mixed.url), "When are branches open?", None).await;
    assert_eq!(answer.text, "Branches are open from 9:30 to 16:30 on weekdays.");
    assert_eq!(answer.citations.len(), 1);
    assert_eq!(answer.citations[0].passage, 1, "the false citation is replaced by the true one");
    for nothing in ["Paris is the capital of France [1].", "NO_ANSWER", "I can't help with that."] {
        let fake = Model::scripted(vec![whole(nothing)]).await;
        let Outcome { answer, deltas, .. } = ask(config(&fake.url), QUESTION, None).await;
        assert!(answer.abstained(), "{}", answer.text);
        assert_eq!((answer.model.as_str(), deltas), ("tiny-1", 0));
    }
}

#[tokio::test]
async fn a_model_that_gives_its_prompt_away_is_stopped_and_nothing_of_that_leaves() {
    let leaker = Model::behaving().await;
    let honest = "A replacement card costs 5 pounds.";
    // The leaker's disguise depends on the length of the question.
    for more in 0..6 {
        let question = format!("{QUESTION}{}", "?".repeat(more));
        let Outcome { answer, shown, .. } =
            ask(Config { model: "leaker".to_owned(), ..config(&leaker.url) }, &question, None).await;
        assert!(answer.leaked && answer.abstained() && shown.is_empty(), "{answer:?}");
        assert!(answer.usage().output > 0 && answer.model == "leaker", "it was paid for: {answer:?}");
    }
    let echo = Config { model: "echo".to_owned(), ..config(&leaker.url) };
    let Outcome { answer, .. } = ask(echo, QUESTION, None).await;
    assert!(
        !answer.leaked && answer.text.contains(honest),
        "what others wrote gives nothing away: {answer:?}"
    );
}

#[tokio::test]
async fn an_answer_at_the_token_limit_loses_only_its_unfinished_sentence() {
    let text = "A replacement card costs 5 pounds [1]. It arrives within 3 to";
    let fake = Model::scripted(vec![Script::Events([said(text), vec![finish("length")]].concat())]).await;
    let Outcome { answer, .. } = ask(config(&fake.url), QUESTION, None).await;
    assert_eq!(answer.text, "A replacement card costs 5 pounds.");
}
