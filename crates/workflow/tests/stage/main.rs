//! The stage as its callers see it.

#![expect(clippy::unwrap_used, reason = "these are tests, also outside of #[test] functions")]

mod caps;
mod dialogues;
mod execution;
mod pages;
mod support;
