//! Amounts, times, durations and other numbers of a sentence in a form that can be compared.

use crate::tokens::Token;

/// Words between a number and its unit of time.
const BETWEEN: [&str; 5] = ["business", "working", "calendar", "full", "consecutive"];
/// Share by which durations of different units may differ and still be the same: 30 days, a month.
const TOLERANCE: f64 = 0.03;

/// What a number counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Plain,
    /// Of the currency, by its first letter.
    Money(u8),
    Percent,
    /// Of the clock, in hours.
    Clock,
    /// In hours.
    Duration,
}

/// A number of a sentence.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Figure {
    /// In the unit of its kind.
    pub(crate) value: f64,
    /// As written.
    written: f64,
    pub(crate) kind: Kind,
    in_digits: bool,
    /// Index of its first token, and of the first after it.
    pub(crate) tokens: (usize, usize),
}

impl Figure {
    /// Whether a source has to have it: "a day" and "one" may be a way of speaking, "1 day" is none.
    pub(crate) fn counts(&self) -> bool {
        match self.kind {
            Kind::Plain => self.written > 1.0,
            Kind::Duration => self.in_digits || !equal(self.written, 1.0, 0.0),
            _ => true,
        }
    }

    /// Whether it is the same: 24 hours and one day, 9:00 and 9 in the morning.
    pub(crate) fn is(&self, other: &Self) -> bool {
        let exact = equal(self.value, other.value, 1e-6);
        match (self.kind, other.kind) {
            // Without am or pm, 2:00 may be in the afternoon.
            (Kind::Clock, Kind::Clock) => exact || equal((self.value - other.value).abs(), 12.0, 1e-6),
            (Kind::Duration, Kind::Duration) => {
                exact
                    || !equal(self.written, other.written, 1e-6) && equal(self.value, other.value, TOLERANCE)
            }
            (Kind::Plain, Kind::Clock) | (Kind::Clock, Kind::Plain) => exact,
            (Kind::Plain, _) | (_, Kind::Plain) => equal(self.written, other.written, 1e-6),
            (own, its) => own == its && exact,
        }
    }
}

fn equal(one: f64, other: f64, tolerance: f64) -> bool {
    (one - other).abs() <= tolerance * one.abs().max(1e-9)
}

/// The numbers of a sentence, in their order.
pub(crate) fn read(tokens: &[Token]) -> Vec<Figure> {
    let word = |at: usize| tokens.get(at).map_or("", |token| token.word.as_str());
    let (mut found, mut at) = (Vec::new(), 0);
    while at < tokens.len() {
        let Some((mut value, mut kind, mut end)) = number(&word, at) else {
            at += 1;
            continue;
        };
        while let Some(scale) = scale(word(end)) {
            value *= scale;
            end += 1;
        }
        let written = value;
        if kind == Kind::Plain {
            (kind, value, end) = unit(&word, at, end, value);
        }
        let in_digits = digits(word(at)).is_some();
        found.push(Figure { value, written, kind, in_digits, tokens: (at, end) });
        at = end.max(at + 1);
    }
    found
}

/// The number at a token: value, [`Kind::Clock`] when it is one, and the token after it.
fn number<'a>(word: &impl Fn(usize) -> &'a str, at: usize) -> Option<(f64, Kind, usize)> {
    let own = word(at);
    if matches!(own, "half" | "quarter") && word(at + 1) == "past" {
        let (hour, _, end) = number(word, at + 2)?;
        return Some((hour + if own == "half" { 0.5 } else { 0.25 }, Kind::Clock, end));
    }
    if matches!(own, "a" | "an") {
        let one = duration(word(at + 1)).is_some() && !word(at + 1).ends_with('s');
        return (one || scale(word(at + 1)).is_some()).then_some((1.0, Kind::Plain, at + 1));
    }
    let (value, suffix, clock) = digits(own).or_else(|| spelled(own).map(|value| (value, "", false)))?;
    let mut end = at + 1;
    let value = match spelled(word(end)) {
        Some(ones) if text::tens(own).is_some() && (1.0..10.0).contains(&ones) => {
            end += 1;
            value + ones
        }
        _ => value,
    };
    let half = if suffix.is_empty() { word(end) } else { suffix };
    if matches!(half, "am" | "pm") {
        let end = end + usize::from(suffix.is_empty());
        return Some((value % 12.0 + if half == "pm" { 12.0 } else { 0.0 }, Kind::Clock, end));
    }
    match suffix {
        "k" => return Some((value * 1e3, Kind::Plain, end)),
        "m" | "mn" => return Some((value * 1e6, Kind::Plain, end)),
        "bn" => return Some((value * 1e9, Kind::Plain, end)),
        "" | "st" | "nd" | "rd" | "th" | "s" | "gb" | "mb" | "kg" | "km" | "cm" | "mm" | "g" => {}
        _ => return None,
    }
    let hour = end + usize::from(word(end) == "o'clock");
    let part = (hour..hour + 3).find(|next| !matches!(word(*next), "in" | "at" | "the")).map_or("", word);
    let named = matches!(part, "morning" | "afternoon" | "evening" | "night") && part != word(hour);
    if named && (1.0..=12.0).contains(&value) {
        return Some((value % 12.0 + if part == "morning" { 0.0 } else { 12.0 }, Kind::Clock, hour));
    }
    Some((value, if clock || hour > end { Kind::Clock } else { Kind::Plain }, hour))
}

