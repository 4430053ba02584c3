//! What a message means with what was said before it, in its parts, and by a third opinion.

use std::sync::{Arc, Mutex};

use axum::extract::State;
use axum::response::IntoResponse as _;
use axum::routing::post;
use axum::{Json, Router};
use proto::*;
use serde_json::{Value, json};
use tests::{Transport, World, both, serve};
use tokio::task::JoinSet;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

fn cited(turn: &Turn) -> Vec<&str> {
    turn.citations.iter().map(|citation| citation.document_id.as_str()).collect()
}

fn intent(turn: &Turn) -> &Intent {
    turn.intent.as_ref().unwrap()
}

both! {
    async fn a_question_that_leans_on_the_one_before_is_read_with_it(world: &World) {
        let first = world.say("", "What is the contactless limit?").await;
        assert_eq!(first.outcome(), Outcome::Answered, "{first:?}");
        let id = first.conversation_id.as_str();
        let then = world.say(id, "and does it work with a frozen card?").await;
        assert_eq!(then.outcome(), Outcome::Answered, "{then:?}");
        assert_eq!(intent(&then).name, "contactless_limit");
        assert!(then.answer.contains("frozen"), "{}", then.answer);
        // What stands alone is read alone, whatever was asked before.
        let other = world.say(id, "How long does it take to get a replacement card by post?").await;
        assert_eq!(intent(&other).name, "card_delivery", "{other:?}");
        let alone = world.say("", "and does it work with a frozen card?").await;
        assert_ne!(intent(&alone).name, "contactless_limit", "without the first it means something else");
    }

    async fn what_was_answered_last_is_what_the_next_question_is_about(world: &World) {
        let first = world.say("", "What account can my 13 year old son have?").await;
        let then = world.say(&first.conversation_id, "how much could he take out at a cash machine").await;
        assert_eq!(then.outcome(), Outcome::Answered, "{then:?}");
        assert_eq!(cited(&then)[0], "young-account", "{then:?}");
        // Without an answer before it nobody knows what "it" is: the customer is asked.
        let unclear = world.say("", "does it cost anything").await;
        assert_eq!(unclear.outcome(), Outcome::Clarify, "{unclear:?}");
    }

    async fn an_intent_that_the_bundle_gives_to_a_person_is_handed_over(world: &World) {
        let turn = world.say("", "this is too complicated for a computer").await;
        assert_eq!(turn.outcome(), Outcome::Handoff, "{turn:?}");
        assert_eq!(turn.handoff.as_ref().unwrap().reason(), HandoffReason::IntentPolicy, "{turn:?}");
    }

    async fn every_question_of_a_message_is_answered(world: &World) {
        let turn =
            world.say("", "What is the contactless limit, and how long does a new card take to arrive?").await;
        assert_eq!(turn.outcome(), Outcome::Answered, "{turn:?}");
        for document in ["contactless-limit", "card-delivery-times"] {
            assert!(cited(&turn).contains(&document), "{document}: {turn:?}");
        }
    }

    async fn a_question_beside_a_workflow_waits_for_its_end(world: &World) {
        let both = "My card was stolen, somebody nicked my wallet with my debit card in it, block the stolen card \
                    ending 1234 please. When does the Hull branch open?";
        let begun = world.say("", both).await;
        assert_eq!(begun.outcome(), Outcome::ActionPending, "{begun:?}");
        let id = begun.conversation_id.as_str();
        let ended = world.say(id, "cancel").await;
        assert_eq!(ended.workflow.as_ref().unwrap().state(), ExecutionState::Cancelled, "{ended:?}");
        assert!(ended.answer.contains("You also asked about"), "{}", ended.answer);
        let answered = world.say(id, "yes").await;
        assert_eq!(answered.outcome(), Outcome::Answered, "{answered:?}");
        assert!(cited(&answered).contains(&"branch-opening-hours"), "{answered:?}");
    }

    async fn a_fact_is_told_before_its_workflow_begins(world: &World) {
        let asked = world.say("", "How many days do I get to dispute a card payment?").await;
        assert_eq!(asked.outcome(), Outcome::Answered, "{asked:?}");
        assert!(asked.answer.contains("120 days") && asked.answer.ends_with("Shall I?"), "{}", asked.answer);
        let begun = world.say(&asked.conversation_id, "yes please").await;
        assert_eq!(begun.outcome(), Outcome::ActionPending, "{begun:?}");
        assert_eq!(begun.workflow.as_ref().unwrap().name, "dispute_charge");
        assert_eq!(intent(&begun).source(), IntentSource::Customer);
        // A request beside a question is not lost.
        let beside = world.say("", "I lost my card, please block it. What does a replacement card cost?").await;
        assert_eq!(beside.outcome(), Outcome::Answered, "{beside:?}");
        let begun = world.say(&beside.conversation_id, "yes").await;
        assert_eq!(begun.workflow.unwrap().name, "block_card");
    }
}

