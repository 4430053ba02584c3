//! Why a document is not imported, and what its owner can do.

use crate::markup::MAX_TEXT_BYTES;

/// Largest file, in bytes; JSONL, which is read line by line, may be ten times as large.
pub(crate) const MAX_FILE_BYTES: u64 = 50_000_000;
/// Deepest nesting of elements: where browsers stop as well.
pub(crate) const MAX_DEPTH: usize = 512;

/// A document that is not imported.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("is {0} bytes, allowed up to {1}: split it")]
    TooLarge(u64, u64),
    #[error("holds more than {} MiB of text: split it", MAX_TEXT_BYTES >> 20)]
    TooMuchText,
    #[error(
        "nests elements more than {MAX_DEPTH} deep: save the page again, or copy its text into a .md file"
    )]
    TooDeep,
    #[error("holds no text: leave it out, or write one")]
    NoText,
    #[error("holds no text, perhaps it is a scan: run text recognition (OCR) on it and save it again")]
    Scan,
    #[error("is locked with a password: save it without one")]
    Locked,
    #[error("is not text but binary data: check its name, or leave it out")]
    Binary,
    #[error("is {0} by its content: give it that ending")]
    Misnamed(&'static str),
    #[error("is no {0} or a damaged one ({1}): open and save it again")]
    Damaged(&'static str, String),
    #[error("unpacks to more than {} MB, as no article does: save its text as a smaller document", .0 / 1_000_000)]
    Bomb(u64),
    #[error("has a line of more than {} MiB: break it into paragraphs", bundle::MAX_DOCUMENT_BYTES >> 20)]
    LongLine,
    #[error("took longer than {0} s to read: save its text as .txt or .md")]
    Slow(u64),
    #[error(
        "needs more than {0} MiB of memory to read, or is nested without end: save its text as .txt or .md"
    )]
    Hungry(u64),
    #[error("broke its reader: open and save it again, or save its text as .txt or .md")]
    Broken,
    #[error("its reader cannot be started: {0}")]
    NoWorker(String),
    /// What a reader in its own process said.
    #[error("{0}")]
    Told(String),
    #[error("cannot be read: {0}")]
    Unreadable(String),
}
