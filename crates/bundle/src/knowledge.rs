//! Documents: Markdown with front matter, JSONL, and the import of what a company already has.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::problem::plain_json;
use crate::read::{Problem, Problems, Reader, finish};
use crate::types::{Audience, Document};

/// What some editors put before the first character.
pub(crate) const BOM: char = '\u{feff}';
/// Largest document, in bytes.
pub const MAX_DOCUMENT_BYTES: usize = 1 << 20;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Front {
    id: String,
    title: String,
    audience: Audience,
    #[serde(default)]
    tags: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    id: String,
    title: String,
    content: String,
    audience: Option<Audience>,
    #[serde(default)]
    tags: Vec<String>,
}

/// Keys of the front matter of a document.
const KEYS: &str = "id, title, audience (public or internal) and, if wanted, tags";

/// Splits a file into its YAML front matter and its body; `keys` says in words what the front matter holds.
pub(crate) fn front_matter<'t, T: DeserializeOwned>(
    file: &Path,
    text: &'t str,
    keys: &str,
) -> Result<(T, &'t str), Problem> {
    let missing = || Problem::new(file, 1, "has no front matter: a line of `---`, keys, a line of `---`");
    let rest = text.strip_prefix("---\n").or_else(|| text.strip_prefix("---\r\n")).ok_or_else(missing)?;
    let end = rest
        .match_indices("\n---")
        .find(|(at, _)| matches!(rest.as_bytes().get(at + 4), None | Some(b'\n' | b'\r')));
    let (end, _) = end.ok_or_else(missing)?;
    let yaml = &rest[..end];
    let body = rest[end + 4..].trim_start_matches(['\r', '\n']);
    match serde_saphyr::from_str(yaml) {
        Ok(front) => Ok((front, body)),
        Err(error) => {
            let (line, message) = plain_yaml(&error);
            // What may stand there is said already where one of a few words is expected.
            let holds = if message.contains("expected one of") {
                String::new()
            } else {
                format!("; the front matter holds {keys}")
            };
            Err(Problem::new(file, line, message + &holds))
        }
    }
}

/// The line of the file and the message, without the position that the message names once more.
fn plain_yaml(error: &serde_saphyr::Error) -> (usize, String) {
    let line = error.location().map_or(1, |location| location.line() as usize + 1);
    match error.without_snippet() {
        // Nothing is there that could be pointed at: what it is missing from.
        serde_saphyr::Error::SerdeMissingField { field, .. } => (1, format!("has no `{field}`")),
        serde_saphyr::Error::NullIntoString { .. } => (line, "the key has no value".to_owned()),
        _ => {
            let text = error.to_string();
            let text = text.lines().next().unwrap_or("does not parse");
            let place = error.location().map(|at| format!("line {} column {}: ", at.line(), at.column()));
            let message =
                place.and_then(|place| text.split_once(&place)).map_or(text, |(_, message)| message);
            (line, message.to_owned())
        }
    }
}

/// That a document's id is taken.
pub(crate) fn twice(file: &Path, line: usize, id: &str, first: &str) -> Problem {
    Problem::new(file, line, format!("duplicate id {id:?}, first at {first}"))
}

pub(crate) fn markdown(reader: &Reader, file: &Path) -> Result<Document, Problems> {
    let text = reader.text(file)?;
    let (front, body) = front_matter::<Front>(file, &text, KEYS)?;
    let document = Document {
        id: front.id,
        title: front.title,
        content: body.to_owned(),
        audience: front.audience,
        tags: front.tags,
    };
    check(file, 1, &document)?;
    Ok(document)
}

pub(crate) fn jsonl(reader: &Reader, file: &Path) -> Result<Vec<(usize, Document)>, Problems> {
    let text = reader.text(file)?;
    let mut documents = Vec::new();
    let mut problems = Vec::new();
    for (number, line) in lines(&text) {
        match parse_line(file, number, line) {
            Ok(Line { audience: None, .. }) => {
                problems.push(Problem::new(
                    file,
                    number,
                    "has no audience, allowed \"public\" and \"internal\"",
                ));
            }
            Ok(line) => documents.push((number, document(line, Audience::Internal))),
            Err(problem) => problems.push(problem),
        }
    }
    finish(documents, problems)
}

pub(crate) fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines()
        .enumerate()
        .map(|(index, line)| (index + 1, line))
        .filter(|(_, line)| !line.trim().is_empty())
}

fn parse_line(file: &Path, number: usize, line: &str) -> Result<Line, Problem> {
    let parsed: Line = serde_json::from_str(line)
        .map_err(|error| Problem::new(file, number, format!("is no document: {}", plain_json(&error))))?;
    let problem = limits(&parsed.id, &parsed.title, &parsed.content);
    problem.map_or(Ok(parsed), |message| Err(Problem::new(file, number, message)))
}

fn document(line: Line, default: Audience) -> Document {
    let Line { id, title, content, audience, tags } = line;
    Document { id, title, content, audience: audience.unwrap_or(default), tags }
}

fn check(file: &Path, line: usize, document: &Document) -> Result<(), Problem> {
    let problem = limits(&document.id, &document.title, &document.content);
    problem.map_or(Ok(()), |message| Err(Problem::new(file, line, message)))
}

fn limits(id: &str, title: &str, content: &str) -> Option<String> {
    if id.is_empty() || id.len() > 200 || id.chars().any(char::is_whitespace) {
        return Some(format!(
            "id {:?}, allowed 1 to 200 bytes without spaces",
            id.chars().take(40).collect::<String>()
        ));
    }
    if title.trim().is_empty() || title.len() > 1000 {
        return Some(format!("title of {} bytes, allowed 1 to 1000", title.len()));
    }
    if content.trim().is_empty() {
        return Some("content is empty".to_owned());
    }
    (content.len() > MAX_DOCUMENT_BYTES)
        .then(|| format!("content of {} bytes, allowed up to {MAX_DOCUMENT_BYTES}", content.len()))
}

