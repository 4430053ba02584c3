//! What people say of turns and conversations, on its way to telemetry.

use prost::Message as _;
use proto::{Feedback, HandoffReason, Role};
use sql::{Connection, Result, values};

use crate::budget;
use crate::spool::{Kind, spool};
use crate::store::Journal;
use crate::turn::{Error, Orchestrator, now};

const MAX_COMMENT_BYTES: usize = 4096;
const MAX_DEMONSTRATION_BYTES: usize = 16 * 1024;
/// Words of a message that holds the keyword and nothing to be answered.
const BARE_WORDS: usize = 2;

/// A field that cannot be taken: reason, field, what is wrong and what is allowed.
type Wrong = (&'static str, &'static str, String);

/// Checks what does not depend on what is known.
pub(crate) fn check(feedback: &Feedback) -> std::result::Result<(), Wrong> {
    let Feedback { conversation_id, turn_id, comment, demonstration, intent, rating, .. } = feedback;
    let says = !demonstration.is_empty() || !intent.is_empty();
    if turn_id.is_empty() && (says || conversation_id.is_empty()) {
        let field = if says { "feedback.turn_id" } else { "feedback.conversation_id" };
        return Err(("EMPTY_FIELD", field, "must not be empty".to_owned()));
    }
    let too_long = |text: &str, most: usize| {
        (text.len() > most).then(|| format!("{} bytes, allowed up to {most}", text.len()))
    };
    if let Some(message) = too_long(comment, MAX_COMMENT_BYTES) {
        return Err(("COMMENT_TOO_LONG", "feedback.comment", message));
    }
    if let Some(message) = too_long(demonstration, MAX_DEMONSTRATION_BYTES) {
        return Err(("DEMONSTRATION_TOO_LONG", "feedback.demonstration", message));
    }
    if *rating > 5 {
        let message = format!("is {rating}, allowed 0..=5, where 0 means none");
        return Err(("RATING_OUT_OF_RANGE", "feedback.rating", message));
    }
    Ok(())
}

impl Orchestrator {
    /// Keeps checked feedback until telemetry has it. What nobody knows any more is taken too, at the pace of one
    /// conversation, so that it cannot fill the stores.
    ///
    /// # Errors
    /// `Invalid` where turn and conversation do not belong together, `TooFast`, `Journal`.
    pub(crate) async fn keep_feedback(&self, mut feedback: Feedback) -> std::result::Result<(), Error> {
        let (known, of_turn) = self.journal.about(&feedback.conversation_id, &feedback.turn_id).await?;
        match of_turn {
            Some(id) if feedback.conversation_id.is_empty() => feedback.conversation_id = id,
            Some(id) if feedback.conversation_id != id => {
                let message = "is a turn of another conversation; leave conversation_id out".to_owned();
                return Err(Error::Invalid { field: "feedback.turn_id", message });
            }
            None if feedback.conversation_id.is_empty() => {
                let message = "must be set, since nobody knows the turn any more".to_owned();
                return Err(Error::Invalid { field: "feedback.conversation_id", message });
            }
            _ => {}
        }
        let pace = if known { feedback.conversation_id.as_str() } else { "unknown" };
        if !self.ledger.admit(budget::key("", &format!("feedback {pace}")), now()) {
            return Err(Error::TooFast("feedback", self.config.budget.turns_per_minute));
        }
        if feedback.feedback_id.is_empty() {
            feedback.feedback_id = format!("f_{}", uuid::Uuid::now_v7().simple());
        }
        feedback.reply = false;
        feedback.comment = personal::mask(&feedback.comment);
        feedback.demonstration = personal::mask(&feedback.demonstration);
        self.journal.keep(Kind::Feedback, feedback.encode_to_vec()).await?;
        self.forget_wrong(&feedback).await;
        self.spooled.notify_one();
        Ok(())
    }
}

impl Journal {
    /// Whether a conversation is known, by its own id or as that of a turn, and the conversation of the turn.
    async fn about(&self, conversation_id: &str, turn_id: &str) -> Result<(bool, Option<String>)> {
        let (conversation_id, turn_id) = (conversation_id.to_owned(), turn_id.to_owned());
        let read = move |connection: &mut Connection<'_>| {
            let query = "SELECT conversation_id FROM turn WHERE turn_id = $1";
            let of_turn = connection.first(query, values![&turn_id], |row| row.get::<String, _>(0))?;
            let query = "SELECT 1 FROM conversation WHERE conversation_id = $1";
            let known = connection.first(query, values![&conversation_id], |_| Ok(()))?.is_some();
            Ok((known || of_turn.is_some(), of_turn))
        };
        self.sql.read(read).await
    }
}

/// Keeps a person's reply, masked, as what the bot should have answered.
pub(crate) fn demonstrate(
    connection: &mut Connection<'_>,
    (handoff_id, feedback_id): (&str, &str),
    text: &str,
    (owner, traceparent): (&str, &str),
) -> Result<()> {
    let Some((conversation_id, turn_id)) = answered(connection, handoff_id)? else { return Ok(()) };
    let masked = personal::mask(text);
    let demonstration = masked[..masked.floor_char_boundary(MAX_DEMONSTRATION_BYTES)].to_owned();
    let feedback_id = feedback_id.to_owned();
    let feedback =
        Feedback { feedback_id, conversation_id, turn_id, demonstration, reply: true, ..Feedback::default() };
    spool(connection, owner, Kind::Feedback, traceparent, "", &feedback.encode_to_vec())
}

