//! Background work: the spool to telemetry, and the reaper of orphaned turns.

use std::sync::Arc;
use std::time::Duration;

use prost::Message as _;
use proto::{Feedback, SubmitLabelRequest, TurnRecord};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::stages::{Failure, Stages};
use crate::store::{Journal, Kind};
use crate::turn::{Orchestrator, now};

const BATCH: u32 = 200;
/// Well below the largest message of a stage.
const BATCH_BYTES: usize = 64 * 1024;
const RETRY_FROM: Duration = Duration::from_millis(100);
const RETRY_UP_TO: Duration = Duration::from_secs(10);

/// Sends the spool to telemetry in order, for as long as the process lives; what telemetry has not
/// acknowledged stays in the journal.
pub(crate) async fn spool(journal: Journal, stages: Stages, wake: Arc<Notify>, shutdown: CancellationToken) {
    let mut pause = RETRY_FROM;
    loop {
        let more = match send(&journal, &stages).await {
            Ok(sent) => {
                pause = RETRY_FROM;
                sent
            }
            Err(error) => {
                tracing::debug!(error = %error, "telemetry does not take the spool yet");
                let wait = tokio::time::sleep(pause);
                pause = (pause * 2).min(RETRY_UP_TO);
                if shutdown.run_until_cancelled(wait).await.is_none() {
                    return;
                }
                true
            }
        };
        if !more && shutdown.run_until_cancelled(wake.notified()).await.is_none() {
            // What came in between the last look and the end still gets its chance.
            let _ = send(&journal, &stages).await;
            return;
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Store(#[from] kit::store::Error),
    #[error(transparent)]
    Stage(#[from] Failure),
}

/// Sends the oldest entries; `true` when there may be more.
async fn send(journal: &Journal, stages: &Stages) -> Result<bool, Error> {
    let entries = journal.spooled(BATCH).await?;
    let any = !entries.is_empty();
    let mut batch = Vec::new();
    let mut bytes = 0;
    for (seq, kind, payload) in entries {
        if kind == Kind::Record as i32 {
            bytes += payload.len();
            batch.push((seq, payload));
            if bytes < BATCH_BYTES {
                continue;
            }
        } else {
            settle(journal, seq, forward(stages, kind, &payload).await).await?;
        }
        records(journal, stages, std::mem::take(&mut batch)).await?;
        bytes = 0;
    }
    records(journal, stages, batch).await?;
    Ok(any)
}

async fn forward(stages: &Stages, kind: i32, payload: &[u8]) -> Result<(), Failure> {
    if kind == Kind::Feedback as i32 {
        return stages.feedback(Feedback::decode(payload).unwrap_or_default()).await;
    }
    stages.label(SubmitLabelRequest::decode(payload).unwrap_or_default()).await
}

/// Sends records together; when telemetry refuses them, one by one, so that only the bad one is set aside.
async fn records(journal: &Journal, stages: &Stages, batch: Vec<(i64, Vec<u8>)>) -> Result<(), Error> {
    if batch.is_empty() {
        return Ok(());
    }
    let decode = |payload: &Vec<u8>| TurnRecord::decode(payload.as_slice()).unwrap_or_default();
    match stages.record(batch.iter().map(|(_, payload)| decode(payload)).collect()).await {
        Err(failure) if failure.refused() => {
            for (seq, payload) in &batch {
                settle(journal, *seq, stages.record(vec![decode(payload)]).await).await?;
            }
        }
        Err(failure) => return Err(failure.into()),
        Ok(()) => journal.delivered(batch.into_iter().map(|(seq, _)| seq).collect()).await?,
    }
    Ok(())
}

/// Forgets what telemetry has; sets aside what it will never take, so that it holds up nothing else.
async fn settle(journal: &Journal, seq: i64, sent: Result<(), Failure>) -> Result<(), Error> {
    match sent {
        Err(failure) if failure.refused() => {
            tracing::error!(seq, %failure, "telemetry refuses an entry of the spool; it is set aside");
            journal.set_aside(seq).await?;
        }
        Err(failure) => return Err(failure.into()),
        Ok(()) => journal.delivered(vec![seq]).await?,
    }
    Ok(())
}

/// Turns that nobody will finish become handoffs. Those of an earlier process were reaped at the start.
pub(crate) async fn reap(orchestrator: Arc<Orchestrator>, every: Duration) {
    loop {
        tokio::time::sleep(every).await;
        match orchestrator.reap(now()).await {
            Ok(0) => {}
            Ok(n) => tracing::warn!(turns = n, "orphaned turns became handoffs"),
            Err(error) => tracing::error!(%error, "cannot look for orphaned turns"),
        }
    }
}
