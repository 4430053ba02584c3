//! Durable execution: approval, attempts, restart, and the person who resolves an unknown effect.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;
use tracing::Instrument as _;

use crate::deliver::{Answer, Delivery};
use crate::engine::{Engine, Error, now};
use crate::gate::{self, Clearance, Conditions, Refusal};
use crate::page::Place;
use crate::store::{Execution, State};

/// Receivers keep an idempotency key at least this long (promises.md, "Workflow durability"); a later
/// retry could have its effect twice.
const MAX_AGE: SignedDuration = SignedDuration::from_hours(24);
const SWEEP_EVERY: Duration = Duration::from_secs(3600);

const UNDER_WAY: &str = "Your request is under way. I will have the result in a moment.";
const FAILED: &str = "I am sorry, this did not work. Nothing was changed.";
const UNKNOWN: &str = "I cannot tell whether this went through. A colleague will check and tell you.";
const REFUSED: &str = "I am sorry, I cannot do this here. Nothing was changed.";

/// The customer's yes.
#[derive(Debug, Clone)]
pub(crate) struct Yes {
    /// Id of the execution.
    pub(crate) execution: String,
    /// Turn in which it was said.
    pub(crate) turn: String,
    /// What the action rail says.
    pub(crate) clearance: Clearance,
}

impl Engine {
    /// Passes the gate and executes. Waits for the result until `until`; the execution goes on when the
    /// caller is gone. An execution that is already past the gate is returned as it is. A refusal is in
    /// the error of the execution returned.
    pub(crate) async fn confirm(
        &self,
        yes: Yes,
        now: Timestamp,
        until: Instant,
    ) -> Result<(Execution, String), Error> {
        let execution = self.get(&yes.execution).await?;
        if !matches!(execution.state, State::Proposed | State::Cancelled) {
            return self.told(execution);
        }
        let workflow = self.catalogue.workflow(&execution.workflow);
        let target = workflow.is_some_and(|workflow| self.sender.knows(&workflow.request.target));
        let conditions = Conditions {
            workflow: workflow.map(AsRef::as_ref),
            target,
            clearance: yes.clearance,
            now,
            open_ttl: self.open_ttl(),
        };
        let (threshold, workflow) = match (gate::admit(&execution, &conditions), workflow) {
            (Ok(threshold), Some(workflow)) => (threshold, workflow),
            (Err(refusal), _) => return self.refuse(execution, &refusal, now).await,
            (Ok(_), None) => return Err(Error::Conflict),
        };
        let delivery = Delivery::of(workflow, &execution.progress.slots)?;
        let approved = Execution {
            state: State::Approved,
            threshold,
            delivery: Some(delivery),
            confirmed_in: yes.turn,
            updated_at: now,
            ..execution
        };
        let (engine, id, caps) = (self.clone(), approved.id.clone(), workflow.caps);
        // From here on everything happens in a task of its own, because the call may be dropped any moment.
        let work = async move {
            match engine.store.approve(approved, caps).await? {
                Some((approved, None)) => engine.deliver(approved, false).await,
                Some((ended, Some(refusal))) => log(&ended, &refusal),
                None => {}
            }
            Ok::<(), Error>(())
        };
        let work = self.tasks.spawn(kit::Call::current().detached().scope(work).in_current_span());
        let ended = tokio::time::timeout_at(until, work).await;
        let finished = ended.is_ok();
        if let Ok(done) = ended {
            done.map_err(Error::Interrupted)??;
        }
        let execution = self.get(&id).await?;
        // The customer changed something between the yes and the approval.
        if finished && execution.state == State::Proposed {
            return Err(Error::Conflict);
        }
        self.told(execution)
    }

