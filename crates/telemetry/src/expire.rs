//! Deletes what is older than the retention, at start and then daily.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::record::Error;
use crate::store::Store;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Deletes what is older than `retention_days` now and every day, until `shutdown`.
pub async fn run(store: Store, retention_days: u32, now_us: fn() -> i64, shutdown: CancellationToken) {
    let retention_us = i64::from(retention_days) * DAY.as_micros() as i64;
    loop {
        match delete_before(&store, now_us() - retention_us, &shutdown).await {
            Ok(0) => {}
            Ok(deleted) => {
                tracing::info!(deleted, retention_days, "deleted what is older than the retention")
            }
            // The next day tries again; old records harm nobody until then.
            Err(error) => tracing::error!(error = &error as &dyn std::error::Error, "retention failed"),
        }
        tokio::select! {
            () = tokio::time::sleep(DAY) => {}
            () = shutdown.cancelled() => return,
        }
    }
}

/// Deletes what was accepted before `before_us`, in small batches so that records are not held up;
/// returns how many rows went. Stops between two batches on `shutdown`.
///
/// # Errors
/// `Store`; the batches before it stay deleted.
pub async fn delete_before(
    store: &Store,
    before_us: i64,
    shutdown: &CancellationToken,
) -> Result<u64, Error> {
    let mut deleted = 0;
    while !shutdown.is_cancelled() {
        match store.delete_batch(before_us).await? {
            0 => break,
            rows => deleted += rows,
        }
    }
    Ok(deleted)
}
