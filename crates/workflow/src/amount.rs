//! Amounts of money as customers write them.

use std::ops::Range;

use crate::numbers;
use crate::words::Message;

/// Longest amount in digits; more cannot be money and would overflow.
const MAX_DIGITS: usize = 15;
// ISO 4217: currencies whose minor unit is not a hundredth.
const NO_DIGITS: &[&str] = &[
    "BIF", "CLP", "DJF", "GNF", "ISK", "JPY", "KMF", "KRW", "PYG", "RWF", "UGX", "UYI", "VND", "VUV", "XAF",
    "XOF", "XPF",
];
const THREE_DIGITS: &[&str] = &["BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"];
/// What stands beside a number and makes it money, with the currencies it can mean.
const MARKS: &[(&str, &[&str])] = &[
    ("£", &["GBP"]),
    ("pound", &["GBP"]),
    ("pounds", &["GBP"]),
    ("quid", &["GBP"]),
    ("€", &["EUR"]),
    ("euro", &["EUR"]),
    ("euros", &["EUR"]),
    ("$", &["USD", "AUD", "CAD", "HKD", "NZD", "SGD"]),
    ("dollar", &["USD", "AUD", "CAD", "HKD", "NZD", "SGD"]),
    ("dollars", &["USD", "AUD", "CAD", "HKD", "NZD", "SGD"]),
    ("¥", &["JPY", "CNY"]),
    ("yen", &["JPY"]),
    ("yuan", &["CNY"]),
    ("₹", &["INR"]),
    ("rupees", &["INR"]),
    ("francs", &["CHF"]),
];
/// Codes that make a number money; the slot's own always does.
const CODES: &[&str] = &[
    "AED", "AUD", "BRL", "CAD", "CHF", "CNY", "CZK", "DKK", "EUR", "GBP", "HKD", "HUF", "ILS", "INR", "JPY",
    "KRW", "MXN", "NOK", "NZD", "PLN", "RON", "SEK", "SGD", "THB", "TRY", "USD", "ZAR",
];

/// What a slot takes: an amount of one currency between two limits, in minor units.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Amount {
    /// ISO 4217; empty takes every currency, with two minor digits.
    pub(crate) currency: String,
    pub(crate) range: std::ops::RangeInclusive<i64>,
}

/// A number that may be money.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Money {
    /// "1234.50": minor digits of the slot's currency, no separators.
    pub(crate) value: String,
    /// With its mark.
    pub(crate) span: Range<usize>,
    /// Whether a sign, a code or a word says that it is money.
    pub(crate) marked: bool,
}

impl Amount {
    /// `min` and `max` in the major unit; absent means 0 and no limit.
    pub(crate) fn new(currency: &str, min: Option<f64>, max: Option<f64>) -> Self {
        let scale = 10_f64.powi(i32::try_from(minor_digits(currency)).unwrap_or(2));
        // Saturating by definition of `as`, which is what a limit beyond every amount means.
        let minor = |limit: f64| (limit * scale).round() as i64;
        Self { currency: currency.to_owned(), range: min.map_or(0, minor)..=max.map_or(i64::MAX, minor) }
    }

    /// Every number of a message that is money of this currency or not marked as money at all, in range.
    pub(crate) fn find(&self, message: &Message) -> Vec<Money> {
        let digits = minor_digits(&self.currency);
        let read = |number: Range<usize>| {
            let beside = Beside::read(&message.text, number.clone(), &self.currency);
            let minor = parse(&message.text[number], digits)?;
            let own = self.currency.is_empty() || beside.marks.iter().all(|mark| means(mark, &self.currency));
            let fits = own && !beside.odd;
            let (span, marked) = (beside.span, !beside.marks.is_empty());
            (fits && self.range.contains(&minor)).then(|| Money { value: print(minor, digits), span, marked })
        };
        let spelled = spelled(message).into_iter().filter_map(|(number, mark, span)| {
            let minor = i64::from(number) * 10_i64.pow(u32::try_from(digits).ok()?);
            let marked = mark.is_some();
            let own = self.currency.is_empty() || mark.is_none_or(|mark| means(mark, &self.currency));
            // "That one" is no amount.
            let alone = marked || number > 1 && message.says_only(std::slice::from_ref(&span), &[]);
            let fits = own && alone && self.range.contains(&minor);
            fits.then(|| Money { value: print(minor, digits), span, marked })
        });
        numbers(&message.text).filter_map(read).chain(spelled).collect()
    }

