//! The checker: reads what callers and receivers saw and what the stores hold, and says which promises are broken.
//!
//! It knows the tables, not the code that fills them, so that a fault of that code does not hide itself. The
//! numbers of the promises are those of ARCHITECTURE.md, "Promises".

mod check;
mod history;
mod rollout;
mod stores;

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde::Serialize;

pub use history::{Event, History};

/// Why there is no verdict.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A store cannot be read.
    #[error("{stage}: {source}")]
    Store {
        /// Whose store.
        stage: &'static str,
        /// Why.
        #[source]
        source: sql::Error,
    },
    /// A file cannot be read.
    #[error("cannot read {0}: {1}")]
    File(PathBuf, #[source] std::io::Error),
    /// A line of the history is no event.
    #[error("{0}:{1}: {2}")]
    Line(PathBuf, usize, #[source] serde_json::Error),
}

/// What is looked at.
#[derive(Debug)]
pub struct Scope {
    /// The orchestrator's tables.
    pub orchestrator: sql::Source,
    /// The workflow stage's tables.
    pub workflow: sql::Source,
    /// Telemetry's tables.
    pub telemetry: sql::Source,
    /// Workflows whose requests a receiver takes twice for one.
    pub idempotent: BTreeSet<String>,
    /// Workflows of high risk, which a person has to approve.
    pub risky: BTreeSet<String>,
    /// What callers and receivers saw.
    pub history: History,
    /// Logs of the processes.
    pub logs: Vec<PathBuf>,
    /// Only what was accepted later, in microseconds since the Unix epoch.
    pub since: i64,
}

/// Ends the name of what undoes a workflow, and of its executions.
const UNDO: &str = "/undo";

/// The workflows, and what undoes them, whose requests a receiver takes twice for one.
pub fn idempotent(workflows: &[bundle::Workflow]) -> BTreeSet<String> {
    let idempotent = |effect: bundle::Effect| effect == bundle::Effect::Idempotent;
    let named = workflows.iter().filter(|workflow| idempotent(workflow.effect)).map(|w| w.name.clone());
    let undone = workflows
        .iter()
        .filter(|workflow| workflow.compensation.as_ref().is_some_and(|undo| idempotent(undo.effect)));
    named.chain(undone.map(|workflow| format!("{}{UNDO}", workflow.name))).collect()
}

/// The workflows that a person has to approve.
pub fn risky(workflows: &[bundle::Workflow]) -> BTreeSet<String> {
    let risky = workflows.iter().filter(|workflow| workflow.risk == bundle::Risk::High);
    risky.map(|workflow| workflow.name.clone()).collect()
}

/// One promise, looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Number of the promise, such as "I1".
    pub promise: &'static str,
    /// The promise in words.
    pub says: &'static str,
    /// How many things it was looked up for.
    pub looked_at: usize,
    /// What breaks it, a line each.
    pub broken: Vec<String>,
}

/// Looks at everything.
///
/// # Errors
/// A store or a file that cannot be read.
pub async fn run(scope: Scope) -> Result<Vec<Finding>, Error> {
    let stores = stores::Stores::read(&scope).await?;
    check::all(&scope, &stores)
}
