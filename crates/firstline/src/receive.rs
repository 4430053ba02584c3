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
use jiff::Timestamp;
use kit::config::Settings;
use serde_json::json;
use webhook::{Secrets, Verifier};

use crate::show;

struct Receiver {
    verifier: Verifier,
    prints: Prints,
    /// References by idempotency key: the same key has its effect once.
    references: Mutex<HashMap<String, String>>,
}

/// What a receiver says on stdout.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Prints {
    Lines,
    Json,
    Nothing,
}

/// Stands for the targets of a bundle's workflows where nothing real may happen.
pub(crate) struct StandIn {
    listener: tokio::net::TcpListener,
    secret: String,
}

impl StandIn {
    /// Takes a free loopback port and points the targets to it.
    pub(crate) async fn of(targets: &[&str], settings: &mut Settings) -> anyhow::Result<Self> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        // 32 hexadecimal digits are base64 too, of 24 bytes.
        let secret = format!("whsec_{}", uuid::Uuid::new_v4().simple());
        let url = format!("http://{}", listener.local_addr()?);
        for target in targets {
            settings.set("workflow", &format!("targets.{target}.url"), &url);
            settings.set("workflow", &format!("targets.{target}.secret"), &secret);
        }
        Ok(Self { listener, secret })
    }

    /// Takes requests until the future is dropped.
    pub(crate) async fn serve(self) -> anyhow::Result<()> {
        let app = app(verifier(&self.secret)?, Prints::Nothing);
        Ok(axum::serve(self.listener, app).await?)
    }
}

fn verifier(secret: &str) -> anyhow::Result<Verifier> {
    let allowed = "--secret: allowed one or two secrets, each whsec_ and 24 to 64 bytes in base64";
    Verifier::standard(&Secrets::from(secret)).context(allowed)
}

fn app(verifier: Verifier, prints: Prints) -> Router {
    let receiver = Receiver { verifier, prints, references: Mutex::default() };
    Router::new().fallback(take).with_state(Arc::new(receiver))
}

/// Answers every correctly signed request with a reference, the same one for the same key, and prints it.
pub(crate) async fn receive(listen: SocketAddr, secret: &str, as_json: bool) -> anyhow::Result<()> {
    let verifier = verifier(secret)?;
    let listener =
        tokio::net::TcpListener::bind(listen).await.with_context(|| format!("cannot listen on {listen}"))?;
    let url = format!("http://{}", listener.local_addr()?);
    show::line(&if as_json {
        json!({ "receiving": url }).to_string()
    } else {
        format!("receiving on {url}")
    });
    let app = app(verifier, if as_json { Prints::Json } else { Prints::Lines });
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
    if let Err(error) = receiver.verifier.verify(&headers, &body, Timestamp::now()) {
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
    match receiver.prints {
        Prints::Json => show::line(&json!({ "method": method.as_str(), "path": uri.path(), "key": key, "body": body, "reference": reference }).to_string()),
        Prints::Lines => show::line(&format!("{method} {} {body} -> {reference}", uri.path())),
        Prints::Nothing => {}
    }
    axum::Json(json!({ "reference": reference })).into_response()
}
