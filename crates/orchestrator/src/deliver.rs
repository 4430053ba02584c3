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

/// Sends one batch; `true` when there may be more.
async fn send(journal: &Journal, stages: &Stages) -> Result<bool, Error> {
    let entries = journal.spooled(BATCH).await?;
    let mut records = Vec::new();
    let mut seqs = Vec::with_capacity(entries.len());
    for (seq, kind, payload) in entries {
        // An entry that does not decode was written by a newer version and rolled back: it stays out of the way.
        if kind == Kind::Record as i32 {
            records.extend(TurnRecord::decode(payload.as_slice()));
        } else if kind == Kind::Feedback as i32 {
            if let Ok(feedback) = Feedback::decode(payload.as_slice()) {
                stages.feedback(feedback).await?;
            }
        } else if let Ok(label) = SubmitLabelRequest::decode(payload.as_slice()) {
            stages.label(label).await?;
        }
        seqs.push(seq);
    }
    if !records.is_empty() {
        stages.record(records).await?;
    }
    let any = !seqs.is_empty();
    if any {
        journal.delivered(seqs).await?;
    }
    Ok(any)
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
