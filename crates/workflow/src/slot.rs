//! What a slot takes, and where it stands in a message.

use std::ops::Range;
use std::sync::LazyLock;

use jiff::civil::Date;
use regex::Regex;

use crate::amount::Amount;
use crate::date;
use crate::words::{Message, Word, words};

/// Longest free text, in characters.
pub(crate) const MAX_TEXT_CHARS: usize = 500;
/// Digits after a blank that go on with those before it.
const GROUP_DIGITS: usize = 3;
/// RFC 5321, 4.5.3.1.3: longest path without its brackets.
const MAX_EMAIL_BYTES: usize = 254;
/// An order number when the bundle names no pattern: at least three digits in a row, letters and groups around.
const ORDER_ID: &str = "(?:[A-Z]{1,6}-?)?[0-9]{3,}[A-Z0-9]*(?:-[A-Z0-9]+)*";
#[expect(clippy::unwrap_used, reason = "a constant that the tests compile")]
pub(crate) static EMAIL: LazyLock<Regex> = LazyLock::new(|| {
    // The grammar of HTML's input type=email, with at least one dot in the host.
    Regex::new(r"[A-Za-z0-9.!#$%&'*+/=?^_{|}~-]+@[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)+").unwrap()
});

#[expect(clippy::unwrap_used, reason = "a constant that the tests compile")]
static CODE: LazyLock<Regex> = LazyLock::new(|| {
    // Templates, markup, and schemes that run what follows them.
    Regex::new(r"(?i)\$\{|\{\{|\{%|<[a-z/!?]|\b(?:javascript|vbscript|data|file|jndi):\S").unwrap()
});

/// One value a workflow needs.
#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    pub(crate) prompt: String,
    /// Said instead of the prompt when an answer did not fit.
    pub(crate) invalid: Option<String>,
    pub(crate) optional: bool,
}

/// What a slot takes.
#[derive(Debug)]
pub(crate) enum Kind {
    Text,
    /// Found as a whole word.
    Pattern(Regex),
    /// Like a pattern; capitals do not matter.
    OrderId(Regex),
    Choice(Vec<Choice>),
    Date,
    Amount(Amount),
    Email,
}

/// One value of a choice with the phrases that mean it.
#[derive(Debug)]
pub(crate) struct Choice {
    pub(crate) value: String,
    phrases: Vec<Vec<Word>>,
}

/// A value found in a message.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    pub(crate) value: String,
    pub(crate) span: Range<usize>,
}

impl Kind {
    pub(crate) fn from_bundle(kind: &bundle::SlotKind) -> Result<Self, regex::Error> {
        let whole = |pattern: &str| Regex::new(&format!(r"\b{{start-half}}(?:{pattern})\b{{end-half}}"));
        Ok(match kind {
            bundle::SlotKind::Text => Self::Text,
            bundle::SlotKind::Pattern { pattern } => Self::Pattern(whole(pattern)?),
            bundle::SlotKind::OrderId { pattern } => {
                Self::OrderId(whole(pattern.as_deref().unwrap_or(ORDER_ID))?)
            }
            bundle::SlotKind::Choice { choices } => Self::Choice(choices.iter().map(Choice::new).collect()),
            bundle::SlotKind::Date { .. } => Self::Date,
            bundle::SlotKind::Amount { min, max, currency } => {
                Self::Amount(Amount::new(currency.as_deref().unwrap_or_default(), *min, *max))
            }
            bundle::SlotKind::Email => Self::Email,
        })
    }

    /// Whether a stored value is one this slot would store today.
    pub(crate) fn accepts(&self, value: &str) -> bool {
        let whole = |regex: &Regex| regex.find(value).is_some_and(|found| found.as_str() == value);
        match self {
            Self::Text => free_text(value).as_deref() == Some(value),
            Self::Pattern(regex) | Self::OrderId(regex) => whole(regex),
            Self::Choice(choices) => choices.iter().any(|choice| choice.value == value),
            Self::Date => date::parse(value).is_some(),
            Self::Amount(amount) => amount.accepts(value),
            Self::Email => whole(&EMAIL),
        }
    }

