//! The rollout: what is known of it, what follows from that, and who is told.
//!
//! Everything that happens to a rollout is an entry of its log, and what follows is a function of the log alone: a state
//! that takes one entry after the other ([`State::step`]). The same entries lead to the same decisions, bit for bit.

mod change;
mod control;
mod evidence;
mod guard;
mod look;
mod observe;
mod order;
mod replay;
mod run;
pub mod server;
pub(crate) mod store;
mod tick;
mod units;
pub(crate) mod unseen;

pub use control::{Action, Decision, Phase, State};
pub use evidence::Evidence;
pub use guard::{Reading, Verdict};
pub use look::name;
pub use order::{Entry, Order, Refused};
pub use replay::{Broken, Line, replay};
pub use store::{Known, Logged};
pub use tick::{Cost, Cursor, Exposed, Failures, Matured, Seen, Tick};

#[cfg(test)]
mod tests;
