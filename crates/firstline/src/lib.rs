//! The all-in-one binary and the command line.

mod ask;
mod bundles;
mod chat;
mod cli;
mod client;
mod coverage;
mod desk;
mod doctor;
mod eval;
mod golden;
mod judge;
mod lint;
mod receive;
mod report;
mod show;
mod supervise;
mod up;

pub mod mesh;
mod on_call;

pub use cli::run;
