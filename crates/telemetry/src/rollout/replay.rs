//! Makes the decisions of a log again, without the store they came from.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::control::{Decision, State};
use super::order::Entry;

/// A line of an exported log.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Line {
    /// Its place in the log, from 1.
    pub seq: i64,
    /// When it was written, microseconds since 1970.
    pub at_us: i64,
    /// What happened: an [`Entry`].
    pub entry: Value,
    /// What followed: a [`Decision`].
    pub decision: Value,
}

/// Where a log does not lead to the decisions that it holds.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    /// A line is none.
    #[error("line {0}: is no line of `firstline rollout decisions --json`: {1}")]
    Unreadable(usize, serde_json::Error),
    /// A line is missing or twice.
    #[error("line {line}: is number {got} of the log, expected {expected}; export it from its beginning")]
    Gap {
        /// The line, from 1.
        line: usize,
        /// Its number.
        got: i64,
        /// The number that follows the line before.
        expected: i64,
    },
    /// What happened could not have happened.
    #[error("line {0}: {1}")]
    Refused(usize, super::order::Refused),
    /// Another decision follows.
    #[error("line {line}: the log says {logged}, but {made} follows")]
    Differs {
        /// The line, from 1.
        line: usize,
        /// The decision in the log.
        logged: Value,
        /// The one that was made now.
        made: Value,
    },
}

/// Makes the decisions of a log again, from its first line on, and compares every bit; returns them.
///
/// # Errors
/// The first line at which the log does not lead to its own decisions.
pub fn replay<'l>(lines: impl Iterator<Item = &'l str>) -> Result<Vec<Decision>, Broken> {
    let (mut state, mut made) = (None, Vec::new());
    for (index, text) in lines.enumerate() {
        let line = index + 1;
        let unreadable = |error| Broken::Unreadable(line, error);
        let logged: Line = serde_json::from_str(text).map_err(unreadable)?;
        let expected = i64::try_from(line).unwrap_or(i64::MAX);
        if logged.seq != expected {
            return Err(Broken::Gap { line, got: logged.seq, expected });
        }
        let entry: Entry = serde_json::from_value(logged.entry).map_err(unreadable)?;
        let decision =
            step(&mut state, logged.at_us, &entry).map_err(|refused| Broken::Refused(line, refused))?;
        let again = serde_json::to_string(&decision).and_then(|text| serde_json::from_str(&text));
        let again: Value = again.map_err(unreadable)?;
        if again != logged.decision {
            return Err(Broken::Differs { line, logged: logged.decision, made: again });
        }
        made.push(decision);
    }
    Ok(made)
}

fn step(state: &mut Option<State>, at_us: i64, entry: &Entry) -> Result<Decision, super::order::Refused> {
    match state {
        Some(state) => state.step(at_us, entry),
        None => {
            let (begun, decision) = State::begin(at_us, entry)?;
            *state = Some(begun);
            Ok(decision)
        }
    }
}
