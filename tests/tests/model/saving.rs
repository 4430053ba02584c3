//! What saves money: cheaper models first, limits, and known answers for other words.

use std::time::Duration;

use axum::http::StatusCode;
use generator::answer::{Answer, Request, Spending};
use generator::cache::Settings;
use generator::config::{Category, Model as Further, Price};
use generator::route::Routing;
use generator::write::Writer;
use generator::{Config, answer};
use tests::model::{Model, Script, whole};
use tokio::time::Instant;

use crate::{GOOD, GOOD_SHOWN, QUESTION, config, passages, writer};

fn request(question: &str) -> Request {
    let (category, intent) = ("cards".to_owned(), "replacement_card".to_owned());
    Request { question: question.to_owned(), passages: passages(), category, intent, ..Request::default() }
}

/// The answer to a request, and what a reader of its deltas ends up with.
async fn ask(writer: &Writer, request: &Request) -> (Answer, String) {
    let deadline = Instant::now() + Duration::from_secs(60);
    let crate::Outcome { answer, shown, .. } = crate::collect(writer, request, Some(deadline)).await;
    (answer, shown)
}

/// A dear model, then a cheap one, then one of the company's own, each with a server.
fn three([dear, cheap, own]: [&Model; 3], routing: Routing) -> Config {
    let price = |usd| Price {
        input_usd_per_million: usd,
        output_usd_per_million: usd,
        cached_input_usd_per_million: None,
    };
    let further = |name: &str, server: &Model, usd| Further {
        model: name.to_owned(),
        base_url: server.url.clone(),
        price: Some(price(usd)),
        self_hosted: usd == 0.0,
        ..Further::default()
    };
    let models = [("cheap", cheap, 0.1), ("own", own, 0.0)];
    Config {
        model: "dear".to_owned(),
        prices: [("dear".to_owned(), price(10.0))].into(),
        fallback: vec!["cheap".to_owned(), "own".to_owned()],
        models: models.map(|(name, server, usd)| (name.to_owned(), further(name, server, usd))).into(),
        cache: Settings { max_mb: 0, ..Settings::default() },
        routing,
        ..config(&dear.url)
    }
}

async fn servers(said: [&str; 3]) -> [Model; 3] {
    let [dear, cheap, own] = said.map(|said| Model::scripted(vec![whole(said)]));
    [dear.await, cheap.await, own.await]
}

const POOR: &str = "It comes in gold with a free umbrella [1]. Cards are made by elves [1].";

#[tokio::test]
async fn a_limit_decides_whom_of_the_models_may_be_asked() {
    let servers = servers([GOOD; 3]).await;
    let writer = writer(three(servers.each_ref(), Routing::Listed));
    for (spending, asked, is_free) in [
        (Spending::Normal, [1, 0, 0], false),
        (Spending::Thrifty, [0, 0, 1], true),
        (Spending::Free, [0, 0, 1], true),
    ] {
        let before = servers.each_ref().map(Model::calls);
        let (answer, shown) = ask(&writer, &Request { spending, ..request(QUESTION) }).await;
        let calls = [0, 1, 2].map(|model| servers[model].calls() - before[model]);
        assert_eq!(
            (calls, shown.as_str(), answer.cost_usd() == 0.0),
            (asked, GOOD_SHOWN, is_free),
            "{spending:?}"
        );
        assert_eq!(answer.saved.routing_usd > 0.0, is_free, "{spending:?}: {:?}", answer.saved);
    }
    // Where there is none of the company's own, the passages' words answer.
    let writer = crate::writer(Config {
        cache: Settings { max_mb: 0, ..Settings::default() },
        ..config(&servers[0].url)
    });
    let (answer, _) = ask(&writer, &Request { spending: Spending::Free, ..request(QUESTION) }).await;
    assert_eq!((answer.model.as_str(), answer.calls.len()), ("extractive", 0));
}