type Seen = Arc<Mutex<Vec<Value>>>;

/// A model that chooses the last of the intents it is offered, and writes nothing.
async fn model() -> (String, Seen, JoinSet<()>) {
    let seen = Seen::default();
    let answer = |State(seen): State<Seen>, Json(body): Json<Value>| async move {
        let offered =
            body["response_format"]["json_schema"]["schema"]["properties"]["intent"]["enum"].clone();
        seen.lock().unwrap().push(body);
        let Some([.., last, _none]) = offered.as_array().map(Vec::as_slice) else {
            return axum::http::StatusCode::NOT_IMPLEMENTED.into_response();
        };
        let said = json!({ "intent": last }).to_string();
        let said = json!({"choices": [{"index": 0, "delta": {"content": said}, "finish_reason": "stop"}]});
        let events = format!("data: {said}\n\ndata: [DONE]\n\n");
        ([("content-type", "text/event-stream")], events).into_response()
    };
    let app = Router::new().route("/v1/chat/completions", post(answer)).with_state(seen.clone());
    let (address, server) = serve(app).await;
    let url = format!("{address}/v1");
    (url, seen, server)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_chooses_where_the_classifier_is_unsure_and_can_be_switched_off() {
    const UNSURE: &str = "the thing with the money did something odd again";
    let (url, seen, _server) = model().await;
    for third_opinion in ["true", "false"] {
        let values = [
            ("generator", "provider", "openai"),
            ("generator", "model", "tiny"),
            ("generator", "base_url", url.as_str()),
            ("orchestrator", "third_opinion", third_opinion),
            // Whatever the words, the classifier is unsure of them.
            ("classifier", "accept_threshold", "1.0"),
            ("classifier", "out_of_scope_threshold", "1.0"),
        ];
        let world = World::with(Transport::Local, &values).await;
        let turn = world.say("", UNSURE).await;
        let choices = |body: &Value| body.get("response_format").is_some();
        let asked: Vec<Value> = seen.lock().unwrap().drain(..).filter(choices).collect();
        if third_opinion == "true" {
            let [body] = asked.as_slice() else { panic!("one choice is asked for: {asked:?}") };
            let offered = &body["response_format"]["json_schema"]["schema"]["properties"]["intent"]["enum"];
            let offered = offered.as_array().unwrap();
            assert_eq!(intent(&turn).name, offered[offered.len() - 2], "{turn:?}");
            assert_eq!(intent(&turn).source(), IntentSource::Model);
            assert!(intent(&turn).confidence < 1.0, "the confidence stays the classifier's");
        } else {
            assert!(asked.is_empty());
            assert_ne!(intent(&turn).source(), IntentSource::Model);
        }
        world.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_encoder_health_says_so_and_words_alone_answer() {
    let nowhere = tests::scratch();
    let models = format!("{:?}", nowhere.path().display().to_string());
    let values = [("server", "encoder.tier", "\"dense\""), ("server", "encoder.models", models.as_str())];
    let world = World::with(Transport::Tcp, &values).await;
    for stage in [classifier::NAME, retriever::NAME] {
        let mut client = HealthClient::new(world.links.get(stage).unwrap());
        for (service, expected) in [("", ServingStatus::Serving), ("dense", ServingStatus::NotServing)] {
            let request = HealthCheckRequest { service: service.to_owned() };
            let status = client.check(request).await.unwrap().into_inner().status();
            assert_eq!(status, expected, "{stage} {service:?}");
        }
    }
    let turn = world.say("", "What is the contactless limit?").await;
    assert_eq!((turn.outcome(), turn.intent.unwrap().encoder.as_str()), (Outcome::Answered, ""));
    world.stop().await;
}
