//! DOCX as Markdown: headings, lists and tables of the main text.

use std::collections::{BTreeMap, HashMap};
use std::io::{Cursor, Read as _};

use quick_xml::events::{BytesStart, Event};
use zip::ZipArchive;
use zip::result::ZipError;

use crate::markup::{Block, MAX_TEXT_BYTES, Markup};
use crate::read::Page;
use crate::refusal::Refusal;
use crate::xml;

/// Largest part of a document once unpacked, in bytes; a book of a thousand pages takes some 20 MB.
const MAX_PART_BYTES: u64 = 64_000_000;
/// Elements whose words are not shown: deleted text, the copy of a drawing for older programs.
const SKIPPED: [&str; 5] = ["del", "moveFrom", "Fallback", "instrText", "delText"];

/// Reads the main text; the title is that of the file's properties, else its first heading.
pub(crate) fn read(bytes: &[u8]) -> Result<Page, Refusal> {
    if bytes.starts_with(&[0xd0, 0xcf, 0x11, 0xe0]) {
        // Word encrypts a DOCX by putting it into the container of the old format.
        return Err(Refusal::Damaged("DOCX", "an old .doc, or locked with a password".to_owned()));
    }
    let mut archive = ZipArchive::new(Cursor::new(bytes)).map_err(|error| damaged(&error))?;
    let text = part(&mut archive, "word/document.xml")?
        .ok_or_else(|| Refusal::Damaged("DOCX", "it has no word/document.xml".to_owned()))?;
    let styles =
        part(&mut archive, "word/styles.xml")?.map_or_else(|| Ok(HashMap::new()), |text| styles(&text))?;
    let lists =
        part(&mut archive, "word/numbering.xml")?.map_or_else(|| Ok(HashMap::new()), |text| lists(&text))?;
    let core = part(&mut archive, "docProps/core.xml")?;
    let title = core.map_or(Ok(None), |text| title(&text))?.filter(|title| !title.trim().is_empty());
    let mut reader = Reader { styles, lists, ..Reader::default() };
    xml::each(&text, "DOCX", |event| reader.event(event))?;
    let (heading, text) = reader.markup.finish();
    if text.trim().is_empty() {
        return Err(Refusal::NoText);
    }
    Ok(Page { title: title.or(heading), text, notes: Vec::new() })
}

fn damaged(error: &impl ToString) -> Refusal {
    Refusal::Damaged("DOCX", error.to_string())
}

/// A part of the archive, if it is there. Its size is measured while it is unpacked, whatever it says.
fn part(archive: &mut ZipArchive<Cursor<&[u8]>>, name: &str) -> Result<Option<String>, Refusal> {
    let file = match archive.by_name(name) {
        Ok(file) => file,
        Err(ZipError::FileNotFound) => return Ok(None),
        Err(error) => return Err(damaged(&error)),
    };
    let mut bytes = Vec::new();
    file.take(MAX_PART_BYTES + 1).read_to_end(&mut bytes).map_err(|error| damaged(&error))?;
    if bytes.len() as u64 > MAX_PART_BYTES {
        return Err(Refusal::Bomb(MAX_PART_BYTES));
    }
    String::from_utf8(bytes).map(Some).map_err(|_| Refusal::Damaged("DOCX", format!("{name} is not UTF-8")))
}

/// What a style makes of its paragraphs.
#[derive(Debug, Clone, Default)]
struct Style {
    based_on: Option<String>,
    heading: Option<usize>,
    list: Option<String>,
}

fn styles(text: &str) -> Result<HashMap<String, Style>, Refusal> {
    let mut styles = HashMap::<String, Style>::new();
    let mut id = String::new();
    xml::each(text, "DOCX", |event| {
        if let Event::Start(tag) | Event::Empty(tag) = event {
            let value = || xml::attribute(tag, "val").unwrap_or_default();
            if xml::name(tag) == "style" {
                id = xml::attribute(tag, "styleId").unwrap_or_default();
            }
            let style = styles.entry(id.clone()).or_default();
            match xml::name(tag) {
                "basedOn" => style.based_on = Some(value()),
                "numId" => style.list = Some(value()),
                "outlineLvl" => style.heading = style.heading.or(outline(&value())),
                "name" if value().eq_ignore_ascii_case("title") => style.heading = Some(1),
                "name" => style.heading = named_heading(&value()).or(style.heading),
                _ => {}
            }
        }
        Ok(())
    })?;
    Ok(styles)
}

fn named_heading(name: &str) -> Option<usize> {
    name.to_ascii_lowercase().strip_prefix("heading ")?.parse().ok()
}

/// Levels count from 0; 9 is running text.
fn outline(level: &str) -> Option<usize> {
    level.parse().ok().filter(|level| *level < 9).map(|level: usize| level + 1)
}

/// Whether the levels of a list are numbered, by the id of the list.
fn lists(text: &str) -> Result<HashMap<String, BTreeMap<usize, bool>>, Refusal> {
    let mut kinds = HashMap::<String, BTreeMap<usize, bool>>::new();
    let mut lists = HashMap::new();
    let (mut kind, mut list, mut level) = (String::new(), String::new(), 0);
    xml::each(text, "DOCX", |event| {
        if let Event::Start(tag) | Event::Empty(tag) = event {
            let value = || xml::attribute(tag, "val").unwrap_or_default();
            match xml::name(tag) {
                "abstractNum" => kind = xml::attribute(tag, "abstractNumId").unwrap_or_default(),
                "lvl" => {
                    level = xml::attribute(tag, "ilvl").and_then(|level| level.parse().ok()).unwrap_or(0);
                }
                "numFmt" => {
                    let numbered = !matches!(value().as_str(), "bullet" | "none");
                    kinds.entry(kind.clone()).or_default().insert(level, numbered);
                }
                "num" => list = xml::attribute(tag, "numId").unwrap_or_default(),
                "abstractNumId" => {
                    let levels = kinds.get(&value()).cloned().unwrap_or_default();
                    lists.insert(list.clone(), levels);
                }
                _ => {}
            }
        }
        Ok(())
    })?;
    Ok(lists)
}