#[tokio::test]
async fn the_cheapest_is_asked_first_and_where_its_answer_falls_short_a_dearer_one() {
    let servers = servers([GOOD, POOR, "NO_ANSWER"]).await;
    let writer = writer(three(servers.each_ref(), Routing::Cheapest));
    let (answer, shown) = ask(&writer, &request(QUESTION)).await;
    assert_eq!((shown.as_str(), answer.text.as_str(), answer.unsupported), (GOOD_SHOWN, GOOD_SHOWN, 0));
    let asked: Vec<_> = answer.calls.iter().map(|call| call.model.as_str()).collect();
    assert_eq!(asked, ["own", "cheap", "dear"]);
    let sum: f64 = answer.calls.iter().map(|call: &answer::Call| call.cost_usd).sum();
    assert!((answer.cost_usd() - sum).abs() < 1e-12 && answer.saved.routing_usd < 0.0, "{answer:?}");
    // Who falls short every time is not asked first any more; what is learned of a category is its own.
    for _ in 0..40 {
        ask(&writer, &request(QUESTION)).await;
    }
    let before = servers[2].calls();
    ask(&writer, &request(QUESTION)).await;
    assert_eq!(servers[2].calls(), before);
    ask(&writer, &Request { category: "fees".to_owned(), ..request(QUESTION) }).await;
    assert_eq!(servers[2].calls(), before + 1);
}

#[tokio::test]
async fn what_little_a_cheap_model_had_is_given_where_the_dear_one_fails() {
    let [dear, cheap, own] =
        servers([GOOD, &format!("A replacement card costs 5 pounds [1]. {POOR}"), GOOD]).await;
    drop(dear);
    let gone = Model::scripted(vec![Script::Status(StatusCode::FORBIDDEN, "", "{}")]).await;
    let config =
        Config { fallback: vec!["cheap".to_owned()], ..three([&gone, &cheap, &own], Routing::Cheapest) };
    let (answer, shown) = ask(&writer(config), &request(QUESTION)).await;
    assert_eq!((shown.as_str(), answer.unsupported), ("A replacement card costs 5 pounds.", 2));
    assert!(answer.model_failure.is_empty());
}

#[tokio::test]
async fn a_category_has_a_limit_of_its_own_and_never_a_higher_one() {
    let model = Model::scripted(vec![whole(GOOD)]).await;
    let limit = |max_tokens| Category { max_tokens: Some(max_tokens), ..Category::default() };
    let categories = [("cards".to_owned(), limit(60)), ("fees".to_owned(), limit(9_000))].into();
    let writer = writer(Config { categories, ..config(&model.url) });
    for (category, most) in [("cards", 60), ("fees", 512), ("accounts", 512)] {
        ask(&writer, &Request { category: category.to_owned(), ..request(QUESTION) }).await;
        let (_, body) = model.take_seen().pop().unwrap();
        assert_eq!(body["max_tokens"], most, "{category}");
    }
}

const OTHER: &str = "Branches are open from 9:30 to 16:30 on weekdays [2].";
/// The same as [`QUESTION`] in other words.
const AGAIN: &str = "Hi, how much does the replacement card cost please?";

fn semantic(url: &str) -> Writer {
    let category = Category { semantic_cache: true, ..Category::default() };
    let cache = Settings { recheck_share: 1.0, ..Settings::default() };
    writer(Config { categories: [("cards".to_owned(), category)].into(), cache, ..config(url) })
}

/// Another question each time, and the same in other words for the cache.
fn pair(n: usize) -> [Request; 2] {
    let asked = |lead: &str| request(&format!("{lead}how much does a replacement card cost in branch {n}?"));
    [asked(""), asked("Hello, ")]
}

