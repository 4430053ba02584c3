//! Long documents in parts, titles and ids.

use std::collections::BTreeMap;

use bundle::{Document, MAX_DOCUMENT_BYTES, Problem, check_document, slug, twice};

use crate::Imported;
use crate::open::Draft;
use crate::refusal::Refusal;

/// Longest id made here, in bytes; a bundle allows 200, which leaves room for a number.
const MAX_ID_BYTES: usize = 180;
/// Longest title made here, in bytes.
const MAX_TITLE_BYTES: usize = 200;

/// The id of a document by the name of its file.
pub(crate) fn id(name: &str) -> String {
    let id = slug(name);
    let id = id[..id.floor_char_boundary(MAX_ID_BYTES)].trim_end_matches('-');
    if id.is_empty() { "document".to_owned() } else { id.to_owned() }
}

/// A title on one line, without what programs put before it.
pub(crate) fn title(text: &str) -> String {
    let text = text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty());
    let text = text.collect::<Vec<_>>().join(" ");
    let text = text.strip_prefix("Microsoft Word - ").unwrap_or(&text);
    text[..text.floor_char_boundary(MAX_TITLE_BYTES)].trim().to_owned()
}

/// Settles ids and parts: an id chosen by an author stands, and is a problem when taken; others get a number.
pub(crate) fn finish(drafts: Vec<Draft>, imported: &mut Imported) {
    let mut places = BTreeMap::<String, String>::new();
    let mut kept = Vec::new();
    for draft in drafts {
        let id = &draft.document.id;
        match places.get(id) {
            Some(first) if draft.named => {
                imported.problems.push(twice(&draft.file, draft.line, id, first));
                continue;
            }
            _ if draft.named => {
                places.insert(id.clone(), format!("{}:{}", draft.file.display(), draft.line));
            }
            _ => {}
        }
        kept.push(draft);
    }
    for draft in kept {
        let place = format!("{}:{}", draft.file.display(), draft.line);
        let parts = match split(&draft.document.content) {
            Ok(parts) => parts,
            Err(refusal) => {
                imported.problems.push(Problem::new(&draft.file, 0, refusal.to_string()));
                continue;
            }
        };
        if parts.len() > 1 {
            let message =
                format!("was imported in {} parts of at most {MAX_DOCUMENT_BYTES} bytes", parts.len());
            imported.notes.push(Problem::new(&draft.file, 0, message));
        }
        for (index, content) in parts.iter().enumerate() {
            let Document { id, title, audience, tags, .. } = draft.document.clone();
            let taken = index > 0 || !draft.named;
            let id = if taken { free(&id, &mut places, &place) } else { id };
            let title = if parts.len() > 1 { format!("{title} ({})", index + 1) } else { title };
            let document = Document { id, title, content: (*content).to_owned(), audience, tags };
            match check_document(&draft.file, draft.line, &document) {
                Ok(()) => {
                    imported.defaulted += usize::from(!draft.says_audience);
                    imported.documents.push(document);
                }
                Err(problem) => imported.problems.push(problem),
            }
        }
    }
}

/// The id itself, or the first free one with a number; it is taken then.
fn free(id: &str, places: &mut BTreeMap<String, String>, place: &str) -> String {
    let numbered = (2..).map(|number| format!("{id}-{number}"));
    let free = std::iter::once(id.to_owned()).chain(numbered).find(|id| !places.contains_key(id));
    let free = free.unwrap_or_default();
    places.insert(free.clone(), place.to_owned());
    free
}

/// Parts of a size a bundle allows, cut before a heading, else between paragraphs or lines.
fn split(content: &str) -> Result<Vec<&str>, Refusal> {
    let mut parts = Vec::new();
    let mut rest = content;
    while rest.len() > MAX_DOCUMENT_BYTES {
        let window = &rest[..rest.floor_char_boundary(MAX_DOCUMENT_BYTES)];
        let cut = ["\n#", "\n\n", "\n"].iter().find_map(|mark| window.rfind(mark).filter(|at| *at > 0));
        let (part, others) = rest.split_at(cut.ok_or(Refusal::LongLine)?);
        parts.push(part.trim_end());
        rest = others.trim_start_matches(['\n', '\r']);
    }
    parts.push(rest);
    parts.retain(|part| !part.trim().is_empty());
    Ok(parts)
}