/// The conversation of a handoff, and the turn that a person answers in it: the one that was handed over, until the
/// customer writes again; then what they wrote last. The bare keyword stands for what was asked before it.
fn answered(connection: &mut Connection<'_>, handoff_id: &str) -> Result<Option<(String, String)>> {
    let query = "SELECT handoff.conversation_id, turn_id, reason, context_from FROM handoff
        JOIN conversation USING (conversation_id) WHERE handoff_id = $1";
    let found = connection.first(query, values![handoff_id], |row| {
        Ok((row.get::<String, _>(0)?, row.get::<String, _>(1)?, row.get::<i32, _>(2)?, row.get::<i64, _>(3)?))
    })?;
    let Some((id, turn_id, reason, context_from)) = found else { return Ok(None) };
    let query = "SELECT role, turn_id, substr(text, 1, 100) FROM utterance WHERE conversation_id = $1 AND seq > $2 AND role IN ($3, $4)
        ORDER BY seq LIMIT 1000";
    let (customer, person) = (Role::Customer as i32, Role::Agent as i32);
    let said = connection.query(query, values![&id, context_from, customer, person], |row| {
        Ok((row.get::<i32, _>(0)?, row.get::<String, _>(1)?, row.get::<String, _>(2)?))
    })?;
    let replied = said.iter().position(|(role, ..)| *role == person).unwrap_or(said.len());
    if let Some((_, later, _)) = said[replied..].iter().rfind(|(role, ..)| *role == customer) {
        return Ok(Some((id, later.clone())));
    }
    let here = said.iter().position(|(_, turn, _)| *turn == turn_id).unwrap_or_default();
    let bare = |(.., text): &&(i32, String, String)| text.split_whitespace().count() <= BARE_WORDS;
    let calls = reason == HandoffReason::UserKeyword as i32 && said.get(here).filter(bare).is_some();
    let before = here.checked_sub(1).filter(|_| calls).map(|before| said[before].1.clone());
    Ok(Some((id, before.unwrap_or(turn_id))))
}

#[cfg(test)]
mod tests {
    use sql::Source;

    use super::*;
    use crate::spool::Entry;

    /// The turns that replies of a person belong to, with what is kept of them. "ann: " writes as the person, all else
    /// is the customer's, each a turn: t0, t1 and so on. The handoff is of the turn `handed_over`, by the keyword.
    async fn demonstrated(handed_over: &'static str, talk: &[&str]) -> Vec<(String, String)> {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::open(Source::File(dir.path().join("journal"))).await.unwrap();
        let start = move |connection: &mut Connection<'_>| {
            let blob: &[u8] = &[];
            let conversation =
                "INSERT INTO conversation (conversation_id, customer_key, created_at) VALUES ('c', '', 0)";
            connection.execute(conversation, &[])?;
            let handoff = "INSERT INTO handoff (handoff_id, conversation_id, turn_id, reason, state, assignee, created_at, packet)
                VALUES ('h', 'c', $1, 1, 2, 'ann', 0, $2)";
            connection.execute(handoff, values![handed_over, blob])
        };
        journal.sql.write(start).await.unwrap();
        for (number, said) in talk.iter().enumerate() {
            if let Some(reply) = said.strip_prefix("ann: ") {
                assert!(journal.reply("h".to_owned(), "ann".to_owned(), reply.to_owned()).await.unwrap());
                continue;
            }
            let (turn, said) = (format!("t{number}"), (*said).to_owned());
            let insert =
                "INSERT INTO utterance (conversation_id, turn_id, role, text) VALUES ('c', $1, 1, $2)";
            journal
                .sql
                .write(move |connection| connection.execute(insert, values![&turn, &said]))
                .await
                .unwrap();
        }
        let kept = journal.spooled(10).await.unwrap().into_iter().map(|one| match one.entry {
            Entry::Feedback(Feedback { turn_id, demonstration, reply: true, .. }) => (turn_id, demonstration),
            other => panic!("{other:?}"),
        });
        kept.collect()
    }

    #[tokio::test]
    async fn a_reply_is_of_the_turn_handed_over_until_the_customer_writes_again() {
        let of = |turn: &str, text: &str| (turn.to_owned(), text.to_owned());
        let talk = [
            "a fee?",
            "agent, is there a fee or not",
            "hello?",
            "ann: No, call 0151 496 0000.",
            "ann: It is free.",
            "thanks",
            "ann: Bye.",
        ];
        let wanted = [of("t1", "No, call [PHONE_NUMBER]."), of("t1", "It is free."), of("t5", "Bye.")];
        assert_eq!(demonstrated("t1", &talk).await, wanted);
        assert_eq!(demonstrated("t1", &["a fee?", "AGENT please", "ann: No."]).await, [of("t0", "No.")]);
        assert_eq!(demonstrated("t0", &["agent", "ann: Hello."]).await, [of("t0", "Hello.")]);
    }
}