#[tokio::test]
async fn other_words_get_a_known_answer_only_while_enough_of_them_agree_with_new_ones() {
    // As many calls as there are below before something else is said.
    let model = Model::scripted([vec![whole(GOOD); 2 * 268 + 9], vec![whole(OTHER)]].concat()).await;
    let writer = semantic(&model.url);
    for n in 0..268 {
        for request in pair(n) {
            assert_eq!(ask(&writer, &request).await.0.cache, "", "{n}: not yet");
        }
    }
    ask(&writer, &request(QUESTION)).await;
    let before = model.calls();
    let (answer, shown) = ask(&writer, &request(AGAIN)).await;
    assert_eq!((answer.cache, shown.as_str(), answer.recheck), ("semantic", GOOD_SHOWN, true));
    assert!(answer.calls.is_empty() && answer.saved.cache_usd > 0.0 && model.calls() == before);
    // Another intent, category or passage is another question.
    let mut newer = request(AGAIN);
    newer.passages[0].document_version = "2".to_owned();
    let others = [
        Request {
            intent: "order_card".to_owned(),
            ..request("Thanks, how much does a replacement card cost?")
        },
        Request { category: "fees".to_owned(), ..request(AGAIN) },
        Request { intent: String::new(), ..request("Hey, how much does the replacement card cost?") },
        newer,
        request("How much does a replacement PIN cost please?"),
        request("Why does the replacement card cost so much?"),
    ];
    for other in others {
        assert_eq!(ask(&writer, &other).await.0.cache, "", "{other:?}");
    }
    // Compared after the turn it agrees, and stays.
    let (is_same, calls) = writer.recheck(&request(AGAIN), &answer.key, None).await.unwrap();
    assert!(is_same && calls.len() == 1);
    assert_eq!(ask(&writer, &request(AGAIN)).await.0.cache, "semantic");
    // Whoever says that it is wrong has it forgotten.
    writer.evict(&answer.key).await;
    assert_eq!(ask(&writer, &request(AGAIN)).await.0.cache, "");
    // One that disagrees is forgotten, and with that too many of its category may be false.
    let (known, _) = ask(&writer, &request("Hello, how much does a replacement card cost?")).await;
    assert_eq!(known.cache, "semantic");
    let hey = request("Hello, how much does a replacement card cost?");
    assert!(!writer.recheck(&hey, &known.key, None).await.unwrap().0);
    assert!(writer.recheck(&hey, &known.key, None).await.is_err(), "the answer itself is forgotten");
    for request in pair(1_000) {
        assert_eq!(ask(&writer, &request).await.0.cache, "", "nothing of the category is given");
    }
}

#[tokio::test]
async fn a_second_model_is_asked_too_where_the_first_shows_nothing_for_a_while() {
    let slow = Model::scripted(vec![Script::Silent(Vec::new()), whole(GOOD)]).await;
    let [_, cheap, own] = servers([GOOD; 3]).await;
    let patient = (60_000, 60_000);
    let mut config = Config { hedge_after_ms: 50, ..three([&slow, &cheap, &own], Routing::Listed) };
    (config.timeout_ms, config.idle_timeout_ms) = patient;
    let writer = writer(config);
    let (answer, shown) = ask(&writer, &request(QUESTION)).await;
    let asked: Vec<_> = answer.calls.iter().map(|call| (call.model.as_str(), call.usage.input > 0)).collect();
    assert_eq!((shown.as_str(), asked), (GOOD_SHOWN, vec![("dear", true), ("cheap", true)]), "both are paid");
    // Whoever is quick is asked alone.
    let patient = Config { hedge_after_ms: 60_000, ..three([&slow, &cheap, &own], Routing::Listed) };
    let (answer, shown) = ask(&crate::writer(patient), &request(QUESTION)).await;
    assert_eq!((shown.as_str(), answer.calls.len(), cheap.calls()), (GOOD_SHOWN, 1, 1));
}

#[tokio::test]
async fn what_finds_no_place_in_time_is_answered_in_the_words_of_the_passages() {
    let model = Model::scripted(vec![Script::Silent(Vec::new()), whole(GOOD)]).await;
    let config =
        Config { max_in_flight: 1, idle_timeout_ms: 60_000, timeout_ms: 60_000, ..config(&model.url) };
    let writer = std::sync::Arc::new(writer(config));
    let mut holding = tokio::task::JoinSet::new();
    let holds = writer.clone();
    holding.spawn(async move { ask(&holds, &request(QUESTION)).await });
    while model.calls() == 0 {
        tokio::task::yield_now().await;
    }
    let other = request("When does a replacement card arrive?");
    let soon = Instant::now() + Duration::from_millis(400);
    let late = crate::collect(&writer, &other, Some(soon)).await.answer;
    assert_eq!((late.model.as_str(), late.calls.len(), model.calls()), ("extractive", 0, 1));
    holding.shutdown().await;
    assert_eq!(ask(&writer, &other).await.0.model, "tiny-1", "the place is free again");
}
