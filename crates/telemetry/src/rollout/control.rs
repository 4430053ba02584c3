//! The controller: a state that takes one entry after the other. It knows neither clock nor store.

use std::collections::BTreeMap;

use bundle::rollout::{Compares, Plan, Stage};
use serde::{Deserialize, Serialize};
use stats::buckets;

use super::evidence::Evidence;
use super::guard::{Reading, Verdict};
use super::order::{Entry, Order, Refused};
use super::tick::Cursor;

pub(super) const HOUR_US: f64 = 3.6e9;

/// Whether the rollout goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// It does.
    Running,
    /// Everybody has the menu until a person arms it again.
    RolledBack,
}

/// What follows from an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// The rollout begins, or goes on under another plan.
    Applied,
    /// Nothing changes, and nothing speaks against the next stage but what is `missing`.
    Kept,
    /// Nothing changes, and the share may not rise, for the `reasons`.
    Held,
    /// The next stage begins.
    Advanced,
    /// The share is that of the stage before.
    SteppedDown,
    /// The share is that of the stage after, which it had before.
    SteppedUp,
    /// Everybody has the menu.
    RolledBack,
    /// The rollout begins again.
    Rearmed,
    /// A person agreed, or held, or released.
    Noted,
}

impl Action {
    /// Snake case, as it is logged.
    pub fn name(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::Kept => "kept",
            Self::Held => "held",
            Self::Advanced => "advanced",
            Self::SteppedDown => "stepped_down",
            Self::SteppedUp => "stepped_up",
            Self::RolledBack => "rolled_back",
            Self::Rearmed => "rearmed",
            Self::Noted => "noted",
        }
    }
}

/// What followed from an entry, with what it followed from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Decision {
    /// Rises with every change of what the orchestrators do.
    pub version: u64,
    /// What changed.
    pub action: Action,
    /// Whether the rollout goes on.
    pub phase: Phase,
    /// The stage it is in.
    pub stage: String,
    /// Customers that are treated, in buckets of 100000.
    pub share: u32,
    /// The same if nobody tells the orchestrators anything any more.
    pub fallback: u32,
    /// The worst of the readings that act.
    pub verdict: Verdict,
    /// Why it is held, stepped down or rolled back.
    pub reasons: Vec<String>,
    /// What the next stage waits for.
    pub missing: Vec<String>,
    /// What the guards say; empty unless the controller looked.
    pub readings: Vec<Reading>,
}

/// A rollout, as far as its log says.
#[derive(Debug, Clone)]
pub struct State {
    pub(super) plan: Plan,
    pub(super) version: u64,
    pub(super) phase: Phase,
    /// Times that it began.
    pub(super) epoch: u32,
    pub(super) began_us: i64,
    /// The last exposure before it began.
    pub(super) before: i64,
    pub(super) stage: usize,
    /// The stage whose share counts, where the share was lowered.
    pub(super) lowered: Option<usize>,
    pub(super) entered_us: i64,
    pub(super) rolled_back_us: i64,
    pub(super) approved: bool,
    pub(super) held: Option<String>,
    pub(super) blind: u32,
    pub(super) costly: u32,
    /// Treated customers of this stage.
    pub(super) customers: u64,
    pub(super) evidence: Evidence,
    /// What unseen answers have shown.
    pub(super) unseen: Evidence,
    pub(super) seen: Cursor,
    pub(super) looked_us: i64,
}

impl State {
    /// The state after the first entry of a log, which applies a plan.
    ///
    /// # Errors
    /// Any other entry.
    pub fn begin(at_us: i64, entry: &Entry) -> Result<(Self, Decision), Refused> {
        let Entry::Applied { plan, by, seen } = entry else { return Err(Refused::None) };
        let state = Self::new(plan.as_ref().clone(), at_us, seen.clone());
        let decision = state.decision(Action::Applied, vec![format!("applied by {by}")]);
        Ok((state, decision))
    }

