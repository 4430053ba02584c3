//! The real binaries.

use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::world::{demo, scratch};

/// The folder of the binaries beside the test's own.
fn binaries() -> PathBuf {
    let exe = std::env::current_exe().unwrap();
    exe.parent().and_then(Path::parent).unwrap().to_owned()
}

/// A command of a binary, with an environment without settings of its own.
pub fn command(binary: &str) -> Command {
    let path = binaries().join(binary);
    assert!(path.exists(), "{} is missing: `cargo build --workspace --bins` makes it", path.display());
    let mut command = Command::new(path);
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command
}

/// How a command ended.
#[derive(Debug)]
pub struct Finished {
    /// Exit code.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

/// Runs `firstline` in a scratch folder to its end.
pub fn firstline(arguments: &[&str]) -> Finished {
    let cwd = scratch();
    let output =
        command("firstline").current_dir(cwd.path()).args(arguments).stdin(Stdio::null()).output().unwrap();
    Finished {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// `firstline up --processes` with the demo bundle on free ports.
#[derive(Debug)]
pub struct Processes {
    /// URL of the assistant.
    pub url: String,
    /// Folder of the stores.
    pub data: TempDir,
    child: Child,
    ports: Vec<(&'static str, u16)>,
    log: Arc<Mutex<String>>,
    readers: Vec<JoinHandle<()>>,
}

impl Processes {
    /// Starts the processes with more variables and returns when the assistant listens.
    pub fn start(variables: &[(&str, &str)]) -> Self {
        let data = scratch();
        let ports = free_ports();
        let mut command = command("firstline");
        command.args(["up", "--processes", "--bundle"]).arg(demo()).current_dir(data.path());
        command
            .env("FIRSTLINE__SERVER__DATA_DIR", data.path())
            .env("FIRSTLINE__TELEMETRY__METRICS_LISTEN", "\"\"");
        for (stage, port) in &ports {
            let stage = stage.to_uppercase();
            command.env(format!("FIRSTLINE__SERVER__LISTEN__{stage}"), format!("127.0.0.1:{port}"));
        }
        command.envs(variables.iter().copied()).stdin(Stdio::null());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let log = Arc::new(Mutex::new(String::new()));
        let keep = |line: std::io::Result<String>| log.lock().unwrap().push_str(&(line.unwrap() + "\n"));
        let listens = || log.lock().unwrap().contains("the assistant is listening");
        while !listens() {
            keep(lines.next().expect("the processes did not start"));
        }
        // Someone must read what follows, or the writers stop at a full pipe.
        let output = BufReader::new(child.stdout.take().unwrap()).lines();
        let readers = vec![collect(lines, log.clone()), collect(output, log.clone())];
        let port = ports.iter().find(|(stage, _)| *stage == "orchestrator").unwrap().1;
        Self { url: format!("http://127.0.0.1:{port}"), data, child, ports, log, readers }
    }

    /// Kills a stage process by SIGKILL; its supervisor starts it again.
    pub fn kill(&self, stage: &str) {
        let pid = self.pid(stage);
        assert!(Command::new("kill").args(["-9", &pid]).status().unwrap().success());
    }

    /// Stops a stage process where it stands, by SIGSTOP.
    pub fn freeze(&self, stage: &str) {
        assert!(Command::new("kill").args(["-STOP", &self.pid(stage)]).status().unwrap().success());
    }

    /// Lets a stopped stage process go on.
    pub fn thaw(&self, stage: &str) {
        assert!(Command::new("kill").args(["-CONT", &self.pid(stage)]).status().unwrap().success());
    }

    /// Process ids of the stages, in the order of [`kit::config::STAGES`].
    pub fn pids(&self) -> Vec<u32> {
        kit::config::STAGES.iter().map(|stage| self.pid(stage).parse().unwrap()).collect()
    }

    /// Port of a stage.
    pub fn port(&self, stage: &str) -> u16 {
        self.ports.iter().find(|(name, _)| *name == stage).unwrap().1
    }

    fn pid(&self, stage: &str) -> String {
        let parent = self.child.id().to_string();
        let output = Command::new("pgrep").args(["-P", &parent, "-x", stage]).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// SIGTERM, and the exit code after the drain.
    pub fn stop(mut self) -> Option<i32> {
        self.end().0
    }

    /// SIGTERM; the exit code after the drain, and all that was printed. The stores stay until this is dropped.
    pub fn end(&mut self) -> (Option<i32>, String) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        let code = self.child.wait().unwrap().code();
        self.readers.drain(..).for_each(|reader| reader.join().unwrap());
        (code, self.log.lock().unwrap().clone())
    }
}

/// Keeps what a process prints, on a thread of its own.
fn collect(
    lines: impl Iterator<Item = std::io::Result<String>> + Send + 'static,
    log: Arc<Mutex<String>>,
) -> JoinHandle<()> {
    std::thread::spawn(move || lines.for_each(|line| log.lock().unwrap().push_str(&(line.unwrap() + "\n"))))
}

impl Drop for Processes {
    fn drop(&mut self) {
        // Its stages see the end of their standard input.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts `firstline up` with the built demo bundle, and says how long it took until it listened.
pub fn cold_start() -> Duration {
    let data = scratch();
    let mut command = command("firstline");
    command.args(["up", "--listen", "127.0.0.1:0", "--bundle"]).arg(demo()).current_dir(data.path());
    command.env("FIRSTLINE__TELEMETRY__METRICS_LISTEN", "\"\"").stdin(Stdio::null()).stderr(Stdio::piped());
    let start = Instant::now();
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let ready =
        lines.find(|line| line.as_ref().is_ok_and(|line| line.contains("the assistant is listening")));
    let elapsed = start.elapsed();
    assert!(ready.is_some(), "it did not start");
    child.kill().unwrap();
    child.wait().unwrap();
    elapsed
}

fn free_ports() -> Vec<(&'static str, u16)> {
    let listeners: Vec<_> =
        kit::config::STAGES.iter().map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    let ports = listeners.iter().map(|listener| listener.local_addr().unwrap().port());
    kit::config::STAGES.into_iter().zip(ports).collect()
}
