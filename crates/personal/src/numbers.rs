//! Finds numbers that name a person: cards, national ids and bank details.

use crate::detect::{Kind, Span, pattern};
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
pub(crate) fn stands_alone(text: &str, start: usize, end: usize) -> bool {
    let before = text[..start].chars().next_back();
    let after = text[end..].chars().next();
    !before.is_some_and(char::is_alphanumeric) && !after.is_some_and(char::is_alphanumeric)
}

fn values(text: &str, start: usize, end: usize) -> Vec<u8> {
    text.as_bytes()[start..end].iter().filter(|byte| byte.is_ascii_digit()).map(|byte| byte - b'0').collect()
}

/// What is written before a number, lowered.
pub(crate) fn context(text: &str, start: usize) -> String {
    text[text.ceil_char_boundary(start.saturating_sub(CONTEXT_BYTES))..start].to_lowercase()
}

// Words behind which a number names an order or the like, and words of other senses that hold one of them.
pattern!(
    THINGS,
    r"\bin (?:order|case)\b|(\b(?:order|reference|ref|ticket|case|invoice|tracking|booking|parcel|shipment|confirmation|receipt|",
    r"serial|item|article|product|sku|isbn|ean|gtin|imei|model|policy|total|amount|balance|error|transaction (?:id|no|number|ref)|licen[cs]e|passport|permit|dhl|ups|fedex|hermes|usps|gls|dpd|",
    r"(?:customer|account|contract) (?:id|no|number)|commande|facture|dossier|colis|suivi|pedido|factura|seguimiento|ordine|fattura|",
    r"spedizione|bestelling|factuur|klantnummer|encomenda|fatura|faktura|ordre|aktenzeichen)s?\b|",
    r"\b(?:order|bestell|kunden|rechnung|auftrag|sendung|vorgang|vertrag)\w*n(?:umme)?r\b|\b(?:bestellung|rechnung|auftrag)\b|注文|订单)"
);
pattern!(
    PERSONS,
    r"\b(?:card|karte|carte|tarjeta|carta|phone|call|mobile|mobil|tel|telefon|t[eé]l[eé]phone|tel[eé]fono|number to|fax|cell|text me|visa|",
    r"mastercard|amex|whats ?app|contact|handy)"
);
pattern!(
    CARDS,
    r"\b(?:card|credit|debit|visa|mastercard|maestro|amex|american express|discover|jcb|diners|cc\b|carte|tarjeta|carta\b|cart[aã]o)|karte"
);
// What may stand between the word for an order and its number.
pattern!(
    FILLERS,
    r"\A(?:[ :#.,=(-]|n[°ºo]|nr|id|is|was|numbers?|num|code|of|my|the|ist|est|es|é|è|lautet)*\z"
);

/// Whether a word says the number behind it names an order or the like. The nearest word decides.
pub(crate) fn names_thing(context: &str) -> bool {
    let last = PERSONS.find_iter(context).last().map(|word| word.start());
    thing(context).map(|(start, _)| start) > last
}

/// The last word for an order or the like: first byte, and one past the last.
fn thing(context: &str) -> Option<(usize, usize)> {
    THINGS
        .captures_iter(context)
        .filter_map(|groups| groups.get(1))
        .last()
        .map(|word| (word.start(), word.end()))
}

/// Whether the number belongs to an order or the like without any other word between.
fn is_of_thing(context: &str) -> bool {
    thing(context).is_some_and(|(_, end)| FILLERS.is_match(&context[end..]))
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
            if !stands_alone(text, group.start, end.end) {
                continue;
            }
            let whole = digits::card(&digits) && !is_other(text, row, first, last);
            if whole || is_mistyped(text, &row[first..=last], &digits) {
                found.push(Span { kind: Kind::CreditCard, start: group.start, end: end.end });
                next = last + 1;
            }
        }
    }
}

/// Whether groups that pass for a card are an order's number or an abroad's: one unbroken number and one in groups
/// that no card has may as well be that.
fn is_other(text: &str, row: &[Group], first: usize, last: usize) -> bool {
    let shape: Vec<usize> = row[first..=last].iter().map(|group| group.end - group.start).collect();
    let embossed = match shape[..] {
        [4, 6, _] => true,
        [ref whole @ .., _] => {
            whole.iter().all(|length| *length == 4) || shape.iter().all(|length| *length == 1)
        }
        [] => false,
    };
    if first == last {
        return is_of_thing(&context(text, row[first].start));
    }
    let abroad = !embossed && text[..row[0].start].ends_with('+');
    let irregular = !embossed && is_of_thing(&context(text, row[0].start));
    abroad || irregular || is_part_of_thing(text, row, first, last)
}

/// Whether groups are the middle of an order's number in more groups of the kind.
fn is_part_of_thing(text: &str, row: &[Group], first: usize, last: usize) -> bool {
    let length = |at: usize| row.get(at).map(|group| group.end - group.start);
    let goes_on =
        first > 0 && length(first - 1) == length(first) || length(last + 1).is_some_and(|length| length <= 4);
    goes_on && is_of_thing(&context(text, row[0].start))
}

/// Whether a number whose check digit is wrong is still written as that of a card, behind a word for cards.
fn is_mistyped(text: &str, groups: &[Group], digits: &[u8]) -> bool {
    let shape: Vec<usize> = groups.iter().map(|group| group.end - group.start).collect();
    let written = matches!(shape[..], [16] | [4, 4, 4, 4] | [4, 6, 5]);
    if !written || !matches!(digits[0], 2..=6) {
        return false;
    }
    let context = context(text, groups[0].start);
    CARDS.is_match(&context) && !names_thing(&context)
}

/// How the number of an authority looks: digits by group, test, words that must stand before it.
struct Id {
    kind: Kind,
    groups: &'static [usize],
    test: fn(&[u8]) -> bool,
    words: &'static [&'static str],
}

const SSN: &[&str] =
    &["ssn", "social security", "social is", "social:", "social number", "soc sec", "ss#", "ss #"];
pattern!(IS_SSN, r"\A(?i: is (?:my |his |her |the )?|[ ,:(]{1,2})(?:my )?(?i:ssn|social)(?-u:\b)");
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
            // A country's code, an address, or a part of a longer number.
            let other = text[..start].ends_with('+')
                || text[start..end].parse::<std::net::Ipv4Addr>().is_ok()
                || is_part_of_thing(text, row, first, first + id.groups.len() - 1);
            if other {
                continue;
            }
            let named = id.words.iter().any(|word| context(text, start).contains(word))
                || id.kind == Kind::UsSsn && IS_SSN.is_match(&text[end..]);
            if id.words.is_empty() || named {
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
