//! Fills slots from the customer's own words.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::amount::Amount;
use crate::date;
use crate::slot::{EMAIL, Found, dates, free_text};
pub(crate) use crate::slot::{Kind, Slot};
use crate::words::{Message, words};

/// Longest message that is searched for values, in words; a longer one is a story, and searching it would
/// take time that grows with the square of its length.
const MAX_WORDS: usize = 500;
/// Letters of a word that can call a slot; shorter ones stand everywhere.
const NAME_LETTERS: usize = 4;

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
        // "Is it 1234 or 5678?" corrects nothing.
        let doubts = found[index].iter().any(|found| Some(&found.value) == current) && !message.corrects();
        if let Some(only) = single(found[index].iter().filter(free))
            && !doubts
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
    message.says_only(&spans, &names(slots).collect::<Vec<_>>())
}

/// Whether a message holds values of any slot; words of a choice stand in questions, too.
pub(crate) fn holds(slots: &[Slot], message: &Message, asked: Option<&str>) -> bool {
    let found = find(slots, message, asked);
    slots.iter().zip(found).any(|(slot, found)| !matches!(slot.kind, Kind::Choice(_)) && !found.is_empty())
}

/// Whether a message is about a slot, though it leaves a doubt which value is meant or names none.
pub(crate) fn mentions(slots: &[Slot], message: &Message, asked: &Slot) -> bool {
    let found = find(slots, message, Some(&asked.name));
    let holds = slots.iter().zip(found).any(|(slot, found)| slot.name == asked.name && !found.is_empty());
    holds || is_called(asked, message)
}

fn is_called(slot: &Slot, message: &Message) -> bool {
    slot.name.split('_').any(|name| name.len() >= NAME_LETTERS && message.names(name))
}

/// The one slot that a message calls by a word of its name, or else by a word of what is said to ask for it.
pub(crate) fn named<'s>(slots: &'s [Slot], message: &Message) -> Option<&'s Slot> {
    let only = |calls: &dyn Fn(&Slot) -> bool| {
        let mut called = slots.iter().filter(|slot| calls(slot));
        called.next().filter(|_| called.next().is_none())
    };
    let by_name = |slot: &Slot| is_called(slot, message);
    let by_prompt = |slot: &Slot| {
        let said = slot.invalid.iter().chain([&slot.prompt]).flat_map(|said| words(said));
        said.into_iter().any(|word| word.text.len() >= NAME_LETTERS && message.names(&word.text))
    };
    only(&by_name).or_else(|| only(&by_prompt).filter(|_| !slots.iter().any(by_name)))
}

fn names(slots: &[Slot]) -> impl Iterator<Item = &str> {
    slots.iter().flat_map(|slot| slot.name.split('_'))
}

/// What a message holds for each slot.
fn find(slots: &[Slot], message: &Message, asked: Option<&str>) -> Vec<Vec<Found>> {
    let is_asked = |slot: &Slot| asked == Some(slot.name.as_str());
    let find = |slot: &Slot| match (&slot.kind, message.windows.get(&slot.name)) {
        (Kind::Date, Some(window)) => dates(date::find_in(message, *window)),
        (kind, _) => kind.find(message, is_asked(slot)),
    };
    let mut found = slots.iter().map(find).collect::<Vec<_>>();
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
    let only = message.takes_back() || message.says_only(&spans, &names(slots).collect::<Vec<_>>());
    !spans.is_empty() && only
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
            bundle::SlotKind::Date { past_days: None, future_days: None },
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

    #[test]
    fn a_group_of_a_longer_number_is_no_value() {
        let slots = slots();
        for (text, value) in [
            ("3782 822463 10005", None),
            ("4929 123", None),
            ("card 4821 12 March 2026", Some("4821")),
            ("4821 or so", Some("4821")),
        ] {
            let message = Message::new(text, jiff::civil::date(2026, 11, 22));
            let found = fill(&slots[..1], &BTreeMap::new(), &message, Some("0"), false);
            assert_eq!(found.get("0").map(String::as_str), value, "{text}");
        }
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
