//! Dates as customers write them.

use std::collections::BTreeMap;
use std::ops::Range;

use jiff::civil::{Date, Weekday};
use jiff::{Span, ToSpan as _};

use crate::numbers;
use crate::words::Message;

/// Years a customer can mean.
const YEARS: std::ops::RangeInclusive<i16> = 1900..=2199;
/// Most days, weeks or months that are counted.
const MAX_COUNT: u32 = 1000;
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

/// The days that a slot takes, counted from today; without an end there is no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Window {
    pub(crate) past: Option<u32>,
    pub(crate) future: Option<u32>,
}

/// The windows of a workflow by slot.
pub(crate) type Windows = BTreeMap<String, Window>;

/// The windows of workflows by their names.
pub(crate) fn windows(workflows: &[bundle::Workflow]) -> BTreeMap<String, Windows> {
    let window = |slot: &bundle::Slot| match slot.kind {
        bundle::SlotKind::Date { past_days: past, future_days: future } => {
            Some((slot.name.clone(), Window { past, future }))
        }
        _ => None,
    };
    let of = |workflow: &bundle::Workflow| {
        (workflow.name.clone(), workflow.slots.iter().filter_map(window).collect())
    };
    workflows.iter().map(of).collect()
}

impl Window {
    fn takes(self, date: Date, today: Date) -> bool {
        let days = date.duration_since(today).as_hours() / 24;
        self.past.is_none_or(|past| -days <= i64::from(past))
            && self.future.is_none_or(|future| days <= i64::from(future))
    }
}

/// Every date of a message with its bytes: 2026-03-12, 12/03/2026 (day first), 12 March 2026, March 12th
/// 2026, today, yesterday, tomorrow, last Monday, next Monday, two weeks ago, in 3 days, a week
/// from today.
pub(crate) fn find(message: &Message) -> Vec<(Date, Range<usize>)> {
    scan(message, read)
}

/// The dates of a message in a window, and those it leaves no doubt about: 12 March without its year when only one
/// is in it, Monday when it lies on one side of today.
pub(crate) fn find_in(message: &Message, window: Window) -> Vec<(Date, Range<usize>)> {
    let mut found = scan(message, |message, at| read(message, at).or_else(|| guess(message, at, window)));
    found.retain(|(date, _)| window.takes(*date, message.today));
    found
}

fn scan(
    message: &Message,
    read: impl Fn(&Message, usize) -> Option<(Date, usize)>,
) -> Vec<(Date, Range<usize>)> {
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

/// A date that says too little by itself.
fn guess(message: &Message, at: usize, window: Window) -> Option<(Date, usize)> {
    let today = message.today;
    if let Some(weekday) = weekday(&message.words[at].text) {
        let nearest = match window {
            Window { future: Some(0), .. } => -1,
            Window { past: Some(0), .. } => 1,
            _ => return None,
        };
        return Some((today.nth_weekday(nearest, weekday).ok()?, 1));
    }
    let (month, day, length) = day_of_month(message, at)?;
    let year = today.year();
    let mut dates = (year - 1..=year + 1).filter_map(|year| Date::new(year, month, day).ok());
    let mut dates = dates.by_ref().filter(|date| window.takes(*date, today));
    dates.next().filter(|_| dates.next().is_none()).map(|date| (date, length))
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
    match word(0)? {
        "today" => Some((today, 1)),
        "yesterday" => Some((today.yesterday().ok()?, 1)),
        "tomorrow" => Some((today.tomorrow().ok()?, 1)),
        "last" => Some((today.nth_weekday(-1, weekday(word(1)?)?).ok()?, 2)),
        "next" => Some((today.nth_weekday(1, weekday(word(1)?)?).ok()?, 2)),
        "day" if (word(1), word(2)) == (Some("before"), Some("yesterday")) => {
            Some((today.checked_sub(2.days()).ok()?, 3))
        }
        "day" if (word(1), word(2)) == (Some("after"), Some("tomorrow")) => {
            Some((today.checked_add(2.days()).ok()?, 3))
        }
        "in" => {
            let (span, length) = length_of_time(message, at + 1)?;
            Some((today.checked_add(span).ok()?, length + 1))
        }
        _ => {
            let (span, length) = length_of_time(message, at)?;
            if word(length) == Some("ago") {
                return Some((today.checked_sub(span).ok()?, length + 1));
            }
            // "A week from today", "two weeks tomorrow".
            let from = length + usize::from(matches!(word(length), Some("from" | "on")));
            let base = match word(from)? {
                "today" | "now" => today,
                "tomorrow" => today.tomorrow().ok()?,
                name => today.nth_weekday(1, weekday(name)?).ok()?,
            };
            Some((base.checked_add(span).ok()?, from + 1))
        }
    }
}

/// "3 days", "two weeks", "a month", and how many words it takes.
fn length_of_time(message: &Message, at: usize) -> Option<(Span, usize)> {
    let words = message.words.get(at..)?;
    let first = words.first()?.text.as_str();
    let (count, length) = match (number(first), first) {
        (Some(count), _) => (u32::try_from(count).ok()?, 1),
        (None, "a" | "an") => (1, 1),
        _ => numbers::read(words)?,
    };
    let count = i64::from(count.min(MAX_COUNT));
    let span = match words.get(length)?.text.as_str() {
        "day" | "days" => count.days(),
        "week" | "weeks" => count.weeks(),
        "fortnight" => (2 * count).weeks(),
        "month" | "months" => count.months(),
        _ => return None,
    };
    Some((span, length + 1))
}

fn weekday(name: &str) -> Option<Weekday> {
    WEEKDAYS.iter().find(|day| day.0 == name).map(|day| day.1)
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
        (4, 1..=2, 1..=2) => date(&a.text, number(&b.text)?, number(&c.text)?),
        (1..=2, 1..=2, 2 | 4) => date(&c.text, number(&b.text)?, number(&a.text)?),
        _ => None,
    };
    Some((date?, 3))
}

