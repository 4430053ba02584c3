//! The admin port of a process: health for its platform and metrics for Prometheus, in plain text and nothing else.

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing;
use tokio::net::TcpListener;
use tonic::service::Routes;
use tonic::transport::server::TcpIncoming;

use crate::metrics::Metrics;
use crate::serve::hardened;

/// Media type of the text format.
const TEXT: &str = "text/plain; version=0.0.4";

/// Serves `health` and `GET /metrics`, for ever.
///
/// # Errors
/// The listener fails.
pub(crate) async fn serve(listener: TcpListener, health: Routes, metrics: &Metrics) -> anyhow::Result<()> {
    let metrics = metrics.clone();
    let shown = routing::get(move || std::future::ready(response(&metrics)));
    let routes = Routes::from(health.into_axum_router().route("/metrics", shown));
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    Ok(hardened().accept_http1(true).add_routes(routes).serve_with_incoming(incoming).await?)
}

fn response(metrics: &Metrics) -> Response {
    match metrics.text() {
        Ok(text) => ([(header::CONTENT_TYPE, TEXT)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}
