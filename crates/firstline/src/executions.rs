//! `firstline workflow`: whoever is on call, over the network.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Subcommand;
use kit::Link;
use kit::config::{Server, Settings};
use proto::workflow_service_client::WorkflowServiceClient;
use proto::*;
use serde_json::{Value, json};

use crate::desk::{One, Person, Running, time, told, written};
use crate::show;

/// Executions asked for at once.
const PAGE: u32 = 500;

#[derive(Subcommand)]
pub(crate) enum WorkflowCommand {
    /// Those in a state, newest first
    List {
        /// Only in this state; "unknown" and "awaiting-approval" are those that a person has to look into
        #[arg(long, value_parser = ["proposed", "awaiting-approval", "approved", "dispatching", "done", "failed", "unknown", "cancelled"])]
        state: Option<String>,
        /// Only of this conversation
        #[arg(long, value_name = "ID", default_value = "")]
        conversation: String,
        /// Most of them, from 1
        #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
        limit: u32,
        #[command(flatten)]
        at: Running,
    },
    /// One with its slots, attempts and error
    Show {
        #[command(flatten)]
        of: One,
    },
    /// Record what a person found out about an unknown effect
    #[command(group(clap::ArgGroup::new("finding").required(true)))]
    Resolve {
        #[command(flatten)]
        of: One,
        #[command(flatten)]
        by: Person,
        /// The effect is there
        #[arg(long, group = "finding")]
        happened: bool,
        /// It is not
        #[arg(long, group = "finding")]
        did_not_happen: bool,
        /// How it was found out
        #[arg(long, value_name = "TEXT")]
        note: String,
    },
    /// Let one of high risk be done that its customer has confirmed
    Approve {
        #[command(flatten)]
        decided: Decided,
    },
    /// End one of high risk that its customer has confirmed; nothing is done
    Reject {
        #[command(flatten)]
        decided: Decided,
    },
    /// Try a workflow of a bundle: the gate's verdict and the request, without a stage and without sending it
    Try {
        #[command(flatten)]
        args: crate::rehearse::TryArgs,
    },
    /// Draft a workflow from an operation of an OpenAPI document, 3.0 or 3.1
    Import {
        /// The document, JSON or YAML
        file: PathBuf,
        /// Its operationId, or "METHOD /path"
        #[arg(long, value_name = "ID")]
        operation: String,
        /// Folder for the draft, such as the workflows/ of a bundle; default: standard output
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
    },
    /// Undo the effect of one that is done, as its workflow says in [compensation]; once
    Undo {
        #[command(flatten)]
        of: One,
        #[command(flatten)]
        by: Person,
        /// Why
        #[arg(long, value_name = "TEXT")]
        note: String,
        /// Do it; without, the question is shown and nothing is done
        #[arg(long)]
        yes: bool,
    },
}

fn default(server: &Server) -> String {
    server.endpoints.workflow.clone()
}

/// A person's decision.
#[derive(clap::Args)]
pub(crate) struct Decided {
    #[command(flatten)]
    of: One,
    #[command(flatten)]
    by: Person,
    /// Why
    #[arg(long, value_name = "TEXT")]
    note: String,
}

/// Runs a command on executions.
pub(crate) async fn workflow(
    settings: &Settings,
    command: WorkflowCommand,
    as_json: bool,
) -> anyhow::Result<bool> {
    match command {
        WorkflowCommand::List { state, conversation, limit, at } => {
            let (link, url) = at.link(settings, default)?;
            let state =
                state.map(|state| format!("EXECUTION_STATE_{}", state.to_uppercase().replace('-', "_")));
            let state = state.and_then(|state| ExecutionState::from_str_name(&state)).unwrap_or_default();
            let mut client = WorkflowServiceClient::new(link);
            let mut page = ListExecutionsRequest {
                conversation_id: conversation,
                state: state.into(),
                ..ListExecutionsRequest::default()
            };
            let mut left = limit;
            while left > 0 {
                page.page_size = left.min(PAGE);
                let found = client.list_executions(page.clone()).await;
                let found = found.map_err(|status| told(&status, &url))?.into_inner();
                found.executions.iter().for_each(|one| show::line(&listed(one, as_json)));
                left = left.saturating_sub(u32::try_from(found.executions.len()).unwrap_or(u32::MAX));
                if found.next_page_token.is_empty() {
                    break;
                }
                page.page_token = found.next_page_token;
            }
            Ok(true)
        }
        WorkflowCommand::Show { of: One { id, at } } => {
            let (link, url) = at.link(settings, default)?;
            let request = GetExecutionRequest { execution_id: id };
            let found = WorkflowServiceClient::new(link).get_execution(request).await;
            let found = found.map_err(|status| told(&status, &url))?.into_inner().execution;
            show::line(&written(&execution(&found.context("the response has no execution")?), as_json));
            Ok(true)
        }
        WorkflowCommand::Resolve { of: One { id, at }, by, happened, did_not_happen: _, note } => {
            let (link, url) = at.link(settings, default)?;
            let request = ResolveUnknownRequest { execution_id: id, happened, actor: by.person, note };
            let done = WorkflowServiceClient::new(link).resolve_unknown(request).await;
            let done = done.map_err(|status| told(&status, &url))?.into_inner().execution;
            show::line(&written(&execution(&done.context("the response has no execution")?), as_json));
            Ok(true)
        }
        WorkflowCommand::Approve { decided } => decide(settings, decided, true, as_json).await,
        WorkflowCommand::Reject { decided } => decide(settings, decided, false, as_json).await,
        WorkflowCommand::Try { args } => crate::rehearse::run(settings, args, as_json),
        WorkflowCommand::Import { file, operation, out } => {
            crate::draft::import(&file, &operation, out.as_deref())
        }
        WorkflowCommand::Undo { of: One { id, at }, by, note, yes } => {
            let at = at.link(settings, default)?;
            let request = CompensateRequest { execution_id: id, actor: by.person, note, confirmed: yes };
            undo(at, request, as_json).await
        }
    }
}

