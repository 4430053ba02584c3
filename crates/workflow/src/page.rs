//! Places in the list of executions.

use crate::execution::Execution;

/// A place in the list: when it was proposed, in milliseconds since the Unix epoch, and its id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place(pub(crate) i64, pub(crate) String);

impl Place {
    /// Before the newest.
    pub(crate) fn start() -> Self {
        Self(i64::MAX, String::new())
    }

    /// The place of an execution.
    pub(crate) fn of(execution: &Execution) -> Self {
        Self(execution.created_at.as_millisecond(), execution.id.clone())
    }

    /// What [`Place::token`] wrote; the start for nothing.
    pub(crate) fn parse(token: &str) -> Option<Self> {
        if token.is_empty() {
            return Some(Self::start());
        }
        let (millis, id) = token.split_once('.')?;
        Some(Self(millis.parse().ok()?, id.to_owned()))
    }

    /// As callers hold it.
    pub(crate) fn token(&self) -> String {
        format!("{}.{}", self.0, self.1)
    }
}
