//! `firstline receive`: the other end of a workflow, for trying one out on a laptop.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context as _;
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use standardwebhooks::Webhook;

use crate::show;

struct Receiver {
    webhook: Webhook,
    /// References by idempotency key: the same key has its effect once.
    references: Mutex<HashMap<String, String>>,
}

/// Answers every correctly signed request with a reference, the same one for the same key, and prints it.
pub(crate) async fn receive(listen: SocketAddr, secret: &str) -> anyhow::Result<()> {
    let webhook = Webhook::new(secret).context("--secret: allowed whsec_ and base64")?;
    let receiver = Arc::new(Receiver { webhook, references: Mutex::default() });
    let listener =
        tokio::net::TcpListener::bind(listen).await.with_context(|| format!("cannot listen on {listen}"))?;
    show::line(&format!("receiving on http://{}", listener.local_addr()?));
    let app = Router::new().fallback(take).with_state(receiver);
    axum::serve(listener, app).with_graceful_shutdown(kit::run::stop_signal(false)?).await?;
    Ok(())
}

async fn take(
    State(receiver): State<Arc<Receiver>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    if let Err(error) = receiver.webhook.verify(&body, &headers) {
        show::line(&format!("refused {method} {}: {error}", uri.path()));
        return (StatusCode::UNAUTHORIZED, "the signature does not fit").into_response();
    }
    let Some(key) = headers.get("idempotency-key").and_then(|key| key.to_str().ok()) else {
        return (StatusCode::BAD_REQUEST, "no Idempotency-Key").into_response();
    };
    let mut references = receiver.references.lock().unwrap_or_else(PoisonError::into_inner);
    let next = format!("HB-{:06}", references.len() + 1);
    let reference = references.entry(key.to_owned()).or_insert(next).clone();
    show::line(&format!("{method} {} {} -> {reference}", uri.path(), String::from_utf8_lossy(&body)));
    axum::Json(json!({ "reference": reference })).into_response()
}
