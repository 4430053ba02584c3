//! What a turn takes of each stage, of the database and of the exporters, and how well the queueing model of
//! `firstline capacity` says what two cores do with it: every stage as a process with its stores on PostgreSQL, customers
//! and a collector on the same machine. Writes target/capacity.toml.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use kit::config::{Balance, STAGES};
use kit::{Context, Link};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use proto::assistant_service_client::AssistantServiceClient;
use proto::{AskRequest, Message, Outcome};
use stats::queue::{Time, wait};
use tests::{Processes, cpu_us, memory_mib, scrape};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

/// Length of a measurement.
const LENGTH: Duration = Duration::from_secs(15);
/// Customers that write without a pause: more than two cores can serve at once.
const CROWD: usize = 32;
/// Shares of the most turns a second that are tried.
const SHARES: [f64; 3] = [0.4, 0.6, 0.8];
/// A first message, and of eight second ones six questions, a workflow and a wish for a person.
const QUESTIONS: [&str; 3] = [
    "How much is a replacement card?",
    "What does it cost to withdraw cash at a cash machine abroad?",
    "How long does a new card take to arrive?",
];

/// Takes spans, and counts them.
#[derive(Clone, Default)]
struct Sink(Arc<AtomicU64>);

#[tonic::async_trait]
impl TraceService for Sink {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let scopes = request.get_ref().resource_spans.iter().flat_map(|resource| &resource.scope_spans);
        self.0.fetch_add(scopes.map(|scope| scope.spans.len() as u64).sum(), Ordering::Relaxed);
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

/// The assistant, and all that is looked at.
struct World {
    processes: Processes,
    client: AssistantServiceClient<Link>,
    admins: Vec<std::net::SocketAddr>,
    database: String,
    spans: Sink,
    asked: AtomicUsize,
}

/// What the machine had done up to a moment.
struct Moment {
    busy_us: f64,
    stages: Vec<f64>,
    database_us: f64,
    calls: Vec<f64>,
    bytes: f64,
    log: f64,
    spans: u64,
}

/// What was seen between two of them.
struct Seen {
    latencies: Vec<f64>,
    seconds: f64,
    from: Moment,
    to: Moment,
}

impl Seen {
    fn turns(&self) -> f64 {
        self.latencies.len() as f64
    }

    fn rate(&self) -> f64 {
        self.turns() / self.seconds
    }

    fn each(&self, of: impl Fn(&Moment) -> f64) -> f64 {
        (of(&self.to) - of(&self.from)) / self.turns()
    }

    fn mean(&self) -> f64 {
        self.latencies.iter().sum::<f64>() / self.turns()
    }

    fn deviation(&self) -> f64 {
        let mean = self.mean();
        (self.latencies.iter().map(|ms| (ms - mean).powi(2)).sum::<f64>() / self.turns()).sqrt()
    }

    fn p95(&self) -> f64 {
        stats::percentile(&self.latencies, 0.95).unwrap()
    }
}

impl World {
    async fn start() -> Self {
        let (spans, listener) = (Sink::default(), TcpListener::bind("127.0.0.1:0").await.unwrap());
        let collector = format!("http://{}", listener.local_addr().unwrap());
        let (context, serving) = (Context::default(), spans.clone());
        context.tasks.spawn(async move {
            let server = tonic::transport::Server::builder().add_service(TraceServiceServer::new(serving));
            server.serve_with_incoming(TcpListenerStream::new(listener)).await.unwrap();
        });
        let free = |_| std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let (admins, database): (Vec<_>, _) = (STAGES.iter().map(free).collect(), scratch::database());
        let name = |stage: &str| format!("FIRSTLINE__SERVER__ADMIN__{}", stage.to_uppercase());
        let mut variables: Vec<_> =
            STAGES.iter().zip(&admins).map(|(stage, admin)| (name(stage), admin.to_string())).collect();
        variables.push(("FIRSTLINE__SERVER__DATABASE__URL".to_owned(), database.clone()));
        variables.push(("OTEL_EXPORTER_OTLP_ENDPOINT".to_owned(), collector));
        let borrowed: Vec<_> =
            variables.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let processes = Processes::start(&borrowed);
        let link = Link::remote(&processes.url, Balance::Single, &context).unwrap();
        let client = AssistantServiceClient::new(link);
        Self { processes, client, admins, database, spans, asked: AtomicUsize::new(0) }
    }

