//! What reaches a receiver.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, and so do its helpers")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::http::HeaderMap;
use standardwebhooks::Webhook;
use tokio::task::JoinSet;
use webhook::{Answer, Event, Format, Method, Reply, Request, Sender, Target};

const OLD: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const NEW: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
const OTHER: &str = "whsec_dGhlIHNlY3JldCBvZiBhbGwgdGhlIHRlc3Rz";

/// When what is told of happened.
const AT: &str = "2026-11-28T10:00:00.123456789Z";

type Seen = Arc<Mutex<Vec<(HeaderMap, Bytes)>>>;

/// A receiver that takes everything, until the task set goes.
async fn receiver() -> (String, Seen, JoinSet<()>) {
    let seen = Seen::default();
    let taken = seen.clone();
    let app = Router::new().fallback(move |headers: HeaderMap, body: Bytes| {
        taken.lock().unwrap().push((headers, body));
        std::future::ready("{\"reference\":\"R-1\"}")
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let mut server = JoinSet::new();
    server.spawn(async move { axum::serve(listener, app).await.unwrap() });
    (url, seen, server)
}

async fn send(target: Target, body: &str) -> Answer<Reply> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let sender = Sender::new(&[("bank".to_owned(), target)].into(), Duration::from_secs(5)).unwrap();
    let request = Request {
        target: "bank",
        id: "e_1",
        method: Method::POST,
        path: "/block",
        headers: &[("x-desk".to_owned(), "7".to_owned())].into(),
        body,
        event: Event { source: "/firstline/test", kind: "dev.firstline.test.block", at: AT.parse().unwrap() },
        timeout: Duration::from_secs(5),
    };
    sender.send(request).await
}

fn done() -> Answer<Reply> {
    Answer::Done(Reply { status: 200, body: Some(br#"{"reference":"R-1"}"#.to_vec()) })
}

#[tokio::test]
async fn a_receiver_with_either_secret_accepts() {
    let (url, seen, _server) = receiver().await;
    let secret = format!("{NEW}\n{OLD}").as_str().into();
    assert_eq!(send(Target { url, secret, ..Target::default() }, "{}").await, done());
    let (headers, body) = seen.lock().unwrap().pop().unwrap();
    let accepts = |secret| Webhook::new(secret).unwrap().verify(&body, &headers).is_ok();
    assert_eq!([NEW, OLD, OTHER].map(accepts), [true, true, false]);
    assert_eq!([&headers["webhook-id"], &headers["idempotency-key"]], ["e_1", "e_1"]);
    assert_eq!([&headers["content-type"], &headers["x-desk"]], ["application/json", "7"]);
}

#[tokio::test]
async fn a_cloud_event_is_the_same_bytes_at_every_attempt() {
    let (url, seen, _server) = receiver().await;
    let target = Target { url, secret: OLD.into(), format: Format::Cloudevents, ..Target::default() };
    // Keys in an order of their own, and a number that no float holds.
    let body = r#"{"z":1, "a":9007199254740993}"#;
    for _ in 0..2 {
        assert_eq!(send(target.clone(), body).await, done());
    }
    let mut seen = std::mem::take(&mut *seen.lock().unwrap());
    let ((headers, second), (_, first)) = (seen.pop().unwrap(), seen.pop().unwrap());
    assert_eq!(first, second);
    assert_eq!(headers["content-type"], "application/cloudevents+json");
    assert!(Webhook::new(OLD).unwrap().verify(&first, &headers).is_ok());
    let expected = format!(
        r#"{{"specversion":"1.0","id":"e_1","source":"/firstline/test","type":"dev.firstline.test.block","time":"{AT}","datacontenttype":"application/json","data":{body}}}"#
    );
    assert_eq!(first, expected);
    assert_eq!(send(target, "{").await, Answer::Refused("REQUEST_MALFORMED".to_owned()));
}
