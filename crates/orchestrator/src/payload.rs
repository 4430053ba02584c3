//! A handoff in the words of a helpdesk.

use std::collections::BTreeMap;

use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, UndefinedBehavior, Value};
use proto::{Handoff, HandoffReason, Role, SafetyAction};
use serde::Serialize;

use crate::connector::{Connector, Kind, is_address};
use crate::handoff::words;

/// Longest conversation that is sent, in bytes; the newest comes first.
const NOTE_BYTES: usize = 32 * 1024;
const SUBJECT_CHARS: usize = 150;

/// The state of a handoff that nobody took in time.
pub(crate) const CALLBACK: &str = "callback";
const CALLBACK_NOTE: &str =
    "callback, nobody was free in time: the customer waits to be answered, and writes with the bot meanwhile";

const WEBHOOK: &str = r#"{"handoff_id": {{ handoff_id }}, "conversation_id": {{ conversation_id }},
"turn_id": {{ turn_id }}, "state": {{ state }}, "reason": {{ reason }}, "created_at": {{ created_at }}, "customer": {{ customer }},
"summary": {{ summary }}, "intent": {{ intent }}, "categories": {{ categories }}, "passages": {{ passages }},
"workflow": {{ workflow }}, "slots": {{ slots }}, "utterances": {{ utterances }}}"#;

const CHATWOOT: &str = r#"{"source_id": {{ handoff_id }}, "status": "open",
"custom_attributes": {"firstline_handoff": {{ handoff_id }}, "firstline_reason": {{ reason }},
"firstline_conversation": {{ conversation_id }}},
"message": {"content": {{ note }}, "message_type": "outgoing", "private": true}}"#;

const ZENDESK: &str = r#"{"ticket": {"external_id": {{ handoff_id }}, "subject": {{ subject }},
{% if email %}"requester": {"name": {{ email }}, "email": {{ email }}},{% endif %}
"tags": ["firstline", {{ tag }}], "comment": {"body": {{ note }}, "public": false}}}"#;

/// What the templates know of a handoff.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Packet {
    pub(crate) handoff_id: String,
    conversation_id: String,
    turn_id: String,
    /// "waiting", or "callback" when nobody was free in time.
    state: String,
    /// In words, such as "user keyword".
    reason: String,
    /// The same as one word.
    tag: String,
    /// When it was created, by RFC 3339.
    created_at: String,
    /// Key of the customer.
    customer: String,
    /// The same where it is a mail address, else empty.
    email: String,
    summary: String,
    /// The summary as one line of 150 characters.
    pub(crate) subject: String,
    /// Name of the intent, empty without one.
    intent: String,
    /// What the safety rail saw.
    categories: Vec<String>,
    /// Document ids shown or considered.
    passages: Vec<String>,
    /// Name of the attempted workflow, empty without one.
    workflow: String,
    slots: BTreeMap<String, String>,
    utterances: Vec<Said>,
    /// All of it as a person reads it.
    pub(crate) note: String,
}

#[derive(Debug, Clone, Serialize)]
struct Said {
    /// "customer", "assistant" or "agent".
    role: String,
    text: String,
}

impl Packet {
    /// A handoff of a customer, in a state.
    pub(crate) fn of(handoff: &Handoff, customer: &str, state: &str) -> Self {
        let reason = words(handoff.reason().as_str_name(), "HANDOFF_REASON_");
        let at = handoff.created_at.unwrap_or_default();
        let at = jiff::Timestamp::new(at.seconds, at.nanos).unwrap_or_default();
        let verdict = handoff.safety.as_ref().filter(|verdict| verdict.action() != SafetyAction::Allow);
        let mut packet = Self {
            handoff_id: handoff.handoff_id.clone(),
            conversation_id: handoff.conversation_id.clone(),
            turn_id: handoff.turn_id.clone(),
            tag: reason.replace(' ', "_"),
            reason,
            created_at: at.to_string(),
            customer: customer.to_owned(),
            email: if is_address(customer) { customer.to_owned() } else { String::new() },
            summary: handoff.summary.clone(),
            subject: one_line(&match state {
                CALLBACK => format!("callback: {}", handoff.summary),
                _ => handoff.summary.clone(),
            }),
            state: state.to_owned(),
            intent: handoff.intent.as_ref().map(|intent| intent.name.clone()).unwrap_or_default(),
            categories: verdict
                .iter()
                .flat_map(|seen| &seen.categories)
                .map(|one| one.name.clone())
                .collect(),
            passages: handoff.passages.clone(),
            utterances: handoff.utterances.iter().map(|one| said(one.role(), &one.text)).collect(),
            ..Self::default()
        };
        if let Some(workflow) = &handoff.workflow {
            packet.workflow.clone_from(&workflow.name);
            packet.slots = workflow.slots.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
        }
        packet.note = packet.as_note();
        packet
    }

