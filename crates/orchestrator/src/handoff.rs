//! What a customer and a person read when the bot steps back.

use proto::{Handoff, HandoffNotice, HandoffReason, HandoffState, Turn};

use crate::draft::Draft;
use crate::turn::Orchestrator;

impl Orchestrator {
    /// The customer's message for a reason, in the words of the bundle, at a moment in microseconds since the Unix
    /// epoch. Every handoff is told by it.
    pub(crate) fn farewell(&self, reason: HandoffReason, at: i64) -> String {
        let bundle::Handoff { message, messages, .. } = &self.assistant.handoff;
        let key = reason.as_str_name().trim_start_matches("HANDOFF_REASON_").to_lowercase();
        self.presence.told(messages.get(&key).unwrap_or(message), at)
    }
}

/// The context packet for the person who takes over.
fn packet(turn: &Turn, notice: &HandoffNotice, said: &str, created_at: prost_types::Timestamp) -> Handoff {
    let title = turn.intent.as_ref().map(|intent| intent.title.as_str()).unwrap_or_default();
    Handoff {
        handoff_id: notice.handoff_id.clone(),
        conversation_id: turn.conversation_id.clone(),
        turn_id: turn.turn_id.clone(),
        reason: notice.reason,
        state: HandoffState::Waiting.into(),
        assignee: String::new(),
        summary: summary(notice.reason(), title, said),
        intent: turn.intent.clone(),
        safety: turn.safety.clone(),
        passages: turn.passages.clone(),
        workflow: turn.workflow.clone(),
        created_at: Some(created_at),
        utterances: Vec::new(),
        deliveries: Vec::new(),
        notes: Vec::new(),
    }
}

/// The name of an enum value as a person reads it.
pub(crate) fn words(name: &str, prefix: &str) -> String {
    name.trim_start_matches(prefix).replace('_', " ").to_lowercase()
}

/// The conversation in one line for the person who takes over.
fn summary(reason: HandoffReason, intent_title: &str, last_message: &str) -> String {
    const SHOWN: usize = 200;
    let reason = words(reason.as_str_name(), "HANDOFF_REASON_");
    let topic = if intent_title.is_empty() { "unclear topic" } else { intent_title };
    let mut said: String = last_message.chars().take(SHOWN).collect();
    if said.len() < last_message.len() {
        said.push('…');
    }
    format!("{topic} ({reason}): \"{said}\"")
}

impl Draft<'_> {
    /// Offers a person beside whatever the turn says.
    pub(crate) fn offer_person(&mut self) {
        self.note("the message holds the keyword in a compound or a quote: a person is offered");
        self.turn.offers_person = true;
    }

    /// What the person who takes over gets; nothing new when a person has the conversation already.
    pub(crate) fn packet(&self) -> Option<Handoff> {
        let said = self.masked.as_deref().unwrap_or(&self.stored);
        let notice = self.turn.handoff.as_ref().filter(|_| !self.muted)?;
        Some(packet(&self.turn, notice, said, timestamp(self.accepted_at)))
    }
}

pub(crate) fn timestamp(micros: i64) -> prost_types::Timestamp {
    let nanos = i32::try_from(micros.rem_euclid(1_000_000)).unwrap_or(0) * 1000;
    prost_types::Timestamp { seconds: micros.div_euclid(1_000_000), nanos }
}
