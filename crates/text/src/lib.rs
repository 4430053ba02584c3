//! Normalisation, tokens and sentences: what more than one stage does with text.

mod letters;
mod normalise;
mod numbers;
mod questions;
mod sentences;

pub use letters::{is_mark, latin, rot13};
pub use normalise::{despace, is_invisible, normalise, plain, words};
pub use numbers::{below_twenty, tens};
pub use questions::{asks_for_facts, questions};
pub use sentences::{Block, BlockKind, blocks, sentences};