fn title(text: &str) -> Result<Option<String>, Refusal> {
    let mut title = None;
    let mut inside = false;
    xml::each(text, "DOCX", |event| {
        match event {
            Event::Start(tag) => inside = xml::name(tag) == "title",
            Event::End(_) => inside = false,
            event if inside => title.get_or_insert_with(String::new).push_str(&xml::text(event)),
            _ => {}
        }
        Ok(())
    })?;
    Ok(title)
}

/// What the properties of the open paragraph say.
#[derive(Debug, Default)]
struct Paragraph {
    style: Option<String>,
    heading: Option<usize>,
    list: Option<String>,
    level: usize,
}

struct Reader {
    markup: Markup,
    styles: HashMap<String, Style>,
    lists: HashMap<String, BTreeMap<usize, bool>>,
    /// The last number of a list at a level.
    numbers: HashMap<String, BTreeMap<usize, usize>>,
    paragraph: Paragraph,
    in_properties: bool,
    in_text: bool,
    bold: bool,
    hidden: bool,
    /// Open elements whose words are skipped.
    skipped: usize,
    tables: usize,
}

impl Default for Reader {
    fn default() -> Self {
        Self {
            markup: Markup::new(),
            styles: HashMap::new(),
            lists: HashMap::new(),
            numbers: HashMap::new(),
            paragraph: Paragraph::default(),
            in_properties: false,
            in_text: false,
            bold: false,
            hidden: false,
            skipped: 0,
            tables: 0,
        }
    }
}

impl Reader {
    fn event(&mut self, event: &Event) -> Result<(), Refusal> {
        match event {
            Event::Start(tag) => self.start(tag),
            Event::Empty(tag) => {
                self.start(tag);
                self.end(xml::name(tag));
            }
            Event::End(tag) => self.end(tag.local_name().into_inner()),
            event if self.in_text && self.skipped == 0 && !self.hidden => {
                self.markup.text(&xml::text(event), self.bold);
            }
            _ => {}
        }
        if self.markup.bytes() > MAX_TEXT_BYTES { Err(Refusal::TooMuchText) } else { Ok(()) }
    }

    fn start(&mut self, tag: &BytesStart) {
        let value = || xml::attribute(tag, "val");
        let on = || !matches!(value().as_deref(), Some("0" | "false" | "none"));
        let name = xml::name(tag);
        match name {
            _ if SKIPPED.contains(&name) => self.skipped += 1,
            "p" => {
                self.paragraph = Paragraph::default();
                self.markup.open(Block::Paragraph);
            }
            "pPr" => self.in_properties = true,
            "pStyle" => self.paragraph.style = value(),
            "outlineLvl" => self.paragraph.heading = value().as_deref().and_then(outline),
            "numId" => self.paragraph.list = value(),
            "ilvl" => self.paragraph.level = value().and_then(|level| level.parse().ok()).unwrap_or(0),
            "r" => (self.bold, self.hidden) = (false, false),
            "b" if !self.in_properties => self.bold = on(),
            "vanish" if !self.in_properties => self.hidden = on(),
            "t" => self.in_text = true,
            "tab" if !self.in_properties => self.markup.text(" ", false),
            "noBreakHyphen" => self.markup.text("-", false),
            "br" | "cr" => self.markup.line_break(),
            "tbl" => {
                self.tables += 1;
                self.markup.open_table();
            }
            _ => {}
        }
    }

    fn end(&mut self, name: &str) {
        match name {
            _ if SKIPPED.contains(&name) => self.skipped = self.skipped.saturating_sub(1),
            "pPr" => {
                self.in_properties = false;
                let block = self.block();
                self.markup.open(block);
            }
            "t" => self.in_text = false,
            "p" => self.markup.close(),
            "tc" if self.tables == 1 => self.markup.close_cell(),
            "tr" if self.tables == 1 => self.markup.close_row(),
            "tbl" => {
                self.tables = self.tables.saturating_sub(1);
                if self.tables == 0 {
                    self.markup.close_table();
                }
            }
            _ => {}
        }
    }

    fn block(&mut self) -> Block {
        let Paragraph { style, heading, list, level } = std::mem::take(&mut self.paragraph);
        let (of_style, list_of_style) = self.style(style);
        if let Some(level) = heading.or(of_style) {
            return Block::Heading(level);
        }
        // List 0 takes a paragraph out of the list of its style.
        let Some(list) = list.or(list_of_style).filter(|list| list != "0") else { return Block::Paragraph };
        let numbered = self.lists.get(&list).and_then(|levels| levels.get(&level)).copied().unwrap_or(false);
        let numbers = self.numbers.entry(list).or_default();
        numbers.retain(|deeper, _| *deeper <= level);
        let number = numbers.entry(level).or_default();
        *number += 1;
        Block::Item(level, numbered.then_some(*number))
    }

    /// Heading level and list of a style, its own or inherited; a circle of styles ends after ten.
    fn style(&self, id: Option<String>) -> (Option<usize>, Option<String>) {
        let (mut heading, mut list) = (None, None);
        let mut next = id;
        for _ in 0..10 {
            let Some(style) = next.as_ref().and_then(|id| self.styles.get(id)) else { break };
            heading = heading.or(style.heading);
            list = list.or_else(|| style.list.clone());
            next = style.based_on.clone();
        }
        (heading, list)
    }
}
