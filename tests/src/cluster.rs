//! The assistant as a platform team runs it: two processes of each stage behind the stage's name, one PostgreSQL, TLS
//! with certificates between all of them, and rolling restarts as Kubernetes does them.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use kit::config::{Balance, STAGES, Tls};
use kit::{Context, Link};
use proto::assistant_service_client::AssistantServiceClient;
use proto::telemetry_service_client::TelemetryServiceClient;
use proto::{AskRequest, GetMetricsRequest, Message, Outcome, Turn};
use tempfile::TempDir;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::Code;

use crate::names::Names;
use crate::pki::Authority;
use crate::receiver::{Receiver, SECRET};
use crate::stage::Stage;
use crate::world::scratch;

const REPLICAS: u8 = 2;
/// Longest wait for a state.
const PATIENCE: Duration = Duration::from_secs(20);
/// From when a process is out of its name until it is told to stop: longer than callers keep what a name was (3 s). On
/// Kubernetes preStop waits as long and longer.
const LEAVING: Duration = Duration::from_secs(4);
/// Between two turns of a customer.
const THINKING: Duration = Duration::from_millis(20);

/// The processes, stopped with their handle.
#[derive(Debug)]
pub struct Cluster {
    names: Names,
    known: Mutex<BTreeSet<(String, IpAddr)>>,
    stages: Mutex<Vec<Replicated>>,
    client: AssistantServiceClient<Link>,
    telemetry: TelemetryServiceClient<Link>,
    messages: AtomicUsize,
    database: SocketAddr,
    bank: Receiver,
    _context: Context,
    _files: TempDir,
}

#[derive(Debug)]
struct Replicated {
    name: &'static str,
    /// Of its addresses, 127.1.network.1 and so on.
    network: u8,
    port: u16,
    started: u8,
    variables: Vec<(String, String)>,
    replicas: Vec<Stage>,
}

impl Replicated {
    fn host(&self) -> String {
        format!("{}.firstline.svc", self.name)
    }

    fn url(&self) -> String {
        format!("https://{}:{}", self.host(), self.port)
    }

    /// A new process at a new address.
    fn add(&mut self) -> IpAddr {
        self.started += 1;
        self.start(self.started, Arc::new(scratch()))
    }

    fn start(&mut self, number: u8, data: Arc<TempDir>) -> IpAddr {
        let ip = IpAddr::from([127, 1, self.network, number]);
        let variables: Vec<_> =
            self.variables.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        self.replicas.push(Stage::at(self.name, (ip, self.port).into(), data, &variables));
        ip
    }
}

/// What customers saw.
#[derive(Debug, Default)]
pub struct Seen {
    /// How long each turn took, calls that were made again included.
    pub latencies: Vec<Duration>,
    /// Calls that were made again because nobody was reached.
    pub again: usize,
}

impl Seen {
    /// Milliseconds that this share of the turns, 0..1, did not exceed.
    pub fn ms(&self, quantile: f64) -> f64 {
        let latencies: Vec<f64> = self.latencies.iter().map(|latency| latency.as_secs_f64() * 1e3).collect();
        stats::percentile(&latencies, quantile).unwrap()
    }
}

