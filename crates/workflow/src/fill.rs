//! Fills slots from the customer's own words.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::LazyLock;

use regex::Regex;

use crate::amount::Amount;
use crate::date;
use crate::words::{Message, Word, words};

/// Longest free text, in characters.
pub(crate) const MAX_TEXT_CHARS: usize = 500;
/// Longest message that is searched for values, in words; a longer one is a story, and searching it would
/// take time that grows with the square of its length.
const MAX_WORDS: usize = 500;
/// RFC 5321, 4.5.3.1.3: longest path without its brackets.
const MAX_EMAIL_BYTES: usize = 254;
/// An order number when the bundle names no pattern: at least three digits in a row, letters and groups around.
const ORDER_ID: &str = "(?:[A-Z]{1,6}-?)?[0-9]{3,}[A-Z0-9]*(?:-[A-Z0-9]+)*";
#[expect(clippy::unwrap_used, reason = "a constant that the tests compile")]
static EMAIL: LazyLock<Regex> = LazyLock::new(|| {
    // The grammar of HTML's input type=email, with at least one dot in the host.
    Regex::new(r"[A-Za-z0-9.!#$%&'*+/=?^_{|}~-]+@[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)+").unwrap()
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
struct Found {
    value: String,
    span: Range<usize>,
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
            bundle::SlotKind::Date => Self::Date,
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
    fn find(&self, message: &Message, asked: bool) -> Vec<Found> {
        match self {
            Self::Text => Vec::new(),
            Self::Pattern(regex) => matches(regex, &message.text),
            Self::OrderId(regex) => {
                let found = matches(regex, &message.text.to_ascii_uppercase());
                if found.is_empty() { matches(regex, &message.text) } else { found }
            }
            Self::Choice(choices) => choices.iter().flat_map(|choice| choice.find(message)).collect(),
            Self::Date => date::find(message)
                .into_iter()
                .map(|(date, span)| Found { value: date.to_string(), span })
                .collect(),
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

/// The values a message gives to slots, by name. `asked` is the slot the customer was asked for; only it
/// can be free text. With `replace` a new value takes the place of one in `filled`. A slot gets a value only
/// when the message leaves no doubt: exactly one fits it, and no other slot could mean the same words.
pub(crate) fn fill(
    slots: &[Slot],
    filled: &BTreeMap<String, String>,
    message: &Message,
    asked: Option<&str>,
    replace: bool,
) -> BTreeMap<String, String> {
    if message.words.len() > MAX_WORDS {
        return BTreeMap::new();
    }
    let is_asked = |slot: &Slot| asked == Some(slot.name.as_str());
    let found = find(slots, message, asked);
    let mut values = BTreeMap::new();
    let asked_text = slots.iter().any(|slot| is_asked(slot) && matches!(slot.kind, Kind::Text))
        && !is_typed(slots, &found, message);
    let mut claimed: Option<Range<usize>> = None;
    for (slot, found) in slots.iter().zip(&found).filter(|(slot, _)| is_asked(slot)) {
        if asked_text {
            values.extend(free_text(&message.text).map(|text| (slot.name.clone(), text)));
        } else if let Some(only) = single(found.iter()) {
            claimed = Some(only.span.clone());
            values.insert(slot.name.clone(), only.value.clone());
        }
    }
    for (index, slot) in slots.iter().enumerate().filter(|(_, slot)| !is_asked(slot)) {
        let current = filled.get(&slot.name);
        // Words of a free text are the text's own: a shop called "Double Coffee" is no double payment.
        let own = asked_text && matches!(slot.kind, Kind::Choice(_));
        if own || current.is_some() && (!replace || asked_text) {
            continue;
        }
        let shared = |span: &Range<usize>| {
            let others = found.iter().zip(slots).enumerate();
            let mut others = others.filter(|(other, (_, slot))| *other != index && !is_asked(slot));
            others.any(|(_, (found, _))| found.iter().any(|other| overlap(&other.span, span)))
        };
        let free = |found: &&Found| {
            Some(&found.value) != current
                && !claimed.as_ref().is_some_and(|claimed| overlap(claimed, &found.span))
        };
        if let Some(only) = single(found[index].iter().filter(free))
            && !shared(&only.span)
        {
            values.insert(slot.name.clone(), only.value.clone());
        }
    }
    values
}

/// Whether a message is an answer to this workflow and nothing else: values of its slots, a yes or a no.
pub(crate) fn answers(slots: &[Slot], message: &Message, asked: Option<&str>) -> bool {
    if message.words.len() > MAX_WORDS {
        return false;
    }
    let found = find(slots, message, asked);
    let spans: Vec<Range<usize>> = found.into_iter().flatten().map(|found| found.span).collect();
    message.says_only(&spans)
}

/// What a message holds for each slot.
fn find(slots: &[Slot], message: &Message, asked: Option<&str>) -> Vec<Vec<Found>> {
    let is_asked = |slot: &Slot| asked == Some(slot.name.as_str());
    let mut found = slots.iter().map(|slot| slot.kind.find(message, is_asked(slot))).collect::<Vec<_>>();
    drop_parts(slots, &mut found, message, asked);
    found
}

/// Whether a message is a date, an amount, an address or an order number of this workflow and nothing else:
/// that is no free text. An amount out of range or of another currency is one, too.
fn is_typed(slots: &[Slot], found: &[Vec<Found>], message: &Message) -> bool {
    let mut spans: Vec<Range<usize>> = Vec::new();
    for (slot, found) in slots.iter().zip(found) {
        match slot.kind {
            Kind::Amount(_) => spans.extend(Amount::any(message)),
            Kind::Date | Kind::Email | Kind::OrderId(_) => {
                spans.extend(found.iter().map(|found| found.span.clone()));
            }
            Kind::Text | Kind::Pattern(_) | Kind::Choice(_) => (),
        }
    }
    !spans.is_empty() && message.says_only(&spans)
}

/// A part of something longer is not meant by itself: the 2026 of a date, the words of an e-mail address,
/// the digits of an amount. Nor is a date an order number, unless that was asked for.
fn drop_parts(slots: &[Slot], found: &mut [Vec<Found>], message: &Message, asked: Option<&str>) {
    let dates = date::find(message).into_iter().map(|(_, span)| span);
    let addresses = EMAIL.find_iter(&message.text).map(|found| found.range());
    let plain: Vec<Range<usize>> = dates.chain(addresses).chain(Amount::any(message)).collect();
    let own = found.iter().flatten().map(|found| found.span.clone());
    let whole: Vec<Range<usize>> = plain.iter().cloned().chain(own).collect();
    let inside =
        |part: &Range<usize>, whole: &Range<usize>| whole.start <= part.start && part.end <= whole.end;
    for (slot, found) in slots.iter().zip(found) {
        let loose = matches!(slot.kind, Kind::Pattern(_) | Kind::OrderId(_)) && asked != Some(&slot.name);
        found.retain(|found| {
            let part = whole.iter().any(|whole| inside(&found.span, whole) && *whole != found.span);
            !(part || loose && plain.contains(&found.span))
        });
    }
}

/// The one value among the found; `None` when there is none or more than one.
fn single<'a>(found: impl Iterator<Item = &'a Found>) -> Option<&'a Found> {
    let mut only: Option<&Found> = None;
    for found in found {
        match only {
            Some(first) if first.value != found.value => return None,
            _ => only = Some(found),
        }
    }
    only
}

fn overlap(a: &Range<usize>, b: &Range<usize>) -> bool {
    a.start < b.end && b.start < a.end
}

/// Matches that do not go on behind a separator, as the digits of "1234.56" and "1234-5678" would.
fn matches(regex: &Regex, text: &str) -> Vec<Found> {
    let joint = |c: Option<char>| matches!(c, Some('.' | ',' | ':' | '/' | '-' | '\''));
    let alone = |span: &Range<usize>| {
        let (mut before, mut after) = (text[..span.start].chars().rev(), text[span.end..].chars());
        let digit = |c: Option<char>| c.is_some_and(|c| c.is_ascii_digit());
        !(joint(before.next()) && digit(before.next()) || joint(after.next()) && digit(after.next()))
    };
    regex
        .find_iter(text)
        .filter(|found| !found.is_empty() && alone(&found.range()))
        .map(|found| Found { value: found.as_str().to_owned(), span: found.range() })
        .collect()
}

fn emails(text: &str) -> Vec<Found> {
    EMAIL
        .find_iter(text)
        .filter(|found| found.len() <= MAX_EMAIL_BYTES)
        .map(|found| Found { value: found.as_str().to_owned(), span: found.range() })
        .collect()
}

/// A free text in its stored form: trimmed, one blank between words, 1 to 500 characters.
fn free_text(text: &str) -> Option<String> {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    (1..=MAX_TEXT_CHARS).contains(&text.chars().count()).then_some(text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn slots() -> Vec<Slot> {
        let choice = |value: &str, word: &str| bundle::Choice {
            value: value.to_owned(),
            words: vec![word.to_owned()],
        };
        let kinds = [
            bundle::SlotKind::Pattern { pattern: "[0-9]{4}|#[a-z]+".to_owned() },
            bundle::SlotKind::OrderId { pattern: None },
            bundle::SlotKind::Choice { choices: vec![choice("lost_it", "can't find"), choice("b", "a b")] },
            bundle::SlotKind::Date,
            bundle::SlotKind::Amount { min: Some(0.5), max: Some(9e9), currency: Some("GBP".to_owned()) },
            bundle::SlotKind::Amount { min: None, max: None, currency: None },
            bundle::SlotKind::Email,
            bundle::SlotKind::Text,
        ];
        let slot = |(index, kind): (usize, &bundle::SlotKind)| Slot {
            name: index.to_string(),
            kind: Kind::from_bundle(kind).unwrap(),
            prompt: String::new(),
            invalid: None,
            optional: false,
        };
        kinds.iter().enumerate().map(slot).collect()
    }

    #[test]
    fn an_order_number_keeps_its_letters_and_needs_no_capitals() {
        let slots = slots();
        let message = Message::new("it is ab-1234, from 12/03/2026", jiff::civil::date(2026, 11, 22));
        let found = fill(&slots[..2], &BTreeMap::new(), &message, Some("1"), false);
        assert_eq!(found, BTreeMap::from([("1".to_owned(), "AB-1234".to_owned())]));
    }

    #[test]
    fn a_flood_of_candidates_is_not_searched() {
        let message = Message::new(&"1111 ".repeat(13_000), jiff::civil::date(2026, 11, 22));
        assert_eq!(fill(&slots(), &BTreeMap::new(), &message, None, false), BTreeMap::new());
    }

    proptest! {
        #[test]
        fn whatever_is_written_the_gate_takes_what_the_dialogue_took(
            parts in prop::collection::vec(
                prop_oneof![
                    "[ -~£€¥’–\u{200b}١２ßİ]{0,6}",
                    "[0-9]{1,5}[.,/' -]?",
                    Just(" £".to_owned()),
                    Just(" pounds ".to_owned()),
                    Just(" March ".to_owned()),
                    Just("a@b.c".to_owned()),
                    Just("can’t find".to_owned()),
                    any::<String>(),
                ],
                0..8,
            ),
            asked in 0..9_usize,
        ) {
            let slots = slots();
            let message = Message::new(&parts.concat(), jiff::civil::date(2026, 11, 22));
            let found = fill(&slots, &BTreeMap::new(), &message, Some(&asked.to_string()), true);
            for (name, value) in found {
                let slot = slots.iter().find(|slot| slot.name == name).unwrap();
                prop_assert!(slot.kind.accepts(&value), "{:?} {value:?}", slot.kind);
            }
            let _ = (message.reply(&[]), message.cancels(&[]), message.skips());
        }
    }
}
