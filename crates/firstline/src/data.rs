//! What later training needs: feedback and what is held of a customer, at a running assistant.

mod conversation;
mod example;
mod export;
mod feedback;
mod filter;
mod queue;
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
}

/// Where telemetry is, unless said.
fn telemetry_at(server: &Server) -> String {
    server.endpoints.telemetry.clone()
}

/// Runs one of these commands.
pub(crate) async fn run(settings: &Settings, command: DataCommand, as_json: bool) -> anyhow::Result<bool> {
    match command {
        DataCommand::Feedback(args) => feedback::feedback(settings, args, as_json).await,
        DataCommand::AuditQueue(command) => queue::queue(settings, command, as_json).await,
        DataCommand::Export(args) => export::export(settings, args, as_json).await,
    }
}