impl Cluster {
    /// Starts it, where names are those of the test, with its stores in an empty database.
    pub async fn start(names: Names, database: &str) -> Self {
        kit::run::install_tls();
        let bank = Receiver::start().await;
        let (authority, files) = (Authority::default(), scratch());
        let issue = |name: &str, host: &str| {
            let dir = files.path().join(name);
            std::fs::create_dir(&dir).unwrap();
            authority.issue(&[host], &dir)
        };
        let stage = |(name, network): (&'static str, u8)| {
            let variables = Vec::new();
            let port = scratch::free().port();
            Replicated { name, network, port, started: 0, variables, replicas: Vec::new() }
        };
        let mut stages: Vec<_> = STAGES.into_iter().zip(0..).map(stage).collect();
        let endpoints: Vec<_> = stages
            .iter()
            .filter(|stage| stage.name != orchestrator::NAME)
            .map(|stage| (format!("ENDPOINTS__{}", stage.name.to_uppercase()), stage.url()))
            .collect();
        let shared = [
            ("DATABASE__URL".to_owned(), database.to_owned()),
            ("CALLERS__OPERATOR".to_owned(), "[\"ops.example.com\"]".to_owned()),
        ];
        for stage in &mut stages {
            let Tls { cert, key, ca } = issue(stage.name, &stage.host());
            let tls = [("CERT", cert), ("KEY", key), ("CA", ca)];
            let tls = tls.map(|(name, path)| (format!("TLS__{name}"), path.display().to_string()));
            let server = shared.iter().chain(&endpoints).chain(&tls);
            stage.variables =
                server.map(|(name, value)| (format!("FIRSTLINE__SERVER__{name}"), value.clone())).collect();
        }
        let target = [("URL", bank.url.as_str()), ("SECRET", SECRET)];
        let target = target
            .map(|(name, value)| (format!("FIRSTLINE__WORKFLOW__TARGETS__BANK__{name}"), value.to_owned()));
        stages.iter_mut().find(|stage| stage.name == workflow::NAME).unwrap().variables.extend(target);
        let mut context = Context::default();
        context.server.tls = issue("ops", "ops.example.com");
        let link = |name: &str| {
            let stage = stages.iter().find(|stage| stage.name == name).unwrap();
            Link::remote(&stage.url(), Balance::Dns, &context).unwrap()
        };
        let client = AssistantServiceClient::new(link(orchestrator::NAME));
        let telemetry = TelemetryServiceClient::new(link(telemetry::NAME));
        let cluster = Self {
            names,
            known: Mutex::default(),
            stages: Mutex::default(),
            client,
            telemetry,
            messages: AtomicUsize::new(0),
            database: database.split(['@', '/']).find_map(|part| part.parse().ok()).unwrap(),
            bank,
            _context: context,
            _files: files,
        };
        for stage in &mut stages {
            for _ in 0..REPLICAS {
                let address = stage.add();
                cluster.enter(stage, address);
            }
        }
        *cluster.stages.lock().unwrap() = stages;
        cluster
    }

    fn enter(&self, stage: &Replicated, address: IpAddr) {
        self.rename(|known| known.insert((stage.host(), address)));
    }

    fn leave(&self, stage: &Replicated, address: IpAddr) {
        self.rename(|known| known.remove(&(stage.host(), address)));
    }

    fn rename(&self, change: impl FnOnce(&mut BTreeSet<(String, IpAddr)>) -> bool) {
        let mut known = self.known.lock().unwrap();
        assert!(change(&mut known));
        self.names.are(known.iter().map(|(name, address)| (name.as_str(), *address)));
    }

    /// Every process is replaced by a new one; all stages at the same time, as an upgrade of everything does it, or one
    /// after the other.
    pub fn roll(&self, at_once: bool) {
        let mut stages = self.stages.lock().unwrap();
        let (first, rest) = stages.split_at_mut(if at_once { 0 } else { STAGES.len() });
        first.iter_mut().for_each(|stage| self.roll_stage(stage));
        std::thread::scope(|scope| {
            rest.iter_mut().for_each(|stage| {
                scope.spawn(|| self.roll_stage(stage));
            });
        });
    }

    /// The same, all at the same time, with another bundle.
    pub fn roll_to(&self, bundle: &Path) {
        let bundle = ("FIRSTLINE__SERVER__BUNDLE".to_owned(), bundle.display().to_string());
        for stage in self.stages.lock().unwrap().iter_mut() {
            stage.variables.retain(|(name, _)| *name != bundle.0);
            stage.variables.push(bundle.clone());
        }
        self.roll(true);
    }

    /// As a Deployment rolls, a new one before an old one goes; the orchestrator as a StatefulSet does, the same one in
    /// its place, with its data.
    fn roll_stage(&self, stage: &mut Replicated) {
        for _ in 0..REPLICAS {
            let stays = stage.name == orchestrator::NAME;
            if !stays {
                let address = stage.add();
                self.enter(stage, address);
            }
            let mut old = stage.replicas.remove(0);
            self.leave(stage, old.address.ip());
            std::thread::sleep(LEAVING);
            old.terminate();
            assert_eq!(old.ended(), Some(0), "{}", stage.name);
            if stays {
                let IpAddr::V4(address) = old.address.ip() else { unreachable!() };
                let address = stage.start(address.octets()[3], old.data());
                self.enter(stage, address);
            }
        }
    }

