//! Workflows that ended when nobody was waiting any more: the conversation is told, and a person where it failed.

use std::sync::Arc;
use std::time::Duration;

use proto::{ExecutionState, Handoff, HandoffReason, HandoffState, Notice, Role, WorkflowStatus};
use sql::{Connection, Result, values};

use crate::desk::{open, open_handoff};
use crate::handoff::timestamp;
use crate::store::Journal;
use crate::turn::{Orchestrator, now};

const EVERY: Duration = Duration::from_secs(1);

/// What a conversation is told, once.
#[derive(Debug)]
struct News {
    execution_id: String,
    conversation_id: String,
    text: String,
    /// The packet for a person, where a person has to look.
    handoff: Option<Handoff>,
    /// Helpdesks that get it.
    connectors: Vec<String>,
}

/// Looks for such executions for as long as the process lives.
pub(crate) async fn tell(orchestrator: Arc<Orchestrator>) {
    loop {
        tokio::time::sleep(EVERY).await;
        // The stage may be down, and then it has nothing to tell.
        let notices = orchestrator.stages.notices().await.unwrap_or_default();
        for notice in notices {
            let Some(news) = orchestrator.news(notice) else { continue };
            let execution_id = news.execution_id.clone();
            if let Err(error) = orchestrator.journal.tell(news).await {
                tracing::warn!(execution_id, %error, "the conversation is not told yet how its workflow ended");
            } else if let Err(error) = orchestrator.stages.acknowledge(execution_id.clone()).await {
                tracing::debug!(execution_id, %error, "told, and will be looked at once more");
            }
        }
    }
}

impl Orchestrator {
    fn news(&self, notice: Notice) -> Option<News> {
        let execution = notice.execution?;
        let status = execution.status?;
        let (conversation_id, execution_id) = (execution.conversation_id, status.execution_id.clone());
        let connectors = self.config.connectors.keys().cloned().collect();
        if status.state() == ExecutionState::Done || notice.explained {
            let text = notice.message;
            return Some(News { execution_id, conversation_id, text, handoff: None, connectors });
        }
        let reason = HandoffReason::WorkflowFailed;
        let text = format!("{} {}", notice.message, self.farewell(reason, now()));
        let handoff = Some(packet(conversation_id.clone(), status, reason));
        Some(News { execution_id, conversation_id, text, handoff, connectors })
    }
}

/// The same execution always has the same handoff.
fn packet(conversation_id: String, status: WorkflowStatus, reason: HandoffReason) -> Handoff {
    let summary = format!("{}: {} ({})", status.name, status.state().as_str_name(), status.error);
    Handoff {
        handoff_id: format!("h_{}", status.execution_id),
        conversation_id,
        turn_id: status.execution_id.clone(),
        reason: reason.into(),
        state: HandoffState::Waiting.into(),
        summary,
        workflow: Some(status),
        created_at: Some(timestamp(now())),
        ..Handoff::default()
    }
}

impl Journal {
    /// Adds the words to the conversation and opens the handoff, unless a person has the conversation already.
    async fn tell(&self, news: News) -> Result<()> {
        self.sql.write(move |connection| write(connection, &news)).await
    }
}

fn write(connection: &mut Connection<'_>, news: &News) -> Result<()> {
    let News { execution_id, conversation_id, text, handoff, connectors } = news;
    connection.lock(conversation_id)?;
    let told = "SELECT 1 FROM utterance WHERE conversation_id = $1 AND turn_id = $2";
    if connection.first(told, values![conversation_id, execution_id], |_| Ok(()))?.is_some() {
        return Ok(());
    }
    let insert =
        "INSERT INTO utterance (conversation_id, turn_id, role, text, private) VALUES ($1, $2, $3, $4, 1)";
    connection.execute(insert, values![conversation_id, execution_id, Role::Assistant as i32, text])?;
    let over = "UPDATE conversation SET execution_id = NULL WHERE conversation_id = $1 AND execution_id = $2";
    connection.execute(over, values![conversation_id, execution_id])?;
    match handoff {
        Some(packet) if open_handoff(connection, conversation_id)?.is_none() => {
            open(connection, packet, now(), connectors)
        }
        _ => Ok(()),
    }
}
