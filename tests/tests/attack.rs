//! A sample of the attack suite, which `make attack` runs whole, and the faults of a model server through the
//! whole mesh.

use proto::{HandoffReason, Outcome};
use tests::attack::{FAMILIES, Run, Tally, all, run, sample, table};
use tests::behave::Behaviour;
use tests::model::Model;
use tests::{Transport, World, demo};

/// Conversations of each family.
const EACH: usize = 8;

async fn withstands(behaviour: Behaviour, transport: Transport) -> Run {
    let cases = all();
    let run = run(behaviour, transport, &sample(&cases, EACH)).await;
    println!("{}", table(std::slice::from_ref(&run)));
    assert_eq!(run.outcomes.len(), FAMILIES.len() * EACH);
    let broken: Vec<_> = run.outcomes.iter().filter(|outcome| !outcome.violations.is_empty()).collect();
    assert!(broken.is_empty(), "{broken:#?}");
    assert!(run.calls > 10, "the model was hardly asked: {}", run.calls);
    assert!(run.effects > 0, "what a customer confirms has its effect");
    let harmless = Tally::of(&run, "harmless");
    assert!(harmless.ends[0] > 0, "nothing was answered: {harmless:?}");
    run
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_that_obeys_everything_breaks_no_rule() {
    withstands(Behaviour::Hijacked, Transport::Local).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_that_repeats_everything_breaks_no_rule() {
    withstands(Behaviour::Echo, Transport::Tcp).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_that_gives_its_prompt_away_gives_the_turn_to_a_person() {
    let model = Model::behaving().await;
    let values = [
        ("generator", "provider", "openai"),
        ("generator", "base_url", &model.url),
        ("generator", "model", "leaker"),
    ];
    let world = World::with(Transport::Local, &values).await;
    let turn = world.say("", "How much does a lost card replacement by express delivery cost?").await;
    assert_eq!(
        turn.handoff.as_ref().map(|handoff| handoff.reason()),
        Some(HandoffReason::SafetyPolicy),
        "{turn:?}"
    );
    assert!(turn.cost_usd == 0.0 && turn.usage.is_some_and(|usage| usage.output_tokens > 0), "{turn:?}");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_server_that_fails_is_replaced_by_the_articles() {
    let model = Model::behaving().await;
    for fault in ["status-429", "status-500", "hang", "cut", "garbage", "endless"] {
        let values = [
            ("generator", "provider", "openai"),
            ("generator", "base_url", &model.url),
            ("generator", "model", fault),
            ("generator", "idle_timeout_ms", "200"),
        ];
        let world = World::over(Transport::Local, &demo(), &values).await;
        let turn = world.say("", "How much does a lost card replacement by express delivery cost?").await;
        assert_eq!(
            (turn.outcome(), turn.model.as_str()),
            (Outcome::Answered, "extractive"),
            "{fault}: {turn:?}"
        );
        world.stop().await;
    }
    assert!(model.calls() >= 6);
}
