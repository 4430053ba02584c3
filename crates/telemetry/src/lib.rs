//! Turn records, feedback and the metrics computed from them.

pub mod audit;
pub mod config;
pub mod costs;
pub mod counters;
pub mod evaluations;
pub mod expire;
pub mod export;
pub mod forget;
pub mod labels;
pub mod metrics;
pub mod record;
pub mod rollout;
pub mod server;
pub mod store;

pub use config::Config;
pub use server::{NAME, migrate, service};
