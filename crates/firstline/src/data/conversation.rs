//! Turns of a conversation put together again, with what people said of them.

use std::collections::BTreeMap;

use proto::{Consent, ExportResponse, HandoffReason, Outcome};

use super::filter::Filter;

/// Seconds after which a conversation is taken as complete.
const QUIET_S: i64 = 24 * 3600;
/// Turns of a conversation that are put together; the oldest go first.
const MAX_TURNS: usize = 200;
/// Longest message that asks for a person and nothing else, in words.
const CALL_WORDS: usize = 8;
/// Between two replies of a person.
const PARAGRAPH: &str = "\n\n";
/// Sources of labels, the most careful first.
const SOURCES: [&str; 5] = ["audit", "agent", "feedback", "customer_choice", "import"];

/// One turn.
#[derive(Debug, Clone, Default)]
pub(super) struct Said {
    pub(super) turn_id: String,
    pub(super) question: String,
    /// What the bot answered; empty where it handed over.
    pub(super) answer: String,
    pub(super) outcome: Outcome,
    pub(super) reason: HandoffReason,
    pub(super) bundle: String,
    /// What a person answered, or would have; empty without one.
    pub(super) demonstration: String,
    /// The right intent, where somebody said which.
    pub(super) label: Option<String>,
    pub(super) consents: bool,
    /// Whether the filter takes it; `None` where that hangs on something that was not said.
    pub(super) taken: Option<bool>,
}

impl Said {
    /// What is left of a record; `None` for a record without a turn.
    pub(super) fn of(exported: &ExportResponse, filter: Option<&Filter>) -> Option<Self> {
        let record = exported.record.as_ref()?;
        let turn = record.turn.as_ref()?;
        let outcome = turn.outcome();
        let says = matches!(outcome, Outcome::Answered | Outcome::Clarify);
        Some(Self {
            turn_id: turn.turn_id.clone(),
            question: record.question.clone(),
            answer: if says { turn.answer.clone() } else { String::new() },
            outcome,
            reason: turn.handoff.as_ref().map_or(HandoffReason::Unspecified, |notice| notice.reason()),
            bundle: turn.bundle.clone(),
            demonstration: demonstration(exported, &turn.turn_id),
            label: label_of(exported),
            consents: record.consent() == Consent::Granted,
            taken: filter.map_or(Some(true), |filter| filter.takes(exported, turn)),
        })
    }

    /// Whether the customer asks for a person by it and says nothing else.
    pub(super) fn only_calls(&self) -> bool {
        self.reason == HandoffReason::UserRequest && self.question.split_whitespace().count() <= CALL_WORDS
    }
}

/// The latest that somebody wrote for this purpose, else all that was replied to the customer.
fn demonstration(exported: &ExportResponse, turn_id: &str) -> String {
    let given = exported.feedback.iter().filter(|one| one.turn_id == turn_id);
    let (replies, written): (Vec<_>, Vec<_>) =
        given.filter(|one| !one.demonstration.is_empty()).partition(|one| one.reply);
    let replies = replies.iter().map(|one| one.demonstration.as_str()).collect::<Vec<_>>();
    written.last().map_or_else(|| replies.join(PARAGRAPH), |one| one.demonstration.clone())
}

/// The right intent, by whoever looked the closest.
fn label_of(exported: &ExportResponse) -> Option<String> {
    let of = |source: &&str| {
        exported.labels.iter().find(|label| label.source == **source && !label.intent.is_empty())
    };
    SOURCES.iter().find_map(of).map(|label| label.intent.clone())
}

/// A conversation, its turns in order.
#[derive(Debug, Default)]
pub(super) struct Conversation {
    /// Hash of the customer's key; the conversation's id where nobody knows the customer.
    pub(super) customer: String,
    pub(super) turns: Vec<Said>,
    /// When its last turn was, in seconds since 1970.
    pub(super) last_s: i64,
}

/// Whose a record is.
pub(super) fn customer(exported: &ExportResponse) -> String {
    let record = exported.record.clone().unwrap_or_default();
    let conversation = record.turn.map(|turn| turn.conversation_id).unwrap_or_default();
    if record.customer_hash.is_empty() { conversation } else { record.customer_hash }
}

impl Conversation {
    /// Who only asks for a person asks again what they asked before: what that person said answers it.
    fn settle(&mut self) {
        for here in 1..self.turns.len() {
            let [before, call] = &mut self.turns[here - 1..=here] else { continue };
            if call.only_calls() && !before.question.is_empty() && before.demonstration.is_empty() {
                before.demonstration = std::mem::take(&mut call.demonstration);
            }
        }
    }
}

/// Conversations that may go on, by their ids. Its memory is that of a day.
#[derive(Debug, Default)]
pub(super) struct Open {
    conversations: BTreeMap<String, Conversation>,
    swept_s: i64,
}

impl Open {
    /// Adds a record, which come oldest first; returns the conversations that are complete by now.
    pub(super) fn add(&mut self, exported: &ExportResponse, filter: Option<&Filter>) -> Vec<Conversation> {
        let (Some(record), Some(said)) = (&exported.record, Said::of(exported, filter)) else {
            return Vec::new();
        };
        let id = record.turn.as_ref().map(|turn| turn.conversation_id.clone()).unwrap_or_default();
        let now = record.accepted_at.unwrap_or_default().seconds;
        let complete = self.sweep(now);
        let conversation = self.conversations.entry(id).or_default();
        conversation.customer = customer(exported);
        conversation.last_s = now;
        if conversation.turns.len() == MAX_TURNS {
            conversation.turns.remove(0);
        }
        conversation.turns.push(said);
        complete
    }

