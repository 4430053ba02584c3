//! When people are there.

use std::collections::BTreeSet;
use std::ops::Range;

use jiff::civil::{Date, Time};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan as _, Zoned};
use serde::{Deserialize, Serialize};

/// Table `[business_hours]` as it is written. A day is "08:00-20:00", several such spans with commas between them, or
/// left out: nobody is there. Without any day people are always there, and the table says where the company is.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BusinessHours {
    /// Name of a time zone, such as "Europe/London"; left out means UTC.
    pub timezone: Option<String>,
    /// Monday.
    pub monday: String,
    /// Tuesday.
    pub tuesday: String,
    /// Wednesday.
    pub wednesday: String,
    /// Thursday.
    pub thursday: String,
    /// Friday.
    pub friday: String,
    /// Saturday.
    pub saturday: String,
    /// Sunday.
    pub sunday: String,
    /// Days on which nobody is there, whatever their weekday says.
    pub holidays: Vec<toml::value::Datetime>,
}

impl BusinessHours {
    fn days(&self) -> [(&'static str, &str); 7] {
        [
            ("monday", &self.monday),
            ("tuesday", &self.tuesday),
            ("wednesday", &self.wednesday),
            ("thursday", &self.thursday),
            ("friday", &self.friday),
            ("saturday", &self.saturday),
            ("sunday", &self.sunday),
        ]
    }
}

/// How far ahead is looked for somebody who is there, in days.
const HORIZON: usize = 3660;

/// Business hours as they are asked.
#[derive(Debug, Clone)]
pub struct Hours {
    timezone: TimeZone,
    /// By weekday from Monday: spans of minutes, in order and apart; none in all seven means always.
    days: [Vec<Range<i32>>; 7],
    holidays: BTreeSet<Date>,
}

impl Hours {
    /// Reads what is written; of nothing people are always there.
    ///
    /// # Errors
    /// What is wrong and what is allowed, each with the key it stands under.
    pub fn of(written: Option<&BusinessHours>) -> Result<Self, Vec<(&'static str, String)>> {
        let mut hours = Self { timezone: TimeZone::UTC, days: Default::default(), holidays: BTreeSet::new() };
        let Some(written) = written else { return Ok(hours) };
        let mut wrong = Vec::new();
        match written.timezone.as_deref().map(|name| (name, TimeZone::get(name))) {
            Some((_, Ok(timezone))) => hours.timezone = timezone,
            Some((name, Err(_))) => {
                let message = format!("is {name:?}, allowed a name such as \"Europe/London\"");
                wrong.push(("timezone", message));
            }
            None => {}
        }
        for ((key, text), day) in written.days().into_iter().zip(&mut hours.days) {
            match spans(text) {
                Some(spans) => *day = spans,
                None => {
                    let allowed = "allowed such as \"08:00-20:00\" or \"08:00-12:00, 13:00-17:30\", in order, up to \"24:00\"";
                    wrong.push((key, format!("is {text:?}, {allowed}")));
                }
            }
        }
        for day in &written.holidays {
            match day.to_string().parse::<Date>() {
                Ok(date) if day.time.is_none() => drop(hours.holidays.insert(date)),
                _ => wrong.push(("holidays", format!("holds {day}, allowed days such as 2026-12-25"))),
            }
        }
        if wrong.is_empty() { Ok(hours) } else { Err(wrong) }
    }

    /// When people are there again, where the company is; `None` while they are.
    pub fn back(&self, at: Timestamp) -> Option<Zoned> {
        let (opens, _) = self.spans(at).next()?;
        (opens > at).then(|| opens.to_zoned(self.timezone.clone()))
    }

    /// When people will have been there for so long since a moment; `None` if never.
    pub fn after(&self, from: Timestamp, there: SignedDuration) -> Option<Timestamp> {
        let mut left = there;
        for (opens, closes) in self.spans(from) {
            let begins = opens.max(from);
            let span = closes.duration_since(begins);
            if span >= left {
                return begins.checked_add(left).ok();
            }
            left -= span;
        }
        None
    }

    /// The spans in which people are there, in order, from the one on that has not ended.
    fn spans(&self, from: Timestamp) -> impl Iterator<Item = (Timestamp, Timestamp)> {
        let always = self.days.iter().all(Vec::is_empty);
        let today = from.to_zoned(self.timezone.clone()).date();
        let dates = std::iter::successors(Some(today), |date| date.tomorrow().ok()).take(HORIZON);
        let open = dates.filter(move |date| !always && !self.holidays.contains(date)).flat_map(move |date| {
            let day = &self.days[usize::from(date.weekday().to_monday_zero_offset().unsigned_abs())];
            day.iter().filter_map(move |span| Some((self.at(date, span.start)?, self.at(date, span.end)?)))
        });
        // A span of an hour that the clocks skip is none.
        let open = open.filter(move |(opens, closes)| *closes > from && closes > opens);
        always.then_some((from, Timestamp::MAX)).into_iter().chain(open)
    }