    fn now(&self) -> Moment {
        let stages = self.processes.pids().iter().map(|pid| cpu_us(&[*pid])).collect();
        let number = |query| scratch::number(&self.database, query);
        Moment {
            busy_us: busy_us(),
            stages,
            database_us: cpu_us(&named("postgres")),
            calls: self.admins.iter().map(|admin| calls(&scrape(*admin))).collect(),
            bytes: number("SELECT pg_database_size(current_database())::float8"),
            log: number("SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::float8"),
            spans: self.spans.0.load(Ordering::Relaxed),
        }
    }

    /// Milliseconds of the turns of one conversation.
    async fn converse(&self, starts: Instant) -> Vec<f64> {
        let number = self.asked.fetch_add(1, Ordering::Relaxed);
        let (first, outcome) = (QUESTIONS[number % QUESTIONS.len()], Outcome::Answered);
        let (conversation, first) = self.turn("", first, outcome, starts).await;
        let (second, outcome) = match number % 8 {
            0 => ("I lost my card 1234", Outcome::ActionPending),
            1 => ("agent", Outcome::Handoff),
            _ => (QUESTIONS[(number + 1) % QUESTIONS.len()], Outcome::Answered),
        };
        let (_, second) = self.turn(&conversation, second, outcome, Instant::now()).await;
        vec![first, second]
    }

    async fn turn(&self, conversation: &str, text: &str, outcome: Outcome, starts: Instant) -> (String, f64) {
        let (conversation_id, text) = (conversation.to_owned(), text.to_owned());
        let message = Message { conversation_id, text, ..Message::default() };
        let answer = self.client.clone().ask(AskRequest { message: Some(message) }).await.unwrap();
        let ms = starts.elapsed().as_secs_f64() * 1e3;
        let turn = answer.into_inner().turn.unwrap();
        assert_eq!(turn.outcome(), outcome, "{turn:?}");
        (turn.conversation_id, ms)
    }

    /// So many customers write without a pause.
    async fn crowd(self: &Arc<Self>, customers: usize) -> Seen {
        let (from, start, mut writing) = (self.now(), Instant::now(), JoinSet::new());
        for _ in 0..customers {
            let world = Arc::clone(self);
            writing.spawn(async move {
                let mut latencies = Vec::new();
                while start.elapsed() < LENGTH {
                    latencies.extend(world.converse(Instant::now()).await);
                }
                latencies
            });
        }
        self.seen(from, start, writing).await
    }

    /// Conversations begin at random, so many turns a second, however long they take.
    async fn stream(self: &Arc<Self>, rate: f64) -> Seen {
        let (from, start, mut writing) = (self.now(), Instant::now(), JoinSet::new());
        let (mut due, mut random) = (Duration::ZERO, fastrand::Rng::with_seed(7));
        while due < LENGTH {
            tokio::time::sleep_until((start + due).into()).await;
            let (world, starts) = (Arc::clone(self), start + due);
            writing.spawn(async move { world.converse(starts).await });
            due += Duration::from_secs_f64(-(1.0 - random.f64()).ln() * 2.0 / rate);
        }
        self.seen(from, start, writing).await
    }

    async fn seen(&self, from: Moment, start: Instant, writing: JoinSet<Vec<f64>>) -> Seen {
        let latencies = writing.join_all().await.concat();
        Seen { latencies, seconds: start.elapsed().as_secs_f64(), from, to: self.now() }
    }
}

/// Microseconds that all cores were busy (`/proc/stat` of proc(5), 100 ticks a second).
fn busy_us() -> f64 {
    let stat = std::fs::read_to_string("/proc/stat").unwrap();
    let fields: Vec<f64> =
        stat.lines().next().unwrap().split_whitespace().skip(1).map(|field| field.parse().unwrap()).collect();
    // User, nice, system; idle and waiting for the disk left out; interrupts.
    [0, 1, 2, 5, 6].iter().map(|index| fields[*index]).sum::<f64>() * 10_000.0
}

/// Processes of a name.
fn named(name: &str) -> Vec<u32> {
    let all = std::fs::read_dir("/proc").unwrap().flatten();
    let all = all.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let is_one = |pid: &u32| {
        std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim() == name)
    };
    all.filter(is_one).collect()
}

