//! One mapping from a stage's errors to gRPC status with details.

use std::collections::HashMap;
use std::time::Duration;

use http::Response;
use tonic::body::Body;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

/// The kinds of failure a stage may report; a restricted subset of the gRPC codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The request is wrong; repeating it does not help.
    Invalid,
    /// What the request names does not exist.
    NotFound,
    /// The caller may not do this.
    Denied,
    /// The caller does not say who they are, or nobody believes it.
    Unauthenticated,
    /// The state of the thing named does not allow this.
    Precondition,
    /// A limit is reached; try again later.
    Exhausted,
    /// Something the stage needs is not there; try again.
    Unavailable,
    /// The time given was not enough.
    Timeout,
    /// A fault of the stage itself; its message stays in the log.
    Internal,
}

/// An error of a stage that can cross the network.
pub trait Fault: std::error::Error {
    /// The kind of failure.
    fn kind(&self) -> Kind;
    /// A constant in UPPER_SNAKE_CASE, at most 63 characters (`google.rpc.ErrorInfo.reason`).
    fn reason(&self) -> &'static str;
    /// The field of the request that is wrong, for [`Kind::Invalid`].
    fn field(&self) -> Option<&'static str> {
        None
    }
}

/// `google.rpc.ErrorInfo.domain` of every status.
pub const DOMAIN: &str = "firstline.v1";
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The status of an error. Logs the chain of an internal one, once, here.
pub fn status(stage: &'static str, error: &dyn Fault) -> Status {
    let message = match error.kind() {
        Kind::Internal => {
            tracing::error!(stage, reason = error.reason(), error = chain(error), "request failed");
            "internal error; the log of the stage has the cause".to_owned()
        }
        _ => chain(error),
    };
    build(stage, error.kind(), error.reason(), error.field(), message)
}

/// The status of a request with a wrong field.
pub fn invalid(
    stage: &'static str,
    reason: &'static str,
    field: &'static str,
    what: impl Into<String>,
) -> Status {
    build(stage, Kind::Invalid, reason, Some(field), format!("{field}: {}", what.into()))
}

/// The status of a caller who may not do this.
pub(crate) fn denied(stage: &'static str, reason: &'static str, what: String) -> Status {
    build(stage, Kind::Denied, reason, None, what)
}

/// The status of a caller of whom nobody knows who they are.
pub(crate) fn unauthenticated(stage: &'static str, reason: &'static str, what: &str) -> Status {
    build(stage, Kind::Unauthenticated, reason, None, what.to_owned())
}

/// A request over the limit is refused before any stage sees it, by tonic and without details: this gives it
/// those of every other refusal.
pub(crate) fn too_large(stage: &'static str, response: Response<Body>) -> Response<Body> {
    let refused = response.headers().get("grpc-status").is_some_and(|code| code == "11");
    let status = refused.then(|| Status::from_header_map(response.headers())).flatten();
    match status.filter(|status| status.details().is_empty()) {
        Some(status) => {
            let what = status.message().trim_start_matches("Error, ");
            let what = format!("{what} bytes (server.max_message_bytes)");
            invalid(stage, "MESSAGE_TOO_LARGE", "message", what).into_http()
        }
        None => response,
    }
}

fn build(
    stage: &'static str,
    kind: Kind,
    reason: &'static str,
    field: Option<&'static str>,
    message: String,
) -> Status {
    let metadata = HashMap::from([("stage".to_owned(), stage.to_owned())]);
    let mut details = ErrorDetails::with_error_info(reason, DOMAIN, metadata);
    if let Some(field) = field {
        details.add_bad_request_violation(field, message.clone());
    }
    if matches!(kind, Kind::Exhausted | Kind::Unavailable) {
        details.set_retry_info(Some(RETRY_AFTER));
    }
    Status::with_error_details(code(kind), message, details)
}

fn code(kind: Kind) -> Code {
    match kind {
        Kind::Invalid => Code::InvalidArgument,
        Kind::NotFound => Code::NotFound,
        Kind::Denied => Code::PermissionDenied,
        Kind::Unauthenticated => Code::Unauthenticated,
        Kind::Precondition => Code::FailedPrecondition,
        Kind::Exhausted => Code::ResourceExhausted,
        Kind::Unavailable => Code::Unavailable,
        Kind::Timeout => Code::DeadlineExceeded,
        Kind::Internal => Code::Internal,
    }
}

/// An error and its sources in one line.
fn chain(error: &(impl std::error::Error + ?Sized)) -> String {
    let mut line = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        line.push_str(": ");
        line.push_str(&cause.to_string());
        source = cause.source();
    }
    line
}
