//! The door: what a message must be, and what the journal keeps of it.

use proto::{Consent, Message};
use serde::{Deserialize, Serialize};

use crate::budget;
use crate::config::Training;
use crate::turn::{Act, Error, Orchestrator, now};

/// Longest id or key of a caller.
pub(crate) const MAX_ID_BYTES: usize = 128;

/// A message at the door.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Admission {
    pub(crate) turn_id: String,
    pub(crate) conversation_id: String,
    pub(crate) customer_key: String,
    pub(crate) request_id: Option<String>,
    pub(crate) fingerprint: [u8; 32],
    pub(crate) trace_id: String,
    pub(crate) text: String,
    /// What the journal keeps instead of the text, unless a person has the conversation and reads it there; `None`
    /// keeps the text.
    pub(crate) masked: Option<String>,
    pub(crate) accepted_at: i64,
    /// How long the turn is this process's, from its commit on, unless it is renewed; in microseconds.
    pub(crate) lease: i64,
    pub(crate) history: u32,
    /// Whether the turn may be used to train models, as the number of the contract.
    #[serde(default)]
    pub(crate) consent: i32,
    /// The execution that a button confirms or declines.
    pub(crate) confirms: Option<String>,
}

impl Admission {
    /// The same with ids that follow from the request's, so that a request which is tried again before the journal has
    /// answered, here or at another process, is the same turn. `message` is the one admitted.
    pub(crate) fn pinned(self, message: &Message) -> Self {
        let Some(request_id) = &self.request_id else { return self };
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.fingerprint).update(request_id.as_bytes());
        let id = &hasher.finalize().to_hex()[..32];
        let turn_id = format!("t_{id}");
        let own = message.conversation_id.is_empty();
        Self { turn_id, conversation_id: if own { format!("c_{id}") } else { self.conversation_id }, ..self }
    }
}

/// Refuses an id that is too long or holds control characters.
pub(crate) fn check_id(field: &'static str, id: &str) -> Result<(), Error> {
    if id.len() <= MAX_ID_BYTES && !id.chars().any(char::is_control) {
        return Ok(());
    }
    let message = format!("{} bytes, allowed up to {MAX_ID_BYTES} without control characters", id.len());
    Err(Error::Invalid { field, message })
}

/// What telemetry gets instead of a customer's key; empty without one.
pub(crate) fn customer_hash(key: &str) -> String {
    if key.is_empty() {
        return String::new();
    }
    blake3::hash(key.as_bytes()).to_hex()[..16].to_owned()
}

impl Orchestrator {
    pub(crate) fn check(&self, message: &Message, act: &Act) -> Result<(), Error> {
        let (text, most) = (&message.text, self.config.max_text_bytes);
        if *act == Act::Say && text.trim().is_empty() || text.len() > most {
            let message = format!("{} bytes, allowed 1 to {most} and not only spaces", text.len());
            return Err(Error::Invalid { field: "text", message });
        }
        check_id("conversation_id", &message.conversation_id)?;
        check_id("request_id", &message.request_id)?;
        check_id("customer_key", &message.customer_key)?;
        let wrong = kit::attributes::wrong(message.attributes.iter());
        wrong.map_or(Ok(()), |message| Err(Error::Invalid { field: "attributes", message }))
    }

    /// Refuses a message of a customer who writes faster than anybody can.
    pub(crate) fn check_pace(&self, message: &Message) -> Result<(), Error> {
        let Message { customer_key, conversation_id, .. } = message;
        let unknown = customer_key.is_empty() && conversation_id.is_empty();
        if unknown || self.ledger.admit(budget::key(customer_key, conversation_id), now()) {
            return Ok(());
        }
        Err(Error::TooFast("turns of the customer", self.config.budget.turns_per_minute))
    }

    /// Whether a turn may be used to train models: what the customer said, else what the installation says. Something that
    /// only a newer caller knows is no consent.
    fn consent(&self, said: i32) -> Consent {
        match (Consent::try_from(said), self.config.training_consent) {
            (Ok(Consent::Unspecified), Training::Granted) => Consent::Granted,
            (said, _) => said.unwrap_or(Consent::Denied),
        }
    }

    pub(crate) fn admit(&self, message: &Message, act: &Act) -> Admission {
        let mut fingerprint = blake3::Hasher::new();
        let act_and_handler = format!("{act:?} {}", message.preferred_handler);
        for part in [&message.conversation_id, &message.customer_key, &message.text, &act_and_handler] {
            fingerprint.update(&(part.len() as u64).to_le_bytes()).update(part.as_bytes());
        }
        let id = || uuid::Uuid::now_v7().simple().to_string();
        let given = |id: &String| Some(id.clone()).filter(|id| !id.is_empty());
        let accepted_at = now();
        let confirms = match act {
            Act::Decide { execution_id } => Some(execution_id.clone()),
            _ => None,
        };
        Admission {
            turn_id: format!("t_{}", id()),
            conversation_id: given(&message.conversation_id).unwrap_or_else(|| format!("c_{}", id())),
            customer_key: message.customer_key.clone(),
            request_id: given(&message.request_id),
            fingerprint: *fingerprint.finalize().as_bytes(),
            trace_id: kit::Call::current().trace_id(),
            text: message.text.clone(),
            masked: None,
            accepted_at,
            lease: self.lease(),
            history: self.config.history,
            consent: self.consent(message.consent).into(),
            confirms,
        }
    }
}