/// Reads documents from what a company has: a JSONL file, a Markdown file, or a folder of both.
/// A Markdown file without front matter takes its id from its path and its title from its first heading.
/// Also returns how many documents did not say their audience and got `default`.
///
/// # Errors
/// Everything that is wrong, by file and line; nothing is imported then.
pub fn import(source: &Path, default: Audience) -> Result<(Vec<Document>, usize), Problems> {
    let mut found = Import {
        default,
        documents: Vec::new(),
        places: Vec::new(),
        unread: Vec::new(),
        problems: Vec::new(),
        without_audience: 0,
    };
    if source.is_dir() {
        found.folder(source, source)?;
    } else if source.exists() && !is_read(source) {
        found.unread.push(source.to_owned());
    } else {
        found.file(source, source);
    }
    if let Some((first, others)) = found.unread.split_first() {
        let more = if others.is_empty() { String::new() } else { format!("; {} more such", others.len()) };
        let message = format!("is not read, allowed .md and .jsonl files{more}");
        found.problems.push(Problem::new(first, 0, message));
    }
    let mut seen = BTreeMap::<&str, String>::new();
    for (document, (file, line)) in found.documents.iter().zip(&found.places) {
        match seen.get(document.id.as_str()) {
            Some(first) => found.problems.push(twice(file, *line, &document.id, first)),
            None => _ = seen.insert(&document.id, format!("{}:{line}", file.display())),
        }
    }
    if found.documents.is_empty() && found.problems.is_empty() {
        found.problems.push(Problem::new(source, 0, "has no document, allowed .jsonl and .md files"));
    }
    finish((found.documents, found.without_audience), found.problems)
}

fn is_read(file: &Path) -> bool {
    file.extension().is_some_and(|kind| kind == "md" || kind == "jsonl")
}

struct Import {
    default: Audience,
    documents: Vec<Document>,
    /// Where each of the documents stands.
    places: Vec<(PathBuf, usize)>,
    /// Files of other kinds.
    unread: Vec<PathBuf>,
    problems: Vec<Problem>,
    without_audience: usize,
}

impl Import {
    fn folder(&mut self, root: &Path, folder: &Path) -> Result<(), Problem> {
        let fail = |error: std::io::Error| Problem::new(folder, 0, format!("cannot be read: {error}"));
        let entries: std::io::Result<Vec<_>> = std::fs::read_dir(folder).map_err(fail)?.collect();
        let mut paths: Vec<_> = entries.map_err(fail)?.into_iter().map(|entry| entry.path()).collect();
        paths.sort();
        for path in paths {
            let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
            match path.is_dir() {
                _ if hidden => {}
                // A link to a folder may lead back here.
                true if !path.is_symlink() => self.folder(root, &path)?,
                false if is_read(&path) => self.file(root, &path),
                _ => self.unread.push(path),
            }
        }
        Ok(())
    }

    fn file(&mut self, root: &Path, file: &Path) {
        let text = match std::fs::read(file).map(String::from_utf8) {
            Ok(Ok(text)) => text,
            Ok(Err(error)) => return self.problems.push(Problem::not_utf8(file, &error)),
            Err(error) => {
                return self.problems.push(Problem::new(file, 0, format!("cannot be read: {error}")));
            }
        };
        let text = text.strip_prefix(BOM).unwrap_or(&text).to_owned();
        if file.extension().is_some_and(|extension| extension == "jsonl") {
            for (number, line) in lines(&text) {
                match parse_line(file, number, line) {
                    Ok(line) => {
                        self.without_audience += usize::from(line.audience.is_none());
                        self.add(file, number, document(line, self.default));
                    }
                    Err(problem) => self.problems.push(problem),
                }
            }
        } else {
            match self.loose_markdown(root, file, &text) {
                Ok(document) => self.add(file, 1, document),
                Err(problem) => self.problems.push(problem),
            }
        }
    }

    fn add(&mut self, file: &Path, line: usize, document: Document) {
        self.documents.push(document);
        self.places.push((file.to_owned(), line));
    }

    fn loose_markdown(&mut self, root: &Path, file: &Path, text: &str) -> Result<Document, Problem> {
        if text.starts_with("---") {
            let (front, body) = front_matter::<Front>(file, text, KEYS)?;
            let Front { id, title, audience, tags } = front;
            let document = Document { id, title, content: body.to_owned(), audience, tags };
            return check(file, 1, &document).map(|()| document);
        }
        self.without_audience += 1;
        let relative =
            file.strip_prefix(root).ok().filter(|path| !path.as_os_str().is_empty()).unwrap_or(file);
        let stem = relative.with_extension("");
        let id = slug(&stem.to_string_lossy());
        let heading = text.lines().find_map(|line| line.strip_prefix("# ")).map(str::trim);
        let title = heading.map_or_else(|| id.replace('-', " "), str::to_owned);
        let document =
            Document { id, title, content: text.to_owned(), audience: self.default, tags: Vec::new() };
        check(file, 1, &document).map(|()| document)
    }
}

/// Lower-case letters and digits, everything else one hyphen.
pub(crate) fn slug(text: &str) -> String {
    let mut slug = String::new();
    for c in text.chars().flat_map(char::to_lowercase) {
        if c.is_alphanumeric() {
            slug.push(c);
        } else if !slug.ends_with('-') && !slug.is_empty() {
            slug.push('-');
        }
    }
    slug.trim_end_matches('-').to_owned()
}
