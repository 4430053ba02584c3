//! What a customer and a person read when the bot steps back.

use bundle::Assistant;
use proto::HandoffReason;

/// The customer's message for a reason, in the words of the bundle.
pub(crate) fn message(assistant: &Assistant, reason: HandoffReason) -> String {
    let key = reason.as_str_name().trim_start_matches("HANDOFF_REASON_").to_lowercase();
    assistant.handoff.messages.get(&key).unwrap_or(&assistant.handoff.message).clone()
}

/// The conversation in one line for the person who takes over.
pub(crate) fn summary(reason: HandoffReason, intent_title: &str, last_message: &str) -> String {
    const SHOWN: usize = 200;
    let reason = reason.as_str_name().trim_start_matches("HANDOFF_REASON_").replace('_', " ").to_lowercase();
    let topic = if intent_title.is_empty() { "unclear topic" } else { intent_title };
    let mut said: String = last_message.chars().take(SHOWN).collect();
    if said.len() < last_message.len() {
        said.push('…');
    }
    format!("{topic} ({reason}): \"{said}\"")
}
