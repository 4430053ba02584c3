//! What the pipeline costs, against six bare unary calls over loopback TCP, interleaved in one run.
//! Figures are ratios to the bare six of the same round; the median over the rounds is printed.

mod idle;

use std::path::Path;
use std::time::Instant;

use idle::Idle;
use kit::config::{Balance, Settings};
use kit::{Context, Link, Links, Stage};
use proto::assistant_service_client::AssistantServiceClient;
use proto::classifier_service_client::ClassifierServiceClient;
use proto::*;
use tests::{Processes, Transport, World, cpu_us, demo, memory_mib, scratch};
use tokio::net::TcpListener;

const ROUNDS: usize = 15;
const TURNS: usize = 60;
const QUESTION: &str = "What does it cost to withdraw cash at a cash machine abroad?";

/// Microseconds of one call, for each call of a round; and CPU microseconds a call.
struct Round {
    micros: Vec<f64>,
    cpu: f64,
}

impl Round {
    fn at(&self, quantile: f64) -> f64 {
        let mut sorted = self.micros.clone();
        sorted.sort_by(f64::total_cmp);
        sorted[((sorted.len() - 1) as f64 * quantile) as usize]
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

async fn round(pids: &[u32], mut call: impl AsyncFnMut()) -> Round {
    call().await;
    let before = cpu_us(pids);
    let mut micros = Vec::with_capacity(TURNS);
    for _ in 0..TURNS {
        let start = Instant::now();
        call().await;
        micros.push(start.elapsed().as_secs_f64() * 1e6);
    }
    Round { micros, cpu: (cpu_us(pids) - before) / TURNS as f64 }
}

async fn serve(stage: Stage, context: &Context) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let serving = context.clone();
    context.tasks.spawn(async move { kit::serve::serve(listener, stage, &serving).await.unwrap() });
    url
}

/// The real orchestrator over stages that do no work, its journal in the given folder.
async fn idle(transport: Transport, data: &Path, context: &Context) -> AssistantServiceClient<Link> {
    let mut settings = Settings::default();
    settings.set("server", "bundle", &format!("{:?}", demo().display().to_string()));
    settings.set("server", "data_dir", &format!("{:?}", data.display().to_string()));
    let mut links = Vec::new();
    for (name, stage) in Idle::stages() {
        let link = match transport {
            Transport::Local => Link::local(&stage),
            Transport::Tcp => Link::remote(&serve(stage, context).await, Balance::Single, context).unwrap(),
        };
        links.push((name, link));
    }
    let server = settings.server().unwrap();
    let front = Context { server, links: Links::new(links), ..context.clone() };
    let stage =
        Box::pin(orchestrator::service(settings.table("orchestrator").unwrap(), front)).await.unwrap();
    let link = match transport {
        Transport::Local => Link::local(&stage),
        Transport::Tcp => Link::remote(&serve(stage, context).await, Balance::Single, context).unwrap(),
    };
    AssistantServiceClient::new(link)
}

async fn ask(client: &AssistantServiceClient<Link>) {
    let message = Some(Message { text: QUESTION.to_owned(), ..Message::default() });
    let turn = client.clone().ask(AskRequest { message }).await.unwrap().into_inner().turn.unwrap();
    assert_eq!(turn.outcome(), Outcome::Answered, "{turn:?}");
}

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(Box::pin(run()));
}

async fn run() {
    demo();
    let context = Context::default();
    let (disk, memory) = (scratch(), tempfile::tempdir_in("/dev/shm").unwrap());
    let mut bare = Vec::new();
    for _ in 0..6 {
        let url = serve(Idle::classifier(), &context).await;
        bare.push(ClassifierServiceClient::new(Link::remote(&url, Balance::Single, &context).unwrap()));
    }
    let idle_tcp = idle(Transport::Tcp, &disk.path().join("tcp"), &context).await;
    let idle_local = idle(Transport::Local, &disk.path().join("local"), &context).await;
    let idle_memory = idle(Transport::Local, &memory.path().join("memory"), &context).await;
    let real = World::start(Transport::Local).await;
    let processes = Processes::start(&[]);
    let channel = Link::remote(&processes.url, Balance::Single, &context).unwrap();
    let seven = AssistantServiceClient::new(channel);
    let own = [std::process::id()];
    let theirs = processes.pids();

    let mut rounds: Vec<[Round; 6]> = Vec::new();
    for _ in 0..ROUNDS {
        let six = round(&own, async || {
            for client in &bare {
                let request = ClassifyRequest { text: QUESTION.to_owned(), alternatives: 3 };
                client.clone().classify(request).await.unwrap();
            }
        })
        .await;
        rounds.push([
            six,
            round(&own, async || ask(&idle_tcp).await).await,
            round(&own, async || ask(&idle_local).await).await,
            round(&own, async || ask(&idle_memory).await).await,
            round(&own, async || ask(&real.client).await).await,
            round(&theirs, async || ask(&seven).await).await,
        ]);
    }
    report(&rounds);
    for (stage, pid) in kit::config::STAGES.iter().zip(&theirs) {
        println!("memory {stage:<13}{:>8.1} MiB", memory_mib(*pid));
    }
    println!("memory together    {:>8.1} MiB", theirs.iter().map(|pid| memory_mib(*pid)).sum::<f64>());
    processes.stop();
    real.stop().await;
    cold_start();
    context.shutdown.cancel();
}

fn report(rounds: &[[Round; 6]]) {
    let names = [
        "six bare unary calls, TCP",
        "no work, TCP, journal on disk",
        "no work, local, journal on disk",
        "no work, local, journal in memory",
        "real stages, local, journal on disk",
        "real stages, seven processes",
    ];
    println!("{ROUNDS} rounds of {TURNS} turns, one in flight; ratios to the bare six of the same round");
    println!("{:<38}{:>9}{:>9}{:>9}{:>9}", "", "p50 us", "p99 us", "CPU us", "ratio");
    for (index, name) in names.iter().enumerate() {
        let of = |figure: &dyn Fn(&Round) -> f64| {
            median(rounds.iter().map(|round| figure(&round[index])).collect())
        };
        let ratio = median(rounds.iter().map(|round| round[index].at(0.5) / round[0].at(0.5)).collect());
        let (p50, p99, cpu) =
            (of(&|round| round.at(0.5)), of(&|round| round.at(0.99)), of(&|round| round.cpu));
        println!("{name:<38}{p50:>9.0}{p99:>9.0}{cpu:>9.0}{ratio:>9.2}");
    }
}

/// From the start of `firstline up` with a built bundle until it listens.
fn cold_start() {
    let starts: Vec<f64> = (0..5).map(|_| tests::cold_start().as_secs_f64() * 1e3).collect();
    println!("cold start of up      {:>5.0} ms (median of 5)", median(starts));
}
