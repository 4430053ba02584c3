//! What a customer is told of the people who are not there, or not free.

use jiff::civil::Date;
use jiff::{Timestamp, Zoned};
use minijinja::{Environment, UndefinedBehavior, Value};

use crate::hours::Hours;
use crate::types::{Assistant, Handoff};

const AWAY: &str =
    "Nobody is at the desk right now; our team is back {{ day }} at {{ time }} ({{ zone }} time).";
const CALLBACK: &str = "Nobody is free right now. A colleague will get back to you; your reference is {{ reference }}. I am here meanwhile.";
/// Longest wait before a handoff becomes a callback, in minutes: a week of open hours.
const MAX_WAIT: u32 = 7 * 24 * 60;

impl Handoff {
    /// When people are back, as a customer reads it at a moment.
    ///
    /// # Errors
    /// The template does not render.
    pub fn away(&self, back: &Zoned, at: Timestamp) -> Result<String, String> {
        let today = at.to_zoned(back.time_zone().clone()).date();
        let zone = back.time_zone().iana_name().unwrap_or("local");
        let weekday = back.weekday().to_monday_zero_offset();
        let values = [
            ("day", Value::from(day(today, back.date()))),
            ("time", Value::from(back.strftime("%H:%M").to_string())),
            ("zone", Value::from(zone.rsplit('/').next().unwrap_or(zone).replace('_', " "))),
            ("date", Value::from(back.date().to_string())),
            ("weekday", Value::from(weekday)),
        ];
        render(self.away.as_deref().unwrap_or(AWAY), values)
    }

    /// What a customer reads for whom nobody was free.
    ///
    /// # Errors
    /// The template does not render.
    pub fn called_back(&self, reference: &str) -> Result<String, String> {
        let values = [("reference", Value::from(reference))];
        render(self.callback.as_deref().unwrap_or(CALLBACK), values)
    }
}

/// "today", "tomorrow", "on Monday"; from a week on with the date.
fn day(today: Date, day: Date) -> String {
    match today.until(day).map_or(i32::MAX, |span| span.get_days()) {
        0 => "today".to_owned(),
        1 => "tomorrow".to_owned(),
        2..7 => day.strftime("on %A").to_string(),
        _ => day.strftime("on %A %-d %B").to_string(),
    }
}

fn render<const N: usize>(template: &str, values: [(&'static str, Value); N]) -> Result<String, String> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    let context = Value::from_pairs(values);
    environment.render_str(template, context).map_err(|error| error.to_string())
}

/// What is wrong with the hours, and with what is told of them, each with its path.
pub(crate) fn check(assistant: &Assistant) -> Vec<([&'static str; 2], String)> {
    let hours = Hours::of(assistant.business_hours.as_ref());
    let named = |(key, message): (&'static str, String)| {
        (["business_hours", key], format!("business_hours.{key} {message}"))
    };
    let mut wrong: Vec<_> = hours.err().unwrap_or_default().into_iter().map(named).collect();
    let Handoff { wait_minutes, .. } = assistant.handoff;
    if let Some(minutes) = wait_minutes.filter(|minutes| !(1..=MAX_WAIT).contains(minutes)) {
        let message = format!("handoff.wait_minutes is {minutes}, allowed 1..={MAX_WAIT}");
        wrong.push((["handoff", "wait_minutes"], message));
    }
    let away = assistant.handoff.away(&Zoned::default(), Timestamp::UNIX_EPOCH);
    let texts = [("away", away), ("callback", assistant.handoff.called_back("h_1"))];
    for (key, told) in texts {
        let message = match told {
            Ok(text) if !text.trim().is_empty() => continue,
            Ok(_) => format!("handoff.{key} is empty; leave it out for the text that is built in"),
            Err(error) => format!("handoff.{key}: {error}"),
        };
        wrong.push((["handoff", key], message));
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_customer_reads_when_people_are_back_where_the_company_is() {
        let handoff = |away: Option<&str>| Handoff { away: away.map(str::to_owned), ..Handoff::default() };
        let told = |handoff: &Handoff, at: &str, back: &str| {
            handoff.away(&back.parse().unwrap(), at.parse().unwrap()).unwrap()
        };
        let own = handoff(None);
        for (at, back, day) in [
            ("2026-11-23T05:00:00Z", "2026-11-23T09:00[Europe/London]", "today"),
            // Where the company is it is tomorrow already.
            ("2026-11-22T12:00:00Z", "2026-11-23T09:00[Pacific/Auckland]", "today"),
            ("2026-11-27T18:00:00Z", "2026-11-28T09:00[Europe/London]", "tomorrow"),
            ("2026-11-27T18:00:00Z", "2026-11-30T09:00[Europe/London]", "on Monday"),
            ("2026-12-24T18:00:00Z", "2027-01-04T09:00[Europe/London]", "on Monday 4 January"),
        ] {
            let told = told(&own, at, back);
            assert!(told.contains(&format!("back {day} at 09:00")), "{told}");
        }
        let german = "Wir sind {{ ['Montag', 'Dienstag'][weekday] }} ({{ date }}) um {{ time }} wieder da.";
        let said = told(&handoff(Some(german)), "2026-11-27T18:00:00Z", "2026-12-01T08:30[America/New_York]");
        assert_eq!(said, "Wir sind Dienstag (2026-12-01) um 08:30 wieder da.");
        assert!(
            told(&own, "2026-11-27T18:00:00Z", "2026-11-30T09:00[America/New_York]")
                .ends_with("(New York time).")
        );
    }
}
