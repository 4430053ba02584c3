//! Table `[server]`: what every process shares.

use std::net::SocketAddr;
use std::path::PathBuf;

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
        }
    }
}

impl Config for Server {
    fn validate(&self) -> Vec<Violation> {
        let mut violations = Vec::new();
        within("max_message_bytes", self.max_message_bytes, 4096..=16 << 20, &mut violations);
        within("drain_ms", self.drain_ms, 0..=600_000, &mut violations);
        within("worker_threads", self.worker_threads, 0..=256, &mut violations);
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
