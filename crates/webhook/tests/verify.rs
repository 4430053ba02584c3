//! What is accepted of what comes in.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, and so do its helpers")]

use hmac_sha256::{HMAC, Hash};
use jiff::{SignedDuration, Timestamp};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use standardwebhooks::Webhook;
use webhook::{Refusal, Secrets, Verifier};

const SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
const OTHER: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const TEXT: &str = "dGhpc19zZWNyZXRfaXNfZm9yX3Rlc3Rpbmdfb25seQ==";

/// A request as its sender signed it.
struct Signed {
    verifier: Verifier,
    headers: &'static [(&'static str, &'static str)],
    body: &'static str,
    at: i64,
    known_by: &'static str,
}

/// The example of the crate standardwebhooks, and two whose codes Python's hmac computed.
fn all() -> [Signed; 3] {
    let chatwoot = "n7Jw1kQ9tXvB4sLzR2mPc8Yd";
    let body = "{\"event\":\"message_created\",\"id\":\"42\"}";
    [
        Signed {
            verifier: Verifier::standard(&SECRET.into()).unwrap(),
            headers: &[
                ("webhook-id", "msg_27UH4WbU6Z5A5EzD8u03UvzRbpk"),
                ("webhook-timestamp", "1649367553"),
                ("webhook-signature", "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw="),
            ],
            body: "{\"email\":\"test@example.com\",\"username\":\"test_user\"}",
            at: 1_649_367_553,
            known_by: "msg_27UH4WbU6Z5A5EzD8u03UvzRbpk",
        },
        Signed {
            verifier: Verifier::chatwoot(&chatwoot.into()).unwrap(),
            headers: &[
                ("x-chatwoot-timestamp", "1795860000"),
                (
                    "x-chatwoot-signature",
                    "sha256=d631cee65247994aa33782313ad9426a2929338be1242fe5e519de10e3b022f6",
                ),
            ],
            body,
            at: 1_795_860_000,
            known_by: "1jHO5lJHmUqjN4IxOtlCaikpM4vhJC/l5RneEOOwIvY=",
        },
        Signed {
            verifier: Verifier::zendesk(&TEXT.into()).unwrap(),
            headers: &[
                ("x-zendesk-webhook-signature-timestamp", "2026-11-28T10:00:00Z"),
                ("x-zendesk-webhook-signature", "QKSKmh2BhvvIunU3mQDXHyj9t5aDSJbZCLbrx5YCFjY="),
            ],
            body,
            at: 1_795_860_000,
            known_by: "QKSKmh2BhvvIunU3mQDXHyj9t5aDSJbZCLbrx5YCFjY=",
        },
    ]
}

