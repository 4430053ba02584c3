//! Metrics of a window of turns: what is added up of them, and the figures that come of it.

mod conversations;
mod figure;
mod figures;
pub mod gauges;
mod read;
pub(crate) mod sample;
pub(crate) mod server;
mod tally;
mod window;

pub use figure::{Figure, NAMES, Unit};
pub use sample::{Grounding, Sample, Step};
pub use tally::{Latency, Metrics};
pub use window::{By, Correction, Kind, Rating, Report, Verdict, Window};

#[cfg(test)]
mod tests;
