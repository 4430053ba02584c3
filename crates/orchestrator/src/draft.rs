//! A turn in the making: what the stages said, what was decided and why, what the customer will read.

use std::time::Instant;

use proto::converse_response::Event;
use proto::*;

use crate::admit::Admission;
use crate::budget::{self, Spend};
use crate::gate::{self, Choice, Passage as Allowed, Pending};
use crate::handoff::words;
use crate::rollout::Mirrored;
use crate::stages::{Failure, Timed};
use crate::store::Conversation;
use crate::turn::{Events, Orchestrator, receipt};

/// Name of the time until the customer saw the first words of an answer.
const FIRST_WORDS: &str = "first_words";

/// The answers of the stages that are asked at the same time.
pub(crate) struct Fan {
    pub(crate) intent: Timed<Intent>,
    pub(crate) verdict: Timed<Verdict>,
    pub(crate) passages: Timed<Vec<Passage>>,
    pub(crate) better: Option<Timed<Vec<Passage>>>,
    pub(crate) embedding: Option<Embedding>,
}

/// A turn in the making.
pub(crate) struct Draft<'o> {
    pub(crate) orchestrator: &'o Orchestrator,
    pub(crate) turn: Turn,
    pub(crate) conversation: Conversation,
    pub(crate) passages: Vec<Passage>,
    pub(crate) retriever_failed: bool,
    /// Passages of a better query, used when an answer is written.
    pub(crate) better: Option<Timed<Vec<Passage>>>,
    /// The message as a vector, where there is an encoder.
    pub(crate) embedding: Option<Embedding>,
    /// The question before this one, where it leans on it; empty otherwise.
    pub(crate) context: String,
    pub(crate) events: Events,
    pub(crate) decisions: Vec<String>,
    /// The customer's words as the input rail masked them.
    pub(crate) masked: Option<String>,
    /// The customer's words as they came, for what answers them.
    pub(crate) said: String,
    /// What the journal keeps of them without a verdict.
    pub(crate) stored: String,
    pub(crate) customer_key: String,
    /// Whom model calls are charged to.
    pub(crate) payer: budget::Key,
    /// Whether the turn may be used to train models, as the number of the contract.
    pub(crate) consent: i32,
    pub(crate) pending: Option<Pending>,
    /// A question of several whose intent has a workflow, to be offered after the answer.
    pub(crate) beside: Option<(Choice, String)>,
    /// Asked beside a workflow, to be offered when that has ended.
    pub(crate) kept: Option<Pending>,
    /// The open workflow that did not take the message, and its question, to be asked again.
    pub(crate) waiting: Option<(WorkflowStatus, String)>,
    /// What its model calls are charged.
    pub(crate) spends: Vec<Spend>,
    /// Charged for model calls whose cost nobody told.
    pub(crate) untold_tokens: u64,
    /// Its model calls.
    pub(crate) calls: Vec<ModelCall>,
    /// What measures saved.
    pub(crate) savings: Option<Savings>,
    /// What the answer cache knows the answer by; empty when it does not.
    pub(crate) cache_key: String,
    /// The known answer in it that is to be written once more, for comparison.
    pub(crate) recheck: Option<Box<GenerateRequest>>,
    /// That this turn put the conversation into an arm.
    pub(crate) exposure: Option<Exposure>,
    /// That the assistant answers too where the menu does, read by nobody.
    pub(crate) mirrored: Option<Mirrored>,
    /// That this is such an answer: nothing of it may have an effect.
    pub(crate) is_unseen: bool,
    pub(crate) asked: bool,
    pub(crate) muted: bool,
    /// How much of a model's answer the passages support.
    pub(crate) grounding: Option<Grounding>,
    /// The prices of what its model calls cost.
    pub(crate) prices: String,
    pub(crate) start: Instant,
    pub(crate) accepted_at: i64,
}

