//! `menu.toml`: the menu a company had before, which customers read who are not treated.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::check::no_name;
use crate::keys::{ID, Keys, Source, is_id};
use crate::layout;
use crate::read::{Problems, Reader};
use crate::types::Assistant;

const MAX_ENTRIES: usize = 500;
const MAX_TEXT_BYTES: usize = 4000;
const MAX_TITLE_BYTES: usize = 200;
const KEYS: [&str; 5] = ["id", "title", "under", "categories", "text"];

/// A menu of topics.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Menu {
    /// What a customer reads first, 1..=4000 bytes.
    pub text: String,
    /// In the order in which they are shown.
    pub entries: Vec<Entry>,
}

/// A topic of a menu.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Unique, 1..=64 of a-z, 0-9, '.', '_' and '-'.
    pub id: String,
    /// Words for the customer, one line of 1..=200 bytes.
    pub title: String,
    /// Id of the entry it belongs to; empty at the first level.
    pub under: String,
    /// Categories whose questions it is shown for, each in one entry.
    pub categories: Vec<String>,
    /// What a customer reads there, 1..=4000 bytes.
    pub text: String,
}

impl Menu {
    /// The entry for a category.
    pub fn entry(&self, category: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.categories.iter().any(|name| name == category))
    }

    /// What a customer reads whose question is of a category: the text of its entry, without one that of the menu,
    /// and the titles below it as a numbered list.
    pub fn shown(&self, category: &str) -> String {
        let (id, text) = self
            .entry(category)
            .map_or(("", self.text.as_str()), |entry| (entry.id.as_str(), entry.text.as_str()));
        let below = self.entries.iter().filter(|entry| entry.under == id);
        let mut shown = text.trim().to_owned();
        for (index, entry) in below.enumerate() {
            let _ = write!(shown, "\n{}. {}", index + 1, entry.title);
        }
        shown
    }
}

impl Reader {
    /// `menu.toml`; `None` without the file.
    ///
    /// # Errors
    /// Everything that is wrong with the file: a key, id or category that does not exist or stands twice, an empty
    /// text, entries that lie under each other; or what is wrong with `assistant.toml`.
    pub fn menu(&self) -> Result<Option<Menu>, Problems> {
        read(self, &self.assistant()?)
    }
}

pub(crate) fn read(reader: &Reader, assistant: &Assistant) -> Result<Option<Menu>, Problems> {
    let file = Path::new(layout::MENU);
    if !reader.holds(file) {
        return Ok(None);
    }
    let text = reader.text(file)?;
    let source = Source::of(file, &text);
    let table = source.parse()?;
    let menu = menu(&Keys::of(&source, &table).known(&["text", "entry"]), assistant);
    source.finish(Some(menu))
}

fn menu(file: &Keys<'_>, assistant: &Assistant) -> Menu {
    let text = text(file);
    let tables = file.tables("entry", "id", &KEYS, MAX_ENTRIES);
    let mut found = Found { assistant, ids: BTreeMap::new(), owners: BTreeMap::new() };
    let entries: Vec<_> = tables.iter().map(|keys| found.entry(keys)).collect();
    let under: BTreeMap<_, _> =
        entries.iter().map(|entry| (entry.id.as_str(), entry.under.as_str())).collect();
    for (keys, entry) in tables.iter().zip(&entries).filter(|(_, entry)| !entry.under.is_empty()) {
        if !under.contains_key(entry.under.as_str()) {
            let message = no_name("entry", &entry.under, under.keys().copied(), "the id of one of this file");
            keys.refuse_at(keys.line("under"), message);
        }
        let mut above = std::iter::successors(Some(entry.under.as_str()), |id| under.get(id).copied());
        if above.by_ref().take(under.len()).any(|id| !id.is_empty() && id == entry.id) {
            keys.refuse("under", format_args!("is {:?}, which lies under it itself", entry.under));
        }
    }
    Menu { text, entries }
}

/// Entries in the making.
struct Found<'a> {
    assistant: &'a Assistant,
    /// The line of each id.
    ids: BTreeMap<String, usize>,
    /// The entry of each category.
    owners: BTreeMap<String, String>,
}

impl Found<'_> {
    fn entry(&mut self, keys: &Keys<'_>) -> Entry {
        keys.need("id", ID);
        let id = keys.text("id", ID, is_id).unwrap_or_default();
        if let Some(line) = self.ids.insert(id.clone(), keys.line("id")).filter(|_| !id.is_empty()) {
            keys.refuse("id", format_args!("stands already on line {line}, allowed once"));
        }
        let allowed = format!("one line of 1 to {MAX_TITLE_BYTES} bytes with a word");
        keys.need("title", &allowed);
        let is_title = |text: &str| is_said(text, MAX_TITLE_BYTES) && !text.contains('\n');
        let title = keys.text("title", &allowed, is_title).unwrap_or_default();
        let under = keys.text("under", "the id of an entry", |_| true).unwrap_or_default();
        let categories = keys.categories(&self.assistant.categories).unwrap_or_default();
        for (line, name) in &categories {
            if let Some(owner) = self.owners.insert(name.clone(), id.clone()) {
                let message = format!("category {name:?} stands already at entry {owner:?}, allowed at one");
                keys.refuse_at(*line, message);
            }
        }
        let categories = categories.into_iter().map(|(_, name)| name).collect();
        Entry { id, title, under, categories, text: text(keys) }
    }
}

fn text(keys: &Keys<'_>) -> String {
    let allowed = format!("1 to {MAX_TEXT_BYTES} bytes with a word");
    keys.need("text", &allowed);
    keys.text("text", &allowed, |text| is_said(text, MAX_TEXT_BYTES)).unwrap_or_default()
}

fn is_said(text: &str, most: usize) -> bool {
    !text.trim().is_empty() && text.len() <= most
}
