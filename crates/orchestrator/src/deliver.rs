//! Background work: the spool to telemetry, and the reaper of orphaned turns.

use std::sync::Arc;
use std::time::Duration;

use prost::Message as _;
use proto::TurnRecord;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::spool::{Entry, Spooled};
use crate::stages::{Failure, Stages};
use crate::store::Journal;
use crate::turn::{Orchestrator, now};
use crate::{notice, retain, rollout};

const BATCH: u32 = 200;
/// Well below the largest message of a stage.
const BATCH_BYTES: usize = 64 * 1024;
const GATHER: Duration = Duration::from_millis(50);
/// How often the journal is asked to take those in the lifeboat.
const LAND_EVERY: Duration = Duration::from_secs(1);
const RETRY_FROM: Duration = Duration::from_millis(100);
const RETRY_UP_TO: Duration = Duration::from_secs(10);

/// Starts the background work of the orchestrator.
pub(crate) fn start(orchestrator: &Arc<Orchestrator>, context: &kit::Context) {
    let Orchestrator { journal, stages, spooled, config, .. } = orchestrator.as_ref();
    let spool = spool(journal.clone(), stages.clone(), spooled.clone(), context.shutdown.clone());
    context.tasks.spawn(spool);
    let reaper = reap(orchestrator.clone(), Duration::from_millis(config.reap_every_ms));
    context.tasks.spawn(context.shutdown.clone().run_until_cancelled_owned(reaper));
    context.tasks.spawn(context.shutdown.clone().run_until_cancelled_owned(land(orchestrator.clone())));
    let notices = notice::tell(orchestrator.clone());
    context.tasks.spawn(context.shutdown.clone().run_until_cancelled_owned(notices));
    context.tasks.spawn(rollout::listen(orchestrator.clone(), context.shutdown.clone()));
    context.tasks.spawn(retain::sweep(journal.clone(), config.retain_days, context.shutdown.clone()));
}

/// Sends the spool to telemetry in order, for as long as the process lives; what telemetry has not
/// acknowledged stays in the journal.
async fn spool(journal: Journal, stages: Stages, wake: Arc<Notify>, shutdown: CancellationToken) {
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
        let idle = async {
            wake.notified().await;
            // Turns that end close together reach telemetry together.
            tokio::time::sleep(GATHER).await;
        };
        if !more && shutdown.run_until_cancelled(idle).await.is_none() {
            // What came in between the last look and the end still gets its chance.
            let _ = send(&journal, &stages).await;
            return;
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Store(#[from] sql::Error),
    #[error(transparent)]
    Stage(#[from] Failure),
}

/// Sends the oldest entries; `true` when there may be more.
async fn send(journal: &Journal, stages: &Stages) -> Result<bool, Error> {
    let _sending = journal.sending.lock().await;
    let entries = journal.spooled(BATCH).await?;
    let any = !entries.is_empty();
    let mut batch = Batch::default();
    for Spooled { seq, traceparent, entry } in entries {
        // What is said of a turn comes after the turn.
        if !matches!(entry, Entry::Record(_)) {
            batch.send(journal, stages).await?;
        }
        match entry {
            Entry::Record(record) => {
                batch.add(seq, traceparent, *record);
                // With traces on, a record travels in the trace of its turn, and so alone.
                if batch.bytes >= BATCH_BYTES || kit::telemetry::exporting() {
                    batch.send(journal, stages).await?;
                }
            }
            Entry::Feedback(feedback) => {
                let sent = kit::Call::resume(&traceparent).scope(stages.feedback(feedback)).await;
                settle(journal, seq, sent).await?;
            }
            Entry::Evaluation(evaluation) => {
                let sent = kit::Call::resume(&traceparent).scope(stages.evaluation(evaluation)).await;
                settle(journal, seq, sent).await?;
            }
            Entry::Label(label) => {
                let sent = kit::Call::resume(&traceparent).scope(stages.label(label)).await;
                settle(journal, seq, sent).await?;
            }
        }
    }
    batch.send(journal, stages).await?;
    Ok(any)
}

/// Records on their way.
#[derive(Default)]
struct Batch {
    seqs: Vec<i64>,
    records: Vec<TurnRecord>,
    bytes: usize,
    traceparent: String,
}

impl Batch {
    fn add(&mut self, seq: i64, traceparent: String, record: TurnRecord) {
        self.bytes += record.encoded_len();
        self.seqs.push(seq);
        self.records.push(record);
        self.traceparent = traceparent;
    }

    /// Sends records together; when telemetry refuses them, one by one, so that only the bad one is set
    /// aside.
    async fn send(&mut self, journal: &Journal, stages: &Stages) -> Result<(), Error> {
        let Self { seqs, records, traceparent, .. } = std::mem::take(self);
        if seqs.is_empty() {
            return Ok(());
        }
        let call = kit::Call::resume(&traceparent);
        match call.scope(stages.record(records.clone())).await {
            Err(failure) if failure.refused() => {
                for (seq, record) in seqs.into_iter().zip(records) {
                    settle(journal, seq, stages.record(vec![record]).await).await?;
                }
            }
            Err(failure) => return Err(failure.into()),
            Ok(()) => journal.delivered(seqs).await?,
        }
        Ok(())
    }
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

/// Turns that nobody will finish become handoffs, and handoffs that nobody takes callbacks. Turns of an earlier process were reaped at the start.
async fn reap(orchestrator: Arc<Orchestrator>, every: Duration) {
    loop {
        tokio::time::sleep(every).await;
        match orchestrator.reap(false).await {
            Ok(0) => {}
            Ok(n) => tracing::warn!(turns = n, "orphaned turns became handoffs"),
            Err(error) => tracing::error!(%error, "cannot look for orphaned turns"),
        }
        match orchestrator.call_back(now()).await {
            Ok(0) => {}
            Ok(n) => tracing::info!(handoffs = n, "nobody was free in time: handoffs became callbacks"),
            Err(error) => tracing::error!(%error, "cannot look for handoffs that wait for too long"),
        }
    }
}

/// Brings those in the lifeboat to the journal, as soon as it takes them.
async fn land(orchestrator: Arc<Orchestrator>) {
    loop {
        tokio::time::sleep(LAND_EVERY).await;
        if let Err(error) = orchestrator.land().await {
            tracing::warn!(%error, "handoffs wait in the lifeboat");
        }
    }
}
