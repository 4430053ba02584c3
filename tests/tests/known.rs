//! Known answers through the whole assistant: what somebody says is wrong is written anew, and what was given for other words
//! is compared after the turn.
#![expect(clippy::unwrap_used, reason = "a test that fails panics")]

use std::time::{Duration, Instant};

use proto::cost_service_client::CostServiceClient;
use proto::generator_service_client::GeneratorServiceClient;
use proto::*;
use tests::model::Model;
use tests::{Transport, World};

const QUESTION: &str = "How long does a replacement card take to arrive?";
const AGAIN: &str = "Hi, how long does the replacement card take to arrive please?";
/// Longest time until what is done after a turn is told.
const PATIENCE: Duration = Duration::from_secs(60);

async fn world(url: &str, more: &[(&str, &str, &str)]) -> World {
    let values = [
        ("generator", "provider", "openai"),
        ("generator", "model", "faithful"),
        ("generator", "base_url", url),
        ("generator", "prices.faithful", "{ input_usd_per_million = 1.0, output_usd_per_million = 1.0 }"),
        ("generator", "cache.recheck_share", "1.0"),
    ];
    World::with(Transport::Local, &[&values, more].concat()).await
}

/// The tier of the cache that a turn's answer came from.
async fn tier(world: &World, turn: &Turn) -> String {
    let request = ExplainTurnRequest { turn_id: turn.turn_id.clone(), ..Default::default() };
    let record = world.client.clone().explain_turn(request).await.unwrap().into_inner().record.unwrap();
    record.savings.unwrap_or_default().cache_tier
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_somebody_calls_wrong_is_written_anew() {
    let model = Model::behaving().await;
    let world = world(&model.url, &[]).await;
    let feedback = |turn: &Turn, rating, resolved| Feedback {
        conversation_id: turn.conversation_id.clone(),
        rating,
        resolved,
        ..Feedback::default()
    };
    world.say("", QUESTION).await;
    for (rating, resolved, expected) in [
        (5, None, "exact"),
        (0, Some(true), "exact"),
        (2, None, ""),
        (0, Some(false), ""),
        (0, None, "exact"),
    ] {
        let turn = world.say("", QUESTION).await;
        assert_eq!(tier(&world, &turn).await, "exact", "it was asked before");
        let request = SubmitFeedbackRequest { feedback: Some(feedback(&turn, rating, resolved)) };
        world.client.clone().submit_feedback(request).await.unwrap();
        let after = world.say("", QUESTION).await;
        assert_eq!(tier(&world, &after).await, expected, "rated {rating}, resolved {resolved:?}");
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_given_for_other_words_is_compared_after_the_turn() {
    let model = Model::behaving().await;
    let world = world(&model.url, &[("generator", "categories.cards.semantic_cache", "true")]).await;
    let first = world.say("", QUESTION).await;
    let intent = first.intent.clone().unwrap();
    assert_eq!(intent.category, "cards");
    let mut generator = GeneratorServiceClient::new(world.links.get("generator").unwrap());
    // As many others are compared as it takes.
    for n in 0..268 {
        for lead in ["", "Hello, "] {
            let text = format!("A replacement card takes 3 days to arrive in branch {n}.");
            let request = GenerateRequest {
                question: format!("{lead}how long does a replacement card take to arrive in branch {n}?"),
                passages: vec![Passage {
                    document_id: "d".to_owned(),
                    text,
                    score: 1.0,
                    ..Passage::default()
                }],
                category: intent.category.clone(),
                intent: intent.name.clone(),
                ..GenerateRequest::default()
            };
            let mut stream = generator.generate(request).await.unwrap().into_inner();
            while stream.message().await.unwrap().is_some() {}
        }
    }
    world.say("", QUESTION).await;
    let given = world.say("", AGAIN).await;
    assert_eq!(tier(&world, &given).await, "semantic", "{given:?}");
    let mut costs = CostServiceClient::new(world.links.get("telemetry").unwrap());
    let window = Some(prost_types::Duration { seconds: 86_400 * 2, nanos: 0 });
    let start = Instant::now();
    let compared = loop {
        let told = costs.get_costs(GetCostsRequest { window }).await.unwrap().into_inner();
        if let Some(line) = told.lines.into_iter().find(|line| line.purpose() == ModelPurpose::Recheck) {
            break line;
        }
        assert!(start.elapsed() < PATIENCE, "nothing was compared");
    };
    assert_eq!((compared.calls, compared.category.as_str(), compared.cost_usd > 0.0), (1, "cards", true));
    world.stop().await;
}
