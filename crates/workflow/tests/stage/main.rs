//! The stage as its callers see it.

#![expect(clippy::unwrap_used, reason = "these are tests, also outside of #[test] functions")]

mod answers;
mod approval;
mod caps;
mod conditions;
mod dialogues;
pub(crate) mod execution;
mod grpc;
mod pages;
mod rehearsal;
pub(crate) mod support;
