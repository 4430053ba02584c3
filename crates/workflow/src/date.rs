//! Dates as customers write them.

use std::ops::Range;

use jiff::ToSpan as _;
use jiff::civil::{Date, Weekday};

use crate::words::Message;

/// Years a customer can mean.
const YEARS: std::ops::RangeInclusive<i16> = 1900..=2199;
const MONTHS: [&str; 12] = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
];
const WEEKDAYS: [(&str, Weekday); 7] = [
    ("monday", Weekday::Monday),
    ("tuesday", Weekday::Tuesday),
    ("wednesday", Weekday::Wednesday),
    ("thursday", Weekday::Thursday),
    ("friday", Weekday::Friday),
    ("saturday", Weekday::Saturday),
    ("sunday", Weekday::Sunday),
];

/// Every date of a message with its bytes: 2026-03-12, 12/03/2026 (day first), 12 March 2026, March 12th
/// 2026, today, yesterday, tomorrow, last Monday, next Monday. A date without its year is none: which one
/// is meant is for the customer to say.
pub(crate) fn find(message: &Message) -> Vec<(Date, Range<usize>)> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < message.words.len() {
        match read(message, at) {
            Some((date, length)) => {
                let words = &message.words[at..at + length];
                found.push((date, words[0].span.start..words[length - 1].span.end));
                at += length;
            }
            None => at += 1,
        }
    }
    found
}

/// A date in the form it is stored in.
pub(crate) fn parse(value: &str) -> Option<Date> {
    value.parse().ok().filter(|date: &Date| date.to_string() == value)
}

/// A date as the customer reads it.
pub(crate) fn show(date: Date) -> String {
    date.strftime("%-d %B %Y").to_string()
}

/// The date that begins at a word, and how many words it takes.
fn read(message: &Message, at: usize) -> Option<(Date, usize)> {
    relative(message, at).or_else(|| numeric(message, at)).or_else(|| named(message, at))
}

fn relative(message: &Message, at: usize) -> Option<(Date, usize)> {
    let word = |offset: usize| message.words.get(at + offset).map(|word| word.text.as_str());
    let today = message.today;
    let weekday = |name: Option<&str>| WEEKDAYS.iter().find(|day| Some(day.0) == name).map(|day| day.1);
    match word(0)? {
        "today" => Some((today, 1)),
        "yesterday" => Some((today.yesterday().ok()?, 1)),
        "tomorrow" => Some((today.tomorrow().ok()?, 1)),
        "last" => Some((today.nth_weekday(-1, weekday(word(1))?).ok()?, 2)),
        "next" => Some((today.nth_weekday(1, weekday(word(1))?).ok()?, 2)),
        "day" if (word(1), word(2)) == (Some("before"), Some("yesterday")) => {
            Some((today.checked_sub(2.days()).ok()?, 3))
        }
        _ => None,
    }
}

fn numeric(message: &Message, at: usize) -> Option<(Date, usize)> {
    let [a, b, c] = message.words.get(at..at + 3)? else { return None };
    let separator = message.between(a.span.end, b.span.start);
    let joined =
        matches!(separator, "/" | "-" | ".") && separator == message.between(b.span.end, c.span.start);
    // "1/12/03/2026" and "HB-12-03-2026" hold no date.
    let before = at.checked_sub(1).and_then(|before| message.words.get(before));
    let chained = before.is_some_and(|word| message.between(word.span.end, a.span.start) == separator)
        || message
            .words
            .get(at + 3)
            .is_some_and(|word| message.between(c.span.end, word.span.start) == separator);
    if !joined || chained {
        return None;
    }
    let date = match (a.text.len(), b.text.len(), c.text.len()) {
        (4, 1..=2, 1..=2) => date(&a.text, number(&b.text)?, &c.text),
        (1..=2, 1..=2, 2 | 4) => date(&c.text, number(&b.text)?, &a.text),
        _ => None,
    };
    Some((date?, 3))
}

fn named(message: &Message, at: usize) -> Option<(Date, usize)> {
    let words = message.words.get(at..)?;
    let of = usize::from(words.get(1).is_some_and(|word| word.text == "of"));
    let (first, second, year) = (words.first()?, words.get(1 + of)?, words.get(2 + of)?);
    let length = 3 + of;
    let close = words[..length].windows(2).all(|pair| {
        let gap = message.between(pair[0].span.end, pair[1].span.start);
        gap.len() <= 2 && gap.chars().all(|c| matches!(c, ' ' | ',' | '.' | '-' | '/'))
    });
    if !close || year.text.len() != 4 {
        return None;
    }
    let date = match (month(&first.text), month(&second.text)) {
        (None, Some(month)) => date(&year.text, month, ordinal(&first.text)?),
        (Some(month), None) if of == 0 => date(&year.text, month, ordinal(&second.text)?),
        _ => None,
    };
    Some((date?, length))
}

fn month(word: &str) -> Option<i8> {
    let short = word.len() >= 3;
    let index = MONTHS.iter().position(|name| {
        *name == word || short && (name[..3] == *word || word == "sept" && *name == "september")
    })?;
    i8::try_from(index + 1).ok()
}

/// The digits of "12" or "12th".
fn ordinal(word: &str) -> Option<&str> {
    let digits = ["st", "nd", "rd", "th"].iter().find_map(|end| word.strip_suffix(end)).unwrap_or(word);
    (digits.len() <= 2).then_some(digits)
}

fn number(digits: &str) -> Option<i8> {
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok()).flatten()
}

fn date(year: &str, month: i8, day: &str) -> Option<Date> {
    let plain = year.bytes().all(|byte| byte.is_ascii_digit());
    let year: i16 = if plain { year.parse().ok()? } else { return None };
    let year = if year < 100 { 2000 + year } else { year };
    YEARS.contains(&year).then(|| Date::new(year, month, number(day)?).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_read_as_customers_write_them() {
        // A Sunday.
        let today = jiff::civil::date(2026, 11, 22);
        for (text, wanted) in [
            ("on 2026-03-12.", "2026-03-12"),
            ("12/03/2026", "2026-03-12"),
            ("1.2.26", "2026-02-01"),
            ("12 March 2026", "2026-03-12"),
            ("the 3rd of Feb, 2026", "2026-02-03"),
            ("March 12th, 2026", "2026-03-12"),
            ("21 Sept 2026", "2026-09-21"),
            ("12-Mar-2026", "2026-03-12"),
            ("１２ March ２０２６", "2026-03-12"),
            ("today", "2026-11-22"),
            ("yesterday", "2026-11-21"),
            ("the day before yesterday", "2026-11-20"),
            ("tomorrow", "2026-11-23"),
            ("last Monday", "2026-11-16"),
            ("last Sunday", "2026-11-15"),
            ("next sunday", "2026-11-29"),
            ("31/02/2026", ""),
            ("13/13/2026", ""),
            ("12 March", ""),
            ("1/12/03/2026", ""),
            ("HB-12-03-2026", ""),
            ("on monday", ""),
            ("12 March, 20261", ""),
            ("0/0/0000", ""),
        ] {
            let found = find(&Message::new(text, today));
            let found: Vec<String> = found.iter().map(|(date, _)| date.to_string()).collect();
            assert_eq!(found.join(" "), wanted, "{text}");
        }
    }
}
