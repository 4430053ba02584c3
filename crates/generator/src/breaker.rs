//! Whether a model server is worth asking now: not while it fails, not while it asked to be left alone, and not beyond its
//! limits of a minute.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// Failures in a row that open the breaker.
const IN_A_ROW: u32 = 5;
/// Calls of the last [`SPAN`] of which more than half have to fail to open it.
const CALLS: usize = 20;
const SPAN: Duration = Duration::from_secs(10);
/// Between two calls that try an open breaker.
const PROBE: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// Why a server is not asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Closed {
    /// It failed too often.
    #[error("it failed too often and is tried again in a second")]
    Broken,
    /// It said when it may be asked again.
    #[error("it asked to be left alone for a while")]
    Waiting,
    /// The limits of a minute are used up.
    #[error("its requests or tokens of a minute are used up")]
    Limited,
}

/// Calls and tokens that a server takes in a minute; 0 is no limit.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Limits {
    pub(crate) requests: u64,
    pub(crate) tokens: u64,
}

/// What is known of a server.
#[derive(Debug, Default)]
pub(crate) struct Breaker {
    failures: u32,
    /// Ends of the last calls, and whether they failed.
    ended: VecDeque<(Instant, bool)>,
    /// When the open breaker was last tried, or opened.
    tried: Option<Instant>,
    /// Until when the server wants to be left alone.
    until: Option<Instant>,
    /// Calls of the last minute with their tokens.
    sent: VecDeque<(Instant, u64)>,
}

impl Breaker {
    /// Lets a call of so many tokens pass, or says why not.
    pub(crate) fn admit(&mut self, now: Instant, tokens: u64, limits: Limits) -> Result<(), Closed> {
        if self.until.is_some_and(|until| now < until) {
            return Err(Closed::Waiting);
        }
        while self.sent.front().is_some_and(|(at, _)| now.duration_since(*at) >= MINUTE) {
            self.sent.pop_front();
        }
        let sum: u64 = self.sent.iter().map(|(_, tokens)| tokens).sum();
        let full = |limit: u64, with: u64| limit > 0 && with > limit;
        if full(limits.requests, self.sent.len() as u64 + 1)
            || full(limits.tokens, sum.saturating_add(tokens))
        {
            return Err(Closed::Limited);
        }
        match &mut self.tried {
            Some(tried) if now.duration_since(*tried) < PROBE => return Err(Closed::Broken),
            Some(tried) => *tried = now,
            None => {}
        }
        if limits.requests > 0 || limits.tokens > 0 {
            self.sent.push_back((now, tokens));
        }
        Ok(())
    }

    pub(crate) fn succeeded(&mut self, now: Instant) {
        (self.failures, self.tried) = (0, None);
        self.end(now, false);
    }

    /// `wait` is how long the server wants to be left alone.
    pub(crate) fn failed(&mut self, now: Instant, wait: Option<Duration>) {
        self.failures += 1;
        self.end(now, true);
        self.until = wait.map(|wait| now + wait).or(self.until);
        let bad = self.ended.iter().filter(|(_, failed)| *failed).count();
        let mostly = self.ended.len() >= CALLS && bad * 2 > self.ended.len();
        if self.tried.is_none() && (self.failures >= IN_A_ROW || mostly) {
            self.tried = Some(now);
        }
    }

    fn end(&mut self, now: Instant, failed: bool) {
        self.ended.push_back((now, failed));
        while self.ended.front().is_some_and(|(at, _)| now.duration_since(*at) > SPAN) {
            self.ended.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: Limits = Limits { requests: 0, tokens: 0 };

    fn second(start: Instant, seconds: f64) -> Instant {
        start + Duration::from_secs_f64(seconds)
    }

    #[test]
    fn five_failures_in_a_row_open_it_and_one_call_a_second_tries_it() {
        let (mut breaker, start) = (Breaker::default(), Instant::now());
        for _ in 0..4 {
            breaker.failed(start, None);
        }
        breaker.succeeded(start);
        for _ in 0..5 {
            assert_eq!(breaker.admit(start, 0, NONE), Ok(()));
            breaker.failed(start, None);
        }
        assert_eq!(breaker.admit(second(start, 0.9), 0, NONE), Err(Closed::Broken));
        assert_eq!(breaker.admit(second(start, 1.0), 0, NONE), Ok(()));
        assert_eq!(breaker.admit(second(start, 1.5), 0, NONE), Err(Closed::Broken), "one at a time");
        breaker.failed(second(start, 1.9), None);
        assert_eq!(breaker.admit(second(start, 2.0), 0, NONE), Ok(()));
        breaker.succeeded(second(start, 2.1));
        assert_eq!(breaker.admit(second(start, 2.1), 0, NONE), Ok(()));
    }

    #[test]
    fn mostly_failures_open_it_without_a_row_but_not_those_of_long_ago() {
        let start = Instant::now();
        let fail_two_of_three = |seconds: f64| {
            let mut breaker = Breaker::default();
            for call in 0..21 {
                let at = second(start, seconds * f64::from(call));
                if call % 3 == 0 { breaker.succeeded(at) } else { breaker.failed(at, None) }
            }
            breaker.admit(second(start, seconds * 20.0), 0, NONE)
        };
        assert_eq!(fail_two_of_three(0.1), Err(Closed::Broken));
        assert_eq!(fail_two_of_three(2.0), Ok(()));
    }

    #[test]
    fn a_server_that_asked_for_it_is_left_alone_and_its_limits_of_a_minute_hold() {
        let (mut breaker, start) = (Breaker::default(), Instant::now());
        breaker.failed(start, Some(Duration::from_secs(3)));
        assert_eq!(breaker.admit(second(start, 2.9), 0, NONE), Err(Closed::Waiting));
        assert_eq!(breaker.admit(second(start, 3.0), 0, NONE), Ok(()));
        let limits = Limits { requests: 3, tokens: 1000 };
        let mut breaker = Breaker::default();
        assert_eq!(breaker.admit(start, 600, limits), Ok(()));
        assert_eq!(breaker.admit(start, 600, limits), Err(Closed::Limited));
        assert_eq!(breaker.admit(start, 400, limits), Ok(()));
        assert_eq!(breaker.admit(second(start, 59.0), 0, limits), Ok(()));
        assert_eq!(breaker.admit(second(start, 59.0), 0, limits), Err(Closed::Limited), "three requests");
        assert_eq!(breaker.admit(second(start, 60.0), 900, limits), Ok(()));
    }
}
