//! A span of time up to now, as it is written on the command line.

use std::str::FromStr;

use anyhow::Context as _;
use jiff::{SignedDuration, Span, SpanRelativeTo, Timestamp};

/// A span of time such as "7d" or "12h", a day being 24 hours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Window(SignedDuration);

impl FromStr for Window {
    type Err = String;

    fn from_str(given: &str) -> Result<Self, String> {
        let span = given.parse::<Span>().ok();
        let length = span.and_then(|span| span.to_duration(SpanRelativeTo::days_are_24_hours()).ok());
        let length = length.filter(|length| length.is_positive());
        length.map(Self).ok_or_else(|| "allowed a time such as 7d, 12h or 90m".to_owned())
    }
}

impl Window {
    /// Its beginning.
    ///
    /// # Errors
    /// It begins before the year -9999.
    pub(crate) fn before(&self, now: Timestamp) -> anyhow::Result<Timestamp> {
        let from = now.checked_sub(self.0).context("--window: too long")?;
        Ok(from.max(Timestamp::UNIX_EPOCH))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_is_a_time_in_days_hours_or_minutes() {
        for (given, seconds) in [("7d", 604_800), ("12h", 43_200), ("1d 6h", 108_000), ("90m", 5_400)] {
            assert_eq!(given.parse(), Ok(Window(SignedDuration::from_secs(seconds))), "{given}");
        }
        for given in ["", "7", "-7d", "0s", "1 month", "soon"] {
            assert!(given.parse::<Window>().is_err(), "{given}");
        }
    }
}
