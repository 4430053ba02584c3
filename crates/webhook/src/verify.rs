//! Signatures of requests that come in.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac_sha256::HMAC;
use jiff::Timestamp;
use reqwest::header::HeaderMap;
use standardwebhooks::{HEADER_WEBHOOK_ID, HEADER_WEBHOOK_SIGNATURE, HEADER_WEBHOOK_TIMESTAMP};

use crate::secret::Secrets;

/// Distance between the time of a signature and the clock here, in seconds, in either direction.
const TOLERANCE: i64 = 5 * 60;
/// Signatures of one request that are looked at; a sender has no more than two keys.
const MAX_SIGNATURES: usize = 4;
const MAX_ID_BYTES: usize = 256;

/// Why a request is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A header that has to be there once.
    #[error("header {0} is missing, repeated, or not of its form")]
    Header(&'static str),
    /// Signed too long ago.
    #[error("signed more than 5 minutes ago: check the clocks of both sides")]
    Stale,
    /// Signed too far ahead.
    #[error("signed more than 5 minutes ahead: check the clocks of both sides")]
    Early,
    /// No signature fits.
    #[error("the signature fits no secret that is configured for it")]
    Signature,
}

/// Verifies requests of one sender, with one secret or either of two.
pub struct Verifier {
    scheme: &'static Scheme,
    keys: Vec<Vec<u8>>,
}

/// How a sender signs.
struct Scheme {
    /// Header of the id that is signed too, when there is one.
    id: Option<&'static str>,
    timestamp: &'static str,
    signature: &'static str,
    /// The time of a timestamp in Unix seconds. It has to refuse all but one way to write a time: where nothing
    /// stands between timestamp and body, a part of one could be passed off as a part of the other.
    time: fn(&str) -> Option<i64>,
    /// Between the parts of what is signed.
    separator: &'static str,
    /// The codes in the header.
    codes: fn(&str) -> Vec<[u8; 32]>,
}

static STANDARD_WEBHOOKS: Scheme = Scheme {
    id: Some(HEADER_WEBHOOK_ID),
    timestamp: HEADER_WEBHOOK_TIMESTAMP,
    signature: HEADER_WEBHOOK_SIGNATURE,
    time: seconds,
    separator: ".",
    codes: |header| {
        let codes = header.split(' ').take(MAX_SIGNATURES);
        codes.filter_map(|code| from_base64(code.strip_prefix("v1,")?)).collect()
    },
};

static CHATWOOT: Scheme = Scheme {
    id: None,
    timestamp: "x-chatwoot-timestamp",
    signature: "x-chatwoot-signature",
    time: seconds,
    separator: ".",
    codes: |header| header.strip_prefix("sha256=").and_then(from_hex).into_iter().collect(),
};

static ZENDESK: Scheme = Scheme {
    id: None,
    timestamp: "x-zendesk-webhook-signature-timestamp",
    signature: "x-zendesk-webhook-signature",
    time: utc,
    separator: "",
    codes: |header| from_base64(header).into_iter().collect(),
};

impl Verifier {
    /// For senders that follow Standard Webhooks; `None` when a secret is not "whsec_" and 24 to 64 bytes in base64.
    pub fn standard(secrets: &Secrets) -> Option<Self> {
        Some(Self { scheme: &STANDARD_WEBHOOKS, keys: secrets.keys()? })
    }

    /// For webhooks of Chatwoot with a secret of 16 to 256 bytes; `None` when it is not.
    pub fn chatwoot(secrets: &Secrets) -> Option<Self> {
        Some(Self { scheme: &CHATWOOT, keys: secrets.texts()? })
    }

    /// For webhooks of Zendesk with a secret of 16 to 256 bytes; `None` when it is not.
    pub fn zendesk(secrets: &Secrets) -> Option<Self> {
        Some(Self { scheme: &ZENDESK, keys: secrets.texts()? })
    }

    /// Accepts a request that was signed within five minutes of now, and returns what it is known by: keep that for ten
    /// minutes at least, durably, and take nothing twice. For Standard Webhooks it is the webhook's id, which a repeat
    /// by the sender has too. Chatwoot and Zendesk sign no id: there it is the code of what was signed, which a repeat
    /// by the sender has not; those are known by what the body says.
    ///
    /// # Errors
    /// The first thing that does not fit.
    pub fn verify(&self, headers: &HeaderMap, body: &[u8], now: Timestamp) -> Result<String, Refusal> {
        let scheme = self.scheme;
        let id =
            scheme.id.map(|name| only(headers, name).filter(|id| is_id(id)).ok_or(Refusal::Header(name)));
        let id = id.transpose()?;
        let timestamp = only(headers, scheme.timestamp).ok_or(Refusal::Header(scheme.timestamp))?;
        let time = (scheme.time)(timestamp).ok_or(Refusal::Header(scheme.timestamp))?;
        let codes = only(headers, scheme.signature).ok_or(Refusal::Header(scheme.signature))?;
        let age = now.as_second().saturating_sub(time);
        if age > TOLERANCE {
            return Err(Refusal::Stale);
        }
        if age < -TOLERANCE {
            return Err(Refusal::Early);
        }
        let codes = (scheme.codes)(codes);
        for key in &self.keys {
            let mut mac = HMAC::new(key);
            for part in id.into_iter().chain([timestamp]) {
                mac.update(part);
                mac.update(scheme.separator);
            }
            mac.update(body);
            if codes.iter().any(|code| mac.clone().finalize_verify(code)) {
                return Ok(id.map_or_else(|| STANDARD.encode(mac.finalize()), str::to_owned));
            }
        }
        Err(Refusal::Signature)
    }
}

/// A header that is there once, as text.
fn only<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?;
    values.next().is_none().then_some(value)
}

/// With a full stop in it, an id could take in the timestamp, and the body's beginning become one.
fn is_id(id: &str) -> bool {
    (1..=MAX_ID_BYTES).contains(&id.len()) && !id.contains('.')
}

fn seconds(text: &str) -> Option<i64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// RFC 3339 in UTC, "2026-11-28T10:00:00Z", with or without a fraction.
fn utc(text: &str) -> Option<i64> {
    let (time, rest) = text.split_once('Z')?;
    let plain = time.bytes().all(|byte| byte.is_ascii_digit() || b"-:T.".contains(&byte));
    (plain && rest.is_empty()).then(|| text.parse::<Timestamp>().ok()).flatten().map(Timestamp::as_second)
}

fn from_base64(text: &str) -> Option<[u8; 32]> {
    STANDARD.decode(text).ok()?.try_into().ok()
}

/// Lower case only, as it is sent.
fn from_hex(text: &str) -> Option<[u8; 32]> {
    let digit = |byte: &u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let digits: Vec<u8> = text.as_bytes().iter().map(digit).collect::<Option<_>>()?;
    let (pairs, []) = digits.as_chunks::<2>() else { return None };
    let bytes: Vec<u8> = pairs.iter().map(|[high, low]| high << 4 | low).collect();
    bytes.try_into().ok()
}
