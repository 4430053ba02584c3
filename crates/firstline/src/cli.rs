//! Commands and flags.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};
use kit::config::Settings;
use proto::ExplainTurnRequest;

use crate::artefact::ArtefactCommand;
use crate::ask::{AskArgs, Who};
use crate::customer::CustomerArgs;
use crate::eval::EvalCommand;
use crate::simulate::SimulateArgs;
use crate::{desk, executions, rollout};

/// Customer support that answers, acts, or hands over to a person.
#[derive(Parser)]
#[command(
    name = "firstline",
    version,
    about = "Customer support that answers, acts, or hands over to a person.",
    arg_required_else_help = true,
    subcommand_negates_reqs = true
)]
struct Cli {
    /// Configuration file; default: $FIRSTLINE_CONFIG, else firstline.toml in the working directory
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print one JSON object, or one a line for a batch
    #[arg(long, global = true)]
    json: bool,
    /// Ask the running assistant for its health and exit with 0 when it serves, 1 otherwise; in place of a command
    #[arg(long, required = true)]
    health: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Make, check and build assistant bundles
    #[command(subcommand)]
    Bundle(BundleCommand),
    /// Run all stages: in this process, or each as its own
    Up {
        /// Folder of the bundle; default: server.bundle
        #[arg(long, value_name = "DIR")]
        bundle: Option<PathBuf>,
        /// Each stage as its own process over loopback TCP, restarted when it dies
        #[arg(long)]
        processes: bool,
        /// Address of the assistant; default: server.listen.orchestrator, 127.0.0.1:7700
        #[arg(long, value_name = "ADDRESS")]
        listen: Option<SocketAddr>,
    },
    /// Ask one question, or a file of them
    Ask(AskArgs),
    /// Chat in the terminal
    Chat {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        who: Who,
    },
    /// Bring the tables of the stores up to date, before stages of a new version start; they do it by themselves too
    Migrate,
    /// Everything that was decided in a turn, and why
    Explain {
        /// Id of the turn
        turn_id: String,
        #[command(flatten)]
        target: Target,
    },
    /// The same for the turn of a trace, as a log line or a dashboard names it
    Trace {
        /// W3C id of the trace, 32 hexadecimal digits
        trace_id: String,
        #[command(flatten)]
        target: Target,
    },
    /// Configuration, bundle, health of the stages and model endpoint, in plain words
    Doctor {
        #[command(flatten)]
        target: Target,
    },
    /// The desk: conversations that wait for a person, at a running assistant
    #[command(subcommand)]
    Handoff(desk::HandoffCommand),
    /// Executions of workflows, at a running workflow stage
    #[command(subcommand)]
    Workflow(executions::WorkflowCommand),
    /// The figures of a window, each with its interval and what it is out of, at a running telemetry stage
    Metrics(crate::metrics::MetricsArgs),
    /// What is spent, saved and to be expected, at a running telemetry stage
    Cost(crate::cost::CostArgs),
    /// Replicas, cores, memory and money for so many turns a second, and what breaks first
    Capacity(crate::capacity::CapacityArgs),
    /// Whom the assistant is switched on for: stages, guards, automatic rollback
    #[command(subcommand)]
    Rollout(rollout::RolloutCommand),
    /// Whether the promises hold: every message one outcome, no effect twice, no handoff lost; reads the stores
    Audit(crate::audit::AuditArgs),
    /// Delete all that is held of a customer, at a running assistant
    Forget(CustomerArgs),
    #[command(flatten)]
    Data(crate::data::DataCommand),
    /// What the controller of a rollout does with customers that are made up: false alarms, detections, a report
    Simulate(SimulateArgs),
    /// Measure a stage, or the whole assistant, on a data set
    #[command(subcommand)]
    Eval(EvalCommand),
    /// Read one document from standard input under limits; a part of `bundle new`
    #[command(hide = true)]
    IngestOne {
        /// html, pdf, docx or sitemap
        format: String,
    },
    /// A local receiver for workflow requests: verifies signatures, takes every key once, answers with a reference
    Receive {
        /// Address to listen on
        #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:7790")]
        listen: SocketAddr,
        /// Signing secret, as in workflow.targets.NAME.secret
        #[arg(long, env = "FIRSTLINE_RECEIVE_SECRET", hide_env_values = true)]
        secret: String,
    },
}

