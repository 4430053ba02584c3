//! One turn from the door to its outcome.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bundle::Assistant;
use proto::converse_response::Event;
use proto::*;
use tokio::sync::{Notify, Semaphore, mpsc};

use crate::admit::Admission;
use crate::budget::Ledger;
use crate::config::Config;
use crate::curated::Curated;
use crate::draft::{Draft, Fan, announce};
use crate::gate;
use crate::keyword::{Found, Keywords};
use crate::later::Later;
use crate::lifeboat::Lifeboat;
use crate::locks::Locks;
use crate::mask::Own;
use crate::presence::Presence;
use crate::rollout::Rollout;
use crate::screen::Screened;
use crate::stages::{Stages, Timed};
use crate::store::{Accepted, Finish, Journal, Orphan};

/// How soon a conversation that another process has in hand is looked at again.
const BUSY: Duration = Duration::from_millis(50);

/// Why a message was not accepted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("{field}: {message}")]
    Invalid { field: &'static str, message: String },
    #[error("request_id: already used for another message; use a new id")]
    Conflict,
    #[error("conversation_id: belongs to another customer")]
    Foreign,
    #[error("execution_id: the conversation does not wait for a confirmation of this execution")]
    Stale,
    #[error("{0}")]
    Precondition(String),
    #[error("{0}: no such id")]
    NotFound(&'static str),
    #[error("too many turns at the same time")]
    Overload,
    #[error("more than {1} {0} in a minute; try again in the next one")]
    TooFast(&'static str, u32),
    #[error("the journal does not accept messages")]
    Journal(#[from] sql::Error),
}

/// What a customer does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Act {
    /// Writes.
    Say,
    /// Presses a button for the open workflow.
    Decide {
        /// The execution the button belongs to.
        execution_id: String,
    },
    /// Presses the button for a person.
    AskForPerson,
}

/// Where the events of a turn go; nowhere when the caller wants the whole turn only.
pub(crate) type Events = Option<mpsc::Sender<Event>>;

/// What the bundle says of an intent.
#[derive(Debug)]
pub(crate) struct Known {
    pub(crate) title: String,
    pub(crate) description: String,
    pub(crate) category: String,
    pub(crate) risk: Risk,
    /// Whether it goes to a person at once.
    pub(crate) handoff: bool,
}

impl Known {
    /// All intents of a bundle by their names.
    ///
    /// # Errors
    /// The bundle has problems.
    pub(crate) fn all(reader: &bundle::Reader) -> Result<BTreeMap<String, Self>, bundle::Problems> {
        let risk = |risk| match risk {
            bundle::Risk::Low => Risk::Low,
            bundle::Risk::Medium => Risk::Medium,
            bundle::Risk::High => Risk::High,
        };
        let known = reader.intents()?.into_iter().map(|intent| {
            let bundle::Intent { name, title, description, category, handoff, .. } = intent;
            (name, Self { title, description, category, risk: risk(intent.risk), handoff })
        });
        Ok(known.collect())
    }
}

/// The orchestrator without its transport.
#[derive(Debug)]
pub(crate) struct Orchestrator {
    pub(crate) config: Config,
    pub(crate) assistant: Assistant,
    pub(crate) presence: Presence,
    /// What customers had before the assistant.
    pub(crate) menu: Option<bundle::Menu>,
    pub(crate) rollout: Rollout,
    pub(crate) bundle: String,
    pub(crate) curated: Curated,
    pub(crate) keywords: Keywords,
    pub(crate) intents: BTreeMap<String, Known>,
    /// Intents that propose a workflow.
    pub(crate) actionable: BTreeSet<String>,
    /// Intents that propose it, by workflow.
    pub(crate) workflows: BTreeMap<String, Vec<String>>,
    /// What is to be done after turns.
    pub(crate) later: mpsc::Sender<Later>,
    pub(crate) stages: Stages,
    pub(crate) screened: Screened,
    pub(crate) journal: Journal,
    pub(crate) lifeboat: Lifeboat,
    pub(crate) spooled: Arc<Notify>,
    pub(crate) turns: Semaphore,
    pub(crate) ledger: Ledger,
    /// One turn at a time for a request id.
    pub(crate) requests: Locks,
    /// One turn at a time for a conversation.
    pub(crate) conversations: Locks,
    /// Turns of this process that the reaper leaves alone.
    pub(crate) running: kit::Running,
}

/// The journal's receipt for a message.
pub(crate) fn receipt(turn: &Turn) -> proto::Accepted {
    proto::Accepted { turn_id: turn.turn_id.clone(), conversation_id: turn.conversation_id.clone() }
}

/// Microseconds since the Unix epoch.
pub(crate) fn now() -> i64 {
    jiff::Timestamp::now().as_microsecond()
}

impl Orchestrator {
    /// Runs a turn to its outcome. Once the message is in the journal this returns `Ok`.
    pub(crate) async fn run(&self, message: Message, act: Act, events: Events) -> Result<Turn, Error> {
        self.check(&message, &act)?;
        let found = self.keywords.look(&message.text);
        if act == Act::AskForPerson || found == Found::Person {
            return self.override_turn(&message, &act, events).await;
        }
        self.check_pace(&message)?;
        let budget = Duration::from_millis(self.config.turn_timeout_ms);
        let waiting = async {
            let same_request = self.requests.hold(&message.request_id).await;
            (same_request, self.conversations.hold(&message.conversation_id).await)
        };
        let _alone = tokio::time::timeout(budget, waiting).await.map_err(|_| Error::Overload)?;
        let _place = self.turns.try_acquire().map_err(|_| Error::Overload)?;
        // The time of a turn begins when it is its turn.
        kit::Call::current().within(budget).scope(Box::pin(self.run_alone(message, act, found, events))).await
    }

    async fn run_alone(
        &self,
        message: Message,
        act: Act,
        found: Found,
        events: Events,
    ) -> Result<Turn, Error> {
        let admission = self.admit(&message, &act);
        let call = kit::Call::current().of_turn(&admission.turn_id);
        Box::pin(call.scope(self.run_admitted(message, admission, found, events))).await
    }

    async fn run_admitted(
        &self,
        message: Message,
        mut admission: Admission,
        found: Found,
        events: Events,
    ) -> Result<Turn, Error> {
        let _running = self.running.enter(&admission.turn_id);
        admission.masked = Some(personal::mask(&message.text));
        let mut draft = Draft::new(self, &admission, Instant::now(), events);
        // The stages asked first have no effect: they run while the journal commits, and nothing of them
        // is shown before the message is in it.
        let (accepted, fan) = tokio::join!(self.accept(admission), self.fan_out(&message.text));
        match accepted? {
            Accepted::New(conversation) => draft.conversation = conversation,
            known => return self.known(&draft.events, &draft.said, known).await,
        }
        draft.accepted().await;
        if found == Found::Offer {
            draft.offer_person();
        }
        self.decide(&mut draft, &message, fan).await;
        let later = Later::of(&draft, message);
        let turn = self.finish(draft).await?;
        self.do_later(later, &turn);
        Ok(turn)
    }

    /// Puts a message into the journal, as soon as no other process has its conversation in hand.
    async fn accept(&self, admission: Admission) -> Result<Accepted, Error> {
        let until = kit::Call::current().deadline();
        loop {
            match self.journal.accept(admission.clone(), None).await? {
                Accepted::Busy if until.is_some_and(|until| until.elapsed() > Duration::ZERO) => {
                    return Err(Error::Overload);
                }
                Accepted::Busy => tokio::time::sleep(BUSY).await,
                accepted => return Ok(accepted),
            }
        }
    }

    /// Answers a message that the journal has decided on.
    pub(crate) async fn known(&self, events: &Events, said: &str, accepted: Accepted) -> Result<Turn, Error> {
        let turn = match accepted {
            Accepted::Done(turn) => Own::shown(said, *turn),
            Accepted::Orphan { turn_id } => self.reap_one(&turn_id).await?,
            Accepted::Busy => return Err(Error::Overload),
            Accepted::Conflict => return Err(Error::Conflict),
            Accepted::Stale => return Err(Error::Stale),
            Accepted::Foreign | Accepted::New(_) => return Err(Error::Foreign),
        };
        if let Some(events) = events {
            let _ = events.send(Event::Accepted(receipt(&turn))).await;
        }
        Ok(announce(events, turn).await)
    }

    pub(crate) async fn fan_out(&self, text: &str) -> Fan {
        let ((intent, better, embedding), verdict, passages) = tokio::join!(
            self.understand(text),
            self.stages.screen_input(text),
            self.stages.retrieve(text, "", None),
        );
        Fan { intent, verdict, passages, better, embedding }
    }

    /// The classification, where it brings more to search with a better retrieval, and the vector.
    async fn understand(
        &self,
        text: &str,
    ) -> (Timed<Intent>, Option<Timed<Vec<Passage>>>, Option<Embedding>) {
        let Timed { result, ms } = self.stages.classify(text).await;
        match result {
            Err(failure) => (Timed { result: Err(failure), ms }, None, None),
            Ok((intent, embedding)) => {
                let better = self.retrieve_better(text, &intent, embedding.clone()).await;
                (Timed { result: Ok(intent), ms }, better, embedding)
            }
        }
    }

    /// Retrieves by the words of an accepted intent that asks for knowledge, which find what the customer's
    /// alone do not, and by meaning; `None` when there is neither. On the demo the words bring the right
    /// article to the first place for 9 of 10 examples instead of 5.
    pub(crate) async fn retrieve_better(
        &self,
        text: &str,
        intent: &Intent,
        embedding: Option<Embedding>,
    ) -> Option<Timed<Vec<Passage>>> {
        let informs = intent.decision() == IntentDecision::Accept && !self.actionable.contains(&intent.name);
        if informs || gate::is_unsure(intent) {
            Some(self.retrieve_for(text, intent, embedding).await)
        } else if embedding.is_some() {
            Some(self.stages.retrieve(text, "", embedding).await)
        } else {
            None
        }
    }

    pub(crate) async fn retrieve_for(
        &self,
        text: &str,
        intent: &Intent,
        embedding: Option<Embedding>,
    ) -> Timed<Vec<Passage>> {
        self.stages.retrieve(&format!("{text} {}", intent.title), &intent.category, embedding).await
    }

    async fn finish(&self, mut draft: Draft<'_>) -> Result<Turn, Error> {
        draft.offer_kept();
        draft.ask_still();
        let (events, said) = (draft.events.clone(), draft.said.clone());
        let turn = self.journal.finish(draft.end()).await?;
        self.spooled.notify_one();
        Ok(announce(&events, Own::shown(&said, turn)).await)
    }

    /// How long a turn stays this process's without being renewed, in microseconds: three times the interval at which
    /// it is.
    pub(crate) fn lease(&self) -> i64 {
        i64::try_from(self.config.reap_every_ms.saturating_mul(3000)).unwrap_or(i64::MAX / 2)
    }

    /// Keeps the turns of this process in hand, and ends those that nobody will finish; returns how many.
    pub(crate) async fn reap(&self, at_start: bool) -> Result<usize, sql::Error> {
        let running = self.running.ids();
        if !running.is_empty() {
            self.journal.renew(running, self.lease()).await?;
        }
        let mut orphans = self.journal.orphans(at_start).await?;
        orphans.retain(|orphan| !self.running.holds(&orphan.turn_id));
        let n = orphans.len();
        for orphan in orphans {
            self.journal.finish(self.orphan_end(orphan)).await?;
        }
        // Also for what another process left in the spool.
        self.spooled.notify_one();
        Ok(n)
    }

    pub(crate) async fn reap_one(&self, turn_id: &str) -> Result<Turn, Error> {
        let orphan = self.journal.orphan(turn_id).await?.ok_or(Error::NotFound("turn_id"))?;
        let turn = self.journal.finish(self.orphan_end(orphan)).await?;
        self.spooled.notify_one();
        Ok(turn)
    }

    fn orphan_end(&self, orphan: Orphan) -> Finish {
        let Orphan { turn_id, conversation_id, trace_id, accepted_at, text } = orphan;
        let admission = Admission {
            turn_id,
            conversation_id,
            customer_key: String::new(),
            request_id: None,
            fingerprint: [0; 32],
            trace_id,
            text,
            masked: None,
            accepted_at,
            lease: 0,
            history: 0,
            consent: 0,
            confirms: None,
        };
        let mut draft = Draft::new(self, &admission, Instant::now(), None);
        draft.note("the process ended before the turn did");
        draft.hand_over(HandoffReason::GuardError);
        draft.end()
    }
}
