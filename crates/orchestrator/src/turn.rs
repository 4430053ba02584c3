//! One turn from the door to its outcome.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bundle::Assistant;
use proto::converse_response::Event;
use proto::*;
use tokio::sync::{Notify, Semaphore, mpsc};

use crate::config::Config;
use crate::curated::Curated;
use crate::draft::{Draft, Fan, announce};
use crate::gate::{self, Route};
use crate::keyword::Keywords;
use crate::locks::Locks;
use crate::stages::Stages;
use crate::store::{Accepted, Admission, Finish, Journal, Pending};

/// Added to the deadline of a turn before the reaper may take it.
const GRACE: Duration = Duration::from_secs(5);
const MAX_ID_BYTES: usize = 128;

/// Why a message was not accepted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("{field}: {message}")]
    Invalid { field: &'static str, message: String },
    #[error("request_id: already used for another message; use a new id")]
    Conflict,
    #[error("conversation_id: belongs to another customer")]
    Foreign,
    #[error("{0}")]
    Precondition(String),
    #[error("{0}: no such id")]
    NotFound(&'static str),
    #[error("too many turns at the same time")]
    Overload,
    #[error("the journal does not accept messages")]
    Journal(#[from] kit::store::Error),
}

/// What a customer does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Act {
    /// Writes.
    Say,
    /// Presses a button for the open workflow.
    Decide,
    /// Presses the button for a person.
    AskForPerson,
}

/// Where the events of a turn go; nowhere when the caller wants the whole turn only.
pub(crate) type Events = Option<mpsc::Sender<Event>>;

/// The orchestrator without its transport.
#[derive(Debug)]
pub(crate) struct Orchestrator {
    pub(crate) config: Config,
    pub(crate) assistant: Assistant,
    pub(crate) bundle: String,
    pub(crate) curated: Curated,
    pub(crate) keywords: Keywords,
    /// Category and risk of every intent.
    pub(crate) intents: BTreeMap<String, (String, Risk)>,
    /// Intents that propose a workflow.
    pub(crate) actionable: BTreeSet<String>,
    pub(crate) stages: Stages,
    pub(crate) journal: Journal,
    pub(crate) spooled: Arc<Notify>,
    pub(crate) turns: Arc<Semaphore>,
    pub(crate) locks: Locks,
}

/// Microseconds since the Unix epoch.
pub(crate) fn now() -> i64 {
    jiff::Timestamp::now().as_microsecond()
}

impl Orchestrator {
    /// Runs a turn to its outcome. Once the message is in the journal this returns `Ok`.
    pub(crate) async fn run(&self, message: Message, act: Act, events: Events) -> Result<Turn, Error> {
        let admission = self.admit(&message, &act)?;
        let start = Instant::now();
        let mut draft = Draft::new(self, &admission, start, events);
        if act == Act::AskForPerson || self.keywords.hit(&message.text) {
            let keyword = act != Act::AskForPerson;
            return self.override_turn(admission, draft, keyword).await;
        }
        let _place = self.turns.clone().try_acquire_owned().map_err(|_| Error::Overload)?;
        let _same_request = self.locks.hold(admission.request_id.as_deref()).await;
        let known = !message.conversation_id.is_empty();
        let _same_conversation = self.locks.hold(known.then_some(admission.conversation_id.as_str())).await;
        // The stages asked first have no effect: they run while the journal commits, and nothing of them
        // is shown before the message is in it.
        let (accepted, fan) =
            tokio::join!(self.journal.accept(admission.clone(), None), self.fan_out(&message.text));
        match accepted? {
            Accepted::New(conversation) => draft.conversation = conversation,
            Accepted::Done(turn) => return Ok(announce(&draft.events, *turn).await),
            Accepted::Orphan { turn_id } => return self.reap_one(&draft.events, &turn_id).await,
            Accepted::Conflict => return Err(Error::Conflict),
            Accepted::Foreign => return Err(Error::Foreign),
        }
        draft.accepted().await;
        self.decide(&mut draft, &message, fan).await;
        self.finish(draft).await
    }

    fn admit(&self, message: &Message, act: &Act) -> Result<Admission, Error> {
        let refuse = |field, message: String| Err(Error::Invalid { field, message });
        let (text, most) = (&message.text, self.config.max_text_bytes);
        if *act == Act::Say && text.trim().is_empty() || text.len() > most {
            return refuse("text", format!("{} bytes, allowed 1 to {most} and not only spaces", text.len()));
        }
        for (field, id) in [
            ("conversation_id", &message.conversation_id),
            ("request_id", &message.request_id),
            ("customer_key", &message.customer_key),
        ] {
            if id.len() > MAX_ID_BYTES || id.chars().any(char::is_control) {
                return refuse(
                    field,
                    format!("{} bytes, allowed up to {MAX_ID_BYTES} without control characters", id.len()),
                );
            }
        }
        let mut fingerprint = blake3::Hasher::new();
        for part in [&message.conversation_id, &message.customer_key, text, &format!("{act:?}")] {
            fingerprint.update(&(part.len() as u64).to_le_bytes()).update(part.as_bytes());
        }
        let id = || uuid::Uuid::now_v7().simple().to_string();
        let given = |id: &String| Some(id.clone()).filter(|id| !id.is_empty());
        let accepted_at = now();
        let budget = Duration::from_millis(self.config.turn_timeout_ms) + GRACE;
        Ok(Admission {
            turn_id: format!("t_{}", id()),
            conversation_id: given(&message.conversation_id).unwrap_or_else(|| format!("c_{}", id())),
            customer_key: message.customer_key.clone(),
            request_id: given(&message.request_id),
            fingerprint: *fingerprint.finalize().as_bytes(),
            trace_id: kit::Call::current().trace_id(),
            text: text.clone(),
            accepted_at,
            deadline: accepted_at + i64::try_from(budget.as_micros()).unwrap_or(i64::MAX),
            history: self.config.history,
        })
    }

    /// Message, outcome and handoff in one commit, without asking anyone.
    async fn override_turn(
        &self,
        admission: Admission,
        mut draft: Draft<'_>,
        keyword: bool,
    ) -> Result<Turn, Error> {
        draft.note(if keyword {
            "the message holds the keyword for a person"
        } else {
            "the customer asked for a person by button"
        });
        draft.hand_over(if keyword { HandoffReason::UserKeyword } else { HandoffReason::UserRequest });
        let events = draft.events.clone();
        let accepted = self.journal.accept(admission, Some(draft.end())).await?;
        self.spooled.notify_one();
        match accepted {
            Accepted::Done(turn) => Ok(announce(&events, *turn).await),
            Accepted::Orphan { turn_id } => self.reap_one(&events, &turn_id).await,
            Accepted::Conflict => Err(Error::Conflict),
            Accepted::Foreign | Accepted::New(_) => Err(Error::Foreign),
        }
    }

    async fn fan_out(&self, text: &str) -> Fan {
        let (intent, verdict, passages) = tokio::join!(
            self.stages.classify(text),
            self.stages.screen_input(text),
            self.stages.retrieve(text, ""),
        );
        Fan { intent, verdict, passages }
    }

    async fn decide(&self, draft: &mut Draft<'_>, message: &Message, fan: Fan) {
        if let Some(notice) = draft.conversation.handoff.clone() {
            draft.note("a person owns the conversation: the bot is mute");
            return draft.mute(notice);
        }
        if draft.conversation.first_turn && message.preferred_handler() == Handler::Human {
            draft.note("the customer chose a person from the start");
            return draft.hand_over(HandoffReason::HumanPreferred);
        }
        draft.classified(fan.intent).await;
        if !draft.screened(fan.verdict).await {
            return;
        }
        draft.retrieved(fan.passages).await;
        let question = draft.masked(&message.text);
        match draft.conversation.pending.take() {
            Some(pending) => self.resume(draft, pending, message, &question).await,
            None => self.route(draft, message, &question).await,
        }
    }

    /// The customer replies to a question of ours: a choice, a yes to a person, or something new.
    async fn resume(&self, draft: &mut Draft<'_>, pending: Pending, message: &Message, question: &str) {
        if pending.choices.is_empty() {
            if gate::takes_offer(question) {
                draft.note("the customer accepted the offer of a person");
                return draft.hand_over(HandoffReason::UserRequest);
            }
        } else if let Some(choice) = gate::chosen(&pending.choices, question) {
            draft.note(format!("the customer chose {}", choice.name));
            self.label(&pending.turn_id, &choice.name).await;
            draft.choose(choice);
            return self.route(draft, message, &pending.question).await;
        }
        self.route(draft, message, question).await;
    }

    async fn label(&self, turn_id: &str, intent: &str) {
        use prost::Message as _;
        let (turn_id, intent) = (turn_id.to_owned(), intent.to_owned());
        let label = SubmitLabelRequest { turn_id, intent, source: "customer_choice".to_owned() };
        if let Err(error) = self.journal.keep(crate::store::Kind::Label, label.encode_to_vec()).await {
            tracing::error!(%error, "a label was lost");
        }
    }

    async fn route(&self, draft: &mut Draft<'_>, message: &Message, question: &str) {
        if gate::arm(&message.customer_key) != Arm::Treatment {
            return draft.legacy();
        }
        let open = draft.conversation.execution_id.is_some();
        if (open || self.actionable.contains(draft.intent_name())) && self.act(draft, message).await {
            return;
        }
        let today = jiff::Zoned::now().date();
        let accepted = draft.accepted_intent().map(|intent| intent.name.clone());
        if let Some(approved) = self.curated.find(question, accepted.as_deref(), today) {
            draft.note("an approved answer fits");
            return draft.answer(approved.text.clone(), approved.citations.clone(), "curated").await;
        }
        let Some(intent) = draft.turn.intent.clone() else {
            draft.note("without a classification only approved answers are given");
            return draft.hand_over(HandoffReason::GuardError);
        };
        match gate::route(&intent, draft.conversation.clarifications, self.config.max_clarifications) {
            Route::Person(reason) => draft.hand_over(reason),
            Route::Ask(choices) => {
                let question = question.to_owned();
                draft.ask(Pending { question, turn_id: draft.turn.turn_id.clone(), choices });
            }
            Route::Go => self.generate(draft, question).await,
        }
    }

    async fn finish(&self, draft: Draft<'_>) -> Result<Turn, Error> {
        let events = draft.events.clone();
        let turn = self.journal.finish(draft.end()).await?;
        self.spooled.notify_one();
        Ok(announce(&events, turn).await)
    }

    /// Ends the turns that nobody will finish and that were due before `before`; returns how many.
    pub(crate) async fn reap(&self, before: i64) -> Result<usize, kit::store::Error> {
        let orphans = self.journal.orphans(before).await?;
        let n = orphans.len();
        for orphan in orphans {
            self.journal.finish(self.orphan_end(orphan).await?).await?;
        }
        if n > 0 {
            self.spooled.notify_one();
        }
        Ok(n)
    }

    async fn reap_one(&self, events: &Events, turn_id: &str) -> Result<Turn, Error> {
        let orphan = self.journal.orphan(turn_id).await?.ok_or(Error::NotFound("turn_id"))?;
        let turn = self.journal.finish(self.orphan_end(orphan).await?).await?;
        self.spooled.notify_one();
        Ok(announce(events, turn).await)
    }

    async fn orphan_end(&self, orphan: (String, String, String, i64)) -> Result<Finish, kit::store::Error> {
        let (turn_id, conversation_id, trace_id, accepted_at) = orphan;
        let text = self.journal.words(&turn_id).await?;
        let admission = Admission {
            turn_id,
            conversation_id,
            customer_key: String::new(),
            request_id: None,
            fingerprint: [0; 32],
            trace_id,
            text,
            accepted_at,
            deadline: 0,
            history: 0,
        };
        let mut draft = Draft::new(self, &admission, Instant::now(), None);
        draft.note("the process ended before the turn did");
        draft.hand_over(HandoffReason::GuardError);
        Ok(draft.end())
    }
}
