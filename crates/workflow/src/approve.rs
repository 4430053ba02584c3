//! Where the risk is high: the person without whom nothing is done.

use jiff::Timestamp;
use tokio::time::Instant;

use crate::catalogue::Workflow;
use crate::converse::NOT_DONE;
use crate::engine::{Answered, Engine, Error, Input};
use crate::execution::{Execution, State};
use crate::gate::{self, Clearance};
use crate::store::{Reply, Turn};

/// What the customer reads while it waits.
pub(crate) const WAITING: &str = "A colleague has to approve this first. You will be told here how it ends.";
const REJECTED: &str = "REJECTED";
const NOT_APPROVED: &str =
    "A colleague has looked at your request and did not approve it. Nothing was changed.";
const NOT_IN_TIME: &str = "I am sorry, no colleague could approve your request in time. Nothing was changed; \
    please ask again if you still want it.";

/// What a person says of an execution that waits.
#[derive(Debug, Clone)]
pub(crate) struct Decision {
    /// Id of the execution.
    pub(crate) execution: String,
    /// Whether it may be done.
    pub(crate) approved: bool,
    /// Who says so.
    pub(crate) actor: String,
    /// Why.
    pub(crate) note: String,
}

/// What became of an approval that was not given, as the customer reads it; `None` for everything else.
pub(crate) fn fate(execution: &Execution) -> Option<&'static str> {
    let waited = execution.state == State::Cancelled && !execution.confirmed_in.is_empty();
    match execution.error.as_str() {
        REJECTED if waited => Some(NOT_APPROVED),
        "EXPIRED" if waited => Some(NOT_IN_TIME),
        _ => None,
    }
}

impl Workflow {
    /// Whether a person has to approve it after the customer's yes.
    pub(crate) fn needs_approval(&self) -> bool {
        self.risk == bundle::Risk::High
    }
}

impl Engine {
    /// Keeps what its customer has confirmed until a person approves it.
    pub(crate) async fn await_approval(&self, confirmed: Execution) -> Result<(Execution, String), Error> {
        let (from, waiting) = (confirmed.state, Execution { state: State::Awaiting, ..confirmed });
        let waiting = self.store.update_notice(from, waiting, None, true).await?.ok_or(Error::Conflict)?;
        let (id, workflow) = (&waiting.id, &waiting.workflow);
        tracing::warn!(
            execution = id,
            workflow,
            "waits for a person: firstline workflow approve {id}, or reject"
        );
        self.told(waiting)
    }

    /// Does what a person approves, as [`Engine::confirm`] executes, after the gate has looked at it once more; ends
    /// what a person rejects. The same decision of the same person twice changes nothing.
    pub(crate) async fn decide(
        &self,
        decision: Decision,
        now: Timestamp,
        until: Instant,
    ) -> Result<(Execution, String), Error> {
        let Decision { execution, approved, actor, note } = decision;
        let execution = self.get(&execution).await?;
        if execution.approved_by == actor && approved == (execution.error != REJECTED) {
            return self.told(execution);
        }
        if execution.state != State::Awaiting {
            return Err(Error::State { is: execution.state.name(), allowed: "AWAITING_APPROVAL" });
        }
        let (id, name) = (&execution.id, &execution.workflow);
        tracing::warn!(execution = id, workflow = name, actor, approved, "decided by a person");
        let decided = Execution { approved_by: actor, approval_note: note, ..execution };
        if !approved {
            let rejected = self.end(decided, REJECTED, now).await?.ok_or(Error::Conflict)?;
            return self.told(rejected);
        }
        let workflow = self.catalogue.workflow(&decided.workflow).map(AsRef::as_ref);
        // The rail has allowed these slots before the execution began to wait.
        let conditions = self.conditions(&decided, workflow, Clearance::Allowed, self.around(None, now));
        match (gate::admit(&decided, &conditions), workflow) {
            (Ok(threshold), Some(workflow)) => {
                let decided = Execution { threshold, updated_at: now, ..decided };
                self.carry_out(decided, workflow, until).await
            }
            (Err(refusal), _) => self.refuse(decided, &refusal, now).await,
            (Ok(_), None) => Err(Error::Conflict),
        }
    }

    /// Ends what nobody approved in time.
    pub(crate) async fn expire(&self, now: Timestamp) -> Result<(), Error> {
        let Ok(before) = now.checked_sub(self.ttl(State::Awaiting)) else { return Ok(()) };
        for waiting in self.store.awaiting_since(before).await? {
            let (id, workflow) = (waiting.id.clone(), waiting.workflow.clone());
            if self.end(waiting, "EXPIRED", now).await?.is_some() {
                tracing::warn!(execution = id, workflow, "nobody approved it in time");
            }
        }
        Ok(())
    }

    /// The customer gives up what waits.
    pub(crate) async fn withdraw(&self, waiting: Execution, input: &Input, now: Timestamp) -> Answered {
        let reply = Reply { handled: true, message: NOT_DONE.to_owned(), ..Reply::default() };
        let turn = Turn { id: input.turn.clone(), reply: reply.clone() };
        let (from, ended) =
            (waiting.state, Execution { state: State::Cancelled, updated_at: now, ..waiting });
        let ended = self.store.update_notice(from, ended, Some(turn), false).await?;
        Ok(ended.map(|execution| (execution, reply)))
    }
}
