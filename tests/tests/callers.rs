//! Who may call what, over real connections: every cell of callers and RPCs, certificates that are exchanged, and the
//! whole assistant with TLS between its stages.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use http::{Request, Uri};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use kit::config::{Balance, Jwt, Role, STAGES, Tls, Token};
use kit::{Context, Link, Links, Stage};
use prost::Message as _;
use proto::assistant_service_client::AssistantServiceClient;
use proto::{AskRequest, Message, Outcome};
use rcgen::{KeyPair, PublicKeyData as _};
use serde_json::{Value, json};
use tests::{Authority, Processes, Transport, World, scratch, shown};
use tokio::net::TcpListener;
use tonic::body::Body;
use tonic::{Code, Status};
use tower::{Service as _, ServiceExt as _};

/// For each service, who may call which of its RPCs.
const ALLOWED: &str = include_str!("callers.txt");

/// Paths of all RPCs of the contracts.
fn rpcs() -> BTreeSet<String> {
    let set = prost_types::FileDescriptorSet::decode(proto::DESCRIPTORS).unwrap();
    let services =
        set.file.iter().filter(|file| file.package() == "firstline.v1").flat_map(|file| &file.service);
    let paths = services.flat_map(|service| {
        service.method.iter().map(|method| format!("{} {}", service.name(), method.name()))
    });
    paths.collect()
}

/// A stage without services on a free port, with these settings: what is let in is UNIMPLEMENTED.
struct Served {
    url: String,
    context: Context,
}

impl Served {
    async fn start(mut context: Context) -> Self {
        kit::run::install_tls();
        context.server.drain_ms = 0;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("{}://{}", context.server.scheme(), listener.local_addr().unwrap());
        let serving = context.clone();
        context.tasks.spawn(async move {
            kit::serve::serve(listener, Stage::new("probe"), &serving).await.unwrap();
        });
        Self { url, context }
    }

    async fn stop(self) {
        self.context.finish().await;
    }
}

/// Somebody who calls: with files of TLS, and a token.
fn caller(tls: &Tls, token: Option<&str>) -> Context {
    let mut context = Context::default();
    context.server.tls = tls.clone();
    context.server.token = token.map(Into::into);
    context
}

