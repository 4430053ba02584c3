//! The alerts of `deploy/`, with a real Prometheus and a real Alertmanager: what breaks reaches whoever is on call.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::Uri;
use jiff::Timestamp;
use kit::config::STAGES;
use regex::{Captures, Regex};
use serde_json::{Value, json};
use tests::{Finished, Foreign, Processes, firstline, prometheus, scratch, serve};
use tokio::process::Command;
use tokio::task::JoinSet;
use tokio::time::{interval, timeout};

/// By how much shorter all times of rules and routes are.
const SHORTER: u64 = 20;
/// Longest wait for an alert, on a busy machine too.
const PATIENCE: Duration = Duration::from_secs(120);

/// A file or folder of `deploy/`.
fn deployed(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy").join(path)
}

/// The text of one with each interval and each wait a twentieth as long, at least a second. Ranges of expressions stay.
fn shortened(path: &Path) -> String {
    let times = Regex::new(r"(?<what>\w*interval|for|group_wait): (?<n>\d+)(?<unit>[smhd])\b").unwrap();
    let shorter = |found: &Captures<'_>| {
        let unit = match &found["unit"] {
            "s" => 1,
            "m" => 60,
            "h" => 3600,
            _ => 86_400,
        };
        let seconds = (found["n"].parse::<u64>().unwrap() * unit).div_ceil(SHORTER);
        format!("{}: {seconds}s", &found["what"])
    };
    times.replace_all(&std::fs::read_to_string(path).unwrap(), shorter).into_owned()
}

/// One alert that reached somebody: whom, "firing" or "resolved", and what it says.
#[derive(Debug, Clone)]
struct Told {
    whom: String,
    status: String,
    alert: Value,
}

impl Told {
    fn label(&self, name: &str) -> &str {
        self.alert["labels"][name].as_str().unwrap_or_default()
    }

    fn began(&self) -> Timestamp {
        self.alert["startsAt"].as_str().unwrap().parse().unwrap()
    }
}

/// Whoever is on call.
struct OnCall {
    url: String,
    told: Arc<Mutex<Vec<Told>>>,
    _server: JoinSet<()>,
}

impl OnCall {
    async fn start() -> Self {
        let told = Arc::<Mutex<Vec<Told>>>::default();
        let (url, server) = serve(Router::new().fallback(take).with_state(told.clone())).await;
        Self { url, told, _server: server }
    }

    fn told(&self) -> Vec<Told> {
        self.told.lock().unwrap().clone()
    }

    /// Waits until somebody is told that an alert of a stage fires or is over.
    async fn until(&self, whom: &str, status: &str, name: &str, stage: &str) -> Told {
        let mut looks = interval(Duration::from_millis(50));
        let looking = async {
            loop {
                looks.tick().await;
                let is_it = |told: &Told| {
                    (told.whom.as_str(), told.status.as_str()) == (whom, status)
                        && (told.label("alertname"), told.label("stage")) == (name, stage)
                };
                if let Some(told) = self.told().into_iter().find(is_it) {
                    return told;
                }
            }
        };
        let found = timeout(PATIENCE, looking).await;
        found.unwrap_or_else(|_| panic!("{whom} is not told of {name}, {status}: {:?}", self.told()))
    }
}

async fn take(State(told): State<Arc<Mutex<Vec<Told>>>>, uri: Uri, body: Bytes) {
    let group: Value = serde_json::from_slice(&body).unwrap();
    let whom = uri.path().trim_start_matches('/');
    for alert in group["alerts"].as_array().unwrap() {
        let status = alert["status"].as_str().unwrap().to_owned();
        told.lock().unwrap().push(Told { whom: whom.to_owned(), status, alert: alert.clone() });
    }
}

/// Alertmanager with the routes of the example, where both receivers are those on call.
async fn alertmanager(folder: &Path, on_call: &OnCall) -> Foreign {
    let config = shortened(&deployed("alertmanager.yaml"));
    let config = config.replace("http://pager.example/firstline", &format!("{}/pager", on_call.url));
    let config = config.replace("http://tracker.example/firstline", &format!("{}/tracker", on_call.url));
    std::fs::write(folder.join("alertmanager.yaml"), config).unwrap();
    let program = prometheus(&["alertmanager", "prometheus-alertmanager"]);
    let mut command = Command::new(&program);
    // Debian's reads its templates from /usr/share: where it was only unpacked, from beside it.
    let share = program.ancestors().nth(2).unwrap().join("share");
    if program.ends_with("usr/bin/prometheus-alertmanager") && share != Path::new("/usr/share") {
        command = Command::new("unshare");
        command.args([
            "--mount",
            "--map-root-user",
            "sh",
            "-c",
            "mount --bind \"$0\" /usr/share && exec \"$@\"",
        ]);
        command.arg(share.canonicalize().unwrap()).arg(program.canonicalize().unwrap());
    }
    command.current_dir(folder).args(["--config.file=alertmanager.yaml", "--storage.path=alertmanager"]);
    command.args(["--web.listen-address=127.0.0.1:0", "--cluster.listen-address="]);
    Foreign::start(command, "/api/v2/status").await
}

