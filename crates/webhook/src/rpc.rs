//! One unary call of gRPC to a target.
//!
//! It goes over the client of every other request, since that is where addresses are checked; what gRPC adds to HTTP/2
//! for a unary call is a prefix of five bytes and a status.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::pin::Pin;
use std::time::Duration;

use http_body::{Body as _, Frame};
use jiff::Timestamp;
use reqwest::header::{CONTENT_TYPE, HeaderMap, TE};
use reqwest::{Body, Response, StatusCode};

use crate::answer::{self, Answer, MAX_RESPONSE_BYTES};
use crate::send::{self, Sender};

const PROTOBUF: &str = "application/grpc+proto";
const TIMEOUT: &str = "grpc-timeout";
const STATUS: &str = "grpc-status";
/// A byte that says whether the message is compressed, and its length.
const PREFIX_BYTES: usize = 5;
/// The codes of gRPC by number.
const CODES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

/// Those that say that there was no effect and will be none.
pub const REFUSALS: [&str; 8] = [
    "INVALID_ARGUMENT",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "FAILED_PRECONDITION",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "UNAUTHENTICATED",
];

/// A call of a method; the same one at every attempt.
#[derive(Debug, Clone)]
pub struct Rpc<'a> {
    /// Name of the target in the configuration.
    pub target: &'a str,
    /// Both the webhook's id and the idempotency key.
    pub id: &'a str,
    /// "/package.Service/Method".
    pub method: &'a str,
    /// Metadata besides that of the client, none of which it may name.
    pub headers: &'a BTreeMap<String, String>,
    /// The message in protobuf's bytes, which are signed.
    pub message: &'a [u8],
    /// Longest wait for the answer once connected.
    pub timeout: Duration,
}

impl Sender {
    /// Calls once. The answer is the message that came; `None` when it was too long or cannot be read.
    pub async fn call(&self, rpc: Rpc<'_>) -> Answer<Option<Vec<u8>>> {
        let Some(receiver) = self.targets.get(rpc.target) else {
            return Answer::Refused("TARGET_NOT_CONFIGURED".to_owned());
        };
        let url = send::below(&receiver.base, rpc.method);
        let signed = receiver.signer.headers(rpc.id, Timestamp::now(), rpc.message);
        let (Some(url), Some(signed), Some(body)) = (url, signed, framed(rpc.message)) else {
            return Answer::Refused("REQUEST_MALFORMED".to_owned());
        };
        let calling = receiver.rpc.post(url);
        let calling = rpc.headers.iter().fold(calling, |calling, (name, value)| calling.header(name, value));
        let calling = calling
            .header(CONTENT_TYPE, PROTOBUF)
            .header(TE, "trailers")
            .header(TIMEOUT, format!("{}m", rpc.timeout.as_millis()))
            .headers(signed)
            .timeout(self.connect_timeout + rpc.timeout)
            .body(body);
        match calling.send().await {
            Ok(response) => read(rpc.target, response).await,
            Err(error) => send::unanswered(rpc.target, &error),
        }
    }
}

/// The message with its prefix; `None` when its length does not fit there.
fn framed(message: &[u8]) -> Option<Vec<u8>> {
    let length = u32::try_from(message.len()).ok()?;
    Some([&[0], &length.to_be_bytes()[..], message].concat())
}

async fn read(target: &str, response: Response) -> Answer<Option<Vec<u8>>> {
    if response.status() != StatusCode::OK {
        let unclear = |status| Answer::Unclear(format!("HTTP_{status}"));
        return answer::judge(response.status()).and_then(unclear);
    }
    let (parts, mut body) = http::Response::<Body>::from(response).into_parts();
    // An answer without a message has its status among the headers.
    let (mut code, mut bytes) = (code(&parts.headers), Some(Vec::new()));
    loop {
        let frame = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await;
        match frame.map(|frame| frame.map(Frame::into_data)) {
            None => break,
            Some(Err(error)) => return send::unanswered(target, &error),
            Some(Ok(Ok(data))) => {
                bytes = bytes.filter(|read| read.len() + data.len() <= MAX_RESPONSE_BYTES + PREFIX_BYTES);
                if let Some(read) = &mut bytes {
                    read.extend_from_slice(&data);
                }
            }
            Some(Ok(Err(frame))) => code = frame.trailers_ref().and_then(self::code).or(code),
        }
    }
    judge(code, bytes.and_then(message))
}

fn code(headers: &HeaderMap) -> Option<usize> {
    headers.get(STATUS)?.to_str().ok()?.parse().ok()
}

/// The one message of an answer, unless it is compressed, which nobody asked for.
fn message(bytes: Vec<u8>) -> Option<Vec<u8>> {
    let (prefix, message) = bytes.split_first_chunk::<PREFIX_BYTES>()?;
    let [0, length @ ..] = prefix else { return None };
    (u32::from_be_bytes(*length) as usize == message.len()).then(|| message.to_vec())
}

/// What a status proves. A server that is not available may have been until a moment ago.
fn judge(code: Option<usize>, message: Option<Vec<u8>>) -> Answer<Option<Vec<u8>>> {
    let name = code.and_then(|code| CODES.get(code)).copied();
    let error = format!("GRPC_{}", name.unwrap_or("WITHOUT_STATUS"));
    match name {
        Some("OK") => Answer::Done(message),
        Some(name) if REFUSALS.contains(&name) => Answer::Refused(error),
        Some("RESOURCE_EXHAUSTED" | "ABORTED") => Answer::NotNow(error),
        _ => Answer::Unclear(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_proves_no_more_than_it_says() {
        let proven = |code: &str| judge(CODES.iter().position(|known| *known == code), None);
        for code in REFUSALS {
            assert_eq!(proven(code), Answer::Refused(format!("GRPC_{code}")));
        }
        for code in ["RESOURCE_EXHAUSTED", "ABORTED"] {
            assert_eq!(proven(code), Answer::NotNow(format!("GRPC_{code}")));
        }
        for code in ["CANCELLED", "UNKNOWN", "DEADLINE_EXCEEDED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"] {
            assert_eq!(proven(code), Answer::Unclear(format!("GRPC_{code}")));
        }
        assert_eq!(proven("OK"), Answer::Done(None));
        for code in [None, Some(17)] {
            assert_eq!(judge(code, None), Answer::Unclear("GRPC_WITHOUT_STATUS".to_owned()));
        }
    }

    #[test]
    fn an_answer_is_one_whole_message_that_is_not_compressed() {
        let whole = framed(b"abc").unwrap_or_default();
        assert_eq!(message(whole.clone()), Some(b"abc".to_vec()));
        assert_eq!(message(whole[..7].to_vec()), None);
        assert_eq!(message([&whole[..], b"x"].concat()), None);
        assert_eq!(message([&[1], &whole[1..]].concat()), None);
        assert_eq!(message(Vec::new()), None);
    }
}
