//! Whether people are there, and what a customer is told while they are not.

use bundle::{Assistant, Hours};
use jiff::{SignedDuration, Timestamp};

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

    /// Whether a handoff that nobody takes ever becomes a callback.
    pub(crate) fn has_callbacks(&self) -> bool {
        self.texts.wait_minutes.is_some()
    }

    /// Whether people have been there for long enough, at a moment, for a handoff that waits since another; both in
    /// microseconds since the Unix epoch.
    pub(crate) fn is_due(&self, since: i64, at: i64) -> bool {
        let wait = self.texts.wait_minutes.map(|minutes| SignedDuration::from_mins(minutes.into()));
        let due = wait.and_then(|wait| self.hours.after(timestamp(since), wait));
        due.is_some_and(|due| due <= timestamp(at))
    }

    /// What a conversation is told whose handoff becomes a callback.
    pub(crate) fn called_back(&self, reference: &str) -> String {
        let told = self.texts.called_back(reference);
        told.inspect_err(|error| tracing::error!(error, "handoff.callback does not render"))
            .unwrap_or_default()
    }
}

fn timestamp(micros: i64) -> Timestamp {
    Timestamp::from_microsecond(micros).unwrap_or_default()
}