fn map(headers: &[(&'static str, &str)]) -> HeaderMap {
    headers
        .iter()
        .map(|(name, value)| (HeaderName::from_static(name), value.parse::<HeaderValue>().unwrap()))
        .collect()
}

fn after(at: i64, seconds: i64) -> Timestamp {
    Timestamp::from_second(at).unwrap() + SignedDuration::from_secs(seconds)
}

/// A request of Standard Webhooks, signed with a key, a moment ago.
fn verify(secrets: &str, id: &str, timestamp: &str, code: &str, body: &[u8]) -> Result<String, Refusal> {
    let headers = [("webhook-id", id), ("webhook-timestamp", timestamp), ("webhook-signature", code)];
    Verifier::standard(&secrets.into()).unwrap().verify(&map(&headers), body, after(1_795_860_000, 1))
}

fn sign(secret: &str, id: &str, body: &str) -> String {
    Webhook::new(secret).unwrap().sign(id, 1_795_860_000, body.as_bytes()).unwrap()
}

#[test]
fn what_was_signed_is_accepted_for_five_minutes_on_either_side() {
    for Signed { verifier, headers, body, at, known_by } in all() {
        let at = |seconds| verifier.verify(&map(headers), body.as_bytes(), after(at, seconds));
        for seconds in [-300, 0, 300] {
            assert_eq!(at(seconds).as_deref(), Ok(known_by), "{seconds}");
        }
        assert_eq!([at(301), at(-301)], [Err(Refusal::Stale), Err(Refusal::Early)], "{known_by}");
    }
}

#[test]
fn a_flipped_bit_anywhere_is_refused() {
    for Signed { verifier, headers, body, at, .. } in all() {
        let now = after(at, 0);
        for bit in 0..body.len() * 8 {
            let mut body = body.as_bytes().to_vec();
            body[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(verifier.verify(&map(headers), &body, now), Err(Refusal::Signature), "{bit}");
        }
        for (name, value) in headers {
            for bit in 0..value.len() * 8 {
                let mut value = value.as_bytes().to_vec();
                value[bit / 8] ^= 1 << (bit % 8);
                // What no header can hold does not arrive.
                let Ok(value) = HeaderValue::from_bytes(&value) else { continue };
                let mut headers = map(headers);
                headers.insert(*name, value);
                assert!(verifier.verify(&headers, body.as_bytes(), now).is_err(), "{name} {bit}");
            }
        }
    }
}

#[test]
fn each_header_has_to_be_there_once() {
    for Signed { verifier, headers, body, at, .. } in all() {
        for (name, value) in headers {
            let mut missing = map(headers);
            missing.remove(*name);
            let mut twice = map(headers);
            twice.append(*name, value.parse().unwrap());
            let mut empty = map(headers);
            empty.insert(*name, HeaderValue::from_static(""));
            for headers in [missing, twice] {
                let refused = verifier.verify(&headers, body.as_bytes(), after(at, 0));
                assert_eq!(refused, Err(Refusal::Header(name)));
            }
            assert!(verifier.verify(&empty, body.as_bytes(), after(at, 0)).is_err(), "{name}");
        }
    }
}

#[test]
fn either_of_two_secrets_is_accepted_and_no_other() {
    let code = sign(SECRET, "m_1", "{}");
    for (secrets, accepted) in [
        (SECRET.to_owned(), true),
        (format!("{SECRET} {OTHER}"), true),
        (format!("{OTHER} {SECRET}"), true),
        (OTHER.to_owned(), false),
    ] {
        let verified = verify(&secrets, "m_1", "1795860000", &code, b"{}");
        assert_eq!(verified, if accepted { Ok("m_1".to_owned()) } else { Err(Refusal::Signature) });
    }
    // A sender that exchanges its key signs with both.
    for codes in [[sign(OTHER, "m_1", "{}"), code.clone()], [code.clone(), sign(OTHER, "m_1", "{}")]] {
        let verified = verify(SECRET, "m_1", "1795860000", &codes.join(" "), b"{}");
        assert_eq!(verified.as_deref(), Ok("m_1"));
    }
    let other = code.replace("v1,", "v2,");
    assert_eq!(verify(SECRET, "m_1", "1795860000", &other, b"{}"), Err(Refusal::Signature));
    assert_eq!(verify(SECRET, "m_1", "1795860000", "v1,", b"{}"), Err(Refusal::Signature));
}

#[test]
fn nothing_is_added_to_what_was_signed_or_moved_between_its_parts() {
    let body = "1795860001.{}";
    let code = sign(SECRET, "m_1", body);
    assert!(verify(SECRET, "m_1", "1795860000", &code, body.as_bytes()).is_ok());
    // The padding that SHA-256 would add, and more: where the code is a hash of key and message, it can be continued.
    let signed = 24 + "m_1.1795860000.".len() + body.len();
    let mut longer = body.as_bytes().to_vec();
    longer.push(0x80);
    longer.resize(longer.len() + (119 - signed % 64) % 64, 0);
    longer.extend((signed as u64 * 8).to_be_bytes());
    longer.extend(b",\"more\":1");
    assert_eq!(verify(SECRET, "m_1", "1795860000", &code, &longer), Err(Refusal::Signature));
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    let mut plain = STANDARD.decode(&SECRET["whsec_".len()..]).unwrap();
    plain.extend(format!("m_1.1795860000.{body}").bytes());
    let plain = format!("v1,{}", STANDARD.encode(Hash::hash(&plain)));
    assert_eq!(verify(SECRET, "m_1", "1795860000", &plain, body.as_bytes()), Err(Refusal::Signature));
    // The same bytes under the code, cut elsewhere.
    let id = Refusal::Header("webhook-id");
    assert_eq!(verify(SECRET, "m_1.1795860000", "1795860001", &code, b"{}"), Err(id));
    let time = Refusal::Header("webhook-timestamp");
    assert_eq!(verify(SECRET, "m_1", "1795860000.1795860001", &code, b"{}"), Err(time));
    assert_eq!(verify(SECRET, "m_1", "+1795860000", &code, body.as_bytes()), Err(time));
}

#[test]
fn the_time_of_zendesk_cannot_reach_into_the_body() {
    let verifier = Verifier::zendesk(&TEXT.into()).unwrap();
    let verify = |timestamp: &str, body: &str, signed: &str| {
        use base64::{Engine as _, engine::general_purpose::STANDARD};
        let code = STANDARD.encode(HMAC::mac(signed, TEXT));
        let headers = [
            ("x-zendesk-webhook-signature-timestamp", timestamp),
            ("x-zendesk-webhook-signature", code.as_str()),
        ];
        verifier.verify(&map(&headers), body.as_bytes(), after(1_795_860_000, 0))
    };
    let signed = "2026-11-28T10:00:00.5Z[UTC]";
    assert!(verify("2026-11-28T10:00:00.5Z", "[UTC]", signed).is_ok());
    let refused = Err(Refusal::Header("x-zendesk-webhook-signature-timestamp"));
    for cut in 0..=signed.len() {
        let (timestamp, body) = signed.split_at(cut);
        if body != "[UTC]" {
            assert_eq!(verify(timestamp, body, signed), refused, "{timestamp}");
        }
    }
}

#[test]
fn a_secret_that_could_be_guessed_verifies_nothing() {
    let long = "a".repeat(257);
    for secret in ["", "short", "fifteen_letters", &long, &format!("{TEXT} short"), &[TEXT; 3].join(" ")] {
        let secrets = Secrets::from(secret);
        assert!(Verifier::chatwoot(&secrets).is_none() && Verifier::zendesk(&secrets).is_none(), "{secret}");
        assert!(Verifier::standard(&secrets).is_none(), "{secret}");
    }
}
