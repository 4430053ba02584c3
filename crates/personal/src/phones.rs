//! Finds telephone numbers: shapes that are nothing else, and shapes beside a word for telephones.

use crate::detect::{Kind, Span, matches, pattern};
use crate::numbers::{context, names_thing, stands_alone};

/// Longest message, in bytes, that may be the bare answer to a question.
const ANSWER_BYTES: usize = 64;

/// What may end a number: its extension.
macro_rules! extension {
    () => {
        r"(?i:[ ,;]{0,2}(?:x|ext(?:ension|n)?|durchwahl|poste|#)[ .:]{0,2}[0-9]{1,6})?(?-u:\b)"
    };
}

pattern!(
    ABROAD,
    r"(?:\(\+[1-9][0-9]{0,2}\)|(?:\+|(?-u:\b)00) ?[1-9])(?:[ .\-/()]{0,3}[0-9]){6,15}",
    extension!()
);
pattern!(
    NORTH_AMERICA,
    r"(?-u:\b)((?:(?:001|1|8)[ .\-/])?[2-9][0-9]{2}[ .\-/]{1,2}[0-9]{3}[ .-][0-9]{4}",
    extension!(),
    ")"
);
pattern!(
    AREA_IN_BRACKETS,
    r"(?:(?-u:\b)[0-9] ?[.-]?)?\([0-9]{2,5}\)[ .\-/]{0,2}[0-9]{2,5}(?:[ .\-/]?[0-9]{2,4}){1,3}",
    extension!()
);
pattern!(TRUNK, r"(?-u:\b)0[1-9][0-9]{0,3}(?:[ .\-/]{0,3}[0-9]){6,9}", extension!());
// Groups as they are dictated in Russia, Scandinavia, Switzerland, Poland; mobiles of Brazil and China; freephone.
pattern!(
    DICTATED,
    r"(?-u:\b)(?:(?:[0-9]{1,2}[ -])?[0-9]{2,3}[ -][0-9]{3}[ -][0-9]{2}[ -][0-9]{2}|[0-9]{3}[ -][0-9]{2}[ -][0-9]{2}[ -][0-9]{2}|[1-9]{2}[ -]9?[0-9]{4}[ -][0-9]{4}|",
    r"1[3-9][0-9][ -][0-9]{4}[ -][0-9]{4}|1[38]00[ -][0-9]{3}[ -][0-9]{3})(?-u:\b)"
);
pattern!(ANY, r"(?-u:\b)[0-9](?:[ .\-/()]{0,3}[0-9]){6,14}", extension!());
// Shapes that are a telephone number where they are all that is said.
pattern!(
    ANSWER,
    r"(?-u:\b)(?:[1-9][0-9]{2}([ -])[0-9]{3}[ -][0-9]{3}|[2-9][0-9]{3}[ -][0-9]{4}|[6-9][0-9]{4} [0-9]{5}|[1-9][0-9]{2} [0-9]{2} [0-9]{3}|[2-9][0-9]{3} [0-9]{3} [0-9]{3}|",
    r"[2-9][0-9]{2} [0-9]{7})(?-u:\b)"
);
pattern!(
    POLITE,
    r"\A(?:[.!,;?)\n]| ?(?i:thanks|thank you|thx|ty|please|pls|ok|or|and|danke|bitte|merci|gracias|grazie)(?-u:\b)|\z)"
);

// A word for telephones before the number, from the start of the word on.
pattern!(
    NAMED,
    r"\b(?:phon(?:e|ing)|telephone|tel\b|t[eé]l[eé]?(?:ph|f)|tlf|mobile?|cell|call|dial|ring\b|te?xt (?:(?:me|us|him|her)\b|\z)|texts to|sms|whats ?app|",
    r"viber|fax|reach (?:me|us|him|her)|contact (?:me|us|no|nr|number|him|her)|contact:|answering|messages? to|my (?:new )?number|number(?: is|'s)|handy|",
    r"(?:ruf|mobil|festnetz)nummer|r[üu]ckruf|erreich|festnetz|landline|hotline|appel|joindre|joignable|portable|ll[aá]m|m[oó]vil|celular|",
    r"cellulare|chiam|lig(?:ue|ar)|bel (?:me|naar)|(?:meine?|mijn|min|mitt|mon|mi|mio|meu|o) n[uúù]m(?:mer|[eé]ro))|電話|携帯|电话|手机|전화|телефон|тел\b"
);
pattern!(
    AFTER,
    r"\A(?i:[ ,(\-]{1,3}(?:is |= ?)?(?:my |our |his |her )?(?:(?:new|best|office|work|home) )?",
    r"(?:office|fax|mobile|desk|cell(?:phone)?|home|tel|phone|landline|handy)(?-u:\b)|",
    r" is (?:my |the )(?:new |best )?(?:contact )?number(?:[.!,]|\z| to (?:call|reach|ring)))"
);

/// Adds what is found.
pub(crate) fn find(text: &str, found: &mut Vec<Span>) {
    let mut spans = Vec::new();
    for pattern in [&ABROAD, &NORTH_AMERICA, &AREA_IN_BRACKETS, &TRUNK, &DICTATED] {
        let digits = |value: &str| (7..=22).contains(&digits(value));
        matches(text, pattern, Kind::PhoneNumber, &mut spans, digits);
    }
    spans.retain(|span| !is_postcode(&text[span.start..span.end]));
    let mut named = Vec::new();
    matches(text, &ANY, Kind::PhoneNumber, &mut named, |_| true);
    named.retain(|span| {
        let named = NAMED.is_match(&context(text, span.start)) || AFTER.is_match(&text[span.end..]);
        named && !is_amount(text, span)
    });
    spans.extend(named);
    spans.extend(answer(text));
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

fn digits(value: &str) -> usize {
    value.bytes().filter(u8::is_ascii_digit).count()
}

/// The number that a short message is, as it answers "what is your number?".
fn answer(text: &str) -> Option<Span> {
    let number = Some(text).filter(|text| text.len() <= ANSWER_BYTES).and_then(|text| ANSWER.find(text))?;
    let alone = digits(text) == digits(number.as_str())
        && text[..number.start()].split_whitespace().count() <= 3
        && POLITE.is_match(&text[number.end()..]);
    let span = Span { kind: Kind::PhoneNumber, start: number.start(), end: number.end() };
    (alone && !is_amount(text, &span)).then_some(span)
}

/// Whether it is written like an American or Brazilian postcode, or one with the number of a house, where no word
/// says otherwise.
fn is_postcode(value: &str) -> bool {
    let all_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    match value.split_once(['-', ' ']) {
        Some((first, last)) => {
            first.len() == 5 && matches!(last.len(), 3 | 4) && all_digits(first) && all_digits(last)
        }
        None => value.len() == 8 && all_digits(value),
    }
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
    r"(?:19|20)[0-9]{2}[./-](?:0[1-9]|1[0-2])[./-](?:0[1-9]|[12][0-9]|3[01]))(?:[^0-9]|\z)|",
    // With two digits for the year nothing but a time of day follows.
    r"\A[0-3]?[0-9][./-][0-3]?[0-9][./-][0-9]{2}(?: |\z)"
);

/// Whether a date starts the number: no area code reads like one with its separators.
fn is_date(number: &str) -> bool {
    DATE.is_match(number)
}
