//! Workflows: proposal, slots, gate, confirmation and durable execution.

mod amount;
mod caps;
mod catalogue;
mod config;
mod converse;
mod date;
mod deliver;
mod engine;
mod execute;
mod fill;
mod gate;
mod page;
mod server;
mod settled;
mod store;
mod template;
mod words;

pub use catalogue::check;
pub use config::Config;
pub use server::{NAME, service};
