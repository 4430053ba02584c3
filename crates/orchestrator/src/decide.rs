//! What a message leads to: an answer, a workflow, a question back or a person.

use proto::*;

use crate::context::Reading;
use crate::draft::{Draft, Fan};
use crate::gate::{self, Pending, Route};
use crate::turn::Orchestrator;

impl Orchestrator {
    /// Decides an accepted message by what the stages said of it.
    pub(crate) async fn decide(&self, draft: &mut Draft<'_>, message: &Message, fan: Fan) {
        if let Some(notice) = draft.conversation.handoff.clone() {
            draft.note("a person owns the conversation: the bot is mute");
            return draft.mute(notice);
        }
        if draft.conversation.first_turn && message.preferred_handler() == Handler::Human {
            draft.note("the customer chose a person from the start");
            return draft.hand_over(HandoffReason::HumanPreferred);
        }
        draft.classified(fan.intent).await;
        self.assign(draft, message);
        if !draft.screened(fan.verdict).await {
            return;
        }
        // Whatever is open, a question or a workflow: who asks for a person gets one.
        if draft.decision() == IntentDecision::Person {
            draft.note("the customer asks for a person in other words");
            return draft.hand_over(HandoffReason::UserRequest);
        }
        if self.is_used_up(draft) {
            draft.note("the conversation has had all its turns");
            return draft.hand_over(HandoffReason::Budget);
        }
        draft.retrieved(fan.passages).await;
        draft.better = fan.better;
        draft.embedding = fan.embedding;
        let question = draft.masked(&message.text);
        match draft.conversation.pending.take() {
            Some(kept) if kept.later => {
                draft.kept = Some(kept);
                self.route(draft, message, &question).await;
            }
            Some(pending) => self.resume(draft, pending, message, &question).await,
            None => self.route(draft, message, &question).await,
        }
    }

    /// The customer replies to a question of ours: a choice, a yes to a person, or something new.
    async fn resume(&self, draft: &mut Draft<'_>, pending: Pending, message: &Message, question: &str) {
        if pending.choices.is_empty() {
            if gate::takes_offer(question) {
                draft.note("the customer accepted the offer of a person");
                return draft.hand_over(HandoffReason::UserRequest);
            }
        } else if let Some(choice) = gate::chosen(&pending.choices, question) {
            draft.note(format!("the customer chose {}", choice.name));
            self.label(&pending.turn_id, &choice.name).await;
            draft.choose(choice);
            draft.better = None;
            return self.route(draft, message, &pending.question).await;
        }
        self.route(draft, message, question).await;
    }

    async fn label(&self, turn_id: &str, intent: &str) {
        use prost::Message as _;
        let (turn_id, intent) = (turn_id.to_owned(), intent.to_owned());
        let label = SubmitLabelRequest {
            turn_id,
            intent,
            source: "customer_choice".to_owned(),
            ..Default::default()
        };
        if let Err(error) = self.journal.keep(crate::spool::Kind::Label, label.encode_to_vec()).await {
            tracing::error!(%error, "a label was lost");
        }
    }

    async fn route(&self, draft: &mut Draft<'_>, message: &Message, question: &str) {
        if draft.turn.arm() != Arm::Treatment && !self.rollout.compares_models() {
            return draft.legacy();
        }
        // What the customer chose is meant as it was chosen.
        let chosen = draft.turn.intent.as_ref().is_some_and(|it| it.source() == IntentSource::Customer);
        let fresh = !draft.conversation.is_in_workflow() && !chosen;
        let reading = if fresh { self.in_context(draft, question).await } else { Reading::Alone };
        // A single word to a workflow's question is an answer to it, whatever it resembles.
        let answers = draft.conversation.is_in_workflow() && question.split_whitespace().count() == 1;
        if !answers && self.goes_to_a_person(draft) {
            return;
        }
        let asks = reading == Reading::Asking || fresh && text::asks_for_facts(question);
        if !asks && self.begin(draft, message, question).await {
            return;
        }
        let today = jiff::Zoned::now().date();
        let accepted = draft.accepted_intent().map(|intent| intent.name.clone());
        if let Some(approved) = self.curated.find(question, accepted.as_deref(), today) {
            draft.note("an approved answer fits");
            return draft.answer(approved.text.clone(), approved.citations.clone(), "curated").await;
        }
        if draft.decision() != IntentDecision::Language {
            self.in_parts(draft, question).await;
        }
        let Some(intent) = draft.turn.intent.clone() else {
            draft.note("without a classification only approved answers are given");
            return draft.hand_over(HandoffReason::GuardError);
        };
        let intent = self.third_opinion(draft, question, intent).await;
        if self.goes_to_a_person(draft) {
            return;
        }
        let unanswered = match self.answer_from_knowledge(draft, question, &intent, reading).await {
            Ok(()) => return self.offer_workflow(draft, intent, question).await,
            Err(reason) => reason,
        };
        let may_begin = asks && reading != Reading::Asking && !gate::ends(unanswered);
        if may_begin && self.begin(draft, message, question).await {
            return;
        }
        // A workflow is not lost over a question in between, unless that is about something of high risk.
        let light = intent.decision() != IntentDecision::Accept || intent.risk() != Risk::High;
        if light && !gate::ends(unanswered) && draft.goes_on().await {
            return;
        }
        match gate::route(&intent, draft.conversation.clarifications, self.config.max_clarifications) {
            Route::Go => draft.hand_over(unanswered),
            _ if gate::ends(unanswered) => draft.hand_over(unanswered),
            Route::Person(reason) => draft.hand_over(reason),
            Route::Ask(choices) => {
                let question = question.to_owned();
                draft.ask(Pending { question, turn_id: draft.turn.turn_id.clone(), choices, later: false });
            }
        }
    }

    /// Answers from the knowledge base, or says why not. Where the intent is unsure the passages have to leave little
    /// doubt, and it must be known what the question is about.
    async fn answer_from_knowledge(
        &self,
        draft: &mut Draft<'_>,
        question: &str,
        intent: &Intent,
        reading: Reading,
    ) -> Result<(), HandoffReason> {
        let least = match intent.decision() {
            IntentDecision::Accept => 0.0,
            _ if gate::is_unsure(intent) && reading != Reading::Dangling => self.config.unsure_support,
            _ => 1.0,
        };
        if least >= 1.0 {
            return Err(HandoffReason::NoKnowledge);
        }
        self.generate(draft, question, least).await
    }

    /// Goes on with the open workflow, or begins that of the intent; `false` when there is none.
    async fn begin(&self, draft: &mut Draft<'_>, message: &Message, question: &str) -> bool {
        let open = draft.conversation.is_in_workflow();
        let acts = draft.conversation.open.is_some() || self.actionable.contains(draft.intent_name());
        let handled = acts && self.act(draft, message).await;
        if handled && !open {
            self.keep_others(draft, question).await;
        }
        handled
    }
}