impl<'o> Draft<'o> {
    pub(crate) fn new(
        orchestrator: &'o Orchestrator,
        admission: &Admission,
        start: Instant,
        events: Events,
    ) -> Self {
        let turn = Turn {
            turn_id: admission.turn_id.clone(),
            conversation_id: admission.conversation_id.clone(),
            trace_id: admission.trace_id.clone(),
            bundle: orchestrator.bundle.clone(),
            arm: if orchestrator.rollout.is_none() { Arm::Treatment } else { Arm::Unspecified }.into(),
            ..Turn::default()
        };
        Self {
            orchestrator,
            turn,
            conversation: Conversation::default(),
            passages: Vec::new(),
            retriever_failed: false,
            better: None,
            embedding: None,
            context: String::new(),
            events,
            decisions: Vec::new(),
            masked: None,
            said: admission.text.clone(),
            stored: admission.masked.clone().unwrap_or_else(|| admission.text.clone()),
            customer_key: admission.customer_key.clone(),
            payer: budget::key(&admission.customer_key, &admission.conversation_id),
            consent: admission.consent,
            pending: None,
            beside: None,
            kept: None,
            waiting: None,
            spends: Vec::new(),
            untold_tokens: 0,
            calls: Vec::new(),
            savings: None,
            cache_key: String::new(),
            recheck: None,
            exposure: None,
            mirrored: None,
            is_unseen: false,
            asked: false,
            muted: false,
            grounding: None,
            prices: String::new(),
            start,
            accepted_at: admission.accepted_at,
        }
    }

    /// Adds a decision to the explanation of the turn. Never the customer's words.
    pub(crate) fn note(&mut self, decision: impl Into<String>) {
        self.decisions.push(decision.into());
    }

    pub(crate) async fn tell(&self, event: Event) {
        if let Some(events) = &self.events {
            // A listener that went away does not end the turn.
            let _ = events.send(event).await;
        }
    }

    pub(crate) async fn accepted(&self) {
        self.tell(Event::Accepted(receipt(&self.turn))).await;
    }

    pub(crate) fn add_ms(&mut self, stage: &str, ms: f64) {
        *self.turn.timings_ms.entry(stage.to_owned()).or_default() += ms;
    }

    /// Books the time until the customer sees the first words of an answer, once.
    pub(crate) fn first_words(&mut self) {
        let ms = self.start.elapsed().as_secs_f64() * 1e3;
        self.turn.timings_ms.entry(FIRST_WORDS.to_owned()).or_insert(ms);
    }

    /// Whether the customer has seen words of an answer.
    pub(crate) fn has_shown(&self) -> bool {
        self.turn.timings_ms.contains_key(FIRST_WORDS)
    }

    /// Books the time of a call; a failure is noted and passed on.
    pub(crate) fn took<T>(&mut self, stage: &str, timed: Timed<T>) -> Result<T, Failure> {
        self.add_ms(stage, timed.ms);
        timed.result.inspect_err(|failure| {
            tracing::warn!(stage = failure.stage, %failure, "a stage did not answer");
            self.decisions.push(failure.to_string());
        })
    }

    pub(crate) async fn classified(&mut self, intent: Timed<Intent>) {
        if let Ok(intent) = self.took("classifier", intent) {
            self.tell(Event::Classified(intent.clone())).await;
            self.reads(intent);
        }
    }

    /// Takes what the classifier makes of the message.
    pub(crate) fn reads(&mut self, intent: Intent) {
        let decision = words(intent.decision().as_str_name(), "INTENT_DECISION_");
        self.note(format!(
            "intent {} at {:.2}, out-of-scope score {:.2}: {decision} (model {})",
            intent.name, intent.confidence, intent.out_of_scope_score, intent.model_version
        ));
        for other in &intent.alternatives {
            self.note(format!("next intent {} at {:.2}", other.name, other.probability));
        }
        self.turn.intent = Some(intent);
    }

