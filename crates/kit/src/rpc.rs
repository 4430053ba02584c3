//! What calls of a stage take, as the RPC semantic conventions measure it: `rpc.server.call.duration`.

use std::pin::Pin;
use std::sync::LazyLock;
use std::task::{Context as Poller, Poll};

use http::{HeaderMap, Response};
use http_body::Frame;
use opentelemetry::KeyValue;
use opentelemetry::metrics::Histogram;
use tokio::time::Instant;
use tonic::body::Body;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::access;
use crate::telemetry::status_name;

/// An RPC that is none of ours, as the conventions call it.
const OTHER: &str = "_OTHER";
/// From half a millisecond, each bucket twice as wide, to 16 s.
static DURATION: LazyLock<Histogram<f64>> = LazyLock::new(|| {
    let meter = opentelemetry::global::meter("firstline");
    let histogram = meter.f64_histogram("rpc.server.call.duration");
    let bounds = (0..16).map(|power| 0.0005 * 2_f64.powi(power)).collect();
    histogram.with_unit("s").with_description("Duration of an inbound RPC.").with_boundaries(bounds).build()
});

/// The response with a body that measures the call when it ends: with its last byte, or when its reader goes.
pub(crate) fn measured(start: Instant, method: String, response: Response<Body>) -> Response<Body> {
    let (code, reason) = (code(response.headers()), reason(response.headers()));
    response.map(|body| Body::new(Measured { body, start, method, code, reason }))
}

struct Measured {
    body: Body,
    start: Instant,
    method: String,
    /// What the headers or trailers say.
    code: Option<Code>,
    /// Of what failed: the reason of its details.
    reason: Option<String>,
}

fn code(headers: &HeaderMap) -> Option<Code> {
    let code = headers.get(Status::GRPC_STATUS)?;
    Some(Code::from_bytes(code.as_bytes()))
}

/// Reasons are constants of the stages.
fn reason(headers: &HeaderMap) -> Option<String> {
    headers.get("grpc-status-details-bin")?;
    let details = Status::from_header_map(headers)?.get_error_details();
    details.error_info().map(|info| info.reason.clone())
}

impl Drop for Measured {
    fn drop(&mut self) {
        // A stream that nobody reads to its end was cancelled by its reader.
        let code = self.code.unwrap_or(Code::Cancelled);
        let method = std::mem::take(&mut self.method);
        // Whatever a stranger asks for must not become a label.
        let strange = matches!(code, Code::Unimplemented | Code::Unauthenticated | Code::PermissionDenied);
        let method = if strange && !access::is_known(&method) { OTHER.to_owned() } else { method };
        let mut known = vec![
            KeyValue::new("rpc.system.name", "grpc"),
            KeyValue::new("rpc.method", method),
            KeyValue::new("rpc.response.status_code", status_name(code)),
        ];
        if code != Code::Ok {
            let reason = self.reason.take().unwrap_or_else(|| status_name(code).to_owned());
            known.push(KeyValue::new("error.type", reason));
        }
        DURATION.record(self.start.elapsed().as_secs_f64(), &known);
    }
}

impl http_body::Body for Measured {
    type Data = <Body as http_body::Body>::Data;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        poller: &mut Poller<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Status>>> {
        let frame = std::task::ready!(Pin::new(&mut self.body).poll_frame(poller));
        match &frame {
            Some(Ok(frame)) => {
                if let Some(trailers) = frame.trailers_ref() {
                    self.code = code(trailers);
                }
            }
            Some(Err(status)) => self.code = Some(status.code()),
            None => {}
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.size_hint()
    }
}
