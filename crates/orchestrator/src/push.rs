//! Background work: handoffs to the helpdesks, for ever until they have them.

use std::time::Duration;

use anyhow::Context as _;
use proto::Backlog;
use tokio_util::sync::CancellationToken;

use crate::helpdesk::{Answer, Helpdesk, LONGEST};
use crate::outbox::Ended;
use crate::stages::Stages;
use crate::store::Journal;
use crate::turn::{Orchestrator, now};

/// Time between two looks for what is due.
const EVERY: Duration = Duration::from_secs(1);
/// How long an attempt has its entry for itself: longer than the longest, and what is written after it.
const LEASE: Duration = LONGEST.saturating_add(Duration::from_secs(30));
const PAUSE_FROM: Duration = Duration::from_secs(1);
const PAUSE_UP_TO: Duration = Duration::from_secs(600);
const REPORT_EVERY: Duration = Duration::from_secs(10);
/// Age of an undelivered handoff, in microseconds, from which on it is told of; again whenever it has doubled.
const OLD: i64 = 60 * 1_000_000;

/// Starts what brings handoffs to the helpdesks.
///
/// # Errors
/// The system has no TLS roots.
pub(crate) fn start(orchestrator: &Orchestrator, context: &kit::Context) -> anyhow::Result<()> {
    let Orchestrator { config, journal, stages, .. } = orchestrator;
    for (name, connector) in &config.connectors {
        let helpdesk =
            Helpdesk::new(name, connector).with_context(|| format!("orchestrator.connectors.{name}"))?;
        context.tasks.spawn(deliver(journal.clone(), helpdesk, context.shutdown.clone()));
    }
    let connectors: Vec<_> = config.connectors.keys().cloned().collect();
    // Without any too: of those that there were telemetry has to hear that they are gone.
    context.tasks.spawn(watch(journal.clone(), stages.clone(), connectors, context.shutdown.clone()));
    Ok(())
}

/// Delivers to one helpdesk what is due, one after the other.
async fn deliver(journal: Journal, helpdesk: Helpdesk, shutdown: CancellationToken) {
    loop {
        match next(&journal, &helpdesk).await {
            Ok(true) if !shutdown.is_cancelled() => continue,
            Ok(_) => {}
            Err(error) => {
                tracing::error!(connector = helpdesk.name, %error, "cannot look for handoffs to deliver")
            }
        }
        if shutdown.run_until_cancelled(tokio::time::sleep(EVERY)).await.is_none() {
            return;
        }
    }
}

/// Makes one attempt; `false` when nothing is due.
async fn next(journal: &Journal, helpdesk: &Helpdesk) -> Result<bool, sql::Error> {
    let Some(due) = journal.due(&helpdesk.name, micros(LEASE)).await? else { return Ok(false) };
    let answer = helpdesk.deliver(&due).await;
    let (connector, handoff, attempt) = (&helpdesk.name, &due.handoff_id, due.attempt);
    let ended = match answer {
        Answer::Done(reference) => {
            tracing::info!(connector, handoff, attempt, "a helpdesk has the handoff");
            Ended::Delivered(reference.unwrap_or_default())
        }
        Answer::Refused(error) => {
            tracing::error!(
                connector,
                handoff,
                attempt,
                error,
                "a helpdesk refuses the handoff; when it is mended: firstline handoff redeliver"
            );
            Ended::Failed(error)
        }
        Answer::NotNow(error) | Answer::Unclear(error) => {
            tracing::warn!(
                connector,
                handoff,
                attempt,
                error,
                "a helpdesk did not take the handoff; it is sent again"
            );
            Ended::Again(error, micros(pause(attempt)))
        }
    };
    journal.settle(&due, connector, ended).await?;
    Ok(true)
}

/// Full jitter: anything between nothing and a limit that doubles with every attempt.
fn pause(attempt: u32) -> Duration {
    let limit = PAUSE_FROM.saturating_mul(1 << attempt.saturating_sub(1).min(16)).min(PAUSE_UP_TO);
    let random = uuid::Uuid::new_v4().as_u64_pair().1;
    Duration::from_micros(random % (micros(limit).unsigned_abs() + 1))
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

/// Tells telemetry what waits, and the log what has waited for long.
async fn watch(journal: Journal, stages: Stages, connectors: Vec<String>, shutdown: CancellationToken) {
    let mut told = vec![0; connectors.len()];
    let mut every = tokio::time::interval(REPORT_EVERY);
    while shutdown.run_until_cancelled(every.tick()).await.is_some() {
        let Ok(backlogs) = journal.backlog(connectors.clone()).await else { continue };
        for (backlog, told) in backlogs.iter().zip(&mut told) {
            warn(backlog, told);
        }
        if let Err(error) = stages.deliveries(backlogs).await {
            tracing::debug!(%error, "telemetry does not take the state of deliveries");
        }
    }
}

fn warn(Backlog { connector, undelivered, oldest }: &Backlog, told: &mut i64) {
    let oldest = oldest.as_ref().map(|at| at.seconds.saturating_mul(1_000_000));
    let age = oldest.map_or(0, |oldest| now() - oldest);
    if age < OLD {
        *told = 0;
    } else if age >= told.saturating_mul(2) {
        let age_s = age / 1_000_000;
        tracing::error!(
            connector,
            undelivered,
            age_s,
            "handoffs do not reach a helpdesk; the oldest waits so long"
        );
        *told = age;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_ten_minutes_and_are_spread() {
        for (attempt, limit) in [(1, 1), (2, 2), (5, 16), (10, 512), (11, 600), (60, 600), (u32::MAX, 600)] {
            let pauses: Vec<_> = (0..200).map(|_| pause(attempt)).collect();
            let (least, most) = (pauses.iter().min().unwrap(), pauses.iter().max().unwrap());
            let limit = Duration::from_secs(limit);
            assert!(
                *most <= limit && *most > limit / 2 && *least < limit / 2,
                "{attempt}: {least:?} to {most:?}"
            );
        }
    }
}
