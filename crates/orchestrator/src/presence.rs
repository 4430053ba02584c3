//! Whether people are there, and what a customer is told while they are not.

use bundle::{Assistant, Hours};
use jiff::Timestamp;

/// What the bundle says of when people are there.
#[derive(Debug)]
pub(crate) struct Presence {
    hours: Hours,
    texts: bundle::Handoff,
}

impl Presence {
    /// The hours of a bundle.
    ///
    /// # Errors
    /// What is no hours.
    pub(crate) fn of(assistant: &Assistant) -> anyhow::Result<Self> {
        let hours = Hours::of(assistant.business_hours.as_ref());
        let hours = hours.map_err(|wrong| anyhow::anyhow!("business_hours of the bundle: {wrong:?}"))?;
        Ok(Self { hours, texts: assistant.handoff.clone() })
    }

    /// The words of a handoff made at a moment, in microseconds since the Unix epoch, with when people are back where
    /// nobody is there.
    pub(crate) fn told(&self, message: &str, micros: i64) -> String {
        let at = timestamp(micros);
        let away = self.hours.back(at).and_then(|back| {
            let away = self.texts.away(&back, at);
            away.inspect_err(|error| tracing::error!(error, "handoff.away does not render")).ok()
        });
        match away {
            Some(away) => format!("{message} {away}").trim_start().to_owned(),
            None => message.to_owned(),
        }
    }
}

fn timestamp(micros: i64) -> Timestamp {
    Timestamp::from_microsecond(micros).unwrap_or_default()
}
