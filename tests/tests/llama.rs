//! A whole assistant against a real model server: llama.cpp with a model of 135 million parameters, which seldom writes
//! what an article says. `make test-llm` builds the one and fetches the other, and then runs these tests.

use std::path::PathBuf;

use proto::generate_response::Event;
use proto::generator_service_client::GeneratorServiceClient;
use proto::*;
use tests::{Foreign, Transport, World, demo};
use tokio::process::Command;

/// None of them has an answer that a person approved.
const QUESTIONS: [&str; 3] = [
    "How long does a replacement card take to arrive?",
    "When are the branches open on Saturday?",
    "How do I switch contactless off?",
];
/// Makes the server write one sentence of the passage and then one without an end, whatever the model would.
const ENDLESS: [&str; 3] = [
    "--ignore-eos",
    "--grammar",
    r#"root ::= "A replacement card costs 5 pounds [1]. It arrives" (" and arrives")*"#,
];

fn cached(file: &str) -> PathBuf {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = set("XDG_CACHE_HOME").or_else(|| Some(set("HOME")?.join(".cache"))).unwrap();
    let path = cache.join("firstline/llama").join(file);
    assert!(path.exists(), "{} is missing: `make test-llm` makes it", path.display());
    path
}

async fn llama(more: &[&str]) -> Foreign {
    let mut command = Command::new(cached("llama-server"));
    command.env_clear().arg("--model").arg(cached("SmolLM2-135M-Instruct.Q4_1.gguf"));
    command.args(["--alias", "smollm2", "--host", "127.0.0.1", "--port", "0", "--offline", "--no-ui"]);
    // On a busy machine several threads would mostly wait for each other.
    command.args(["--ctx-size", "8192", "--parallel", "1", "--threads", "1", "--temp", "0"]).args(more);
    Foreign::start(command, "/health").await
}

/// The demo assistant, with answers that the server writes as a stream, or as a whole.
async fn world(server: &Foreign, unary: bool, max_tokens: &str) -> World {
    let (url, nowhere) = (format!("{}/v1", server.url), format!("{}/nowhere", server.url));
    let mut values = vec![
        ("generator", "provider", "openai"),
        ("generator", "model", "smollm2"),
        ("generator", "base_url", if unary { &nowhere } else { &url }),
        ("generator", "max_tokens", max_tokens),
        ("generator", "max_answer_bytes", "65536"),
        ("orchestrator", "budget.answer_tokens", "8192"),
        // Two are read in some seconds.
        ("orchestrator", "passages", "2"),
        // A busy machine is no fault.
        ("generator", "idle_timeout_ms", "120000"),
        // Longer than anybody waits here for the server to be free.
        ("generator", "timeout_ms", "600000"),
        ("generator", "choice_timeout_ms", "60000"),
        ("orchestrator", "turn_timeout_ms", "120000"),
        ("orchestrator", "generate_timeout_ms", "120000"),
        ("orchestrator", "classify_timeout_ms", "60000"),
        ("orchestrator", "safety_timeout_ms", "60000"),
        ("orchestrator", "retrieve_timeout_ms", "60000"),
        ("safety", "budget_ms", "30000"),
    ];
    if unary {
        values.extend([
            ("generator", "fallback", "[\"whole\"]"),
            ("generator", "models.whole.model", "smollm2"),
            ("generator", "models.whole.base_url", &url),
            ("generator", "models.whole.unary", "true"),
        ]);
    }
    World::with(Transport::Tcp, &values).await
}

fn generator(world: &World) -> GeneratorServiceClient<kit::Link> {
    GeneratorServiceClient::new(world.links.get(generator::NAME).unwrap())
}

fn request() -> GenerateRequest {
    let text = "A replacement card costs 5 pounds. It arrives within 3 to 5 working days.".to_owned();
    GenerateRequest {
        question: "How much does a replacement card cost?".to_owned(),
        passages: vec![Passage { document_id: "cards".to_owned(), text, ..Passage::default() }],
        ..GenerateRequest::default()
    }
}

/// Runs of digits.
fn figures(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_ascii_digit()).filter(|figure| !figure.is_empty())
}

