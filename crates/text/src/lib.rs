//! Normalisation, tokens and sentences: what more than one stage does with text.

mod normalise;

pub use normalise::{despace, is_invisible, normalise, words};
