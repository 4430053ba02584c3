//! One turn at a time where turns must not overlap, and which turns run.

use std::collections::{BTreeSet, HashMap};
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

/// Ids of the turns that run in this process.
#[derive(Debug, Default)]
pub(crate) struct Running(Mutex<BTreeSet<String>>);

impl Running {
    /// Counts a turn as running until the guard is dropped.
    pub(crate) fn enter(&self, turn_id: &str) -> Entered<'_> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(turn_id.to_owned());
        Entered { running: self, turn_id: turn_id.to_owned() }
    }

    pub(crate) fn holds(&self, turn_id: &str) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(turn_id)
    }
}

/// A running turn.
#[derive(Debug)]
pub(crate) struct Entered<'r> {
    running: &'r Running,
    turn_id: String,
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        self.running.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.turn_id);
    }
}
