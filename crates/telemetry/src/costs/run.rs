//! Background work: looks whether the move to machines of one's own is worth it, and proposes or makes it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use bundle::rollout::{Compares, Plan};
use tokio_util::sync::CancellationToken;

use super::server::expected;
use super::transition::{Move, Perform, Standing, next};
use crate::config::Config;
use crate::record::Error;
use crate::rollout::{Order, Phase};
use crate::server::now_us;
use crate::store::Store;

/// Time between two looks.
const EVERY: Duration = Duration::from_secs(5);
/// Who acts, in the log of the rollout.
const BY: &str = "the cost controller";

/// What the controller last said.
#[derive(Debug, Clone, Default)]
pub(crate) struct Said(Arc<Mutex<String>>);

impl Said {
    pub(crate) fn words(&self) -> String {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns whether it is something new.
    fn say(&self, words: String) -> bool {
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new = *said != words;
        *said = words;
        is_new
    }
}

/// The plan of the configuration; `None` without a threshold.
///
/// # Errors
/// It cannot be read, is no plan, or compares no models.
pub(crate) fn plan(config: &Config) -> anyhow::Result<Option<Plan>> {
    if !config.transition.is_on() {
        return Ok(None);
    }
    let path = &config.transition.plan;
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("telemetry.transition.plan: cannot read {path}"))?;
    let plan = bundle::rollout::parse(&text).with_context(|| format!("telemetry.transition.plan: {path}"))?;
    anyhow::ensure!(
        plan.compares == Compares::Model,
        "telemetry.transition.plan: {path} compares the assistant with the menu, needed is compares = \"model\""
    );
    Ok(Some(plan))
}

/// Looks until `shutdown`.
pub(crate) async fn run(
    store: Store,
    config: Arc<Config>,
    plan: Plan,
    said: Said,
    shutdown: CancellationToken,
) {
    let mut every = tokio::time::interval(EVERY);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while shutdown.run_until_cancelled(every.tick()).await.is_some() {
        match look(&store, &config, &plan).await {
            Ok(words) => {
                if said.say(words.clone()) && !words.is_empty() {
                    tracing::warn!(words, "the move to machines of one's own");
                }
            }
            // The next look tries again; a refusal is for people to read.
            Err(Error::Refused(refused)) => drop(said.say(format!("refused: {refused}"))),
            Err(error) => {
                tracing::error!(error = &error as &dyn std::error::Error, "the costs cannot be looked at")
            }
        }
    }
}

/// Looks once, and does what follows; returns what there is to be said.
async fn look(store: &Store, config: &Config, plan: &Plan) -> Result<String, Error> {
    let known = store.rollout().await?;
    let own = known.as_ref().filter(|known| known.state.plan().id == plan.id);
    let standing = match own.map(|known| known.state.phase()) {
        None => Standing::None,
        Some(Phase::Running) => Standing::Running,
        Some(Phase::RolledBack) => Standing::RolledBack,
    };
    let expected = expected(store, &config.self_hosted, now_us()).await?;
    let stands = own.map(|known| {
        let share = f64::from(known.state.share()) / f64::from(stats::BUCKETS) * 100.0;
        format!("rollout {}, stage {}, {share} % of customers", plan.id, known.state.stage().name)
    });
    let stands = stands.unwrap_or_default();
    let Some((step, why)) = next(&config.transition, &expected, standing) else { return Ok(stands) };
    if config.transition.perform == Perform::Propose {
        let what = match step {
            Move::Begin => "to begin",
            Move::Again => "to begin again",
            Move::Back => "to take back",
        };
        return Ok(format!("proposed {what} rollout {}: {why}", plan.id));
    }
    let by = BY.to_owned();
    match step {
        Move::Begin => store.apply(plan.clone(), format!("{BY}: {why}")).await,
        Move::Again => store.order(Order::Rearm, by, why.clone()).await,
        Move::Back => store.order(Order::Abort, by, why.clone()).await,
    }?;
    Ok(format!("rollout {}: {why}", plan.id))
}
