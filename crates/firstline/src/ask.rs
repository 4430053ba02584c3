//! `firstline ask` and `firstline explain`.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use clap::Args;
use futures::StreamExt as _;
use futures::stream::FuturesOrdered;
use kit::config::Settings;
use proto::{ExplainTurnRequest, Message, Turn};
use serde::Deserialize;
use serde_json::json;
use tokio::sync::{Mutex, Semaphore};
use tonic::Status;

use crate::cli::Target;
use crate::client::{Assistant, plain};
use crate::show;

/// Turns of a batch at the same time.
const IN_FLIGHT: usize = 16;
/// Longest question in bytes.
const MAX_TEXT: usize = 65_536;
/// What a line of a batch holds.
const LINE: &str = r#"{"text", "customer"?, "attributes"?, "conversation"?}"#;

/// Who asks.
#[derive(Debug, Clone, Args)]
pub(crate) struct Who {
    /// Key of the customer
    #[arg(long, value_name = "KEY", default_value = "")]
    pub(crate) customer: String,
    /// What is known of the customer, as preconditions of workflows read it; may be repeated
    #[arg(long = "attribute", value_name = "NAME=VALUE", value_parser = attribute)]
    attributes: Vec<(String, String)>,
}

impl Who {
    /// A message of theirs.
    pub(crate) fn says(&self, conversation_id: String, text: String) -> Message {
        let (customer_key, attributes) = (self.customer.clone(), self.attributes.iter().cloned().collect());
        Message { text, conversation_id, customer_key, attributes, ..Message::default() }
    }
}

fn attribute(given: &str) -> Result<(String, String), String> {
    let parts = given.split_once('=').filter(|(name, _)| !name.is_empty());
    let (name, value) = parts.ok_or("allowed NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

#[derive(Args)]
pub(crate) struct AskArgs {
    #[command(flatten)]
    target: Target,
    /// Go on with this conversation
    #[arg(long, value_name = "ID", default_value = "", conflicts_with = "batch")]
    conversation: String,
    #[command(flatten)]
    who: Who,
    /// JSONL of {"text", "customer"?, "attributes"?, "conversation"?}; answers come in the order of the lines
    #[arg(long, value_name = "FILE", conflicts_with_all = ["text", "customer", "attributes"])]
    batch: Option<PathBuf>,
    /// The question
    #[arg(required_unless_present = "batch")]
    text: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    text: String,
    #[serde(default)]
    customer: String,
    #[serde(default)]
    attributes: HashMap<String, String>,
    #[serde(default)]
    conversation: String,
}

/// One question, or a batch. `false` when any turn failed.
pub(crate) async fn ask(settings: Settings, args: AskArgs, as_json: bool) -> anyhow::Result<bool> {
    let messages = match &args.batch {
        Some(file) => read(file)?,
        None => vec![args.who.says(args.conversation.clone(), args.text.clone().unwrap_or_default())],
    };
    let assistant = Assistant::open(settings, &args.target).await?;
    let batch = args.batch.is_some();
    let all_ok = Box::pin(run(&assistant, messages, batch, as_json)).await;
    assistant.close().await;
    Ok(all_ok)
}

async fn run(assistant: &Assistant, messages: Vec<Message>, batch: bool, as_json: bool) -> bool {
    let total = messages.len() as u64;
    let places = Semaphore::new(IN_FLIGHT);
    // Lines of one conversation are asked one after the other, in their order: the lock is fair.
    let mut conversations: HashMap<String, Arc<Mutex<()>>> = HashMap::new();
    let mut turns: FuturesOrdered<_> = messages
        .into_iter()
        .map(|message| {
            let one = match message.conversation_id.as_str() {
                "" => Arc::default(),
                id => conversations.entry(id.to_owned()).or_default().clone(),
            };
            let places = &places;
            async move {
                let _turn = one.lock().await;
                let _place = places.acquire().await;
                let text = message.text.clone();
                (text, assistant.ask(message).await)
            }
        })
        .collect();
    let bar = show::Bar::new("asking");
    let mut done = 0;
    let mut all_ok = true;
    while let Some((text, turn)) = turns.next().await {
        done += 1;
        if batch && as_json {
            bar.set(done, total);
        }
        all_ok &= turn.is_ok();
        match (turn, as_json) {
            (Ok(turn), true) => show::line(&show::turn(&turn).to_string()),
            (Ok(turn), false) => print(&text, &turn, batch),
            (Err(status), true) => show::line(&refusal(done, &status).to_string()),
            (Err(status), false) if batch => eprintln!("question {done}: {}", plain(&status)),
            (Err(status), false) => eprintln!("firstline: {}", plain(&status)),
        }
    }
    bar.finish();
    all_ok
}

fn print(text: &str, turn: &Turn, batch: bool) {
    if batch {
        show::line(&format!("> {text}"));
    }
    show::line(&show::lines(turn));
    let id = if batch { &turn.turn_id } else { &turn.conversation_id };
    show::line(&format!(
        "  {}\n",
        if batch { format!("turn {id}") } else { format!("turn {}, conversation {id}", turn.turn_id) }
    ));
}

fn refusal(line: u64, status: &Status) -> serde_json::Value {
    json!({ "line": line, "error": { "code": format!("{:?}", status.code()), "message": plain(status) } })
}

fn read(file: &Path) -> anyhow::Result<Vec<Message>> {
    let bytes = std::fs::read(file).with_context(|| file.display().to_string())?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let line = 1 + error.as_bytes()[..valid].iter().filter(|byte| **byte == b'\n').count();
        anyhow::anyhow!("{}:{line}: is not UTF-8 at byte {valid}", file.display())
    })?;
    let text = text.trim_start_matches('\u{feff}');
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let messages = lines.map(|(index, line)| {
        let place = || format!("{}:{}", file.display(), index + 1);
        let line: Line = serde_json::from_str(line).map_err(|error| {
            anyhow::anyhow!("{}: {}; a line is {LINE}", place(), bundle::plain_json(&error))
        })?;
        let bytes = line.text.len();
        let blank = line.text.trim().is_empty();
        let what = if blank { "text without a word".to_owned() } else { format!("text of {bytes} bytes") };
        anyhow::ensure!(!blank && bytes <= MAX_TEXT, "{}: {what}, allowed 1 to {MAX_TEXT} bytes", place());
        Ok(Message {
            text: line.text,
            customer_key: line.customer,
            attributes: line.attributes,
            conversation_id: line.conversation,
            ..Message::default()
        })
    });
    let messages = messages.collect::<anyhow::Result<Vec<_>>>()?;
    anyhow::ensure!(
        !messages.is_empty(),
        "{}: holds no questions, needed is a line of {LINE}",
        file.display()
    );
    Ok(messages)
}

