//! `firstline handoff`: the desk, over the network.

use std::net::{TcpStream, ToSocketAddrs as _};
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use kit::config::{Balance, Server, Settings};
use kit::{Context, Link};
use proto::assistant_service_client::AssistantServiceClient;
use proto::*;
use serde_json::{Value, json};
use tonic::Status;

use crate::client::{address, plain};
use crate::executions::status;
use crate::show;

/// How long a listener on this machine may take to answer.
const KNOCK: Duration = Duration::from_millis(300);

#[derive(Subcommand)]
pub(crate) enum HandoffCommand {
    /// Those in a state, oldest first; default: all that are not resolved
    List {
        /// Only in this state
        #[arg(long, value_parser = ["waiting", "claimed", "callback", "resolved"])]
        state: Option<String>,
        #[command(flatten)]
        at: Running,
    },
    /// One with its conversation, verdict and slots
    Show {
        #[command(flatten)]
        of: One,
        /// With a draft of a reply to the last thing the customer asked
        #[arg(long)]
        suggest: bool,
    },
    /// Take one; the bot stays silent until it is resolved
    Claim {
        #[command(flatten)]
        of: One,
        #[command(flatten)]
        by: Person,
    },
    /// Write to the customer
    Reply {
        #[command(flatten)]
        of: One,
        #[command(flatten)]
        by: Person,
        /// The words
        text: String,
    },
    /// Give it to somebody, whoever has it
    Assign {
        #[command(flatten)]
        of: One,
        #[command(flatten)]
        by: Person,
        /// Who gets it
        to: String,
    },
    /// Write a note that only people see
    Note {
        #[command(flatten)]
        of: One,
        #[command(flatten)]
        by: Person,
        /// The words
        text: String,
    },
    /// End it and give the conversation back to the bot
    Resolve {
        #[command(flatten)]
        of: One,
        #[command(flatten)]
        by: Person,
        /// How it ended, in the words of the desk
        #[arg(long, default_value = "")]
        disposition: String,
        /// The right intent, where the classifier's is wrong
        #[arg(long, value_name = "NAME", default_value = "")]
        intent: String,
    },
    /// Send it again to the helpdesks that refused it
    Redeliver {
        #[command(flatten)]
        of: One,
    },
}

/// Where it is asked.
#[derive(Args)]
pub(crate) struct Running {
    /// URL of the running assistant or of the stage; default: as configured, and the assistant's where the stage is not
    /// by itself
    #[arg(long, value_name = "URL")]
    pub(crate) endpoint: Option<String>,
}

/// One of several.
#[derive(Args)]
pub(crate) struct One {
    /// Its id
    pub(crate) id: String,
    #[command(flatten)]
    pub(crate) at: Running,
}

/// Who does it.
#[derive(Args)]
pub(crate) struct Person {
    /// Who does it
    #[arg(long = "as", value_name = "NAME", env = "USER")]
    pub(crate) person: String,
}

