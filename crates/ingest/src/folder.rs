//! Which files of a folder are read.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bundle::Problem;

use crate::website;
use crate::worker::Worker;

/// What is read, for messages.
pub(crate) const ALLOWED: &str = ".md, .txt, .html, .pdf, .docx and .jsonl files";

/// How a file is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Markdown,
    Text,
    Html,
    Pdf,
    Docx,
    Jsonl,
}

/// What the ending of a name says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ending {
    Known(Kind),
    /// A document in a format that is not read, and what to do with it.
    Foreign(&'static str),
    /// Pictures, styles and everything else.
    Other(String),
}

pub(crate) fn ending(path: &Path) -> Ending {
    let ending = path.extension().map(|ending| ending.to_string_lossy().to_lowercase()).unwrap_or_default();
    match ending.as_str() {
        "md" | "markdown" => Ending::Known(Kind::Markdown),
        "txt" | "text" => Ending::Known(Kind::Text),
        "html" | "htm" | "xhtml" => Ending::Known(Kind::Html),
        "pdf" => Ending::Known(Kind::Pdf),
        "docx" => Ending::Known(Kind::Docx),
        "jsonl" | "ndjson" => Ending::Known(Kind::Jsonl),
        "doc" | "rtf" | "odt" | "pages" | "docm" | "dotx" => Ending::Foreign("save it as .docx or .pdf"),
        "ppt" | "pptx" | "odp" | "key" | "epub" => Ending::Foreign("save it as .pdf"),
        "xls" | "xlsx" | "ods" | "csv" | "tsv" => Ending::Foreign("save its rows as .jsonl or .md"),
        "mht" | "mhtml" => Ending::Foreign("save the page as .html"),
        "zip" | "gz" | "tgz" | "tar" | "7z" | "rar" => Ending::Foreign("unpack it"),
        "json" => Ending::Foreign("write one object a line as .jsonl"),
        _ => Ending::Other(ending),
    }
}

/// A file to read.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    pub(crate) path: PathBuf,
    pub(crate) kind: Kind,
    /// Words for its id: its path in the folder or its address in the website.
    pub(crate) name: String,
}

/// The files to read, in order, and what was not taken.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    pub(crate) files: Vec<Found>,
    pub(crate) problems: Vec<Problem>,
    pub(crate) notes: Vec<Problem>,
    pub(crate) skipped: BTreeMap<String, usize>,
}

impl Listing {
    pub(crate) fn problem(&mut self, path: &Path, message: impl Into<String>) {
        self.problems.push(Problem::new(path, 0, message));
    }

    pub(crate) fn skip(&mut self, what: impl Into<String>) {
        *self.skipped.entry(what.into()).or_default() += 1;
    }
}

/// The files of `source`, which is one of them or a folder.
pub(crate) fn list(source: &Path, worker: &Worker) -> Listing {
    let mut listing = Listing::default();
    match std::fs::canonicalize(source) {
        Err(error) => listing.problem(source, format!("cannot be read: {error}")),
        Ok(root) if root.is_dir() => {
            let walk = Walk { source, root: &root, worker };
            walk.folder(source, &mut listing);
        }
        Ok(_) => {
            let name = source.file_stem().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            match ending(source) {
                Ending::Known(kind) => listing.files.push(Found { path: source.to_owned(), kind, name }),
                Ending::Foreign(advice) => listing.problem(source, not_read(advice)),
                Ending::Other(_) => listing.problem(source, format!("is not read, allowed {ALLOWED}")),
            }
        }
    }
    listing
}

fn not_read(advice: &str) -> String {
    format!("is not read, allowed {ALLOWED}: {advice}")
}

pub(crate) struct Walk<'w> {
    /// The folder as the user wrote it.
    pub(crate) source: &'w Path,
    /// The same without links.
    pub(crate) root: &'w Path,
    pub(crate) worker: &'w Worker,
}

impl Walk<'_> {
    fn folder(&self, folder: &Path, listing: &mut Listing) {
        if website::list(self, folder, listing) {
            return;
        }
        for path in entries(folder, listing) {
            // A link to a folder may lead back here.
            match (path.is_dir(), path.is_symlink()) {
                (true, true) => listing
                    .problem(&path, "is a link to a folder, which is not followed: name it by --kb itself"),
                (true, false) => self.folder(&path, listing),
                (false, _) => self.file(&path, listing),
            }
        }
    }

    fn file(&self, path: &Path, listing: &mut Listing) {
        let kind = match ending(path) {
            Ending::Known(kind) => kind,
            Ending::Foreign(advice) => return listing.problem(path, not_read(advice)),
            Ending::Other(ending) if ending.is_empty() => return listing.skip("files without ending"),
            Ending::Other(ending) => return listing.skip(format!(".{ending} files")),
        };
        if let Err(message) = self.inside(path) {
            return listing.problem(path, message);
        }
        let relative = path.strip_prefix(self.source).unwrap_or(path).with_extension("");
        listing.files.push(Found {
            path: path.to_owned(),
            kind,
            name: relative.to_string_lossy().into_owned(),
        });
    }

    /// Refuses a link that leads out of the folder or nowhere: the folder may come from somebody else.
    pub(crate) fn inside(&self, path: &Path) -> Result<(), String> {
        match std::fs::canonicalize(path) {
            Ok(target) if target.starts_with(self.root) => Ok(()),
            Ok(_) => Err("is a link that leads out of the folder: put a copy in its place".to_owned()),
            Err(error) => Err(format!("cannot be read: {error}")),
        }
    }
}

/// What a folder holds, sorted, without what is hidden.
pub(crate) fn entries(folder: &Path, listing: &mut Listing) -> Vec<PathBuf> {
    let read = std::fs::read_dir(folder).and_then(|entries| entries.collect::<std::io::Result<Vec<_>>>());
    let mut paths = match read {
        Ok(entries) => entries.into_iter().map(|entry| entry.path()).collect(),
        Err(error) => {
            listing.problem(folder, format!("cannot be read: {error}"));
            Vec::new()
        }
    };
    paths.retain(|path: &PathBuf| {
        path.file_name().is_none_or(|name| !name.as_encoded_bytes().starts_with(b"."))
    });
    paths.sort();
    paths
}