/// Approves or rejects, and shows how it went. `false` when the effect of what was approved is not there.
async fn decide(
    settings: &Settings,
    Decided { of: One { id, at }, by, note }: Decided,
    approved: bool,
    as_json: bool,
) -> anyhow::Result<bool> {
    let (link, url) = at.link(settings, default)?;
    let request = ApproveRequest { execution_id: id, approved, actor: by.person, note };
    let done = WorkflowServiceClient::new(link).approve(request).await;
    let ApproveResponse { execution: found, message } =
        done.map_err(|status| told(&status, &url))?.into_inner();
    let found = found.context("the response has no execution")?;
    let mut value = execution(&found);
    value["message"] = json!(message);
    show::line(&written(&value, as_json));
    Ok(!approved || found.status.is_some_and(|status| status.state() == ExecutionState::Done))
}

/// Shows the question before an effect is undone, or how the undoing went. `false` unless it is done.
async fn undo(
    (link, url): (Link, String),
    request: CompensateRequest,
    as_json: bool,
) -> anyhow::Result<bool> {
    let confirmed = request.confirmed;
    let done = WorkflowServiceClient::new(link).compensate(request).await;
    let CompensateResponse { execution: found, message } =
        done.map_err(|status| told(&status, &url))?.into_inner();
    let found = found.context("the response has no execution")?;
    let mut value = execution(&found);
    value["message"] = json!(message);
    show::line(&written(&value, as_json));
    if !confirmed {
        eprintln!("firstline: nothing is done yet; repeat with --yes");
    }
    Ok(found.status.is_some_and(|status| confirmed && status.state() == ExecutionState::Done))
}

pub(crate) fn status(workflow: &WorkflowStatus) -> Value {
    json!({
        "id": workflow.execution_id,
        "workflow": workflow.name,
        "state": show::name(workflow.state().as_str_name(), "EXECUTION_STATE_"),
        "slots": workflow.slots.iter().collect::<std::collections::BTreeMap<_, _>>(),
        "missing_slots": workflow.missing_slots,
        "error": show::text(&workflow.error),
    })
}

pub(crate) fn execution(execution: &Execution) -> Value {
    let mut value = status(&execution.status.clone().unwrap_or_default());
    value["conversation_id"] = json!(execution.conversation_id);
    value["attempts"] = json!(execution.attempts);
    value["reference"] = show::text(&execution.reference);
    value["confidence"] = json!(execution.confidence);
    value["threshold"] = json!(execution.threshold);
    value["created_at"] = time(execution.created_at.as_ref());
    value["updated_at"] = time(execution.updated_at.as_ref());
    value["resolved_by"] = show::text(&execution.resolved_by);
    value["note"] = show::text(&execution.note);
    value["approved_by"] = show::text(&execution.approved_by);
    value["approval_note"] = show::text(&execution.approval_note);
    value
}

fn listed(one: &Execution, as_json: bool) -> String {
    let value = execution(one);
    if as_json {
        return value.to_string();
    }
    let text = |key: &str| value[key].as_str().unwrap_or("-").to_owned();
    ["id", "state", "workflow", "updated_at", "error"].map(text).join("  ")
}
