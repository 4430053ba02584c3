//! Answers from screened passages, extractive or by a language model, with citations and cost.

pub mod answer;
pub mod chat;
pub mod config;
mod evidence;
mod extract;
mod ground;
mod markup;
pub mod prompt;
mod score;
mod server;
mod terms;
pub mod write;

pub use config::Config;
pub use server::{NAME, check_bundle as check, probe, service};
