//! What can be wrong with policy, lexicons, examples and the guard made of them.

use std::path::PathBuf;

/// Why there are no rails, or a measurement did not run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A category nobody knows.
    #[error("{file}: category \"{name}\" is unknown, allowed: {allowed}")]
    UnknownCategory {
        /// The file that names it.
        file: String,
        /// The name found.
        name: String,
        /// The names there are.
        allowed: String,
    },
    /// A number outside its range.
    #[error("{file}: {key} is {value}, allowed {allowed}")]
    OutOfRange {
        /// The file that holds it.
        file: String,
        /// The key or phrase it belongs to.
        key: String,
        /// The number found.
        value: f64,
        /// The range, in words.
        allowed: &'static str,
    },
    /// A failure action that would let the text pass.
    #[error("{file}: on_failure of \"{category}\" must be escalate or block")]
    OpenFailure {
        /// The file that holds it.
        file: String,
        /// The category.
        category: &'static str,
    },
    /// A phrase or rule that cannot be compiled.
    #[error("{file}: \"{pattern}\" {message}")]
    Pattern {
        /// The file that holds it.
        file: String,
        /// The phrase or rule.
        pattern: String,
        /// What is wrong with it.
        message: String,
    },
    /// A built-in file that is not TOML of the expected form.
    #[error("{file} cannot be read")]
    Baseline {
        /// The file.
        file: &'static str,
        /// The cause.
        source: toml::de::Error,
    },
    /// A built-in policy without one of the categories.
    #[error("the built-in policy has no category \"{0}\"")]
    Missing(&'static str),
    /// A line that is no example.
    #[error("{place}: not an example, which is {{\"text\": \"...\", \"categories\": [\"...\"]}}")]
    Example {
        /// File and line.
        place: String,
        /// Why.
        source: serde_json::Error,
    },
    /// A line of a data set that is none.
    #[error(
        "{place}: not a test line, which is {{\"text\": \"...\", \"unsafe\": true or false, \"categories\": [\"...\"]}}"
    )]
    TestLine {
        /// File and line.
        place: String,
        /// Why.
        source: serde_json::Error,
    },
    /// A file cannot be read or written.
    #[error("{} cannot be read or written", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The encoder failed.
    #[error("the examples cannot be encoded")]
    Encode(#[from] encoder::Error),
    /// The bundle has no guard for its present examples.
    #[error("no guard for the present examples at {}; run \"firstline bundle build {root}\"", path.display())]
    NotBuilt {
        /// Where it would be.
        path: PathBuf,
        /// The bundle.
        root: String,
    },
    /// The guard was built with another encoder than the one at hand.
    #[error(
        "the guard was built with the encoder {built}, this process has {present}; run \"firstline bundle build\" again, or set server.encoder as it was"
    )]
    Encoder {
        /// Encoder of the guard, or "none".
        built: String,
        /// Encoder of this process.
        present: String,
    },
    /// Bytes that are no guard.
    #[error("the file of the guard is damaged; run \"firstline bundle build\" to make it again")]
    Damaged(#[source] postcard::Error),
    /// Bytes that do not match their hash, or parts that do not fit together.
    #[error("the file of the guard was changed; run \"firstline bundle build\" to make it again")]
    Changed,
}
