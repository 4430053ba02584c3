//! Helpdesks of a test: what they keep, and what they answer when they are ill.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::receiver::serve;

/// A helpdesk that speaks as Chatwoot and Zendesk do, with the token "tok-en".
#[derive(Debug)]
pub struct Helpdesk {
    /// Where it listens.
    pub url: String,
    desk: Arc<Mutex<Desk>>,
    _server: JoinSet<()>,
}

#[derive(Debug, Default)]
struct Desk {
    /// Answers to the next requests that create something; the effect happens before a 5xx, as when the answer of a
    /// server is lost.
    ill: Vec<StatusCode>,
    contacts: Vec<String>,
    made: Vec<Value>,
}

impl Helpdesk {
    /// Listens on a free loopback port; the first requests that create something get these answers.
    pub async fn start(ill: &[u16]) -> Self {
        let ill = ill.iter().rev().map(|status| StatusCode::from_u16(*status).unwrap()).collect();
        let desk = Arc::new(Mutex::new(Desk { ill, ..Desk::default() }));
        let (url, server) = serve(Router::new().fallback(take).with_state(desk.clone())).await;
        Self { url, desk, _server: server }
    }

    /// The conversations and tickets it has, and the notes to them.
    pub fn made(&self) -> Vec<Value> {
        self.desk.lock().unwrap().made.clone()
    }
}

async fn take(
    State(desk): State<Arc<Mutex<Desk>>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let mut desk = desk.lock().unwrap();
    let token = headers.get("api_access_token").or(headers.get("authorization"));
    if token.is_none_or(|token| token != "tok-en") {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let json: Value = serde_json::from_slice(&body).unwrap_or_default();
    let made = |desk: &Desk, pointer: &str, id: &str| {
        let fits = desk.made.iter().enumerate().filter(|(_, one)| one.pointer(pointer) == Some(&json!(id)));
        fits.map(|(number, _)| json!({ "id": number + 1 })).collect::<Vec<_>>()
    };
    let path: Vec<&str> = uri.path().split('/').skip(1).collect();
    match (method.as_str(), path.as_slice()) {
        ("POST", ["public", "api", "v1", "inboxes", "in-1", "contacts"]) => {
            desk.contacts.push(json["source_id"].as_str().unwrap().to_owned());
            axum::Json(json).into_response()
        }
        ("GET", ["public", "api", "v1", "inboxes", "in-1", "contacts", id, "conversations"]) => {
            axum::Json(made(&desk, "/source_id", id)).into_response()
        }
        ("POST", ["api", "v1", "accounts", "7", "conversations"]) => {
            let known = desk.contacts.iter().any(|contact| json["source_id"] == **contact);
            if known { create(&mut desk, json, "") } else { StatusCode::NOT_FOUND.into_response() }
        }
        ("GET", ["api", "v2", "tickets.json"]) => {
            let id = uri.query().unwrap().strip_prefix("external_id=").unwrap();
            axum::Json(json!({ "tickets": made(&desk, "/ticket/external_id", id) })).into_response()
        }
        ("POST", ["api", "v2", "tickets.json"]) => create(&mut desk, json, "ticket"),
        ("POST", ["api", "v1", "accounts", "7", "conversations", "1", "messages"])
        | ("PUT", ["api", "v2", "tickets", "1.json"]) => create(&mut desk, json, ""),
        ("GET", [.., "1", "messages" | "comments.json"]) => axum::Json(desk.made.clone()).into_response(),
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}

fn create(desk: &mut Desk, json: Value, inside: &str) -> Response {
    let ill = desk.ill.pop();
    if ill.is_none_or(|status| status.is_server_error()) {
        desk.made.push(json);
    }
    let id = json!({ "id": desk.made.len() });
    let receipt = if inside.is_empty() { id } else { json!({ inside: id }) };
    ill.map_or_else(|| axum::Json(receipt).into_response(), |status| status.into_response())
}

/// A mail server that keeps what it is sent, and says no to the first few mails for now.
#[derive(Debug)]
pub struct MailServer {
    /// Where it listens.
    pub address: String,
    mails: Arc<Mutex<Vec<String>>>,
    _server: JoinSet<()>,
}

impl MailServer {
    /// Listens on a free loopback port.
    pub async fn start(busy: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, mails) = (listener.local_addr().unwrap().to_string(), Arc::<Mutex<Vec<_>>>::default());
        let (kept, mut server) = (mails.clone(), JoinSet::new());
        server.spawn(async move {
            let mut left = busy;
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                // A client that goes away ends its mail, not the server.
                if let Ok(Some(mail)) = receive(stream, left > 0).await {
                    kept.lock().unwrap().push(mail);
                }
                left = left.saturating_sub(1);
            }
        });
        Self { address, mails, _server: server }
    }

    /// The mails it has, headers and all.
    pub fn mails(&self) -> Vec<String> {
        self.mails.lock().unwrap().clone()
    }
}

async fn receive(stream: TcpStream, busy: bool) -> std::io::Result<Option<String>> {
    let mut stream = BufReader::new(stream);
    stream.write_all(b"220 mail.example\r\n").await?;
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await? == 0 {
            return Ok(None);
        }
        let answer: &[u8] = match line.get(..4).unwrap_or_default() {
            "MAIL" if busy => b"451 later\r\n",
            "QUIT" => return Ok(None),
            "DATA" => b"354 go on\r\n",
            _ => b"250 ok\r\n",
        };
        stream.write_all(answer).await?;
        if line.starts_with("DATA") {
            let mut mail = String::new();
            while !mail.ends_with("\r\n.\r\n") {
                stream.read_line(&mut mail).await?;
            }
            stream.write_all(b"250 ok\r\n").await?;
            return Ok(Some(mail));
        }
    }
}
