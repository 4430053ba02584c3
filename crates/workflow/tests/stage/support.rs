//! The stage as its callers see it, over a bundle in a temporary folder.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use proto::workflow_service_client::WorkflowServiceClient;
use proto::{
    ConfirmRequest, ConfirmResponse, Execution, GetExecutionRequest, Intent, IntentDecision, ProposeRequest,
    ProposeResponse, SafetyAction, SafetyStatus, Verdict,
};

pub(crate) const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// `[workflow]` with targets to which nothing is sent.
pub(crate) fn targets() -> String {
    let target = |name: &str| {
        format!("targets.{name} = {{ url = \"https://{name}.example\", secret = \"{SECRET}\" }}\n")
    };
    ["bank", "shop"].map(target).concat()
}

const ASSISTANT: &str = r#"
schema = 1
name = "test"
title = "Test"
locales = ["en"]
[handoff]
message = "A person."
[categories.all]
title = "All"
"#;

const BLOCK_CARD: &str = r#"
name = "block_card"
title = "Block a card"
intents = ["lost_card"]
risk = "medium"
effect = "idempotent"
threshold = 0.6
confirmation = "Block {{ last4 }} as {{ reason }}?"
done = "Blocked {{ last4 }}, {{ reference }}."
request = { method = "POST", target = "bank", path = "/cards/block", timeout_ms = 300, body = { last4 = "{{ last4 }}", why = ["{{ reason }}"] } }
retry = { max_attempts = 3 }
[[slot]]
name = "last4"
type = "pattern"
pattern = "[0-9]{4}"
prompt = "Last four?"
invalid = "Four digits, please."
[[slot]]
name = "reason"
type = "choice"
choices = [{ value = "lost", words = ["can't find", "misplaced"] }, { value = "stolen", words = ["robbed"] }]
prompt = "Lost or stolen?"
"#;

const PAY_BACK: &str = r#"
name = "pay_back"
title = "Pay money back"
intents = ["refund"]
risk = "medium"
threshold = 0.5
confirmation = "Pay {{ amount }} of {{ day }} from {{ shop }} to {{ email }}{% if order %} for {{ order }}{% endif %}?"
done = "Paid {{ amount }}, {{ reference }}."
request = { method = "POST", target = "bank", path = "/pay", timeout_ms = 300, body = { amount = "{{ amount }}", shop = "{{ shop }}" } }
[[slot]]
name = "amount"
type = "amount"
min = 0.01
max = 500
currency = "GBP"
prompt = "How much?"
invalid = "Up to 500 pounds."
[[slot]]
name = "day"
type = "date"
prompt = "When?"
[[slot]]
name = "shop"
type = "text"
prompt = "Which shop?"
[[slot]]
name = "email"
type = "email"
prompt = "Which e-mail?"
[[slot]]
name = "order"
type = "order_id"
prompt = "Which order, if any?"
optional = true
"#;

const CANCEL_ORDER: &str = r#"
name = "cancel_order"
title = "Cancel an order"
intents = ["cancel_order"]
risk = "low"
effect = "idempotent"
threshold = 0.5
confirmation = "Cancel {{ order }}?"
done = "Cancelled {{ order }}."
request = { method = "DELETE", target = "shop", path = "/orders", body = { order = "{{ order }}" } }
[[slot]]
name = "order"
type = "order_id"
pattern = "HB-[0-9]{6}"
prompt = "Which order?"
"#;

const MOVE_MONEY: &str = r#"
name = "move_money"
title = "Move money"
intents = ["move"]
risk = "medium"
threshold = 0.5
confirmation = "Move from {{ source }} to {{ sink }}?"
done = "Moved."
request = { method = "PUT", target = "bank", path = "/move", timeout_ms = 300 }
[[slot]]
name = "source"
type = "pattern"
pattern = "[0-9]{4}"
prompt = "From?"
[[slot]]
name = "sink"
type = "pattern"
pattern = "[0-9]{4}"
prompt = "To?"
"#;

const CLOSE: &str = r#"
name = "close"
title = "Close an account"
intents = ["close"]
risk = "medium"
threshold = 0.5
confirmation = "Close it{% if why %}, because {{ why }}{% endif %}?"
done = "Closed."
request = { method = "POST", target = "bank", path = "/close", body = { why = "{{ why }}" } }
[[slot]]
name = "why"
type = "text"
prompt = "Why, if you like?"
optional = true
"#;

