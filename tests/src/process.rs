//! The real binaries.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use kit::config::STAGES;
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

/// A command of a binary that another program runs, which is given its path after its own arguments.
fn wrapped(wrapper: &[String], binary: &str) -> Command {
    let plain = command(binary);
    let Some((program, arguments)) = wrapper.split_first() else { return plain };
    let mut command = Command::new(program);
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command.args(arguments).arg(plain.get_program());
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

/// `firstline up` with the demo bundle on free ports.
#[derive(Debug)]
pub struct Processes {
    /// URL of the assistant.
    pub url: String,
    /// Folder of the stores.
    pub data: TempDir,
    wrapper: Vec<String>,
    arguments: &'static [&'static str],
    bundle: PathBuf,
    variables: Vec<(String, String)>,
    child: Child,
    addresses: Vec<(&'static str, SocketAddr)>,
    log: Arc<Mutex<String>>,
    readers: Vec<JoinHandle<()>>,
}

impl Processes {
    /// Starts each stage as a process, with more variables, and returns when the assistant listens.
    pub fn start(variables: &[(&str, &str)]) -> Self {
        Self::start_as(&[], &["up", "--processes"], &demo(), variables)
    }

    /// Starts each stage of another bundle as a process.
    pub fn start_with(bundle: &Path, variables: &[(&str, &str)]) -> Self {
        Self::start_as(&[], &["up", "--processes"], bundle, variables)
    }

    /// Starts all stages in one process.
    pub fn start_as_one(variables: &[(&str, &str)]) -> Self {
        Self::start_as(&[], &["up"], &demo(), variables)
    }

    /// Starts all stages in one process, run by another program with these arguments.
    pub(crate) fn start_under(wrapper: &[&str], variables: &[(&str, &str)]) -> Self {
        Self::start_as(wrapper, &["up"], &demo(), variables)
    }

    fn start_as(
        wrapper: &[&str],
        arguments: &'static [&'static str],
        bundle: &Path,
        more: &[(&str, &str)],
    ) -> Self {
        let wrapper: Vec<_> = wrapper.iter().map(|word| word.to_string()).collect();
        let addresses: Vec<_> = STAGES.into_iter().map(|stage| (stage, scratch::free())).collect();
        let (data, log) = (scratch(), Arc::default());
        let own = |name: &str, value: String| (format!("FIRSTLINE__{name}"), value);
        let mut variables = vec![own("SERVER__DATA_DIR", data.path().display().to_string())];
        for (stage, address) in &addresses {
            let stage = stage.to_uppercase();
            variables.push(own(&format!("SERVER__LISTEN__{stage}"), address.to_string()));
            variables.push(own(&format!("SERVER__ADMIN__{stage}"), String::new()));
        }
        variables.extend(more.iter().map(|(name, value)| (name.to_string(), value.to_string())));
        let url = url(&addresses, "orchestrator");
        let bundle = bundle.to_owned();
        let (child, readers) = launch(&wrapper, arguments, &bundle, &data, &variables, &log);
        Self { url, data, wrapper, arguments, bundle, variables, child, addresses, log, readers }
    }

    /// Kills every process by SIGKILL and starts again in the same place.
    pub fn crash(&mut self) {
        let parent = self.child.id().to_string();
        let stages = Command::new("pgrep").args(["-P", &parent]).output().unwrap().stdout;
        // Its supervisor first, so that no stage is started again.
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        let stages = String::from_utf8(stages).unwrap();
        // One that has seen the end of its supervisor may be gone already.
        let _ = Command::new("kill").arg("-9").args(stages.split_whitespace()).stderr(Stdio::null()).status();
        self.readers.drain(..).for_each(|reader| reader.join().unwrap());
        (self.child, self.readers) =
            launch(&self.wrapper, self.arguments, &self.bundle, &self.data, &self.variables, &self.log);
    }

    /// Stops in order, by SIGTERM, and starts again in the same place; the exit code and the time that the end took.
    pub(crate) fn restart(&mut self) -> (Option<i32>, Duration) {
        let start = Instant::now();
        let (code, _) = self.end();
        let took = start.elapsed();
        (self.child, self.readers) =
            launch(&self.wrapper, self.arguments, &self.bundle, &self.data, &self.variables, &self.log);
        (code, took)
    }

    /// All that was printed so far.
    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
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

    /// Stops the program itself where it stands, by SIGSTOP, for some time.
    pub fn freeze_for(&self, time: Duration) {
        let signal =
            |signal: &str| Command::new("kill").args([signal, &self.child.id().to_string()]).status();
        assert!(signal("-STOP").unwrap().success());
        std::thread::sleep(time);
        assert!(signal("-CONT").unwrap().success());
    }

    /// Process ids of the stages, in the order of [`STAGES`].
    pub fn pids(&self) -> Vec<u32> {
        STAGES.iter().map(|stage| self.pid(stage).parse().unwrap()).collect()
    }

    /// Where a stage serves.
    pub fn url_of(&self, stage: &str) -> String {
        url(&self.addresses, stage)
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
        let pid = match self.wrapper.as_slice() {
            [] => self.child.id().to_string(),
            _ => self.pid("firstline"),
        };
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        let code = self.child.wait().unwrap().code();
        self.readers.drain(..).for_each(|reader| reader.join().unwrap());
        (code, self.log.lock().unwrap().clone())
    }
}

/// Starts the program and returns when it says that it listens, with the threads that keep what it prints.
fn launch(
    wrapper: &[String],
    arguments: &[&str],
    bundle: &Path,
    data: &TempDir,
    variables: &[(String, String)],
    log: &Arc<Mutex<String>>,
) -> (Child, Vec<JoinHandle<()>>) {
    let mut command = wrapped(wrapper, "firstline");
    command.args(arguments).arg("--bundle").arg(bundle).current_dir(data.path());
    command.envs(variables.iter().map(|(name, value)| (name, value))).stdin(Stdio::null());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    loop {
        let line =
            lines.next().unwrap_or_else(|| panic!("it did not start: {}", log.lock().unwrap())).unwrap();
        log.lock().unwrap().push_str(&format!("{line}\n"));
        if line.contains("the assistant is listening") {
            break;
        }
    }
    // Someone must read what follows, or the writers stop at a full pipe.
    let output = BufReader::new(child.stdout.take().unwrap()).lines();
    (child, vec![collect(lines, log.clone()), collect(output, log.clone())])
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

/// CPU time of processes so far, in microseconds (`utime` and `stime` of proc(5), 100 ticks a second).
pub fn cpu_us(pids: &[u32]) -> f64 {
    let ticks = |pid: &u32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        [11, 12].iter().filter_map(|index| fields.get(*index)?.parse::<f64>().ok()).sum::<f64>()
    };
    pids.iter().map(ticks).sum::<f64>() * 10_000.0
}

/// MiB of memory that a process has now.
pub fn memory_mib(pid: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<f64>().ok()).unwrap_or_default() / 1024.0
}

/// Starts `firstline up` with the built demo bundle, and says how long it took until it listened.
pub fn cold_start() -> Duration {
    let data = scratch();
    let mut command = command("firstline");
    command.args(["up", "--listen", "127.0.0.1:0", "--bundle"]).arg(demo()).current_dir(data.path());
    command.env("FIRSTLINE__SERVER__ADMIN__ORCHESTRATOR", "").stdin(Stdio::null()).stderr(Stdio::piped());
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

fn url(addresses: &[(&str, SocketAddr)], stage: &str) -> String {
    format!("http://{}", addresses.iter().find(|(name, _)| *name == stage).unwrap().1)
}