    /// Takes up what the last process left: approved requests are sent, idempotent ones sent again, and what
    /// may have had its effect becomes unknown.
    pub(crate) async fn recover(&self, now: Timestamp) -> Result<(), Error> {
        for state in [State::Approved, State::Dispatching] {
            for execution in self.store.list("", Some(state), Place::start(), u32::MAX).await? {
                let sent = state == State::Dispatching;
                let again = execution.delivery.as_ref().is_some_and(|delivery| delivery.idempotent);
                // The first attempt may be as old as the execution; the approval is the last change before it.
                let since = if sent { execution.created_at } else { execution.updated_at };
                let late = now.duration_since(since) > MAX_AGE;
                tracing::warn!(
                    execution = execution.id,
                    state = state.name(),
                    sent,
                    late,
                    "left by the last process"
                );
                match (sent, late) {
                    (false, true) => self.settle(execution, State::Failed, "EXPIRED").await,
                    (true, true) => self.settle(execution, State::Unknown, "INTERRUPTED").await,
                    (true, false) if !again => self.settle(execution, State::Unknown, "INTERRUPTED").await,
                    _ => {
                        let engine = self.clone();
                        self.tasks.spawn(async move { engine.deliver(execution, sent).await });
                    }
                }
            }
        }
        Ok(())
    }

    /// Deletes what ended long ago, now and every hour until shutdown.
    pub(crate) async fn sweep(self) {
        let keep = SignedDuration::from_hours(24 * i64::from(self.config.retain_days));
        let mut hours = tokio::time::interval(SWEEP_EVERY);
        while self.shutdown.run_until_cancelled(hours.tick()).await.is_some() {
            let Ok(before) = now().checked_sub(keep) else { return };
            match self.store.forget(before).await {
                Ok(0) => (),
                Ok(count) => tracing::info!(count, "old executions deleted"),
                Err(error) => tracing::warn!(error = &error as &dyn std::error::Error, "cannot delete"),
            }
        }
    }

    /// Records what a person found out about an unknown effect; the same finding twice changes nothing.
    pub(crate) async fn resolve(
        &self,
        id: &str,
        happened: bool,
        actor: String,
        note: String,
        now: Timestamp,
    ) -> Result<Execution, Error> {
        let execution = self.get(id).await?;
        let state = if happened { State::Done } else { State::Failed };
        if execution.state == state && execution.resolved_by == actor {
            return Ok(execution);
        }
        if execution.state != State::Unknown {
            return Err(Error::State { is: execution.state.name(), allowed: "UNKNOWN" });
        }
        let reference = if happened { execution.id.clone() } else { String::new() };
        let error = if happened { String::new() } else { execution.error.clone() };
        let resolved =
            Execution { state, resolved_by: actor, note, reference, error, updated_at: now, ..execution };
        self.store.update(State::Unknown, resolved, None).await?.ok_or(Error::Conflict)
    }

    /// Sends until the effect is certain, the attempts are used up, or shutdown. `unclear` says that an
    /// earlier attempt may have had its effect: then only the receiver's yes proves anything.
    async fn deliver(&self, mut execution: Execution, mut unclear: bool) {
        // The approval wrote it; only a damaged row has none, and nothing can be sent for it.
        let Some(delivery) = execution.delivery.clone() else { return };
        loop {
            let from = execution.state;
            execution.state = State::Dispatching;
            execution.attempts += 1;
            execution.updated_at = now();
            // Committed before the connection is opened: whoever finds it knows that it may have been sent.
            let Some(claimed) = self.insist(from, execution).await else { return };
            execution = claimed;
            let span = tracing::info_span!(
                "execute_tool",
                otel.name = format!("execute_tool {}", execution.workflow),
                otel.kind = "client",
                gen_ai.operation.name = "execute_tool",
                gen_ai.tool.name = execution.workflow,
                gen_ai.tool.call.id = execution.id,
                attempt = execution.attempts,
            );
            let answer = self.sender.send(&delivery, &execution.id).instrument(span).await;
            let failed = if unclear { State::Unknown } else { State::Failed };
            let (end, error) = match answer {
                Answer::Done(reference) => {
                    execution.reference = reference.unwrap_or_else(|| execution.id.clone());
                    self.settle(execution, State::Done, "").await;
                    return;
                }
                Answer::Refused(error) => {
                    self.settle(execution, failed, &error).await;
                    return;
                }
                Answer::NotNow(error) => (failed, error),
                Answer::Unclear(error) => {
                    unclear = true;
                    (State::Unknown, error)
                }
            };
            if execution.attempts >= delivery.max_attempts {
                self.settle(execution, end, &error).await;
                return;
            }
            tracing::warn!(
                execution = execution.id,
                attempt = execution.attempts,
                error,
                "will be sent again"
            );
            execution.error = error;
            let pause = tokio::time::sleep(self.pause(execution.attempts));
            if self.shutdown.run_until_cancelled(pause).await.is_none() {
                return; // The next process goes on.
            }
        }
    }