    fn sweep(&mut self, now: i64) -> Vec<Conversation> {
        if now - self.swept_s < QUIET_S / 24 {
            return Vec::new();
        }
        self.swept_s = now;
        let quiet = |_: &String, conversation: &mut Conversation| now - conversation.last_s > QUIET_S;
        settled(self.conversations.extract_if(.., quiet).collect())
    }

    /// The rest.
    pub(super) fn end(self) -> Vec<Conversation> {
        settled(self.conversations.into_iter().collect())
    }
}

fn settled(conversations: Vec<(String, Conversation)>) -> Vec<Conversation> {
    let mut conversations: Vec<_> = conversations.into_iter().map(|(_, one)| one).collect();
    conversations.iter_mut().for_each(Conversation::settle);
    conversations
}

#[cfg(test)]
mod tests {
    use proto::{Feedback, HandoffNotice, Label, Turn, TurnRecord};

    use super::*;

    fn exported(conversation: &str, turn_id: &str, seconds: i64, question: &str) -> ExportResponse {
        let turn = Turn {
            conversation_id: conversation.to_owned(),
            turn_id: turn_id.to_owned(),
            answer: "We do.".to_owned(),
            outcome: Outcome::Answered.into(),
            ..Turn::default()
        };
        let accepted_at = Some(prost_types::Timestamp { seconds, nanos: 0 });
        let (turn, question) = (Some(turn), question.to_owned());
        let record = TurnRecord { turn, accepted_at, question, ..TurnRecord::default() };
        ExportResponse { record: Some(record), ..ExportResponse::default() }
    }

    fn calls(mut exported: ExportResponse, demonstrations: &[(&str, bool)]) -> ExportResponse {
        let turn = exported.record.as_mut().unwrap().turn.as_mut().unwrap();
        turn.set_outcome(Outcome::Handoff);
        let reason = HandoffReason::UserRequest.into();
        turn.handoff = Some(HandoffNotice { reason, ..HandoffNotice::default() });
        let said = |(text, reply): &(&str, bool)| Feedback {
            turn_id: turn.turn_id.clone(),
            demonstration: (*text).to_owned(),
            reply: *reply,
            ..Feedback::default()
        };
        exported.feedback = demonstrations.iter().map(said).collect();
        exported
    }

    #[test]
    fn a_bare_call_for_a_person_leaves_its_replies_to_the_question_before_and_quiet_conversations_are_complete()
     {
        let day = QUIET_S;
        let mut open = Open::default();
        let mut seen = Vec::new();
        for one in [
            exported("a", "1", day, "Do you deliver to Norway?"),
            calls(
                exported("a", "2", day + 60, "a person please"),
                &[("Hello.", true), ("Yes, we do.", true)],
            ),
            exported("b", "3", day + 90, "Do you sell kettles?"),
            calls(
                exported("b", "4", day + 95, "I want to talk to somebody about my order of last week"),
                &[("Hello.", true), ("It is late.", false), ("Sorry.", true)],
            ),
            exported("a", "5", 2 * day, "And to Iceland?"),
            exported("c", "6", 2 * day + 7200, "Hello?"),
        ] {
            seen.push(open.add(&one, None));
        }
        let complete = seen.pop().unwrap();
        assert!(seen.iter().all(Vec::is_empty));
        let said = |conversation: &Conversation| -> Vec<(String, String)> {
            conversation.turns.iter().map(|said| (said.turn_id.clone(), said.demonstration.clone())).collect()
        };
        let of = |turn: &str, demonstration: &str| (turn.to_owned(), demonstration.to_owned());
        assert_eq!(complete.len(), 1);
        // More than a call stays what it was, and what was written to be learnt stands above replies.
        assert_eq!(said(&complete[0]), [of("3", ""), of("4", "It is late.")]);
        let rest = open.end();
        let rest: Vec<_> = rest.iter().map(said).collect();
        let replied = of("1", "Hello.\n\nYes, we do.");
        assert_eq!(rest, [vec![replied, of("2", ""), of("5", "")], vec![of("6", "")]]);
    }

    #[test]
    fn the_most_careful_label_counts() {
        let labelled = |sources: &[(&str, &str)]| {
            let label = |(source, intent): &(&str, &str)| {
                let (source, intent) = ((*source).to_owned(), (*intent).to_owned());
                Label { source, intent, ..Label::default() }
            };
            let labels = sources.iter().map(label).collect();
            label_of(&ExportResponse { labels, ..ExportResponse::default() })
        };
        let all = [("customer_choice", "a"), ("audit", "b"), ("agent", "c")];
        assert_eq!(labelled(&all).as_deref(), Some("b"));
        // A disposition alone is no intent.
        assert_eq!(labelled(&[("agent", ""), ("customer_choice", "a")]).as_deref(), Some("a"));
        assert_eq!(labelled(&[("somebody", "a")]), None);
    }
}