    fn as_note(&self) -> String {
        let mut lines = vec![self.summary.clone(), String::new()];
        let mut line = |name: &str, value: &str| {
            if !value.is_empty() {
                lines.push(format!("{name}: {value}"));
            }
        };
        line("State", Some(CALLBACK_NOTE).filter(|_| self.state == CALLBACK).unwrap_or_default());
        line("Reason", &self.reason);
        line("Customer", &self.customer);
        line("Intent", &self.intent);
        line("Safety", &self.categories.join(", "));
        line("Workflow", &self.workflow);
        self.slots.iter().for_each(|(name, value)| line(name, value));
        line("Articles", &self.passages.join(", "));
        line("Handoff", &self.handoff_id);
        lines.push(String::new());
        let mut left = NOTE_BYTES;
        let fits = |said: &&Said| {
            let fits = said.text.len() <= left;
            left = left.saturating_sub(said.text.len());
            fits
        };
        let mut newest: Vec<_> = self.utterances.iter().rev().take_while(fits).collect();
        newest.reverse();
        lines.extend(newest.into_iter().map(|said| format!("{}: {}", said.role, said.text)));
        lines.join("\n")
    }
}

fn said(role: Role, text: &str) -> Said {
    Said { role: words(role.as_str_name(), "ROLE_"), text: text.to_owned() }
}

fn one_line(text: &str) -> String {
    let words = text.split(char::is_control).flat_map(str::split_whitespace).collect::<Vec<_>>().join(" ");
    words.chars().take(SUBJECT_CHARS).collect()
}

/// The body that creates a handoff at a helpdesk.
///
/// # Errors
/// The template does not render, or not as JSON.
pub(crate) fn body(connector: &Connector, packet: &Packet) -> Result<String, String> {
    let template = match (connector.template.as_str(), connector.kind) {
        ("", Kind::Chatwoot) => CHATWOOT,
        ("", Kind::Zendesk) => ZENDESK,
        ("", Kind::Webhook | Kind::Email) => WEBHOOK,
        (own, _) => own,
    };
    let mut environment = Environment::new();
    environment.set_auto_escape_callback(|_| AutoEscape::Json);
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    let rendered = environment
        .render_str(template, Value::from(Serde(packet)))
        .map_err(|error| format!("does not render: {error:#}"))?;
    let json: serde_json::Value =
        serde_json::from_str(&rendered).map_err(|error| format!("does not render as JSON: {error}"))?;
    Ok(json.to_string())
}

/// Says what is wrong with the template of a connector, by a handoff that has everything.
pub(crate) fn check(connector: &Connector) -> Result<(), String> {
    let handoff = Handoff {
        handoff_id: "h_1".to_owned(),
        reason: HandoffReason::UserKeyword.into(),
        summary: "\"quoted\"\nand broken".to_owned(),
        ..Handoff::default()
    };
    body(connector, &Packet::of(&handoff, "ann@example.com", "waiting")).map(|_| ())
}

/// Parts of an answer, by JSON pointer: a text, or a number as one.
pub(crate) fn at(json: &serde_json::Value, pointer: &str) -> Option<String> {
    match json.pointer(pointer)? {
        serde_json::Value::String(text) => Some(text.clone()).filter(|text| !text.is_empty()),
        serde_json::Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proto::{Utterance, WorkflowStatus};

    use super::*;

    fn packet(customer: &str) -> Packet {
        let workflow = WorkflowStatus {
            name: "block_card".to_owned(),
            slots: [("card".to_owned(), "4821".to_owned())].into(),
            ..WorkflowStatus::default()
        };
        let utterance = Utterance { role: Role::Customer.into(), text: "agent, \"now\"\n}".to_owned() };
        let handoff = Handoff {
            handoff_id: "h_7".to_owned(),
            reason: HandoffReason::UserKeyword.into(),
            summary: "lost card (user keyword): \"agent, now\"".to_owned(),
            workflow: Some(workflow),
            utterances: vec![utterance],
            ..Handoff::default()
        };
        Packet::of(&handoff, customer, "waiting")
    }

    fn rendered(kind: Kind, packet: &Packet) -> serde_json::Value {
        let connector = Connector { kind, ..Connector::default() };
        serde_json::from_str(&body(&connector, packet).unwrap()).unwrap()
    }

    #[test]
    fn a_note_holds_what_a_person_has_to_know_and_words_cannot_leave_their_string() {
        let chatwoot = rendered(Kind::Chatwoot, &packet("k-1"));
        assert_eq!(at(&chatwoot, "/source_id").as_deref(), Some("h_7"));
        assert_eq!(chatwoot["message"]["private"], true);
        let note = chatwoot["message"]["content"].as_str().unwrap();
        for part in
            ["user keyword", "Customer: k-1", "block_card", "card: 4821", "customer: agent, \"now\"\n}"]
        {
            assert!(note.contains(part), "{part}: {note}");
        }
        assert_eq!(rendered(Kind::Webhook, &packet("k-1"))["utterances"][0]["text"], "agent, \"now\"\n}");
    }

    #[test]
    fn a_ticket_has_the_customer_as_its_requester_where_the_key_is_an_address() {
        let ticket = rendered(Kind::Zendesk, &packet("ann@example.com"));
        assert_eq!(ticket["ticket"]["requester"]["email"], "ann@example.com");
        assert_eq!(ticket["ticket"]["comment"]["public"], false);
        assert_eq!(ticket["ticket"]["tags"][1], "user_keyword");
        assert_eq!(rendered(Kind::Zendesk, &packet("k-1"))["ticket"].get("requester"), None);
    }
}
