//! What people say of turns: feedback and labels.

pub(crate) mod server;

use sql::{Connection, values};

use crate::record::{Error, Label, check_id};
use crate::rollout::store as rollout;
use crate::store::{Cursor, Store};

/// What feedback says beside a rating; see the migrations of the store.
pub(crate) const TABLES: &str = "
ALTER TABLE feedback ADD COLUMN demonstration TEXT NOT NULL DEFAULT '';
ALTER TABLE feedback ADD COLUMN intent TEXT NOT NULL DEFAULT '';
ALTER TABLE feedback ADD COLUMN reply INTEGER NOT NULL DEFAULT 0;
";

/// What somebody says of a turn or conversation.
#[derive(Debug, Clone)]
pub struct Feedback {
    /// Id given by the sender, the key.
    pub feedback_id: String,
    /// Id of the conversation.
    pub conversation_id: String,
    /// Id of the turn, empty for the whole conversation.
    pub turn_id: String,
    /// Rating 1..=5, 0 when there is none.
    pub rating: u8,
    /// Whether the problem is solved, if said.
    pub resolved: Option<bool>,
    /// Comment, redacted by the sender.
    pub comment: String,
    /// What a person answered, redacted by the sender; empty when nothing is said of it.
    pub demonstration: String,
    /// The right intent of the turn, empty when nothing is said of it.
    pub intent: String,
    /// Whether the demonstration is what a person wrote to the customer.
    pub reply: bool,
}

impl Feedback {
    /// Checks the ids, and that what is about a turn names one.
    ///
    /// # Errors
    /// `Invalid` with the field.
    pub fn check(&self) -> Result<(), Error> {
        check_id("feedback.feedback_id", &self.feedback_id)?;
        check_id("feedback.conversation_id", &self.conversation_id)?;
        if !self.intent.is_empty() {
            check_id("feedback.intent", &self.intent)?;
        }
        if !self.turn_id.is_empty() || !self.intent.is_empty() || !self.demonstration.is_empty() {
            check_id("feedback.turn_id", &self.turn_id)?;
        }
        Ok(())
    }
}

/// Feedback that is told beside a record.
const SAID: i64 = 200;
/// Source of the labels that come as feedback.
const FEEDBACK: &str = "feedback";

impl Store {
    /// Stores feedback and returns whether its id is new; an id already there keeps its first content. The right
    /// intent of a turn becomes a label too.
    ///
    /// # Errors
    /// `Store`.
    pub async fn add_feedback(&self, feedback: Feedback, received_us: i64) -> Result<bool, Error> {
        const INSERT: &str =
            "INSERT INTO feedback (feedback_id, conversation_id, turn_id, rating, resolved, comment,
                received_us, demonstration, intent, reply)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT DO NOTHING";
        let write = move |connection: &mut Connection<'_>| {
            let values = values![
                &feedback.feedback_id,
                &feedback.conversation_id,
                &feedback.turn_id,
                feedback.rating,
                feedback.resolved.map(i64::from),
                &feedback.comment,
                received_us,
                &feedback.demonstration,
                &feedback.intent,
                i64::from(feedback.reply)
            ];
            let new = connection.execute(INSERT, values)? == 1;
            if new && !feedback.intent.is_empty() {
                let (turn_id, intent) = (feedback.turn_id.clone(), feedback.intent.clone());
                let (source, disposition) = (FEEDBACK.to_owned(), String::new());
                label(connection, &Label { turn_id, source, intent, disposition }, received_us)?;
            }
            if new && feedback.rating > 0 {
                rollout::mark(connection, &feedback.conversation_id)?;
            }
            Ok(new)
        };
        Ok(self.0.write(write).await?)
    }

    /// Stores a label; a later one of the same turn and source replaces it, as a person corrects themselves.
    ///
    /// # Errors
    /// `Store`.
    pub async fn add_label(&self, given: Label, received_us: i64) -> Result<(), Error> {
        let write = move |connection: &mut Connection<'_>| label(connection, &given, received_us);
        Ok(self.0.write(write).await?)
    }
}

/// A record with what people said of it.
#[derive(Debug)]
pub struct Said {
    /// The record, encoded.
    pub encoded: Vec<u8>,
    /// Feedback on its conversation, in the order it came.
    pub feedback: Vec<Feedback>,
    /// Labels of the turn, in the order they came.
    pub labels: Vec<Label>,
}

impl Store {
    /// As [`Store::page`], with what people said of each.
    ///
    /// # Errors
    /// `Store`.
    pub async fn page_said(
        &self,
        after: Cursor,
        to_us: i64,
        limit: u32,
    ) -> Result<Vec<(Cursor, Said)>, Error> {
        const PAGE: &str = "SELECT accepted_us, id, encoded, turn_id, conversation_id
            FROM turns JOIN records ON turn = id
            WHERE (accepted_us, id) > ($1, $2) AND accepted_us < $3 ORDER BY accepted_us, id LIMIT $4";
        let read = move |connection: &mut Connection<'_>| {
            let page = connection.query(PAGE, values![after.0, after.1, to_us, limit], |row| {
                let place = (row.get(0)?, row.get(1)?);
                let encoded: Vec<u8> = row.get(2)?;
                Ok((place, encoded, row.get::<String, _>(3)?, row.get::<String, _>(4)?))
            })?;
            let said = page.into_iter().map(|(place, encoded, turn_id, conversation_id)| {
                let feedback = feedback(connection, &conversation_id, SAID)?;
                Ok((place, Said { encoded, feedback, labels: labels(connection, &turn_id)? }))
            });
            said.collect()
        };
        Ok(self.0.read(read).await?)
    }
}

/// The feedback on a conversation in the order it came, up to a limit.
pub(crate) fn feedback(
    connection: &mut Connection<'_>,
    conversation_id: &str,
    limit: i64,
) -> sql::Result<Vec<Feedback>> {
    let query =
        "SELECT * FROM feedback WHERE conversation_id = $1 ORDER BY received_us, feedback_id LIMIT $2";
    connection.query(query, values![conversation_id, limit], |row| {
        Ok(Feedback {
            feedback_id: row.get("feedback_id")?,
            conversation_id: row.get("conversation_id")?,
            turn_id: row.get("turn_id")?,
            rating: row.get("rating")?,
            resolved: row.get("resolved")?,
            comment: row.get("comment")?,
            demonstration: row.get("demonstration")?,
            intent: row.get("intent")?,
            reply: row.get("reply")?,
        })
    })
}

/// The labels of a turn in the order they came.
fn labels(connection: &mut Connection<'_>, turn_id: &str) -> sql::Result<Vec<Label>> {
    let query =
        "SELECT source, intent, disposition FROM labels WHERE turn_id = $1 ORDER BY received_us, source";
    connection.query(query, values![turn_id], |row| {
        let turn_id = turn_id.to_owned();
        Ok(Label { turn_id, source: row.get(0)?, intent: row.get(1)?, disposition: row.get(2)? })
    })
}

/// Inserts a label, or replaces that of the same turn and source.
pub(crate) fn label(connection: &mut Connection<'_>, label: &Label, received_us: i64) -> sql::Result<()> {
    const INSERT: &str = "INSERT INTO labels (turn_id, source, intent, received_us, disposition)
        VALUES ($1, $2, $3, $4, $5) ON CONFLICT (turn_id, source) DO UPDATE SET intent = excluded.intent,
        received_us = excluded.received_us, disposition = excluded.disposition";
    let values = values![&label.turn_id, &label.source, &label.intent, received_us, &label.disposition];
    connection.execute(INSERT, values)?;
    rollout::mark_turn(connection, &label.turn_id)
}