fn named(message: &Message, at: usize) -> Option<(Date, usize)> {
    let (month, day, length) = day_of_month(message, at)?;
    let year = message.words.get(at + length)?;
    let follows = is_close(message, at + length) && year.text.len() == 4;
    Some((date(&year.text, month, day).filter(|_| follows)?, length + 1))
}

/// Month and day of "12 March", "the 12th of March" or "March 12", and how many words it takes.
fn day_of_month(message: &Message, at: usize) -> Option<(i8, i8, usize)> {
    let words = message.words.get(at..)?;
    let of = usize::from(words.get(1).is_some_and(|word| word.text == "of"));
    let (first, second) = (words.first()?, words.get(1 + of)?);
    if !(at + 1..=at + 1 + of).all(|next| is_close(message, next)) {
        return None;
    }
    let (month, day) = match (month(&first.text), month(&second.text)) {
        (None, Some(month)) => (month, ordinal(&first.text)?),
        (Some(month), None) if of == 0 => (month, ordinal(&second.text)?),
        _ => return None,
    };
    Some((month, number(day)?, 2 + of))
}

/// Whether a word follows the one before it as the parts of a date do.
fn is_close(message: &Message, at: usize) -> bool {
    let gap = message.between(message.words[at - 1].span.end, message.words[at].span.start);
    gap.len() <= 2 && gap.chars().all(|c| matches!(c, ' ' | ',' | '.' | '-' | '/'))
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

fn date(year: &str, month: i8, day: i8) -> Option<Date> {
    let plain = year.bytes().all(|byte| byte.is_ascii_digit());
    let year: i16 = if plain { year.parse().ok()? } else { return None };
    let year = if year < 100 { 2000 + year } else { year };
    YEARS.contains(&year).then(|| Date::new(year, month, day).ok()).flatten()
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
            ("3 days ago", "2026-11-19"),
            ("about two weeks ago", "2026-11-08"),
            ("a month ago", "2026-10-22"),
            ("in a fortnight", "2026-12-06"),
            ("in 10 days time", "2026-12-02"),
            ("the day after tomorrow", "2026-11-24"),
            ("a week from today", "2026-11-29"),
            ("two weeks tomorrow", "2026-12-07"),
            ("a week on Friday", "2026-12-04"),
            ("in 2026", ""),
            ("two weeks", ""),
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

    #[test]
    fn a_window_takes_its_days_and_completes_what_lies_in_it_once() {
        let today = jiff::civil::date(2026, 11, 22);
        let past = Window { past: Some(120), future: Some(0) };
        let future = Window { past: Some(0), future: Some(365) };
        for (text, window, wanted) in [
            ("today", past, "2026-11-22"),
            ("today", future, "2026-11-22"),
            ("tomorrow", past, ""),
            ("yesterday", future, ""),
            ("2026-07-25", past, "2026-07-25"),
            ("2026-07-24", past, ""),
            ("2027-11-22", future, "2027-11-22"),
            ("2027-11-23", future, ""),
            ("2019-01-01", Window { past: None, future: Some(0) }, "2019-01-01"),
            ("on the 3rd of november", past, "2026-11-03"),
            ("12 dec", future, "2026-12-12"),
            ("March 1", future, "2027-03-01"),
            ("1 March", past, ""),
            ("22 November", future, ""),
            ("12 March", Window::default(), ""),
            ("30 feb", future, ""),
            ("12 Nov 2025", past, ""),
            ("on friday", past, "2026-11-20"),
            ("on friday", future, "2026-11-27"),
            ("sunday", past, "2026-11-15"),
            ("monday", Window::default(), ""),
        ] {
            let found = find_in(&Message::new(text, today), window);
            let found: Vec<String> = found.iter().map(|(date, _)| date.to_string()).collect();
            assert_eq!(found.join(" "), wanted, "{text} {window:?}");
        }
    }
}
