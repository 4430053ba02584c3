//! `knowledge/synonyms.toml`: words that a search takes for one another.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use toml::Spanned;

use crate::problem::{Lines, Problem, Problems};
use crate::read::{finish, parse};
use crate::types::Synonym;

/// The file, relative to the bundle.
pub(crate) const FILE: &str = "knowledge/synonyms.toml";
/// Most groups of a file.
const MAX_GROUPS: usize = 2000;
/// Most words or phrases of a list: every one is looked up for a question that has one of them.
const MAX_WORDS: usize = 20;
/// Longest word or phrase, in bytes.
const MAX_BYTES: usize = 100;
/// Longest phrase, in words.
const MAX_PHRASE: usize = 5;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    synonym: Vec<Spanned<Entry>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    #[serde(default)]
    words: Vec<Spanned<String>>,
    #[serde(default)]
    from: Vec<Spanned<String>>,
    #[serde(default)]
    to: Vec<Spanned<String>>,
}

/// The groups in the making, with where each word of a question stands.
struct Groups<'a> {
    file: &'a Path,
    lines: Lines,
    /// The line of a word or phrase in its normal form that questions are searched for.
    places: BTreeMap<String, usize>,
    problems: Vec<Problem>,
}

pub(crate) fn parse_file(file: &Path, text: &str) -> Result<Vec<Synonym>, Problems> {
    let entries = parse::<File>(file, text)?.synonym;
    let mut found = Groups { file, lines: Lines::of(text), places: BTreeMap::new(), problems: Vec::new() };
    if let Some(entry) = entries.get(MAX_GROUPS) {
        let message = format!("has {} groups, allowed up to {MAX_GROUPS}", entries.len());
        found.refuse(entry.span().start, message);
    }
    let synonyms = entries.into_iter().map(|entry| found.group(entry)).collect();
    finish(synonyms, found.problems)
}

impl Groups<'_> {
    fn refuse(&mut self, at: usize, message: String) {
        self.problems.push(Problem::new(self.file, self.lines.at(at), message));
    }

    fn group(&mut self, entry: Spanned<Entry>) -> Synonym {
        let at = entry.span().start;
        let Entry { words, from, to } = entry.into_inner();
        if words.is_empty() {
            self.size(at, "from", from.len(), 1);
            self.size(at, "to", to.len(), 1);
            let from = self.list(from, true);
            return Synonym { from, to: self.list(to, false) };
        }
        if !from.is_empty() || !to.is_empty() {
            self.refuse(at, "group has `words` beside `from` and `to`, allowed either".to_owned());
        }
        self.size(at, "words", words.len(), 2);
        let words = self.list(words, true);
        Synonym { from: words.clone(), to: words }
    }

    fn size(&mut self, at: usize, key: &str, size: usize, least: usize) {
        if !(least..=MAX_WORDS).contains(&size) {
            self.refuse(at, format!("group has {size} in `{key}`, allowed {least} to {MAX_WORDS}"));
        }
    }

    /// The strings of a list. Of those that questions are searched for, each may stand once in the file.
    fn list(&mut self, words: Vec<Spanned<String>>, is_searched: bool) -> Vec<String> {
        let mut seen = BTreeMap::new();
        for word in &words {
            let (at, word) = (word.span().start, word.get_ref());
            let line = self.lines.at(at);
            let count = text::words(word).count();
            if word.len() > MAX_BYTES || !(1..=MAX_PHRASE).contains(&count) {
                let message = format!(
                    "{word:?} has {count} words and {} bytes, allowed 1 to {MAX_PHRASE} words and up to {MAX_BYTES} bytes",
                    word.len()
                );
                self.refuse(at, message);
                continue;
            }
            let places = if is_searched { &mut self.places } else { &mut seen };
            if let Some(first) = places.insert(text::normalise(word), line) {
                self.refuse(at, format!("{word:?} stands already on line {first}, allowed once"));
            }
        }
        words.into_iter().map(Spanned::into_inner).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_read_and_each_mistake_has_its_line() {
        let good = "[[synonym]]\nwords = [\"cash machine\", \"ATM\"]\n[[synonym]]\nfrom = [\"gpay\"]\nto = [\"wallet\"]\n";
        let groups = parse_file(Path::new(FILE), good).unwrap();
        assert_eq!(groups[0].from, groups[0].to);
        assert_eq!(
            (groups[1].from.as_slice(), groups[1].to.as_slice()),
            (&["gpay".to_owned()][..], &["wallet".to_owned()][..])
        );
        for (text, expected) in [
            ("[[synonym]]\nwords = [\"atm\"]", ":1: group has 1 in `words`, allowed 2 to 20"),
            ("[[synonym]]\n", ":1: group has 0 in `from`, allowed 1 to 20"),
            ("[[synonym]]\nfrom = [\"a\"]\nto = []", ":1: group has 0 in `to`"),
            ("[[synonym]]\nwords = [\"a\",\n \"b\"]\nto = [\"c\"]", ":1: group has `words` beside"),
            ("[[synonym]]\nwords = [\"ATM\",\n \"b\", \"atm\"]", ":3: \"atm\" stands already on line 2"),
            (
                "[[synonym]]\nwords = [\"a\", \"b\"]\n[[synonym]]\nfrom = [\"B\"]\nto = [\"c\"]",
                ":4: \"B\" stands already on line 2",
            ),
            ("[[synonym]]\nwords = [\"a\", \"--\"]", ":2: \"--\" has 0 words"),
            ("[[synonym]]\nwords = [\"a\", \"b c d e f g\"]", ":2: \"b c d e f g\" has 6 words"),
            ("[[synonym]]\nword = [\"a\"]", ":2: unknown field `word`"),
        ] {
            let problems = parse_file(Path::new(FILE), text).unwrap_err().to_string();
            assert!(problems.contains(expected), "{text}: {problems}");
        }
        let many = (0..=MAX_GROUPS).map(|n| format!("[[synonym]]\nwords = [\"a{n}\", \"b{n}\"]\n"));
        let problems = parse_file(Path::new(FILE), &many.collect::<String>()).unwrap_err().to_string();
        assert!(problems.ends_with(":4001: has 2001 groups, allowed up to 2000"), "{problems}");
    }
}
