//! PDF as paragraphs of text.

use std::panic::{AssertUnwindSafe, catch_unwind};

use pdf_extract::{Document, PlainTextOutput, decode_text_string, output_doc_page};

use crate::markup::MAX_TEXT_BYTES;
use crate::read::Page;
use crate::refusal::Refusal;

/// Marks that begin an item of a list on paper.
const BULLETS: [char; 7] = ['•', '▪', '●', '◦', '‣', '■', '∙'];
/// A line that so many pages share, at their head or foot, is no part of the text.
const MIN_REPEATS: usize = 3;

/// Reads the text layer; the title is that of the file's properties, else its first line.
pub(crate) fn read(bytes: &[u8]) -> Result<Page, Refusal> {
    let window = &bytes[..bytes.len().min(1024)];
    if !window.windows(5).any(|at| at == b"%PDF-") {
        return Err(Refusal::Damaged("PDF", "it does not begin with %PDF-".to_owned()));
    }
    let damaged = |error: pdf_extract::Error| Refusal::Damaged("PDF", error.to_string());
    let mut document = Document::load_mem(bytes).map_err(damaged)?;
    if document.is_encrypted() {
        document.decrypt("").map_err(|_| Refusal::Locked)?;
    }
    let numbers: Vec<u32> = document.get_pages().into_keys().collect();
    let mut pages = Vec::with_capacity(numbers.len());
    let (mut bytes, mut broken, mut blank) = (0, Vec::new(), Vec::new());
    for number in numbers {
        match text(&document, number) {
            Some(text) if text.trim().is_empty() => blank.push(number),
            Some(text) => {
                bytes += text.len();
                pages.push(text.lines().map(str::to_owned).collect::<Vec<_>>());
            }
            None => broken.push(number),
        }
        if bytes > MAX_TEXT_BYTES {
            return Err(Refusal::TooMuchText);
        }
    }
    drop_running_lines(&mut pages);
    let text = paragraphs(&pages);
    if text.is_empty() {
        return Err(if broken.is_empty() { Refusal::Scan } else { Refusal::Broken });
    }
    let mut notes = Vec::new();
    let pages = |numbers: &[u32]| numbers.iter().map(u32::to_string).collect::<Vec<_>>().join(", ");
    if !blank.is_empty() {
        notes.push(format!("page {} has no text, perhaps it is a scan", pages(&blank)));
    }
    if !broken.is_empty() {
        notes.push(format!("page {} broke its reader and is left out", pages(&broken)));
    }
    let first = || text.lines().next().map(|line| line.trim_start_matches("- ").to_owned());
    let title = title(&document).or_else(first);
    Ok(Page { title, text, notes })
}

/// The text of a page; `None` when its reader breaks on it, as it does on odd fonts: the others may be fine.
fn text(document: &Document, number: u32) -> Option<String> {
    let mut text = String::new();
    let run = || {
        let mut output = PlainTextOutput::new(&mut text);
        output_doc_page(document, &mut output, number).is_ok()
    };
    matches!(catch_unwind(AssertUnwindSafe(run)), Ok(true)).then_some(text)
}

fn title(document: &Document) -> Option<String> {
    let info = document.trailer.get(b"Info").ok()?;
    let info = document.dereference(info).ok()?.1.as_dict().ok()?;
    decode_text_string(info.get(b"Title").ok()?).ok()
}

/// Drops page numbers and the lines that head or end many pages.
fn drop_running_lines(pages: &mut [Vec<String>]) {
    for page in pages.iter_mut() {
        page.retain(|line| !line.trim().is_empty() || line.is_empty());
    }
    // Digits count as one: "Page 3" is the same line on every page.
    let shape = |line: &str| {
        let mut shape: String = line.trim().chars().map(|c| if c.is_numeric() { '0' } else { c }).collect();
        while shape.contains("00") {
            shape = shape.replace("00", "0");
        }
        shape
    };
    for last in [false, true] {
        let end = |page: &Vec<String>| {
            let mut filled = page.iter().enumerate().filter(|(_, line)| !line.trim().is_empty());
            if last { filled.next_back().map(|(at, _)| at) } else { filled.next().map(|(at, _)| at) }
        };
        let mut shapes = std::collections::BTreeMap::<String, usize>::new();
        for page in pages.iter() {
            if let Some(at) = end(page) {
                *shapes.entry(shape(&page[at])).or_default() += 1;
            }
        }
        let half = pages.len().div_ceil(2);
        for page in pages.iter_mut() {
            let Some(at) = end(page) else { continue };
            let repeats = shapes.get(&shape(&page[at])).copied().unwrap_or_default();
            if repeats >= MIN_REPEATS.max(half) {
                page.remove(at);
            }
        }
    }
}

/// Joins the lines of a paragraph. A blank line or the end of the page ends it, unless it goes on in the
/// middle of a sentence; an item of a list begins a line of its own.
fn paragraphs(pages: &[Vec<String>]) -> String {
    let mut out = String::new();
    let mut open = false;
    for line in pages.iter().flat_map(|page| page.iter().map(String::as_str).chain([""])) {
        let line = line.split_whitespace().collect::<Vec<_>>().join(" ");
        let item = line.strip_prefix(BULLETS).map(str::trim_start);
        match item {
            _ if line.is_empty() => open = false,
            Some(item) => {
                out.push_str(if out.is_empty() { "- " } else { "\n- " });
                out.push_str(item);
                open = true;
            }
            None if open || (out.ends_with(char::is_lowercase) && line.starts_with(char::is_lowercase)) => {
                let hyphen = out.ends_with('-')
                    && out[..out.len() - 1].ends_with(char::is_lowercase)
                    && line.starts_with(char::is_lowercase);
                if hyphen {
                    out.pop();
                } else {
                    out.push(' ');
                }
                out.push_str(&line);
                open = true;
            }
            None => {
                out.push_str(if out.is_empty() { "" } else { "\n\n" });
                out.push_str(&line);
                open = true;
            }
        }
    }
    out
}
