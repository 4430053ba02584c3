//! Intent classification: calibrated probabilities, out-of-scope score and decision.

mod build;
mod calibrate;
mod classify;
mod config;
mod decide;
mod dense;
mod evaluate;
mod file;
mod folds;
mod language;
mod linear;
mod lint;
mod logistic;
mod near;
mod person;
mod server;
mod solve;
mod train;

pub use build::{Built, build, open};
pub use classify::{Model, Scores};
pub use config::Config;
pub use evaluate::{Report, evaluate, read_examples};
pub use lint::{ENOUGH_EXAMPLES, Misread, Overlap, Repeated, Review, Thin, review};
pub use person::{HandoffReport, evaluate_handoff};
pub use server::{NAME, service};
pub use train::{Error, Example, train};