    /// `false` when the input rail ends the turn.
    pub(crate) async fn screened(&mut self, verdict: Timed<Verdict>) -> bool {
        let Ok(verdict) = self.took("safety", verdict) else {
            self.hand_over(HandoffReason::GuardError);
            return false;
        };
        self.tell(Event::SafetyVerdict(verdict.clone())).await;
        // A rail that failed has no text; the customer's words must not be lost over that.
        let masked = Some(verdict.text.clone()).filter(|text| !text.is_empty());
        self.masked = masked.filter(|_| verdict.status() == SafetyStatus::Ok);
        let message = verdict.message.clone();
        let action = words(verdict.action().as_str_name(), "SAFETY_ACTION_");
        let status = words(verdict.status().as_str_name(), "SAFETY_STATUS_");
        self.note(format!("input rail: {action}, {status}, policy {}", verdict.policy_id));
        for category in &verdict.categories {
            self.decisions.push(format!("safety: {} at {:.2}", category.name, category.score));
        }
        let allowed = gate::safety(&verdict);
        // The text of the verdict is the customer's; the turn keeps the verdict alone.
        self.turn.safety = Some(Verdict { text: String::new(), ..verdict });
        match allowed {
            Allowed::Open => return true,
            Allowed::Blocked => self.reply(message, Outcome::Blocked),
            Allowed::Person(reason) => {
                self.hand_over(reason);
                self.say_instead(message);
            }
        }
        false
    }

    pub(crate) async fn retrieved(&mut self, passages: Timed<Vec<Passage>>) {
        let passages = self.took("retriever", passages);
        self.retriever_failed = passages.is_err();
        self.passages = passages.unwrap_or_default();
        let bare = self.passages.iter().map(|passage| Passage { text: String::new(), ..passage.clone() });
        self.tell(Event::Retrieved(Retrieved { passages: bare.collect() })).await;
        self.name_passages();
    }

    /// Replaces the passages by those of a better query; without an answer the first ones stay.
    pub(crate) fn retrieved_again(&mut self, passages: Timed<Vec<Passage>>) {
        if let Ok(passages) = self.took("retriever", passages) {
            self.retriever_failed = false;
            self.passages = passages;
            self.name_passages();
        }
    }

    /// Keeps the passages that the rail allowed.
    pub(crate) fn keep_passages(&mut self, allowed: &[Option<bool>]) {
        let mut allowed = allowed.iter();
        self.passages.retain(|_| allowed.next() == Some(&Some(true)));
        self.name_passages();
    }

    fn name_passages(&mut self) {
        self.turn.passages.clear();
        for passage in &self.passages {
            if !self.turn.passages.contains(&passage.document_id) {
                self.turn.passages.push(passage.document_id.clone());
            }
        }
    }

    /// The customer's words as the input rail masked them.
    pub(crate) fn masked(&self, text: &str) -> String {
        self.masked.clone().unwrap_or_else(|| text.to_owned())
    }

    pub(crate) fn intent_name(&self) -> &str {
        self.turn.intent.as_ref().map_or("", |intent| intent.name.as_str())
    }

    /// What the classifier made of the message, unspecified without it.
    pub(crate) fn decision(&self) -> IntentDecision {
        self.turn.intent.as_ref().map_or(IntentDecision::Unspecified, Intent::decision)
    }

    /// The intent, when it is accepted.
    pub(crate) fn accepted_intent(&self) -> Option<&Intent> {
        self.turn.intent.as_ref().filter(|intent| intent.decision() == IntentDecision::Accept)
    }

    /// Name of the model that wrote the last answer of the conversation; empty without one.
    pub(crate) fn last_model(&self) -> &str {
        self.conversation.last_answer.as_ref().map_or("", |last| &last.model)
    }

    pub(crate) fn category(&self) -> String {
        self.turn.intent.as_ref().map(|intent| intent.category.clone()).unwrap_or_default()
    }

    /// The customer's own choice stands above every score.
    pub(crate) fn choose(&mut self, choice: &Choice) {
        let mut intent = self.turn.intent.take().unwrap_or_default();
        self.orchestrator.rename(&mut intent, &choice.name);
        intent.confidence = 1.0;
        intent.set_decision(IntentDecision::Accept);
        intent.set_source(IntentSource::Customer);
        self.turn.intent = Some(intent);
    }

