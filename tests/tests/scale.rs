//! Several processes of one stage behind one name: calls are spread, a new process is used within seconds, and one that
//! is killed or drained fails no call that may be made again.

use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kit::config::Balance;
use kit::{Context, Link};
use proto::classifier_service_client::ClassifierServiceClient;
use proto::converse_response::Event;
use proto::{ClassifyRequest, ConverseRequest, Delta, Message, Outcome, Turn};
use tests::model::{Model, Script, finish, words};
use tests::{Names, Stage, World, inside, python, scratch};
use tokio::task::JoinSet;
use tonic::{Code, Request};

const NAME: &str = "stage.test";
const QUESTION: &str = "How long does a replacement card take to arrive?";
const ANSWER: &str = "A replacement debit or credit card sent by standard post in the UK takes 3 to 5 working days to arrive [1]. \
                      A card sent by express delivery arrives on the next working day if it is ordered before 14:00 [1].";
/// Who else calls while a process goes away.
const BESIDE: usize = 5;
/// Longest wait for a state.
const PATIENCE: Duration = Duration::from_secs(20);

fn are(names: &Names, replicas: &[&Stage]) {
    names.are(replicas.iter().map(|replica| (NAME, replica.address.ip())));
}

#[derive(Clone)]
struct Caller {
    client: ClassifierServiceClient<Link>,
    calls: usize,
    again: usize,
}

impl Caller {
    /// One call as the orchestrator makes it: once more when nobody was reached.
    async fn call(&mut self) {
        self.calls += 1;
        for attempt in 0..2 {
            let mut request =
                Request::new(ClassifyRequest { text: "I lost my card".to_owned(), alternatives: 1 });
            request.set_timeout(Duration::from_secs(1));
            match self.client.classify(request).await {
                Ok(_) => return,
                Err(status) => {
                    assert!(
                        attempt == 0 && status.code() == Code::Unavailable,
                        "call {}: {status}",
                        self.calls
                    );
                    self.again += 1;
                }
            }
        }
    }

    async fn calls(&mut self, n: usize) {
        for _ in 0..n {
            self.call().await;
        }
    }

    /// Calls of several at the same time, in whose midst something is done.
    async fn calls_around(&mut self, act: impl FnOnce()) {
        let mut beside = JoinSet::new();
        for _ in 0..BESIDE {
            let mut other = Self { calls: 0, again: 0, ..self.clone() };
            beside.spawn(async move {
                other.calls(200).await;
                other
            });
        }
        self.calls(50).await;
        act();
        self.calls(150).await;
        for other in beside.join_all().await {
            self.calls += other.calls;
            self.again += other.again;
        }
    }

    /// Calls until a replica has answered `least` more.
    async fn until_used(&mut self, replica: &Stage, least: u64) -> Duration {
        let (start, before) = (Instant::now(), replica.answered());
        while replica.answered() < before + least {
            assert!(start.elapsed() < PATIENCE, "{} is not used", replica.address);
            self.calls(20).await;
        }
        start.elapsed()
    }
}

#[tokio::test]
async fn calls_are_spread_over_the_processes_of_a_name_while_they_come_and_go() {
    let test = "calls_are_spread_over_the_processes_of_a_name_while_they_come_and_go";
    match Names::here() {
        Some(names) => come_and_go(&names, false).await,
        None => inside(test, &["--exact", test, "--nocapture"], &[]),
    }
}

#[tokio::test]
async fn calls_are_spread_by_an_envoy_in_front_too() {
    let test = "calls_are_spread_by_an_envoy_in_front_too";
    match Names::here() {
        Some(names) => come_and_go(&names, true).await,
        None => inside(test, &["--exact", test, "--nocapture"], &[]),
    }
}

async fn come_and_go(names: &Names, by_envoy: bool) {
    let port = scratch::free().port();
    let start = |n: u8| Stage::at("classifier", ([127, 1, 0, n], port).into(), Arc::new(scratch()), &[]);
    let (mut one, mut two) = (start(1), start(2));
    are(names, &[&one, &two]);
    let context = Context::default();
    let envoy = if by_envoy { Some(Envoy::start(port).await) } else { None };
    let (url, balance) = match &envoy {
        Some(envoy) => (format!("http://{}", envoy.front), Balance::Single),
        None => (format!("http://{NAME}:{port}"), Balance::Dns),
    };
    let link = Link::remote(&url, balance, &context).unwrap();
    let mut caller = Caller { client: ClassifierServiceClient::new(link), calls: 0, again: 0 };
    caller.calls(400).await;
    let (first, second) = (one.answered(), two.answered());
    assert!(
        first.min(second) >= 120 && caller.again == 0,
        "{first} and {second} of 400, {} again",
        caller.again
    );
    let three = start(3);
    are(names, &[&one, &two, &three]);
    let seen = caller.until_used(&three, 40).await;
    caller.calls_around(|| one.kill()).await;
    are(names, &[&two, &three]);
    let killed = caller.again;
    // Kubernetes takes a pod out of the name before it stops it; here it is stopped while it is still in it.
    caller.calls_around(|| two.terminate()).await;
    assert_eq!(two.ended(), Some(0));
    are(names, &[&three]);
    caller.calls(100).await;
    println!(
        "spread {first} to {second}; a third is used within {:.1} s; of {} calls none failed, {killed} were made again \
         after one was killed, {} after one was drained",
        seen.as_secs_f64(),
        caller.calls,
        caller.again - killed
    );
    assert!(caller.again <= 20, "{} calls were made again", caller.again);
    context.finish().await;
}