    /// Every value of this kind in a message. A bare number is an amount only when it was `asked` for.
    pub(crate) fn find(&self, message: &Message, asked: bool) -> Vec<Found> {
        match self {
            Self::Text => Vec::new(),
            Self::Pattern(regex) => matches(regex, &message.text),
            Self::OrderId(regex) => {
                let found = matches(regex, &message.text.to_ascii_uppercase());
                if found.is_empty() { matches(regex, &message.text) } else { found }
            }
            Self::Choice(choices) => {
                let found: Vec<_> = choices.iter().flat_map(|choice| choice.find(message)).collect();
                let place = message.place(choices.len()).filter(|_| asked && found.is_empty());
                let named = place.map(|place| choices[place].value.clone());
                let whole = 0..message.text.len();
                found.into_iter().chain(named.map(|value| Found { value, span: whole })).collect()
            }
            Self::Date => dates(date::find(message)),
            Self::Amount(amount) => amount
                .find(message)
                .into_iter()
                .filter(|money| money.marked || asked)
                .map(|money| Found { value: money.value, span: money.span })
                .collect(),
            Self::Email => emails(&message.text),
        }
    }
}

impl Choice {
    fn new(choice: &bundle::Choice) -> Self {
        let phrases = choice.words.iter().chain([&choice.value]);
        let phrases = phrases.map(|phrase| words(&crate::words::clean(phrase))).collect();
        Self { value: choice.value.clone(), phrases }
    }

    fn find<'a>(&'a self, message: &'a Message) -> impl Iterator<Item = Found> + 'a {
        let spans = self.phrases.iter().flat_map(|phrase| message.find(phrase));
        spans.map(|span| Found { value: self.value.clone(), span })
    }
}

/// Matches that do not go on behind a separator, as the digits of "1234.56" and "1234-5678" would, or in other
/// groups of digits, as those of a card do.
fn matches(regex: &Regex, text: &str) -> Vec<Found> {
    let goes_on = |mut beside: Box<dyn Iterator<Item = char> + '_>| {
        let joint = beside.next();
        let digits = beside.take_while(char::is_ascii_digit).take(GROUP_DIGITS).count();
        match joint {
            Some('.' | ',' | ':' | '/' | '-' | '\'') => digits > 0,
            Some(' ') => digits == GROUP_DIGITS,
            _ => false,
        }
    };
    let alone = |span: &Range<usize>| {
        let (before, after) = (text[..span.start].chars().rev(), text[span.end..].chars());
        !goes_on(Box::new(before)) && !goes_on(Box::new(after))
    };
    regex
        .find_iter(text)
        .filter(|found| !found.is_empty() && alone(&found.range()))
        .map(|found| Found { value: found.as_str().to_owned(), span: found.range() })
        .collect()
}

pub(crate) fn dates(found: Vec<(Date, Range<usize>)>) -> Vec<Found> {
    found.into_iter().map(|(date, span)| Found { value: date.to_string(), span }).collect()
}

fn emails(text: &str) -> Vec<Found> {
    EMAIL
        .find_iter(text)
        .filter(|found| found.len() <= MAX_EMAIL_BYTES)
        .map(|found| Found { value: found.as_str().to_owned(), span: found.range() })
        .collect()
}

/// A free text in its stored form: trimmed, one blank between words, 1 to 500 characters, nothing in it that a system
/// behind the receiver could take for a program.
pub(crate) fn free_text(text: &str) -> Option<String> {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let fits = (1..=MAX_TEXT_CHARS).contains(&text.chars().count());
    (fits && !text.chars().any(char::is_control) && !CODE.is_match(&text)).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_no_free_text() {
        for (text, kept) in [
            ("12 High St\nHull", "12 High St Hull"),
            ("A < B & Sons", "A < B & Sons"),
            ("Big Data: the shop, $5 {off}", "Big Data: the shop, $5 {off}"),
            ("${jndi:ldap://x}", ""),
            ("{{7*7}}", ""),
            ("{% raw %}", ""),
            ("<b>x", ""),
            ("</b>", ""),
            ("＜script＞", ""),
            ("JavaScript:alert(1)", ""),
            ("data:text/html,x", ""),
            ("a\u{1b}[31mb", ""),
            ("a\u{0}b", ""),
        ] {
            let message = Message::new(text, jiff::civil::date(2026, 11, 22));
            assert_eq!(free_text(&message.text).unwrap_or_default(), kept, "{text:?}");
        }
    }
}
