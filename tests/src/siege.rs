//! An assistant under load that is killed again and again, and what is seen of it from outside.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use audit::{Event, Finding, History, Scope};
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use proto::assistant_service_client::AssistantServiceClient;
use proto::{AskRequest, Feedback, Message, Outcome, SubmitFeedbackRequest, Turn};
use scratch::Postgres;
use standardwebhooks::Webhook;
use tokio::task::JoinSet;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

use crate::disk::fill_and_free;
use crate::process::Processes;
use crate::receiver::{SECRET, serve};
use crate::world::demo;

const CUSTOMERS: u64 = 6;
/// Longest time for a request to be accepted, and for everything to come to rest at the end.
const PATIENCE: Duration = Duration::from_secs(90);

/// Longest time from SIGTERM to the end, of promises.md.
const LONGEST_END: Duration = Duration::from_secs(20);

/// What is done to it, again and again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// One assistant is killed and started again.
    Kill,
    /// One is asked to end, by SIGTERM, and started again.
    Restart,
    /// One stands still for longer than what it has in hand is its own, and then goes on as if nothing was.
    Freeze,
    /// The database server is killed and started again.
    Database,
    /// The disk of the stores, which is this folder, fills up and is freed; nothing is started again.
    Disk(PathBuf),
}

/// What is put under siege.
#[derive(Debug, Clone)]
pub struct Siege {
    /// Whether each stage is a process.
    pub processes: bool,
    /// Whether the stores are on PostgreSQL.
    pub postgres: bool,
    /// Assistants that share the stores; more than one needs PostgreSQL.
    pub replicas: usize,
    /// What happens.
    pub fault: Fault,
    /// How often.
    pub cycles: u32,
}

/// What was seen, by customers and by the receiver.
#[derive(Debug, Clone, Default)]
struct Seen(Arc<Mutex<Vec<Event>>>);

impl Seen {
    fn note(&self, event: Event) {
        self.0.lock().unwrap().push(event);
    }

    fn note_turn(&self, request_id: &str, turn: &Turn) {
        let outcome = turn.outcome().as_str_name().trim_start_matches("OUTCOME_").to_owned();
        let handoff_id = turn.handoff.clone().unwrap_or_default().handoff_id;
        let (request_id, turn_id) = (request_id.to_owned(), turn.turn_id.clone());
        self.note(Event::Turn { request_id, turn_id, outcome, handoff_id });
    }
}

/// Numbers that look random and are the same in every run.
fn mixed(number: u64) -> u64 {
    let mixed = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb) >> 16
}

