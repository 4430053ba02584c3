//! The main function of a stage process.

use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::config::{Config, Settings};
use crate::link::Links;
use crate::serve::{Context, Doors, Stage, serve};
use crate::telemetry;

#[derive(Parser)]
#[command(about = "A stage of Firstline as a gRPC service.", version)]
struct Flags {
    /// Configuration file; default: $FIRSTLINE_CONFIG, else firstline.toml in the working directory
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Address to listen on; wins over [server.listen]
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// Ask the running stage for its health and exit with 0 when it serves, 1 otherwise
    #[arg(long)]
    health: bool,
    /// Stop when standard input ends: a supervised stage does not outlive its supervisor
    #[arg(long)]
    supervised: bool,
}

/// Runs a stage: flags, configuration, logs, listener, drain. The exit code is 0 after an orderly stop,
/// 1 when it could not start, with the reason in one line on stderr, and 2 for wrong flags.
pub fn run<C, S, F>(name: &'static str, service: S) -> ExitCode
where
    C: Config,
    S: FnOnce(C, Context) -> F,
    F: Future<Output = anyhow::Result<Stage>>,
{
    let flags = Flags::parse();
    match start(name, flags, service) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{name}: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start<C, S, F>(name: &'static str, flags: Flags, service: S) -> anyhow::Result<()>
where
    C: Config,
    S: FnOnce(C, Context) -> F,
    F: Future<Output = anyhow::Result<Stage>>,
{
    let settings = Settings::discover(flags.config.as_deref())?;
    let mut server = settings.server()?;
    let config = settings.table::<C>(name)?;
    let listen = server.listen.of(name).with_context(|| format!("{name} is no stage"))?;
    let address = *flags.listen.as_ref().unwrap_or(listen);
    let admin = *server.admin.of(name).with_context(|| format!("{name} is no stage"))?;
    runtime(server.worker_threads)?.block_on(async {
        if flags.health {
            // The admin port speaks plain text, whatever the other one does.
            return health(admin.0.unwrap_or(address)).await;
        }
        let guard = telemetry::init(name, "info")?;
        install_tls();
        let doors = Doors::open(address, admin, name).await?;
        let (shutdown, metrics) = (CancellationToken::new(), guard.metrics.clone());
        let mut context = Context { server, shutdown: shutdown.clone(), metrics, ..Context::default() };
        context.links = Links::remote(&context.server, &context)?;
        let stage = service(config, context.clone()).await?;
        let stop = stop_signal(flags.supervised)?;
        context.tasks.spawn(shutdown.clone().run_until_cancelled_owned(async move {
            stop.await;
            shutdown.cancel();
        }));
        tracing::info!(stage = name, %address, bundle = %context.server.bundle.display(), "serving");
        let served = serve(doors, stage, &context).await;
        context.finish().await;
        tokio::task::spawn_blocking(|| guard.shutdown()).await?;
        served
    })
}

/// A runtime with that many threads; 0 means one a core, 1 runs everything on the calling thread.
///
/// # Errors
/// The system refuses threads.
pub fn runtime(worker_threads: usize) -> std::io::Result<tokio::runtime::Runtime> {
    let mut builder = match worker_threads {
        1 => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    if worker_threads > 1 {
        builder.worker_threads(worker_threads);
    }
    builder.enable_all().build()
}

/// Makes ring the provider of TLS for this process; a second call changes nothing.
pub fn install_tls() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// Binds the address of a stage.
///
/// # Errors
/// The port is taken or the address is not of this machine, with the key to change.
pub async fn bind(address: SocketAddr, stage: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address} (server.listen.{stage}, or --listen)"))
}

/// Asks the process whose admin port that is, or which listens there in plain text, whether it serves.
///
/// # Errors
/// No answer, or another one than that it serves.
pub async fn health(address: SocketAddr) -> anyhow::Result<()> {
    let channel = tonic::transport::Endpoint::from_shared(format!("http://{address}"))?.connect_lazy();
    let request = HealthCheckRequest { service: String::new() };
    let response = HealthClient::new(channel).check(request).await.context("no answer")?.into_inner();
    anyhow::ensure!(response.status() == ServingStatus::Serving, "is {}", response.status().as_str_name());
    Ok(())
}

/// Resolves on SIGTERM or SIGINT; when supervised, only at the end of standard input: a signal to the
/// group reaches the supervisor too, which stops the stages in their order.
///
/// # Errors
/// The system refuses a signal handler or a thread.
pub fn stop_signal(supervised: bool) -> anyhow::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let (orphaned, orphan) = tokio::sync::oneshot::channel();
    if supervised {
        // A thread of its own: a runtime waits for its blocking reads when it ends, and this one may never end.
        std::thread::Builder::new().name("supervised".to_owned()).spawn(move || {
            let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
            let _ = orphaned.send(());
        })?;
    }
    Ok(async move {
        if supervised {
            // The handlers stay in place, so that a signal does not end the process by default.
            let _ = orphan.await;
            drop((term, int));
            return;
        }
        tokio::select! {
            _ = term.recv() => (),
            _ = int.recv() => (),
        }
    })
}
