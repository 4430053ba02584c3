//! Table `[server]`: what every process shares.

use std::net::SocketAddr;
use std::path::PathBuf;

use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use crate::config::{Config, Violation, within};

/// One address a stage.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[expect(missing_docs, reason = "one field a stage")]
pub struct Addresses {
    pub orchestrator: SocketAddr,
    pub classifier: SocketAddr,
    pub safety: SocketAddr,
    pub retriever: SocketAddr,
    pub generator: SocketAddr,
    pub workflow: SocketAddr,
    pub telemetry: SocketAddr,
}

impl Default for Addresses {
    fn default() -> Self {
        let local = |port| SocketAddr::from(([127, 0, 0, 1], port));
        Self {
            orchestrator: local(7700),
            classifier: local(7701),
            safety: local(7702),
            retriever: local(7703),
            generator: local(7704),
            workflow: local(7705),
            telemetry: local(7706),
        }
    }
}

impl Addresses {
    /// The address of a stage, mutable; `None` for a name that is no stage.
    pub fn of(&mut self, stage: &str) -> Option<&mut SocketAddr> {
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
    /// Addresses the stages listen on.
    pub listen: Addresses,
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
            listen: Addresses::default(),
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
        for (stage, url) in self.endpoints.iter() {
            let valid = url
                .parse::<http::Uri>()
                .is_ok_and(|uri| uri.scheme_str() == Some("http") && uri.host().is_some());
            if !valid {
                let message = format!("is {url:?}, allowed a URL such as \"http://{stage}:7701\"");
                violations.push(Violation { key: format!("endpoints.{stage}"), message });
            }
        }
        violations
    }
}
