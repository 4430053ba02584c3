//! Durable execution: approval, attempts, restart, and the person who resolves an unknown effect.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;
use tracing::Instrument as _;

use crate::approve;
use crate::catalogue::Workflow;
use crate::deliver::{Answer, Delivery};
use crate::engine::{Engine, Error, now};
use crate::execution::{Execution, State};
use crate::gate::{self, Clearance, Conditions, Refusal};
use crate::precondition::Circumstances;

const SWEEP_EVERY: Duration = Duration::from_secs(3600);
/// How often executions are looked for whose process is gone.
const ADOPT_EVERY: Duration = Duration::from_secs(2);
/// What an attempt may take beyond its timeouts, until its lease is over and another process takes it for dead.
pub(crate) const MARGIN: Duration = Duration::from_secs(5);

const UNDER_WAY: &str = "Your request is under way. I will have the result in a moment.";
const FAILED: &str = "I am sorry, this did not work. Nothing was changed.";
const UNKNOWN: &str = "I cannot tell whether this went through. A colleague will check and tell you.";
pub(crate) const REFUSED: &str = "I am sorry, I cannot do this here. Nothing was changed.";

/// The customer's yes.
#[derive(Debug, Clone)]
pub(crate) struct Yes {
    /// Id of the execution.
    pub(crate) execution: String,
    /// Turn in which it was said.
    pub(crate) turn: String,
    /// What the orchestrator and the action rail say.
    pub(crate) clearance: Clearance,
    /// What it found, with scores.
    pub(crate) verdict: BTreeMap<String, f64>,
    /// Attributes of the customer.
    pub(crate) attributes: BTreeMap<String, String>,
}

