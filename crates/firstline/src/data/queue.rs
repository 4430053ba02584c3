//! `firstline audit-queue`.

use anyhow::Context as _;
use clap::{Args, Subcommand};
use kit::config::Settings;
use proto::telemetry_service_client::TelemetryServiceClient;
use proto::{AuditItem, LabelAuditRequest, NextAuditRequest, Outcome};
use serde_json::{Value, json};

use super::feedback::yes_or_no;
use super::telemetry_at;
use crate::client::MAX_RESPONSE;
use crate::desk::{Running, time, told, written};
use crate::show;

#[derive(Subcommand)]
pub(crate) enum QueueCommand {
    /// The oldest turn that waits for a label
    Next {
        /// Only of this stratum: category of the predicted intent and band of its confidence, such as cards/low
        #[arg(long, value_name = "CATEGORY/BAND", default_value = "")]
        stratum: String,
        #[command(flatten)]
        at: Running,
    },
    /// Label one
    Label(LabelArgs),
}

#[derive(Args)]
#[command(group(clap::ArgGroup::new("said").required(true).multiple(true)))]
pub(crate) struct LabelArgs {
    /// Id of the turn
    turn: String,
    /// The right intent; out_of_scope for what belongs to none
    #[arg(long, value_name = "NAME", default_value = "", group = "said", conflicts_with = "correct")]
    intent: String,
    /// The predicted intent is right
    #[arg(long, group = "said")]
    correct: bool,
    /// Whether the answer is supported by its sources
    #[arg(long, value_name = "yes|no", group = "said", value_parser = yes_or_no)]
    grounded: Option<bool>,
    #[command(flatten)]
    at: Running,
}

/// Runs a command of the audit.
pub(crate) async fn queue(settings: &Settings, command: QueueCommand, as_json: bool) -> anyhow::Result<bool> {
    match command {
        QueueCommand::Next { stratum, at } => next(settings, &at, stratum, as_json).await,
        QueueCommand::Label(args) => {
            let (link, url) = args.at.link(settings, telemetry_at)?;
            let LabelArgs { turn: turn_id, intent, correct, grounded, .. } = args;
            let request = LabelAuditRequest { turn_id: turn_id.clone(), intent, correct, grounded };
            let kept = TelemetryServiceClient::new(link).label_audit(request).await;
            kept.map_err(|status| told(&status, &url))?;
            show::line(&written(&json!({ "labelled": turn_id }), as_json));
            Ok(true)
        }
    }
}

async fn next(settings: &Settings, at: &Running, stratum: String, as_json: bool) -> anyhow::Result<bool> {
    let (link, url) = at.link(settings, telemetry_at)?;
    let mut client = TelemetryServiceClient::new(link).max_decoding_message_size(MAX_RESPONSE);
    let found = client.next_audit(NextAuditRequest { stratum }).await;
    let found = found.map_err(|status| told(&status, &url))?.into_inner();
    let mut value = found.item.as_ref().map_or_else(|| Ok(json!({})), shown)?;
    value["waiting"] = json!(found.waiting);
    show::line(&written(&value, as_json));
    Ok(true)
}

/// What a person needs to judge a turn.
fn shown(item: &AuditItem) -> anyhow::Result<Value> {
    let record = item.record.as_ref().context("the response has no record")?;
    let turn = record.turn.as_ref().context("the record has no turn")?;
    let intent = turn.intent.clone().unwrap_or_default();
    let others = intent.alternatives.iter().map(|other| format!("{} {:.2}", other.name, other.probability));
    let sources =
        turn.citations.iter().map(|citation| format!("{}: {}", citation.document_id, citation.quote));
    let answer = Some(&turn.answer).filter(|_| turn.outcome() != Outcome::Handoff);
    Ok(json!({
        "turn_id": turn.turn_id,
        "stratum": item.stratum,
        "probability": item.probability,
        "accepted_at": time(record.accepted_at.as_ref()),
        "question": record.question,
        "intent": show::text(&intent.name),
        "confidence": intent.confidence,
        "decision": show::name(intent.decision().as_str_name(), "INTENT_DECISION_"),
        "alternatives": others.collect::<Vec<_>>(),
        "outcome": show::name(turn.outcome().as_str_name(), "OUTCOME_"),
        "answer": answer.map_or(Value::Null, |answer| show::text(answer)),
        "sources": sources.collect::<Vec<_>>(),
    }))
}
