//! For whom the assistant is switched on: the plan of the controller, which may be gone, and what follows for a customer.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prost::Message as _;
use proto::{
    Arm, Exposure, Intent, IntentDecision, Message, Risk, RolloutCompares, RolloutPhase, RolloutPlan,
};
use sql::{Connection, values};
use stats::bucket;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::draft::Draft;
use crate::stages::Stages;
use crate::store::{Finish, Journal};
use crate::turn::Orchestrator;

pub(crate) const TABLES: &str = "
CREATE TABLE plan (one INTEGER NOT NULL PRIMARY KEY CHECK (one = 1), version INTEGER NOT NULL, plan BLOB NOT NULL) STRICT;
ALTER TABLE conversation ADD COLUMN arm INTEGER NOT NULL DEFAULT 0;
";

/// Intervals without a word of the controller after which the share is that of the stage before.
const SILENT_INTERVALS: u32 = 4;
/// What a word takes to arrive.
const ON_ITS_WAY: Duration = Duration::from_secs(1);
const AGAIN: Duration = Duration::from_secs(1);
/// The customer's attribute that stages with an audience look at.
const AUDIENCE: &str = "audience";

/// What this process knows of the rollout.
#[derive(Debug)]
pub struct Rollout {
    view: Mutex<View>,
    /// Whether the bundle has a rollout: then nobody is treated before a plan is known.
    planned: bool,
    /// The most that this installation treats, in buckets, whatever the plan says.
    most: u32,
}

#[derive(Debug, Clone)]
struct View {
    plan: Option<Arc<RolloutPlan>>,
    heard: Instant,
}

/// What the rollout says of a conversation.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Assigned {
    pub(crate) arm: Arm,
    /// Set when the conversation was not in an arm yet, and is now.
    pub(crate) exposure: Option<Exposure>,
    /// Set when the assistant answers too, read by nobody.
    pub(crate) mirrored: Option<Mirrored>,
    pub(crate) why: &'static str,
}

/// That the assistant answers a conversation of the menu unseen.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Mirrored {
    pub(crate) exposure: Exposure,
    /// What all such answers of a day may cost, in US dollars.
    pub(crate) usd_per_day: f64,
}

/// What is asked of a conversation.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked<'a> {
    /// The customer's key, or the id of the conversation.
    pub(crate) key: &'a str,
    pub(crate) conversation_id: &'a str,
    pub(crate) audience: &'a str,
    pub(crate) intent: Option<&'a Intent>,
    /// The arm that the conversation is in.
    pub(crate) arm: Arm,
    pub(crate) in_workflow: bool,
}

impl Rollout {
    /// What the journal remembers, until the controller says something. Nobody is treated before a plan is known when the
    /// bundle is `planned` to be rolled out, and never more than the share `most`, 0..=1.
    pub fn new(plan: Option<RolloutPlan>, planned: bool, most: f64) -> Self {
        let view = View { plan: plan.map(Arc::new), heard: Instant::now() };
        Self { view: Mutex::new(view), planned, most: stats::buckets(most) }
    }