/// Prometheus with all rules, and with the targets of the compose file at these addresses.
async fn watcher(folder: &Path, doors: &[(&str, SocketAddr)], alertmanager: &Foreign) -> Foreign {
    let rules = std::fs::read_dir(deployed("alerts")).unwrap().map(|entry| entry.unwrap().path());
    std::fs::create_dir(folder.join("alerts")).unwrap();
    for file in rules.filter(|path| path.is_file()) {
        std::fs::write(folder.join("alerts").join(file.file_name().unwrap()), shortened(&file)).unwrap();
    }
    let mut config = shortened(&deployed("prometheus/prometheus.yaml"));
    config = config.replace("/etc/prometheus/alerts", &folder.join("alerts").display().to_string());
    config = config.replace("alertmanager:9093", alertmanager.url.trim_start_matches("http://"));
    for (stage, door) in doors {
        config = config.replace(&format!("{stage}:9464"), &door.to_string());
    }
    std::fs::write(folder.join("prometheus.yaml"), config).unwrap();
    let mut command = Command::new(prometheus(&["prometheus"]));
    command.current_dir(folder).args(["--config.file=prometheus.yaml", "--storage.tsdb.path=prometheus"]);
    command.arg("--web.listen-address=127.0.0.1:0");
    Foreign::start(command, "/api/v1/status/buildinfo").await
}

/// The values of a label among the series of an answer whose number is not 0.
fn values(answer: Option<&Value>, label: &str) -> BTreeSet<String> {
    let series = answer.and_then(|answer| answer["data"]["result"].as_array()).into_iter().flatten();
    let some = series.filter(|one| one["value"][1] != "0");
    some.filter_map(|one| one["metric"][label].as_str()).map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stage_that_stands_still_pages_somebody_until_it_goes_on() {
    let doors = STAGES.map(|stage| (stage, scratch::free()));
    let admin = doors.map(|(stage, door)| {
        (format!("FIRSTLINE__SERVER__ADMIN__{}", stage.to_uppercase()), door.to_string())
    });
    let admin: Vec<_> = admin.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let processes = Processes::start(&admin);
    let Finished { code, stdout, stderr } =
        firstline(&["ask", "--endpoint", &processes.url, "What is the contactless limit?"]);
    assert_eq!(code, Some(0), "{stdout}{stderr}");

    let (folder, on_call) = (scratch(), OnCall::start().await);
    let alertmanager = alertmanager(folder.path(), &on_call).await;
    let watcher = watcher(folder.path(), &doors, &alertmanager).await;
    let all: BTreeSet<_> = STAGES.into_iter().map(str::to_owned).collect();
    let up = "/api/v1/query?query=firstline:stage_up";
    watcher.until(up, |answer| values(answer, "stage") == all).await;
    // What telemetry tells of other stages is not taken for its own.
    let told = "/api/v1/query?query=firstline_stage_duration_seconds_count";
    let stages = |answer: Option<&Value>| values(answer, "stage");
    watcher
        .until(told, |answer| stages(answer).contains("total") && stages(answer).contains("classifier"))
        .await;

    // Before the first scrape all seems down, and on a busy machine somebody is told.
    watcher
        .until("/api/v1/alerts", |answer| answer.is_some_and(|answer| answer["data"]["alerts"] == json!([])))
        .await;
    let start = Timestamp::now();
    processes.freeze("retriever");
    let page = on_call.until("pager", "firing", "FirstlineStageDown", "retriever").await;
    assert_eq!(page.label("severity"), "page");
    let book = page.alert["annotations"]["runbook_url"].as_str().unwrap();
    assert!(deployed("..").join(book).is_file(), "{book} is no file");
    processes.thaw("retriever");
    on_call.until("pager", "resolved", "FirstlineStageDown", "retriever").await;
    let others: Vec<_> = on_call
        .told()
        .into_iter()
        .filter(|told| told.label("alertname") != "FirstlineStageDown" && told.began() > start)
        .collect();
    assert!(others.is_empty(), "{others:?}");
    assert_eq!(processes.stop(), Some(0));
}
