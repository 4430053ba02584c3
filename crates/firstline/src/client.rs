//! The assistant as the commands see it: over the network, or in this process.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use kit::Link;
use kit::config::{Balance, Settings};
use proto::assistant_service_client::AssistantServiceClient;
use proto::{AskRequest, Message, Turn};
use tonic::{Code, Status};

use crate::cli::Target;
use crate::mesh::Mesh;

/// How long a turn is asked for again, with the same request id, while the assistant is not there.
const PATIENCE: Duration = Duration::from_secs(30);
/// The same before the first answer, when most likely nobody is there.
const FIRST_PATIENCE: Duration = Duration::from_secs(3);
const PAUSE: Duration = Duration::from_millis(100);
pub(crate) const MAX_RESPONSE: usize = 16 << 20;

/// A way to an assistant.
pub(crate) struct Assistant {
    pub(crate) client: AssistantServiceClient<Link>,
    /// The stages of this process, and the lock that keeps other commands from their stores.
    mesh: Option<(Mesh, File)>,
    context: kit::Context,
    reached: AtomicBool,
}

impl Assistant {
    /// Connects to the endpoint, or starts the bundle in this process, building it first where needed.
    pub(crate) async fn open(settings: Settings, target: &Target) -> anyhow::Result<Self> {
        let server = settings.server()?;
        let Some(url) = &target.endpoint else {
            let dir = bundle_dir(&server.bundle, target.bundle.as_deref())?;
            return Self::start(settings, &dir, "cli").await;
        };
        let context = kit::Context { server, ..kit::Context::default() };
        let link = Link::remote(&address(url), Balance::Single, &context).context("--endpoint")?;
        Ok(Self::over(link, None, context))
    }

    /// Starts the bundle in this process, building it first where needed. Its stores are in a folder of that
    /// name below `server.data_dir`, apart from those of a server on the same machine.
    pub(crate) async fn start(mut settings: Settings, dir: &Path, stores: &str) -> anyhow::Result<Self> {
        let server = settings.server()?;
        crate::bundles::build(dir, &server.encoder).await?;
        settings.set("server", "bundle", &quoted(dir));
        let data = server.data_dir.join(stores);
        let alone = alone(&data).await?;
        settings.set("server", "data_dir", &quoted(&data));
        settings.set("server", "database.url", "\"\"");
        let mesh = Box::pin(Mesh::start(&settings, kit::Metrics::default())).await?;
        let context = mesh.context.clone();
        Ok(Self::over(Link::local(&mesh.assistant), Some((mesh, alone)), context))
    }

    fn over(link: Link, mesh: Option<(Mesh, File)>, context: kit::Context) -> Self {
        let client = AssistantServiceClient::new(link).max_decoding_message_size(MAX_RESPONSE);
        Self { client, mesh, context, reached: AtomicBool::new(false) }
    }

    /// One turn. While the assistant cannot be reached the same request is repeated: its id keeps it one turn.
    pub(crate) async fn ask(&self, mut message: Message) -> Result<Turn, Status> {
        let patience = if self.reached.load(Ordering::Relaxed) { PATIENCE } else { FIRST_PATIENCE };
        if message.request_id.is_empty() {
            message.request_id = format!("r_{}", uuid::Uuid::now_v7().simple());
        }
        let start = Instant::now();
        loop {
            let request = AskRequest { message: Some(message.clone()) };
            match self.client.clone().ask(request).await {
                Ok(response) => {
                    self.reached.store(true, Ordering::Relaxed);
                    let turn = response.into_inner().turn;
                    return turn.ok_or_else(|| Status::data_loss("the response has no turn"));
                }
                Err(status) if status.code() == Code::Unavailable && start.elapsed() < patience => {
                    tokio::time::sleep(PAUSE).await;
                }
                Err(status) => return Err(status),
            }
        }
    }

    pub(crate) async fn close(self) {
        let Self { client, mesh, context, .. } = self;
        drop(client);
        match mesh {
            Some((mesh, alone)) => {
                drop(context);
                // With the last link the stores are closed; only then may the next command have them.
                mesh.stop().await;
                drop(alone);
            }
            None => context.shutdown.cancel(),
        }
    }
}

/// Waits until no other command uses the stores of this folder.
async fn alone(data: &Path) -> anyhow::Result<File> {
    std::fs::create_dir_all(data)
        .with_context(|| format!("server.data_dir: cannot create {}", data.display()))?;
    let file = File::create(data.join("command.lock"))?;
    if file.try_lock().is_err() {
        eprintln!("waiting for another firstline command that uses {}", data.display());
    }
    tokio::task::spawn_blocking(move || file.lock().map(|()| file)).await?.context("server.data_dir")
}

/// A status in plain words: its own message without the boilerplate of its code.
pub(crate) fn plain(status: &Status) -> &str {
    match status.code() {
        Code::Unavailable if status.message().contains("connect") => "nobody answers at that address",
        Code::Unavailable if status.message().contains("h2 protocol error") => {
            "who answers does not speak gRPC in plain text: https:// where server.tls is on"
        }
        _ => status.message(),
    }
}

/// A URL, given as host:port too, as with other tools.
pub(crate) fn address(given: &str) -> String {
    if given.contains("://") { given.to_owned() } else { format!("http://{given}") }
}

/// A path as a value of the configuration.
pub(crate) fn quoted(path: &Path) -> String {
    toml::Value::String(path.display().to_string()).to_string()
}

/// The bundle a command means: the flag, the configuration, or the demo beside the binary's project.
pub(crate) fn bundle_dir(configured: &Path, flag: Option<&Path>) -> anyhow::Result<PathBuf> {
    if let Some(dir) = flag {
        return Ok(dir.to_owned());
    }
    let exe = std::env::current_exe().unwrap_or_default();
    let beside = exe.ancestors().skip(1).map(|folder| folder.join(configured));
    let found =
        std::iter::once(configured.to_owned()).chain(beside).find(|dir| dir.join("assistant.toml").exists());
    found.with_context(|| format!("server.bundle: {} is no bundle; pass --bundle DIR", configured.display()))
}
