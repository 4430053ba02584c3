//! Servers of another make, as processes.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStderr, Command};
use tokio::task::JoinSet;
use tokio::time::{interval, timeout};

/// Longest wait for a server, on a busy machine too.
const PATIENCE: Duration = Duration::from_secs(120);
/// Between two looks at a server.
const PAUSE: Duration = Duration::from_millis(20);

/// A server on a port of loopback that it chose itself, killed when this is dropped.
#[derive(Debug)]
pub struct Foreign {
    /// Where it listens, "http://" and the address.
    pub url: String,
    client: reqwest::Client,
    _child: Child,
    _reader: JoinSet<()>,
}

impl Foreign {
    /// Starts a server that was told to take port 0, and returns when it answers at the path of its health in JSON.
    ///
    /// # Panics
    /// It does not start, or says nothing of where it listens.
    pub async fn start(mut command: Command, health: &str) -> Self {
        kit::run::install_tls();
        let client = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build().unwrap();
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let url = timeout(PATIENCE, address(&mut lines)).await.expect("the server says where it listens");
        let mut reader = JoinSet::new();
        // It would stop at a pipe that nobody reads.
        reader.spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        let server = Self { url, client, _child: child, _reader: reader };
        server.until(health, |health| health.is_some()).await;
        server
    }

    /// What it says at a path, in JSON; nothing unless it says that all is well.
    pub async fn get(&self, path: &str) -> Option<Value> {
        let response = self.client.get(format!("{}{path}", self.url)).send().await.unwrap();
        if !response.status().is_success() {
            return None;
        }
        Some(response.json().await.unwrap())
    }

    /// Tells it something.
    ///
    /// # Panics
    /// It refuses.
    pub async fn post(&self, path: &str, body: &Value) {
        let response = self.client.post(format!("{}{path}", self.url)).json(body).send().await.unwrap();
        let status = response.status();
        assert!(status.is_success(), "{path}: {status} {}", response.text().await.unwrap());
    }

    /// Looks at a path until it is as it should be.
    ///
    /// # Panics
    /// It does not become so within two minutes.
    pub async fn until(&self, path: &str, mut is_so: impl FnMut(Option<&Value>) -> bool) {
        let mut looks = interval(PAUSE);
        let mut seen = None;
        let looking = async {
            while {
                looks.tick().await;
                seen = self.get(path).await;
                !is_so(seen.as_ref())
            } {}
        };
        let in_time = timeout(PATIENCE, looking).await.is_ok();
        assert!(in_time, "{path}: {seen:?}");
    }
}

/// The address that it prints.
async fn address(lines: &mut Lines<BufReader<ChildStderr>>) -> String {
    let mut printed = String::new();
    while let Some(line) = lines.next_line().await.unwrap() {
        let mut words = line.split_whitespace();
        if let Some(url) = words.clone().find(|word| word.starts_with("http://127.0.0.1:")) {
            return url.to_owned();
        }
        // So the programs around Prometheus say it.
        let address = words.find_map(|word| word.strip_prefix("address="));
        if let Some(address) = address.filter(|_| line.contains("\"Listening on\"")) {
            return format!("http://{address}");
        }
        printed.push_str(&(line + "\n"));
    }
    panic!("the server did not start: {printed}");
}

/// A program that runs under any of these names, on the path or below `target/tools/prometheus`.
///
/// # Panics
/// It is not there.
pub fn prometheus(names: &[&str]) -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/tools/prometheus/usr/bin");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders = std::env::split_paths(&path).chain([own]);
    let found =
        folders.find_map(|folder| names.iter().map(|name| folder.join(name)).find(|file| file.is_file()));
    found.unwrap_or_else(|| panic!("{} is missing: `make test` makes it", names[0]))
}

/// The Python of the tests, with their packages.
///
/// # Panics
/// It is not there.
pub fn python() -> PathBuf {
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/tools/python/bin/python");
    assert!(python.exists(), "{} is missing: `make test` makes it", python.display());
    python
}