/// A folder with the bundle and one for the data.
pub(crate) fn bundle() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(dir.path().join("workflows")).unwrap();
    std::fs::write(dir.path().join("assistant.toml"), ASSISTANT).unwrap();
    for (name, text) in [
        ("block", BLOCK_CARD),
        ("pay", PAY_BACK),
        ("cancel", CANCEL_ORDER),
        ("move", MOVE_MONEY),
        ("close", CLOSE),
    ] {
        std::fs::write(dir.path().join("workflows").join(format!("{name}.toml")), text).unwrap();
    }
    dir
}

/// The bundle with one workflow more.
pub(crate) fn bundle_with(workflow: &str) -> tempfile::TempDir {
    let dir = bundle();
    std::fs::write(dir.path().join("workflows/more.toml"), workflow).unwrap();
    dir
}

/// A running stage and a customer of it.
pub(crate) struct Desk {
    pub(crate) client: WorkflowServiceClient<kit::Link>,
    pub(crate) context: kit::Context,
    conversation: Mutex<String>,
    customer: Mutex<String>,
    attributes: Mutex<HashMap<String, String>>,
    turns: AtomicU32,
}

impl Desk {
    /// `settings` is the table `[workflow]`.
    pub(crate) async fn open(dir: &Path, settings: &str) -> Self {
        kit::run::install_tls();
        let mut context = kit::Context::default();
        context.server.bundle = dir.to_owned();
        context.server.data_dir = dir.join("data");
        context.server.database.url = scratch::chosen(&context.server.data_dir).map(Into::into);
        let stage = workflow::service(toml::from_str(settings).unwrap(), context.clone()).await.unwrap();
        let client = WorkflowServiceClient::new(kit::Link::local(&stage));
        let (conversation, customer) = (Mutex::new("c1".to_owned()), Mutex::new("k".to_owned()));
        let attributes = Mutex::default();
        Self { client, context, conversation, customer, attributes, turns: AtomicU32::new(0) }
    }

    /// Begins a new conversation.
    pub(crate) fn talk(&self, conversation: &str) {
        *self.conversation.lock().unwrap() = conversation.to_owned();
    }

    /// Speaks as another customer.
    pub(crate) fn customer(&self, key: &str) {
        *self.customer.lock().unwrap() = key.to_owned();
    }

    /// What the caller knows of the customer from now on.
    pub(crate) fn knows(&self, attributes: &[(&str, &str)]) {
        let attributes = attributes.iter().map(|(name, value)| (name.to_string(), value.to_string()));
        *self.attributes.lock().unwrap() = attributes.collect();
    }

    /// The next message, classified as `intent`; an intent that begins with `?` is not accepted.
    pub(crate) async fn say(&self, text: &str, intent: &str) -> ProposeResponse {
        let turn = self.turns.fetch_add(1, Ordering::Relaxed);
        self.send(&format!("t{turn}"), text, intent, 0.9).await.unwrap()
    }

    pub(crate) async fn send(
        &self,
        turn: &str,
        text: &str,
        intent: &str,
        confidence: f64,
    ) -> Result<ProposeResponse, tonic::Status> {
        let decision =
            if intent.starts_with('?') { IntentDecision::LowConfidence } else { IntentDecision::Accept };
        let name = intent.trim_start_matches('?').to_owned();
        let intent = Intent { name, confidence, decision: decision.into(), ..Intent::default() };
        let request = ProposeRequest {
            conversation_id: self.conversation.lock().unwrap().clone(),
            turn_id: turn.to_owned(),
            text: text.to_owned(),
            intent: Some(intent),
            customer_key: self.customer.lock().unwrap().clone(),
            attributes: self.attributes.lock().unwrap().clone(),
            dry_run: false,
        };
        Ok(self.client.clone().propose(request).await?.into_inner())
    }

    pub(crate) async fn confirm(&self, id: &str) -> ConfirmResponse {
        let verdict = Verdict {
            action: SafetyAction::Allow.into(),
            status: SafetyStatus::Ok.into(),
            ..Verdict::default()
        };
        self.confirm_with(id, Some(verdict)).await
    }

    pub(crate) async fn confirm_with(&self, id: &str, verdict: Option<Verdict>) -> ConfirmResponse {
        let request = ConfirmRequest {
            execution_id: id.to_owned(),
            verdict,
            turn_id: "yes".to_owned(),
            attributes: self.attributes.lock().unwrap().clone(),
            ..ConfirmRequest::default()
        };
        self.client.clone().confirm(request).await.unwrap().into_inner()
    }

    pub(crate) async fn get(&self, id: &str) -> Execution {
        let request = GetExecutionRequest { execution_id: id.to_owned() };
        self.client.clone().get_execution(request).await.unwrap().into_inner().execution.unwrap()
    }
}
