//! The HTTP endpoint that helpdesks report to.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, FromRequest as _, Path, Request, State};
use axum::http::StatusCode;
use axum::routing::post;
use jiff::Timestamp;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use webhook::Verifier;

use crate::connector::Kind;
use crate::inbound::{Act, Taken};
use crate::turn::Orchestrator;

const MAX_BYTES: usize = 256 * 1024;
/// Requests at the same time; each holds up to `MAX_BYTES`.
const MAX_REQUESTS: usize = 64;
const TIMEOUT: Duration = Duration::from_secs(10);
/// How long a request under way may take to end after shutdown.
const GRACE: Duration = Duration::from_secs(1);

struct Door {
    orchestrator: Arc<Orchestrator>,
    senders: BTreeMap<String, (Kind, Verifier)>,
    places: Semaphore,
}

/// Listens for the helpdesks that a secret is configured for, where there is an address for it.
///
/// # Errors
/// The address is taken.
pub(crate) async fn open(orchestrator: &Arc<Orchestrator>, context: &kit::Context) -> anyhow::Result<()> {
    let address = orchestrator.config.inbound_listen.as_str();
    if address.is_empty() {
        return Ok(());
    }
    let listener = TcpListener::bind(address).await;
    let listener =
        listener.with_context(|| format!("cannot listen on {address} (orchestrator.inbound_listen)"))?;
    let senders = orchestrator
        .config
        .connectors
        .iter()
        .filter_map(|(name, connector)| Some((name.clone(), (connector.kind, connector.verifier()?))));
    let door = Door {
        orchestrator: orchestrator.clone(),
        senders: senders.collect(),
        places: Semaphore::new(MAX_REQUESTS),
    };
    let router = Router::new()
        .route("/v1/connectors/{name}", post(take))
        .layer(DefaultBodyLimit::max(MAX_BYTES))
        .with_state(Arc::new(door));
    tracing::info!(address, "listens for helpdesks");
    context.tasks.spawn(serve(listener, router, context.shutdown.clone()));
    Ok(())
}

async fn serve(listener: TcpListener, router: Router, shutdown: CancellationToken) {
    let server = axum::serve(listener, router).with_graceful_shutdown(shutdown.clone().cancelled_owned());
    let patience = async {
        shutdown.cancelled().await;
        tokio::time::sleep(GRACE).await;
    };
    // A peer that holds a half-sent request open must not hold the process.
    tokio::select! {
        _ = server => {}
        () = patience => {}
    }
}

/// 200 for what was taken, now or before, and for what says nothing to us; else a status that says why.
async fn take(State(door): State<Arc<Door>>, Path(name): Path<String>, request: Request) -> StatusCode {
    let Some((kind, verifier)) = door.senders.get(&name) else { return StatusCode::NOT_FOUND };
    let Ok(_place) = door.places.try_acquire() else { return StatusCode::SERVICE_UNAVAILABLE };
    let headers = request.headers().clone();
    let body = match tokio::time::timeout(TIMEOUT, Bytes::from_request(request, &())).await {
        Ok(Ok(body)) => body,
        Ok(Err(rejection)) => return rejection.status(),
        Err(_) => return StatusCode::REQUEST_TIMEOUT,
    };
    let signed = match verifier.verify(&headers, &body, Timestamp::now()) {
        Ok(id) => id,
        Err(refusal) => {
            tracing::warn!(connector = name, %refusal, "a request of a helpdesk is not accepted");
            return StatusCode::UNAUTHORIZED;
        }
    };
    let Ok(json) = serde_json::from_slice(&body) else { return StatusCode::BAD_REQUEST };
    let Some(mut act) = Act::read(*kind, &json) else { return StatusCode::OK };
    // Chatwoot and Zendesk sign anew what they repeat: what the body says tells it from others.
    if *kind == Kind::Webhook || act.id.is_empty() {
        act.id = signed;
    }
    let handoff = act.handoff_id.clone();
    let taken = tokio::time::timeout(TIMEOUT, door.orchestrator.journal.take(&name, act)).await;
    match taken {
        Ok(Ok(Taken::Now)) => {
            tracing::info!(connector = name, handoff, "a person acted in a helpdesk");
            door.orchestrator.spooled.notify_one();
            StatusCode::OK
        }
        Ok(Ok(Taken::Before)) => StatusCode::OK,
        Ok(Ok(Taken::Ended)) => {
            tracing::warn!(connector = name, handoff, "a person acted on a handoff that has ended");
            StatusCode::OK
        }
        Ok(Err(_)) | Err(_) => StatusCode::SERVICE_UNAVAILABLE,
    }
}
