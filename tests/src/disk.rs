//! A small disk that fills up under an assistant and is freed again.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use proto::assistant_service_client::AssistantServiceClient;
use proto::{AskRequest, GetConversationRequest, ListHandoffsRequest, Message, Turn};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::not_run;
use crate::world::scratch;

/// Holds the folder of the small disk, in a process that has one.
const DISK: &str = "FIRSTLINE_SMALL_DISK";
const MOUNT: &str = r#"mount -t tmpfs -o size=128m disk "$0" && exec "$@""#;
/// Longest time for a full disk to be noticed, and for a freed one.
const PATIENCE: Duration = Duration::from_secs(60);

/// The folder of a disk of 128 MiB in memory that only this process and its children see. The test of this name runs
/// again in such a process: `None` when it has done so, or when the system lets nobody mount, which is said.
pub fn small_disk(test: &str) -> Option<PathBuf> {
    if let Some(disk) = std::env::var_os(DISK) {
        return Some(disk.into());
    }
    let folder = scratch();
    let inside = |arguments: &[&str]| {
        let mut command = Command::new("unshare");
        command.args(arguments).args(["--mount", "sh", "-c", MOUNT]).arg(folder.path());
        command
    };
    let mut refusals = String::new();
    // Whoever may have a user namespace of their own, then who is root without one.
    for arguments in [["--user", "--map-root-user"].as_slice(), &[]] {
        match inside(arguments).arg("true").stdin(Stdio::null()).output() {
            Ok(tried) if tried.status.success() => {
                let exe = std::env::current_exe().unwrap();
                let mut alone = inside(arguments);
                alone.arg(exe).args([test, "--exact", "--nocapture"]).env(DISK, folder.path());
                assert!(alone.status().unwrap().success(), "{test}: see above");
                return None;
            }
            Ok(tried) => refusals.push_str(&String::from_utf8_lossy(&tried.stderr)),
            Err(error) => refusals.push_str(&format!("unshare: {error}\n")),
        }
    }
    not_run(test, &format!("no disk can be mounted here: {refusals}"));
    None
}

/// Fills the disk until a message is refused, looks at what is still served, frees the disk, and waits until the same
/// message is accepted. Returns the turns, with the ids of their requests.
pub(crate) async fn fill_and_free(disk: &Path, url: &str, cycle: u32) -> Vec<(String, Turn)> {
    let mut client =
        AssistantServiceClient::new(Endpoint::from_shared(url.to_owned()).unwrap().connect_lazy());
    let ballast = disk.join("ballast");
    let mut turns = Vec::new();
    let start = Instant::now();
    let (refused, status) = loop {
        assert!(start.elapsed() < PATIENCE, "a full disk refuses nothing");
        // Again and again, since a store writes over what it has folded into its file before it needs more.
        fill(&ballast);
        let id = format!("full_{cycle}_{}", turns.len());
        match ask(&mut client, &id).await {
            Ok(turn) => turns.push((id, turn)),
            Err(status) => break (id, status),
        }
    };
    assert_eq!(status.code(), Code::Unavailable, "{status}");
    let details = status.get_error_details();
    assert_eq!(details.error_info().unwrap().reason, "JOURNAL_UNAVAILABLE", "{status}");
    assert!(details.retry_info().is_some(), "{status}");
    assert!(status.message().contains("full"), "it says why: {status}");
    client.list_handoffs(ListHandoffsRequest::default()).await.unwrap();
    if let Some((_, turn)) = turns.last() {
        let request = GetConversationRequest { conversation_id: turn.conversation_id.clone() };
        assert!(!client.get_conversation(request).await.unwrap().into_inner().turns.is_empty());
    }
    let freed = std::fs::metadata(&ballast).unwrap().len();
    assert!(freed > 8 << 20, "the stores themselves fill the disk: only {freed} bytes of it can be freed");
    std::fs::remove_file(&ballast).unwrap();
    let start = Instant::now();
    loop {
        match ask(&mut client, &refused).await {
            Ok(turn) => turns.push((refused, turn)),
            Err(status) => {
                assert!(start.elapsed() < PATIENCE, "the disk is free again: {status}");
                continue;
            }
        }
        return turns;
    }
}

async fn ask(client: &mut AssistantServiceClient<Channel>, request_id: &str) -> Result<Turn, Status> {
    let text = "What is the contactless limit?".to_owned();
    let message = Message { request_id: request_id.to_owned(), text, ..Message::default() };
    let asked = client.ask(AskRequest { message: Some(message) }).await;
    asked.map(|response| response.into_inner().turn.unwrap())
}

/// Writes until nothing more fits.
fn fill(ballast: &Path) {
    let mut file = File::options().create(true).append(true).open(ballast).unwrap();
    while file.write(&[0; 4096]).is_ok() {}
}
