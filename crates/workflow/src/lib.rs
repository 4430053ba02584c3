//! Workflows: proposal, slots, gate, confirmation and durable execution.

mod amount;
mod approve;
mod caps;
mod catalogue;
mod compensate;
pub mod condition;
mod config;
mod converse;
mod date;
mod deliver;
mod engine;
mod english;
mod execute;
mod execution;
mod fault;
mod fill;
mod gate;
mod grpc;
mod numbers;
mod open;
mod page;
mod precondition;
mod rehearse;
mod request;
mod response;
mod schema;
mod server;
mod settled;
mod slot;
mod store;
mod template;
mod words;

pub use config::Config;
pub use open::check;
pub use rehearse::{Preview, Rehearsal, Trial, rehearse};
pub use server::{NAME, migrate, service};