    fn new(plan: Plan, at_us: i64, seen: Cursor) -> Self {
        Self {
            plan,
            version: 1,
            phase: Phase::Running,
            epoch: 1,
            began_us: at_us,
            before: seen.exposure,
            stage: 0,
            lowered: None,
            entered_us: at_us,
            rolled_back_us: 0,
            approved: false,
            held: None,
            blind: 0,
            costly: 0,
            customers: 0,
            evidence: Evidence::default(),
            unseen: Evidence::default(),
            seen,
            looked_us: at_us,
        }
    }

    /// Takes an entry, and says what follows.
    ///
    /// # Errors
    /// The entry is not taken; nothing has changed.
    pub fn step(&mut self, at_us: i64, entry: &Entry) -> Result<Decision, Refused> {
        match entry {
            Entry::Applied { plan, by, seen } => self.apply(at_us, plan, by, seen),
            Entry::Ordered { order, by, reason } => self.order(at_us, *order, &words(by, reason)),
            Entry::Observed(tick) => Ok(self.look(at_us, tick)),
        }
    }

    /// The plan.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Times that the rollout began.
    pub fn epoch(&self) -> u32 {
        self.epoch
    }

    /// When it began the last time, microseconds since 1970.
    pub fn began_us(&self) -> i64 {
        self.began_us
    }

    /// The last exposure before it began the last time.
    pub fn before(&self) -> i64 {
        self.before
    }

    /// What the units have shown.
    pub fn evidence(&self) -> &Evidence {
        &self.evidence
    }

    /// What unseen answers have shown: as treated units at a share of nothing.
    pub fn unseen(&self) -> &Evidence {
        &self.unseen
    }

    /// Up to where the store was read.
    pub fn seen(&self) -> &Cursor {
        &self.seen
    }

    /// When the controller looked last, or the rollout began, microseconds since 1970.
    pub fn looked_us(&self) -> i64 {
        self.looked_us
    }

    /// When the stage began, microseconds since 1970.
    pub fn entered_us(&self) -> i64 {
        self.entered_us
    }

    /// Treated customers of this stage.
    pub fn customers(&self) -> u64 {
        self.customers
    }

    /// Rises with every change of what the orchestrators do.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Whether the rollout goes on.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// The stage whose share, categories and audience count.
    pub fn serving(&self) -> &Stage {
        &self.plan.stages[self.lowered.unwrap_or(self.stage)]
    }

    /// The stage the rollout is in.
    pub fn stage(&self) -> &Stage {
        &self.plan.stages[self.stage]
    }

    /// The stages with their shares in buckets, whether the rollout is in each, and whether its share counts.
    pub fn ladder(&self) -> Vec<(&Stage, u32, bool, bool)> {
        let serving = self.lowered.unwrap_or(self.stage);
        let rung = |(at, stage)| (stage, self.share_of(at), at == self.stage, at == serving);
        self.plan.stages.iter().enumerate().map(rung).collect()
    }

    /// The audiences of this stage and of those before it with their shares in buckets, so that nobody loses what they had.
    pub fn audiences(&self) -> BTreeMap<&str, u32> {
        let stages = &self.plan.stages[..=self.lowered.unwrap_or(self.stage)];
        let named = stages.iter().filter(|stage| !stage.audience.is_empty());
        // The shares of one audience rise: the last counts.
        named.map(|stage| (stage.audience.as_str(), buckets(stage.share))).collect()
    }

    /// Customers that are treated, in buckets.
    pub fn share(&self) -> u32 {
        match self.phase {
            Phase::Running => self.share_of(self.lowered.unwrap_or(self.stage)),
            Phase::RolledBack => 0,
        }
    }

    /// Whether it is in its last stage, and nothing is lowered or held.
    fn is_at_its_end(&self) -> bool {
        self.stage + 1 == self.plan.stages.len() && self.lowered.is_none() && self.held.is_none()
    }

    /// The share of the stage before.
    pub(super) fn fallback(&self) -> u32 {
        let below = self.lowered.unwrap_or(self.stage).checked_sub(1);
        below.map_or(0, |stage| self.share_of(stage)).min(self.share())
    }

    fn share_of(&self, stage: usize) -> u32 {
        let stage = &self.plan.stages[stage];
        // Staff are no sample of customers: nobody is kept back among them, and they count in no share of all.
        if stage.audience.is_empty() { buckets(stage.share.min(1.0 - self.plan.holdback)) } else { 0 }
    }

