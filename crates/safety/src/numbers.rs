//! Finds numbers that name a person: cards, national ids, bank details and telephones.

use crate::detect::{Kind, Span, matches, pattern};
use crate::digits;

/// How far back, in bytes, a word may stand that tells what a number is.
const CONTEXT_BYTES: usize = 48;
/// Most groups of digits one card may be written in: every digit apart.
const CARD_GROUPS: usize = 19;

/// A run of digits.
#[derive(Debug, Clone, Copy)]
struct Group {
    start: usize,
    end: usize,
}

/// Adds what is found.
pub(crate) fn find(text: &str, found: &mut Vec<Span>) {
    for row in rows(text) {
        cards(text, &row, found);
        ids(text, &row, found);
    }
    phones(text, found);
}

/// Rows of digit groups with one or two separators between them.
fn rows(text: &str) -> Vec<Vec<Group>> {
    let bytes = text.as_bytes();
    let mut rows: Vec<Vec<Group>> = Vec::new();
    let mut at = 0;
    while let Some(start) = bytes[at..].iter().position(u8::is_ascii_digit).map(|offset| at + offset) {
        let end = bytes[start..]
            .iter()
            .position(|byte| !byte.is_ascii_digit())
            .map_or(bytes.len(), |len| start + len);
        let group = Group { start, end };
        let follows = rows.last().and_then(|row| row.last()).is_some_and(|last| {
            let gap = &bytes[last.end..start];
            gap.len() <= 2
                && gap.iter().all(|byte| matches!(byte, b' ' | b'-' | b'.' | b'/' | b'_' | b'+' | b'\n'))
        });
        match rows.last_mut() {
            Some(row) if follows => row.push(group),
            _ => rows.push(vec![group]),
        }
        at = end;
    }
    rows
}

/// Whether nothing continues the number on either side.
fn stands_alone(text: &str, start: usize, end: usize) -> bool {
    let before = text[..start].chars().next_back();
    let after = text[end..].chars().next();
    !before.is_some_and(char::is_alphanumeric) && !after.is_some_and(char::is_alphanumeric)
}

fn values(text: &str, start: usize, end: usize) -> Vec<u8> {
    text.as_bytes()[start..end].iter().filter(|byte| byte.is_ascii_digit()).map(|byte| byte - b'0').collect()
}

/// What is written before a number, lowered.
fn context(text: &str, start: usize) -> String {
    text[text.ceil_char_boundary(start.saturating_sub(CONTEXT_BYTES))..start].to_lowercase()
}

/// Whether a word says the number behind it names an order or the like. The nearest word decides.
fn names_thing(context: &str) -> bool {
    const THINGS: [&str; 12] = [
        "order",
        "reference",
        "ref",
        "ticket",
        "case",
        "invoice",
        "tracking",
        "booking",
        "parcel",
        "confirmation",
        "transaction",
        "receipt",
    ];
    const PERSONS: [&str; 12] = [
        "card",
        "phone",
        "call",
        "mobile",
        "tel",
        "number to",
        "fax",
        "cell",
        "text me",
        "visa",
        "whatsapp",
        "contact",
    ];
    let last = |words: &[&str]| words.iter().filter_map(|word| context.rfind(word)).max();
    last(&THINGS) > last(&PERSONS)
}

fn cards(text: &str, row: &[Group], found: &mut Vec<Span>) {
    let mut next = 0;
    for (first, group) in row.iter().enumerate() {
        if first < next {
            continue;
        }
        for (last, end) in row.iter().enumerate().skip(first).take(CARD_GROUPS) {
            let digits = values(text, group.start, end.end);
            if digits.len() > 19 {
                break;
            }
            let whole = digits::card(&digits) && stands_alone(text, group.start, end.end);
            // One unbroken number may as well be that of an order.
            if whole && (last > first || !names_thing(&context(text, group.start))) {
                found.push(Span { kind: Kind::CreditCard, start: group.start, end: end.end });
                next = last + 1;
            }
        }
    }
}

/// How the number of an authority looks: digits by group, test, words that must stand before it.
struct Id {
    kind: Kind,
    groups: &'static [usize],
    test: fn(&[u8]) -> bool,
    words: &'static [&'static str],
}

