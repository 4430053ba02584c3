//! How near texts are in meaning, by vectors of an encoder elsewhere.

use std::fmt::Debug;
use std::sync::OnceLock;

/// Cosine from which nearness proves nothing more: most sentences about one subject reach it.
const NEAR: f64 = 0.45;

/// An encoder of sentences.
pub trait Meaning: Debug + Send + Sync {
    /// The vector of a text, of length 1; `None` when it cannot be had, and words alone decide.
    fn embed(&self, text: &str) -> Option<Vec<f32>>;
}

/// A vector that is made when it is first needed; `None` inside when it could not be had.
#[derive(Debug, Default)]
pub(crate) struct Vector(OnceLock<Option<Vec<f32>>>);

impl Vector {
    pub(crate) fn of(&self, meaning: &dyn Meaning, text: impl FnOnce() -> String) -> Option<&[f32]> {
        self.0.get_or_init(|| meaning.embed(&text())).as_deref()
    }
}

/// How foreign a sentence is to the nearer of two texts, 0..=1: 0 from a cosine of [`NEAR`] on.
pub(crate) fn foreign(own: &[f32], one: &[f32], other: &[f32]) -> f64 {
    let cosine = |text: &[f32]| own.iter().zip(text).map(|(a, b)| f64::from(a * b)).sum::<f64>();
    ((NEAR - cosine(one).max(cosine(other))) / NEAR).clamp(0.0, 1.0)
}