    pub(super) fn decision(&self, action: Action, reasons: Vec<String>) -> Decision {
        Decision {
            version: self.version,
            action,
            phase: self.phase,
            stage: self.stage().name.clone(),
            share: self.share(),
            fallback: self.fallback(),
            verdict: Verdict::Inconclusive,
            reasons,
            missing: Vec::new(),
            readings: Vec::new(),
        }
    }

    fn apply(&mut self, at_us: i64, plan: &Plan, by: &str, seen: &Cursor) -> Result<Decision, Refused> {
        let reasons = vec![format!("applied by {by}")];
        if plan.id != self.plan.id {
            // Who compares models goes on from an assistant that is switched on for all.
            let follows = plan.compares == Compares::Model && self.is_at_its_end();
            if self.phase == Phase::Running && self.share() > 0 && !follows {
                return Err(Refused::Other(self.plan.id.clone()));
            }
            let (version, epoch) = (self.version + 1, self.epoch + 1);
            *self = Self { version, epoch, ..Self::new(plan.clone(), at_us, seen.clone()) };
            return Ok(self.decision(Action::Applied, reasons));
        }
        if plan.salt != self.plan.salt {
            return Err(Refused::Salt);
        }
        let name = |stage: usize| self.plan.stages[stage].name.clone();
        let find = |stage: usize| {
            let found = plan.stages.iter().position(|other| other.name == self.plan.stages[stage].name);
            found.ok_or_else(|| Refused::NoStage(name(stage)))
        };
        let (stage, lowered) = (find(self.stage)?, self.lowered.map(find).transpose()?);
        let next = Self { plan: plan.clone(), stage, lowered, version: self.version + 1, ..self.clone() };
        if next.share() > self.share() {
            return Err(Refused::Raises { from: self.share(), to: next.share() });
        }
        *self = next;
        Ok(self.decision(Action::Applied, reasons))
    }

    fn order(&mut self, at_us: i64, order: Order, words: &str) -> Result<Decision, Refused> {
        if self.phase == Phase::RolledBack && order != Order::Rearm {
            return Err(Refused::RolledBack);
        }
        let reasons = vec![words.to_owned()];
        match order {
            Order::Approve if self.lowered.is_none() && self.stage + 1 == self.plan.stages.len() => {
                return Err(Refused::Idle("the rollout is in its last stage"));
            }
            Order::Approve => self.approved = true,
            Order::Hold => self.held = Some(words.to_owned()),
            Order::Release if self.held.is_none() => return Err(Refused::Idle("nobody holds the rollout")),
            Order::Release => self.held = None,
            Order::Abort => return Ok(self.roll_back(at_us, reasons)),
            Order::Rearm => return self.rearm(at_us, reasons),
        }
        Ok(self.decision(Action::Noted, reasons))
    }

    fn rearm(&mut self, at_us: i64, reasons: Vec<String>) -> Result<Decision, Refused> {
        if self.phase == Phase::Running {
            return Err(Refused::Armed);
        }
        let cool_us = self.rolled_back_us + (self.plan.cooldown_hours * HOUR_US) as i64;
        if at_us < cool_us {
            return Err(Refused::Cooling((cool_us - at_us).div_euclid(60_000_000) + 1));
        }
        let (version, epoch) = (self.version + 1, self.epoch + 1);
        *self = Self { version, epoch, ..Self::new(self.plan.clone(), at_us, self.seen.clone()) };
        Ok(self.decision(Action::Rearmed, reasons))
    }

    pub(super) fn roll_back(&mut self, at_us: i64, reasons: Vec<String>) -> Decision {
        (self.phase, self.version, self.rolled_back_us) = (Phase::RolledBack, self.version + 1, at_us);
        (self.approved, self.held) = (false, None);
        self.decision(Action::RolledBack, reasons)
    }
}

fn words(by: &str, reason: &str) -> String {
    if reason.is_empty() { format!("by {by}") } else { format!("by {by}: {reason}") }
}
