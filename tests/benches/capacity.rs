//! What a turn takes of each stage, of the database and of the exporters, and how well the queueing model of
//! `firstline capacity` says what two cores do with it: every stage as a process with its stores on PostgreSQL, customers
//! and a collector on the same machine. Writes target/capacity.toml.

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
use tests::{Processes, cpu_us, memory_mib};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

/// Length of a measurement.
const LENGTH: Duration = Duration::from_secs(20);
/// Customers that write without a pause, for each core, each time more than it can serve at once: what the first ones show
/// of a busy machine has to hold for the others.
const CROWDS: [usize; 2] = [8, 16];
/// Shares of the most turns a second that are tried. Of the second one it is taken what a turn takes and how often it
/// waits.
const SHARES: [f64; 3] = [0.35, 0.5, 0.65];
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
    database: String,
    spans: Sink,
    asked: AtomicUsize,
}

/// What the machine had done up to a moment.
struct Moment {
    busy_us: f64,
    stages: Vec<f64>,
    database_us: f64,
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

    /// Milliseconds of a core that a turn took in all.
    fn demand_ms(&self) -> f64 {
        self.each(|moment| moment.busy_us) / 1e3
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
        let database = scratch::database();
        let mut variables = Vec::new();
        variables.push(("FIRSTLINE__SERVER__DATABASE__URL".to_owned(), database.clone()));
        variables.push(("OTEL_EXPORTER_OTLP_ENDPOINT".to_owned(), collector));
        // Nothing is sent there: nobody says yes.
        let target = [("URL", "http://127.0.0.1:9"), ("SECRET", tests::SECRET)];
        let target = target
            .map(|(key, value)| (format!("FIRSTLINE__WORKFLOW__TARGETS__BANK__{key}"), value.to_owned()));
        variables.extend(target);
        let borrowed: Vec<_> =
            variables.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let processes = Processes::start(&borrowed);
        let link = Link::remote(&processes.url, Balance::Single, &context).unwrap();
        let client = AssistantServiceClient::new(link);
        Self { processes, client, database, spans, asked: AtomicUsize::new(0) }
    }

