//! The all-in-one binary and the command line.

mod artefact;
mod ask;
mod audit;
mod bundles;
mod capacity;
mod chat;
mod cli;
mod client;
mod cost;
mod coverage;
mod customer;
mod data;
mod desk;
mod doctor;
mod draft;
mod eval;
mod executions;
mod golden;
mod judge;
mod lint;
mod receive;
mod rehearse;
mod report;
mod rollout;
mod schema;
mod show;
mod simulate;
mod supervise;
mod tokens;
mod up;

pub mod mesh;
mod metrics;
mod migrate;
mod openapi;

pub use cli::run;
