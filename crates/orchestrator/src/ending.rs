//! What of a turn is kept at its end.

use proto::{ExecutionState, HandoffNotice, Outcome, TurnRecord};

use crate::draft::Draft;
use crate::handoff::timestamp;
use crate::open::{Awaits, OpenExecution};
use crate::store::Finish;

impl Draft<'_> {
    /// Everything the journal keeps of the turn.
    pub(crate) fn end(mut self) -> Finish {
        let total = self.start.elapsed().as_secs_f64() * 1e3;
        self.add_ms("total", total);
        self.turn.offers_person &= self.turn.outcome() != Outcome::Handoff;
        let asked = u32::from(self.asked);
        let answered = self.turn.outcome() == Outcome::Answered;
        let clarifications = if answered { 0 } else { self.conversation.clarifications + asked };
        let handoff = self.packet();
        let open = self.open();
        let connectors = self.orchestrator.config.connectors.keys().cloned().collect();
        // Without a verdict nobody has masked the words, and those said in a workflow hold slot values: they
        // stay in the journal and go nowhere else.
        let question = self.masked.clone().filter(|_| self.turn.workflow.is_none()).unwrap_or_default();
        let record = TurnRecord {
            turn: None,
            question,
            accepted_at: Some(timestamp(self.accepted_at)),
            customer_hash: crate::admit::customer_hash(&self.customer_key),
            decisions: self.decisions,
            exposure: self.exposure,
            consent: self.consent,
            muted: self.muted,
            grounding: self.grounding,
            price_version: self.prices,
            unseen: self.is_unseen,
            calls: self.calls,
            savings: self.savings,
            cache_key: self.cache_key,
        };
        // What ended otherwise is not the menu's.
        let mirrored = self.mirrored.is_some() && self.turn.outcome() == Outcome::Legacy;
        Finish {
            turn: self.turn,
            record,
            mirrored,
            masked: self.masked,
            clarifications,
            pending: self.pending,
            open,
            handoff,
            connectors,
            accepted_at: self.accepted_at,
            spends: self.spends,
            traceparent: kit::Call::current().traceparent(),
        }
    }

    /// The workflow that is not over: a digression leaves it open, a handoff ends it.
    pub(crate) fn open(&self) -> Option<OpenExecution> {
        match &self.turn.workflow {
            _ if self.turn.outcome() == Outcome::Handoff => None,
            None => self.conversation.open.clone(),
            Some(status) => {
                let awaits = match status.state() {
                    ExecutionState::Proposed if status.awaiting_confirmation => Awaits::Yes,
                    ExecutionState::Proposed => Awaits::Slot,
                    ExecutionState::AwaitingApproval => Awaits::Approval,
                    _ => return None,
                };
                Some(OpenExecution { execution_id: status.execution_id.clone(), awaits })
            }
        }
    }
}

/// A person took the conversation over while this turn ran: one handoff a conversation, the customer's
/// earlier receipt stays good, and the bot says nothing any more. What a workflow did is still told.
pub(crate) fn meet_handoff(end: &mut Finish, open: HandoffNotice) {
    end.handoff = None;
    end.pending = None;
    match (end.turn.outcome(), &mut end.turn.handoff) {
        (Outcome::Handoff, Some(notice)) => {
            notice.handoff_id = open.handoff_id;
            end.record.muted = true;
        }
        (Outcome::ActionDone | Outcome::ActionPending, _) => {}
        _ => {
            end.turn.answer.clear();
            end.turn.citations.clear();
            end.turn.handoff = Some(open);
            end.turn.set_outcome(Outcome::Handoff);
            end.record.muted = true;
            if let Some(grounding) = &mut end.record.grounding {
                (grounding.delivered_claims, grounding.delivered_unsupported) = (0, 0);
            }
        }
    }
}