    pub(crate) async fn workflow(&mut self, status: WorkflowStatus) {
        let state = words(status.state().as_str_name(), "EXECUTION_STATE_");
        let waits = match (status.missing_slots.as_slice(), status.awaiting_confirmation) {
            (_, true) => ", waits for the customer's yes".to_owned(),
            ([], false) => String::new(),
            (missing, false) => format!(", asks for {}", missing.join(", ")),
        };
        self.note(format!("workflow {}: {state}{waits}", status.name));
        self.tell(Event::Workflow(status.clone())).await;
        self.turn.workflow = Some(status);
    }

    /// Citations of passages of this turn whose quote stands there.
    pub(crate) fn verified(&self, citations: Vec<Citation>) -> Vec<Citation> {
        let stands = |citation: &Citation| {
            let quoted = |passage: &&Passage| passage.text.contains(&citation.quote);
            let cited = |passage: &&Passage| passage.document_id == citation.document_id;
            !citation.quote.is_empty() && self.passages.iter().filter(cited).any(|passage| quoted(&passage))
        };
        citations.into_iter().filter(stands).collect()
    }

    pub(crate) async fn answer(&mut self, text: String, citations: Vec<Citation>, model: &str) {
        for citation in &citations {
            self.tell(Event::Citation(citation.clone())).await;
        }
        self.turn.citations = citations;
        model.clone_into(&mut self.turn.model);
        self.reply(text, Outcome::Answered);
    }

    pub(crate) fn reply(&mut self, text: String, outcome: Outcome) {
        self.turn.answer = text;
        self.turn.set_outcome(outcome);
    }

    pub(crate) fn ask(&mut self, pending: Pending) {
        let asked = self.conversation.clarifications + 1;
        self.note(format!("question {asked} back to the customer, {} choices", pending.choices.len()));
        self.asked = true;
        self.turn.offers_person |= pending.choices.is_empty();
        let foreign = self.decision() == IntentDecision::Language;
        let question = gate::question(&self.orchestrator.assistant, &pending.choices, foreign);
        self.reply(question, Outcome::Clarify);
        self.pending = Some(pending);
    }

    pub(crate) fn legacy(&mut self) {
        let category = self.category();
        let Orchestrator { menu, assistant, .. } = self.orchestrator;
        let title = || assistant.categories.get(&category).map(|category| category.title.clone());
        let shown = menu.as_ref().map(|menu| menu.shown(&category)).or_else(title);
        self.reply(shown.unwrap_or_default(), Outcome::Legacy);
    }

    pub(crate) fn hand_over(&mut self, reason: HandoffReason) {
        let message = self.orchestrator.farewell(reason, self.accepted_at);
        // A turn hands over once, and always under the same id.
        let handoff_id = format!("h_{}", self.turn.turn_id.trim_start_matches("t_"));
        self.turn.handoff =
            Some(HandoffNotice { handoff_id, reason: reason.into(), message: message.clone() });
        self.note(format!("a person takes over: {}", words(reason.as_str_name(), "HANDOFF_REASON_")));
        self.turn.citations.clear();
        self.reply(message, Outcome::Handoff);
    }

    /// Replaces the text of a handoff by the policy's own.
    fn say_instead(&mut self, message: String) {
        if let Some(notice) = self.turn.handoff.as_mut().filter(|_| !message.is_empty()) {
            let message = self.orchestrator.presence.told(&message, self.accepted_at);
            notice.message.clone_from(&message);
            self.turn.answer = message;
        }
    }

    /// The customer writes to the person who owns the conversation: nothing is said.
    pub(crate) fn mute(&mut self, notice: HandoffNotice) {
        self.muted = true;
        self.turn.handoff = Some(notice);
        self.turn.set_outcome(Outcome::Handoff);
    }
}

/// Sends the last events of a turn and returns it.
pub(crate) async fn announce(events: &Events, turn: Turn) -> Turn {
    if let Some(events) = events {
        if let Some(handoff) = &turn.handoff {
            let _ = events.send(Event::Handoff(handoff.clone())).await;
        }
        let _ = events.send(Event::Final(turn.clone())).await;
    }
    turn
}