    fn view(&self) -> View {
        self.view.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes the controller's word; `false` when it is older than what is known.
    pub fn hear(&self, plan: RolloutPlan) -> bool {
        let mut view = self.view.lock().unwrap_or_else(PoisonError::into_inner);
        let older =
            |known: &Arc<RolloutPlan>| known.rollout_id == plan.rollout_id && known.version > plan.version;
        if view.plan.as_ref().is_some_and(older) {
            return false;
        }
        *view = View { plan: Some(Arc::new(plan)), heard: Instant::now() };
        true
    }

    /// Whether everybody is treated, because there is no rollout.
    pub(crate) fn is_none(&self) -> bool {
        !self.planned && self.view().plan.is_none()
    }

    /// Whether it compares models: then everybody is answered.
    pub(crate) fn compares_models(&self) -> bool {
        self.view().plan.is_some_and(|plan| plan.compares() == RolloutCompares::Model)
    }

    /// The arm of a conversation for this turn.
    pub(crate) fn assign(&self, asked: &Asked<'_>) -> Assigned {
        let View { plan, heard } = self.view();
        let settled = |arm, why| Assigned { arm, exposure: None, mirrored: None, why };
        let Some(plan) = plan else {
            return match self.planned {
                false => settled(Arm::Treatment, "there is no rollout"),
                true => settled(Arm::Control, "no plan of the rollout is known yet"),
            };
        };
        // Nobody is left in the middle of a workflow.
        if asked.in_workflow {
            return settled(Arm::Treatment, "a workflow goes on");
        }
        let silent = heard.elapsed();
        let mut assigned = assign(&plan, share(&plan, silent).min(self.most), asked);
        assigned.mirrored = assigned.mirrored.filter(|_| !is_silent(&plan, silent));
        assigned
    }

    /// Whether the rollout has a category now, and somebody is treated.
    pub(crate) fn has(&self, category: &str, risk: Risk) -> bool {
        match self.view().plan {
            None => !self.planned,
            Some(plan) if plan.compares() == RolloutCompares::Model => true,
            Some(plan) => plan.phase() == RolloutPhase::Running && is_eligible(&plan, category, risk),
        }
    }

    /// The share of all customers that is treated now, in 1/100000; 0 without a plan.
    pub fn share(&self) -> u32 {
        let View { plan, heard } = self.view();
        plan.map_or(0, |plan| share(&plan, heard.elapsed()).min(self.most))
    }
}

/// The share that counts, when the controller was heard so long ago.
fn share(plan: &RolloutPlan, silent: Duration) -> u32 {
    if plan.phase() != RolloutPhase::Running {
        0
    } else if is_silent(plan, silent) {
        plan.share.min(plan.fallback_share)
    } else {
        plan.share
    }
}

/// Whether the controller seems to be gone.
fn is_silent(plan: &RolloutPlan, silent: Duration) -> bool {
    let interval = plan.interval.and_then(|interval| Duration::try_from(interval).ok()).unwrap_or_default();
    silent > interval * SILENT_INTERVALS + ON_ITS_WAY
}

/// The arm of a conversation under a plan, when customers below `share` are treated.
fn assign(plan: &RolloutPlan, share: u32, asked: &Asked<'_>) -> Assigned {
    let named = plan.audiences.iter().find(|audience| audience.name == asked.audience);
    let own = named.filter(|_| plan.phase() == RolloutPhase::Running).map_or(0, |audience| audience.share);
    let share = share.max(own);
    let treated = bucket(&plan.salt, asked.key) < share && asked.arm != Arm::Control;
    let settled = |arm, why| Assigned { arm, exposure: None, mirrored: None, why };
    let Some(intent) = asked.intent.filter(|intent| is_about_something(intent)) else {
        // What it is about cannot be said: an arm that is open goes on with it.
        let open = treated && asked.arm == Arm::Treatment;
        return settled(if open { Arm::Treatment } else { Arm::Control }, "the category is not known");
    };
    if !is_eligible(plan, &intent.category, intent.risk()) {
        return settled(Arm::Control, "the stage of the rollout does not have the category");
    }
    let arm = if treated { Arm::Treatment } else { Arm::Control };
    let exposure = |share, treated| Exposure {
        rollout_id: plan.rollout_id.clone(),
        epoch: plan.epoch,
        stage: plan.stage.clone(),
        share,
        treated,
    };
    let first = asked.arm == Arm::Unspecified;
    // While nobody is treated nobody is in an arm: a customer counts from when there is something to compare with.
    let exposed = (first && share > 0).then(|| exposure(share, treated));
    // One message of a conversation: those after it answer what the menu said.
    let mirrored = first && !treated && bucket(&unseen_salt(plan), asked.conversation_id) < mirror(plan);
    let mirrored =
        mirrored.then(|| Mirrored { exposure: exposure(0, true), usd_per_day: plan.mirror_usd_per_day });
    let why = if treated { "treated by the rollout" } else { "in the control of the rollout" };
    Assigned { arm, exposure: exposed, mirrored, why }
}

/// Conversations that are answered unseen, in 1/100000.
fn mirror(plan: &RolloutPlan) -> u32 {
    if plan.phase() == RolloutPhase::Running { plan.mirror_share } else { 0 }
}

/// Not the plan's own, or those who are answered unseen would be those who are treated first.
fn unseen_salt(plan: &RolloutPlan) -> String {
    format!("{}/unseen", plan.salt)
}

fn is_eligible(plan: &RolloutPlan, category: &str, risk: Risk) -> bool {
    // A risk that is not stated is high.
    let risk = if risk == Risk::Unspecified { Risk::High } else { risk };
    plan.categories.iter().any(|known| known == category) && risk as i32 <= plan.max_risk
}

fn is_about_something(intent: &Intent) -> bool {
    !matches!(intent.decision(), IntentDecision::OutOfScope | IntentDecision::Language)
        && !intent.category.is_empty()
}

impl Orchestrator {
    /// Puts the conversation into an arm, once it is known what it is about.
    pub(crate) fn assign(&self, draft: &mut Draft<'_>, message: &Message) {
        if draft.is_unseen {
            return draft.turn.set_arm(Arm::Treatment);
        }
        let conversation_id = &draft.turn.conversation_id;
        let asked = Asked {
            key: if message.customer_key.is_empty() { conversation_id } else { &message.customer_key },
            conversation_id,
            audience: message.attributes.get(AUDIENCE).map_or("", String::as_str),
            intent: draft.turn.intent.as_ref(),
            arm: draft.conversation.arm,
            in_workflow: draft.conversation.is_in_workflow(),
        };
        let Assigned { arm, exposure, mirrored, why } = self.rollout.assign(&asked);
        draft.turn.set_arm(arm);
        (draft.exposure, draft.mirrored) = (exposure, mirrored);
        if !self.rollout.is_none() {
            draft.note(why);
        }
    }
}

/// Listens to the controller, for as long as the process lives.
pub(crate) async fn listen(orchestrator: Arc<Orchestrator>, shutdown: CancellationToken) {
    let Orchestrator { rollout, stages, journal, .. } = orchestrator.as_ref();
    loop {
        let heard = hear(rollout, stages, journal);
        if shutdown.run_until_cancelled(heard).await.is_none() {
            return;
        }
        if shutdown.run_until_cancelled(tokio::time::sleep(AGAIN)).await.is_none() {
            return;
        }
    }
}

/// Hears the controller until it says nothing any more.
async fn hear(rollout: &Rollout, stages: &Stages, journal: &Journal) {
    let mut told = match stages.watch_plan().await {
        Ok(told) => told,
        Err(error) => return tracing::debug!(%error, "the controller of the rollout does not answer"),
    };
    while let Some(plan) = told.next().await {
        // A controller that has lost its store says nothing new.
        let Some(plan) = plan else { continue };
        let (id, version, share) = (plan.rollout_id.clone(), plan.version, plan.share);
        let known = rollout.view().plan;
        if !rollout.hear(plan.clone()) {
            tracing::warn!(
                id,
                version,
                "the controller tells an older plan than is known; it is not followed"
            );
        } else if known.is_none_or(|known| (&known.rollout_id, known.version) != (&id, version)) {
            tracing::info!(id, version, stage = plan.stage, share, "the rollout changes");
            if let Err(error) = journal.keep_plan(&plan).await {
                tracing::error!(%error, "the plan is not kept: after a restart without the controller it is unknown");
            }
        }
    }
}

/// Notes the arm that a turn put its conversation into. One that ended before anybody asked is of the arm that the
/// conversation is in: of the control without any.
pub(crate) fn settle(connection: &mut Connection<'_>, end: &mut Finish) -> sql::Result<()> {
    let id = end.turn.conversation_id.clone();
    let treated = end.record.exposure.as_ref().map(|exposure| exposure.treated);
    if let Some(treated) = treated.or(end.mirrored.then_some(false)) {
        let arm = if treated { Arm::Treatment } else { Arm::Control };
        let update = "UPDATE conversation SET arm = $1 WHERE conversation_id = $2 AND arm = 0";
        connection.execute(update, values![arm as i32, &id])?;
    }
    if end.turn.arm() == Arm::Unspecified {
        let query = "SELECT arm FROM conversation WHERE conversation_id = $1";
        let arm = connection.first(query, values![&id], |row| row.get::<i32, _>(0))?;
        end.turn.arm = arm.filter(|arm| *arm > 0).unwrap_or(Arm::Control as i32);
    }
    Ok(())
}

impl Journal {
    /// Keeps the plan for a start without the controller.
    async fn keep_plan(&self, plan: &RolloutPlan) -> sql::Result<()> {
        let upsert = "INSERT INTO plan (one, version, plan) VALUES (1, $1, $2)
            ON CONFLICT (one) DO UPDATE SET version = excluded.version, plan = excluded.plan";
        let (version, bytes) = (i64::try_from(plan.version).unwrap_or(i64::MAX), plan.encode_to_vec());
        let keep = move |connection: &mut Connection<'_>| {
            connection.execute(upsert, values![version, &bytes]).map(|_| ())
        };
        self.sql.write(keep).await
    }

    /// The last plan that was kept.
    pub(crate) async fn plan(&self) -> sql::Result<Option<RolloutPlan>> {
        let query = "SELECT plan FROM plan";
        let read = |connection: &mut Connection<'_>| {
            connection.first(query, &[], |row| Ok(RolloutPlan::decode(row.get::<&[u8], _>(0)?).ok()))
        };
        Ok(self.sql.read(read).await?.flatten())
    }
}

#[cfg(test)]
mod tests;
