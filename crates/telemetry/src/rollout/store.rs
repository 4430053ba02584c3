//! The log of the rollout, and the units that were exposed. Nothing of a decision lives elsewhere.

use bundle::rollout::Plan;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sql::{Connection, values};
use tokio::sync::watch;

use super::control::{Decision, State};
use super::observe::{begin, observe};
use super::order::{Entry, Order, Refused};
use crate::record::{Error, Exposure, Outcome, Reason, Row};
use crate::store::Store;

pub(crate) const MIGRATION: &str = "
CREATE TABLE rollout_log (
    seq INTEGER NOT NULL PRIMARY KEY, at_us INTEGER NOT NULL, entry TEXT NOT NULL, decision TEXT NOT NULL
) STRICT;
CREATE TABLE exposures (
    id INTEGER PRIMARY KEY, rollout_id TEXT NOT NULL, epoch INTEGER NOT NULL, unit TEXT NOT NULL,
    sticky INTEGER NOT NULL, conversation_id TEXT NOT NULL, stage TEXT NOT NULL, share INTEGER NOT NULL,
    treated INTEGER NOT NULL, category TEXT NOT NULL, bundle TEXT NOT NULL,
    exposed_us INTEGER NOT NULL, received_us INTEGER NOT NULL, took_us INTEGER NOT NULL,
    escalated_us INTEGER, failed_us INTEGER, withheld_us INTEGER, ungrounded_us INTEGER,
    rated_us INTEGER, dissatisfied_us INTEGER, misrouted_us INTEGER,
    UNIQUE (rollout_id, epoch, unit)
) STRICT;
CREATE INDEX exposures_by_time ON exposures (received_us);
CREATE INDEX exposures_of ON exposures (conversation_id);
";

/// Name under which writers of the log wait for each other.
const LOCK: &str = "rollout";

/// The rollout as this process knows it, for whoever watches it.
#[derive(Debug, Clone)]
pub(crate) struct Latest(watch::Sender<Option<Known>>);

impl Default for Latest {
    fn default() -> Self {
        Self(watch::Sender::new(None))
    }
}

impl Latest {
    fn known(&self) -> Option<Known> {
        self.0.borrow().clone()
    }

    /// Takes what somebody has read, unless more is known already.
    fn learn(&self, read: &Known) {
        self.0.send_if_modified(|known| {
            let newer = known.as_ref().is_none_or(|known| known.last.seq < read.last.seq);
            if newer {
                *known = Some(read.clone());
            }
            newer
        });
    }

    pub(crate) fn watch(&self) -> watch::Receiver<Option<Known>> {
        self.0.subscribe()
    }
}

/// One row of the log.
#[derive(Debug, Clone, PartialEq)]
pub struct Logged {
    /// Its place, from 1, without gaps.
    pub seq: i64,
    /// When it was written, microseconds since 1970.
    pub at_us: i64,
    /// What happened.
    pub entry: Entry,
    /// What followed.
    pub decision: Decision,
}

/// The rollout as the log tells it.
#[derive(Debug, Clone)]
pub struct Known {
    /// The last row.
    pub last: Logged,
    /// The state after it.
    pub state: State,
    /// What followed from the last look; as the last row before there was any.
    pub looked: Decision,
}

impl Known {
    /// What an entry leads to.
    fn after(known: Option<&Self>, at_us: i64, entry: Entry) -> Result<Self, Refused> {
        let (state, decision) = match known {
            None => State::begin(at_us, &entry)?,
            Some(known) => {
                let mut state = known.state.clone();
                state.step(at_us, &entry).map(|decision| (state, decision))?
            }
        };
        let looked = match (known, &entry) {
            (Some(known), Entry::Applied { .. } | Entry::Ordered { .. }) => known.looked.clone(),
            _ => decision.clone(),
        };
        let seq = known.map_or(1, |known| known.last.seq + 1);
        Ok(Self { last: Logged { seq, at_us, entry, decision }, state, looked })
    }

    /// What applying a plan would lead to.
    ///
    /// # Errors
    /// It would be refused.
    pub(super) fn preview(&self, plan: &Plan) -> Result<Self, Refused> {
        let seen = self.state.seen().clone();
        let entry = Entry::Applied { plan: Box::new(plan.clone()), by: String::new(), seen };
        Self::after(Some(self), self.state.looked_us(), entry)
    }
}

