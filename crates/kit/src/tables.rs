//! Table `[server]`: what every process shares.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use crate::access::Role;
use crate::callers::{Jwt, Tls, Token};
use crate::config::{Config, Violation, within};

/// One address a stage.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, bound(deserialize = "A: Deserialize<'de>, Addresses<A>: Default"))]
#[expect(missing_docs, reason = "one field a stage")]
pub struct Addresses<A = SocketAddr> {
    pub orchestrator: A,
    pub classifier: A,
    pub safety: A,
    pub retriever: A,
    pub generator: A,
    pub workflow: A,
    pub telemetry: A,
}
impl<A> Addresses<A> {
    fn each(mut address: impl FnMut(u16) -> A) -> Self {
        Self {
            orchestrator: address(0),
            classifier: address(1),
            safety: address(2),
            retriever: address(3),
            generator: address(4),
            workflow: address(5),
            telemetry: address(6),
        }
    }

    /// The address of a stage, mutable; `None` for a name that is no stage.
    pub fn of(&mut self, stage: &str) -> Option<&mut A> {
        Some(match stage {
            "orchestrator" => &mut self.orchestrator,
            "classifier" => &mut self.classifier,
            "safety" => &mut self.safety,
            "retriever" => &mut self.retriever,
            "generator" => &mut self.generator,
            "workflow" => &mut self.workflow,
            "telemetry" => &mut self.telemetry,
            _ => return None,
        })
    }
}

impl Default for Addresses {
    fn default() -> Self {
        Self::each(|stage| SocketAddr::from(([127, 0, 0, 1], 7700 + stage)))
    }
}

/// An address, or none: then nothing listens there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Optional(pub Option<SocketAddr>);

impl TryFrom<String> for Optional {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.as_str() {
            "" => Ok(Self(None)),
            given => given
                .parse()
                .map(|address| Self(Some(address)))
                .map_err(|_| format!("{given:?} is no address, allowed IP:PORT or \"\" for none")),
        }
    }
}

impl From<Optional> for String {
    fn from(Optional(address): Optional) -> Self {
        address.map(|address| address.to_string()).unwrap_or_default()
    }
}

impl Default for Addresses<Optional> {
    fn default() -> Self {
        Self::each(|stage| Optional(Some(SocketAddr::from(([127, 0, 0, 1], 9464 + stage)))))
    }
}

/// One URL a stage that others call.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[expect(missing_docs, reason = "one field a stage")]
pub struct Endpoints {
    pub classifier: String,
    pub safety: String,
    pub retriever: String,
    pub generator: String,
    pub workflow: String,
    pub telemetry: String,
}

impl Default for Endpoints {
    fn default() -> Self {
        let local = |port: u16| format!("http://127.0.0.1:{port}");
        Self {
            classifier: local(7701),
            safety: local(7702),
            retriever: local(7703),
            generator: local(7704),
            workflow: local(7705),
            telemetry: local(7706),
        }
    }
}

impl Endpoints {
    /// Stage names with their URLs.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &str)> {
        [
            ("classifier", self.classifier.as_str()),
            ("safety", &self.safety),
            ("retriever", &self.retriever),
            ("generator", &self.generator),
            ("workflow", &self.workflow),
            ("telemetry", &self.telemetry),
        ]
        .into_iter()
    }
}

/// How a remote link spreads its calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Balance {
    /// Resolve the host every few seconds and balance over all addresses.
    Dns,
    /// One connection; for use under a service mesh that balances.
    Single,
}

/// How much machinery understands text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tier {
    /// Words alone.
    Linear,
    /// Words and the vectors of a sentence encoder.
    Dense,
}

/// The sentence encoder: table `[server.encoder]`, shared by every stage that compares meanings.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Encoder {
    /// Whether there is one.
    pub tier: Tier,
    /// Folder that `make models` fills; empty means `firstline/models` in the user's cache.
    pub models: PathBuf,
    /// Base URL of a server that speaks the embeddings protocol of OpenAI, up to and with `/v1`; empty means
    /// the local model.
    pub base_url: String,
    /// Name of the model at that server; needed with `base_url`.
    pub model: String,
    /// Key of that server; left out means `OPENAI_API_KEY`, else none is sent.
    #[serde(skip_serializing)]
    pub api_key: Option<SecretString>,
    /// Longest wait for that server, in milliseconds, 10..=60000.
    pub timeout_ms: u64,
    /// Texts encoded at the same time by the local model, 0..=256; 0 means one a core.
    pub threads: usize,
}

