//! Documents: Markdown with front matter, JSONL.

use std::path::Path;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::problem::plain_json;
use crate::read::{Problem, Problems, Reader, finish};
use crate::types::{Audience, Document};

/// What some editors put before the first character.
pub const BOM: char = '\u{feff}';
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
pub fn twice(file: &Path, line: usize, id: &str, first: &str) -> Problem {
    Problem::new(file, line, format!("duplicate id {id:?}, first at {first}"))
}

pub(crate) fn markdown(reader: &Reader, file: &Path) -> Result<Document, Problems> {
    let text = reader.text(file)?;
    let document = markdown_document(file, &text)?;
    check_document(file, 1, &document)?;
    Ok(document)
}

/// A Markdown text with front matter as a document whose sizes are not checked yet.
///
/// # Errors
/// The front matter is missing or wrong.
pub fn markdown_document(file: &Path, text: &str) -> Result<Document, Problem> {
    let (front, body) = front_matter::<Front>(file, text, KEYS)?;
    let Front { id, title, audience, tags } = front;
    Ok(Document { id, title, content: body.to_owned(), audience, tags })
}

/// A line of JSONL as a document, and whether it says its audience; one that does not gets `default`.
///
/// # Errors
/// The line is no document, or a part of it is out of range.
pub fn json_document(
    file: &Path,
    number: usize,
    line: &str,
    default: Audience,
) -> Result<(Document, bool), Problem> {
    let line = parse_line(file, number, line)?;
    let says = line.audience.is_some();
    Ok((document(line, default), says))
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

/// Whether id, title and content of a document are in range.
///
/// # Errors
/// The first that is not, and what is allowed.
pub fn check_document(file: &Path, line: usize, document: &Document) -> Result<(), Problem> {
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

/// Lower-case letters and digits, everything else one hyphen.
pub fn slug(text: &str) -> String {
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
