//! What the answer of a target proves about the effect.

use reqwest::{Response, StatusCode};
use serde::Deserialize;

/// Longest answer that is read.
const MAX_RESPONSE_BYTES: usize = 64 * 1024;
/// Longest reference that is shown.
const MAX_REFERENCE_CHARS: usize = 128;

/// What an attempt proved. An error is a word in capitals, for example "HTTP_503".
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The effect happened; with the receiver's reference, 1 to 128 characters.
    Done(Option<String>),
    /// No effect, and none if it is sent again.
    Refused(String),
    /// No effect, because it was not sent or not taken now.
    NotNow(String),
    /// Nobody knows.
    Unclear(String),
}

/// What an answer proves.
pub(crate) async fn read(response: Response) -> Answer {
    match judge(response.status()) {
        Answer::Done(_) => Answer::Done(reference(response).await),
        other => other,
    }
}

/// What a status proves. A redirect that means "done, look there" is no proof of anything.
pub(crate) fn judge(status: StatusCode) -> Answer {
    let error = format!("HTTP_{}", status.as_u16());
    match status {
        status if status.is_success() => Answer::Done(None),
        StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT => Answer::Refused(error),
        // 409 is what a receiver says while it still works on the same key.
        StatusCode::REQUEST_TIMEOUT
        | StatusCode::CONFLICT
        | StatusCode::TOO_EARLY
        | StatusCode::TOO_MANY_REQUESTS => Answer::NotNow(error),
        status if status.is_client_error() => Answer::Refused(error),
        _ => Answer::Unclear(error),
    }
}

/// The receiver's "reference"; an answer that is too long, broken or no JSON is a delivery without one.
async fn reference(response: Response) -> Option<String> {
    #[derive(Deserialize)]
    struct Receipt {
        reference: String,
    }
    let Receipt { reference } = serde_json::from_slice(&body(response).await?).ok()?;
    let shown = (1..=MAX_REFERENCE_CHARS).contains(&reference.chars().count());
    (shown && !reference.chars().any(char::is_control)).then_some(reference)
}

/// The bytes of an answer; `None` when they are too many or the connection ends before them.
pub(crate) async fn body(mut response: Response) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.ok()? {
        if body.len() + chunk.len() > MAX_RESPONSE_BYTES {
            tracing::warn!(limit = MAX_RESPONSE_BYTES, "the answer of the target is too long and not read");
            return None;
        }
        body.extend_from_slice(&chunk);
    }
    Some(body)
}
