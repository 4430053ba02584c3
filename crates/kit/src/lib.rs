//! What every stage process shares: configuration, faults, links, serving and tracing.

pub mod attributes;
pub mod call;
pub mod config;
mod evaluation;
pub mod fault;
pub mod files;
pub mod generation;
pub mod link;
mod model_call;
pub mod run;
mod running;
pub mod serve;
mod tables;
pub mod telemetry;

pub use call::Call;
pub use config::{Config, Violation};
pub use evaluation::Evaluation;
pub use fault::{Fault, Kind};
pub use link::{Link, Links};
pub use model_call::ModelCall;
pub use run::run;
pub use running::Running;
pub use serve::{Context, Stage};

/// The allocator of every process. Measured after fifty live changes of the index: 48 MiB resident, 74 MiB
/// with the system's. Without its transparent huge pages a stage at rest takes 12 MiB instead of 21.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
