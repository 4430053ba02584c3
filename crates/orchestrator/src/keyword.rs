//! The override: the literal word that reaches a person, whatever else is down.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use aho_corasick::AhoCorasick;
use bundle::{Assistant, Handoff, KeywordMode};
use serde::Deserialize;

use crate::disguise::agents;
use crate::quote::unquoted;

/// The platform's own words, see the file.
const SHIPPED: &str = include_str!("keywords.toml");
/// Longest text that is searched; the limit on messages is lower.
const MAX_BYTES: usize = 256 * 1024;
/// Bytes beside the word that are looked at for what it is a part of.
const BESIDE: usize = 64;
/// Longest message, in bytes, that may be nothing but a word for a person.
const ALONE_BYTES: usize = 128;

/// What a message says of a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// Nothing.
    Nothing,
    /// The word, in a compound or a quote that means nobody here; a person is offered.
    Offer,
    /// That one is wanted.
    Person,
}

/// Why there are no keywords.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A defect of this program.
    #[error("keywords.toml of the platform does not parse")]
    Shipped(#[from] toml::de::Error),
    /// Too many or too long.
    #[error("the keywords cannot be searched for; take some out of [handoff.keywords]")]
    Phrases(#[from] aho_corasick::BuildError),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Shipped {
    compounds: Compounds,
    people: BTreeMap<String, People>,
}

/// What makes another word of "agent", in normal form.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Compounds {
    /// One or two words before it.
    before: BTreeSet<String>,
    /// The word behind it.
    after: BTreeSet<String>,
}

/// Words for a person in one language.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct People {
    alone: Vec<String>,
    anywhere: Vec<String>,
}

/// The word "agent" and all others that reach a person.
#[derive(Debug, Clone)]
pub struct Keywords {
    mode: KeywordMode,
    compounds: Compounds,
    words: BTreeSet<String>,
    /// Keywords of several words, or of scripts that write without spaces: found anywhere.
    phrases: AhoCorasick,
    /// Whole messages.
    alone: BTreeSet<String>,
}

impl Keywords {
    /// The word "agent", the keywords of a bundle and the platform's own for its locales.
    ///
    /// # Errors
    /// The platform's own words do not parse, or there are too many of the bundle's.
    pub fn of(assistant: &Assistant) -> Result<Self, Error> {
        let Handoff { keywords, keyword_mode, .. } = &assistant.handoff;
        let Shipped { compounds, mut people } = toml::from_str(SHIPPED)?;
        let languages: BTreeSet<_> = assistant.locales.iter().map(|tag| language(tag)).collect();
        let (mut phrases, mut alone) = (Vec::new(), BTreeSet::new());
        for People { anywhere, alone: whole } in languages.iter().filter_map(|name| people.remove(name)) {
            phrases.extend(anywhere.iter().map(|phrase| text::normalise(phrase)));
            alone.extend(whole.iter().map(|phrase| text::plain(phrase)));
        }
        let normal = keywords.values().flatten().map(|keyword| text::normalise(keyword));
        let normal = normal.filter(|keyword| !keyword.is_empty());
        let (words, several): (Vec<_>, Vec<_>) = normal.partition(|keyword| is_word(keyword));
        phrases.extend(several);
        let (phrases, words) = (AhoCorasick::new(phrases)?, words.into_iter().collect());
        Ok(Self { mode: *keyword_mode, compounds, words, phrases, alone })
    }

    /// What the customer's own words say. "agent" counts as a word of its own in any disguise, a bundle's
    /// keywords in any case, with look-alike letters, spaced out or with invisible characters inside.
    pub fn look(&self, message: &str) -> Found {
        if message.len() > MAX_BYTES {
            return Found::Person;
        }
        // A panic in the search must not keep anyone from a person.
        std::panic::catch_unwind(|| self.search(message)).unwrap_or(Found::Person)
    }

