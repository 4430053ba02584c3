//! `firstline forget` and `firstline export`: what is held of a customer, at a running assistant.

use clap::Args;
use kit::config::{Server, Settings};
use proto::assistant_service_client::AssistantServiceClient;
use proto::{ExportCustomerRequest, ExportCustomerResponse, ForgetCustomerRequest, Utterance};
use serde_json::{Value, json};

use crate::client::MAX_RESPONSE;
use crate::desk::{Running, packet, said, told, written};
use crate::executions::execution;
use crate::show;

#[derive(Args)]
pub(crate) struct CustomerArgs {
    /// Key of the customer
    #[arg(long, value_name = "KEY")]
    pub(crate) customer: String,
    #[command(flatten)]
    pub(crate) at: Running,
}

/// Where the assistant is, unless said.
pub(crate) fn default(server: &Server) -> String {
    format!("http://{}", server.listen.orchestrator)
}

/// Deletes all that is held of a customer and says how much it was.
pub(crate) async fn forget(settings: &Settings, args: CustomerArgs, as_json: bool) -> anyhow::Result<bool> {
    let (link, url) = args.at.link(settings, default)?;
    let request = ForgetCustomerRequest { customer_key: args.customer };
    let gone = AssistantServiceClient::new(link).forget_customer(request).await;
    let gone = gone.map_err(|status| told(&status, &url))?.into_inner();
    let value = json!({
        "conversations": gone.conversations,
        "turns": gone.turns,
        "handoffs": gone.handoffs,
        "executions": gone.executions,
        "records": gone.records,
    });
    show::line(&written(&value, as_json));
    Ok(true)
}

/// Prints all that is held of a customer, one conversation a line of JSON.
pub(crate) async fn export(settings: &Settings, args: CustomerArgs) -> anyhow::Result<bool> {
    let (link, url) = args.at.link(settings, default)?;
    let request = ExportCustomerRequest { customer_key: args.customer };
    let mut client = AssistantServiceClient::new(link).max_decoding_message_size(MAX_RESPONSE);
    let held = client.export_customer(request).await;
    let mut held = held.map_err(|status| told(&status, &url))?.into_inner();
    while let Some(held) = held.message().await.map_err(|status| told(&status, &url))? {
        show::line(&conversation(&held).to_string());
    }
    Ok(true)
}

fn conversation(held: &ExportCustomerResponse) -> Value {
    let records = held.records.iter().map(|record| {
        json!({
            "turn": record.turn.as_ref().map(show::turn),
            "question": record.question,
            "customer_hash": record.customer_hash,
            "decisions": record.decisions,
        })
    });
    let feedback = held.feedback.iter().map(|given| {
        json!({ "id": given.feedback_id, "turn_id": show::text(&given.turn_id), "rating": given.rating,
            "resolved": given.resolved, "comment": given.comment, "demonstration": show::text(&given.demonstration),
            "intent": show::text(&given.intent) })
    });
    json!({
        "conversation_id": held.conversation_id,
        "conversation": said(&held.utterances as &[Utterance]),
        "records": records.collect::<Vec<_>>(),
        "handoffs": held.handoffs.iter().map(packet).collect::<Vec<_>>(),
        "executions": held.executions.iter().map(execution).collect::<Vec<_>>(),
        "feedback": feedback.collect::<Vec<_>>(),
    })
}
