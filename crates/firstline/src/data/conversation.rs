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
            label: label(exported),
            consents: record.consent() == Consent::Granted,
            taken: filter.map_or(Some(true), |filter| filter.takes(exported, turn)),
        })
    }

    /// Whether the customer asks for a person by it and says nothing else.
    fn only_calls(&self) -> bool {
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

fn label(exported: &ExportResponse) -> Option<String> {
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
    last_s: i64,
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
