//! Versions side by side, as they are while an update is rolled out: a neighbour of a newer version says more than is known
//! here, and nothing breaks; what it says in values that are unknown here is taken for the safe side.

use std::time::{Duration, Instant};

use kit::config::STAGES;
use proto::{Consent, ExportCustomerRequest, Message, Outcome, Turn};
use tests::{News, Transport, World};

/// What a customer writes that needs every stage, and a person in the end.
async fn conversation(world: &World) -> Vec<Turn> {
    let mut turns: Vec<Turn> = Vec::new();
    for text in ["How much is a replacement card?", "I lost my card 1234", "yes", "agent"] {
        let id = turns.first().map_or("", |turn| &turn.conversation_id).to_owned();
        turns.push(world.say(&id, text).await);
    }
    turns
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fields_that_nobody_here_knows_change_nothing() {
    let world = World::beside(News::Fields, &STAGES).await;
    let outcomes: Vec<Outcome> = conversation(&world).await.iter().map(Turn::outcome).collect();
    let expected = [Outcome::Answered, Outcome::ActionPending, Outcome::ActionDone, Outcome::Handoff];
    assert_eq!(outcomes, expected);
    assert_eq!(world.receiver.received().len(), 1);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn values_that_nobody_here_knows_are_taken_for_the_safe_side() {
    use Outcome::{ActionDone, ActionPending, Answered, Clarify, Handoff};
    // What the first three messages lead to, and how often something is done at the bank.
    let all_right = ([Answered, ActionPending, ActionDone], 1);
    let expected = [
        ("classifier", ([Clarify, Clarify, Handoff], 0)),
        ("safety", ([Handoff, Handoff, Handoff], 0)),
        ("retriever", ([Handoff, Handoff, Handoff], 0)),
        ("generator", all_right),
        ("workflow", ([Answered, ActionPending, Handoff], 0)),
        ("telemetry", all_right),
    ];
    for (stage, (outcomes, done)) in expected {
        let world = World::beside(News::Values, &[stage]).await;
        let seen: Vec<Outcome> = conversation(&world).await.iter().map(Turn::outcome).collect();
        assert_eq!(seen, [&outcomes[..], &[Handoff]].concat(), "{stage}");
        assert_eq!(world.receiver.received().len(), done, "{stage}");
        world.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consent_that_nobody_here_knows_is_none() {
    let world = World::with(Transport::Local, &[("orchestrator", "training_consent", "granted")]).await;
    for (customer, consent, kept) in [("a", 0, Consent::Granted), ("b", 99, Consent::Denied)] {
        let (customer_key, text) = (customer.to_owned(), "How much is a replacement card?".to_owned());
        world.ask(Message { customer_key, text, consent, ..Message::default() }).await;
        let start = Instant::now();
        let record = loop {
            let export = ExportCustomerRequest { customer_key: customer.to_owned() };
            let mut held = world.client.clone().export_customer(export).await.unwrap().into_inner();
            if let Some(record) = held.message().await.unwrap().and_then(|mut held| held.records.pop()) {
                break record;
            }
            assert!(start.elapsed() < Duration::from_secs(20), "nothing is recorded");
        };
        assert_eq!(record.consent(), kept);
    }
    world.stop().await;
}
