//! Proposals: a message starts a workflow or feeds the open one of its conversation.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::approve;
use crate::catalogue::{self, Catalogue, Workflow};
use crate::config::Config;
use crate::converse::{self, Progress, Step, THIS_FIRST, Topic};
use crate::date::Windows;
use crate::deliver::Sender;
use crate::execute::REFUSED;
use crate::execution::{Execution, State};
use crate::precondition::{Circumstances, Precondition};
use crate::store::{Reply, Store, Turn};
use crate::words::Message;

const HEX_DIGITS: usize = 32;

/// Why a request about an execution failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// No such execution.
    #[error("there is no execution {0}")]
    NotFound(String),
    /// A number outside its range.
    #[error("is {0}, allowed 0..=1")]
    Confidence(f64),
    /// The state does not allow it.
    #[error("the execution is {is}, allowed {allowed}")]
    State {
        /// The state it has.
        is: &'static str,
        /// The states in which this is possible.
        allowed: &'static str,
    },
    /// Nobody said where to send what the workflow would do.
    #[error("target {0} is not configured, add [workflow.targets.{0}]")]
    TargetNotConfigured(String),
    /// Nothing undoes it, or not any more.
    #[error("cannot be undone: {0}")]
    CannotUndo(String),
    /// What nobody is done with is not deleted.
    #[error("execution {0} is under way or unknown: wait for it, or resolve it, then try again")]
    NotForgotten(String),
    /// Another request changed the execution at the same moment.
    #[error("another request of the conversation was faster")]
    Conflict,
    /// A template of the bundle does not render these values.
    #[error("a template of the bundle failed")]
    Template(#[from] catalogue::Error),
    /// The store failed.
    #[error("the store of executions failed")]
    Store(#[from] sql::Error),
    /// The task that executes ended early.
    #[error("the execution was interrupted")]
    Interrupted(#[source] tokio::task::JoinError),
}

/// A classified message.
#[derive(Debug, Clone)]
pub(crate) struct Input {
    /// Id of the conversation.
    pub(crate) conversation: String,
    /// Id of the turn.
    pub(crate) turn: String,
    /// The customer's own words.
    pub(crate) text: String,
    /// Name of the best intent, empty without one.
    pub(crate) intent: String,
    /// Its calibrated probability, 0..=1.
    pub(crate) confidence: f64,
    /// Whether the classifier stands by it.
    pub(crate) accepted: bool,
    /// Key of the customer, empty when anonymous.
    pub(crate) customer: String,
    /// Attributes of the customer, from the caller.
    pub(crate) attributes: BTreeMap<String, String>,
}

/// Everything the stage works with. Clones share it.
#[derive(Clone)]
pub(crate) struct Engine {
    pub(crate) catalogue: Catalogue,
    pub(crate) store: Store,
    pub(crate) sender: Sender,
    pub(crate) config: Arc<Config>,
    /// The windows of the date slots of each workflow.
    pub(crate) windows: Arc<BTreeMap<String, Windows>>,
    /// Where the company is: "today" in a message means today there.
    pub(crate) timezone: TimeZone,
    /// Executions that this process is sending.
    pub(crate) sending: Arc<kit::Running>,
    pub(crate) tasks: TaskTracker,
    pub(crate) shutdown: CancellationToken,
}

impl Engine {
    /// Answers a message: with the open execution, or `None` without one. A reply that is not handled is for somebody
    /// else, and its message is the question that stays open.
    pub(crate) async fn propose(
        &self,
        input: Input,
        now: Timestamp,
    ) -> Result<Option<(Execution, Reply)>, Error> {
        if !(0.0..=1.0).contains(&input.confidence) {
            return Err(Error::Confidence(input.confidence));
        }
        // The second round is for the request that lost a race and now finds what the winner stored.
        for _ in 0..2 {
            if let Some((execution, reply)) = self.store.answered(&input.conversation, &input.turn).await? {
                return Ok(Some((execution, reply)));
            }
            let open = match self.store.open_in(&input.conversation).await? {
                Some(open) if self.is_dead(&open, now) => {
                    self.end(open, "EXPIRED", now).await?;
                    None
                }
                open => open,
            };
            let message = Message::new(&input.text, now.to_zoned(self.timezone.clone()).date());
            let waiting = match &open {
                None if message.cancels(&[]) => self.store.awaiting_in(&input.conversation).await?,
                _ => None,
            };
            let answered = match (open, waiting) {
                (Some(open), _) => match self.urgent(&open, &input, &message) {
                    Some(workflow) => self.switch(open, workflow, &input, &message, now).await?,
                    None => self.feed(open, &input, &message, now).await?,
                },
                (None, Some(waiting)) => self.withdraw(waiting, &input, now).await?,
                (None, None) => match self.startable(&input) {
                    Some(workflow) => self.start(workflow, &input, &message, now).await?,
                    None => return Ok(None),
                },
            };
            if answered.is_some() {
                return Ok(answered);
            }
        }
        Err(Error::Conflict)
    }

    /// Gives up what is proposed or waits for an approval; a second time changes nothing.
    pub(crate) async fn cancel(&self, id: &str, now: Timestamp) -> Result<Execution, Error> {
        let execution = self.get(id).await?;
        match execution.state {
            State::Cancelled => Ok(execution),
            State::Proposed | State::Awaiting => self.end(execution, "", now).await?.ok_or(Error::Conflict),
            state => Err(Error::State { is: state.name(), allowed: "PROPOSED or AWAITING_APPROVAL" }),
        }
    }

    pub(crate) async fn get(&self, id: &str) -> Result<Execution, Error> {
        self.store.get(id).await?.ok_or_else(|| Error::NotFound(id.to_owned()))
    }

    /// Ends what is not approved; an empty error means that the customer wanted it so, and need not be told.
    pub(crate) async fn end(
        &self,
        execution: Execution,
        error: &str,
        now: Timestamp,
    ) -> Result<Option<Execution>, Error> {
        let from = execution.state;
        let ended =
            Execution { state: State::Cancelled, error: error.to_owned(), updated_at: now, ..execution };
        let notice = from == State::Awaiting && !error.is_empty();
        Ok(self.store.update_notice(from, ended, None, notice).await?)
    }

    /// How long an execution may stay in a state in which somebody has to say something.
    pub(crate) fn ttl(&self, state: State) -> SignedDuration {
        let Config { open_ttl_ms, approval_ttl_ms, .. } = *self.config;
        let ms = if state == State::Awaiting { approval_ttl_ms } else { open_ttl_ms };
        SignedDuration::try_from(Duration::from_millis(ms)).unwrap_or(SignedDuration::MAX)
    }

    /// Too old, or of a workflow that the bundle no longer has.
    fn is_dead(&self, open: &Execution, now: Timestamp) -> bool {
        open.is_void(now, self.ttl(open.state)) || self.catalogue.workflow(&open.workflow).is_none()
    }

    pub(crate) fn startable(&self, input: &Input) -> Option<&Arc<Workflow>> {
        let workflow = self.catalogue.for_intent(&input.intent)?;
        (input.accepted && input.confidence >= workflow.threshold).then_some(workflow)
    }

    /// The workflow that a message asks for and that may not wait for the open one, because more harm comes from it, or
    /// from waiting: a lost card is blocked before a new one is ordered.
    fn urgent(&self, open: &Execution, input: &Input, message: &Message) -> Option<&Arc<Workflow>> {
        let (current, wanted) = (self.catalogue.workflow(&open.workflow)?, self.startable(input)?);
        let first = !current.urgent && (wanted.risk, wanted.urgent) > (current.risk, false);
        (first && !open.progress.is_answered(current, message)).then_some(wanted)
    }

    /// Gives up the open proposal for another workflow. A turn that fails in between finds nothing open when
    /// it is repeated, and starts.
    async fn switch(
        &self,
        open: Execution,
        workflow: &Workflow,
        input: &Input,
        message: &Message,
        now: Timestamp,
    ) -> Answered {
        let started = self.begin(workflow, message)?;
        if self.end(open, "SUPERSEDED", now).await?.is_none() {
            return Ok(None);
        }
        self.open(workflow, input, started, THIS_FIRST, now).await
    }

    async fn start(&self, workflow: &Workflow, input: &Input, message: &Message, now: Timestamp) -> Answered {
        self.open(workflow, input, self.begin(workflow, message)?, "", now).await
    }

    /// A workflow that could not be carried out asks for nothing.
    pub(crate) fn begin(&self, workflow: &Workflow, message: &Message) -> Result<(Progress, Step), Error> {
        let target = &workflow.request.template.target;
        if !self.sender.knows(target) {
            return Err(Error::TargetNotConfigured(target.clone()));
        }
        Ok(converse::start(workflow, &self.within(workflow, message))?)
    }

    fn within(&self, workflow: &Workflow, message: &Message) -> Message {
        self.windows.get(&workflow.name).map_or_else(|| message.clone(), |windows| message.within(windows))
    }

    async fn open(
        &self,
        workflow: &Workflow,
        input: &Input,
        (progress, step): (Progress, Step),
        before: &str,
        now: Timestamp,
    ) -> Answered {
        let (execution, step, failed) = self.proposal(workflow, input, (progress, step), now);
        let step = match step {
            Step::Ask(question) if !before.is_empty() => Step::Ask(format!("{before} {question}")),
            step => step,
        };
        let reply = reply(step);
        let turn = Turn { id: input.turn.clone(), reply: reply.clone() };
        if !self.store.insert(execution.clone(), turn).await? {
            return Ok(None);
        }
        let Some(failed) = failed else { return Ok(Some((execution, reply))) };
        Ok(self.end(execution, &failed.reason, now).await?.map(|ended| (ended, reply)))
    }

    /// What is proposed, what the customer reads, and the precondition that is false already.
    pub(crate) fn proposal<'w>(
        &self,
        workflow: &'w Workflow,
        input: &Input,
        (progress, step): (Progress, Step),
        now: Timestamp,
    ) -> (Execution, Step, Option<&'w Precondition>) {
        let progress = Progress { intent: input.intent.clone(), ..progress };
        let failed =
            workflow.failed_already(&progress, input.confidence, self.around(Some(&input.attributes), now));
        let step = or_refused(step, failed, workflow, &progress);
        let id = execution_id(&input.conversation, &input.turn, &workflow.name);
        let execution = Execution {
            conversation: input.conversation.clone(),
            customer: input.customer.clone(),
            ..Execution::proposed(id, workflow, progress, input.confidence, now)
        };
        (execution, step, failed)
    }

    /// Why nothing was done, as the customer reads it; `None` when the bundle says nothing of that.
    pub(crate) fn explanation(&self, execution: &Execution) -> Option<String> {
        if let Some(told) = approve::fate(execution) {
            return Some(told.to_owned());
        }
        let workflow = self.catalogue.workflow(&execution.workflow)?;
        match execution.state {
            State::Cancelled => workflow.refusal(&execution.error, &execution.progress.slots),
            State::Failed => workflow.complaint(&execution.error, &execution.progress.slots),
            _ => None,
        }
    }

    pub(crate) fn around<'a>(
        &self,
        customer: Option<&'a BTreeMap<String, String>>,
        now: Timestamp,
    ) -> Circumstances<'a> {
        Circumstances { customer, verdict: None, now, today: now.to_zoned(self.timezone.clone()).date() }
    }

    async fn feed(&self, open: Execution, input: &Input, message: &Message, now: Timestamp) -> Answered {
        let Some(workflow) = self.catalogue.workflow(&open.workflow) else { return Ok(None) };
        let mut progress: Progress = open.progress.clone();
        let step = progress.feed(workflow, &self.within(workflow, message), self.topic(workflow, input))?;
        let around = self.around(Some(&input.attributes), now);
        let failed = workflow
            .failed_already(&progress, open.confidence, around)
            .filter(|_| matches!(step, Step::Ask(_)));
        let step = or_refused(step, failed, workflow, &progress);
        let (state, error) = match step {
            Step::Cancelled(_) if let Some(failed) = failed => (State::Cancelled, failed.reason.as_str()),
            Step::Cancelled(_) => (State::Cancelled, ""),
            Step::Exhausted => (State::Cancelled, "EXHAUSTED"),
            _ => (State::Proposed, ""),
        };
        let reply = reply(step);
        let turn = Turn { id: input.turn.clone(), reply: reply.clone() };
        let fed = Execution { state, progress, error: error.to_owned(), updated_at: now, ..open };
        let stored = self.store.update(State::Proposed, fed, Some(turn)).await?;
        Ok(stored.map(|execution| (execution, reply)))
    }

    fn topic(&self, workflow: &Workflow, input: &Input) -> Topic {
        if workflow.intents.contains(&input.intent) {
            Topic::Here
        } else if !input.accepted || input.intent.is_empty() {
            Topic::Unsure
        } else if self.catalogue.for_intent(&input.intent).is_some() {
            Topic::OtherWorkflow
        } else {
            Topic::Elsewhere
        }
    }
}

