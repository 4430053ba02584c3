//! What answers an accepted message: a workflow, or text written from screened passages.

use std::time::{Duration, Instant};

use bundle::Answers;
use prost::Message as _;
use proto::converse_response::Event;
use proto::*;

use crate::draft::Draft;
use crate::gate;
use crate::grounding;
use crate::stages::{Failure, Generating};
use crate::turn::Orchestrator;

/// Times that an answer is asked for again whose generator was lost, and the pause before each.
const AGAIN: usize = 5;
const NOTICED: Duration = Duration::from_millis(50);

impl Orchestrator {
    /// Lets the workflow stage take the message; `false` when it does not want it.
    pub(crate) async fn act(&self, draft: &mut Draft<'_>, message: &Message) -> bool {
        let request = ProposeRequest {
            conversation_id: draft.turn.conversation_id.clone(),
            turn_id: draft.turn.turn_id.clone(),
            text: message.text.clone(),
            intent: draft.turn.intent.clone(),
            customer_key: message.customer_key.clone(),
            attributes: message.attributes.clone(),
            dry_run: draft.is_unseen,
        };
        let proposed = self.stages.propose(request).await;
        let proposed = match draft.took("workflow", proposed) {
            Ok(proposed) => proposed,
            Err(_) => {
                draft.hand_over(HandoffReason::WorkflowFailed);
                return true;
            }
        };
        if !proposed.handled {
            draft.waiting = proposed.status.map(|status| (status, proposed.message));
            return false;
        }
        let status = proposed.status.clone().unwrap_or_default();
        draft.workflow(status.clone()).await;
        if let Some(rehearsal) = &proposed.rehearsal {
            draft.note(rehearsed(rehearsal));
        }
        if proposed.exhausted {
            draft.note("the customer could not be understood three times");
            draft.hand_over(HandoffReason::Loop);
        } else if proposed.confirmed {
            self.execute(draft, message, status, proposed.risk).await;
        } else {
            let cancelled = status.state() == ExecutionState::Cancelled;
            note_error(draft, &status);
            draft.reply(proposed.message, if cancelled { Outcome::Clarify } else { Outcome::ActionPending });
        }
        true
    }

    /// The action rail, the gate, the effect.
    async fn execute(&self, draft: &mut Draft<'_>, message: &Message, status: WorkflowStatus, risk: i32) {
        let request =
            ScreenActionRequest { workflow: status.name.clone(), risk, slots: status.slots.clone() };
        let screened = self.stages.screen_action(request).await;
        let verdict = draft.took("safety", screened).unwrap_or_default();
        if let Some(reason) = gate::held(&verdict) {
            draft.note("the action rail did not allow the workflow");
            if let Err(error) = self.stages.cancel(status.execution_id).await {
                tracing::warn!(%error, "the refused execution was not cancelled; it expires");
            }
            draft.turn.safety = Some(verdict);
            return draft.hand_over(reason);
        }
        // The customer may have asked for a person while the rail ran; the effect must not come after that.
        if !matches!(self.journal.handoff("", &draft.turn.conversation_id).await, Ok(None)) {
            draft.note("the customer asked for a person before the effect");
            return draft.hand_over(HandoffReason::UserRequest);
        }
        let turn_id = draft.turn.turn_id.clone();
        let request = ConfirmRequest {
            execution_id: status.execution_id.clone(),
            verdict: Some(verdict),
            turn_id,
            attributes: message.attributes.clone(),
            dry_run: draft.is_unseen,
            outside_rollout: !self.is_in_rollout(&status.name),
        };
        let confirmed = self.stages.confirm(request).await;
        let Ok(confirmed) = draft.took("workflow", confirmed) else {
            // The call may have reached the stage: whether there was an effect is for a person to find out.
            return draft.hand_over(HandoffReason::UnknownEffect);
        };
        let status = confirmed.status.unwrap_or_default();
        note_error(draft, &status);
        draft.workflow(status.clone()).await;
        match status.state() {
            ExecutionState::Done => draft.reply(confirmed.message, Outcome::ActionDone),
            ExecutionState::AwaitingApproval | ExecutionState::Approved | ExecutionState::Dispatching => {
                draft.reply(confirmed.message, Outcome::ActionPending);
            }
            ExecutionState::Unknown => draft.hand_over(HandoffReason::UnknownEffect),
            _ if confirmed.explained => draft.reply(confirmed.message, Outcome::Clarify),
            _ => draft.hand_over(HandoffReason::WorkflowFailed),
        }
    }

