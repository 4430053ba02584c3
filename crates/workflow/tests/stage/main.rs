//! The stage as its callers see it.

#![expect(clippy::unwrap_used, reason = "these are tests, also outside of #[test] functions")]

mod answers;
mod caps;
mod conditions;
mod dialogues;
pub(crate) mod execution;
pub(crate) mod support;