/// `None` when another request was faster.
pub(crate) type Answered = Result<Option<(Execution, Reply)>, Error>;

pub(crate) fn reply(step: Step) -> Reply {
    let handled = Reply { handled: true, ..Reply::default() };
    match step {
        Step::Elsewhere(message) => Reply { message, ..Reply::default() },
        Step::Ask(message) | Step::Cancelled(message) => Reply { message, ..handled },
        Step::Confirmed => Reply { confirmed: true, ..handled },
        Step::Exhausted => Reply { exhausted: true, ..handled },
    }
}

/// What a precondition that is already false makes of the step.
fn or_refused(step: Step, failed: Option<&Precondition>, workflow: &Workflow, progress: &Progress) -> Step {
    let Some(failed) = failed else { return step };
    let told = workflow.refusal(&failed.reason, &progress.slots);
    Step::Cancelled(told.unwrap_or_else(|| REFUSED.to_owned()))
}

/// The time in milliseconds, as the store keeps it.
pub(crate) fn now() -> Timestamp {
    let now = Timestamp::now();
    Timestamp::from_millisecond(now.as_millisecond()).unwrap_or(now)
}

/// The same turn never starts two: the id is a hash of who, when and what. Lengths keep the parts apart.
fn execution_id(conversation: &str, turn: &str, workflow: &str) -> String {
    let mut hasher = blake3::Hasher::new();
    for part in [conversation, turn, workflow] {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part.as_bytes());
    }
    format!("ex_{}", &hasher.finalize().to_hex()[..HEX_DIGITS])
}
