//! `firstline feedback`.

use clap::Args;
use kit::config::Settings;
use proto::assistant_service_client::AssistantServiceClient;
use proto::{Feedback, SubmitFeedbackRequest};
use serde_json::json;

use crate::customer;
use crate::desk::{Running, told, written};
use crate::show;

#[derive(Args)]
#[command(group(clap::ArgGroup::new("about").required(true).multiple(true)))]
#[command(group(clap::ArgGroup::new("what").required(true).multiple(true)))]
pub(crate) struct FeedbackArgs {
    /// Id of the turn
    #[arg(long, value_name = "ID", default_value = "", group = "about")]
    turn: String,
    /// Id of the conversation; needed where the assistant does not know the turn any more
    #[arg(long, value_name = "ID", default_value = "", group = "about")]
    conversation: String,
    /// Rating, 1 to 5
    #[arg(long, value_name = "1..5", group = "what", value_parser = clap::value_parser!(u32).range(1..=5))]
    rating: Option<u32>,
    /// Whether the problem is solved
    #[arg(long, value_name = "yes|no", group = "what", value_parser = yes_or_no)]
    resolved: Option<bool>,
    /// In the customer's words
    #[arg(long, value_name = "TEXT", group = "what", default_value = "")]
    comment: String,
    /// What a person answered, or would have
    #[arg(long, value_name = "TEXT", group = "what", default_value = "", requires = "turn")]
    demonstration: String,
    /// The right intent
    #[arg(long, value_name = "NAME", group = "what", default_value = "", requires = "turn")]
    intent: String,
    /// Id of the feedback: given again it is the same one; default: a new one
    #[arg(long, value_name = "ID", default_value = "")]
    id: String,
    #[command(flatten)]
    at: Running,
}

/// Reads a flag that is true or false as people say it.
pub(super) fn yes_or_no(given: &str) -> Result<bool, String> {
    match given {
        "yes" => Ok(true),
        "no" => Ok(false),
        _ => Err("allowed yes, no".to_owned()),
    }
}

/// Sends feedback; done when it is durable.
pub(crate) async fn feedback(settings: &Settings, args: FeedbackArgs, as_json: bool) -> anyhow::Result<bool> {
    let (link, url) = args.at.link(settings, customer::default)?;
    let new = || format!("f_{}", uuid::Uuid::now_v7().simple());
    let feedback_id = if args.id.is_empty() { new() } else { args.id };
    let feedback = Feedback {
        feedback_id: feedback_id.clone(),
        conversation_id: args.conversation,
        turn_id: args.turn,
        rating: args.rating.unwrap_or_default(),
        resolved: args.resolved,
        comment: args.comment,
        demonstration: args.demonstration,
        intent: args.intent,
        reply: false,
    };
    let request = SubmitFeedbackRequest { feedback: Some(feedback) };
    let kept = AssistantServiceClient::new(link).submit_feedback(request).await;
    kept.map_err(|status| told(&status, &url))?;
    show::line(&written(&json!({ "feedback_id": feedback_id }), as_json));
    Ok(true)
}