    fn search(&self, message: &str) -> Found {
        if !self.is_said(message, |_, _| true) {
            return Found::Nothing;
        }
        let stands = |own: &str| self.is_said(own, |before, behind| !self.is_compound(before, behind));
        match self.mode {
            KeywordMode::Intent if !stands(&unquoted(message)) => Found::Offer,
            KeywordMode::Intent | KeywordMode::Strict => Found::Person,
        }
    }

    /// Whether a text says any of the words; `counts` judges an "agent" by what is before and behind it.
    fn is_said(&self, text: &str, counts: impl Fn(&str, &str) -> bool) -> bool {
        let agent = || agents(text).iter().any(|at| counts(&text[..at.start], &text[at.end..]));
        self.is_keyword_said(text) || agent()
    }

    fn is_keyword_said(&self, message: &str) -> bool {
        let normal = text::normalise(message);
        let found = |text: &str| text::words(text).any(|word| self.is_keyword(word));
        let alone = || self.alone.contains(&text::words(&normal).collect::<Vec<_>>().join(" "));
        found(&normal)
            || normal.len() <= ALONE_BYTES && alone()
            || self.phrases.find_overlapping_iter(&normal).any(|at| is_parted(&normal, at.range()))
            || text::despace(message).is_some_and(|joined| found(&joined))
    }

    /// A word, or its part before an apostrophe: "human's".
    fn is_keyword(&self, word: &str) -> bool {
        let whole = word.split(['\'', '\u{2019}']).next().unwrap_or(word);
        [word, whole, stem(word)].iter().any(|form| self.words.contains(*form))
    }

    /// Whether "agent" is a part of something else: "travel agent", "user-agent", "agent orange".
    fn is_compound(&self, before: &str, behind: &str) -> bool {
        let before = &before[before.ceil_char_boundary(before.len().saturating_sub(BESIDE))..];
        let before = before.rsplit(ends_compound).next().unwrap_or_default();
        let behind = behind[..behind.floor_char_boundary(BESIDE)].split(ends_compound).next();
        let before = text::plain(before);
        let (rest, last) = before.rsplit_once(' ').unwrap_or(("", &before));
        let last_two = format!("{} {last}", rest.rsplit(' ').next().unwrap_or_default());
        let after = text::plain(behind.unwrap_or_default());
        let after = after.split(' ').next().unwrap_or_default();
        let Compounds { before: heads, after: tails } = &self.compounds;
        heads.contains(last) || heads.contains(&last_two) || tails.contains(after)
    }
}

/// The primary language of a BCP 47 tag.
fn language(tag: &str) -> String {
    tag.split(['-', '_']).next().unwrap_or_default().to_ascii_lowercase()
}

/// What stands between the words of one compound is a space, a hyphen or a line.
fn ends_compound(c: char) -> bool {
    let joins = matches!(c, '-' | '_' | '\'' | '\u{2019}' | '\u{2010}'..='\u{2015}');
    !(joins || c.is_alphanumeric() || c.is_whitespace() || text::is_mark(c) || text::is_invisible(c))
}

/// A Latin word with an ending of another script attached, as Korean and Japanese write, without the ending.
fn stem(word: &str) -> &str {
    const LATIN_ENDS: char = '\u{370}';
    let end = word.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(word.len());
    if word[end..].starts_with(|c| c >= LATIN_ENDS) { &word[..end] } else { word }
}

fn is_word(keyword: &str) -> bool {
    let mut words = text::words(keyword);
    words.next() == Some(keyword) && keyword.is_ascii()
}

/// Whether a phrase that was found in a text stands alone; a Latin letter at its edge is the edge of a word.
fn is_parted(text: &str, phrase: Range<usize>) -> bool {
    let is_latin = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() && c < '\u{370}');
    let parted = |at: usize| {
        let (left, right) = text.split_at(at);
        !(is_latin(left.chars().next_back()) && is_latin(right.chars().next()))
    };
    parted(phrase.start) && parted(phrase.end)
}