#[derive(Subcommand)]
enum BundleCommand {
    /// A new assistant from existing material
    New {
        /// Folder to create
        dir: PathBuf,
        /// Articles: a .md, .txt, .html, .pdf, .docx or .jsonl file, a folder of them, or a saved website
        /// with its sitemap.xml
        #[arg(long, value_name = "FILE_OR_DIR")]
        kb: PathBuf,
        /// Examples: JSONL of {"text", "intent" or null}, or a folder of such files, one a category
        #[arg(long, value_name = "FILE_OR_DIR")]
        intents: PathBuf,
        /// Name of the assistant; default: the folder's
        #[arg(long)]
        name: Option<String>,
        /// Audience of articles that do not say theirs
        #[arg(long, value_enum, default_value_t = AudienceArg::Public)]
        audience: AudienceArg,
    },
    /// Validate every file; problems as file:line: what, allowed range
    Check {
        /// Folder of the bundle
        dir: PathBuf,
    },
    /// Train the classifier and build the index; nothing is redone when nothing changed
    Build {
        /// Folder of the bundle
        dir: PathBuf,
    },
    /// Advice: intents taken for one another, mislabelled and missing examples, articles that answer nothing,
    /// questions that no article answers
    Lint {
        /// Folder of the bundle
        dir: PathBuf,
        /// Fail when there is any finding
        #[arg(long)]
        strict: bool,
    },
    #[command(flatten)]
    Artefact(ArtefactCommand),
}

