//! The keys of a TOML file one by one, so that everything wrong with it is told at once.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::ops::{Bound, Range, RangeBounds, RangeInclusive};
use std::path::Path;

use serde::Deserialize;
use serde::de::IntoDeserializer as _;
use serde::de::value::Error;
use toml::de::{DeTable, DeValue};

use crate::check::no_name;
use crate::problem::{Lines, Problem, Problems};
use crate::read::{finish, not_toml};
use crate::types::Category;

/// Most characters of a wrong value that a problem repeats.
const MAX_SHOWN: usize = 60;
/// Names of a rollout, a stage or an entry of the menu.
pub(crate) const ID: &str = "1 to 64 of a-z, 0-9, '.', '_' and '-'";

pub(crate) fn is_id(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-".contains(&byte);
    (1..=64).contains(&name.len()) && name.bytes().all(fits)
}

/// A file and what is wrong with it.
pub(crate) struct Source<'s> {
    file: &'s Path,
    text: &'s str,
    lines: Lines,
    problems: RefCell<Vec<Problem>>,
}

impl<'s> Source<'s> {
    pub(crate) fn of(file: &'s Path, text: &'s str) -> Self {
        Self { file, text, lines: Lines::of(text), problems: RefCell::default() }
    }

    pub(crate) fn parse(&self) -> Result<DeTable<'s>, Problem> {
        let parsed = DeTable::parse(self.text).map_err(|error| not_toml(self.file, self.text, &error));
        parsed.map(toml::Spanned::into_inner)
    }

    fn refuse(&self, line: usize, message: String) {
        self.problems.borrow_mut().push(Problem::new(self.file, line, message));
    }

    /// A value as the file spells it, on one line.
    fn written(&self, span: Range<usize>) -> String {
        let text = self.text.get(span).unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ");
        match text.char_indices().nth(MAX_SHOWN) {
            Some((end, _)) => format!("{} ...", &text[..end]),
            None => text,
        }
    }

    /// The value, or what is wrong in the order of the lines.
    pub(crate) fn finish<T>(self, value: T) -> Result<T, Problems> {
        let mut problems = self.problems.into_inner();
        problems.sort_by_key(|problem| problem.line);
        finish(value, problems)
    }
}

/// A table. What is absent or wrong is read as `None`; what is wrong is a problem of the source as well.
pub(crate) struct Keys<'s> {
    source: &'s Source<'s>,
    table: &'s DeTable<'s>,
    /// On which it begins, from 1; 0 for the file itself.
    line: usize,
    /// What problems call it; empty for the file itself.
    name: String,
}

impl<'s> Keys<'s> {
    pub(crate) fn of(source: &'s Source<'s>, table: &'s DeTable<'s>) -> Self {
        Self { source, table, line: 0, name: String::new() }
    }

    /// Calls it `what "name"` by the text under a key.
    pub(crate) fn named(mut self, what: &str, by: &str) -> Self {
        let name = self.table.get(by).and_then(|value| value.get_ref().as_str());
        self.name = name.map_or_else(|| what.to_owned(), |name| format!("{what} {name:?}"));
        self
    }

    /// Refuses every other key.
    pub(crate) fn known(self, allowed: &[&str]) -> Self {
        for key in self.table.keys().filter(|key| !allowed.contains(&key.get_ref().as_ref())) {
            let message = no_name("key", key.get_ref(), allowed.iter().copied(), &allowed.join(", "));
            self.refuse_at(self.source.lines.at(key.span().start), message);
        }
        self
    }

    /// The line of a key, or else of the table.
    pub(crate) fn line(&self, key: &str) -> usize {
        let found = self.table.get_key_value(key);
        found.map_or(self.line, |(key, _)| self.source.lines.at(key.span().start))
    }

    pub(crate) fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// Whether it is a list without items.
    pub(crate) fn is_empty(&self, key: &str) -> bool {
        let items = self.table.get(key).and_then(|value| value.get_ref().as_array());
        items.is_some_and(|items| items.is_empty())
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &'s str> {
        self.table.keys().map(|key| key.get_ref().as_ref())
    }

    pub(crate) fn refuse_at(&self, line: usize, what: impl Display) {
        let what = if self.name.is_empty() { what.to_string() } else { format!("{}: {what}", self.name) };
        self.source.refuse(line, what);
    }

    /// Refuses what stands under a key.
    pub(crate) fn refuse(&self, key: &str, what: impl Display) {
        self.refuse_at(self.line(key), format_args!("{key} {what}"));
    }

    /// Refuses the value of a key as it is written.
    pub(crate) fn refuse_value(&self, key: &str, allowed: impl Display) {
        let written = self.table.get(key).map(|value| self.source.written(value.span()));
        self.refuse(key, format_args!("is {}, allowed {allowed}", written.unwrap_or_default()));
    }

    /// Refuses the absence of a key.
    pub(crate) fn need(&self, key: &str, allowed: impl Display) {
        if !self.has(key) {
            self.refuse_at(self.line, format_args!("has no {key}, allowed {allowed}"));
        }
    }

