//! One file into drafts of documents.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;

use bundle::{Audience, BOM, Document, Problem};

use crate::decode;
use crate::folder::{Found, Kind};
use crate::read::{Answer, Format};
use crate::refusal::{MAX_FILE_BYTES, Refusal};
use crate::worker::Worker;

/// Largest JSONL file, in bytes.
const MAX_JSONL_BYTES: u64 = 10 * MAX_FILE_BYTES;
/// Longest line of JSONL, in bytes: the largest document, each byte of it escaped as six.
const MAX_LINE_BYTES: usize = 6 * bundle::MAX_DOCUMENT_BYTES + 4096;

/// A document before its parts and its id are settled.
#[derive(Debug)]
pub(crate) struct Draft {
    pub(crate) document: Document,
    /// Whether its author chose the id; others are made unique.
    pub(crate) named: bool,
    pub(crate) says_audience: bool,
    pub(crate) file: std::path::PathBuf,
    pub(crate) line: usize,
}

/// What a file gave.
#[derive(Debug, Default)]
pub(crate) struct Opened {
    pub(crate) drafts: Vec<Draft>,
    pub(crate) problems: Vec<Problem>,
    pub(crate) notes: Vec<Problem>,
}

/// Reads a file.
pub(crate) fn open(found: &Found, default: Audience, worker: &Worker) -> Opened {
    let mut opened = Opened::default();
    let read = file(&found.path, found.kind).and_then(|file| match found.kind {
        Kind::Jsonl => {
            jsonl(file, &found.path, default, &mut opened);
            Ok(())
        }
        Kind::Markdown | Kind::Text => text(file, found, default, &mut opened),
        Kind::Html => foreign(file, Format::Html, found, default, worker, &mut opened),
        Kind::Pdf => foreign(file, Format::Pdf, found, default, worker, &mut opened),
        Kind::Docx => foreign(file, Format::Docx, found, default, worker, &mut opened),
    });
    if let Err(refusal) = read {
        opened.problems.push(Problem::new(&found.path, 0, refusal.to_string()));
    }
    opened
}

/// Opens a regular file of an allowed size: a pipe or a device might never end.
fn file(path: &Path, kind: Kind) -> Result<File, Refusal> {
    let unreadable = |error: std::io::Error| Refusal::Unreadable(error.to_string());
    let about = std::fs::metadata(path).map_err(unreadable)?;
    if !about.is_file() {
        return Err(Refusal::Unreadable("it is no regular file".to_owned()));
    }
    let most = if kind == Kind::Jsonl { MAX_JSONL_BYTES } else { MAX_FILE_BYTES };
    if about.len() > most {
        return Err(Refusal::TooLarge(about.len(), most));
    }
    File::open(path).map_err(unreadable)
}

fn jsonl(file: File, path: &Path, default: Audience, opened: &mut Opened) {
    let mut reader = BufReader::new(file);
    let mut bytes = Vec::new();
    for number in 1.. {
        bytes.clear();
        let read = reader.by_ref().take(MAX_LINE_BYTES as u64 + 1).read_until(b'\n', &mut bytes);
        let mut refuse = |message: String| opened.problems.push(Problem::new(path, number, message));
        match read {
            Ok(0) => return,
            Ok(length) if length > MAX_LINE_BYTES => {
                refuse(format!("is longer than {MAX_LINE_BYTES} bytes: split the document"));
                if skip_line(&mut reader).is_err() {
                    return;
                }
                continue;
            }
            Ok(_) => {}
            Err(error) => return refuse(format!("cannot be read: {error}")),
        }
        let Ok(line) = std::str::from_utf8(&bytes) else {
            refuse("is not UTF-8: save the file as UTF-8".to_owned());
            continue;
        };
        let line = line.trim_start_matches(BOM).trim();
        if line.is_empty() {
            continue;
        }
        match bundle::json_document(path, number, line, default) {
            Ok((document, says_audience)) => {
                let file = path.to_owned();
                opened.drafts.push(Draft { document, named: true, says_audience, file, line: number });
            }
            Err(problem) => opened.problems.push(problem),
        }
    }
}

/// Reads up to the end of a line without keeping it.
fn skip_line(reader: &mut impl std::io::BufRead) -> std::io::Result<()> {
    loop {
        let chunk = reader.fill_buf()?;
        let (length, done) = match chunk.iter().position(|byte| *byte == b'\n') {
            Some(at) => (at + 1, true),
            None => (chunk.len(), chunk.is_empty()),
        };
        reader.consume(length);
        if done {
            return Ok(());
        }
    }
}

fn text(file: File, found: &Found, default: Audience, opened: &mut Opened) -> Result<(), Refusal> {
    let mut bytes = Vec::new();
    let read = file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes);
    read.map_err(|error| Refusal::Unreadable(error.to_string()))?;
    let (text, guess) = decode::text(&bytes, None)?;
    let text = text.strip_prefix(BOM).unwrap_or(&text);
    opened.notes.extend(guess.map(|note| Problem::new(&found.path, 0, note)));
    if found.kind == Kind::Markdown && text.starts_with("---") {
        match bundle::markdown_document(&found.path, text) {
            Ok(document) => {
                let file = found.path.clone();
                opened.drafts.push(Draft { document, named: true, says_audience: true, file, line: 1 });
            }
            Err(problem) => opened.problems.push(problem),
        }
        return Ok(());
    }
    if text.trim().is_empty() {
        return Err(Refusal::NoText);
    }
    let title = match found.kind {
        Kind::Markdown => text.lines().find_map(|line| line.strip_prefix("# ")),
        _ => None,
    };
    opened.drafts.push(draft(found, title, text.to_owned(), default));
    Ok(())
}

fn foreign(
    file: File,
    format: Format,
    found: &Found,
    default: Audience,
    worker: &Worker,
    opened: &mut Opened,
) -> Result<(), Refusal> {
    let Answer::Page(page) = worker.read(file, format)? else { return Err(Refusal::Broken) };
    opened.notes.extend(page.notes.into_iter().map(|note| Problem::new(&found.path, 0, note)));
    opened.drafts.push(draft(found, page.title.as_deref(), page.text, default));
    Ok(())
}

/// A document named after its file; without a title of its own the name is that too.
fn draft(found: &Found, title: Option<&str>, content: String, audience: Audience) -> Draft {
    let id = crate::parts::id(&found.name);
    let title = title.map(crate::parts::title).filter(|title| !title.is_empty());
    let title = title.unwrap_or_else(|| id.replace('-', " "));
    let document = Document { id, title, content, audience, tags: Vec::new() };
    Draft { document, named: false, says_audience: false, file: found.path.clone(), line: 1 }
}
