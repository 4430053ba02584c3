//! One turn at a time where turns must not overlap.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::OwnedMutexGuard;

const SWEEP_AT: usize = 4096;

/// Locks by key.
#[derive(Debug, Default)]
pub(crate) struct Locks(Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>);

impl Locks {
    /// Waits for the key; without one there is nothing to wait for.
    pub(crate) async fn hold(&self, key: &str) -> Option<OwnedMutexGuard<()>> {
        if key.is_empty() {
            return None;
        }
        let lock = {
            let mut locks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if locks.len() >= SWEEP_AT {
                locks.retain(|_, lock| Arc::strong_count(lock) > 1);
            }
            locks.entry(key.to_owned()).or_default().clone()
        };
        Some(lock.lock_owned().await)
    }
}
