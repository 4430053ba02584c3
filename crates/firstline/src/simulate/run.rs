//! One simulation: the controller in a world, in virtual time.

use bundle::rollout::Plan;
use rayon::prelude::*;
use telemetry::rollout::{Action, Cursor, Decision, Entry, Matured, Order, Phase, State};

use super::scenario::Scenario;
use super::world::World;

/// When something happened.
#[derive(Debug, Clone, Copy, Default, PartialEq, serde::Serialize)]
pub(super) struct When {
    pub(super) hours: f64,
    pub(super) conversations: u64,
    /// Treated customers until then, those included of whom nothing is known yet.
    pub(super) treated: u64,
}

/// What became of a rollout.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Outcome {
    pub(super) rolled_back: Option<When>,
    /// When the first stage was over.
    pub(super) advanced: Option<When>,
    /// The last stage.
    pub(super) stage: String,
    /// When the simulation was over.
    pub(super) end: When,
}

/// What is to be seen after a look of the controller.
pub(super) struct Looked<'a> {
    pub(super) when: When,
    /// Of the customers that were treated until then, in buckets.
    pub(super) share: u32,
    pub(super) decision: &'a Decision,
    /// Units of the first guard whose time is over.
    pub(super) matured: Option<Matured>,
    /// Bad events of the first guard, control and treated, in the order in which they happened.
    pub(super) came: [u64; 2],
}

/// Simulates until the rollout is rolled back, the time is over, or `look` has seen enough.
pub(super) fn run(
    scenario: &Scenario,
    plan: &Plan,
    seed: u64,
    mut look: impl FnMut(&Looked<'_>) -> bool,
) -> anyhow::Result<Outcome> {
    // Other customers are treated in every run.
    let plan = Plan { salt: format!("{}-{seed:x}", plan.salt), ..plan.clone() };
    let mut world = World::new(scenario, &plan, seed);
    let (interval_s, total_s) = (f64::from(plan.interval_s), scenario.seconds());
    let applied =
        Entry::Applied { plan: Box::new(plan), by: "simulation".to_owned(), seen: Cursor::default() };
    let (mut state, _) = State::begin(0, &applied)?;
    let mut outcome = Outcome::default();
    let mut at_s = 0.0;
    while at_s < total_s {
        let share = state.share();
        let tick = world.interval(&state, at_s, at_s + interval_s);
        at_s += interval_s;
        let at_us = (at_s * 1e6) as i64;
        let matured = tick.matured.first().cloned();
        let decision = state.step(at_us, &Entry::Observed(tick))?;
        let when =
            When { hours: at_s / 3600.0, conversations: world.conversations(), treated: world.treated };
        outcome.end = when;
        if decision.action == Action::Advanced {
            outcome.advanced.get_or_insert(when);
        }
        let over = decision.phase == Phase::RolledBack;
        outcome.rolled_back = over.then_some(when);
        let seen = Looked { when, share, decision: &decision, matured, came: world.came() };
        if !look(&seen) || over {
            break;
        }
        agree(&mut state, at_us, &decision)?;
    }
    state.stage().name.clone_into(&mut outcome.stage);
    Ok(outcome)
}

/// A person agrees as soon as nothing else is missing.
fn agree(state: &mut State, at_us: i64, decision: &Decision) -> anyhow::Result<()> {
    if let [only] = decision.missing.as_slice()
        && only.starts_with("a person's approval")
    {
        let (by, reason) = ("simulation".to_owned(), String::new());
        state.step(at_us, &Entry::Ordered { order: Order::Approve, by, reason })?;
    }
    Ok(())
}

/// Many simulations, in the order of their numbers, whatever the number of threads.
pub(super) fn many<T: Send>(
    runs: u32,
    seed: u64,
    one: impl Fn(u64) -> anyhow::Result<T> + Sync,
) -> anyhow::Result<Vec<T>> {
    (0..u64::from(runs)).into_par_iter().map(|run| one(mix(seed, run))).collect()
}

/// The seed of a run: neighbours have nothing in common. The finaliser of Steele, Lea and Flood, "Fast splittable
/// pseudorandom number generators", OOPSLA 2014.
pub(super) fn mix(seed: u64, run: u64) -> u64 {
    let mut z = seed.wrapping_add((run + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
