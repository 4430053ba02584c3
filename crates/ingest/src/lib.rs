//! Foreign documents as documents of a bundle: Markdown, plain text, HTML, PDF, DOCX, JSONL, a folder of
//! them, or a saved website.
//!
//! # Layout
//! - `folder`, `website`: which files are read, in which order, under which ids
//! - `open`: one file into drafts of documents; Markdown, text and JSONL are read here
//! - `worker`, `read`: HTML, PDF and DOCX are read in a process of its own, under limits
//! - `html`, `pdf`, `docx`, `sitemap`: the formats; `markup` writes their Markdown
//! - `parts`: long documents in parts, ids
#![forbid(unsafe_code)]

mod decode;
mod docx;
mod folder;
mod html;
mod markup;
mod open;
mod parts;
mod pdf;
mod read;
mod refusal;
mod sitemap;
mod website;
mod worker;
mod xml;

use std::collections::BTreeMap;
use std::path::Path;

use bundle::{Audience, Document, Problem, Problems};
use rayon::prelude::*;

pub use read::{limits_memory, serve};
pub use worker::Worker;

/// What was imported, and what was not.
#[derive(Debug, Clone, Default)]
pub struct Imported {
    /// The documents, in the order of their files; at least one.
    pub documents: Vec<Document>,
    /// How many of them did not say their audience and got the default.
    pub defaulted: usize,
    /// What could not be imported, by file and line, and what its owner can do.
    pub problems: Vec<Problem>,
    /// What was imported all the same: read by guess, in parts, or without some of its pages.
    pub notes: Vec<Problem>,
    /// How many files were left out on purpose, by what they are.
    pub skipped: BTreeMap<String, usize>,
}

/// Reads documents from a file or a folder. A file that cannot be imported is a problem; the others are.
///
/// # Errors
/// Every problem, when there is nothing that can be imported.
pub fn read(source: &Path, default: Audience, worker: &Worker) -> Result<Imported, Problems> {
    let found = folder::list(source, worker);
    let opened: Vec<_> = found.files.par_iter().map(|file| open::open(file, default, worker)).collect();
    let mut imported = Imported {
        problems: found.problems,
        notes: found.notes,
        skipped: found.skipped,
        ..Imported::default()
    };
    let mut drafts = Vec::new();
    for opened in opened {
        drafts.extend(opened.drafts);
        imported.problems.extend(opened.problems);
        imported.notes.extend(opened.notes);
    }
    parts::finish(drafts, &mut imported);
    if imported.documents.is_empty() {
        if imported.problems.is_empty() {
            let message = format!("has no document to import, allowed {}", folder::ALLOWED);
            imported.problems.push(Problem::new(source, 0, message));
        }
        return Err(Problems(imported.problems));
    }
    Ok(imported)
}
