//! Owns the turn: journal, override, gates, outcome and handoff.

mod admit;
mod answer;
mod budget;
mod config;
mod context;
mod curated;
mod decide;
mod deliver;
mod desk;
mod disguise;
mod draft;
mod ending;
mod forget;
mod gate;
mod handoff;
mod keyword;
mod locks;
mod mask;
mod notice;
mod opinion;
mod parts;
mod quote;
mod screen;
mod server;
mod spool;
mod stages;
mod store;
mod turn;

pub use config::{Budget, Config};
pub use curated::{Approved, Curated};
pub use keyword::{Found, Keywords};
pub use parts::OFFERS;
pub use server::{NAME, service};