    /// Full jitter: anything between nothing and a limit that doubles with every attempt.
    fn pause(&self, attempts: u32) -> Duration {
        let doubled = self.config.retry_base_ms.saturating_mul(1 << attempts.saturating_sub(1).min(32));
        let limit = doubled.min(self.config.retry_max_ms);
        let random = uuid::Uuid::new_v4().as_u64_pair().1;
        Duration::from_millis(random % (limit + 1))
    }

    /// Writes how an execution ended.
    async fn settle(&self, execution: Execution, state: State, error: &str) {
        let from = execution.state;
        tracing::info!(
            execution = execution.id,
            workflow = execution.workflow,
            state = state.name(),
            error,
            "ended"
        );
        let ended = Execution { state, error: error.to_owned(), updated_at: now(), ..execution };
        self.insist(from, ended).await;
    }

    /// Writes until it is on disk, because an approval is a promise and an effect cannot be undone. `None`
    /// when somebody else moved the execution, or at shutdown: the next process finds it as it was.
    async fn insist(&self, from: State, execution: Execution) -> Option<Execution> {
        for attempt in 1_u32.. {
            match self.store.update(from, execution.clone(), None).await {
                Ok(written) => return written,
                Err(error) => {
                    tracing::error!(error = &error as &dyn std::error::Error, "cannot store a step")
                }
            }
            let pause = tokio::time::sleep(self.pause(attempt));
            self.shutdown.run_until_cancelled(pause).await?;
        }
        None
    }

    async fn refuse(
        &self,
        execution: Execution,
        refusal: &Refusal,
        now: Timestamp,
    ) -> Result<(Execution, String), Error> {
        let reason = refusal.reason();
        log(&execution, refusal);
        let mut refused = if refusal.ends() {
            self.end(execution, reason, now).await?.ok_or(Error::Conflict)?
        } else {
            execution
        };
        if refused.error.is_empty() {
            refused.error = reason.to_owned();
        }
        Ok((refused, REFUSED.to_owned()))
    }

    /// The execution with what the customer reads about it.
    fn told(&self, execution: Execution) -> Result<(Execution, String), Error> {
        let message = match (execution.state, self.catalogue.workflow(&execution.workflow)) {
            (State::Done, Some(workflow)) => {
                workflow.done(&execution.progress.slots, &execution.reference)?
            }
            (State::Done, None) => format!("Done. Your reference is {}.", execution.reference),
            (State::Failed, _) => FAILED.to_owned(),
            (State::Unknown, _) => UNKNOWN.to_owned(),
            (State::Cancelled, _) => REFUSED.to_owned(),
            (State::Proposed | State::Approved | State::Dispatching, _) => UNDER_WAY.to_owned(),
        };
        Ok((execution, message))
    }
}

fn log(execution: &Execution, refusal: &Refusal) {
    let (id, workflow, reason) = (&execution.id, &execution.workflow, refusal.reason());
    tracing::warn!(execution = id, workflow, reason, "refused: {refusal}");
}