impl Store {
    /// The rollout as the log tells it by now; `None` when nothing was applied.
    ///
    /// # Errors
    /// The store failed, or the log was written by another version.
    pub async fn rollout(&self) -> sql::Result<Option<Known>> {
        let known = self.1.known();
        let known = self.0.read(move |connection| read(connection, known.clone())).await?;
        known.iter().for_each(|known| self.1.learn(known));
        Ok(known)
    }

    /// Rows of the log after a place, at most `limit`.
    ///
    /// # Errors
    /// As [`Store::rollout`].
    pub async fn rollout_log(&self, after: i64, limit: u32) -> sql::Result<Vec<Logged>> {
        self.0.read(move |connection| rows(connection, after, limit)).await
    }

    /// Applies a plan.
    ///
    /// # Errors
    /// The rollout that is under way does not allow it.
    pub async fn apply(&self, plan: Plan, by: String) -> Result<Known, Error> {
        let apply = move |connection: &mut Connection<'_>, _: Option<&State>| {
            let seen = begin(connection)?;
            Ok(Some(Entry::Applied { plan: Box::new(plan.clone()), by: by.clone(), seen }))
        };
        self.append(apply).await?.ok_or(Error::Refused(Refused::None))
    }

    /// Gives an order.
    ///
    /// # Errors
    /// The rollout does not allow it, or there is none.
    pub async fn order(&self, order: Order, by: String, reason: String) -> Result<Known, Error> {
        let entry = Entry::Ordered { order, by, reason };
        self.append(move |_, _| Ok(Some(entry.clone()))).await?.ok_or(Error::Refused(Refused::None))
    }

    /// Looks at what was seen and decides; `None` when somebody did within the interval, or there is no rollout.
    ///
    /// # Errors
    /// The store failed: nothing is decided.
    pub async fn look(&self, grace_us: i64) -> Result<Option<Known>, Error> {
        let look = move |connection: &mut Connection<'_>, state: Option<&State>| {
            let Some(state) = state else { return Ok(None) };
            let now = connection.now()?;
            if now - state.looked_us() < i64::from(state.plan().interval_s) * 1_000_000 {
                return Ok(None);
            }
            Ok(Some(Entry::Observed(observe(connection, state, now, grace_us)?)))
        };
        self.append(look).await
    }

    /// Writes what `entry` says of the state, unless that is nothing. Whoever writes sees all that was written before, so that there is one
    /// line of decisions however many processes there are.
    async fn append<F>(&self, entry: F) -> Result<Option<Known>, Error>
    where
        F: Fn(&mut Connection<'_>, Option<&State>) -> sql::Result<Option<Entry>> + Send + Sync + 'static,
    {
        let known = self.1.known();
        let write = move |connection: &mut Connection<'_>| {
            connection.lock(LOCK)?;
            let known = read(connection, known.clone())?;
            let Some(entry) = entry(connection, known.as_ref().map(|known| &known.state))? else {
                return Ok(Ok(None));
            };
            let at_us = connection.now()?;
            let next = match Known::after(known.as_ref(), at_us, entry) {
                Ok(next) => next,
                Err(refused) => return Ok(Err(refused)),
            };
            let insert = "INSERT INTO rollout_log (seq, at_us, entry, decision) VALUES ($1, $2, $3, $4)";
            let Logged { seq, entry, decision, .. } = &next.last;
            connection.execute(insert, values![seq, at_us, &json(entry)?, &json(decision)?])?;
            Ok(Ok(Some(next)))
        };
        let known = self.0.write(write).await??;
        known.iter().for_each(|known| self.1.learn(known));
        Ok(known)
    }
}

/// Reads the log from what is known of it on.
fn read(connection: &mut Connection<'_>, mut known: Option<Known>) -> sql::Result<Option<Known>> {
    const PAGE: u32 = 1000;
    loop {
        let page = rows(connection, known.as_ref().map_or(0, |known| known.last.seq), PAGE)?;
        let full = page.len() == PAGE as usize;
        for row in page {
            known = Some(Known::after(known.as_ref(), row.at_us, row.entry).map_err(|_| malformed())?);
        }
        if !full {
            return Ok(known);
        }
    }
}

fn rows(connection: &mut Connection<'_>, after: i64, limit: u32) -> sql::Result<Vec<Logged>> {
    let query = "SELECT seq, at_us, entry, decision FROM rollout_log WHERE seq > $1 ORDER BY seq LIMIT $2";
    connection.query(query, values![after, limit], |row| {
        let (entry, decision) = (parse(row.get(2)?)?, parse(row.get(3)?)?);
        Ok(Logged { seq: row.get(0)?, at_us: row.get(1)?, entry, decision })
    })
}

