//! Several processes of one stage behind one name: calls are spread, a new process is used within seconds, and one that
//! is killed or drained fails no call that may be made again.

use std::net::TcpListener;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use kit::config::Balance;
use kit::{Context, Link};
use proto::ClassifyRequest;
use proto::classifier_service_client::ClassifierServiceClient;
use tests::{Stage, not_run, python};
use tonic::{Code, Request};

/// The file that says where names are, of the process inside.
const HOSTS: &str = "FIRSTLINE_TEST_HOSTS";
const NAME: &str = "classifier.test";
/// Longest wait for a state.
const PATIENCE: Duration = Duration::from_secs(20);

/// Names and addresses of a process that sees a file of the test instead of /etc/hosts. The file is written over in one
/// go and never shorter, since it is read at any moment.
struct Names(std::fs::File);

impl Names {
    const BYTES: usize = 512;

    fn open(path: &Path) -> Self {
        Self(std::fs::File::options().write(true).create(true).truncate(false).open(path).unwrap())
    }

    fn are(&self, replicas: &[&Stage]) {
        let lines: String =
            replicas.iter().map(|replica| format!("{} {NAME}\n", replica.address.ip())).collect();
        self.0.write_all_at(format!("{lines:<width$}\n", width = Self::BYTES).as_bytes(), 0).unwrap();
    }
}

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
    match std::env::var_os(HOSTS) {
        Some(hosts) => come_and_go(Path::new(&hosts), false).await,
        None => inside("calls_are_spread_over_the_processes_of_a_name_while_they_come_and_go"),
    }
}

#[tokio::test]
async fn calls_are_spread_by_an_envoy_in_front_too() {
    match std::env::var_os(HOSTS) {
        Some(hosts) => come_and_go(Path::new(&hosts), true).await,
        None => inside("calls_are_spread_by_an_envoy_in_front_too"),
    }
}

async fn come_and_go(hosts: &Path, by_envoy: bool) {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let start = |n: u8| Stage::at("classifier", ([127, 1, 0, n], port).into());
    let (names, mut one, mut two) = (Names::open(hosts), start(1), start(2));
    names.are(&[&one, &two]);
    let context = Context::default();
    let envoy = if by_envoy { Some(Envoy::start(port).await) } else { None };
    let (url, balance) = match &envoy {
        Some(envoy) => (format!("http://127.0.0.1:{}", envoy.port), Balance::Single),
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
    names.are(&[&one, &two, &three]);
    let seen = caller.until_used(&three, 40).await;
    one.kill();
    caller.calls(300).await;
    names.are(&[&two, &three]);
    let killed = caller.again;
    // Kubernetes takes a pod out of the name before it stops it; here it is stopped while it is still in it.
    two.terminate();
    caller.calls(300).await;
    assert_eq!(two.ended(), Some(0));
    names.are(&[&three]);
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

/// Spreads calls from one port over the processes of the name.
struct Envoy {
    port: u16,
    _child: tokio::process::Child,
}

impl Envoy {
    async fn start(stage: u16) -> Self {
        let free = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let (port, admin) = (free(), free());
        let config = include_str!("envoy.yaml").replace("NAME", NAME).replace("FRONT", &port.to_string());
        let config = config.replace("ADMIN", &admin.to_string()).replace("PORT", &stage.to_string());
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
        Self { port, _child: child }
    }
}

/// Whether Envoy serves, and knows processes of the name that are healthy.
fn is_ready(admin: u16) -> bool {
    use std::io::{Read as _, Write as _};
    let Ok(mut stream) = std::net::TcpStream::connect(("127.0.0.1", admin)) else { return false };
    let asked = stream.write_all(b"GET /clusters HTTP/1.1\r\nhost: envoy\r\nconnection: close\r\n\r\n");
    let mut said = String::new();
    let read = asked.and_then(|()| stream.read_to_string(&mut said));
    read.is_ok() && said.matches("::health_flags::healthy").count() >= 2
}

/// Runs the test once more where a file of its own stands for /etc/hosts: in a mount namespace.
fn inside(test: &str) {
    let dir = tests::scratch();
    let hosts = dir.path().join("hosts");
    std::fs::write(&hosts, "").unwrap();
    let mut command = Command::new("unshare");
    command.args(["--mount", "--map-root-user", "sh", "-c", "mount --bind \"$0\" /etc/hosts && exec \"$@\""]);
    command.arg(&hosts).arg(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture"]);
    let ended = command.env(HOSTS, &hosts).stdin(Stdio::null()).output().unwrap();
    let said =
        format!("{}{}", String::from_utf8_lossy(&ended.stdout), String::from_utf8_lossy(&ended.stderr));
    if said.contains("unshare failed") {
        return not_run(test, &said);
    }
    println!("{said}");
    assert!(ended.status.success(), "{said}");
}