/// Everything that was decided in a turn, and why.
pub(crate) async fn explain(
    settings: Settings,
    target: Target,
    request: ExplainTurnRequest,
    as_json: bool,
) -> anyhow::Result<bool> {
    let assistant = Assistant::open(settings, &target).await?;
    let response = assistant.client.clone().explain_turn(request).await;
    assistant.close().await;
    let asked = target
        .endpoint
        .as_deref()
        .unwrap_or("the stores of this folder; for a running assistant pass --endpoint URL");
    let record =
        response.map_err(|status| anyhow::anyhow!("{} (asked {asked})", plain(&status)))?.into_inner().record;
    let record = record.context("the response has no record")?;
    let turn = record.turn.clone().unwrap_or_default();
    if as_json {
        let mut out = show::turn(&turn);
        out["question"] = json!(record.question);
        out["decisions"] = json!(record.decisions);
        out["passages"] = json!(turn.passages);
        show::line(&out.to_string());
        return Ok(true);
    }
    let hidden = "(not kept: no safety rail has masked it)";
    show::line(&format!("> {}", if record.question.is_empty() { hidden } else { &record.question }));
    show::line(&show::lines(&turn));
    for decision in &record.decisions {
        show::line(&format!("  - {decision}"));
    }
    for citation in &turn.citations {
        show::line(&format!(
            "  cites {} ({}): {:?}",
            citation.document_id, citation.document_version, citation.quote
        ));
    }
    let arm = turn.arm().as_str_name();
    show::line(&format!("  bundle {}, {arm}, trace {}", turn.bundle, turn.trace_id));
    Ok(true)
}
