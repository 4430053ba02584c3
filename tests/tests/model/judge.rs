//! The model as a second judge of an answer.

use generator::Config;
use generator::opinion::Opinion;
use generator::prompt::Prompt;
use generator::verdict::Verdict;
use generator::write::Writer;
use serde_json::json;
use tests::model::{Model, whole};

use crate::{QUESTION, config, passages};

/// Three sentences that state something, one that does not.
const ANSWER: &str =
    "Sure! A replacement card costs 5 pounds. It arrives within 2 working days.\n\n- Branches open at 9:30.";

async fn judge(config: Config, answer: &str) -> Opinion<Verdict> {
    kit::run::install_tls();
    let writer = Writer::new(config, Prompt::new("Harbour Bank", None).unwrap()).unwrap();
    writer.judge(QUESTION, answer, &passages(), None).await.unwrap()
}

#[tokio::test]
async fn the_sentences_that_state_something_are_judged_by_their_numbers() {
    let model = Model::scripted(vec![whole(r#"{"unsupported": [2]}"#)]).await;
    let Opinion::Given { said, model: answered, usage, cost_usd, prices } =
        judge(config(&model.url), ANSWER).await
    else {
        panic!("a model is configured");
    };
    assert_eq!((said, answered.as_str()), (Ok(Verdict { claims: 3, unsupported: 1 }), "tiny-1"));
    assert_eq!((usage.input, usage.cached, usage.output, prices.as_str()), (100, 40, 20, "tiny 1/0.5/10"));
    assert!((cost_usd - 280e-6).abs() < 1e-12, "{cost_usd}");
    let (_, asked) = model.take_seen().remove(0);
    let numbers = &asked["response_format"]["json_schema"]["schema"]["properties"]["unsupported"];
    assert_eq!(numbers["items"]["enum"], json!([1, 2, 3]));
    let prompt = asked["messages"][0]["content"].as_str().unwrap();
    for part in [
        r#"{"number":2,"text":"It arrives within 2 working days."}"#,
        r#"{"number":3,"text":"Branches open at 9:30."}"#,
        r#""text":"Branches^are^open^from^9:30^to^16:30^on^weekdays.""#,
        "written as ^. Words",
        &format!("Question: {:?}", QUESTION),
    ] {
        assert!(prompt.contains(part), "{part} in {prompt}");
    }
}

#[tokio::test]
async fn a_reply_that_is_no_verdict_is_paid_for_and_judges_nothing() {
    let (schema, number) = (
        "the model's reply does not follow the schema",
        "the model's reply names a sentence the answer does not have",
    );
    for (reply, expected) in [
        (r#"{"unsupported": []}"#, Ok(0)),
        (r#"{"unsupported": [3, 3, 1]}"#, Ok(2)),
        (r#"{"unsupported": [0]}"#, Err(number)),
        (r#"{"unsupported": [1, 4]}"#, Err(number)),
        (r#"{"unsupported": [-1]}"#, Err(schema)),
        (r#"{"unsupported": ["1"]}"#, Err(schema)),
        (r#"{"unsupported": [], "supported": [1]}"#, Err(schema)),
        (r#"{"unsupported": [1"#, Err(schema)),
        ("All sentences are supported.", Err(schema)),
    ] {
        let model = Model::scripted(vec![whole(reply)]).await;
        let Opinion::Given { said, cost_usd, .. } = judge(config(&model.url), ANSWER).await else {
            panic!("a model is configured");
        };
        assert_eq!(said, expected.map(|unsupported| Verdict { claims: 3, unsupported }), "{reply}");
        assert!(cost_usd > 0.0, "what was paid for is told: {reply}");
    }
    let model = Model::behaving().await;
    let leaker = Config { judge_model: "leaker".to_owned(), ..config(&model.url) };
    let Opinion::Given { said, cost_usd, .. } = judge(leaker, ANSWER).await else {
        panic!("a model is configured");
    };
    assert_eq!(said, Err("the model began to repeat its prompt"));
    assert_eq!(cost_usd, 0.0, "the judge has no price, the other model's is not its own");
}

#[tokio::test]
async fn where_there_is_nothing_to_judge_or_nobody_who_could_no_model_is_asked() {
    let model = Model::scripted(vec![whole(r#"{"unsupported": []}"#)]).await;
    let long = "A replacement card costs 5 pounds. ".repeat(101);
    for (config, answer, expected) in [
        (Config::default(), ANSWER, "no model is configured"),
        (config(&model.url), "Sure!", "no sentence of the answer states anything"),
        (config(&model.url), long.as_str(), "the answer has more than 100 sentences"),
    ] {
        let opinion = judge(config, answer).await;
        assert_eq!(opinion, Opinion::Skipped(expected));
    }
    assert_eq!(model.calls(), 0);
}