fn malformed() -> sql::Error {
    sql::Error::Malformed("rollout_log".to_owned())
}

fn json(value: &impl Serialize) -> sql::Result<String> {
    serde_json::to_string(value).map_err(|_| malformed())
}

fn parse<T: DeserializeOwned>(text: &str) -> sql::Result<T> {
    serde_json::from_str(text).map_err(|_| malformed())
}

/// Takes what a newly stored turn says of the rollout; `now_us` is the database's.
pub(crate) fn note(connection: &mut Connection<'_>, row: &Row, now_us: i64) -> sql::Result<()> {
    if let Some(exposure) = &row.exposure {
        expose(connection, row, exposure, now_us)?;
    }
    let tells = row.outcome == Outcome::Handoff || row.is_withheld() || row.is_ungrounded();
    if row.exposure.is_some() || tells {
        mark(connection, &row.conversation_id)?;
    }
    Ok(())
}

/// Keeps who was exposed: of a customer, and without a key of a conversation, the first time in a rollout alone.
fn expose(
    connection: &mut Connection<'_>,
    row: &Row,
    exposure: &Exposure,
    received_us: i64,
) -> sql::Result<()> {
    const INSERT: &str =
        "INSERT INTO exposures (rollout_id, epoch, unit, sticky, conversation_id, stage, share,
            treated, category, bundle, exposed_us, received_us, took_us)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13) ON CONFLICT DO NOTHING";
    let sticky = !row.customer_hash.is_empty();
    let unit = if sticky { &row.customer_hash } else { &row.conversation_id };
    let took_us = row.timings_us.iter().find(|(stage, _)| stage == "total").map_or(0, |(_, us)| *us);
    let values = values![
        &exposure.rollout_id,
        exposure.epoch,
        unit,
        sticky,
        &row.conversation_id,
        &exposure.stage,
        exposure.share,
        exposure.treated,
        &row.category,
        &row.bundle,
        row.accepted_us,
        received_us,
        i64::try_from(took_us).unwrap_or(i64::MAX)
    ];
    connection.execute(INSERT, values).map(|_| ())
}

/// Notes the first bad event of each kind since the exposure of a conversation: of what is stored, in whatever order it
/// came.
pub(crate) fn mark(connection: &mut Connection<'_>, conversation_id: &str) -> sql::Result<()> {
    let escalated = handed_over(|reason| !reason.is_planned());
    let failed = handed_over(Reason::is_failure);
    let update = format!(
        "UPDATE exposures SET
        (escalated_us, failed_us, withheld_us, ungrounded_us) = (SELECT
            min(accepted_us) FILTER (WHERE {escalated}), min(accepted_us) FILTER (WHERE {failed}),
            min(accepted_us) FILTER (WHERE withheld = 1), min(accepted_us) FILTER (WHERE ungrounded = 1)
            FROM turns WHERE turns.conversation_id = exposures.conversation_id AND accepted_us >= exposed_us),
        (rated_us, dissatisfied_us) = (SELECT
            min(received_us) FILTER (WHERE rating > 0), min(received_us) FILTER (WHERE rating BETWEEN 1 AND 2)
            FROM feedback WHERE feedback.conversation_id = exposures.conversation_id),
        misrouted_us = (SELECT min(labels.received_us) FROM labels JOIN turns USING (turn_id)
            WHERE turns.conversation_id = exposures.conversation_id AND labels.intent <> '' AND turns.intent <> ''
            AND labels.intent <> turns.intent)
        WHERE conversation_id = $1"
    );
    connection.execute(&update, values![conversation_id]).map(|_| ())
}

/// That a turn was handed to a person for one of these reasons, in SQL.
pub(super) fn handed_over(of: fn(Reason) -> bool) -> String {
    let reasons = Reason::ALL.into_iter().filter(|reason| of(*reason));
    let numbers: Vec<_> = reasons.map(|reason| (reason as u8).to_string()).collect();
    format!("outcome = {} AND reason IN ({})", Outcome::Handoff as u8, numbers.join(", "))
}

/// As [`mark`], of the conversation of a turn.
pub(crate) fn mark_turn(connection: &mut Connection<'_>, turn_id: &str) -> sql::Result<()> {
    let query = "SELECT conversation_id FROM turns WHERE turn_id = $1";
    let conversation = connection.first(query, values![turn_id], |row| row.get::<String, _>(0))?;
    conversation.map_or(Ok(()), |conversation| mark(connection, &conversation))
}
