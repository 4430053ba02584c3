//! The headers of a signed request.

use jiff::Timestamp;
use reqwest::header::HeaderMap;
use standardwebhooks::{HEADER_WEBHOOK_ID, HEADER_WEBHOOK_SIGNATURE, HEADER_WEBHOOK_TIMESTAMP, Webhook};

use crate::secret::Secrets;
use crate::send::IDEMPOTENCY_KEY;

/// Signs with every key, so that a receiver that has one of them accepts.
pub(crate) struct Signer(Vec<Webhook>);

impl Signer {
    /// A signer with the secrets of a target; `None` when they are not allowed.
    pub(crate) fn of(secrets: &Secrets) -> Option<Self> {
        let webhooks = secrets.keys()?.into_iter().map(Webhook::from_bytes);
        webhooks.collect::<Result<_, _>>().ok().map(Self)
    }

    /// The headers of an attempt; `None` for an id that no header can hold.
    pub(crate) fn headers(&self, id: &str, at: Timestamp, body: &[u8]) -> Option<HeaderMap> {
        let signature = |webhook: &Webhook| webhook.sign(id, at.as_second(), body).ok();
        let signatures: Vec<_> = self.0.iter().map(signature).collect::<Option<_>>()?;
        let mut headers = HeaderMap::new();
        headers.insert(IDEMPOTENCY_KEY, id.parse().ok()?);
        headers.insert(HEADER_WEBHOOK_ID, id.parse().ok()?);
        headers.insert(HEADER_WEBHOOK_TIMESTAMP, at.as_second().into());
        headers.insert(HEADER_WEBHOOK_SIGNATURE, signatures.join(" ").parse().ok()?);
        Some(headers)
    }
}