/// Runs a command of the desk.
pub(crate) async fn handoff(
    settings: &Settings,
    command: HandoffCommand,
    as_json: bool,
) -> anyhow::Result<bool> {
    let default = |server: &Server| format!("http://{}", server.listen.orchestrator);
    match command {
        HandoffCommand::List { state, at } => {
            let (link, url) = at.link(settings, default)?;
            let state = state.map(|state| format!("HANDOFF_STATE_{}", state.to_uppercase()));
            let state = state.and_then(|state| HandoffState::from_str_name(&state)).unwrap_or_default();
            let mut client = AssistantServiceClient::new(link);
            let mut page = ListHandoffsRequest { state: state.into(), ..ListHandoffsRequest::default() };
            loop {
                let found = client.list_handoffs(page.clone()).await.map_err(|status| told(&status, &url))?;
                let ListHandoffsResponse { handoffs, next_page_token } = found.into_inner();
                handoffs.iter().for_each(|one| show::line(&listed(one, as_json)));
                if next_page_token.is_empty() {
                    return Ok(true);
                }
                page.page_token = next_page_token;
            }
        }
        HandoffCommand::Show { of: One { id, at }, suggest } => {
            let (link, url) = at.link(settings, default)?;
            let request = GetHandoffRequest { handoff_id: id, suggest };
            let found = AssistantServiceClient::new(link).get_handoff(request).await;
            let found = found.map_err(|status| told(&status, &url))?.into_inner();
            let mut value = packet(&found.handoff.context("the response has no handoff")?);
            value["suggestion"] = found.suggestion.as_ref().map_or(Value::Null, suggestion);
            show::line(&written(&value, as_json));
            Ok(true)
        }
        HandoffCommand::Claim { of: One { id, at }, by } => {
            let (link, url) = at.link(settings, default)?;
            let request = ClaimHandoffRequest { handoff_id: id, assignee: by.person };
            let done = AssistantServiceClient::new(link).claim_handoff(request).await;
            print(done.map_err(|status| told(&status, &url))?.into_inner().handoff, as_json)
        }
        HandoffCommand::Reply { of: One { id, at }, by, text } => {
            let (link, url) = at.link(settings, default)?;
            let request = ReplyAsAgentRequest { handoff_id: id.clone(), assignee: by.person, text };
            let mut client = AssistantServiceClient::new(link);
            client.reply_as_agent(request).await.map_err(|status| told(&status, &url))?;
            let found = client.get_handoff(GetHandoffRequest { handoff_id: id, suggest: false }).await;
            print(found.map_err(|status| told(&status, &url))?.into_inner().handoff, as_json)
        }
        HandoffCommand::Assign { of: One { id, at }, by, to } => {
            let (link, url) = at.link(settings, default)?;
            let request = AssignHandoffRequest { handoff_id: id, assignee: to, actor: by.person };
            let done = AssistantServiceClient::new(link).assign_handoff(request).await;
            print(done.map_err(|status| told(&status, &url))?.into_inner().handoff, as_json)
        }
        HandoffCommand::Note { of: One { id, at }, by, text } => {
            let (link, url) = at.link(settings, default)?;
            let request = AddNoteRequest { handoff_id: id, author: by.person, text };
            let done = AssistantServiceClient::new(link).add_note(request).await;
            print(done.map_err(|status| told(&status, &url))?.into_inner().handoff, as_json)
        }
        HandoffCommand::Resolve { of: One { id, at }, by, disposition, intent } => {
            let (link, url) = at.link(settings, default)?;
            let request = ResolveHandoffRequest { handoff_id: id, assignee: by.person, intent, disposition };
            let done = AssistantServiceClient::new(link).resolve_handoff(request).await;
            print(done.map_err(|status| told(&status, &url))?.into_inner().handoff, as_json)
        }
        HandoffCommand::Redeliver { of: One { id, at } } => {
            let (link, url) = at.link(settings, default)?;
            let request = RedeliverHandoffRequest { handoff_id: id };
            let done = AssistantServiceClient::new(link).redeliver_handoff(request).await;
            print(done.map_err(|status| told(&status, &url))?.into_inner().handoff, as_json)
        }
    }
}

impl Running {
    /// A link there, and the address for errors.
    pub(crate) fn link(
        &self,
        settings: &Settings,
        default: impl Fn(&Server) -> String,
    ) -> anyhow::Result<(Link, String)> {
        let server = settings.server()?;
        let url = address(&self.endpoint.clone().unwrap_or_else(|| reachable(&server, default(&server))));
        let context = Context { server, ..Context::default() };
        let link = Link::remote(&url, Balance::Single, &context).context("--endpoint")?;
        Ok((link, url))
    }
}

/// The address of a stage, or that of the assistant where all stages are one process: nobody listens at theirs.
fn reachable(server: &Server, url: String) -> String {
    let place = url.split("://").last().unwrap_or_default();
    let addresses = place.to_socket_addrs().map(Iterator::collect::<Vec<_>>).unwrap_or_default();
    let refused =
        addresses.iter().all(|at| at.ip().is_loopback() && TcpStream::connect_timeout(at, KNOCK).is_err());
    let front = server.listen.orchestrator;
    if refused && TcpStream::connect_timeout(&front, KNOCK).is_ok() { front.to_string() } else { url }
}