    /// The bytes of every number that is marked as money, whatever its currency.
    pub(crate) fn any(message: &Message) -> impl Iterator<Item = Range<usize>> + '_ {
        let all = numbers(&message.text).map(|number| Beside::read(&message.text, number, ""));
        let all = all.filter(|beside| !beside.marks.is_empty()).map(|beside| beside.span);
        all.chain(spelled(message).into_iter().filter(|(_, mark, _)| mark.is_some()).map(|(.., span)| span))
    }

    /// Whether a stored value is in its one form and in range.
    pub(crate) fn accepts(&self, value: &str) -> bool {
        let digits = minor_digits(&self.currency);
        parse(value, digits).is_some_and(|minor| print(minor, digits) == value && self.range.contains(&minor))
    }
}

/// What stands beside a number.
struct Beside<'a> {
    /// The number with its marks.
    span: Range<usize>,
    /// Signs, codes and words of money.
    marks: Vec<&'a str>,
    /// Not a plain amount: negative, a share, a range, part of a word.
    odd: bool,
}

impl<'a> Beside<'a> {
    fn read(text: &'a str, number: Range<usize>, own: &str) -> Self {
        let (before, after) = (&text[..number.start], &text[number.end..]);
        let (left, right) = (before.trim_end_matches(' '), after.trim_start_matches(' '));
        let last = |inside: fn(char) -> bool| &left[left.trim_end_matches(inside).len()..];
        let first = |inside: fn(char) -> bool| &right[..right.len() - right.trim_start_matches(inside).len()];
        let is_mark = |mark: &&str| {
            !mark.is_empty()
                && (mark.eq_ignore_ascii_case(own) || CODES.contains(mark) || currencies(mark).is_some())
        };
        let lefts = [last(is_sign), last(char::is_alphabetic)].into_iter().find(is_mark);
        let rights = [first(is_sign), first(char::is_alphabetic)].into_iter().find(is_mark);
        let start = lefts.map_or(number.start, |mark| left.len() - mark.len());
        let end = rights.map_or(number.end, |mark| text.len() - right.len() + mark.len());
        let unknown = rights.is_none() && after.starts_with(char::is_alphabetic);
        let range =
            after.strip_prefix(['-', '/']).is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
        let signed = |text: &str| text.ends_with(['-', '+', '/', '#']);
        let odd = unknown || range || after.starts_with('%') || signed(before) || signed(&text[..start]);
        Self { span: start..end, marks: lefts.into_iter().chain(rights).collect(), odd }
    }
}

fn is_sign(c: char) -> bool {
    matches!(c, '£' | '€' | '$' | '¥' | '₹')
}

/// The currencies a sign or a word can mean.
fn currencies(mark: &str) -> Option<&'static [&'static str]> {
    MARKS.iter().find(|known| known.0 == mark.to_lowercase()).map(|known| known.1)
}

/// The numbers in words with the word of money after them and the bytes of both. Pounds that go on in pence are none.
fn spelled(message: &Message) -> Vec<(u32, Option<&str>, Range<usize>)> {
    let words = message.words.as_slice();
    let (mut found, mut at) = (Vec::new(), 0);
    while let Some((number, length)) = words.get(at..).map(|words| (numbers::read(words), words.len())) {
        if length == 0 {
            break;
        }
        let Some((number, length)) = number else {
            at += 1;
            continue;
        };
        let mark =
            words.get(at + length).map(|word| word.text.as_str()).filter(|mark| currencies(mark).is_some());
        let end = at + length + usize::from(mark.is_some());
        let and = usize::from(words.get(end).is_some_and(|word| word.text == "and"));
        let pence = mark.is_some() && words.get(end + and..).and_then(numbers::read).is_some();
        if !pence {
            found.push((number, mark, words[at].span.start..words[end - 1].span.end));
        }
        at = end;
    }
    found
}

fn means(mark: &str, currency: &str) -> bool {
    mark.eq_ignore_ascii_case(currency) || currencies(mark).is_some_and(|known| known.contains(&currency))
}

fn minor_digits(currency: &str) -> usize {
    match currency {
        currency if NO_DIGITS.contains(&currency) => 0,
        currency if THREE_DIGITS.contains(&currency) => 3,
        _ => 2,
    }
}

/// The numbers of a text with their separators: digits joined by `,`, `.`, `'`, or by one blank before a
/// group of three.
fn numbers(text: &str) -> impl Iterator<Item = Range<usize>> {
    let bytes = text.as_bytes();
    let digit = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_digit);
    let mut at = 0;
    std::iter::from_fn(move || {
        loop {
            let start = at + bytes.get(at..)?.iter().position(u8::is_ascii_digit)?;
            let mut end = start;
            while digit(end) {
                end += 1;
            }
            let short = end - start <= 3;
            loop {
                let joint = bytes.get(end).copied().unwrap_or_default();
                let group = (1..=3).all(|ahead| digit(end + ahead)) && !digit(end + 4);
                if !(matches!(joint, b',' | b'.' | b'\'') && digit(end + 1)
                    || joint == b' ' && short && group)
                {
                    break;
                }
                end += 1;
                while digit(end) {
                    end += 1;
                }
            }
            at = end;
            // Digits inside a word are part of a name.
            let inside = text[..start].chars().next_back().is_some_and(|c| c.is_alphanumeric() || c == '_');
            let inside = inside || text[end..].starts_with('_');
            if !inside {
                return Some(start..end);
            }
        }
    })
}

