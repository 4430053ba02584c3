//! For whom the assistant is switched on: the plan of the controller, which may be gone, and what follows for a customer.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prost::Message as _;
use proto::{Arm, Exposure, Intent, IntentDecision, Message, RolloutPhase, RolloutPlan};
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
    pub(crate) why: &'static str,
}

/// What is asked of a conversation.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked<'a> {
    /// The customer's key, or the id of the conversation.
    pub(crate) key: &'a str,
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

    /// The arm of a conversation for this turn.
    pub(crate) fn assign(&self, asked: &Asked<'_>) -> Assigned {
        let View { plan, heard } = self.view();
        let settled = |arm, why| Assigned { arm, exposure: None, why };
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
        assign(&plan, share(&plan, heard.elapsed()).min(self.most), asked)
    }

    /// The share of all customers that is treated now, in 1/100000; 0 without a plan.
    pub fn share(&self) -> u32 {
        let View { plan, heard } = self.view();
        plan.map_or(0, |plan| share(&plan, heard.elapsed()).min(self.most))
    }
}

/// The share that counts, when the controller was heard so long ago.
fn share(plan: &RolloutPlan, silent: Duration) -> u32 {
    let interval = plan.interval.and_then(|interval| Duration::try_from(interval).ok()).unwrap_or_default();
    if plan.phase() != RolloutPhase::Running {
        0
    } else if silent > interval * SILENT_INTERVALS + ON_ITS_WAY {
        plan.share.min(plan.fallback_share)
    } else {
        plan.share
    }
}

/// The arm of a conversation under a plan, when customers below `share` are treated.
fn assign(plan: &RolloutPlan, share: u32, asked: &Asked<'_>) -> Assigned {
    let named = plan.audiences.iter().find(|audience| audience.name == asked.audience);
    let own = named.filter(|_| plan.phase() == RolloutPhase::Running).map_or(0, |audience| audience.share);
    let share = share.max(own);
    let treated = bucket(&plan.salt, asked.key) < share && asked.arm != Arm::Control;
    let settled = |arm, why| Assigned { arm, exposure: None, why };
    let Some(intent) = asked.intent.filter(|intent| is_about_something(intent)) else {
        // What it is about cannot be said: an arm that is open goes on with it.
        let open = treated && asked.arm == Arm::Treatment;
        return settled(if open { Arm::Treatment } else { Arm::Control }, "the category is not known");
    };
    // A risk that is not stated is high.
    let risk = if intent.risk() == proto::Risk::Unspecified { proto::Risk::High } else { intent.risk() };
    if !plan.categories.contains(&intent.category) || risk as i32 > plan.max_risk {
        return settled(Arm::Control, "the stage of the rollout does not have the category");
    }
    let arm = if treated { Arm::Treatment } else { Arm::Control };
    // While nobody is treated nobody is in an arm: a customer counts from when there is something to compare with.
    let exposure = (asked.arm == Arm::Unspecified && share > 0).then(|| Exposure {
        rollout_id: plan.rollout_id.clone(),
        epoch: plan.epoch,
        stage: plan.stage.clone(),
        share,
        treated,
    });
    Assigned {
        arm,
        exposure,
        why: if treated { "treated by the rollout" } else { "in the control of the rollout" },
    }
}

fn is_about_something(intent: &Intent) -> bool {
    !matches!(intent.decision(), IntentDecision::OutOfScope | IntentDecision::Language)
        && !intent.category.is_empty()
}

