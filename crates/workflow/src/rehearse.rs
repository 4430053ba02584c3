//! A dry run: what the gate says of an execution and what would be sent, without doing it.

use std::collections::BTreeMap;

use anyhow::Context as _;
use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::catalogue::{Error as Broken, Workflow};
use crate::config::Config;
use crate::converse::Progress;
use crate::deliver::Sender;
use crate::engine::{Engine, Error, Input, now, reply};
use crate::execution::{Execution, State};
use crate::gate::{self, Clearance, Conditions, Refusal};
use crate::open;
use crate::precondition::Circumstances;
use crate::store::Reply;
use crate::template::Values;
use crate::words::Message;

/// What would come of a customer's yes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rehearsal {
    /// The condition that fails: its constant and its words; `None` when the gate lets it pass.
    pub refused: Option<(String, String)>,
    /// Whether a person has to approve it then.
    pub needs_approval: bool,
    /// What would be sent; `None` where the values do not suffice to render it.
    pub request: Option<Preview>,
}

/// A request that is not sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preview {
    /// Name of the target in the configuration.
    pub target: String,
    /// "POST", "PUT", "PATCH", "DELETE", or "GRPC" for a call.
    pub method: String,
    /// Path below the target's URL, with the query.
    pub path: String,
    /// JSON.
    pub body: String,
}

/// A workflow of a bundle and what it is tried with.
#[derive(Debug, Clone)]
pub struct Trial {
    /// Name of the workflow.
    pub workflow: String,
    /// Values by slot, each as it is stored.
    pub slots: BTreeMap<String, String>,
    /// Attributes of the customer.
    pub attributes: BTreeMap<String, String>,
    /// Confidence of the intent, 0..=1.
    pub confidence: f64,
}

impl Rehearsal {
    fn of(admitted: Result<f64, Refusal>, workflow: Option<&Workflow>, request: Option<Preview>) -> Self {
        let refused = admitted.err().map(|refusal| (refusal.reason().to_owned(), refusal.to_string()));
        Self { refused, needs_approval: workflow.is_some_and(Workflow::needs_approval), request }
    }
}

impl Workflow {
    /// The request with these values. With `mask` personal data in them is masked, which is no request any more.
    fn preview(&self, slots: &Values, mask: bool) -> Result<Preview, Broken> {
        let delivery = self.delivery(slots)?;
        let (mut path, mut body) = (delivery.path, delivery.body);
        if mask {
            let masked = slots.iter().map(|(name, value)| (name.clone(), personal::mask(value)));
            path = self.request.address(&masked.collect())?;
            body = personal::mask(&body);
        }
        Ok(Preview { target: delivery.target, method: delivery.method, path, body })
    }
}

impl Engine {
    /// What [`Engine::confirm`] would do with an execution now, except for what another one does in between. Nothing is
    /// changed.
    pub(crate) async fn rehearse(
        &self,
        execution: &Execution,
        clearance: Clearance,
        around: Circumstances<'_>,
    ) -> Result<Rehearsal, Error> {
        let workflow = self.catalogue.workflow(&execution.workflow).map(AsRef::as_ref);
        let conditions = self.conditions(execution, workflow, clearance, around);
        let mut admitted = gate::admit(execution, &conditions);
        if let (Ok(_), Some(workflow)) = (&admitted, workflow) {
            let counted = Execution { updated_at: around.now, ..execution.clone() };
            if let Some(refusal) = self.store.cap_reached(counted, workflow.caps).await? {
                admitted = Err(refusal);
            }
        }
        let request = workflow.and_then(|workflow| workflow.preview(&execution.progress.slots, true).ok());
        Ok(Rehearsal::of(admitted, workflow, request))
    }

    /// What [`Engine::propose`] would begin, and what would come of a yes to it where only that is missing. Nothing is
    /// stored.
    pub(crate) async fn foresee(
        &self,
        input: Input,
        now: Timestamp,
    ) -> Result<Option<(Execution, Reply, Option<Rehearsal>)>, Error> {
        if !(0.0..=1.0).contains(&input.confidence) {
            return Err(Error::Confidence(input.confidence));
        }
        let Some(workflow) = self.startable(&input) else { return Ok(None) };
        let message = Message::new(&input.text, now.to_zoned(self.timezone.clone()).date());
        let (mut execution, step, failed) =
            self.proposal(workflow, &input, self.begin(workflow, &message)?, now);
        if let Some(failed) = failed {
            (execution.state, execution.error) = (State::Cancelled, failed.reason.clone());
        }
        let waits = execution.state == State::Proposed && execution.progress.awaits_confirmation();
        let nothing = BTreeMap::new();
        let around = Circumstances { verdict: Some(&nothing), ..self.around(Some(&input.attributes), now) };
        let rehearsal = match waits {
            true => Some(self.rehearse(&execution, Clearance::Allowed, around).await?),
            false => None,
        };
        Ok(Some((execution, reply(step), rehearsal)))
    }
}

/// Tries a workflow of a bundle without any stage: the safety rails are taken to allow it, and nothing counts against
/// the caps of a day.
///
/// # Errors
/// A workflow that is not there or cannot work.
pub fn rehearse(reader: &bundle::Reader, config: &Config, trial: Trial) -> anyhow::Result<Rehearsal> {
    let (catalogue, methods) = open::open(reader)?;
    let workflow = catalogue.workflow(&trial.workflow).with_context(|| {
        let names: Vec<_> = catalogue.targets().map(|(name, _)| name).collect();
        format!("the bundle has no workflow {:?}, allowed {}", trial.workflow, names.join(", "))
    })?;
    let now = now();
    let intent = workflow.intents.first().cloned().unwrap_or_default();
    let progress = Progress { slots: trial.slots, intent, ..Progress::default() };
    let execution = Execution::proposed(String::new(), workflow, progress, trial.confidence, now);
    let conditions = Conditions {
        workflow: Some(workflow),
        target: Sender::new(config, methods)?.knows(&workflow.request.template.target),
        clearance: Clearance::Allowed,
        around: Circumstances {
            customer: Some(&trial.attributes),
            verdict: Some(&BTreeMap::new()),
            now,
            today: now.to_zoned(timezone(reader)?).date(),
        },
        open_ttl: jiff::SignedDuration::MAX,
    };
    let request = workflow.preview(&execution.progress.slots, false).ok();
    Ok(Rehearsal::of(gate::admit(&execution, &conditions), Some(workflow), request))
}

/// Where the company is: "today" in a message means today there.
pub(crate) fn timezone(reader: &bundle::Reader) -> anyhow::Result<TimeZone> {
    let hours = reader.assistant()?.business_hours.unwrap_or_default();
    match hours.timezone {
        Some(name) => TimeZone::get(&name).context("business_hours.timezone of the bundle"),
        None => Ok(TimeZone::UTC),
    }
}