/// What a customer reads is in the articles; who reads nothing of the model gets a person.
async fn check(world: &World, turn: &Turn) {
    assert_eq!(turn.model, "smollm2", "{turn:?}");
    let usage = turn.usage.unwrap();
    assert!(usage.input_tokens > 100 && usage.output_tokens > 0, "{turn:?}");
    let explained = ExplainTurnRequest { turn_id: turn.turn_id.clone(), ..Default::default() };
    let record = world.client.clone().explain_turn(explained).await.unwrap().into_inner().record.unwrap();
    let told = record.grounding.unwrap_or_default();
    match turn.outcome() {
        Outcome::Answered => {
            assert!(told.delivered_claims > 0 && told.delivered_unsupported == 0, "{told:?} {turn:?}");
            assert!(!turn.answer.ends_with(':'), "an introduction of nothing: {turn:?}");
            let mut articles = String::new();
            for Citation { document_id, quote, .. } in &turn.citations {
                let article = demo().join("knowledge").join(document_id).with_extension("md");
                articles.push_str(&std::fs::read_to_string(article).unwrap());
                assert!(articles.contains(quote), "{turn:?}");
            }
            for figure in figures(&turn.answer) {
                assert!(figures(&articles).any(|known| known == figure), "{figure}: {turn:?}");
            }
        }
        Outcome::Handoff => {
            assert!(turn.handoff.is_some() && turn.citations.is_empty(), "{turn:?}");
            assert_eq!(told.delivered_claims, 0, "{turn:?}");
        }
        _ => panic!("neither an answer nor a person: {turn:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_it_writes_customers_read_what_an_article_says_or_get_a_person() {
    let server = llama(&[]).await;
    for unary in [false, true] {
        let world = world(&server, unary, "128").await;
        for question in QUESTIONS {
            check(&world, &world.say("", question).await).await;
        }
        world.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_cut_at_its_limit_has_no_half_sentence() {
    let server = llama(&ENDLESS).await;
    for (max_tokens, text) in [(4, ""), (64, "A replacement card costs 5 pounds.")] {
        for unary in [false, true] {
            let world = world(&server, unary, &max_tokens.to_string()).await;
            let mut events = generator(&world).generate(request()).await.unwrap().into_inner();
            let mut shown = String::new();
            let told = loop {
                match events.message().await.unwrap().unwrap().event.unwrap() {
                    Event::Delta(delta) => shown.push_str(&delta.text),
                    Event::Final(told) => break told,
                }
            };
            assert_eq!((shown.as_str(), told.text.as_str(), told.abstained), (text, text, text.is_empty()));
            assert_eq!((told.model.as_str(), told.usage.unwrap().output_tokens), ("smollm2", max_tokens));
            world.stop().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn its_first_words_come_while_it_writes_and_who_leaves_frees_it() {
    const LIMIT: u64 = 7000;
    let server = llama(&ENDLESS).await;
    let world = world(&server, false, &LIMIT.to_string()).await;
    let mut events = generator(&world).generate(request()).await.unwrap().into_inner();
    let first = events.message().await.unwrap().unwrap().event;
    let Some(Event::Delta(delta)) = first else { panic!("{first:?}") };
    assert_eq!(delta.text, "A replacement card costs 5 pounds.");
    let slots = server.get("/slots").await.unwrap();
    assert_eq!(slots[0]["is_processing"], true, "{slots}");
    drop(events);
    server.until("/slots", |slots| slots.is_some_and(|slots| slots[0]["is_processing"] == false)).await;
    // It was stopped, and not done.
    let slots = server.get("/slots").await.unwrap();
    let tokens = slots[0]["n_prompt_tokens"].as_u64().unwrap();
    assert!((1..LIMIT / 2).contains(&tokens), "{slots}");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_held_to_the_schema_of_a_choice() {
    let server = llama(&[]).await;
    let world = world(&server, false, "128").await;
    let choice = |name: &str, title: &str| IntentChoice {
        name: name.to_owned(),
        title: title.to_owned(),
        ..IntentChoice::default()
    };
    let choices =
        vec![choice("declined_card", "My card was declined"), choice("card_pin", "I forgot my PIN")];
    let names = ["declined_card", "card_pin", ""];
    for text in ["the shop said no to my card", "what was my number again", "who painted that ceiling"] {
        let (text, turn_id) = (text.to_owned(), "t1".to_owned());
        let request = ChooseIntentRequest { text, choices: choices.clone(), turn_id };
        let chosen = generator(&world).choose_intent(request).await.unwrap().into_inner();
        assert_eq!((chosen.model.as_str(), chosen.failure.as_str()), ("smollm2", ""), "{chosen:?}");
        assert!(names.contains(&chosen.name.as_str()), "{chosen:?}");
        let usage = chosen.usage.unwrap();
        assert!(usage.input_tokens > 50 && usage.output_tokens > 0, "{usage:?}");
    }
    world.stop().await;
}
