//! Requests go to the configured host at an address it may have, and nowhere else.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, and so do its helpers")]

use std::collections::{BTreeMap, VecDeque};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::response::IntoResponse as _;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use webhook::{Answer, Event, Method, Reply, Request, Rpc, Sender, Target};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// URLs of a target that is not the company's own; all names are resolved to 127.0.0.1, where somebody listens.
const FORMS: &str = include_str!("forms.txt");

/// Answers of a resolver, one a question; the last one stays. Without a port it is that of the URL.
#[derive(Clone, Default)]
struct Script {
    answers: Arc<Mutex<VecDeque<Vec<SocketAddr>>>>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Script {
    fn of(answers: &[&[&str]]) -> Self {
        let address =
            |text: &&str| text.parse().unwrap_or_else(|_| SocketAddr::new(text.parse().unwrap(), 0));
        let parsed = |answer: &&[&str]| answer.iter().map(address).collect();
        Self { answers: Arc::new(Mutex::new(answers.iter().map(parsed).collect())), ..Self::default() }
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

impl Resolve for Script {
    fn resolve(&self, name: Name) -> Resolving {
        self.asked.lock().unwrap().push(name.as_str().to_owned());
        let mut answers = self.answers.lock().unwrap();
        let answer = if answers.len() > 1 { answers.pop_front().unwrap() } else { answers[0].clone() };
        Box::pin(std::future::ready(Ok(Box::new(answer.into_iter()) as Addrs)))
    }
}

/// Somebody who only counts who connects: the system does it before anyone accepts.
struct Listener(TcpListener);

impl Listener {
    fn on(address: &str) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        listener.set_nonblocking(true).unwrap();
        Self(listener)
    }

    fn port(&self) -> u16 {
        self.0.local_addr().unwrap().port()
    }

    /// Connections since the last count.
    fn count(&self) -> usize {
        std::iter::from_fn(|| self.0.accept().ok()).count()
    }
}

fn target(url: &str, allow_private: bool) -> Target {
    Target { url: url.to_owned(), secret: SECRET.into(), allow_private, ..Target::default() }
}

fn sender(target: Target, names: &Script) -> Sender {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let targets = [("bank".to_owned(), target)].into();
    Sender::with_resolver(&targets, Duration::from_millis(200), Arc::new(names.clone())).unwrap()
}

async fn post(sender: &Sender, path: &str) -> Answer<Reply> {
    let request = Request {
        target: "bank",
        id: "e_1",
        method: Method::POST,
        path,
        headers: &BTreeMap::new(),
        body: "{}",
        event: Event { source: "/test", kind: "dev.firstline.test", at: jiff::Timestamp::UNIX_EPOCH },
        timeout: Duration::from_secs(5),
    };
    sender.send(request).await
}

async fn call(sender: &Sender) -> Answer<Option<Vec<u8>>> {
    let headers = BTreeMap::new();
    let timeout = Duration::from_secs(5);
    let rpc = Rpc { target: "bank", id: "e_1", method: "/a.B/C", headers: &headers, message: &[], timeout };
    sender.call(rpc).await
}

fn refused(error: &str) -> Answer<Reply> {
    Answer::Refused(error.to_owned())
}

#[tokio::test]
async fn no_form_of_an_address_that_is_not_public_gets_a_connection() {
    let listener = Listener::on("127.0.0.1:0");
    let six = TcpListener::bind(("::1", listener.port())).ok();
    let six = six.inspect(|six| six.set_nonblocking(true).unwrap()).map(Listener);
    let names = Script::of(&[&["127.0.0.1"]]);
    let forms = FORMS.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let forms: Vec<_> = forms.map(|form| form.replace("PORT", &listener.port().to_string())).collect();
    assert!(forms.len() >= 80, "{}", forms.len());
    for form in forms {
        let target = target(&form, false);
        let expected =
            if target.faults().is_empty() { "ADDRESS_NOT_ALLOWED" } else { "TARGET_NOT_CONFIGURED" };
        let sender = sender(target, &names);
        assert_eq!(post(&sender, "/x").await, refused(expected), "{form}");
        assert_eq!(call(&sender).await, Answer::Refused(expected.to_owned()), "{form}");
        assert_eq!(listener.count() + six.as_ref().map_or(0, Listener::count), 0, "{form}");
    }
    // The listener counts: the same name is connected to where a private address is allowed.
    let own = sender(target(&format!("https://bank.example:{}", listener.port()), true), &names);
    assert_eq!(post(&own, "/x").await, Answer::NotNow("UNREACHABLE".to_owned()));
    assert_eq!(call(&own).await, Answer::NotNow("UNREACHABLE".to_owned()));
    assert_eq!(listener.count(), 2);
}

#[tokio::test]
async fn a_private_address_is_for_those_who_say_so_and_metadata_for_nobody() {
    let private = ["10.0.0.1", "172.31.255.255", "192.168.1.1", "100.64.0.1", "127.0.0.1", "::1", "fd12::1"];
    let never = [
        "169.254.169.254",
        "169.254.170.2",
        "100.100.100.200",
        "168.63.129.16",
        "192.0.0.192",
        "fd00:ec2::254",
        "fd20:ce::254",
        "fe80::1",
        "fec0::1",
        "0.0.0.0",
        "::",
        "224.0.0.1",
        "255.255.255.255",
        "240.0.0.1",
        "ff02::1",
        "192.0.2.1",
        "198.51.100.1",
        "203.0.113.1",
        "198.19.255.255",
        "2001:db8::1",
        "3fff::1",
        "2001:2::1",
        "::ffff:10.0.0.1",
        "::ffff:169.254.169.254",
        "::127.0.0.1",
        "64:ff9b::10.0.0.1",
        "64:ff9b:1::8.8.8.8",
        "2002:a00:1::1",
        "2001:0:4136:e378:8000:63bf:f5ff:fffe",
    ];
    for (ip, own) in private.map(|ip| (ip, true)).into_iter().chain(never.map(|ip| (ip, false))) {
        let literal = if ip.contains(':') { format!("[{ip}]") } else { ip.to_owned() };
        let literal = format!("https://{literal}/");
        assert!(!target(&literal, false).faults().is_empty(), "{ip}");
        assert_eq!(target(&literal, true).faults().is_empty(), own, "{ip}");
        // Among addresses that are allowed too.
        let names = Script::of(&[&["8.8.8.8", ip]]);
        let public = sender(target("https://bank.example", false), &names);
        assert_eq!(post(&public, "/x").await, refused("ADDRESS_NOT_ALLOWED"), "{ip}");
        if !own {
            let private = sender(target("https://bank.example", true), &names);
            assert_eq!(post(&private, "/x").await, refused("ADDRESS_NOT_ALLOWED"), "{ip}");
        }
    }
    for ip in ["8.8.8.8", "100.63.255.255", "172.32.0.1", "[2606:4700::1111]", "[64:ff9b::808:808]"] {
        assert!(target(&format!("https://{ip}"), false).faults().is_empty(), "{ip}");
    }
}

#[tokio::test]
async fn the_connection_goes_to_the_address_that_was_checked() {
    let (first, second) = (Listener::on("127.0.0.1:0"), Listener::on("127.0.0.1:0"));
    let [here, there] = [&first, &second].map(|listener| listener.0.local_addr().unwrap().to_string());
    let url = "https://bank.example";
    // Where private addresses are allowed, whoever rebinds the name is a question late.
    let names = Script::of(&[&[&here], &[&there], &["169.254.169.254"]]);
    let own = sender(target(url, true), &names);
    let unreachable = Answer::NotNow("UNREACHABLE".to_owned());
    assert_eq!(post(&own, "/x").await, unreachable);
    assert_eq!((first.count(), second.count(), names.asked().len()), (1, 0, 1));
    assert_eq!(post(&own, "/x").await, unreachable);
    assert_eq!((first.count(), second.count(), names.asked().len()), (0, 1, 2));
    assert_eq!(post(&own, "/x").await, refused("ADDRESS_NOT_ALLOWED"));
    // Nobody has the first address: it lies in a block that is public and not assigned.
    let names = Script::of(&[&["2d00::1"], &[&here]]);
    let public = sender(target(url, false), &names);
    assert_eq!(post(&public, "/x").await, unreachable);
    assert_eq!(post(&public, "/x").await, refused("ADDRESS_NOT_ALLOWED"));
    assert_eq!((first.count(), second.count()), (0, 0));
    assert_eq!(names.asked(), ["bank.example", "bank.example"]);
}

#[tokio::test]
async fn localhost_is_this_machine_whatever_its_name_is_resolved_to() {
    let nobody = Listener::on("127.0.0.1:0").port();
    let local = target(&format!("http://localhost:{nobody}"), true);
    for answer in ["10.0.0.1", "8.8.8.8"] {
        let elsewhere = sender(local.clone(), &Script::of(&[&[answer]]));
        assert_eq!(post(&elsewhere, "/x").await, refused("ADDRESS_NOT_ALLOWED"), "{answer}");
    }
    let here = sender(local, &Script::of(&[&["127.0.0.1"]]));
    assert_eq!(post(&here, "/x").await, Answer::NotNow("UNREACHABLE".to_owned()));
}

#[tokio::test]
async fn a_redirect_and_a_path_lead_nowhere_else() {
    let elsewhere = Listener::on("127.0.0.1:0");
    let location = format!("http://127.0.0.1:{}/", elsewhere.port());
    let redirect = move |status: axum::extract::Path<u16>| {
        let status = axum::http::StatusCode::from_u16(*status).unwrap();
        let headers = [("location", location.clone())];
        async move { (status, headers).into_response() }
    };
    let app = Router::new().route("/hooks/{status}", axum::routing::any(redirect));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}/hooks", listener.local_addr().unwrap());
    let mut server = tokio::task::JoinSet::new();
    server.spawn(async move { axum::serve(listener, app).await.unwrap() });
    let sender = sender(target(&base, false), &Script::of(&[&["127.0.0.1"]]));
    for status in [307, 308] {
        assert_eq!(post(&sender, &format!("/{status}")).await, refused(&format!("HTTP_{status}")));
    }
    for status in [301, 302, 303] {
        let answer = Answer::Unclear(format!("HTTP_{status}"));
        assert_eq!(post(&sender, &format!("/{status}")).await, answer);
    }
    let port = elsewhere.port();
    for path in
        ["@127.0.0.1:1/", ".evil.example/", "/../307", "/..", "\\..\\307", &format!("@127.0.0.1:{port}/")]
    {
        assert_eq!(post(&sender, path).await, refused("REQUEST_MALFORMED"), "{path}");
    }
    assert_eq!(elsewhere.count(), 0);
}
