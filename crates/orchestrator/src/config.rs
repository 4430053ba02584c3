//! Table `[orchestrator]`.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use kit::Violation;
use kit::config::within;
use serde::{Deserialize, Serialize};

use crate::connector::Connector;

/// Limits of a turn and of what surrounds it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Longest message, in bytes, 1..=65536.
    pub max_text_bytes: usize,
    /// Turns at the same time, 1..=65536; more are refused with RESOURCE_EXHAUSTED. A message with the
    /// keyword that reaches a person is never refused.
    pub max_turns: usize,
    /// Whole turn, in milliseconds, 100..=120000.
    pub turn_timeout_ms: u64,
    /// One call of the classifier, in milliseconds, 1..=60000.
    pub classify_timeout_ms: u64,
    /// One call of a safety rail, in milliseconds, 1..=60000.
    pub safety_timeout_ms: u64,
    /// One retrieval, in milliseconds, 1..=60000.
    pub retrieve_timeout_ms: u64,
    /// One generation, in milliseconds, 1..=120000.
    pub generate_timeout_ms: u64,
    /// Whether the generator's model, where one is configured, may choose among the intents that the classifier
    /// is unsure of.
    pub third_opinion: bool,
    /// One such choice, in milliseconds, 1..=60000.
    pub choose_timeout_ms: u64,
    /// One call of the workflow stage, in milliseconds, 1..=60000.
    pub workflow_timeout_ms: u64,
    /// Passages asked for, 1..=100.
    pub passages: u32,
    /// Utterances of the conversation that reach the generator, 0..=100.
    pub history: u32,
    /// Questions back to the customer before a person takes over, 0..=10.
    pub max_clarifications: u32,
    /// Least support by the passages, 0..=1, for an answer to a question whose intent is not accepted; a
    /// question back is the other way. 1 turns such answers off.
    pub unsure_support: f64,
    /// Time between two searches for orphaned turns, in milliseconds, 100..=3600000.
    pub reap_every_ms: u64,
    /// How long a conversation is kept after its last turn, in days, 2..=3650; what is not over stays. An execution is
    /// retried for up to a day, and its conversation told.
    pub retain_days: u32,
    /// The most of all customers that are treated, 0..=1, whatever the plan of the rollout says: a brake for when its
    /// controller is gone.
    pub max_treated_share: f64,
    /// Share of the answers written by a model that a model judges as well, after the turn, 0..=1.
    pub judge_share: f64,
    /// Whether conversations may be used to train models where nothing is said of it.
    pub training_consent: Training,
    /// Limits of what customers may cost.
    pub budget: Budget,
    /// Address of the endpoint that helpdesks report to, `POST /v1/connectors/NAME`, such as "127.0.0.1:7780"; empty
    /// means none. It speaks plain HTTP: TLS ends before it.
    pub inbound_listen: String,
    /// Helpdesks that get every handoff, by a name of a-z, 0-9 and _.
    pub connectors: BTreeMap<String, Connector>,
}

/// Whether conversations may be used to train models where their messages do not say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Training {
    /// Only those whose customers were asked and said yes.
    Asked,
    /// All, since every customer has agreed, by contract for example; a customer may still say no.
    Granted,
}

/// Limits of what customers may cost; 0 is no limit. A message with the keyword that reaches a person, and the
/// button for one, are under none of them.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Budget {
    /// Turns of a conversation before a person takes over, 0..=1000000; a person who gives it back gives as many.
    pub turns_per_conversation: u32,
    /// Turns of a customer a minute, 0..=1000000; more are refused with RESOURCE_EXHAUSTED. Without a key of
    /// a customer the conversation counts, here and below.
    pub turns_per_minute: u32,
    /// Tokens of model calls of a turn, 0..=1000000000000; beyond them only models on the company's own machines are
    /// asked, and where there is none the passages' own sentences answer.
    pub tokens_per_turn: u64,
    /// The same of a customer a day, by UTC.
    pub customer_tokens_per_day: u64,
    /// The same of a customer a month.
    pub customer_tokens_per_month: u64,
    /// The same of all customers together a day.
    pub tokens_per_day: u64,
    /// The same of all customers together a month.
    pub tokens_per_month: u64,
    /// Share of a limit of a day or a month, 0..=1, from which on the cheapest model is asked.
    pub soft_share: f64,
    /// Tokens of an answer that are charged before a call, 1..=32768: at least what `generator.max_tokens`
    /// allows. After the call its own figures count.
    pub answer_tokens: u32,
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            turns_per_conversation: 200,
            turns_per_minute: 600,
            tokens_per_turn: 0,
            customer_tokens_per_day: 200_000,
            customer_tokens_per_month: 0,
            tokens_per_day: 20_000_000,
            tokens_per_month: 0,
            soft_share: 0.8,
            answer_tokens: 1024,
        }
    }
}

