//! Guards of others behind real servers: what they flag, when they fail, and what they get to read.

use std::sync::{Arc, Mutex};

use axum::extract::State;
use axum::routing::post;
use axum::{Json, Router};
use proto::*;
use serde_json::{Value, json};
use tests::attack::{Case, all};
use tests::{Transport, World, serve};
use tokio::sync::Barrier;
use tokio::task::JoinSet;

const QUESTION: &str = "Which documents do I need to open an account?";

type Seen = Arc<Mutex<Vec<String>>>;

/// A moderation that flags what holds the word "purple", and remembers what it read.
async fn moderate(State(seen): State<Seen>, Json(body): Json<Value>) -> Json<Value> {
    let text = body["input"].as_str().unwrap().to_owned();
    let flagged = text.contains("purple");
    seen.lock().unwrap().push(text);
    Json(json!({ "results": [{ "flagged": flagged, "categories": { "hate": flagged, "violence": false } }] }))
}

/// A guard model that never answers.
async fn hang() -> Json<Value> {
    std::future::pending().await
}

/// The address of both, what the first one reads, and what ends them.
async fn servers() -> (String, Seen, JoinSet<()>) {
    let seen = Seen::default();
    let app = Router::new()
        .route("/v1/moderations", post(moderate))
        .route("/v1/chat/completions", post(hang))
        .with_state(Arc::clone(&seen));
    let (address, server) = serve(app).await;
    let url = format!("{address}/v1");
    (url, seen, server)
}

/// The demo with a moderation and, where a wait is given, a guard model that outlasts it.
async fn world(url: &str, wait: Option<&str>, required: &str) -> World {
    let mut values = vec![
        ("safety", "guards.moderation.base_url", url),
        ("safety", "guards.moderation.model", "m"),
        ("orchestrator", "safety_timeout_ms", "20000"),
    ];
    if let Some(wait) = wait {
        values.extend([
            ("safety", "guards.model.protocol", "\"chat\""),
            ("safety", "guards.model.base_url", url),
            ("safety", "guards.model.model", "m"),
            ("safety", "guards.model.timeout_ms", wait),
            ("safety", "guards.model.required", required),
        ]);
    }
    World::with(Transport::Local, &values).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_guard_that_blocks_ends_the_others_and_reads_no_personal_data() {
    let (url, seen, _server) = servers().await;
    // If the turn waited for the model, it would end as a failed guard and not as blocked.
    let world = world(&url, Some("15000"), "true").await;
    let turn = world.say("", &format!("{QUESTION} purple, write to ann@mail.example")).await;
    assert_eq!(turn.outcome(), Outcome::Blocked, "{turn:?}");
    let named = turn.safety.unwrap().categories;
    assert!(named.iter().any(|category| category.name == "hate" && category.score == 1.0), "{named:?}");
    world.stop().await;
    let seen = seen.lock().unwrap().join("\n");
    assert!(seen.contains("purple") && !seen.contains("ann@"), "{seen}");
}

#[tokio::test(flavor = "multi_thread")]
async fn guards_of_one_point_are_asked_at_the_same_time() {
    // Each answers only when the other has been asked as well.
    let both = Arc::new(Barrier::new(2));
    let (one, other) = (Arc::clone(&both), both);
    let moderate = || async move {
        one.wait().await;
        Json(json!({ "results": [{ "flagged": false, "categories": {} }] }))
    };
    let chat = || async move {
        other.wait().await;
        Json(json!({ "choices": [{ "message": { "content": "safe" } }] }))
    };
    let app =
        Router::new().route("/v1/moderations", post(moderate)).route("/v1/chat/completions", post(chat));
    let (address, _server) = serve(app).await;
    let world = world(&format!("{address}/v1"), Some("15000"), "true").await;
    let turn = world.say("", QUESTION).await;
    assert_eq!(turn.outcome(), Outcome::Answered, "{turn:?}");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guard_that_fails_stops_the_turn_only_where_it_is_required() {
    let (url, seen, _server) = servers().await;
    let world_required = world(&url, Some("50"), "true").await;
    let turn = world_required.say("", QUESTION).await;
    assert_eq!(turn.outcome(), Outcome::Handoff, "{turn:?}");
    assert_eq!(turn.handoff.unwrap().reason(), HandoffReason::GuardError);
    world_required.stop().await;
    let world = world(&url, Some("50"), "false").await;
    let turn = world.say("", QUESTION).await;
    assert_eq!(turn.outcome(), Outcome::Answered, "{turn:?}");
    world.stop().await;
    // The answer was judged too.
    let seen = seen.lock().unwrap();
    assert!(seen.iter().any(|text| text.contains(&turn.answer)), "{seen:?} {}", turn.answer);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disguise_hides_an_attack_at_most_once_in_fifty_times() {
    let world = World::start(Transport::Local).await;
    let mut safety = safety_service_client::SafetyServiceClient::new(world.links.get("safety").unwrap());
    let cases = all();
    let of = |family: &'static str| cases.iter().filter(move |case| case.family == family);
    let plain: Vec<&Case> = of("direct").collect();
    let mut names: Vec<&str> = of("encoded").map(|case| case.note.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), 15);
    let mut stopped = async |cases: &[&Case]| {
        let mut stopped = 0;
        for text in cases.iter().flat_map(|case| case.turns()) {
            let request = ScreenInputRequest { text: text.to_owned() };
            let verdict = safety.screen_input(request).await.unwrap().into_inner().verdict.unwrap();
            stopped += usize::from(verdict.action() >= SafetyAction::Escalate);
        }
        stopped
    };
    let caught = stopped(&plain).await;
    assert!(caught * 5 > plain.len() * 4, "{caught} of {}", plain.len());
    let mut helped = Vec::new();
    for name in names {
        let disguised: Vec<&Case> = of("encoded").filter(|case| case.note == name).collect();
        let found = stopped(&disguised).await;
        if caught - found.min(caught) > plain.len() / 50 {
            helped.push(format!("{name}: {found} instead of {caught}"));
        }
    }
    world.stop().await;
    assert!(helped.is_empty(), "{helped:?}");
}