/// One of two generators is killed while it writes; the other one writes the answer, and what was shown is taken back. Where
/// the turn has tokens for one call only, the articles' own words answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_whose_writer_is_killed_is_written_by_another() {
    let test = "an_answer_whose_writer_is_killed_is_written_by_another";
    let Some(names) = Names::here() else { return inside(test, &["--exact", test, "--nocapture"], &[]) };
    for (tokens, by, calls) in [("0", "tiny-1", 2), ("12000", "extractive", 1)] {
        let pieces = ANSWER.split_inclusive(' ').map(words).chain([finish("stop")]);
        let model = Model::scripted(vec![Script::Drip(pieces.collect(), Duration::from_millis(50))]).await;
        let of_model = model.url.trim_start_matches("http://").split('/').next().unwrap().parse().unwrap();
        let port = scratch::free().port();
        let variables = [("PROVIDER", "openai"), ("MODEL", "tiny"), ("BASE_URL", model.url.as_str())];
        let variables = variables.map(|(name, value)| (format!("FIRSTLINE__GENERATOR__{name}"), value));
        let variables = variables.each_ref().map(|(name, value)| (name.as_str(), *value));
        let start =
            |n| Stage::at("generator", ([127, 1, 3, n], port).into(), Arc::new(scratch()), &variables);
        let mut both = [start(1), start(2)];
        are(&names, &both.each_ref());
        let budget = [("orchestrator", "budget.tokens_per_turn", tokens)];
        let world = World::apart("generator", &format!("http://{NAME}:{port}"), &budget).await;
        let message = Some(Message { text: QUESTION.to_owned(), ..Message::default() });
        let mut stream =
            world.client.clone().converse(ConverseRequest { message }).await.unwrap().into_inner();
        let (mut shown, mut taken_back, mut turn) = (String::new(), 0, Turn::default());
        while let Some(response) = stream.message().await.unwrap() {
            match response.event {
                Some(Event::Delta(Delta { text, restart })) => {
                    if shown.is_empty() {
                        both.iter_mut().find(|one| one.connected().contains(&of_model)).unwrap().kill();
                    }
                    if restart {
                        shown.clear();
                        taken_back += 1;
                    }
                    shown.push_str(&text);
                }
                Some(Event::Final(last)) => turn = last,
                _ => {}
            }
        }
        let seen = (turn.outcome(), turn.model.as_str(), model.calls(), taken_back);
        assert_eq!(seen, (Outcome::Answered, by, calls, 1), "{turn:?}");
        assert_eq!(shown, turn.answer);
        world.stop().await;
    }
}

/// Spreads calls from one port over the processes of the name.
struct Envoy {
    front: SocketAddr,
    _child: tokio::process::Child,
}

impl Envoy {
    async fn start(stage: u16) -> Self {
        let (front, admin) = (scratch::free(), scratch::free());
        let of = |address: SocketAddr| format!("address: {}, port_value: {}", address.ip(), address.port());
        let config = include_str!("envoy.yaml").replace("NAME", NAME).replace("FRONT", &of(front));
        let config = config.replace("ADMIN", &of(admin)).replace("PORT", &stage.to_string());
        let mut command = tokio::process::Command::new(python());
        command.args([
            "-c",
            "import envoy._main; envoy._main.main()",
            "--log-level",
            "warning",
            "--config-yaml",
        ]);
        command.args([&config, "--use-dynamic-base-id"]).stdin(Stdio::null()).kill_on_drop(true);
        let child = command.spawn().unwrap();
        let start = Instant::now();
        while !is_ready(admin) {
            assert!(start.elapsed() < PATIENCE, "Envoy is not ready");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Self { front, _child: child }
    }
}

/// Whether Envoy serves, and knows processes of the name that are healthy.
fn is_ready(admin: SocketAddr) -> bool {
    use std::io::{Read as _, Write as _};
    let Ok(mut stream) = std::net::TcpStream::connect(admin) else { return false };
    let asked = stream.write_all(b"GET /clusters HTTP/1.1\r\nhost: envoy\r\nconnection: close\r\n\r\n");
    let mut said = String::new();
    let read = asked.and_then(|()| stream.read_to_string(&mut said));
    read.is_ok() && said.matches("::health_flags::healthy").count() >= 2
}
