//! What callers and receivers saw, one event a line.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::Error;

/// Something that was seen from outside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case", deny_unknown_fields)]
pub enum Event {
    /// A caller got a turn for its request.
    Turn {
        /// The caller's id of the request.
        request_id: String,
        /// The turn.
        turn_id: String,
        /// How it ended, such as "ANSWERED".
        outcome: String,
        /// The handoff it was told, empty without one.
        #[serde(default)]
        handoff_id: String,
    },
    /// A caller was told that its request is not accepted, and gave it up.
    Refused {
        /// The caller's id of the request.
        request_id: String,
    },
    /// A caller's feedback was acknowledged.
    Feedback {
        /// Its id.
        feedback_id: String,
    },
    /// A receiver got a request of a workflow.
    Request {
        /// Its idempotency key.
        key: String,
        /// Whether the receiver took it for new and did what it says.
        effect: bool,
    },
}

/// What was seen, in order.
#[derive(Debug, Clone, Default)]
pub struct History(pub Vec<Event>);

impl History {
    /// Reads a file of one JSON object a line.
    ///
    /// # Errors
    /// The file cannot be read, or a line is no event.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let text = std::fs::read_to_string(path).map_err(|error| Error::File(path.to_owned(), error))?;
        let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
        let event = |(index, line): (usize, &str)| {
            serde_json::from_str(line).map_err(|error| Error::Line(path.to_owned(), index + 1, error))
        };
        Ok(Self(lines.map(event).collect::<Result<_, _>>()?))
    }
}
