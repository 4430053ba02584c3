//! How soon an answer is there: one that is known against one bare call of the same server, and the first words of one that a
//! model writes at thirty tokens a second against what has to come before them. Interleaved in one run.

use std::time::{Duration, Instant};

use proto::converse_response::Event;
use proto::generator_service_client::GeneratorServiceClient;
use proto::*;
use tests::model::{Model, Script, finish, usage, whole, words};
use tests::{Transport, World};

const HITS: usize = 3_000;
const TURNS: usize = 20;
/// Between two tokens.
const TOKEN: Duration = Duration::from_nanos(33_333_333);
const QUESTION: &str = "How long does a replacement card take to arrive?";
const ANSWER: &str = "A replacement debit or credit card sent by standard post in the UK takes 3 to 5 working days to arrive [1]. \
                      It is free, and the old card stops working [1].";

#[tokio::main]
async fn main() {
    known().await;
    first_words().await;
}

fn at(values: &mut [f64], quantile: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    values[((values.len() - 1) as f64 * quantile) as usize]
}

fn micros(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e6
}

async fn world(url: &str, more: &[(&str, &str, &str)]) -> World {
    let values =
        [("generator", "provider", "openai"), ("generator", "model", "tiny"), ("generator", "base_url", url)];
    World::with(Transport::Tcp, &[&values, more].concat()).await
}

/// An answer of the cache over loopback, beside a call that does nothing.
async fn known() {
    let model = Model::scripted(vec![whole(ANSWER)]).await;
    let world = world(&model.url, &[]).await;
    let mut generator = GeneratorServiceClient::new(world.links.get("generator").unwrap());
    let passage = Passage {
        document_id: "cards".to_owned(),
        title: "Replacement cards".to_owned(),
        text: ANSWER.replace(" [1]", ""),
        score: 1.0,
        ..Passage::default()
    };
    let request = GenerateRequest {
        question: QUESTION.to_owned(),
        passages: vec![passage; 6],
        ..GenerateRequest::default()
    };
    let (mut hits, mut bare) = (Vec::new(), Vec::new());
    for round in 0..HITS {
        let start = Instant::now();
        generator.evict_answer(EvictAnswerRequest::default()).await.unwrap();
        bare.push(micros(start));
        let start = Instant::now();
        let mut stream = generator.generate(request.clone()).await.unwrap().into_inner();
        let mut tier = String::new();
        while let Some(event) = stream.message().await.unwrap() {
            if let Some(generate_response::Event::Final(generation)) = event.event {
                tier = generation.savings.unwrap_or_default().cache_tier;
            }
        }
        if round > 0 {
            assert_eq!(tier, "exact");
            hits.push(micros(start));
        }
    }
    println!("a known answer, {HITS} times over loopback, us:");
    for (name, quantile) in [("p50", 0.5), ("p99", 0.99)] {
        let (hit, bare) = (at(&mut hits, quantile), at(&mut bare, quantile));
        println!(
            "  {name}: {hit:.0}, a bare call {bare:.0}, at most {:.0} (1.5 times that and 100)",
            1.5 * bare + 100.0
        );
    }
    world.stop().await;
}

/// The first words that a customer sees of an answer at thirty tokens a second.
async fn first_words() {
    let pieces: Vec<&str> = ANSWER.split_inclusive(' ').collect();
    // A sentence is over when the word after it is there, and the space behind that.
    let window = pieces.iter().position(|piece| piece.contains("[1].")).unwrap() + 2;
    let mut events: Vec<_> = pieces.iter().map(|piece| words(piece)).collect();
    events.extend([finish("stop"), usage(300, 40)]);
    let model = Model::scripted(vec![Script::Drip(events, TOKEN)]).await;
    let off = [("generator", "cache.max_mb", "0"), ("orchestrator", "budget.turns_per_minute", "0")];
    let by_model = world(&model.url, &off).await;
    let without = World::with(Transport::Tcp, &[("orchestrator", "budget.turns_per_minute", "0")]).await;
    let (mut written, mut before, mut hop) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..TURNS {
        written.push(first(&by_model).await);
        // The same path up to the passages' own sentences.
        before.push(first(&without).await);
        let mut generator = GeneratorServiceClient::new(by_model.links.get("generator").unwrap());
        let start = Instant::now();
        generator.evict_answer(EvictAnswerRequest::default()).await.unwrap();
        hop.push(micros(start) / 1e3);
    }
    let [written, before, hop] = [&mut written, &mut before, &mut hop].map(|values| at(values, 0.5));
    let sentence = TOKEN.as_secs_f64() * 1e3 * window as f64;
    println!("first words of an answer at 30 tokens a second, {TURNS} turns, ms at the median:");
    println!(
        "  {written:.1}; the path before {before:.1}, a hop {hop:.2}, the first sentence with the word after it {sentence:.1}"
    );
    println!("  together {:.1}", before + hop + sentence);
    by_model.stop().await;
    without.stop().await;
}

/// Milliseconds until the first words of a turn.
async fn first(world: &World) -> f64 {
    let message = Some(Message { text: QUESTION.to_owned(), ..Message::default() });
    let start = Instant::now();
    let mut stream = world.client.clone().converse(ConverseRequest { message }).await.unwrap().into_inner();
    let mut found = None;
    while let Some(response) = stream.message().await.unwrap() {
        if matches!(response.event, Some(Event::Delta(_))) {
            found = found.or(Some(micros(start) / 1e3));
        }
    }
    found.expect("an answer has words")
}
