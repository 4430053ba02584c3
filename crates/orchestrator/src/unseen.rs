//! What the assistant would have said where the menu answered: after the turn, read by nobody, kept by telemetry.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use prost::Message as _;
use proto::{Message, Outcome, Turn, TurnRecord};
use sql::{Connection, Result, values};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

use crate::draft::Draft;
use crate::rollout::Mirrored;
use crate::spool::{self, Kind, spool};
use crate::store::{Conversation, Finish, Journal};
use crate::turn::{Act, Orchestrator, now};
use crate::{budget, mask};

pub(crate) const TABLES: &str = "
CREATE TABLE unseen_cost (day INTEGER NOT NULL PRIMARY KEY, nanos INTEGER NOT NULL) STRICT;
";

/// The id of an unseen answer, from that of the turn that the customer got, in SQL.
pub(crate) const ID: &str = "'u_' || substr(turn_id, 3)";
/// Messages that wait. What is beyond is not answered unseen: nobody waits for it.
pub(crate) const WAITING: usize = 64;
/// Answers under way at the same time: customers have the machine.
const PARALLEL: usize = 2;
const DAY: i64 = 24 * 60 * 60 * 1_000_000;

/// A message that the menu has answered.
#[derive(Debug)]
pub(crate) struct Unseen {
    message: Message,
    turn_id: String,
    conversation_id: String,
    conversation: Conversation,
    mirrored: Mirrored,
    traceparent: String,
}

impl Unseen {
    /// What is to be answered unseen after a turn, if anything.
    pub(crate) fn of(draft: &mut Draft<'_>, message: Message) -> Option<Self> {
        let mirrored = draft.mirrored.clone()?;
        Some(Self {
            message,
            turn_id: format!("u_{}", draft.turn.turn_id.trim_start_matches("t_")),
            conversation_id: draft.turn.conversation_id.clone(),
            conversation: draft.conversation.clone(),
            mirrored,
            traceparent: kit::Call::current().traceparent(),
        })
    }
}

/// Answers what comes, until shutdown; then what was begun is ended, since it is paid for.
pub(crate) async fn answer(
    orchestrator: Arc<Orchestrator>,
    queue: mpsc::Receiver<Unseen>,
    shutdown: CancellationToken,
) {
    let coming = ReceiverStream::new(queue).take_until(shutdown.cancelled());
    let answer = |unseen| async {
        if let Err(error) = orchestrator.answer_unseen(unseen).await {
            tracing::warn!(%error, "an unseen answer is lost");
        }
    };
    coming.for_each_concurrent(PARALLEL, answer).await;
}

impl Orchestrator {
    /// Answers a message unseen once its turn is over, unless there is too much to do.
    pub(crate) fn answer_later(&self, unseen: Option<Unseen>, turn: &Turn) {
        let Some(unseen) = unseen.filter(|_| turn.outcome() == Outcome::Legacy) else { return };
        if self.unseen.try_send(unseen).is_err() {
            tracing::debug!("too many messages wait to be answered unseen");
        }
    }

    async fn answer_unseen(&self, unseen: Unseen) -> Result<()> {
        let most = unseen.mirrored.usd_per_day * 1e9;
        if self.journal.unseen_cost(now().div_euclid(DAY)).await? as f64 >= most {
            tracing::debug!("unseen answers have had all their money of the day");
            return Ok(());
        }
        let Ok(_place) = self.turns.try_acquire() else { return Ok(()) };
        let budget = Duration::from_millis(self.config.turn_timeout_ms);
        let call = kit::Call::resume(&unseen.traceparent).within(budget);
        let end = call.scope(Box::pin(self.draft_unseen(unseen))).await;
        self.journal.keep_unseen(end).await?;
        self.spooled.notify_one();
        Ok(())
    }

    async fn draft_unseen(&self, unseen: Unseen) -> Finish {
        let Unseen { message, turn_id, conversation_id, conversation, mirrored, .. } = unseen;
        let masked = Some(personal::mask(&message.text));
        let admission = self.admit(&message, &Act::Say);
        let admission = crate::admit::Admission { turn_id, conversation_id, masked, ..admission };
        let mut draft = Draft::new(self, &admission, Instant::now(), None);
        // No customer pays for what they do not get.
        draft.payer = budget::key("", &admission.turn_id);
        (draft.is_unseen, draft.exposure, draft.conversation) = (true, Some(mirrored.exposure), conversation);
        let fan = Box::pin(self.fan_out(&message.text)).await;
        self.decide(&mut draft, &message, fan).await;
        draft.end()
    }
}

impl Journal {
    /// What unseen answers have cost on a day since 1970, UTC, in billionths of a US dollar.
    async fn unseen_cost(&self, day: i64) -> Result<i64> {
        let query = "SELECT nanos FROM unseen_cost WHERE day = $1";
        let read =
            move |connection: &mut Connection<'_>| connection.first(query, values![day], |row| row.get(0));
        Ok(self.sql.read(read).await?.unwrap_or(0))
    }

    /// Keeps an unseen answer for telemetry, and what it cost; of a conversation that was forgotten meanwhile the cost
    /// alone.
    async fn keep_unseen(&self, end: Finish) -> Result<()> {
        let owner = self.owner.clone();
        let write = move |connection: &mut Connection<'_>| {
            let Finish { turn, record, spends, accepted_at, traceparent, .. } = &end;
            budget::keep(connection, spends)?;
            let (day, nanos) = (accepted_at.div_euclid(DAY), (turn.cost_usd * 1e9).round() as i64);
            let upsert = "INSERT INTO unseen_cost (day, nanos) VALUES ($1, $2)
                ON CONFLICT (day) DO UPDATE SET nanos = unseen_cost.nanos + excluded.nanos";
            connection.execute(upsert, values![day, nanos])?;
            connection.execute("DELETE FROM unseen_cost WHERE day < $1", values![day])?;
            connection.lock(&turn.conversation_id)?;
            let known = "SELECT 1 FROM conversation WHERE conversation_id = $1";
            if connection.first(known, values![&turn.conversation_id], |_| Ok(()))?.is_none() {
                return Ok(());
            }
            let told = spool::told(mask::kept(turn).into_owned());
            let record = TurnRecord { turn: Some(told), ..record.clone() };
            let (id, payload) = (&turn.turn_id, record.encode_to_vec());
            spool(connection, &owner, Kind::Unseen, traceparent, id, &payload)
        };
        self.sql.write(write).await
    }
}
