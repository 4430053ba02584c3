//! The word for a person while the database is down.

use std::time::{Duration, Instant};

use proto::*;
use scratch::Postgres;
use tests::{Transport, World};

async fn ask(world: &World, request: &str, conversation: &str, customer: &str, text: &str) -> Turn {
    let [request_id, conversation_id, customer_key, text] =
        [request, conversation, customer, text].map(str::to_owned);
    world.ask(Message { request_id, conversation_id, customer_key, text, ..Message::default() }).await
}

async fn press(world: &World, request: &str) -> Turn {
    let press = RequestHandoffRequest { request_id: request.to_owned(), ..RequestHandoffRequest::default() };
    world.client.clone().request_handoff(press).await.unwrap().into_inner().turn.unwrap()
}

/// The whole queue, as soon as it has so many.
async fn queue(world: &World, many: usize) -> Vec<Handoff> {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let found = world.client.clone().list_handoffs(ListHandoffsRequest::default()).await;
        let handoffs = found.unwrap().into_inner().handoffs;
        if handoffs.len() >= many {
            return handoffs;
        }
        assert!(Instant::now() < deadline, "{handoffs:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_word_is_answered_while_the_database_is_down_and_the_desk_has_it_once_when_it_is_back() {
    let mut server = Postgres::start();
    let world = World::with(Transport::Local, &[("server", "database.url", &server.database())]).await;
    let known = ask(&world, "", "", "ann", "What is the contactless limit?").await;
    let conversation = &known.conversation_id;
    server.kill();

    let told = ask(&world, "r1", conversation, "ann", "agent, please").await;
    assert_eq!((told.outcome(), &told.conversation_id), (Outcome::Handoff, conversation));
    assert!(!told.answer.is_empty());
    let again = ask(&world, "r1", conversation, "ann", "agent, please").await;
    assert_eq!((&again.turn_id, &again.handoff), (&told.turn_id, &told.handoff));
    // The journal would have refused this one; nobody can know that now, and a person was promised.
    let stranger = ask(&world, "r2", conversation, "bob", "AGENT").await;
    let button = press(&world, "r3").await;
    assert_eq!(press(&world, "r3").await.handoff, button.handoff);

    server.restart();
    let queue = queue(&world, 3).await;
    let id = |turn: &Turn| turn.handoff.clone().unwrap().handoff_id;
    let listed: Vec<_> = queue.iter().map(|handoff| handoff.handoff_id.clone()).collect();
    assert_eq!(listed, [&told, &stranger, &button].map(id));
    assert_eq!(&queue[0].conversation_id, conversation);
    assert!(queue[0].utterances.iter().any(|one| one.text == "agent, please"));
    assert_ne!(&queue[1].conversation_id, conversation, "what bob wrote is not in ann's conversation");
    assert_eq!(queue[1].utterances[0].text, "AGENT");
    let later = ask(&world, "r1", conversation, "ann", "agent, please").await;
    assert_eq!((&later.turn_id, &later.handoff), (&told.turn_id, &told.handoff));
    // What customers said does not stay in it.
    let file = world.data.path().join("lifeboat");
    let deadline = Instant::now() + Duration::from_secs(60);
    while std::fs::read(&file).unwrap().iter().any(|byte| *byte != 0) {
        assert!(Instant::now() < deadline, "the lifeboat is not cleared");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    world.stop().await;
}
