//! Personal data of a turn: masked in what is kept, put back into what its own customer reads.

use std::borrow::Cow;
use std::collections::BTreeMap;

use prost::Message as _;
use proto::{Handoff, Outcome, Redaction, Role, Turn};
use sql::{Connection, Result, values};

use crate::draft::Draft;

/// A password is never said back.
const NEVER: &str = "SECRET";

/// The turn as the journal keeps it: what a customer filled into a workflow, and what repeats it, masked.
pub(crate) fn kept(turn: &Turn) -> Cow<'_, Turn> {
    let Some(workflow) = &turn.workflow else { return Cow::Borrowed(turn) };
    let mut workflow = workflow.clone();
    workflow.slots.values_mut().for_each(|value| *value = personal::mask(value));
    Cow::Owned(Turn { answer: personal::mask(&turn.answer), workflow: Some(workflow), ..turn.clone() })
}

/// Masks what a person has read in a conversation, once its handoff is resolved: the customer's words and the packet.
pub(crate) fn conversation(connection: &mut Connection<'_>, handoff_id: &str) -> Result<()> {
    let query = "SELECT seq, text FROM utterance JOIN handoff USING (conversation_id) WHERE handoff_id = $1 AND role = $2";
    let said = connection.query(query, values![handoff_id, Role::Customer as i32], |row| {
        Ok((row.get::<i64, _>(0)?, row.get::<String, _>(1)?))
    })?;
    for (seq, text) in said {
        let masked = personal::mask(&text);
        if masked != text {
            connection.execute("UPDATE utterance SET text = $1 WHERE seq = $2", values![&masked, seq])?;
        }
    }
    let packet = "SELECT packet FROM handoff WHERE handoff_id = $1";
    let packet = connection.first(packet, values![handoff_id], |row| row.get::<Vec<u8>, _>(0))?;
    let mut packet = Handoff::decode(packet.unwrap_or_default().as_slice()).unwrap_or_default();
    packet.summary = personal::mask(&packet.summary);
    let slots = packet.workflow.iter_mut().flat_map(|workflow| workflow.slots.values_mut());
    slots.for_each(|value| *value = personal::mask(value));
    let update = "UPDATE handoff SET packet = $1 WHERE handoff_id = $2";
    connection.execute(update, values![&packet.encode_to_vec(), handoff_id]).map(|_| ())
}

/// The customer's own values behind the masks of one message. They live as long as its turn and are put into what
/// the customer reads, never into what is kept.
#[derive(Debug, Clone, Default)]
pub(crate) struct Own(BTreeMap<String, String>);

impl Own {
    /// The values of a message by the mask that stands for them. A mask that stands for several is left out, since
    /// nobody can tell which is meant.
    pub(crate) fn of(said: &str, redactions: &[Redaction]) -> Self {
        let mut values = BTreeMap::<String, Option<&str>>::new();
        for redaction in redactions.iter().filter(|redaction| redaction.r#type != NEVER) {
            let value = said.get(redaction.start as usize..redaction.end as usize);
            let first = values.entry(format!("[{}]", redaction.r#type)).or_insert(value);
            *first = first.filter(|first| Some(*first) == value);
        }
        Self(values.into_iter().filter_map(|(mask, value)| Some((mask, value?.to_owned()))).collect())
    }

    /// The values behind the masks of a turn.
    pub(crate) fn in_turn(said: &str, turn: &Turn) -> Self {
        Self::of(said, turn.safety.as_ref().map(|verdict| verdict.redactions.as_slice()).unwrap_or_default())
    }

    /// A turn of the journal as its customer reads it, who said `said`.
    pub(crate) fn shown(said: &str, mut turn: Turn) -> Turn {
        if turn.outcome() == Outcome::Answered {
            turn.answer = Self::in_turn(said, &turn).restore(&turn.answer);
        }
        turn
    }

    /// The text with the customer's values instead of their masks.
    pub(crate) fn restore(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, (mask, value)| text.replace(mask, value))
    }
}

impl Draft<'_> {
    /// What the customer wrote behind the masks of this turn.
    pub(crate) fn own(&self) -> Own {
        Own::in_turn(&self.said, &self.turn)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mask_becomes_the_customers_value_where_it_can_only_be_one_and_a_password_never() {
        let restored = |said: &str, answer: &str| {
            let found = personal::detect(said).into_iter().map(|span| Redaction {
                r#type: span.kind.name().to_owned(),
                start: span.start as u32,
                end: span.end as u32,
            });
            Own::of(said, &found.collect::<Vec<_>>()).restore(answer)
        };
        let answer = "We write to [EMAIL_ADDRESS].";
        assert_eq!(
            restored("é: ann@example.com, yes ann@example.com", answer),
            "We write to ann@example.com."
        );
        assert_eq!(restored("ann@example.com or bob@example.com", answer), answer);
        assert_eq!(restored("my e-mail is new", answer), answer);
        assert_eq!(restored("my password is hunter22", "Not [SECRET]."), "Not [SECRET].");
    }
}
