//! A draft for the person who has a handoff: what the bot would answer, under the rails that it is under itself.

use std::time::Instant;

use proto::*;

use crate::budget;
use crate::draft::Draft;
use crate::handoff::words;
use crate::keyword::Found;
use crate::turn::{Act, Orchestrator};

impl Orchestrator {
    /// A draft for the last thing the customer asked, or what is missing for one. Nothing of it reaches the customer
    /// or the record of a turn; what it costs is counted.
    pub(crate) async fn suggest(&self, handoff: &Handoff) -> Suggestion {
        let missing = |what: &str| Suggestion { missing: what.to_owned(), ..Suggestion::default() };
        let said = handoff.utterances.iter().rev().filter(|one| one.role() == Role::Customer);
        // Who only calls for a person asks nothing that could be answered.
        let mut asked = said.filter(|one| self.keywords.look(&one.text) != Found::Person);
        let Some(asked) = asked.next() else { return missing("the customer has asked nothing yet") };
        let Ok(_place) = self.turns.try_acquire() else { return missing("too many turns at the same time") };
        let text = personal::mask(&asked.text);
        let message = Message {
            conversation_id: handoff.conversation_id.clone(),
            text: text.clone(),
            ..Message::default()
        };
        let mut draft = Draft::new(self, &self.admit(&message, &Act::Say), Instant::now(), None);
        let done = Box::pin(self.suggest_in(&mut draft, &text)).await;
        if let Err(error) = self.journal.spend(std::mem::take(&mut draft.spends)).await {
            tracing::error!(%error, "what a suggestion cost is not kept");
        }
        match done {
            Ok(()) => {
                let Turn { answer, citations, .. } = draft.turn;
                Suggestion { text: answer, citations, missing: String::new() }
            }
            Err(reason) => missing(&words(reason.as_str_name(), "HANDOFF_REASON_")),
        }
    }

    async fn suggest_in(&self, draft: &mut Draft<'_>, text: &str) -> Result<(), HandoffReason> {
        let fan = Box::pin(self.fan_out(text)).await;
        draft.classified(fan.intent).await;
        if !draft.screened(fan.verdict).await {
            return Err(HandoffReason::SafetyPolicy);
        }
        draft.retrieved(fan.passages).await;
        draft.better = fan.better;
        draft.embedding = fan.embedding;
        let question = draft.masked(text);
        let accepted = draft.accepted_intent().map(|intent| intent.name.clone());
        let today = jiff::Zoned::now().date();
        if let Some(approved) = self.curated.find(&question, accepted.as_deref(), today) {
            draft.answer(approved.text.clone(), approved.citations.clone(), "curated").await;
            return Ok(());
        }
        self.generate(draft, &question, 0.0).await
    }
}

impl crate::store::Journal {
    /// Keeps what was spent outside of a turn.
    async fn spend(&self, spends: Vec<budget::Spend>) -> sql::Result<()> {
        if spends.is_empty() {
            return Ok(());
        }
        self.sql.write(move |connection| budget::keep(connection, &spends)).await
    }
}