    /// Whether the rollout has an intent of a workflow now.
    fn is_in_rollout(&self, workflow: &str) -> bool {
        let intents = self.workflows.get(workflow).into_iter().flatten();
        let mut known = intents.filter_map(|intent| self.intents.get(intent));
        self.rollout.is_none() || known.any(|known| self.rollout.has(&known.category, known.risk))
    }

    /// Answers from the passages, or says why not: with `least` support where the intent is unsure.
    pub(crate) async fn generate(
        &self,
        draft: &mut Draft<'_>,
        question: &str,
        least: f64,
    ) -> Result<(), HandoffReason> {
        let answers = self.answers(draft.turn.intent.as_ref());
        if answers == Answers::ApprovedOnly {
            draft.note("the category has approved answers only");
            return Err(HandoffReason::NoKnowledge);
        }
        let better = match (draft.better.take(), draft.accepted_intent()) {
            (None, Some(intent)) => Some(self.retrieve_for(question, intent, None).await),
            (better, _) => better,
        };
        if let Some(better) = better {
            draft.retrieved_again(better);
        }
        if draft.passages.is_empty() {
            let down = draft.retriever_failed;
            draft.note(if down { "no passages: the retriever did not answer" } else { "no passage fits" });
            return Err(if down { HandoffReason::GuardError } else { HandoffReason::NoKnowledge });
        }
        self.screen(draft).await.map_err(|_| HandoffReason::GuardError)?;
        if draft.passages.is_empty() {
            draft.note("the passage rail let none through");
            return Err(HandoffReason::NoKnowledge);
        }
        let asks = |draft: &Draft<'_>| GenerateRequest {
            min_support: least,
            extractive: answers == Answers::Extractive,
            ..self.asks(draft, question)
        };
        let start = Instant::now();
        let mut written = self.write(draft, asks(draft), self.writing()).await;
        // Where nobody was reached from the beginning it ends at once: that is an outage, and no moment of one.
        let mut tries = if matches!(written, Err(Unwritten::Lost)) { AGAIN } else { 0 };
        while tries > 0
            && matches!(written, Err(Unwritten::Lost | Unwritten::Unreached))
            && let Some(left) = self.left_to_write()
        {
            tries -= 1;
            draft.note("the generator was lost, and is asked again");
            // Until a mesh has noticed, it still leads to the one that is gone; a balancer of names knows at once.
            tokio::time::sleep(NOTICED).await;
            written = self.write(draft, asks(draft), left).await;
        }
        draft.add_ms("generator", start.elapsed().as_secs_f64() * 1e3);
        let (generation, spared) = written.map_err(HandoffReason::from)?;
        if generation.recheck {
            draft.recheck = Some(Box::new(asks(draft)));
        }
        // Where a model could have answered, what is missing is not knowledge.
        let without = if spared && generation.model_configured {
            HandoffReason::Budget
        } else {
            HandoffReason::NoKnowledge
        };
        self.release(draft, generation, question, without).await
    }

    /// Longest time that an answer is written.
    fn writing(&self) -> Duration {
        Duration::from_millis(self.config.generate_timeout_ms)
    }

    /// What is left of it where what follows in the turn keeps its own; `None` without any.
    fn left_to_write(&self) -> Option<Duration> {
        let follows = Duration::from_millis(self.config.turn_timeout_ms).saturating_sub(self.writing());
        let left =
            kit::Call::current().deadline().map(|deadline| deadline.duration_since(Instant::now().into()));
        let left = left.map_or(Some(self.writing()), |left| left.checked_sub(follows))?;
        Some(left.min(self.writing())).filter(|left| !left.is_zero())
    }

    /// What the generator is asked.
    fn asks(&self, draft: &Draft<'_>, question: &str) -> GenerateRequest {
        GenerateRequest {
            question: question.to_owned(),
            passages: draft.passages.clone(),
            // What stands alone is answered without what was said before: for less, and for others too.
            history: if draft.context.is_empty() { Vec::new() } else { draft.conversation.history.clone() },
            category: draft.category(),
            turn_id: draft.turn.turn_id.clone(),
            context: draft.context.clone(),
            intent: draft.accepted_intent().map(|intent| intent.name.clone()).unwrap_or_default(),
            embedding: draft.embedding.clone(),
            spending: self.spending(draft).into(),
            previous_model: draft.last_model().to_owned(),
            ..GenerateRequest::default()
        }
    }

    /// What may answer: the strictest of the intent's category and, while it is not accepted, the next one's.
    fn answers(&self, intent: Option<&Intent>) -> Answers {
        let Some(intent) = intent else { return Answers::ApprovedOnly };
        let accepted = intent.decision() == IntentDecision::Accept;
        let next = intent.alternatives.first().filter(|_| !accepted).map(|other| &other.name);
        let categories = std::iter::once(&intent.name).chain(next).filter_map(|name| self.intents.get(name));
        let categories = categories.filter_map(|known| self.assistant.categories.get(&known.category));
        categories.map(|category| category.answers).max().unwrap_or_default()
    }

    /// Has the answer written, by a model that costs something only within the budgets, and says whether one was spared
    /// for its cost.
    async fn write(
        &self,
        draft: &mut Draft<'_>,
        mut request: GenerateRequest,
        within: Duration,
    ) -> Result<(Generation, bool), Unwritten> {
        let bytes = request.question.len() + request.passages.iter().map(Passage::encoded_len).sum::<usize>();
        let bytes = bytes + request.history.iter().map(Utterance::encoded_len).sum::<usize>();
        let charge = if request.extractive { None } else { self.charge(draft, bytes).await };
        let spared = !request.extractive && charge.is_none();
        if spared {
            request.set_spending(Spending::Free);
        } else if charge.as_ref().is_some_and(|charge| charge.is_soft) {
            draft.note("a soft limit of the budgets is passed: the cheapest model is asked");
            request.set_spending(Spending::Thrifty);
        }
        let question = request.question.clone();
        let (written, usage) = match self.stages.generate(request, within).await {
            Ok(stream) => {
                let written = self.read(draft, stream, &question).await;
                let usage = written.as_ref().ok().map(|generation| generation.usage.unwrap_or_default());
                (written, usage)
            }
            // What was not taken has cost nothing.
            Err(failure) => (Err(broken(draft, &failure, Unwritten::Unreached)), Some(Usage::default())),
        };
        self.settle(draft, charge, usage);
        Ok((written?, spared))
    }

    /// Whom of the models a rollout lets answer, where it compares them.
    fn spending(&self, draft: &Draft<'_>) -> Spending {
        let is_treated = draft.turn.arm() == Arm::Treatment && self.rollout.compares_models();
        if is_treated { Spending::Own } else { Spending::Normal }
    }

    /// Reads the answer; with a listener, each piece leaves after the output rail passed it, and the first one takes back
    /// what one that was lost has shown.
    async fn read(
        &self,
        draft: &mut Draft<'_>,
        mut stream: Generating,
        question: &str,
    ) -> Result<Generation, Unwritten> {
        let (own, mut takes_back) = (draft.own(), draft.has_shown());
        loop {
            match stream.next().await.map_err(|failure| broken(draft, &failure, Unwritten::Lost))? {
                generate_response::Event::Final(generation) => return Ok(generation),
                generate_response::Event::Delta(delta) => {
                    if draft.events.is_none() {
                        continue;
                    }
                    let screened = self.stages.screen_output(&delta.text, question, &draft.passages).await;
                    let failed = |_| Unwritten::For(HandoffReason::GuardError);
                    let verdict = draft.took("safety", screened).map_err(failed)?;
                    if let Some(reason) = gate::held(&verdict) {
                        draft.turn.safety = Some(verdict);
                        return Err(Unwritten::For(reason));
                    }
                    let text = own.restore(&verdict.text);
                    draft.first_words();
                    let restart = delta.restart || std::mem::take(&mut takes_back);
                    draft.tell(Event::Delta(Delta { text, restart })).await;
                }
            }
        }
    }

    /// The whole answer passes the output rail and keeps only citations that stand in its passages; `without` one
    /// that is the reason.
    async fn release(
        &self,
        draft: &mut Draft<'_>,
        generation: Generation,
        question: &str,
        without: HandoffReason,
    ) -> Result<(), HandoffReason> {
        draft.spent(&generation);
        if generation.leaked {
            draft.note("the model began to repeat its prompt and was stopped");
            return Err(HandoffReason::SafetyPolicy);
        }
        if generation.abstained || generation.text.is_empty() {
            draft.note("the passages do not support an answer");
            return Err(without);
        }
        let screened = self.stages.screen_output(&generation.text, question, &draft.passages).await;
        let verdict = draft.took("safety", screened).map_err(|_| HandoffReason::GuardError)?;
        if let Some(reason) = gate::held(&verdict) {
            draft.note("the output rail held the answer back");
            draft.turn.safety = Some(verdict);
            return Err(reason);
        }
        if verdict.text.trim().is_empty() {
            draft.note("nothing of the answer is fit to be shown");
            return Err(HandoffReason::Ungrounded);
        }
        let citations = draft.verified(generation.citations.clone());
        let standing = citations.clone();
        let citations = self.presentable(draft, citations, &verdict.text, question).await?;
        if citations.is_empty() {
            draft.note("no citation stands in the passages");
            return Err(HandoffReason::Ungrounded);
        }
        if let Some(grounding) = &mut draft.grounding {
            grounding::deliver(grounding, &generation, &standing);
        }
        draft.answer(verdict.text, citations, &generation.model).await;
        Ok(())
    }

    /// The citations whose quotes the output rail passes unchanged, since a quote is shown as it stands. One that
    /// stands in the answer has passed already.
    async fn presentable(
        &self,
        draft: &mut Draft<'_>,
        citations: Vec<Citation>,
        answer: &str,
        question: &str,
    ) -> Result<Vec<Citation>, HandoffReason> {
        let mut kept = Vec::new();
        for citation in citations {
            if !answer.contains(&citation.quote) {
                let screened = self.stages.screen_output(&citation.quote, question, &draft.passages).await;
                let verdict = draft.took("safety", screened).map_err(|_| HandoffReason::GuardError)?;
                if gate::held(&verdict).is_some() || verdict.text != citation.quote {
                    draft.note(format!("a quote of {} is not fit to be shown", citation.document_id));
                    continue;
                }
            }
            kept.push(citation);
        }
        Ok(kept)
    }
}

