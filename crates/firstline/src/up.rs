//! `firstline up`: the assistant as a server.

use std::net::SocketAddr;
use std::path::PathBuf;

use kit::config::Settings;
use kit::serve::Doors;
use tokio_util::sync::CancellationToken;

use crate::client::{bundle_dir, quoted};
use crate::mesh::Mesh;
use crate::supervise::Supervisor;

/// What `up` was asked for.
pub(crate) struct Up {
    pub(crate) settings: Settings,
    pub(crate) config: Option<PathBuf>,
    pub(crate) bundle: Option<PathBuf>,
    pub(crate) listen: Option<SocketAddr>,
    pub(crate) json: bool,
}

/// Says that the assistant listens: in the log, and with `--json` as an object on stdout.
fn ready(address: SocketAddr, dir: &std::path::Path, json: bool) {
    tracing::info!(%address, bundle = %dir.display(), "the assistant is listening");
    if json {
        crate::show::line(&serde_json::json!({ "listening": address, "bundle": dir }).to_string());
    }
}

impl Up {
    /// Builds what is missing and returns the bundle's folder and the address of the assistant.
    async fn prepare(&mut self) -> anyhow::Result<(PathBuf, SocketAddr)> {
        let server = self.settings.server()?;
        let dir = bundle_dir(&server.bundle, self.bundle.as_deref())?;
        crate::bundles::build(&dir, &server.encoder).await?;
        self.settings.set("server", "bundle", &quoted(&dir));
        Ok((dir, self.listen.unwrap_or(server.listen.orchestrator)))
    }

    /// All stages in this process.
    pub(crate) async fn in_process(mut self, metrics: kit::Metrics) -> anyhow::Result<()> {
        let (dir, address) = self.prepare().await?;
        let admin = self.settings.server()?.admin.orchestrator;
        let doors = Doors::open(address, admin, orchestrator::NAME).await?;
        let stop = kit::run::stop_signal(false)?;
        let mesh = Mesh::start(&self.settings, metrics).await?;
        stop_on(stop, &mesh.context.shutdown, &mesh.context.tasks);
        ready(doors.main.local_addr()?, &dir, self.json);
        let served = kit::serve::serve(doors, mesh.front(), &mesh.context).await;
        mesh.stop().await;
        served
    }

    /// Each stage as its own process.
    pub(crate) async fn processes(mut self) -> anyhow::Result<()> {
        let (dir, address) = self.prepare().await?;
        let mut server = self.settings.server()?;
        server.listen.orchestrator = address;
        let shutdown = CancellationToken::new();
        let tasks = tokio_util::task::TaskTracker::new();
        stop_on(kit::run::stop_signal(false)?, &shutdown, &tasks);
        let supervisor = Supervisor::new(server, dir.clone(), self.config, shutdown.clone())?;
        let ran = supervisor.run(|| ready(address, &dir, self.json));
        let ran = ran.await;
        shutdown.cancel();
        tasks.close();
        tasks.wait().await;
        ran
    }
}

fn stop_on(
    stop: impl Future<Output = ()> + Send + 'static,
    shutdown: &CancellationToken,
    tasks: &tokio_util::task::TaskTracker,
) {
    let token = shutdown.clone();
    tasks.spawn(shutdown.clone().run_until_cancelled_owned(async move {
        stop.await;
        token.cancel();
    }));
}