impl Engine {
    /// Passes the gate and executes, or waits for a person where the risk is high. Waits for the result until `until`;
    /// the execution goes on when the caller is gone. An execution that is already past the gate is returned as it is.
    /// A refusal is in the error of the execution returned.
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
        let workflow = self.catalogue.workflow(&execution.workflow).map(AsRef::as_ref);
        let around = self.around_yes(&yes, now);
        let conditions = self.conditions(&execution, workflow, yes.clearance, around);
        let (threshold, workflow) = match (gate::admit(&execution, &conditions), workflow) {
            (Ok(threshold), Some(workflow)) => (threshold, workflow),
            (Err(refusal), _) => return self.refuse(execution, &refusal, now).await,
            (Ok(_), None) => return Err(Error::Conflict),
        };
        let confirmed = Execution { threshold, confirmed_in: yes.turn, updated_at: now, ..execution };
        if workflow.needs_approval() {
            return self.await_approval(confirmed).await;
        }
        self.carry_out(confirmed, workflow, until).await
    }

    /// What preconditions look at when the customer says yes.
    pub(crate) fn around_yes<'a>(&self, yes: &'a Yes, now: Timestamp) -> Circumstances<'a> {
        Circumstances { verdict: Some(&yes.verdict), ..self.around(Some(&yes.attributes), now) }
    }

    /// What the gate looks at besides the execution.
    pub(crate) fn conditions<'a>(
        &self,
        execution: &Execution,
        workflow: Option<&'a Workflow>,
        clearance: Clearance,
        around: Circumstances<'a>,
    ) -> Conditions<'a> {
        let target = workflow.is_some_and(|workflow| self.sender.knows(&workflow.request.template.target));
        Conditions { workflow, target, clearance, around, open_ttl: self.ttl(execution.state) }
    }

    /// Approves what has passed the gate, and sends it. Waits for the result until `until`.
    pub(crate) async fn carry_out(
        &self,
        execution: Execution,
        workflow: &Workflow,
        until: Instant,
    ) -> Result<(Execution, String), Error> {
        let from = execution.state;
        let delivery = workflow.delivery(&execution.progress.slots)?;
        let approved =
            Execution { state: State::Approved, delivery: Some(delivery), lease: MARGIN, ..execution };
        let (engine, id, caps) = (self.clone(), approved.id.clone(), workflow.caps);
        // From here on everything happens in a task of its own, because the call may be dropped any moment.
        let work = async move {
            match engine.store.approve(from, approved, caps).await? {
                Some(approved) if approved.state == State::Approved => engine.deliver(approved).await,
                Some(ended) => log(&ended, &ended.error),
                None => {}
            }
            Ok::<(), Error>(())
        };
        let work = self.tasks.spawn(kit::Call::current().detached().scope(work).in_current_span());
        let ended = tokio::time::timeout_at(until, work).await;
        let finished = ended.is_ok();
        match ended {
            Ok(done) => done.map_err(Error::Interrupted)??,
            Err(_) => self.store.want_notice(&id).await?,
        }
        let execution = self.get(&id).await?;
        // Somebody changed something between the yes and the approval.
        if finished && execution.state == from {
            return Err(Error::Conflict);
        }
        self.told(execution)
    }

    /// Looks for executions whose process is gone, and for approvals that nobody gave, until shutdown.
    pub(crate) async fn adopt(self) {
        let mut ticks = tokio::time::interval(ADOPT_EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while self.shutdown.run_until_cancelled(ticks.tick()).await.is_some() {
            let looked = async {
                self.take_over(now(), false).await?;
                self.expire(now()).await
            };
            if let Err(error) = looked.await {
                tracing::warn!(error = &error as &dyn std::error::Error, "cannot look for executions left");
            }
        }
    }

    /// Takes up what a process left that is gone: approved requests are sent, idempotent ones sent again, and what
    /// may have had its effect becomes unknown. The conversation is told how it ends, since nobody waits any more.
    pub(crate) async fn take_over(&self, now: Timestamp, at_start: bool) -> Result<(), Error> {
        for execution in self.store.left(at_start).await? {
            if self.sending.holds(&execution.id) {
                continue;
            }
            self.store.want_notice(&execution.id).await?;
            let sent = execution.state == State::Dispatching;
            let again = execution.delivery.as_ref().is_some_and(|delivery| delivery.idempotent);
            let late = execution.delivery.as_ref().is_some_and(|delivery| is_late(delivery, now));
            let (id, state) = (&execution.id, execution.state.name());
            tracing::warn!(execution = id, state, late, "left by a process that is gone");
            match (sent && execution.unclear, late) {
                (false, true) => self.settle(execution, State::Failed, "EXPIRED").await,
                (true, true) => self.settle(execution, State::Unknown, "INTERRUPTED").await,
                (true, false) if !again => self.settle(execution, State::Unknown, "INTERRUPTED").await,
                _ => {
                    let engine = self.clone();
                    self.tasks.spawn(async move { engine.deliver(execution).await });
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

    /// Sends until the effect is certain, the attempts are used up, another process has taken over, or shutdown.
    pub(crate) async fn deliver(&self, mut execution: Execution) {
        let _sending = self.sending.enter(&execution.id);
        // The approval wrote it; only a damaged row has none, and nothing can be sent for it.
        let Some(delivery) = execution.delivery.clone() else { return };
        loop {
            let unclear = execution.unclear;
            execution.attempts += 1;
            let Some(claimed) = self.claim(execution, &delivery).await else { return };
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
            execution.unclear = unclear || matches!(answer, Answer::Unclear(_));
            let failed = if execution.unclear { State::Unknown } else { State::Failed };
            let (error, last) = match answer {
                Answer::Done(receipt) => {
                    execution.reference = receipt.reference.unwrap_or_else(|| execution.id.clone());
                    execution.progress.response = receipt.values;
                    self.settle(execution, State::Done, "").await;
                    return;
                }
                Answer::Refused(error) => (error, true),
                Answer::NotNow(error) | Answer::Unclear(error) => {
                    let late = is_late(&delivery, now());
                    (error, late || execution.attempts >= delivery.max_attempts)
                }
            };
            if last {
                self.settle(execution, failed, &error).await;
                return;
            }
            let (id, attempt) = (&execution.id, execution.attempts);
            tracing::warn!(execution = id, attempt, error, "will be sent again");
            let pause = self.pause(execution.attempts, &delivery.retry);
            execution.error = error;
            execution.lease = pause + MARGIN;
            let Some(waiting) = self.insist(State::Dispatching, execution).await else { return };
            execution = waiting;
            if self.shutdown.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
                return; // The next process goes on.
            }
        }
    }

    /// Commits that the request may have been sent, before the connection is opened: whoever finds the execution
    /// knows. A process that was stopped in between claims again, so that it never sends what another has taken over.
    async fn claim(&self, mut execution: Execution, delivery: &Delivery) -> Option<Execution> {
        let attempt = Duration::from_millis(self.config.connect_timeout_ms + delivery.timeout_ms);
        loop {
            let (from, begun) = (execution.state, Instant::now());
            execution.state = State::Dispatching;
            execution.unclear = true;
            execution.updated_at = now();
            execution.lease = attempt + MARGIN;
            execution = self.insist(from, execution).await?;
            if begun.elapsed() < MARGIN / 2 {
                return Some(execution);
            }
        }
    }

    /// Full jitter: anything between nothing and a limit that doubles with every attempt.
    fn pause(&self, attempts: u32, retry: &bundle::Retry) -> Duration {
        let base = retry.base_ms.unwrap_or(self.config.retry_base_ms);
        let doubled = base.saturating_mul(1 << attempts.saturating_sub(1).min(32));
        let limit = doubled.min(retry.max_ms.unwrap_or(self.config.retry_max_ms));
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
        let (error, lease) = (error.to_owned(), Duration::ZERO);
        let ended = Execution { state, error, updated_at: now(), lease, ..execution };
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
            let pause = tokio::time::sleep(self.pause(attempt, &bundle::Retry::default()));
            self.shutdown.run_until_cancelled(pause).await?;
        }
        None
    }

    pub(crate) async fn refuse(
        &self,
        execution: Execution,
        refusal: &Refusal,
        now: Timestamp,
    ) -> Result<(Execution, String), Error> {
        let reason = refusal.reason();
        log(&execution, &refusal.to_string());
        let mut refused = if refusal.ends() {
            self.end(execution, reason, now).await?.ok_or(Error::Conflict)?
        } else {
            execution
        };
        if refused.error.is_empty() {
            refused.error = reason.to_owned();
        }
        let told = self.explanation(&refused).unwrap_or_else(|| REFUSED.to_owned());
        Ok((refused, told))
    }

    /// Executions that ended after the turn that confirmed them, with what the customer reads, oldest first.
    pub(crate) async fn notices(&self, limit: u32) -> Result<Vec<(Execution, String)>, Error> {
        self.store.notices(limit).await?.into_iter().map(|execution| self.told(execution)).collect()
    }

    /// The execution with what the customer reads about it.
    pub(crate) fn told(&self, execution: Execution) -> Result<(Execution, String), Error> {
        let message = match (execution.state, self.catalogue.workflow(&execution.workflow)) {
            (State::Done, Some(workflow)) => workflow.done(&execution.progress, &execution.reference)?,
            (State::Done, None) => format!("Done. Your reference is {}.", execution.reference),
            (State::Failed, _) => self.explanation(&execution).unwrap_or_else(|| FAILED.to_owned()),
            (State::Unknown, _) => UNKNOWN.to_owned(),
            (State::Cancelled, _) => self.explanation(&execution).unwrap_or_else(|| REFUSED.to_owned()),
            (State::Awaiting, _) => approve::WAITING.to_owned(),
            (State::Proposed | State::Approved | State::Dispatching, _) => UNDER_WAY.to_owned(),
        };
        Ok((execution, message))
    }
}

/// Whether a request is too old to be sent again: the receiver could have forgotten the key (promises.md, "Workflow
/// durability"), and the effect would happen twice. No attempt is older than the approval.
fn is_late(delivery: &Delivery, now: Timestamp) -> bool {
    let most = SignedDuration::from_hours(i64::from(delivery.retry.max_age_hours));
    now.duration_since(delivery.approved_at) > most
}

fn log(execution: &Execution, refusal: &str) {
    let (id, workflow) = (&execution.id, &execution.workflow);
    tracing::warn!(execution = id, workflow, "refused: {refusal}");
}