    fn read<T>(
        &self,
        key: &str,
        allowed: impl Display,
        of: impl FnOnce(&'s DeValue<'s>) -> Option<T>,
    ) -> Option<T> {
        let value = self.table.get(key)?;
        let found = of(value.get_ref());
        if found.is_none() {
            self.refuse_value(key, allowed);
        }
        found
    }

    pub(crate) fn flag(&self, key: &str) -> Option<bool> {
        self.read(key, "true and false", DeValue::as_bool)
    }

    pub(crate) fn text(&self, key: &str, allowed: &str, fits: impl Fn(&str) -> bool) -> Option<String> {
        self.read(key, allowed, |value| value.as_str().filter(|text| fits(text)).map(str::to_owned))
    }

    /// A number of the range, whose ends are finite.
    pub(crate) fn number(&self, key: &str, range: impl RangeBounds<f64>) -> Option<f64> {
        let of = |value: &DeValue<'_>| match value {
            DeValue::Float(float) => float.as_str().parse::<f64>().ok(),
            DeValue::Integer(_) => integer(value).map(f64::from),
            _ => None,
        };
        self.read(key, shown(&range), |value| of(value).filter(|number| range.contains(number)))
    }

    pub(crate) fn whole(&self, key: &str, range: RangeInclusive<u32>) -> Option<u32> {
        let allowed = format!("{}..={}, a whole number", range.start(), range.end());
        self.read(key, allowed, |value| integer(value).filter(|number| range.contains(number)))
    }

    /// One of the words of an enumeration.
    pub(crate) fn word<T: Deserialize<'s>>(&self, key: &str) -> Option<T> {
        let text = self.read(key, "a word in quotes", |value| value.as_str())?;
        word(text).map_err(|error| self.refuse(key, format_args!("is an {error}"))).ok()
    }

    /// Texts, each with its line and once.
    pub(crate) fn list(&self, key: &str) -> Option<Vec<(usize, String)>> {
        let items = self.read(key, "a list of texts such as [\"a\", \"b\"]", DeValue::as_array)?;
        let (mut found, mut seen) = (Vec::new(), BTreeSet::new());
        for item in items.iter() {
            let line = self.source.lines.at(item.span().start);
            let Some(text) = item.get_ref().as_str() else {
                let written = self.source.written(item.span());
                self.refuse_at(line, format_args!("{key} holds {written}, allowed texts"));
                continue;
            };
            if !seen.insert(text) {
                self.refuse_at(line, format_args!("{key} holds {text:?} twice, allowed once"));
                continue;
            }
            found.push((line, text.to_owned()));
        }
        Some(found)
    }

    /// Names of categories, which exist or are refused.
    pub(crate) fn categories(&self, known: &BTreeMap<String, Category>) -> Option<Vec<(usize, String)>> {
        let found = self.list("categories")?;
        for (line, name) in found.iter().filter(|(_, name)| !known.contains_key(name)) {
            let allowed = "the name of one in assistant.toml";
            self.refuse_at(*line, no_name("category", name, known.keys().map(String::as_str), allowed));
        }
        Some(found)
    }

    pub(crate) fn table(&self, key: &str) -> Option<Keys<'s>> {
        let table = self.read(key, format_args!("a table [{key}]"), DeValue::as_table)?;
        let name = if self.name.is_empty() { key.to_owned() } else { format!("{}: {key}", self.name) };
        Some(Keys { source: self.source, table, line: self.line(key), name })
    }

    /// The tables of an array, at most so many, called by the text under one of their keys.
    pub(crate) fn tables(&self, key: &str, by: &str, known: &[&str], most: usize) -> Vec<Keys<'s>> {
        let allowed = format!("up to {most} tables [[{key}]]");
        let Some(items) = self.read(key, &allowed, DeValue::as_array) else { return Vec::new() };
        if let Some(over) = items.get(most) {
            let count = items.len();
            self.refuse_at(
                self.source.lines.at(over.span().start),
                format_args!("{key} stands {count} times, allowed {allowed}"),
            );
        }
        let mut found = Vec::new();
        for item in items.iter().take(most) {
            let line = self.source.lines.at(item.span().start);
            let Some(table) = item.get_ref().as_table() else {
                let written = self.source.written(item.span());
                self.refuse_at(line, format_args!("{key} holds {written}, allowed {allowed}"));
                continue;
            };
            let keys = Keys { source: self.source, table, line, name: String::new() };
            found.push(keys.named(key, by).known(known));
        }
        found
    }
}

/// A word of an enumeration, or which there are.
pub(crate) fn word<'d, T: Deserialize<'d>>(text: &'d str) -> Result<T, Error> {
    T::deserialize(text.into_deserializer())
}

fn integer(value: &DeValue<'_>) -> Option<u32> {
    let integer = value.as_integer()?;
    u32::from_str_radix(integer.as_str(), integer.radix()).ok()
}

fn shown(range: &impl RangeBounds<f64>) -> String {
    match (range.start_bound(), range.end_bound()) {
        (Bound::Excluded(least), Bound::Included(most)) => format!("above {least} to {most}"),
        (Bound::Included(least), Bound::Included(most)) => format!("{least}..={most}"),
        _ => "a number".to_owned(),
    }
}
