//! Passages in the order of a server, and their own order when it does not answer as it should.

use std::sync::{Arc, Mutex};

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse as _;
use axum::{Json, Router};
use bundle::Audience::{Internal, Public};
use retriever::{Config, Query, Rerank, Retriever};
use serde_json::{Value, json};
use tempfile::tempdir;

use crate::{bundle, document};

type Seen = Arc<Mutex<Vec<Value>>>;

/// Prefers the last document it is given; the name of the model says how it fails instead.
async fn answer(State(seen): State<Seen>, Json(body): Json<Value>) -> axum::response::Response {
    let documents = body["documents"].as_array().unwrap().len();
    let model = body["model"].as_str().unwrap().to_owned();
    seen.lock().unwrap().push(body);
    let score = |index| json!({"index": index, "relevance_score": 0.1 * f64::from(index)});
    match model.as_str() {
        "down" => StatusCode::SERVICE_UNAVAILABLE.into_response(),
        "short" => Json(json!({"results": [score(0)]})).into_response(),
        "mute" => std::future::pending().await,
        _ => Json(json!({"results": (0..documents as u32).rev().map(score).collect::<Vec<_>>()}))
            .into_response(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_orders_what_the_caller_may_see_and_its_failure_changes_nothing() {
    kit::run::install_tls();
    let seen = Seen::default();
    let app = Router::new().route("/v1/rerank", axum::routing::post(answer)).with_state(seen.clone());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base_url = format!("http://{}/v1", listener.local_addr().unwrap());
    let mut server = tokio::task::JoinSet::new();
    server.spawn(async move { axum::serve(listener, app).await.unwrap() });
    let searched = tokio::task::spawn_blocking(move || {
        let root = tempdir().unwrap();
        let documents = [
            document("first", "Lost card", "Freeze the lost card in the app.", Public),
            document(
                "second",
                "Cards",
                "A card is lost now and then, and a new one costs five pounds.",
                Public,
            ),
            document("secret", "Lost card codes", "Lost card: code 41.", Internal),
        ];
        let reader = bundle(root.path(), &documents);
        let found = |model: &str, base_url: &str| {
            let (base_url, model) = (base_url.to_owned(), model.to_owned());
            let rerank = Rerank { base_url, model, timeout_ms: 200, ..Rerank::default() };
            let retriever = Retriever::open(&reader, None, &Config { rerank, ..Config::default() }).unwrap();
            let query = Query { text: "lost card", vector: None, audience: Public, category: "", k: 2 };
            let found = retriever.search(&query).unwrap().passages;
            found.into_iter().map(|(_, passage)| passage.document).collect::<Vec<_>>()
        };
        assert_eq!(found("", ""), ["first", "second"]);
        assert_eq!(found("any", &base_url), ["second", "first"]);
        for model in ["down", "short", "mute"] {
            assert_eq!(found(model, &base_url), ["first", "second"], "{model}");
        }
        assert_eq!(found("any", "http://127.0.0.1:9/v1"), ["first", "second"], "nobody listens");
    });
    searched.await.unwrap();
    let asked = seen.lock().unwrap();
    let expected = json!([
        "Lost card\nFreeze the lost card in the app.",
        "Cards\nA card is lost now and then, and a new one costs five pounds."
    ]);
    assert!(
        asked.iter().all(|body| body["documents"] == expected && body["query"] == "lost card"),
        "{asked:?}"
    );
}
