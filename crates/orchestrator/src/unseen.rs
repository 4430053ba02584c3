//! What the assistant would have said where the menu answered: after the turn, read by nobody, kept by telemetry.

use std::time::{Duration, Instant};

use prost::Message as _;
use proto::{Message, TurnRecord};
use sql::{Connection, Result, values};

use crate::draft::Draft;
use crate::later::spool_of;
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
    pub(crate) fn of(draft: &Draft<'_>, message: Message) -> Option<Self> {
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

impl Orchestrator {
    /// Answers a message unseen, unless its money is spent or there is too much to do.
    pub(crate) async fn answer_unseen(&self, unseen: Unseen) -> Result<()> {
        let most = unseen.mirrored.usd_per_day * 1e9;
        if self.journal.unseen_cost(now().div_euclid(DAY)).await? as f64 >= most {
            tracing::debug!("unseen answers have had all their money of the day");
            return Ok(());
        }
        let Ok(_place) = self.turns.try_acquire() else { return Ok(()) };
        let budget = Duration::from_millis(self.config.turn_timeout_ms);
        let call = kit::Call::resume(&unseen.traceparent).within(budget);
        let end = call.scope(Box::pin(self.draft_unseen(unseen))).await;
        self.journal.keep_unseen(end).await
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
            let told = spool::told(mask::kept(turn).into_owned());
            let payload = TurnRecord { turn: Some(told), ..record.clone() }.encode_to_vec();
            let (id, conversation_id) = (&turn.turn_id, &turn.conversation_id);
            spool_of(connection, conversation_id, |connection| {
                spool(connection, &owner, Kind::Unseen, traceparent, id, &payload)
            })
        };
        self.sql.write(write).await
    }
}