fn calls(page: &str) -> f64 {
    let counts = page.lines().filter(|line| line.starts_with("rpc_server_call_duration_seconds_count"));
    counts.map(|line| line.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap()).sum()
}

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(Box::pin(run()));
}

async fn run() {
    let world = Arc::new(World::start().await);
    world.crowd(4).await;
    let alone = world.crowd(1).await;
    let crowd = world.crowd(CROWD).await;
    let memory: Vec<f64> = world.processes.pids().iter().map(|pid| memory_mib(*pid)).collect();
    let mut streams = Vec::new();
    for share in SHARES {
        streams.push(world.stream(crowd.rate() * share).await);
    }
    // The plan is for machines that are busy, but not full.
    let figures = &streams[1];
    write(&alone, figures, &memory);
    check(&alone, &crowd, &streams, figures);
}

fn write(alone: &Seen, figures: &Seen, memory: &[f64]) {
    let cores = std::thread::available_parallelism().unwrap();
    let mut table = BTreeMap::from([
        ("turn_ms", alone.mean()),
        ("turn_deviation_ms", alone.deviation()),
        ("spans", figures.each(|moment| moment.spans as f64)),
        ("database_cpu_us", figures.each(|moment| moment.database_us)),
        ("database_bytes", figures.each(|moment| moment.bytes)),
        ("log_bytes", figures.each(|moment| moment.log)),
    ])
    .into_iter()
    .map(|(name, value)| format!("{name} = {value:.3}\n"))
    .collect::<String>();
    for (index, stage) in STAGES.iter().enumerate() {
        let (cpu, calls) =
            (figures.each(|moment| moment.stages[index]), figures.each(|moment| moment.calls[index]));
        table += &format!(
            "\n[stages.{stage}]\ncpu_us = {cpu:.1}\ncalls = {calls:.3}\nmemory_mib = {:.1}\n",
            memory[index]
        );
    }
    let machine = format!("machine = \"{cores} cores of {}\"\n", model());
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/capacity.toml");
    std::fs::write(path, machine + &table).unwrap();
    println!("target/capacity.toml:\n{table}");
}

/// Name of the processor.
fn model() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = info.lines().find(|line| line.starts_with("model name")).unwrap_or_default();
    line.split_once(": ").map_or("an unknown processor", |(_, name)| name).to_owned()
}

/// The machine as one queue: as many servers as it has cores, work of all processes in as many pieces as there are ends of
/// calls.
fn check(alone: &Seen, crowd: &Seen, streams: &[Seen], figures: &Seen) {
    let cores = std::thread::available_parallelism().unwrap().get() as u32;
    let demand_ms = figures.each(|moment| moment.busy_us) / 1e3;
    let pieces = 2.0 * figures.each(|moment| moment.calls.iter().sum());
    let off = |predicted: f64, measured: f64| (predicted / measured - 1.0) * 100.0;
    let most = f64::from(cores) / demand_ms * 1e3;
    println!("a turn keeps cores busy for {demand_ms:.3} ms, alone it takes {:.3} ms", alone.mean());
    println!(
        "most turns a second of {cores} cores, {CROWD} at once: {:.0}, predicted {most:.0}, off by {:+.1} %",
        crowd.rate(),
        off(most, crowd.rate())
    );
    println!(
        "{:<12}{:>8}{:>10}{:>10}{:>10}{:>10}{:>10}",
        "turns/s", "busy", "mean ms", "predicted", "p95 ms", "predicted", "off"
    );
    for seen in streams {
        let busy = seen.rate() * demand_ms / 1e3 / f64::from(cores);
        let on_path = demand_ms.min(alone.mean());
        let waits = wait(cores, on_path / pieces, busy).unwrap_or_default().times(pieces);
        let turn = Time { mean: alone.mean(), variance: alone.deviation().powi(2) } + waits;
        println!(
            "{:<12.0}{:>6.1} %{:>10.2}{:>10.2}{:>10.2}{:>10.2}{:>8.1} %",
            seen.rate(),
            busy * 100.0,
            seen.mean(),
            turn.mean,
            seen.p95(),
            turn.at(0.95),
            off(turn.at(0.95), seen.p95())
        );
    }
}
