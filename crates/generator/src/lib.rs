//! Answers from screened passages, extractive or by a language model, with citations and cost.

mod alignment;
pub mod answer;
mod asked;
mod attempt;
pub mod breaker;
pub mod cache;
pub mod chat;
pub mod choose;
pub mod config;
mod endpoint;
mod evidence;
mod extract;
mod figures;
mod ground;
mod leak;
mod lexicon;
mod markup;
mod measure;
pub mod opinion;
pub mod prompt;
mod score;
mod served;
mod server;
mod shared;
mod suffice;
mod support;
mod terms;
mod tokens;
mod transport;
pub mod verdict;
pub mod write;

pub use config::Config;
pub use extract::NOTHING_ABOUT;
pub use measure::{Error, Example, Report, evaluate, read_examples};
pub use server::{NAME, check_bundle as check, probe, service};