    fn now(&self) -> Moment {
        let stages = self.processes.pids().iter().map(|pid| cpu_us(&[*pid])).collect();
        let number = |query| scratch::number(&self.database, query);
        Moment {
            busy_us: busy_us(),
            stages,
            database_us: cpu_us(&named("postgres")),
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

fn cores() -> usize {
    std::thread::available_parallelism().unwrap().get()
}

fn crowds() -> [usize; 2] {
    CROWDS.map(|customers| customers * cores())
}

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(Box::pin(run()));
}

async fn run() {
    let world = Arc::new(World::start().await);
    world.crowd(4).await;
    let alone = world.crowd(1).await;
    let [few, many] = crowds();
    let most = world.crowd(many).await.rate();
    let memory: Vec<f64> = world.processes.pids().iter().map(|pid| memory_mib(*pid)).collect();
    let mut streams = Vec::new();
    for share in SHARES {
        streams.push(world.stream(most * share).await);
    }
    // Again, with stores as full as they were for what it is predicted from.
    let full = world.crowd(few).await;
    let crowd = world.crowd(many).await;
    let machine = Machine::of(&alone, &streams[1], &full);
    write(&machine, &alone, &streams[1], &memory);
    machine.check(&crowd, &streams);
}

/// All cores as one queue for the work of all processes, the customers' and the database's among them.
struct Machine {
    cores: u32,
    /// Milliseconds of a core that a turn takes in all when none is ever idle.
    demand_ms: f64,
    /// That as a share of what it takes at half load, where wakings and commits are shared less.
    saturated: f64,
    alone: Time,
    /// How often a turn waits as long as for all of its work at once: more than once, as its work comes in bursts.
    waits: f64,
}

impl Machine {
    fn of(alone: &Seen, half: &Seen, full: &Seen) -> Self {
        let (cores, demand_ms) = (cores() as u32, full.demand_ms());
        let saturated = (demand_ms / half.demand_ms()).min(1.0);
        let alone = Time { mean: alone.mean(), variance: alone.deviation().powi(2) };
        let machine = Self { cores, demand_ms, saturated, alone, waits: 1.0 };
        let once = machine.wait(half).mean;
        Self { waits: (half.mean() - machine.alone.mean) / once, ..machine }
    }

    /// Share of what the machine can do.
    fn load(&self, seen: &Seen) -> f64 {
        seen.rate() * self.demand_ms / 1e3 / f64::from(self.cores)
    }

    /// What a turn does after it, or beside it, does not let it wait.
    fn wait(&self, seen: &Seen) -> Time {
        let on_path = self.demand_ms.min(self.alone.mean);
        wait(self.cores, on_path, self.load(seen)).unwrap_or_default().times(self.waits)
    }

    fn check(&self, crowd: &Seen, streams: &[Seen]) {
        let off = |predicted: f64, measured: f64| (predicted / measured - 1.0) * 100.0;
        let (most, [few, many]) = (f64::from(self.cores) / self.demand_ms * 1e3, crowds());
        println!(
            "a turn takes {:.3} ms when it is alone; of {} customers without a pause it keeps cores busy for {:.3} ms",
            self.alone.mean, few, self.demand_ms
        );
        println!(
            "{} customers without a pause: {:.0} turns a second, predicted {most:.0}, off by {:+.1} %;",
            many,
            crowd.rate(),
            off(most, crowd.rate())
        );
        // Little's law: who is there is what comes in a second times how long it stays.
        let mean = many as f64 / most * 1e3;
        println!(
            "    mean {:.1} ms, predicted {mean:.1}, off by {:+.1} %",
            crowd.mean(),
            off(mean, crowd.mean())
        );
        println!(
            "{:<10}{:>8}{:>10}{:>10}{:>11}{:>10}{:>10}{:>11}{:>10}",
            "turns/s", "load", "CPU ms", "mean ms", "predicted", "off", "p95 ms", "predicted", "off"
        );
        for seen in streams {
            let turn = self.alone + self.wait(seen);
            let (mean, p95) = (seen.mean(), seen.p95());
            println!(
                "{:<10.0}{:>6.1} %{:>10.2}{mean:>10.2}{:>11.2}{:>+8.1} %{p95:>10.2}{:>11.2}{:>+8.1} %",
                seen.rate(),
                self.load(seen) * 100.0,
                seen.demand_ms(),
                turn.mean,
                off(turn.mean, mean),
                turn.at(0.95),
                off(turn.at(0.95), p95)
            );
        }
    }
}

fn write(machine: &Machine, alone: &Seen, figures: &Seen, memory: &[f64]) {
    let whole = [
        ("turn_ms", alone.mean()),
        ("turn_deviation_ms", alone.deviation()),
        ("waits", machine.waits),
        ("saturated", machine.saturated),
        ("spans", figures.each(|moment| moment.spans as f64)),
        ("database_cpu_us", figures.each(|moment| moment.database_us)),
        ("database_bytes", figures.each(|moment| moment.bytes)),
        ("log_bytes", figures.each(|moment| moment.log)),
    ];
    let mut text = format!("machine = \"{} cores of {}\"\n", machine.cores, model());
    text.extend(whole.map(|(name, value)| format!("{name} = {value:.3}\n")));
    for (index, stage) in STAGES.iter().enumerate() {
        let (cpu, memory) = (figures.each(|moment| moment.stages[index]), memory[index]);
        text += &format!("\n[stages.{stage}]\ncpu_us = {cpu:.1}\nmemory_mib = {memory:.1}\n");
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/capacity.toml");
    std::fs::write(path, &text).unwrap();
    println!("target/capacity.toml:\n{text}");
}

/// Name of the processor.
fn model() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = info.lines().find(|line| line.starts_with("model name")).unwrap_or_default();
    line.split_once(": ").map_or("an unknown processor", |(_, name)| name).to_owned()
}