/// What a dry run found, in words; nothing that the customer filled in.
fn rehearsed(found: &Rehearsal) -> String {
    let Rehearsal { refused, why, needs_approval, target, method, .. } = found;
    match (refused.as_str(), needs_approval) {
        ("", true) => format!("dry run: a person would have to approve a {method} to {target}"),
        ("", false) => format!("dry run: a yes would send a {method} to {target}"),
        (reason, _) => format!("dry run: the gate would refuse, {reason}: {why}"),
    }
}

fn note_error(draft: &mut Draft<'_>, status: &WorkflowStatus) {
    if !status.error.is_empty() {
        draft.note(format!("workflow {}: {}", status.name, status.error));
    }
}

/// Why there is no answer when the generator failed; `gone` where it is.
fn broken(draft: &mut Draft<'_>, failure: &Failure, gone: Unwritten) -> Unwritten {
    draft.note(failure.to_string());
    if failure.unreached() { gone } else { Unwritten::For(HandoffReason::GuardError) }
}

/// Why there is no answer.
enum Unwritten {
    /// Who wrote was lost while it did.
    Lost,
    /// Nobody took the call.
    Unreached,
    /// A person has to answer.
    For(HandoffReason),
}

impl From<Unwritten> for HandoffReason {
    fn from(unwritten: Unwritten) -> Self {
        match unwritten {
            Unwritten::Lost | Unwritten::Unreached => Self::GuardError,
            Unwritten::For(reason) => reason,
        }
    }
}
