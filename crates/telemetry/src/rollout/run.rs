//! Background work: looks at the rollout whenever it is time, and learns what other processes have decided.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::store::Store;

/// Time between two looks at the log and at the clock.
const EVERY: Duration = Duration::from_millis(500);

/// Decides on the rollout until `shutdown`. What is exposed longer ago than an event may take is read `grace` later.
pub async fn run(store: Store, grace: Duration, shutdown: CancellationToken) {
    let grace_us = i64::try_from(grace.as_micros()).unwrap_or(i64::MAX);
    let mut failing = false;
    let mut every = tokio::time::interval(EVERY);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while shutdown.run_until_cancelled(every.tick()).await.is_some() {
        match step(&store, grace_us).await {
            Ok(()) => failing = false,
            // Nothing is decided and nobody told: the orchestrators lower the share by themselves.
            Err(error) if !failing => {
                tracing::error!(error = &error as &dyn std::error::Error, "the rollout cannot be looked at");
                failing = true;
            }
            Err(_) => {}
        }
    }
}

async fn step(store: &Store, grace_us: i64) -> Result<(), crate::record::Error> {
    let Some(known) = store.rollout().await? else { return Ok(()) };
    if let Some(looked) = store.look(grace_us).await? {
        let (before, now) = (&known.last.decision, &looked.last.decision);
        if (before.version, &before.reasons) != (now.version, &now.reasons) {
            tracing::warn!(
                rollout = looked.state.plan().id,
                stage = now.stage,
                share = now.share,
                action = ?now.action,
                reasons = ?now.reasons,
                "the rollout changes"
            );
        }
    }
    Ok(())
}