/// The minor units of a number in English or continental writing; `None` when it is neither or could be
/// read in two ways.
fn parse(number: &str, digits: usize) -> Option<i64> {
    let is_digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let point = number.rfind(['.', ',']).filter(|at| {
        let (separator, tail) = (&number[*at..=*at], number.len() - at - 1);
        let alone = number.matches(separator).count() == 1;
        let others = number[..*at].contains(['.', ',', '\'', ' ']);
        // "1,234" is grouped; "1.234" is a decimal in English and grouped on the continent.
        alone && (others || tail != 3 || (separator == "." && digits == 3))
    });
    let (whole, fraction) = point.map_or((number, ""), |at| (&number[..at], &number[at + 1..]));
    if point.is_some() && (fraction.is_empty() || fraction.len() > digits) {
        return None;
    }
    if point.is_none() && number.contains('.') && number.matches('.').count() == 1 {
        return None;
    }
    let separator = whole.chars().find(|c| !c.is_ascii_digit());
    let mut groups = whole.split(|c| Some(c) == separator);
    let head = groups.next().filter(|head| is_digits(head))?;
    let mut joined = head.to_owned();
    for group in groups {
        if group.len() != 3 || head.len() > 3 || !is_digits(group) {
            return None;
        }
        joined.push_str(group);
    }
    joined.push_str(fraction);
    joined.extend(std::iter::repeat_n('0', digits - fraction.len()));
    (is_digits(&joined) && joined.len() <= MAX_DIGITS).then(|| joined.parse().ok()).flatten()
}

fn print(minor: i64, digits: usize) -> String {
    let text = format!("{minor:0width$}", width = digits + 1);
    let (whole, fraction) = text.split_at(text.len() - digits);
    if digits == 0 { whole.to_owned() } else { format!("{whole}.{fraction}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str, currency: &str) -> String {
        let message = Message::new(text, jiff::civil::date(2026, 11, 22));
        let amounts = Amount::new(currency, Some(0.01), Some(10_000.0)).find(&message);
        let show = |money: &Money| format!("{}{}", money.value, if money.marked { "" } else { "?" });
        amounts.iter().map(show).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn amounts_are_read_as_customers_write_them() {
        for (text, wanted) in [
            ("£24.99", "24.99"),
            ("£ 24.99.", "24.99"),
            ("I paid 20 pounds", "20.00"),
            ("GBP 1,234.5", "1234.50"),
            ("1234.50 gbp", "1234.50"),
            ("1.234,50 GBP", "1234.50"),
            ("12,50 quid", "12.50"),
            ("£1 234", "1234.00"),
            ("£1'234.00", "1234.00"),
            ("£9,999,999", ""),
            ("£10000", "10000.00"),
            ("£10000.01", ""),
            ("£0", ""),
            ("£2k", ""),
            ("£-5", ""),
            ("-£5", ""),
            ("(£5)", "5.00"),
            ("£5-6", ""),
            ("£1.234", ""),
            ("£12,34,567", ""),
            ("$20", ""),
            ("20 USD", ""),
            ("20 euros", ""),
            ("20%", ""),
            ("20", "20.00?"),
            ("20 please", "20.00?"),
            ("12th", ""),
            ("card x1234", ""),
            ("£20 instead of £15", "20.00 15.00"),
            ("twenty pounds", "20.00"),
            ("I think a hundred and five quid", "105.00"),
            ("two thousand five hundred pounds", "2500.00"),
            ("twenty five", "25.00?"),
            ("twenty pounds and fifty pence", ""),
            ("twenty thousand pounds", ""),
            ("twenty euros", ""),
            ("that one", ""),
            ("two of them", ""),
            ("£99999999999999999999", ""),
            ("£", ""),
        ] {
            assert_eq!(found(text, "GBP"), wanted, "{text}");
        }
        assert_eq!(found("¥500", "JPY"), "500");
        assert_eq!(found("500.5 yen", "JPY"), "");
        assert_eq!(found("1.234 KWD", "KWD"), "1.234");
        assert_eq!(found("A$20", "AUD"), "20.00");
    }
}