pub(crate) fn told(status: &Status, url: &str) -> anyhow::Error {
    anyhow::anyhow!("{} (asked {url})", plain(status))
}

pub(crate) fn time(at: Option<&prost_types::Timestamp>) -> Value {
    let at = at.and_then(|at| jiff::Timestamp::new(at.seconds, at.nanos).ok());
    at.map_or(Value::Null, |at| json!(format!("{at:.0}")))
}

pub(crate) fn said(utterances: &[Utterance]) -> Vec<Value> {
    let said = utterances.iter();
    said.map(|one| json!({ "role": show::name(one.role().as_str_name(), "ROLE_"), "text": one.text }))
        .collect()
}

pub(crate) fn packet(handoff: &Handoff) -> Value {
    let intent = handoff.intent.as_ref().map(|intent| {
        let others = intent.alternatives.iter().map(|other| &other.name).collect::<Vec<_>>();
        json!({ "name": show::text(&intent.name), "confidence": intent.confidence, "alternatives": others })
    });
    json!({
        "id": handoff.handoff_id,
        "state": show::name(handoff.state().as_str_name(), "HANDOFF_STATE_"),
        "reason": show::name(handoff.reason().as_str_name(), "HANDOFF_REASON_"),
        "created_at": time(handoff.created_at.as_ref()),
        "assignee": show::text(&handoff.assignee),
        "summary": handoff.summary,
        "conversation_id": handoff.conversation_id,
        "turn_id": handoff.turn_id,
        "intent": intent,
        "categories": handoff.safety.iter().flat_map(|verdict| &verdict.categories).map(|seen| &seen.name).collect::<Vec<_>>(),
        "passages": handoff.passages,
        "workflow": handoff.workflow.as_ref().map(status),
        "conversation": said(&handoff.utterances),
        "notes": handoff.notes.iter().map(note).collect::<Vec<_>>(),
        "deliveries": handoff.deliveries.iter().map(delivery).collect::<Vec<_>>(),
    })
}

fn suggestion(suggestion: &Suggestion) -> Value {
    let sources = suggestion.citations.iter().map(|citation| &citation.document_id);
    json!({
        "text": show::text(&suggestion.text),
        "sources": sources.collect::<std::collections::BTreeSet<_>>(),
        "missing": show::text(&suggestion.missing),
    })
}

fn note(note: &Note) -> Value {
    json!({ "author": note.author, "text": note.text, "created_at": time(note.created_at.as_ref()) })
}

fn delivery(delivery: &Delivery) -> Value {
    json!({
        "connector": delivery.connector,
        "state": show::name(delivery.state().as_str_name(), "DELIVERY_STATE_"),
        "attempts": delivery.attempts,
        "error": show::text(&delivery.error),
        "reference": show::text(&delivery.reference),
        "part": delivery.part,
    })
}

fn listed(handoff: &Handoff, as_json: bool) -> String {
    let value = packet(handoff);
    if as_json {
        return value.to_string();
    }
    let text = |key: &str| value[key].as_str().unwrap_or("-").to_owned();
    let head = ["id", "state", "reason", "created_at", "assignee"].map(text).join("  ");
    format!("{head}\n  {}", show::excerpt(&handoff.summary, 100))
}

fn print(handoff: Option<Handoff>, as_json: bool) -> anyhow::Result<bool> {
    let handoff = handoff.context("the response has no handoff")?;
    show::line(&written(&packet(&handoff), as_json));
    Ok(true)
}

/// An object as one line of JSON, or a line for each of its values.
pub(crate) fn written(value: &Value, as_json: bool) -> String {
    if as_json {
        return value.to_string();
    }
    let lines = value.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null());
    let plain = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let line = |(key, value): (&String, &Value)| match value.as_array().filter(|_| key == "conversation") {
        Some(said) => {
            let said = said.iter().map(|one| format!("    {}: {}", plain(&one["role"]), plain(&one["text"])));
            format!("  {key}\n{}", said.collect::<Vec<_>>().join("\n"))
        }
        None => format!("  {key:<16}{}", plain(value)),
    };
    lines.map(line).collect::<Vec<_>>().join("\n")
}