    /// What customers see that write again and again while something is done.
    pub async fn while_writing(
        self: &Arc<Self>,
        customers: usize,
        work: impl FnOnce(&Self) + Send + 'static,
    ) -> Seen {
        let (until, mut writing) = (CancellationToken::new(), JoinSet::new());
        for _ in 0..customers {
            let (cluster, until) = (Arc::clone(self), until.clone());
            writing.spawn(async move { cluster.write(until).await });
        }
        let cluster = Arc::clone(self);
        tokio::task::spawn_blocking(move || work(&cluster)).await.unwrap();
        until.cancel();
        let mut all = Seen::default();
        for seen in writing.join_all().await {
            all.latencies.extend(seen.latencies);
            all.again += seen.again;
        }
        all
    }

    async fn write(&self, until: CancellationToken) -> Seen {
        let mut seen = Seen::default();
        while !until.is_cancelled() {
            let first = self.turn("", "How much is a replacement card?", &mut seen).await;
            assert_eq!(first.outcome(), Outcome::Answered, "{first:?}");
            let second = self.turn(&first.conversation_id, "I lost my card 1234", &mut seen).await;
            assert_eq!(second.outcome(), Outcome::ActionPending, "{second:?}");
            let third = self.turn(&first.conversation_id, "yes", &mut seen).await;
            assert_eq!(third.outcome(), Outcome::ActionDone, "{third:?}");
            let fourth = self.turn(&first.conversation_id, "agent", &mut seen).await;
            assert_eq!(fourth.outcome(), Outcome::Handoff, "{fourth:?}");
        }
        seen
    }

    /// One turn of a conversation of its own.
    pub async fn ask(&self, text: &str) -> Turn {
        self.turn("", text, &mut Seen::default()).await
    }

    /// One turn, its message sent again with the same key while nobody is reached.
    async fn turn(&self, conversation: &str, text: &str, seen: &mut Seen) -> Turn {
        tokio::time::sleep(THINKING).await;
        let (conversation_id, text) = (conversation.to_owned(), text.to_owned());
        let request_id = format!("m{}", self.messages.fetch_add(1, Ordering::Relaxed));
        let message = Message { request_id, conversation_id, text, ..Message::default() };
        let start = Instant::now();
        loop {
            match self.client.clone().ask(AskRequest { message: Some(message.clone()) }).await {
                Ok(answer) => {
                    seen.latencies.push(start.elapsed());
                    return answer.into_inner().turn.unwrap();
                }
                Err(status) => {
                    assert!(status.code() == Code::Unavailable && start.elapsed() < PATIENCE, "{status}");
                }
            }
            seen.again += 1;
        }
    }

    /// Who is connected to whom, as words: a stage, and a stage, the database or something else.
    pub fn edges(&self) -> BTreeSet<String> {
        let stages = self.stages.lock().unwrap();
        let callee = |address: SocketAddr| {
            if address == self.database {
                return "database";
            }
            stages.iter().find(|stage| stage.port == address.port()).map_or("elsewhere", |stage| stage.name)
        };
        let replicas =
            stages.iter().flat_map(|stage| stage.replicas.iter().map(|replica| (stage.name, replica)));
        let edges = replicas.flat_map(|(caller, replica)| {
            replica.connected().into_iter().map(move |address| (caller, address))
        });
        edges.map(|(caller, address)| format!("{caller} {}", callee(address))).collect()
    }

    /// What was done at the bank.
    pub fn done(&self) -> usize {
        self.bank.received().len()
    }

    /// Waits until telemetry has this many turns, which are all there were.
    pub async fn recorded(&self, turns: u64) {
        let start = Instant::now();
        loop {
            let metrics = self.telemetry.clone().get_metrics(GetMetricsRequest::default()).await.unwrap();
            let recorded = metrics.into_inner().metrics.unwrap().turns;
            if recorded == turns {
                return;
            }
            assert!(recorded < turns && start.elapsed() < PATIENCE, "{recorded} of {turns} turns recorded");
        }
    }
}
