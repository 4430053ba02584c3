//! What people say of turns and conversations, on its way to telemetry.

use prost::Message as _;
use proto::{Feedback, Role};
use sql::{Connection, Result, values};

use crate::budget;
use crate::spool::{Kind, spool};
use crate::store::Journal;
use crate::turn::{Error, Orchestrator, now};

const MAX_COMMENT_BYTES: usize = 4096;
const MAX_DEMONSTRATION_BYTES: usize = 16 * 1024;

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

/// Keeps a person's reply, masked, as what the bot should have answered. It belongs to the turn that was handed over,
/// until the customer writes again: then to what they wrote last.
pub(crate) fn demonstrate(
    connection: &mut Connection<'_>,
    (handoff_id, feedback_id): (&str, &str),
    text: &str,
    (owner, traceparent): (&str, &str),
) -> Result<()> {
    let query = "SELECT handoff.conversation_id, coalesce(
            (SELECT turn_id FROM utterance AS later WHERE later.conversation_id = handoff.conversation_id
                AND role = $2 AND seq > (SELECT min(seq) FROM utterance AS reply
                    WHERE reply.conversation_id = handoff.conversation_id AND role = $3 AND seq > context_from)
                ORDER BY seq DESC LIMIT 1), handoff.turn_id)
        FROM handoff JOIN conversation USING (conversation_id) WHERE handoff_id = $1";
    let roles = (Role::Customer as i32, Role::Agent as i32);
    let about = connection.first(query, values![handoff_id, roles.0, roles.1], |row| {
        Ok((row.get::<String, _>(0)?, row.get::<String, _>(1)?))
    })?;
    let Some((conversation_id, turn_id)) = about else { return Ok(()) };
    let masked = personal::mask(text);
    let demonstration = masked[..masked.floor_char_boundary(MAX_DEMONSTRATION_BYTES)].to_owned();
    let feedback_id = feedback_id.to_owned();
    let feedback =
        Feedback { feedback_id, conversation_id, turn_id, demonstration, reply: true, ..Feedback::default() };
    spool(connection, owner, Kind::Feedback, traceparent, "", &feedback.encode_to_vec())
}

#[cfg(test)]
mod tests {
    use sql::Source;

    use super::*;
    use crate::spool::Entry;

    #[tokio::test]
    async fn a_reply_is_of_the_turn_handed_over_until_the_customer_writes_again() {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::open(Source::File(dir.path().join("journal"))).await.unwrap();
        let start = |connection: &mut Connection<'_>| {
            let blob: &[u8] = &[];
            connection.execute(
                "INSERT INTO conversation (conversation_id, customer_key, created_at) VALUES ('c', '', 0)",
                &[],
            )?;
            let handoff = "INSERT INTO handoff (handoff_id, conversation_id, turn_id, reason, state, assignee, created_at, packet)
                VALUES ('h', 'c', 't1', 1, 2, 'ann', 0, $1)";
            connection.execute(handoff, values![blob])
        };
        journal.sql.write(start).await.unwrap();
        let writes = async |turn: &str| {
            let turn = turn.to_owned();
            let insert =
                "INSERT INTO utterance (conversation_id, turn_id, role, text) VALUES ('c', $1, 1, 'hello?')";
            journal.sql.write(move |connection| connection.execute(insert, values![&turn])).await.unwrap();
        };
        let replies = async |text: &str| {
            assert!(journal.reply("h".to_owned(), "ann".to_owned(), text.to_owned()).await.unwrap());
        };
        for turn in ["t1", "t2"] {
            writes(turn).await;
        }
        replies("Call 0151 496 0000.").await;
        replies("It is free.").await;
        writes("t3").await;
        replies("You're welcome.").await;
        let spooled = journal.spooled(10).await.unwrap();
        let kept: Vec<_> = spooled
            .into_iter()
            .map(|one| match one.entry {
                Entry::Feedback(Feedback { turn_id, demonstration, .. }) => (turn_id, demonstration),
                other => panic!("{other:?}"),
            })
            .collect();
        let kept: Vec<_> = kept.iter().map(|(turn, said)| (turn.as_str(), said.as_str())).collect();
        let wanted = [("t1", "Call [PHONE_NUMBER]."), ("t1", "It is free."), ("t3", "You're welcome.")];
        assert_eq!(kept, wanted);
    }
}
