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
    as_json: bool,
    /// References by idempotency key: the same key has its effect once.
    references: Mutex<HashMap<String, String>>,
}

/// Answers every correctly signed request with a reference, the same one for the same key, and prints it.
pub(crate) async fn receive(listen: SocketAddr, secret: &str, as_json: bool) -> anyhow::Result<()> {
    let webhook = Webhook::new(secret).context("--secret: allowed whsec_ and base64")?;
    let receiver = Arc::new(Receiver { webhook, as_json, references: Mutex::default() });
    let listener =
        tokio::net::TcpListener::bind(listen).await.with_context(|| format!("cannot listen on {listen}"))?;
    let url = format!("http://{}", listener.local_addr()?);
    show::line(&if as_json {
        json!({ "receiving": url }).to_string()
    } else {
        format!("receiving on {url}")
    });
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
    let body = String::from_utf8_lossy(&body);
    show::line(&if receiver.as_json {
        json!({ "method": method.as_str(), "path": uri.path(), "key": key, "body": body, "reference": reference }).to_string()
    } else {
        format!("{method} {} {body} -> {reference}", uri.path())
    });
    axum::Json(json!({ "reference": reference })).into_response()
}