    fn at(&self, date: Date, minute: i32) -> Option<Timestamp> {
        let at = date.to_datetime(Time::midnight()).checked_add(minute.minutes()).ok()?;
        self.timezone.to_timestamp(at).ok()
    }
}

/// Minutes of the day; `None` for what is no list of spans in order.
fn spans(text: &str) -> Option<Vec<Range<i32>>> {
    let mut spans: Vec<Range<i32>> = Vec::new();
    for span in text.split(',').map(str::trim).filter(|_| !text.is_empty()) {
        let (opens, closes) = span.split_once('-')?;
        let span = minute(opens.trim())?..minute(closes.trim())?;
        let last = spans.last().map_or(0, |last| last.end);
        if span.is_empty() || span.start < last {
            return None;
        }
        spans.push(span);
    }
    Some(spans)
}

fn minute(text: &str) -> Option<i32> {
    let (hours, minutes) = text.split_once(':')?;
    let number = |digits: &str| {
        let plain = digits.len() == 2 && digits.bytes().all(|byte| byte.is_ascii_digit());
        plain.then(|| digits.parse::<i32>().ok()).flatten()
    };
    let minute = number(hours)? * 60 + number(minutes).filter(|minutes| *minutes < 60)?;
    (minute <= 24 * 60).then_some(minute)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hours(text: &str) -> Hours {
        Hours::of(Some(&toml::from_str(text).unwrap())).unwrap()
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    const LONDON: &str = r#"timezone = "Europe/London"
        monday = "09:00-17:00"
        friday = "09:00-12:00, 13:00-17:00"
        saturday = "22:00-24:00"
        sunday = "00:00-02:00"
        holidays = [2026-12-25, 2026-12-28]"#;

    #[test]
    fn people_are_back_at_the_next_opening_that_is_no_holiday() {
        let hours = hours(LONDON);
        for (now, back) in [
            ("2026-11-23T09:00:00Z", ""),
            ("2026-11-23T16:59:59Z", ""),
            ("2026-11-23T17:00:00Z", "2026-11-27T09:00"),
            ("2026-11-27T12:30:00Z", "2026-11-27T13:00"),
            // Past midnight people stay.
            ("2026-11-29T00:00:00Z", ""),
            // Summer time: 08:00 UTC is nine o'clock.
            ("2026-06-01T08:00:00Z", ""),
            ("2026-06-01T07:59:59Z", "2026-06-01T09:00"),
            // Christmas Day is a Friday, the Monday after it is a holiday too.
            ("2026-12-24T12:00:00Z", "2026-12-26T22:00"),
            ("2026-12-27T03:00:00Z", "2027-01-01T09:00"),
        ] {
            let found = hours.back(at(now)).map(|back| back.strftime("%Y-%m-%dT%H:%M").to_string());
            assert_eq!(found.unwrap_or_default(), back, "{now}");
        }
        assert_eq!(Hours::of(None).unwrap().back(at("2026-11-23T03:00:00Z")), None);
    }

    #[test]
    fn the_clock_stands_still_while_nobody_is_there() {
        let hours = hours(LONDON);
        let minutes = SignedDuration::from_mins;
        for (from, wait, wanted) in [
            ("2026-11-23T09:00:00Z", 30, "2026-11-23T09:30:00Z"),
            ("2026-11-23T16:50:00Z", 30, "2026-11-27T09:20:00Z"),
            ("2026-11-24T03:00:00Z", 30, "2026-11-27T09:30:00Z"),
            ("2026-11-27T11:45:00Z", 30, "2026-11-27T13:15:00Z"),
            // The clocks go back in the night of 25 October: from midnight to two o'clock it is three hours.
            ("2026-10-24T21:30:00Z", 270, "2026-10-25T02:00:00Z"),
        ] {
            assert_eq!(hours.after(at(from), minutes(wait)), Some(at(wanted)), "{from}");
        }
        let always = Hours::of(None).unwrap();
        assert_eq!(always.after(at("2026-11-24T03:00:00Z"), minutes(5)), Some(at("2026-11-24T03:05:00Z")));
    }

    #[test]
    fn what_is_no_time_of_opening_is_refused_under_its_key() {
        for (text, key) in [
            ("monday = \"9-17\"", "monday"),
            ("tuesday = \"09:00-24:01\"", "tuesday"),
            ("wednesday = \"22:00-06:00\"", "wednesday"),
            ("thursday = \"09:00-12:00, 11:00-17:00\"", "thursday"),
            ("friday = \"09:60-12:00\"", "friday"),
            ("saturday = \"closed\"", "saturday"),
            ("timezone = \"Europe/Londn\"", "timezone"),
            ("holidays = [2026-12-25T10:00:00]", "holidays"),
        ] {
            let found = Hours::of(Some(&toml::from_str(text).unwrap())).unwrap_err();
            assert_eq!(found.iter().map(|(key, _)| *key).collect::<Vec<_>>(), [key], "{text}");
        }
    }
}
