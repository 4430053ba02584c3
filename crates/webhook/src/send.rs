//! One signed request to a target.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use reqwest::dns::Resolve;
use reqwest::header::{CONTENT_TYPE, HeaderName};
use reqwest::{Client, ClientBuilder, Method, Url, redirect, retry};

use crate::answer::{self, Answer, Reply};
use crate::event::{Event, Format};
use crate::guard::{self, Guard, Reach, System};
use crate::sign::Signer;
use crate::target::{Place, Target};

/// The header of draft-ietf-httpapi-idempotency-key-header.
pub(crate) const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const USER_AGENT: &str = concat!("firstline/", env!("CARGO_PKG_VERSION"));

/// Why there is no sender.
#[derive(Debug, thiserror::Error)]
#[error("no TLS client for the targets: are certificate roots installed on this machine?")]
pub struct Error(#[from] reqwest::Error);

/// A request to a target; the same one at every attempt.
#[derive(Debug, Clone)]
pub struct Request<'a> {
    /// Name of the target in the configuration.
    pub target: &'a str,
    /// Both the webhook's id and the idempotency key.
    pub id: &'a str,
    /// Method.
    pub method: Method,
    /// Path below the target's URL.
    pub path: &'a str,
    /// Headers besides those of the client, none of which it may name.
    pub headers: &'a BTreeMap<String, String>,
    /// JSON.
    pub body: &'a str,
    /// What it tells of.
    pub event: Event<'a>,
    /// Longest wait for the answer once connected.
    pub timeout: Duration,
}

/// Sends requests to the configured targets, and nowhere else. Clones share it.
#[derive(Clone)]
pub struct Sender {
    pub(crate) targets: Arc<BTreeMap<String, Receiver>>,
    pub(crate) connect_timeout: Duration,
}

pub(crate) struct Receiver {
    client: Client,
    /// For calls of gRPC, which need HTTP/2.
    pub(crate) rpc: Client,
    pub(crate) base: String,
    pub(crate) signer: Signer,
    format: Format,
}

impl Sender {
    /// A sender for targets without faults; one with faults is left out.
    ///
    /// # Errors
    /// The system has no TLS roots.
    pub fn new(targets: &BTreeMap<String, Target>, connect_timeout: Duration) -> Result<Self, Error> {
        Self::with_resolver(targets, connect_timeout, Arc::new(System))
    }

    /// The same with names resolved by something else than the system; what it gives is checked no less.
    ///
    /// # Errors
    /// The system has no TLS roots.
    pub fn with_resolver(
        targets: &BTreeMap<String, Target>,
        connect_timeout: Duration,
        resolver: Arc<dyn Resolve>,
    ) -> Result<Self, Error> {
        let mut clients: BTreeMap<Reach, (Client, Client)> = BTreeMap::new();
        let mut receivers = BTreeMap::new();
        for (name, target) in targets {
            let (Ok(Place { base, reach }), Some(signer)) = (target.place(), Signer::of(&target.secret))
            else {
                continue;
            };
            let (client, rpc) = match clients.entry(reach) {
                Entry::Occupied(built) => built.get().clone(),
                Entry::Vacant(none) => {
                    let rpc =
                        builder(reach, connect_timeout, resolver.clone()).http2_prior_knowledge().build()?;
                    none.insert((client(reach, connect_timeout, resolver.clone())?, rpc)).clone()
                }
            };
            receivers.insert(name.clone(), Receiver { client, rpc, base, signer, format: target.format });
        }
        Ok(Self { targets: Arc::new(receivers), connect_timeout })
    }

    /// Whether a target is configured.
    pub fn knows(&self, target: &str) -> bool {
        self.targets.contains_key(target)
    }

    /// Sends once.
    pub async fn send(&self, request: Request<'_>) -> Answer<Reply> {
        let Some(receiver) = self.targets.get(request.target) else {
            return Answer::Refused("TARGET_NOT_CONFIGURED".to_owned());
        };
        let (url, body) = (below(&receiver.base, request.path), receiver.format.body(&request));
        let (Some(url), Some((kind, body))) = (url, body) else {
            return Answer::Refused("REQUEST_MALFORMED".to_owned());
        };
        let Some(signed) = receiver.signer.headers(request.id, Timestamp::now(), body.as_bytes()) else {
            return Answer::Refused("REQUEST_MALFORMED".to_owned());
        };
        let sending = receiver.client.request(request.method, url);
        let sending =
            request.headers.iter().fold(sending, |sending, (name, value)| sending.header(name, value));
        let sending = sending
            .header(CONTENT_TYPE, kind)
            .headers(signed)
            .timeout(self.connect_timeout + request.timeout)
            .body(body.into_owned());
        let error = match sending.send().await {
            Ok(response) => return answer::read(response).await,
            Err(error) => error,
        };
        unanswered(request.target, &error)
    }
}

/// What a request proves that got no answer.
pub(crate) fn unanswered<T>(target: &str, error: &reqwest::Error) -> Answer<T> {
    if let Some(ip) = guard::refused(error) {
        let ip = ip.to_string();
        tracing::error!(
            target,
            ip,
            "nothing is sent: the target's name gives an address it may not have; where a private one is the \
             company's own, set allow_private = true for the target"
        );
        return Answer::Refused("ADDRESS_NOT_ALLOWED".to_owned());
    }
    match error {
        error if error.is_builder() => Answer::Refused("REQUEST_MALFORMED".to_owned()),
        error if error.is_connect() => Answer::NotNow("UNREACHABLE".to_owned()),
        error if error.is_timeout() => Answer::Unclear("TIMEOUT".to_owned()),
        _ => Answer::Unclear("CONNECTION_LOST".to_owned()),
    }
}

/// A request is on the wire at most once an attempt: no redirects, no second try inside the client, no proxy that could
/// answer in the target's place, and no kept connection that may be half dead. So a name is resolved once an attempt.
pub(crate) fn client(
    reach: Reach,
    connect_timeout: Duration,
    resolver: Arc<dyn Resolve>,
) -> reqwest::Result<Client> {
    builder(reach, connect_timeout, resolver).http1_only().build()
}

fn builder(reach: Reach, connect_timeout: Duration, resolver: Arc<dyn Resolve>) -> ClientBuilder {
    Client::builder()
        .connect_timeout(connect_timeout)
        .dns_resolver(Guard { reach, resolver })
        .https_only(reach != Reach::Loopback)
        .redirect(redirect::Policy::none())
        .retry(retry::never())
        .no_proxy()
        .pool_max_idle_per_host(0)
        .user_agent(USER_AGENT)
}

/// The URL of a path below a base; `None` for one that leads elsewhere.
pub(crate) fn below(base: &str, path: &str) -> Option<Url> {
    let url = Url::parse(&format!("{base}{path}")).ok()?;
    let rest = url.as_str().strip_prefix(base)?;
    let starts = |part: &str| part.is_empty() || part.starts_with('/');
    (starts(path) && starts(rest)).then_some(url)
}
