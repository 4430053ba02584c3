//! What the answer of a target proves about the effect.

use reqwest::{Response, StatusCode};

/// Longest answer that is read.
pub(crate) const MAX_RESPONSE_BYTES: usize = 64 * 1024;

/// What an attempt proved. An error is a word in capitals, for example "HTTP_503".
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer<T> {
    /// The effect happened; with what the receiver says of it.
    Done(T),
    /// No effect, and none if it is sent again.
    Refused(String),
    /// No effect, because it was not sent or not taken now.
    NotNow(String),
    /// Nobody knows.
    Unclear(String),
}

impl<T> Answer<T> {
    /// What the words of a receiver prove that says it is done.
    pub fn and_then<U>(self, judge: impl FnOnce(T) -> Answer<U>) -> Answer<U> {
        match self {
            Self::Done(said) => judge(said),
            Self::Refused(error) => Answer::Refused(error),
            Self::NotNow(error) => Answer::NotNow(error),
            Self::Unclear(error) => Answer::Unclear(error),
        }
    }
}

/// What a receiver says that took a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// Its status, 200..=299.
    pub status: u16,
    /// Its body; `None` when it was too long or broke off.
    pub body: Option<Vec<u8>>,
}

/// What an answer proves.
pub(crate) async fn read(response: Response) -> Answer<Reply> {
    let judged = judge(response.status());
    let body = if matches!(judged, Answer::Done(_)) { body(response).await } else { None };
    judged.and_then(|status| Answer::Done(Reply { status, body }))
}

/// What a status proves. A redirect that means "done, look there" is no proof of anything.
pub(crate) fn judge(status: StatusCode) -> Answer<u16> {
    let error = format!("HTTP_{}", status.as_u16());
    match status {
        status if status.is_success() => Answer::Done(status.as_u16()),
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

/// The bytes of an answer; `None` when they are too many or the connection ends before them.
async fn body(mut response: Response) -> Option<Vec<u8>> {
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
