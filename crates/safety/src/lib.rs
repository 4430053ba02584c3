//! Four safety rails and the redaction of personal data.

mod config;
mod decode;
mod error;
mod evaluate;
mod evaluate_pii;
mod examples;
mod guard;
mod ingest;
mod lexicon;
mod policy;
mod remote;
mod rule;
mod sanitise;
mod scan;
mod screen;
mod server;
mod solve;
mod train;
mod vary;

pub use config::Config;
pub use error::Error;
pub use evaluate::{CategoryReport, Rail, Report, evaluate};
pub use evaluate_pii::{PiiError, PiiExample, PiiFigures, PiiReport, evaluate_pii, read_pii_examples};
pub use guard::Guard;
pub use ingest::{Planted, planted};
pub use lexicon::{Lexicon, Ordinary, Weighted};
pub use personal::{Kind, Span, detect, redact};
pub use policy::{Action, Category, Judgement, Policy, Rule, Scores};
pub use remote::{Point, Protocol, Remote};
pub use screen::{Rails, Status, Verdict};
pub use server::{NAME, check, rails, service};
pub use train::{build, open, platform};