#[derive(Clone, Copy, ValueEnum)]
enum AudienceArg {
    Public,
    Internal,
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum TierArg {
    Linear,
    Dense,
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum RailArg {
    Input,
    Passages,
}

impl From<RailArg> for safety::Rail {
    fn from(rail: RailArg) -> Self {
        match rail {
            RailArg::Input => Self::Input,
            RailArg::Passages => Self::Passages,
        }
    }
}

/// Which assistant is meant.
#[derive(Args, Clone)]
pub(crate) struct Target {
    /// Folder of a bundle to run in this process; default: server.bundle, which is the demo
    #[arg(long, value_name = "DIR", conflicts_with = "endpoint")]
    pub(crate) bundle: Option<PathBuf>,
    /// URL of a running assistant, for example http://127.0.0.1:7700
    #[arg(long, value_name = "URL")]
    pub(crate) endpoint: Option<String>,
}

#[derive(Args)]
pub(crate) struct GoldenArgs {
    /// Folder of the bundle; default: server.bundle, which is the demo
    #[arg(long, value_name = "DIR")]
    pub(crate) bundle: Option<PathBuf>,
    /// JSONL of {"text", "kind", "outcome", "intent"?, "documents"?, ..}; default: the bundle's eval/questions.jsonl
    #[arg(long, value_name = "FILE")]
    pub(crate) questions: Option<PathBuf>,
    /// Also write a page to read in a browser; default: the questions' name with -report.html, here
    #[arg(long, value_name = "FILE.html", num_args = 0..=1)]
    pub(crate) report: Option<Option<PathBuf>>,
    /// Fail when the share of correct questions is below: 0 to 1, or a file of an earlier run's --json
    #[arg(long, value_name = "SHARE_OR_FILE")]
    pub(crate) floor: Option<String>,
}

/// Parses the arguments and runs the command: 0 done, 1 failed, 2 wrong usage.
pub fn run() -> ExitCode {
    let cli = Cli::parse();
    kit::run::install_tls();
    let json = cli.json;
    match dispatch(cli) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) if json => {
            crate::show::line(
                &serde_json::json!({ "error": { "message": format!("{error:#}") } }).to_string(),
            );
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("firstline: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(cli: Cli) -> anyhow::Result<bool> {
    let Cli { config, json, health, command } = cli;
    let Some(command) = command.filter(|_| !health) else {
        let server = Settings::discover(config.as_deref())?.server()?;
        let address = server.admin.orchestrator.0.unwrap_or(server.listen.orchestrator);
        return kit::run::runtime(1)?.block_on(kit::run::health(address)).map(|()| true);
    };
    match command {
        Command::Bundle(BundleCommand::New { dir, kb, intents, name, audience }) => {
            let audience = match audience {
                AudienceArg::Public => bundle::Audience::Public,
                AudienceArg::Internal => bundle::Audience::Internal,
            };
            crate::bundles::new(&dir, &kb, &intents, name.as_deref(), audience, json)
        }
        Command::Bundle(BundleCommand::Check { dir }) => crate::bundles::check(&dir, json),
        Command::Bundle(BundleCommand::Build { dir }) => {
            crate::bundles::build_command(&dir, &Settings::discover(config.as_deref())?, json)
        }
        Command::Bundle(BundleCommand::Lint { dir, strict }) => {
            crate::lint::lint(&dir, &Settings::discover(config.as_deref())?, strict, json)
        }
        Command::IngestOne { format } => crate::bundles::ingest_one(&format),
        Command::Simulate(args) => crate::simulate::simulate(&args, json),
        Command::Eval(EvalCommand::Intents { train, val, test, tier }) => {
            let encoder = crate::eval::encoder(&Settings::discover(config.as_deref())?, tier)?;
            crate::eval::intents(encoder.as_ref(), &train, val.as_deref(), &test, json)
        }
        Command::Eval(EvalCommand::Handoff { test, tier }) => {
            let encoder = crate::eval::encoder(&Settings::discover(config.as_deref())?, tier)?;
            crate::eval::handoff(encoder.as_ref(), &test, json)
        }
        Command::Eval(EvalCommand::Safety { test, bundle, rail, tier }) => {
            let settings = Settings::discover(config.as_deref())?;
            let encoder = crate::eval::encoder(&settings, tier)?;
            crate::eval::safety(&settings, encoder.as_ref(), bundle.as_deref(), rail.into(), &test, json)
        }
        Command::Eval(EvalCommand::Retrieval { beir, tier }) => {
            let settings = Settings::discover(config.as_deref())?;
            let encoder = crate::eval::encoder(&settings, tier)?;
            crate::eval::retrieval(&settings, encoder, &beir, json)
        }
        Command::Eval(EvalCommand::Grounding { test, dev }) => {
            crate::eval::grounding(&Settings::discover(config.as_deref())?, &test, dev.as_deref(), json)
        }
        Command::Eval(EvalCommand::Pii { test }) => crate::eval::pii(&test, json),
        command => {
            let settings = Settings::discover(config.as_deref())?;
            kit::run::runtime(settings.server()?.worker_threads)?
                .block_on(serve(settings, command, json, config))
        }
    }
}

async fn serve(
    settings: Settings,
    command: Command,
    json: bool,
    config: Option<PathBuf>,
) -> anyhow::Result<bool> {
    match command {
        Command::Up { bundle, processes, listen } => {
            let guard = kit::telemetry::init("firstline", "info")?;
            let up = crate::up::Up { settings, config, bundle, listen, json };
            let result = if processes {
                Box::pin(up.processes()).await
            } else {
                Box::pin(up.in_process(guard.metrics.clone())).await
            };
            tokio::task::spawn_blocking(|| guard.shutdown()).await?;
            result.map(|()| true)
        }
        command => {
            let guard = kit::telemetry::init("firstline", "error")?;
            let result = match command {
                Command::Ask(args) => Box::pin(crate::ask::ask(settings, args, json)).await,
                Command::Chat { target, who } => {
                    Box::pin(crate::chat::chat(settings, target, who, json)).await
                }
                Command::Explain { turn_id, target } => {
                    let request = ExplainTurnRequest { turn_id, ..ExplainTurnRequest::default() };
                    Box::pin(crate::ask::explain(settings, target, request, json)).await
                }
                Command::Trace { trace_id, target } => {
                    let request = ExplainTurnRequest { trace_id, ..ExplainTurnRequest::default() };
                    Box::pin(crate::ask::explain(settings, target, request, json)).await
                }
                Command::Bundle(BundleCommand::Artefact(command)) => {
                    crate::artefact::run(&settings, command, json).await
                }
                Command::Migrate => crate::migrate::migrate(&settings, json).await,
                Command::Metrics(args) => Box::pin(crate::metrics::run(&settings, args, json)).await,
                Command::Capacity(args) => crate::capacity::run(&settings, &args, json),
                Command::Cost(args) => Box::pin(crate::cost::run(&settings, args, json)).await,
                Command::Audit(args) => Box::pin(crate::audit::run(&settings, args, json)).await,
                Command::Forget(args) => Box::pin(crate::customer::forget(&settings, args, json)).await,
                Command::Data(command) => Box::pin(crate::data::run(&settings, command, json)).await,
                Command::Handoff(command) => Box::pin(desk::handoff(&settings, command, json)).await,
                Command::Workflow(command) => Box::pin(executions::workflow(&settings, command, json)).await,
                Command::Rollout(command) => Box::pin(rollout::rollout(&settings, command, json)).await,
                Command::Doctor { target } => Box::pin(crate::doctor::doctor(settings, target, json)).await,
                Command::Receive { listen, secret } => {
                    crate::receive::receive(listen, &secret, json).await.map(|()| true)
                }
                Command::Eval(EvalCommand::Assistant(args)) => {
                    Box::pin(crate::golden::assistant(settings, args, json)).await
                }
                Command::Eval(EvalCommand::Tokens(args)) => {
                    Box::pin(crate::tokens::tokens(settings, args, json)).await
                }
                Command::Bundle(_)
                | Command::Eval(_)
                | Command::IngestOne { .. }
                | Command::Simulate(_)
                | Command::Up { .. } => Ok(true),
            };
            tokio::task::spawn_blocking(|| guard.shutdown()).await?;
            result
        }
    }
}
