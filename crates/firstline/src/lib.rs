//! The all-in-one binary and the command line.

mod ask;
mod bundles;
mod chat;
mod cli;
mod client;
mod doctor;
mod eval;
mod receive;
mod show;
mod supervise;
mod up;

pub mod mesh;

pub use cli::run;
