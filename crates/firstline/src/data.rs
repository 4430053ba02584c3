//! What is held of turns and customers: to look into, to hand out, and for later training.

mod conversation;
mod example;
mod export;
mod feedback;
mod filter;
mod gaps;
mod queue;
mod slow;
mod window;
mod write;

use clap::Subcommand;
use kit::config::{Server, Settings};

#[derive(Subcommand)]
pub(crate) enum DataCommand {
    /// Say how a turn or conversation was, what a person answered, or which intent it is; at a running assistant
    Feedback(feedback::FeedbackArgs),
    /// Turns that were drawn for people to label, at a running telemetry stage
    #[command(subcommand)]
    AuditQueue(queue::QueueCommand),
    /// All that is held of a customer, at a running assistant; or examples for training, at a running telemetry stage
    Export(export::ExportArgs),
    /// The turns that took longest, and where their time went, at a running telemetry stage
    Slow(slow::SlowArgs),
    /// What customers asked and did not get from the bot, alike questions together, at a running telemetry stage
    Gaps(gaps::GapsArgs),
}

/// Where telemetry is, unless said.
fn telemetry_at(server: &Server) -> String {
    server.endpoints.telemetry.clone()
}

/// A short name of a text; at a million of them two share one with a chance below 3 in 10^8.
fn short(text: &str) -> u64 {
    blake3::hash(text.as_bytes()).as_bytes().iter().take(8).fold(0, |id, byte| id << 8 | u64::from(*byte))
}

/// Runs one of these commands.
pub(crate) async fn run(settings: &Settings, command: DataCommand, as_json: bool) -> anyhow::Result<bool> {
    match command {
        DataCommand::Feedback(args) => feedback::feedback(settings, args, as_json).await,
        DataCommand::AuditQueue(command) => queue::queue(settings, command, as_json).await,
        DataCommand::Gaps(args) => gaps::gaps(settings, args, as_json).await,
        DataCommand::Slow(args) => slow::slow(settings, args, as_json).await,
        DataCommand::Export(args) => export::export(settings, args, as_json).await,
    }
}