const SSN: &[&str] = &["ssn", "social security"];
const IDS: &[Id] = &[
    Id { kind: Kind::UsItin, groups: &[3, 2, 4], test: itin, words: &[] },
    Id { kind: Kind::UsSsn, groups: &[3, 2, 4], test: ssn, words: &[] },
    Id { kind: Kind::UsSsn, groups: &[9], test: ssn, words: SSN },
    Id { kind: Kind::UkNhs, groups: &[3, 3, 4], test: digits::uk_nhs, words: &["nhs"] },
    Id { kind: Kind::UkNhs, groups: &[10], test: digits::uk_nhs, words: &["nhs"] },
    Id { kind: Kind::FrNir, groups: &[1, 2, 2, 2, 3, 3, 2], test: digits::fr_nir, words: &[] },
    Id { kind: Kind::FrNir, groups: &[13, 2], test: digits::fr_nir, words: &[] },
    Id { kind: Kind::FrNir, groups: &[15], test: digits::fr_nir, words: &[] },
    Id { kind: Kind::ChAhv, groups: &[3, 4, 4, 2], test: digits::ch_ahv, words: &[] },
    Id {
        kind: Kind::ChAhv,
        groups: &[13],
        test: digits::ch_ahv,
        words: &["ahv", "avs", "sozialversicherung"],
    },
    Id { kind: Kind::BrCpf, groups: &[3, 3, 3, 2], test: digits::br_cpf, words: &[] },
    Id { kind: Kind::BrCpf, groups: &[11], test: digits::br_cpf, words: &["cpf"] },
    Id { kind: Kind::PlPesel, groups: &[11], test: digits::pl_pesel, words: &["pesel"] },
    Id { kind: Kind::DeTaxId, groups: &[11], test: digits::de_tax, words: &["steuer", "tax", "idnr"] },
    Id { kind: Kind::DeTaxId, groups: &[2, 3, 3, 3], test: digits::de_tax, words: &[] },
    Id { kind: Kind::NlBsn, groups: &[9], test: digits::nl_bsn, words: &["bsn", "burgerservice", "sofi"] },
    Id { kind: Kind::InAadhaar, groups: &[4, 4, 4], test: digits::in_aadhaar, words: &[] },
    Id {
        kind: Kind::InAadhaar,
        groups: &[12],
        test: digits::in_aadhaar,
        words: &["aadhaar", "aadhar", "uid"],
    },
    Id { kind: Kind::SePersonnummer, groups: &[6, 4], test: personnummer, words: &[] },
    Id { kind: Kind::SePersonnummer, groups: &[8, 4], test: personnummer, words: &[] },
    Id { kind: Kind::SePersonnummer, groups: &[12], test: personnummer, words: &["personnummer"] },
    Id {
        kind: Kind::UkSortCode,
        groups: &[2, 2, 2],
        test: |_| true,
        words: &["sort code", "sort-code", "sortcode"],
    },
    Id {
        kind: Kind::UkSortCode,
        groups: &[6],
        test: |_| true,
        words: &["sort code", "sort-code", "sortcode"],
    },
    Id {
        kind: Kind::BankAccount,
        groups: &[8],
        test: |_| true,
        words: &[
            "account number",
            "account no",
            "acc no",
            "acct",
            "a/c",
            "account is",
            "sort code",
            "my account",
        ],
    },
];

fn ids(text: &str, row: &[Group], found: &mut Vec<Span>) {
    for first in 0..row.len() {
        for id in IDS {
            let Some(groups) = row.get(first..first + id.groups.len()) else { continue };
            let shape = groups.iter().zip(id.groups).all(|(group, len)| group.end - group.start == *len);
            let Some((start, end)) = groups.first().zip(groups.last()).map(|(a, b)| (a.start, b.end)) else {
                continue;
            };
            if !shape || !stands_alone(text, start, end) || !(id.test)(&values(text, start, end)) {
                continue;
            }
            if id.words.is_empty() || id.words.iter().any(|word| context(text, start).contains(word)) {
                found.push(Span { kind: id.kind, start, end });
                break;
            }
        }
    }
}

fn number(digits: &[u8]) -> u32 {
    digits.iter().fold(0, |number, digit| number * 10 + u32::from(*digit))
}

/// Areas, groups and serials the Social Security Administration issues since 2011.
fn ssn(digits: &[u8]) -> bool {
    let area = number(&digits[..3]);
    area != 0 && area != 666 && area < 900 && number(&digits[3..5]) != 0 && number(&digits[5..]) != 0
}

/// Groups the Internal Revenue Service issues behind a leading 9.
fn itin(digits: &[u8]) -> bool {
    digits[0] == 9 && matches!(number(&digits[3..5]), 50..=65 | 70..=88 | 90..=92 | 94..=99)
}

