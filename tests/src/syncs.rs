//! How often a store waits for the disk, and how many turns share one wait.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use proto::assistant_service_client::AssistantServiceClient;
use proto::{AskRequest, Message, Outcome};
use tokio::task::JoinSet;
use tonic::transport::Endpoint;

use crate::process::Processes;

/// Pages that a log of SQLite has before it is written over.
const PAGES: u64 = 1000;

/// What the stores of an assistant did under load.
#[derive(Debug, Clone, Copy)]
pub struct Syncs {
    /// Writes that their callers waited for.
    pub writes: u64,
    /// Commits that changed something.
    pub groups: u64,
    /// `fsync` and `fdatasync` of a write-ahead log.
    pub syncs: u64,
}

/// Whether strace may trace here.
pub fn can_trace() -> Result<(), String> {
    match Command::new("strace").args(["-o", "/dev/null", "true"]).stdin(Stdio::null()).output() {
        Ok(traced) if traced.status.success() => Ok(()),
        Ok(traced) => Err(String::from_utf8_lossy(&traced.stderr).into_owned()),
        Err(error) => Err(format!("strace: {error}")),
    }
}

/// Sends turns to an assistant of one process and counts, by strace, how often its stores wait for the disk.
pub async fn count_syncs(text: &'static str, turns: usize, at_once: usize) -> Syncs {
    let calls = tempfile::NamedTempFile::new().unwrap();
    let file = calls.path().to_str().unwrap();
    let strace = ["strace", "-f", "-y", "--seccomp-bpf", "-e", "trace=fsync,fdatasync", "-o", file];
    let mut traced = Processes::start_under(&strace, &[("RUST_LOG", "info,sql=debug")]);
    send(&traced.url, text, turns, at_once).await;
    let (code, log) = traced.end();
    assert_eq!(code, Some(0), "{log}");
    let groups = log.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let groups = groups.filter(|event| event["message"] == "a group of writes" && event["committed"] == true);
    let groups: Vec<_> = groups.filter(|event| event["rows"] != 0).collect();
    let calls = std::fs::read_to_string(calls.path()).unwrap();
    // One that another thread interrupts has a second line, without its file.
    let begun = |line: &&str| line.contains("sync(") && line.contains("-wal>");
    Syncs {
        writes: groups.iter().filter_map(|event| event["writes"].as_u64()).sum(),
        groups: groups.len() as u64,
        syncs: calls.lines().filter(begun).count() as u64,
    }
}

/// Sends so many turns, each in a conversation of its own, with so many in flight, and returns how long it took.
pub async fn send(url: &str, text: &'static str, turns: usize, at_once: usize) -> Duration {
    let start = Instant::now();
    let mut senders = JoinSet::new();
    for _ in 0..at_once {
        let channel = Endpoint::from_shared(url.to_owned()).unwrap().connect().await.unwrap();
        senders.spawn(async move {
            let mut client = AssistantServiceClient::new(channel);
            for _ in 0..turns / at_once {
                let message = Some(Message { text: text.to_owned(), ..Message::default() });
                let turn = client.ask(AskRequest { message }).await.unwrap().into_inner().turn.unwrap();
                assert_ne!(turn.outcome(), Outcome::Unspecified, "{turn:?}");
            }
        });
    }
    while let Some(sent) = senders.join_next().await {
        sent.unwrap();
    }
    start.elapsed()
}

/// Times that a page of 4 KiB reaches the disk of a folder in a second, one after the other.
pub fn bare_syncs_a_second(folder: &Path, times: u64) -> f64 {
    let log = File::create(folder.join("bare")).unwrap();
    let start = Instant::now();
    for page in 0..times {
        log.write_all_at(&[1; 4096], page % PAGES * 4096).unwrap();
        log.sync_data().unwrap();
    }
    times as f64 / start.elapsed().as_secs_f64()
}
