//! The stages as processes of their own: started, restarted when they die, stopped together.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use kit::config::{STAGES, Server};
use tokio::process::{Child, ChildStdin, Command};
use tokio_util::sync::CancellationToken;

const START_WITHIN: Duration = Duration::from_secs(30);
const CHECK: Duration = Duration::from_secs(1);
const POLL: Duration = Duration::from_millis(20);
/// A stage that dies sooner after its start waits before the next one; doubled up to the longest.
const HEALTHY_AFTER: Duration = Duration::from_secs(10);
const RESTART_FROM: Duration = Duration::from_millis(50);
const RESTART_UP_TO: Duration = Duration::from_secs(5);

/// A stage process. Its standard input is held apart, since waiting for a child closes it, and its end asks
/// the stage to stop.
struct Running {
    child: Child,
    stdin: Option<ChildStdin>,
}

/// Starts and watches the seven stage processes.
pub(crate) struct Supervisor {
    server: Server,
    bundle: PathBuf,
    config: Option<PathBuf>,
    binaries: PathBuf,
    shutdown: CancellationToken,
}

impl Supervisor {
    pub(crate) fn new(
        server: Server,
        bundle: PathBuf,
        config: Option<PathBuf>,
        shutdown: CancellationToken,
    ) -> anyhow::Result<Self> {
        let exe = std::env::current_exe().context("cannot find this binary")?;
        let binaries = exe.parent().unwrap_or(Path::new(".")).to_owned();
        let mut admin = server.admin.clone();
        for stage in STAGES {
            let binary = binaries.join(stage);
            anyhow::ensure!(binary.exists(), "{} is missing; `make build` makes it", binary.display());
            let is_seen = server.scheme() == "http" || admin.of(stage).is_some_and(|admin| admin.0.is_some());
            anyhow::ensure!(
                is_seen,
                "server.admin.{stage} is empty; with server.tls it needs IP:PORT, since health is asked there"
            );
        }
        Ok(Self { server, bundle, config, binaries, shutdown })
    }

    /// Runs until the shutdown: the stages first, then the orchestrator, which stops first.
    pub(crate) async fn run(mut self, ready: impl FnOnce()) -> anyhow::Result<()> {
        // A taken port is found before anything starts: another server there would look like a healthy stage.
        for stage in STAGES {
            drop(kit::run::bind(self.address(stage)?, stage).await?);
        }
        let (behind, front) = STAGES.split_at(STAGES.len() - 1);
        let mut started = Vec::new();
        for stage in behind {
            started.push((*stage, self.start(stage)?));
        }
        let result = self.watch(started, front[0], ready).await;
        self.shutdown.cancel();
        result
    }

    async fn watch(
        &mut self,
        behind: Vec<(&'static str, Running)>,
        front: &'static str,
        ready: impl FnOnce(),
    ) -> anyhow::Result<()> {
        let mut watched = Vec::new();
        for (stage, mut running) in behind {
            self.healthy(stage, &mut running.child).await?;
            watched.push((stage, running));
        }
        let mut running = self.start(front)?;
        self.healthy(front, &mut running.child).await?;
        ready();
        let stop_front = self.shutdown.clone();
        let stop_behind = CancellationToken::new();
        let front = async {
            self.keep(front, running, &stop_front).await;
            stop_behind.cancel();
        };
        let behind = watched.into_iter().map(|(stage, running)| self.keep(stage, running, &stop_behind));
        tokio::join!(front, futures::future::join_all(behind));
        Ok(())
    }

    /// Keeps one stage running until `stop`, then asks it to end and waits for its drain.
    async fn keep(&self, stage: &'static str, mut running: Running, stop: &CancellationToken) {
        let mut pause = RESTART_FROM;
        loop {
            let since = Instant::now();
            let ended = stop.run_until_cancelled(running.child.wait()).await;
            let Some(ended) = ended else { return self.end(stage, running).await };
            let status = ended.map_or_else(|error| error.to_string(), |status| status.to_string());
            tracing::warn!(stage, status, "a stage ended and is started again");
            if since.elapsed() > HEALTHY_AFTER {
                pause = RESTART_FROM;
            }
            match stop.run_until_cancelled(self.restart(stage, &mut pause)).await {
                None => return,
                Some(again) => running = again,
            }
        }
    }

    async fn restart(&self, stage: &'static str, pause: &mut Duration) -> Running {
        loop {
            tokio::time::sleep(*pause).await;
            *pause = (*pause * 2).min(RESTART_UP_TO);
            match self.start(stage) {
                Ok(running) => return running,
                Err(error) => tracing::error!(stage, %error, "a stage cannot be started, and is tried again"),
            }
        }
    }

    fn start(&self, stage: &'static str) -> anyhow::Result<Running> {
        let mut command = Command::new(self.binaries.join(stage));
        if let Some(config) = &self.config {
            command.arg("--config").arg(config);
        }
        command
            .arg("--supervised")
            .args(["--listen", &self.address(stage)?.to_string()])
            .env("FIRSTLINE__SERVER__BUNDLE", &self.bundle)
            .envs(self.endpoints()?)
            .stdin(Stdio::piped())
            .kill_on_drop(true);
        let mut child = command.spawn().with_context(|| format!("cannot start {stage}"))?;
        let stdin = child.stdin.take();
        Ok(Running { child, stdin })
    }

    /// The orchestrator finds the stages where this supervisor starts them.
    fn endpoints(&self) -> anyhow::Result<Vec<(String, String)>> {
        let endpoint = |(stage, _): (&'static str, &str)| {
            let name = format!("FIRSTLINE__SERVER__ENDPOINTS__{}", stage.to_uppercase());
            Ok((name, format!("{}://{}", self.server.scheme(), self.address(stage)?)))
        };
        self.server.endpoints.iter().map(endpoint).collect()
    }

    fn address(&self, stage: &str) -> anyhow::Result<SocketAddr> {
        let mut listen = self.server.listen.clone();
        listen.of(stage).copied().with_context(|| format!("{stage} is no stage"))
    }

    /// Waits until a stage serves; its own line on stderr says why when it does not.
    async fn healthy(&self, stage: &'static str, child: &mut Child) -> anyhow::Result<()> {
        let (address, mut admin) = (self.address(stage)?, self.server.admin.clone());
        // The admin port speaks plain text, whatever the other one does.
        let address = admin.of(stage).and_then(|admin| admin.0).unwrap_or(address);
        let start = Instant::now();
        while start.elapsed() < START_WITHIN {
            if let Some(status) = child.try_wait()? {
                anyhow::bail!("{stage} did not start: {status}");
            }
            anyhow::ensure!(!self.shutdown.is_cancelled(), "stopped while {stage} was starting");
            if let Ok(Ok(())) = tokio::time::timeout(CHECK, kit::run::health(address)).await {
                return Ok(());
            }
            tokio::time::sleep(POLL).await;
        }
        anyhow::bail!("{stage} did not serve within {} s", START_WITHIN.as_secs())
    }

    /// Standard input ends, which asks a supervised stage to drain; what does not end in time is killed.
    async fn end(&self, stage: &'static str, running: Running) {
        let Running { mut child, stdin } = running;
        drop(stdin);
        let patience = Duration::from_millis(self.server.drain_ms) + Duration::from_secs(5);
        if tokio::time::timeout(patience, child.wait()).await.is_err() {
            tracing::warn!(stage, "a stage did not end in time and is killed");
            let _ = child.kill().await;
        }
    }
}