impl Siege {
    /// Runs the load and the kills, lets everything come to rest, and returns the checker's findings.
    pub async fn run(&self) -> Vec<Finding> {
        let server = self.postgres.then(Postgres::start);
        let database = server.as_ref().map(Postgres::database);
        let seen = Seen::default();
        let (receiver, _server) =
            serve(Router::new().fallback(receive).with_state(Witness::new(&seen))).await;
        let mut variables = vec![
            ("FIRSTLINE__WORKFLOW__TARGETS__BANK__URL", receiver.as_str()),
            ("FIRSTLINE__WORKFLOW__TARGETS__BANK__SECRET", SECRET),
            ("FIRSTLINE__WORKFLOW__RETRY_BASE_MS", "50"),
            ("FIRSTLINE__ORCHESTRATOR__REAP_EVERY_MS", "500"),
        ];
        variables.extend(database.as_deref().map(|url| ("FIRSTLINE__SERVER__DATABASE__URL", url)));
        let disk = match &self.fault {
            Fault::Disk(disk) => disk.to_str(),
            _ => None,
        };
        variables.extend(disk.map(|disk| ("FIRSTLINE__SERVER__DATA_DIR", disk)));
        let start = if self.processes { Processes::start } else { Processes::start_as_one };
        let replicas = (0..self.replicas).map(|_| start(&variables)).collect::<Vec<_>>();
        let ended = Arc::new(AtomicBool::new(false));
        let mut customers = JoinSet::new();
        let urls: Vec<_> = replicas.iter().map(|replica| replica.url.clone()).collect();
        for index in 0..CUSTOMERS {
            let customer = Customer::new(index, &urls, &seen, &ended);
            let gently = self.fault == Fault::Restart;
            customers.spawn(Customer { gently, ..customer }.live());
        }
        let url = database.clone();
        let (siege, witness) = (self.clone(), seen.clone());
        let attacked = tokio::task::spawn_blocking(move || siege.attack(replicas, server, url, &witness));
        let (replicas, _database_server) = attacked.await.unwrap();
        ended.store(true, Ordering::Relaxed);
        while let Some(ended) = customers.join_next().await {
            ended.unwrap();
        }
        let log = tempfile::NamedTempFile::new().unwrap();
        let logs: String = replicas.iter().map(Processes::log).collect();
        std::fs::write(log.path(), &logs).unwrap();
        assert!(disk.is_none() || logs.contains("a store takes writes again"), "no log tells of the disk");
        let data = disk.map_or(replicas[0].data.path(), Path::new);
        let scope = || Scope {
            logs: vec![log.path().to_owned()],
            ..scope(data, database.clone(), &seen.0.lock().unwrap())
        };
        let start = Instant::now();
        loop {
            let findings = audit::run(scope()).await.unwrap();
            let holds = findings.iter().all(|finding| finding.broken.is_empty());
            if holds && rested(&scope()).await || start.elapsed() > PATIENCE {
                if !self.postgres {
                    intact(&scope()).await;
                }
                return findings;
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    /// One fault after the other, each after a time that is never the same.
    fn attack(
        &self,
        mut replicas: Vec<Processes>,
        mut server: Option<Postgres>,
        url: Option<String>,
        seen: &Seen,
    ) -> (Vec<Processes>, Option<Postgres>) {
        for cycle in 0..self.cycles {
            std::thread::sleep(Duration::from_millis(200 + mixed(cycle.into()) % 1000));
            let victim = cycle as usize % replicas.len();
            match &self.fault {
                Fault::Kill => replicas[victim].crash(),
                Fault::Restart => {
                    let (code, took) = replicas[victim].restart();
                    assert!(code == Some(0) && took < LONGEST_END, "it ended with {code:?} after {took:?}");
                }
                Fault::Freeze => {
                    let url = url.clone().expect("only others on a shared store can take over");
                    let late = std::thread::spawn(move || {
                        // Those of executions are longer than a test should wait.
                        scratch::run(&url, "UPDATE firstline_workflow.execution SET lease = 0");
                    });
                    replicas[victim].freeze_for(Duration::from_secs(4));
                    late.join().unwrap();
                }
                Fault::Database => {
                    let server = server.as_mut().expect("there is a database server");
                    server.kill();
                    server.restart();
                }
                Fault::Disk(disk) => {
                    let probing = fill_and_free(disk, &replicas[victim].url, cycle);
                    let turns = tokio::runtime::Handle::current().block_on(probing);
                    turns.iter().for_each(|(request_id, turn)| seen.note_turn(request_id, turn));
                }
            }
        }
        std::thread::sleep(Duration::from_secs(1));
        (replicas, server)
    }
}

/// What the checker looks at: the stores of the demo assistant in a folder, or in a database.
pub fn scope(data: &Path, database: Option<String>, events: &[Event]) -> Scope {
    let mut context = kit::Context::default();
    context.server.data_dir = data.to_owned();
    context.server.database.url = database.map(Into::into);
    let workflows = bundle::Reader::open(&demo()).unwrap().workflows().unwrap();
    Scope {
        orchestrator: context.store("orchestrator").unwrap(),
        workflow: context.store("workflow").unwrap(),
        telemetry: context.store("telemetry").unwrap(),
        idempotent: audit::idempotent(&workflows),
        risky: audit::risky(&workflows),
        history: History(events.to_vec()),
        logs: Vec::new(),
        since: 0,
    }
}

/// Whether no turn is open, no execution under way and nothing waits for telemetry.
async fn rested(scope: &Scope) -> bool {
    let count = async |source: &sql::Source, query: &'static str| {
        let store = sql::Store::inspect(source.clone()).await.unwrap();
        store.read(move |connection| connection.first(query, &[], |row| row.get::<i64, _>(0))).await.unwrap()
    };
    let journal = "SELECT (SELECT count(*) FROM turn WHERE outcome IS NULL) + (SELECT count(*) FROM spool)";
    let executions = "SELECT count(*) FROM execution WHERE state IN ('APPROVED', 'DISPATCHING')
        OR (notice = 1 AND state IN ('DONE', 'FAILED', 'UNKNOWN'))";
    count(&scope.orchestrator, journal).await == Some(0)
        && count(&scope.workflow, executions).await == Some(0)
}

/// The files of SQLite pass its own full check.
async fn intact(scope: &Scope) {
    for source in [&scope.orchestrator, &scope.workflow, &scope.telemetry] {
        let store = sql::Store::inspect(source.clone()).await.unwrap();
        let check = |connection: &mut sql::Connection<'_>| {
            connection.query("PRAGMA integrity_check", &[], |row| row.get::<String, _>(0))
        };
        assert_eq!(store.read(check).await.unwrap(), ["ok"], "{source:?}");
    }
}

/// A receiver that counts every request, keeps keys where it promises to, and is a bad one otherwise.
#[derive(Debug, Clone)]
struct Witness {
    seen: Seen,
    keys: Arc<Mutex<BTreeSet<String>>>,
    requests: Arc<AtomicU64>,
}

impl Witness {
    fn new(seen: &Seen) -> Self {
        Self { seen: seen.clone(), keys: Arc::default(), requests: Arc::default() }
    }
}

/// Paths of the demo whose workflows are not idempotent: here the same key twice has its effect twice.
const CARELESS: [&str; 3] = ["/cards/orders", "/disputes", "/accounts/close"];

async fn receive(State(witness): State<Witness>, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    if Webhook::new(SECRET).unwrap().verify(&body, &headers).is_err() {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let key = headers["idempotency-key"].to_str().unwrap().to_owned();
    let luck = mixed(witness.requests.fetch_add(1, Ordering::Relaxed)) % 10;
    if luck == 0 {
        witness.seen.note(Event::Request { key, effect: false });
        return StatusCode::TOO_MANY_REQUESTS.into_response();
    }
    let new = witness.keys.lock().unwrap().insert(key.clone());
    let effect = new || CARELESS.contains(&uri.path());
    witness.seen.note(Event::Request { key, effect });
    match luck {
        // The effect is there, and whoever asked for it does not hear of it, or late.
        1 => return StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        2..5 => tokio::time::sleep(Duration::from_millis(300)).await,
        _ => {}
    }
    axum::Json(serde_json::json!({ "reference": "REF-1" })).into_response()
}

/// Somebody who asks, wants things done, and asks again with the same id while nobody answers.
struct Customer {
    index: u64,
    clients: Vec<AssistantServiceClient<Channel>>,
    seen: Seen,
    ended: Arc<AtomicBool>,
    /// Whether nothing that has reached an assistant may fail.
    gently: bool,
    requests: u64,
}

impl Customer {
    fn new(index: u64, urls: &[String], seen: &Seen, ended: &Arc<AtomicBool>) -> Self {
        let connect = |url: &String| Endpoint::from_shared(url.clone()).unwrap().connect_lazy();
        let clients = urls.iter().map(connect).map(AssistantServiceClient::new).collect();
        Self { index, clients, seen: seen.clone(), ended: ended.clone(), gently: false, requests: 0 }
    }

    async fn live(mut self) {
        const ASKS: [&str; 5] = [
            "What is the contactless limit?",
            "agent please",
            "my card was stolen, block it, it ends in 4821",
            "I would like to order a new debit card, by standard post",
            "What are your opening hours?",
        ];
        for round in self.index.. {
            if self.ended.load(Ordering::Relaxed) {
                return;
            }
            let Some(turn) = self.say("", ASKS[round as usize % ASKS.len()]).await else { continue };
            let waits = turn.workflow.as_ref().is_some_and(|status| status.awaiting_confirmation);
            if waits && turn.outcome() == Outcome::ActionPending {
                self.say(&turn.conversation_id, "yes").await;
            }
            if round % 3 == 0 {
                self.rate(&turn).await;
            }
        }
    }

    /// One message; `None` when it was refused.
    async fn say(&mut self, conversation_id: &str, text: &str) -> Option<Turn> {
        self.requests += 1;
        let request_id = format!("r_{}_{}", self.index, self.requests);
        let (conversation_id, text) = (conversation_id.to_owned(), text.to_owned());
        let message = Message { request_id: request_id.clone(), conversation_id, text, ..Message::default() };
        let asked = self.insist(|mut client| {
            let request = AskRequest { message: Some(message.clone()) };
            async move { client.ask(request).await.map(|response| response.into_inner().turn.unwrap()) }
        });
        match asked.await {
            Ok(turn) => {
                self.seen.note_turn(&request_id, &turn);
                Some(turn)
            }
            Err(status) => {
                assert_ne!(
                    status.code(),
                    Code::Unavailable,
                    "{request_id} was not accepted in {PATIENCE:?}: {status}"
                );
                self.seen.note(Event::Refused { request_id });
                None
            }
        }
    }

    async fn rate(&mut self, turn: &Turn) {
        let feedback_id = format!("f_{}", turn.turn_id);
        let feedback = Feedback {
            feedback_id: feedback_id.clone(),
            conversation_id: turn.conversation_id.clone(),
            turn_id: turn.turn_id.clone(),
            rating: 4,
            ..Feedback::default()
        };
        let sent = self.insist(|mut client| {
            let request = SubmitFeedbackRequest { feedback: Some(feedback.clone()) };
            async move { client.submit_feedback(request).await }
        });
        sent.await.unwrap();
        self.seen.note(Event::Feedback { feedback_id });
    }

    /// Asks one assistant after the other until one answers.
    async fn insist<T, F: Future<Output = Result<T, Status>>>(
        &mut self,
        ask: impl Fn(AssistantServiceClient<Channel>) -> F,
    ) -> Result<T, Status> {
        let start = Instant::now();
        loop {
            let client = self.clients[self.requests as usize % self.clients.len()].clone();
            match ask(client).await {
                // Nobody knows what has become of it: only the same id asks for the same thing.
                Err(status) if is_open(&status) && start.elapsed() < PATIENCE => {
                    let sent = !never_sent(&status);
                    assert!(!(sent && self.gently), "a request in flight failed: {status:?}");
                    self.clients.rotate_left(1);
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                answer => return answer,
            }
        }
    }
}

fn is_open(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::Unavailable | Code::Unknown | Code::Internal | Code::Cancelled | Code::ResourceExhausted
    )
}

/// Whether a request found nobody who listens, or a connection that was closing: no assistant has seen it.
fn never_sent(status: &Status) -> bool {
    let mut source = std::error::Error::source(status);
    while let Some(cause) = source {
        let what = cause.to_string();
        if what.contains("tcp connect error") || what.contains("operation was canceled") {
            return true;
        }
        source = cause.source();
    }
    false
}