/// The unit around a number from token `at` to `end`: kind, value in it, and the token after it.
fn unit<'a>(word: &impl Fn(usize) -> &'a str, at: usize, end: usize, value: f64) -> (Kind, f64, usize) {
    if let Some(money) = at.checked_sub(1).map(word).filter(|sign| matches!(*sign, "£" | "$" | "€")) {
        return (Kind::Money(currency(money).unwrap_or_default()), value, end);
    }
    if let Some(money) = currency(word(end)) {
        return (Kind::Money(money), value, end + 1);
    }
    if matches!(word(end), "%" | "percent") {
        return (Kind::Percent, value, end + 1);
    }
    // "2 to 4 days": both are days.
    let ranges = matches!(word(end), "to" | "or") && digits(word(end + 1)).is_some();
    let next = end + if ranges { 2 } else { 0 };
    let next = next + usize::from(BETWEEN.contains(&word(next)));
    match duration(word(next)) {
        Some(hours) => (Kind::Duration, value * hours, end),
        None => (Kind::Plain, value, end),
    }
}

/// A number in digits, what follows it in the word, and whether it is a time such as 9:30.
fn digits(word: &str) -> Option<(f64, &str, bool)> {
    let end = word.find(|c: char| !c.is_ascii_digit() && !matches!(c, '.' | ',' | ':')).unwrap_or(word.len());
    let (head, suffix) = word.split_at(end);
    if let Some((hours, minutes)) = head.split_once(':') {
        let (hours, minutes): (f64, f64) = (hours.parse().ok()?, minutes.parse().ok()?);
        return Some((hours + minutes / 60.0, suffix, true));
    }
    head.replace(',', "").parse().ok().map(|value| (value, suffix, false))
}

fn spelled(word: &str) -> Option<f64> {
    text::below_twenty(word).or_else(|| text::tens(word)).map(f64::from)
}

fn scale(word: &str) -> Option<f64> {
    Some(match word {
        "dozen" => 12.0,
        "hundred" => 1e2,
        "thousand" => 1e3,
        "million" => 1e6,
        "billion" => 1e9,
        _ => return None,
    })
}

/// Hours of a unit of time.
fn duration(word: &str) -> Option<f64> {
    Some(match word.strip_suffix('s').unwrap_or(word) {
        "second" | "sec" => 1.0 / 3600.0,
        "minute" | "min" => 1.0 / 60.0,
        "hour" | "hr" => 1.0,
        "day" => 24.0,
        "week" => 168.0,
        "month" => 730.0,
        "year" | "yr" => 8760.0,
        _ => return None,
    })
}

fn currency(word: &str) -> Option<u8> {
    Some(match word {
        "£" | "pound" | "pounds" | "gbp" => b'p',
        "$" | "dollar" | "dollars" | "usd" => b'd',
        "€" | "euro" | "euros" | "eur" => b'e',
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lexicon::Lexicon;
    use crate::terms::Terms;
    use crate::tokens::Reading;

    fn all(text: &str) -> Vec<Figure> {
        let terms = Terms::new();
        Reading::new(&terms, &Lexicon::new(&terms), text).figures
    }

    fn one(text: &str) -> Figure {
        let found = all(text);
        assert_eq!(found.len(), 1, "{text}: {found:?}");
        found[0]
    }

    #[test]
    fn the_same_amount_is_the_same_however_it_is_written() {
        for (this, that) in [
            ("£10k", "10,000 pounds"),
            ("for one day", "for 24 hours"),
            ("twelve months", "a year"),
            ("half an hour", "30 minutes"),
            ("2.75%", "2.75 percent"),
            ("at nine in the morning", "from 09:00"),
            ("half past six", "until 18:30"),
            ("at 2pm", "at 14:00"),
            ("twenty-five", "25"),
            ("two million", "2,000,000"),
            ("at ten o'clock", "10:00"),
        ] {
            assert!(one(this).is(&one(that)), "{this} = {that}");
        }
        for (this, that) in [("24 pounds", "24 hours"), ("5 days", "5 weeks"), ("£5", "$5"), ("3%", "5%")] {
            assert!(!one(this).is(&one(that)), "{this} <> {that}");
        }
        assert!(!one("a day").counts() && one("5").counts() && one("1 day").counts());
        let range = all("2 to 4 working days");
        assert!(range[0].is(&one("48 hours")) && range[1].is(&one("4 days")), "{range:?}");
    }
}