/// Swedish number: a date and Luhn over its last ten digits.
fn personnummer(digits: &[u8]) -> bool {
    let ten = &digits[digits.len() - 10..];
    // A coordination number has 60 added to the day.
    matches!(number(&ten[2..4]), 1..=12)
        && matches!(number(&ten[4..6]), 1..=31 | 61..=91)
        && digits::luhn(ten)
}

pattern!(ABROAD, r"(?:\+|(?-u:\b)00) ?[1-9](?:[ .\-/()]{0,3}[0-9]){6,13}(?:x[0-9]{1,6})?(?-u:\b)");
pattern!(
    NORTH_AMERICA,
    r"(?-u:\b)((?:1[ .-])?[2-9][0-9]{2}[ .-]{1,2}[0-9]{3}[ .-][0-9]{4}(?:x[0-9]{1,6})?)(?-u:\b)"
);
pattern!(AREA_IN_BRACKETS, r"\([0-9]{2,5}\)[ -]?[0-9]{2,4}(?:[ .-]?[0-9]{2,4}){1,3}(?:x[0-9]{1,6})?(?-u:\b)");
pattern!(TRUNK, r"(?-u:\b)0[1-9][0-9]{0,3}(?:[ .\-/]{0,2}[0-9]){6,9}(?:x[0-9]{1,6})?(?-u:\b)");
pattern!(ANY, r"(?-u:\b)[0-9](?:[ .\-/()]{0,3}[0-9]){5,14}(?-u:\b)");
pattern!(AFTER, r"\A[ -]{1,2}(?i:office|fax|mobile|desk|cell|home|tel)(?-u:\b)");

fn phones(text: &str, found: &mut Vec<Span>) {
    const WORDS: [&str; 21] = [
        "phone",
        "call",
        "tel",
        "mobile",
        "cell",
        "text me",
        "ring me",
        "fax",
        "whatsapp",
        "reach me",
        "sms",
        "dial",
        "answering",
        "messages to",
        "message to",
        "my number",
        "contact me",
        "texts to",
        "handy",
        "number is",
        "móvil",
    ];
    let mut spans = Vec::new();
    for pattern in [&ABROAD, &NORTH_AMERICA, &AREA_IN_BRACKETS, &TRUNK] {
        let digits = |value: &str| (7..=21).contains(&value.bytes().filter(u8::is_ascii_digit).count());
        matches(text, pattern, Kind::PhoneNumber, &mut spans, digits);
    }
    let mut named = Vec::new();
    matches(text, &ANY, Kind::PhoneNumber, &mut named, |_| true);
    named.retain(|span| {
        let context = context(text, span.start);
        let named = WORDS.iter().any(|word| context.contains(word)) || AFTER.is_match(&text[span.end..]);
        named && !is_amount(text, span)
    });
    spans.extend(named);
    spans.retain(|span| {
        stands_alone(text, span.start, span.end)
            && !text[..span.start].ends_with(['.', '/', '#', '-', '_'])
            && !is_date(&text[span.start..span.end])
            && !names_thing(&context(text, span.start))
    });
    // The longest of those that start together, so that no end of a number is left standing.
    spans.sort_by_key(|span| (span.start, std::cmp::Reverse(span.end)));
    spans.dedup_by_key(|span| span.start);
    found.extend(spans);
}

/// Whether money is meant.
fn is_amount(text: &str, span: &Span) -> bool {
    let after: String = text[span.end..].trim_start().chars().take(8).flat_map(char::to_lowercase).collect();
    text[..span.start].trim_end().ends_with(['£', '$', '€', '¥', '₹'])
        || ["£", "$", "€", "¥", "gbp", "usd", "eur", "pounds", "dollars", "euros", "%"]
            .iter()
            .any(|unit| after.starts_with(unit))
}

pattern!(
    DATE,
    r"\A(?:(?:0?[1-9]|[12][0-9]|3[01])[./-](?:0?[1-9]|1[0-2])[./-](?:19|20)[0-9]{2}|",
    r"(?:0?[1-9]|1[0-2])[./-](?:0?[1-9]|[12][0-9]|3[01])[./-](?:19|20)[0-9]{2}|",
    r"(?:19|20)[0-9]{2}[./-](?:0[1-9]|1[0-2])[./-](?:0[1-9]|[12][0-9]|3[01]))(?:[^0-9]|\z)"
);

/// Whether a date starts the number: no area code reads like one with its separators.
fn is_date(number: &str) -> bool {
    DATE.is_match(number)
}