impl Budget {
    fn validate(&self, violations: &mut Vec<Violation>) {
        const MAX_TURNS: u32 = 1_000_000;
        const MAX_TOKENS: u64 = 1_000_000_000_000;
        within("budget.turns_per_conversation", self.turns_per_conversation, 0..=MAX_TURNS, violations);
        within("budget.turns_per_minute", self.turns_per_minute, 0..=MAX_TURNS, violations);
        for (key, tokens) in [
            ("tokens_per_turn", self.tokens_per_turn),
            ("customer_tokens_per_day", self.customer_tokens_per_day),
            ("customer_tokens_per_month", self.customer_tokens_per_month),
            ("tokens_per_day", self.tokens_per_day),
            ("tokens_per_month", self.tokens_per_month),
        ] {
            within(&format!("budget.{key}"), tokens, 0..=MAX_TOKENS, violations);
        }
        within("budget.soft_share", self.soft_share, 0.0..=1.0, violations);
        within("budget.answer_tokens", self.answer_tokens, 1..=32_768, violations);
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_text_bytes: 64 * 1024,
            max_turns: 1024,
            turn_timeout_ms: 30_000,
            classify_timeout_ms: 1_000,
            safety_timeout_ms: 1_000,
            retrieve_timeout_ms: 1_000,
            generate_timeout_ms: 25_000,
            third_opinion: true,
            choose_timeout_ms: 2_500,
            workflow_timeout_ms: 8_000,
            passages: 6,
            history: 10,
            max_clarifications: 2,
            unsure_support: 0.75,
            reap_every_ms: 5_000,
            retain_days: 90,
            max_treated_share: 1.0,
            judge_share: 0.0,
            training_consent: Training::Asked,
            budget: Budget::default(),
            inbound_listen: String::new(),
            connectors: BTreeMap::new(),
        }
    }
}

impl kit::Config for Config {
    fn validate(&self) -> Vec<Violation> {
        let mut violations = Vec::new();
        within("max_text_bytes", self.max_text_bytes, 1..=65_536, &mut violations);
        within("max_turns", self.max_turns, 1..=65_536, &mut violations);
        within("turn_timeout_ms", self.turn_timeout_ms, 100..=120_000, &mut violations);
        within("classify_timeout_ms", self.classify_timeout_ms, 1..=60_000, &mut violations);
        within("safety_timeout_ms", self.safety_timeout_ms, 1..=60_000, &mut violations);
        within("retrieve_timeout_ms", self.retrieve_timeout_ms, 1..=60_000, &mut violations);
        within("generate_timeout_ms", self.generate_timeout_ms, 1..=120_000, &mut violations);
        within("choose_timeout_ms", self.choose_timeout_ms, 1..=60_000, &mut violations);
        within("workflow_timeout_ms", self.workflow_timeout_ms, 1..=60_000, &mut violations);
        within("passages", self.passages, 1..=100, &mut violations);
        within("history", self.history, 0..=100, &mut violations);
        within("max_clarifications", self.max_clarifications, 0..=10, &mut violations);
        within("unsure_support", self.unsure_support, 0.0..=1.0, &mut violations);
        within("reap_every_ms", self.reap_every_ms, 100..=3_600_000, &mut violations);
        within("retain_days", self.retain_days, 2..=3_650, &mut violations);
        within("judge_share", self.judge_share, 0.0..=1.0, &mut violations);
        within("max_treated_share", self.max_treated_share, 0.0..=1.0, &mut violations);
        self.budget.validate(&mut violations);
        if !self.inbound_listen.is_empty() && self.inbound_listen.parse::<SocketAddr>().is_err() {
            let message = format!("is {:?}, allowed IP:PORT or \"\" for none", self.inbound_listen);
            violations.push(Violation { key: "inbound_listen".to_owned(), message });
        }
        for (name, connector) in &self.connectors {
            connector.validate(name, &mut violations);
        }
        violations
    }
}
