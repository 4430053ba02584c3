//! Finds and masks personal data and secrets in a text. Pure functions: the safety stage judges by them, and the
//! orchestrator masks with them what it keeps.

mod detect;
mod digits;
mod numbers;
mod phones;

pub use detect::{Kind, Span, detect, mask, redact, warm_up};