impl Default for Encoder {
    fn default() -> Self {
        Self {
            tier: Tier::Linear,
            models: PathBuf::new(),
            base_url: String::new(),
            model: String::new(),
            api_key: None,
            timeout_ms: 2000,
            threads: 0,
        }
    }
}

impl Encoder {
    fn validate(&self, violations: &mut Vec<Violation>) {
        within("encoder.timeout_ms", self.timeout_ms, 10..=60_000, violations);
        within("encoder.threads", self.threads, 0..=256, violations);
        let url = self.base_url.parse::<http::Uri>();
        let valid =
            url.is_ok_and(|uri| matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some());
        if !self.base_url.is_empty() && !valid {
            let message =
                format!("is {:?}, allowed a URL such as \"http://127.0.0.1:8080/v1\"", self.base_url);
            violations.push(Violation { key: "encoder.base_url".to_owned(), message });
        }
        if !self.base_url.is_empty() && self.model.trim().is_empty() {
            let message = "is empty, needed with server.encoder.base_url".to_owned();
            violations.push(Violation { key: "encoder.model".to_owned(), message });
        }
    }
}

/// Where orchestrator, workflow and telemetry keep what they own: table `[server.database]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Database {
    /// URL of a PostgreSQL server, with its password; empty or left out means files in `server.data_dir`.
    #[serde(skip_serializing)]
    pub url: Option<SecretString>,
    /// Certificates of the authorities that vouch for that server, a PEM file; empty means those of the system.
    pub ca: PathBuf,
    /// Connections of one stage at most, 1..=1000.
    pub connections: u32,
}

impl Default for Database {
    fn default() -> Self {
        Self { url: None, ca: PathBuf::new(), connections: 10 }
    }
}

/// What every process shares: table `[server]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Server {
    /// Folder of the assistant bundle.
    pub bundle: PathBuf,
    /// Folder for the stores of the stages.
    pub data_dir: PathBuf,
    /// Largest message a stage accepts, in bytes, 4096..=16777216.
    pub max_message_bytes: usize,
    /// Longest wait for requests in flight after SIGTERM, in milliseconds, 0..=600000.
    pub drain_ms: u64,
    /// Threads of the runtime, 0..=256; 0 means one a core.
    pub worker_threads: usize,
    /// How remote links spread their calls.
    pub balance: Balance,
    /// Sent as `authorization: Bearer ...` with every call: for commands, where the installation asks for a token.
    #[serde(skip_serializing)]
    pub token: Option<SecretString>,
    /// Addresses the stages listen on.
    pub listen: Addresses,
    /// Addresses of health checks and metrics, in plain text, for the platform alone.
    pub admin: Addresses<Optional>,
    /// Certificates.
    pub tls: Tls,
    /// Names of certificates (DNS or URI) by what their bearers may do.
    pub callers: BTreeMap<Role, Vec<String>>,
    /// Callers with a secret, by name.
    pub tokens: BTreeMap<String, Token>,
    /// Callers with a signed token.
    pub jwt: Jwt,
    /// URLs at which the orchestrator finds the stages.
    pub endpoints: Endpoints,
    /// The sentence encoder.
    pub encoder: Encoder,
    /// The database.
    pub database: Database,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            bundle: PathBuf::from("deploy/demo"),
            data_dir: PathBuf::from("data"),
            max_message_bytes: 256 * 1024,
            drain_ms: 10_000,
            worker_threads: 0,
            balance: Balance::Dns,
            token: None,
            listen: Addresses::default(),
            admin: Addresses::default(),
            tls: Tls::default(),
            callers: BTreeMap::new(),
            tokens: BTreeMap::new(),
            jwt: Jwt::default(),
            endpoints: Endpoints::default(),
            encoder: Encoder::default(),
            database: Database::default(),
        }
    }
}

impl Config for Server {
    fn validate(&self) -> Vec<Violation> {
        let mut violations = Vec::new();
        within("max_message_bytes", self.max_message_bytes, 4096..=16 << 20, &mut violations);
        within("drain_ms", self.drain_ms, 0..=600_000, &mut violations);
        within("worker_threads", self.worker_threads, 0..=256, &mut violations);
        within("database.connections", self.database.connections, 1..=1000, &mut violations);
        self.encoder.validate(&mut violations);
        self.tls.validate(&mut violations);
        self.validate_callers(&mut violations);
        for (stage, url) in self.endpoints.iter() {
            let valid = url
                .parse::<http::Uri>()
                .is_ok_and(|uri| matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some());
            if !valid {
                let message =
                    format!("is {url:?}, allowed a URL such as \"http://{stage}:7701\" or \"https://...\"");
                violations.push(Violation { key: format!("endpoints.{stage}"), message });
            }
        }
        violations
    }
}
