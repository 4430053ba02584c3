//! The model's choice among intents.

use generator::Config;
use generator::choose::Choice;
use generator::opinion::Opinion;
use generator::prompt::Prompt;
use generator::write::Writer;
use serde_json::json;

use tests::model::{Model, Script, whole};

use crate::{GOOD, GOOD_SHOWN, QUESTION, ask_of, config};

pub async fn choose(config: Config) -> Opinion<Option<String>> {
    kit::run::install_tls();
    let writer = Writer::new(config, Prompt::new("Harbour Bank", None).unwrap()).unwrap();
    let choice =
        |name: &str| Choice { name: name.to_owned(), title: name.to_uppercase(), description: String::new() };
    writer.choose("it was \"declined\"", &[choice("declined_card"), choice("card_pin")], None).await.unwrap()
}

#[tokio::test]
async fn the_model_chooses_one_of_the_names_it_is_given_or_none() {
    let fake_model = Model::scripted(vec![whole(r#"{"intent": "card_pin"}"#)]).await;
    let Opinion::Given { said, model, usage, cost_usd, .. } = choose(config(&fake_model.url)).await else {
        panic!("a model is configured");
    };
    assert_eq!((said, model.as_str()), (Ok(Some("card_pin".to_owned())), "tiny-1"));
    assert_eq!((usage.input, usage.output), (100, 20));
    // 60 tokens of the prompt, 40 from the cache, 20 of the reply.
    assert!((cost_usd - 280e-6).abs() < 1e-12, "{cost_usd}");
    let (_, asked) = fake_model.take_seen().remove(0);
    let schema = &asked["response_format"]["json_schema"];
    assert_eq!(schema["strict"], true);
    let names = json!(["declined_card", "card_pin", "none"]);
    assert_eq!(schema["schema"]["properties"]["intent"]["enum"], names);
    let prompt = asked["messages"][0]["content"].as_str().unwrap();
    assert!(prompt.contains(r#"it was \"declined\""#), "the message stands as JSON: {prompt}");

    for (reply, expected) in [
        (r#"{"intent": "none"}"#, Ok(None)),
        (r#"{"intent": "refund"}"#, Err("the model's reply names an intent nobody offered")),
        ("card_pin", Err("the model's reply does not follow the schema")),
    ] {
        let fake_model = Model::scripted(vec![whole(reply)]).await;
        let Opinion::Given { said, cost_usd, .. } = choose(config(&fake_model.url)).await else {
            panic!("a model is configured");
        };
        assert_eq!(said, expected, "{reply}");
        assert!(cost_usd > 0.0, "what was paid for is told: {reply}");
    }
}

#[tokio::test]
async fn a_choice_beside_the_prompt_does_not_count() {
    let model = Model::behaving().await;
    for name in ["leaker", "hijacked"] {
        let told = Config { model: name.to_owned(), ..config(&model.url) };
        let Opinion::Given { said: chosen, cost_usd, .. } = choose(told).await else {
            panic!("a model is configured");
        };
        assert_eq!(chosen, Err("the model began to repeat its prompt"), "{name}");
        assert_eq!(cost_usd, 0.0, "{name} has no price");
    }
}

#[tokio::test]
async fn no_model_and_a_choice_over_its_budget_cost_nothing() {
    assert!(matches!(choose(Config::default()).await, Opinion::Skipped(_)));
    let fake_model = Model::scripted(vec![whole(r#"{"intent": "card_pin"}"#)]).await;
    let dear = Config { choice_max_cost_usd: 0.0001, ..config(&fake_model.url) };
    let Opinion::Skipped(why) = choose(dear).await else { panic!("the budget is too small") };
    assert!(why.contains("choice_max_cost_usd"), "{why}");
    assert_eq!(fake_model.calls(), 0);
}

#[tokio::test]
async fn choices_that_take_too_long_keep_nobody_from_being_answered() {
    let mut scripts = vec![Script::Silent(Vec::new()); 6];
    scripts.push(whole(GOOD));
    let model = Model::scripted(scripts).await;
    let writer = crate::writer(Config { choice_timeout_ms: 20, ..config(&model.url) });
    let choice =
        |name: &str| Choice { name: name.to_owned(), title: String::new(), description: String::new() };
    for _ in 0..6 {
        let slow = writer.choose("it was declined", &[choice("a"), choice("b")], None).await;
        assert!(slow.is_err(), "{slow:?}");
    }
    let answered = ask_of(&writer, QUESTION, None).await;
    assert_eq!((answered.shown.as_str(), answered.answer.model.as_str()), (GOOD_SHOWN, "tiny-1"));
}
