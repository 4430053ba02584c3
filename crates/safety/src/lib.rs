//! Four safety rails and the redaction of personal data.

mod config;
mod decode;
mod detect;
mod digits;
mod lexicon;
mod numbers;
mod policy;
mod rule;
mod sanitise;
mod scan;
mod screen;
mod server;

pub use config::Config;
pub use detect::{Kind, Span, detect, redact};
pub use lexicon::{Lexicon, Ordinary, Weighted};
pub use policy::{Action, Category, Error, Judgement, Policy, Rule, Scores};
pub use screen::{Rails, Status, Verdict};
pub use server::{NAME, check, service};