/// What a call of an RPC without a message says.
async fn call(link: &mut Link, service: &str, method: &str) -> Code {
    let uri: Uri = format!("http://probe/firstline.v1.{service}/{method}").parse().unwrap();
    let request = Request::post(uri).header("content-type", "application/grpc").header("te", "trailers");
    let request = request.body(Body::empty()).unwrap();
    let answer = match link.ready().await {
        Ok(link) => link.call(request).await,
        Err(status) => Err(status),
    };
    match answer {
        Ok(response) => Status::from_header_map(response.headers()).map_or(Code::Ok, |status| status.code()),
        Err(status) => status.code(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_processes_of_one_machine_talk_by_tls_where_it_is_set() {
    kit::run::install_tls();
    let (authority, own, ours) = (Authority::default(), scratch(), scratch());
    let here = scratch::free().ip().to_string();
    let tls = authority.issue(&["orchestrator.firstline.svc", &here], own.path());
    let files = [("CERT", tls.cert), ("KEY", tls.key), ("CA", tls.ca)];
    let files =
        files.map(|(name, path)| (format!("FIRSTLINE__SERVER__TLS__{name}"), path.display().to_string()));
    let mut variables: Vec<_> = files.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    variables.push(("FIRSTLINE__SERVER__CALLERS__OPERATOR", "[\"ops.example.com\"]"));
    let doors = STAGES.map(|stage| {
        (format!("FIRSTLINE__SERVER__ADMIN__{}", stage.to_uppercase()), scratch::free().to_string())
    });
    variables.extend(doors.iter().map(|(name, door)| (name.as_str(), door.as_str())));
    let processes = Processes::start(&variables);
    let url = processes.url.replace("http:", "https:");
    for (name, expected) in
        [("ops.example.com", Ok(Outcome::Answered)), ("stranger", Err(Code::PermissionDenied))]
    {
        let context = caller(&authority.issue(&[name], ours.path()), None);
        let mut client = AssistantServiceClient::new(Link::remote(&url, Balance::Single, &context).unwrap());
        let message = Message { text: "What is the contactless limit?".to_owned(), ..Message::default() };
        let answer = client.ask(AskRequest { message: Some(message) }).await;
        let outcome = answer.map(|answer| answer.into_inner().turn.unwrap().outcome());
        assert_eq!(outcome.map_err(|status| status.code()), expected, "{name}");
        context.finish().await;
    }
    assert_eq!(processes.stop(), Some(0));
}

/// Signs claims for an hour from now, with `change` applied.
fn token(key: &KeyPair, kid: &str, change: impl FnOnce(&mut Value)) -> String {
    let mut claims = json!({
        "sub": "ann", "role": "desk", "iss": "https://id.example.com", "aud": "firstline", "tenant": "bank",
        "exp": jiff::Timestamp::now().as_second() + 3600,
    });
    change(&mut claims);
    let header = Header { kid: Some(kid.to_owned()), ..Header::new(Algorithm::ES256) };
    let key = EncodingKey::from_ec_pem(key.serialize_pem().as_bytes()).unwrap();
    jsonwebtoken::encode(&header, &claims, &key).unwrap()
}

/// A key under two ids: with the algorithm that it signs by, and as issuers that leave it out have it; and a secret.
fn keys(key: &KeyPair) -> Value {
    let point = key.der_bytes();
    let part = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
    let (x, y) = (part(&point[1..33]), part(&point[33..]));
    json!({ "keys": [
        { "kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": "k1", "x": x, "y": y },
        { "kty": "EC", "crv": "P-256", "kid": "bare", "x": x, "y": y },
        { "kty": "oct", "kid": "shared", "k": part(SECRET.as_bytes()) },
    ] })
}

const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// Settings of a server that knows callers by certificate, secret and signed token.
fn settings(tls: Tls, jwks: PathBuf) -> Context {
    let mut context = Context::default();
    let server = &mut context.server;
    server.tls = tls;
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    server.callers = BTreeMap::from([
        (Role::Service, names(&["spiffe://example.org/shop"])),
        (Role::Desk, names(&["desk.example.com"])),
        (Role::Operator, names(&["ops.example.com"])),
    ]);
    let token = Token { token: SECRET.into(), role: Role::Service };
    server.tokens = BTreeMap::from([("shop".to_owned(), token)]);
    let text = |text: &str| text.to_owned();
    server.jwt = Jwt {
        keys: jwks,
        issuer: text("https://id.example.com"),
        audience: text("firstline"),
        tenant: text("bank"),
    };
    context
}

#[tokio::test(flavor = "multi_thread")]
async fn every_caller_may_call_what_is_listed_and_nothing_else() {
    let (ours, theirs, dir) = (Authority::default(), Authority::default(), scratch());
    let folder = |name: &str| {
        let path = dir.path().join(name);
        std::fs::create_dir(&path).unwrap();
        path
    };
    let (key, stranger) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let jwks = dir.path().join("keys.json");
    std::fs::write(&jwks, keys(&key).to_string()).unwrap();
    let server = ours.issue(&["classifier.firstline.svc"], &folder("server"));
    let served = Served::start(settings(server, jwks)).await;
    let of = |names: &[&str], folder_name: &str| ours.issue(names, &folder(folder_name));
    let none = Tls { ca: of(&["unused"], "none").ca, ..Tls::default() };
    let elsewhere = Tls { ca: none.ca.clone(), ..theirs.issue(&["orchestrator"], &folder("elsewhere")) };
    let expired = ours.issue_until(&["orchestrator"], &folder("expired"), 2020);
    let orchestrator = of(&["orchestrator.firstline.svc"], "orchestrator");
    let hour_ago = jiff::Timestamp::now().as_second() - 3600;
    let signed = |change: &dyn Fn(&mut Value)| token(&key, "k1", change);
    let unsigned = {
        let part = |value: Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
        let header = part(json!({ "alg": "none", "kid": "k1" }));
        format!("{header}.{}.", part(json!({ "sub": "ann", "role": "operator" })))
    };
    // The public key is no secret: who signs with it as one must not be believed.
    let by_secret = |kid: &str, secret: &[u8]| {
        let header = Header { kid: Some(kid.to_owned()), ..Header::new(Algorithm::HS256) };
        let claims = json!({ "sub": "ann", "role": "operator", "iss": "https://id.example.com", "aud": "firstline",
            "tenant": "bank", "exp": hour_ago + 7200 });
        jsonwebtoken::encode(&header, &claims, &EncodingKey::from_secret(secret).unwrap()).unwrap()
    };
    let confused = by_secret("k1", key.public_key_pem().as_bytes());
    let shared = by_secret("shared", SECRET.as_bytes());
    let (nobody, unknown) = (Code::Unauthenticated, Code::PermissionDenied);
    // Name, files, token, role, what is said to whoever has none.
    let callers: Vec<(&str, Tls, Option<String>, &str, Code)> = vec![
        ("the orchestrator", orchestrator.clone(), None, "orchestrator", unknown),
        (
            "by SPIFFE",
            of(&["spiffe://example.org/ns/x/orchestrator"], "spiffe"),
            None,
            "orchestrator",
            unknown,
        ),
        ("a shop", of(&["spiffe://example.org/shop"], "shop"), None, "service", unknown),
        ("a desk", of(&["desk.example.com"], "desk"), None, "desk", unknown),
        ("an operator", of(&["ops.example.com"], "ops"), None, "operator", unknown),
        ("another stage", of(&["workflow.firstline.svc"], "workflow"), None, "", unknown),
        ("another name", of(&["orchestrators.example.com"], "name"), None, "", unknown),
        ("like a desk", of(&["desk.example.com.evil.org"], "like"), None, "", unknown),
        ("no certificate", none.clone(), None, "", nobody),
        ("another authority", elsewhere, None, "", Code::Unavailable),
        ("expired", expired, None, "", Code::Unavailable),
        ("a secret", none.clone(), Some(SECRET.to_owned()), "service", unknown),
        ("another secret", none.clone(), Some("x".repeat(32)), "", nobody),
        // What is brought is looked at, not what else could have been.
        ("a bad secret with a good certificate", orchestrator, Some("x".repeat(32)), "", nobody),
        ("a signed token", none.clone(), Some(signed(&|_| ())), "desk", unknown),
        (
            "an operator's",
            none.clone(),
            Some(signed(&|claims| claims["role"] = json!("operator"))),
            "operator",
            unknown,
        ),
        ("no role", none.clone(), Some(signed(&|claims| claims["role"] = json!("admin"))), "", nobody),
        (
            "as a stage",
            none.clone(),
            Some(signed(&|claims| claims["role"] = json!("orchestrator"))),
            "",
            nobody,
        ),
        ("ended", none.clone(), Some(signed(&|claims| claims["exp"] = json!(hour_ago))), "", nobody),
        ("not yet", none.clone(), Some(signed(&|claims| claims["nbf"] = json!(hour_ago + 7200))), "", nobody),
        (
            "of another issuer",
            none.clone(),
            Some(signed(&|claims| claims["iss"] = json!("https://x"))),
            "",
            nobody,
        ),
        ("for others", none.clone(), Some(signed(&|claims| claims["aud"] = json!("shop"))), "", nobody),
        (
            "another tenant",
            none.clone(),
            Some(signed(&|claims| claims["tenant"] = json!("shop"))),
            "",
            nobody,
        ),
        ("another key", none.clone(), Some(token(&stranger, "k1", |_| ())), "", nobody),
        ("by a key without alg", none.clone(), Some(token(&key, "bare", |_| ())), "desk", unknown),
        ("by a shared secret", none.clone(), Some(shared), "", nobody),
        ("an unknown key", none.clone(), Some(token(&key, "k2", |_| ())), "", nobody),
        ("unsigned", none.clone(), Some(unsigned), "", nobody),
        ("signed with what is public", none, Some(confused), "", nobody),
    ];
    let table: BTreeMap<String, Vec<&str>> = ALLOWED
        .trim()
        .lines()
        .map(|line| {
            let mut words = line.split(' ');
            (format!("{} {}", words.next().unwrap(), words.next().unwrap()), words.collect())
        })
        .collect();
    assert_eq!(rpcs(), table.keys().cloned().collect(), "every RPC has its line");
    let mut cells = 0;
    for (name, tls, token, role, otherwise) in &callers {
        let context = caller(tls, token.as_deref());
        let mut link = Link::remote(&served.url, Balance::Single, &context).unwrap();
        for (rpc, allowed) in &table {
            let (service, method) = rpc.split_once(' ').unwrap();
            let expected = if allowed.contains(role) { Code::Unimplemented } else { *otherwise };
            assert_eq!(call(&mut link, service, method).await, expected, "{name}: {rpc}");
            cells += 1;
        }
        context.finish().await;
    }
    println!("{cells} cells of {} callers and {} RPCs", callers.len(), table.len());
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_shows_nothing_where_a_certificate_is_wanted_is_told_so() {
    let (ours, dir) = (Authority::default(), scratch());
    let mut context = Context::default();
    context.server.tls = ours.issue(&["safety.firstline.svc"], dir.path());
    let stranger = Tls { ca: context.server.tls.ca.clone(), ..Tls::default() };
    let served = Served::start(context).await;
    let context = caller(&stranger, None);
    let mut link = Link::remote(&served.url, Balance::Single, &context).unwrap();
    let uri: Uri = "http://probe/firstline.v1.SafetyService/ScreenInput".parse().unwrap();
    let refused = link.ready().await.unwrap().call(Request::post(uri).body(Body::empty()).unwrap()).await;
    let refused = refused.unwrap_err();
    assert!(refused.message().contains("asks for a certificate"), "{refused:?}");
    // Who has TLS himself does not call in plain text by an oversight.
    let mut context = Context::default();
    context.server.tls = ours.issue(&["orchestrator.firstline.svc"], dir.path());
    let plain = Links::remote(&context.server, &context).unwrap_err().to_string();
    assert!(
        plain.contains("server.endpoints.classifier is http://127.0.0.1:7701, with server.tls"),
        "{plain}"
    );
    context.finish().await;
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_are_exchanged_without_a_failed_call() {
    let (ours, dir) = (Authority::default(), scratch());
    let issue = |folder: &str| {
        let path = dir.path().join(folder);
        std::fs::create_dir_all(&path).unwrap();
        ours.issue(&["orchestrator.firstline.svc"], &path)
    };
    let mut context = Context::default();
    context.server.tls = issue("server");
    let served = Served::start(context).await;
    let client = issue("client");
    let everyone = issue("everyone");
    std::fs::set_permissions(&everyone.key, std::fs::Permissions::from_mode(0o644)).unwrap();
    let refused = Link::remote(&served.url, Balance::Single, &caller(&everyone, None)).unwrap_err();
    assert!(format!("{refused:#}").contains("can be read by everyone (mode 644)"), "{refused:#}");
    let context = caller(&client, None);
    let mut kept = Link::remote(&served.url, Balance::Single, &context).unwrap();
    let old = shown(&served.url, &client).await;
    let first = std::fs::read(&client.cert).unwrap();
    ours.issue_until(&["orchestrator.firstline.svc"], &dir.path().join("server"), 2101);
    // The client has the new key with the old certificate: what does not belong together must not be used.
    issue("client");
    let newer = std::fs::read(&client.cert).unwrap();
    std::fs::write(&client.cert, first).unwrap();
    let (end, mut calls, other) = (Instant::now() + Duration::from_secs(20), 0, issue("other"));
    let until = async |link: &mut Link, calls: &mut usize, is_over: &dyn Fn(&[u8]) -> bool| loop {
        assert_eq!(
            call(link, "ClassifierService", "Classify").await,
            Code::Unimplemented,
            "after {calls} calls"
        );
        *calls += 1;
        if is_over(&shown(&served.url, &other).await) {
            break;
        }
        assert!(Instant::now() < end, "the new certificate was not shown");
    };
    until(&mut kept, &mut calls, &|now| now != old).await;
    std::fs::write(&client.cert, newer).unwrap();
    let mut fresh = Link::remote(&served.url, Balance::Single, &caller(&client, None)).unwrap();
    until(&mut fresh, &mut calls, &|now| now != old).await;
    println!("{calls} calls");
    let told = served.context.metrics.text().unwrap();
    let ends = jiff::civil::date(2101, 1, 1).at(0, 0, 0, 0).in_tz("UTC").unwrap().timestamp().as_second();
    assert!(told.contains(&format!("firstline_tls_certificate_not_after_seconds {ends}\n")), "{told}");
    context.finish().await;
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_whole_assistant_speaks_tls_between_its_stages() {
    let (ours, dir) = (Authority::default(), scratch());
    let Tls { cert, key, ca } = ours.issue(&["orchestrator.firstline.svc", "ops.example.com"], dir.path());
    let quoted = |path: &Path| format!("{:?}", path.display().to_string());
    let (cert, key, ca) = (quoted(&cert), quoted(&key), quoted(&ca));
    let world = World::with(
        Transport::Tcp,
        &[
            ("server", "tls.cert", &cert),
            ("server", "tls.key", &key),
            ("server", "tls.ca", &ca),
            ("server", "callers.operator", "[\"ops.example.com\"]"),
        ],
    )
    .await;
    let turn = world.say("", "How much is a replacement card?").await;
    assert_eq!(turn.outcome(), Outcome::Answered, "{turn:?}");
    let turn = world.say(&turn.conversation_id, "I lost my card, block it").await;
    assert!(turn.workflow.is_some(), "{turn:?}");
    let turn = world.say(&turn.conversation_id, "agent").await;
    assert_eq!(turn.outcome(), Outcome::Handoff, "{turn:?}");
    world.stop().await;
}
