//! What more than one stage learns with: n-grams, packed linear weights, Newton's method.

mod cluster;
mod newton;
mod ngrams;
mod random;
mod weights;

pub use cluster::clusters;
pub use newton::{Place, minimise};
pub use ngrams::{Ngrams, Vector, Vocabulary};
pub use random::Random;
pub use weights::Weights;
