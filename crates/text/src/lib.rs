//! Normalisation, tokens and sentences: what more than one stage does with text.

mod normalise;
mod questions;
mod sentences;

pub use normalise::{despace, is_invisible, normalise, plain, words};
pub use questions::questions;
pub use sentences::{Block, BlockKind, blocks, sentences};