impl Orchestrator {
    /// Puts the conversation into an arm, once it is known what it is about.
    pub(crate) fn assign(&self, draft: &mut Draft<'_>, message: &Message) {
        let key =
            if message.customer_key.is_empty() { &draft.turn.conversation_id } else { &message.customer_key };
        let asked = Asked {
            key,
            audience: message.attributes.get(AUDIENCE).map_or("", String::as_str),
            intent: draft.turn.intent.as_ref(),
            arm: draft.conversation.arm,
            in_workflow: draft.conversation.is_in_workflow(),
        };
        let Assigned { arm, exposure, why } = self.rollout.assign(&asked);
        draft.turn.set_arm(arm);
        draft.exposure = exposure;
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
    if let Some(exposure) = &end.record.exposure {
        let arm = if exposure.treated { Arm::Treatment } else { Arm::Control };
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
mod tests {
    use stats::BUCKETS;

    use super::*;

    fn plan(share: u32) -> RolloutPlan {
        RolloutPlan {
            rollout_id: "r".into(),
            version: 3,
            epoch: 1,
            salt: "s".into(),
            stage: "p5".into(),
            share,
            fallback_share: share / 5,
            audiences: vec![proto::RolloutAudience { name: "staff".into(), share: BUCKETS }],
            categories: vec!["cards".into()],
            max_risk: proto::Risk::Medium.into(),
            interval: Some(prost_types::Duration { seconds: 60, nanos: 0 }),
            phase: RolloutPhase::Running.into(),
            ..RolloutPlan::default()
        }
    }

    fn intent(category: &str, risk: proto::Risk) -> Intent {
        Intent {
            category: category.into(),
            risk: risk.into(),
            decision: IntentDecision::Accept.into(),
            ..Intent::default()
        }
    }

    fn asked<'a>(key: &'a str, intent: &'a Intent, arm: Arm) -> Asked<'a> {
        Asked { key, audience: "", intent: Some(intent), arm, in_workflow: false }
    }

    #[test]
    fn a_conversation_is_exposed_once_and_stays_in_control_when_the_share_rises() {
        let cards = intent("cards", proto::Risk::Low);
        let (bucket_of, key) = (bucket("s", "c1"), "c1");
        let first = assign(&plan(bucket_of), bucket_of, &asked(key, &cards, Arm::Unspecified));
        let exposure = first.exposure.unwrap();
        assert_eq!((first.arm, exposure.treated, exposure.share), (Arm::Control, false, bucket_of));
        let more = bucket_of + 1;
        let later = assign(&plan(more), more, &asked(key, &cards, Arm::Control));
        assert_eq!((later.arm, later.exposure), (Arm::Control, None));
        // Another conversation of the same customer is treated now, and back in control when the share falls.
        let other = assign(&plan(more), more, &asked(key, &cards, Arm::Unspecified));
        assert_eq!((other.arm, other.exposure.unwrap().treated), (Arm::Treatment, true));
        assert_eq!(assign(&plan(0), 0, &asked(key, &cards, Arm::Treatment)).arm, Arm::Control);
        assert_eq!(assign(&plan(0), 0, &asked(key, &cards, Arm::Unspecified)).exposure, None);
    }

    #[test]
    fn only_eligible_conversations_enter_an_arm() {
        for (category, risk) in
            [("fraud", proto::Risk::Low), ("cards", proto::Risk::High), ("cards", proto::Risk::Unspecified)]
        {
            let intent = intent(category, risk);
            let assigned = assign(&plan(BUCKETS), BUCKETS, &asked("c1", &intent, Arm::Unspecified));
            assert_eq!((assigned.arm, assigned.exposure), (Arm::Control, None), "{category} {risk:?}");
        }
        // A question out of scope goes on in the arm of the conversation, but puts none into one.
        let unknown =
            Intent { decision: IntentDecision::OutOfScope.into(), ..intent("cards", proto::Risk::Low) };
        for (arm, then) in [(Arm::Unspecified, Arm::Control), (Arm::Treatment, Arm::Treatment)] {
            let assigned = assign(&plan(BUCKETS), BUCKETS, &asked("c1", &unknown, arm));
            assert_eq!((assigned.arm, assigned.exposure), (then, None));
        }
    }

    #[test]
    fn an_audience_is_treated_whatever_the_share_but_not_after_a_rollback() {
        let cards = intent("cards", proto::Risk::Low);
        let staff = Asked { audience: "staff", ..asked("c1", &cards, Arm::Unspecified) };
        let assigned = assign(&plan(0), 0, &staff);
        assert_eq!((assigned.arm, assigned.exposure.unwrap().share), (Arm::Treatment, BUCKETS));
        let mut gone = plan(0);
        gone.set_phase(RolloutPhase::RolledBack);
        assert_eq!(assign(&gone, 0, &staff).arm, Arm::Control);
    }

    #[test]
    fn without_a_word_of_the_controller_the_share_only_falls() {
        let second = Duration::from_secs(1);
        assert_eq!(share(&plan(5000), 241 * second), 5000);
        assert_eq!(share(&plan(5000), 242 * second), 1000);
        let mut wrong = plan(100);
        wrong.fallback_share = 5000;
        assert_eq!(share(&wrong, 242 * second), 100);
        wrong.set_phase(RolloutPhase::RolledBack);
        assert_eq!(share(&wrong, Duration::ZERO), 0);
        let rollout = Rollout::new(Some(plan(5000)), true, 0.02);
        assert!(!rollout.hear(RolloutPlan { version: 2, ..plan(90_000) }), "an older plan is not followed");
        let cards = intent("cards", proto::Risk::Low);
        let shares = (0..1000)
            .map(|n| format!("c{n}"))
            .filter(|key| rollout.assign(&asked(key, &cards, Arm::Unspecified)).arm == Arm::Treatment);
        let expected = (0..1000).filter(|n| bucket("s", &format!("c{n}")) < 2000).count();
        assert_eq!(shares.count(), expected, "the installation's own limit holds");
    }

    #[test]
    fn nobody_is_treated_before_a_plan_is_known_and_nobody_is_left_in_a_workflow() {
        let cards = intent("cards", proto::Risk::Low);
        let rollout = Rollout::new(None, true, 1.0);
        assert_eq!(rollout.assign(&asked("c1", &cards, Arm::Unspecified)).arm, Arm::Control);
        let none = Rollout::new(None, false, 1.0);
        assert_eq!(none.assign(&asked("c1", &cards, Arm::Unspecified)).arm, Arm::Treatment);
        let mut gone = plan(0);
        gone.set_phase(RolloutPhase::RolledBack);
        let rollout = Rollout::new(Some(gone), true, 1.0);
        let working = Asked { in_workflow: true, ..asked("c1", &cards, Arm::Treatment) };
        assert_eq!(rollout.assign(&working).arm, Arm::Treatment);
        assert_eq!(rollout.assign(&asked("c1", &cards, Arm::Treatment)).arm, Arm::Control);
    }
}
