//! Undoing an effect: only a person says so, once, and it is an execution of its own.

use std::collections::BTreeSet;

use jiff::Timestamp;
use tokio::time::Instant;
use tracing::Instrument as _;

use crate::catalogue::{self, Workflow};
use crate::converse::Progress;
use crate::deliver::Delivery;
use crate::engine::{Engine, Error};
use crate::execute::MARGIN;
use crate::execution::{Execution, State};
use crate::request::{Request, Terms};
use crate::response;
use crate::slot::{Kind, Slot};
use crate::store::{Reply, Turn};
use crate::template::{Values, answered, check_names, render};

/// After the id of what is undone; the whole is the idempotency key of the undoing.
const UNDO: &str = "/undo";

/// What undoes the effect of a workflow.
#[derive(Debug)]
pub(crate) struct Compensation {
    confirmation: String,
    effect: bundle::Effect,
    pub(crate) request: Request,
    response: bundle::Response,
}

impl Compensation {
    /// Compiles it over the slots of its workflow and the names of what the receiver said.
    ///
    /// # Errors
    /// The first key with a value that is not allowed.
    pub(crate) fn compile(
        workflow: &str,
        undo: bundle::Compensation,
        slots: &[&Slot],
        said: &BTreeSet<String>,
    ) -> Result<Self, catalogue::Error> {
        // Free text and addresses are masked once the effect is there.
        let kept = slots.iter().copied().filter(|slot| !matches!(slot.kind, Kind::Text | Kind::Email));
        let kept: Vec<&Slot> = kept.collect();
        let names = kept.iter().map(|slot| slot.name.clone()).chain(said.iter().cloned()).collect();
        check_names(workflow, "compensation.confirmation", &undo.confirmation, &names)?;
        let request = Request::compile(workflow, "compensation.request", undo.request, &kept, said)?;
        response::check(workflow, "compensation.response", &undo.response, request.is_call(), &names)?;
        Ok(Self { confirmation: undo.confirmation, effect: undo.effect, request, response: undo.response })
    }
}

impl Workflow {
    /// The question whether to undo it, for a person, and the values it is undone with; `None` when nothing does.
    ///
    /// # Errors
    /// A template that does not render.
    pub(crate) fn undo(
        &self,
        progress: &Progress,
        reference: &str,
    ) -> Option<Result<(String, Values), catalogue::Error>> {
        let undo = self.compensation.as_ref()?;
        let values = answered(progress.slots.clone(), progress, reference);
        let question = render(&self.name, "compensation.confirmation", &undo.confirmation, &values);
        Some(question.map(|question| (question, values)))
    }
}

/// A person's wish to have an effect undone.
#[derive(Debug, Clone)]
pub(crate) struct Undo {
    /// Id of the execution.
    pub(crate) execution: String,
    /// Who.
    pub(crate) actor: String,
    /// Why.
    pub(crate) note: String,
    /// Whether the person has read the question and agrees.
    pub(crate) confirmed: bool,
}

impl Engine {
    /// Undoes what is done, as [`Engine::confirm`] executes; returns the execution of the undoing with how it went.
    /// Before the person agrees it is what would be undone, with the question. A second time changes nothing.
    pub(crate) async fn compensate(
        &self,
        undo: Undo,
        now: Timestamp,
        until: Instant,
    ) -> Result<(Execution, String), Error> {
        let id = format!("{}{UNDO}", undo.execution);
        if let Some(begun) = self.store.get(&id).await? {
            return self.told(begun);
        }
        let done = self.get(&undo.execution).await?;
        if done.state != State::Done {
            return Err(Error::State { is: done.state.name(), allowed: "DONE" });
        }
        let (question, delivery) = self.undoing(&done)?;
        if !undo.confirmed {
            return Ok((done, question));
        }
        let approved = Execution {
            id: id.clone(),
            workflow: format!("{}{UNDO}", done.workflow),
            state: State::Approved,
            progress: Progress { slots: done.progress.slots, ..Progress::default() },
            delivery: Some(delivery),
            attempts: 0,
            fence: 0,
            reference: String::new(),
            error: String::new(),
            confirmed_in: String::new(),
            resolved_by: undo.actor,
            note: undo.note,
            approved_by: String::new(),
            approval_note: String::new(),
            created_at: now,
            updated_at: now,
            lease: MARGIN,
            ..done
        };
        let (engine, turn) = (self.clone(), Turn { id: id.clone(), reply: Reply::default() });
        // As after a customer's yes: the call may be dropped any moment.
        let work = async move {
            // Another person was faster otherwise.
            if engine.store.insert(approved.clone(), turn).await? {
                tracing::warn!(execution = approved.id, actor = approved.resolved_by, "undone by a person");
                engine.deliver(approved).await;
            }
            Ok::<(), Error>(())
        };
        let work = self.tasks.spawn(kit::Call::current().detached().scope(work).in_current_span());
        if let Ok(ended) = tokio::time::timeout_at(until, work).await {
            ended.map_err(Error::Interrupted)??;
        }
        self.told(self.get(&id).await?)
    }

    /// The question and the request that undoes an execution.
    fn undoing(&self, done: &Execution) -> Result<(String, Delivery), Error> {
        let cannot = |why: String| Error::CannotUndo(why);
        let workflow = self.catalogue.workflow(&done.workflow);
        let workflow =
            workflow.ok_or_else(|| cannot(format!("the bundle has no workflow {}", done.workflow)))?;
        let made = workflow.compensation.as_ref().zip(workflow.undo(&done.progress, &done.reference));
        let Some((undo, made)) = made else {
            return Err(cannot(format!("the workflow {} has no [compensation]", done.workflow)));
        };
        let (question, values) = made?;
        let target = &undo.request.template.target;
        if !self.sender.knows(target) {
            return Err(cannot(format!(
                "target {target} is not configured, add [workflow.targets.{target}]"
            )));
        }
        let deliver = |values: &Values| {
            let terms = Terms {
                idempotent: undo.effect == bundle::Effect::Idempotent,
                retry: workflow.retry.clone(),
                response: &undo.response,
            };
            undo.request.delivery(values, terms)
        };
        // What was masked when it was done is not what the customer said.
        let mut sound = values.clone();
        sound.retain(|name, value| !is_masked(workflow, name, value));
        let delivery = deliver(&values)?;
        match deliver(&sound) {
            Ok(without) if (&without.path, &without.body) == (&delivery.path, &delivery.body) => {
                Ok((question, delivery))
            }
            _ => Err(cannot("it needs a slot that was masked when the effect was there".to_owned())),
        }
    }
}

fn is_masked(workflow: &Workflow, name: &str, value: &str) -> bool {
    workflow.slot(name).is_some_and(|slot| !slot.kind.accepts(value))
}
