//! What this process has in hand, so that its own search for what others left leaves it alone.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

/// Ids of what this process has in hand.
#[derive(Debug, Default)]
pub struct Running(Mutex<BTreeSet<String>>);

impl Running {
    /// Counts an id as in hand until the guard is dropped.
    pub fn enter(&self, id: &str) -> Entered<'_> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(id.to_owned());
        Entered { running: self, id: id.to_owned() }
    }

    /// Whether an id is in hand.
    pub fn holds(&self, id: &str) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(id)
    }

    /// All ids in hand.
    pub fn ids(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}

/// One of them.
#[derive(Debug)]
pub struct Entered<'r> {
    running: &'r Running,
    id: String,
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        self.running.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
    }
}
