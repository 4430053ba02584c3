//! Background work: looks at the rollout whenever it is time, and learns what other processes have decided.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::metrics::{AsyncInstrument, Meter};
use tokio_util::sync::CancellationToken;

use super::{Known, Phase};
use crate::store::Store;

/// Time between two looks at the log and at the clock.
const EVERY: Duration = Duration::from_millis(500);

/// A share with its labels.
type Share = (f64, [KeyValue; 3]);

/// What the rollout does now, for those who watch; `None` without one, and while nobody can look. Clones share it.
#[derive(Debug, Clone, Default)]
pub(super) struct Standing(Arc<Mutex<Option<Share>>>);

impl Standing {
    /// Shows the share of the customers that are treated, with the rollout, its stage, and whether it goes on.
    pub(super) fn export(&self, meter: &Meter) {
        let standing = self.clone();
        let gauge = meter.f64_observable_gauge("firstline.rollout.share").with_unit("1");
        let gauge = gauge.with_description("Share of the customers that the controller has treated.");
        let show = move |observer: &dyn AsyncInstrument<f64>| {
            if let Some((share, labels)) = &*standing.0.lock().unwrap_or_else(PoisonError::into_inner) {
                observer.observe(*share, labels);
            }
        };
        let _registered = gauge.with_callback(show).build();
    }

    fn set(&self, known: Option<&Known>) {
        let stands = known.map(|known| {
            let phase = if known.state.phase == Phase::Running { "running" } else { "rolled_back" };
            let (rollout, stage) = (known.state.plan().id.clone(), known.last.decision.stage.clone());
            let labels = [("rollout", rollout), ("stage", stage), ("phase", phase.to_owned())];
            let share = f64::from(known.last.decision.share) / f64::from(stats::BUCKETS);
            (share, labels.map(|(name, value)| KeyValue::new(name, value)))
        });
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = stands;
    }
}

/// Decides on the rollout until `shutdown`. What is exposed longer ago than an event may take is read `grace` later.
pub(super) async fn run(store: Store, standing: Standing, grace: Duration, shutdown: CancellationToken) {
    let grace_us = i64::try_from(grace.as_micros()).unwrap_or(i64::MAX);
    let mut failing = false;
    let mut every = tokio::time::interval(EVERY);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while shutdown.run_until_cancelled(every.tick()).await.is_some() {
        match step(&store, &standing, grace_us).await {
            Ok(()) => failing = false,
            // Nothing is decided and nobody told: the orchestrators lower the share by themselves.
            Err(error) => {
                standing.set(None);
                if !failing {
                    tracing::error!(
                        error = &error as &dyn std::error::Error,
                        "the rollout cannot be looked at"
                    );
                }
                failing = true;
            }
        }
    }
}

async fn step(store: &Store, standing: &Standing, grace_us: i64) -> Result<(), crate::record::Error> {
    let Some(known) = store.rollout().await? else {
        standing.set(None);
        return Ok(());
    };
    let looked = store.look(grace_us).await?;
    standing.set(looked.as_ref().or(Some(&known)));
    if let Some(looked) = looked {
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
