//! What the stores hold.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use prost::Message as _;
use proto::Turn;
use sql::{Connection, Result, Row, Source, Store, values};

use crate::rollout::{self, Logged};
use crate::{Error, Scope};

/// A turn of the journal.
#[derive(Debug)]
pub(crate) struct Kept {
    pub(crate) turn_id: String,
    pub(crate) conversation_id: String,
    pub(crate) request_id: Option<String>,
    /// Until when a process has it in hand.
    pub(crate) deadline: i64,
    pub(crate) outcome: Option<i32>,
    /// As it ended.
    pub(crate) turn: Option<Turn>,
}

/// A handoff of the queue.
#[derive(Debug)]
pub(crate) struct Queued {
    pub(crate) conversation_id: String,
    pub(crate) turn_id: String,
    pub(crate) state: i32,
    /// How often it changed its place in the queue.
    pub(crate) step: i64,
    /// Helpdesks that are told of it.
    pub(crate) sent_to: BTreeSet<String>,
}

/// A word of a handoff to a helpdesk.
#[derive(Debug)]
pub(crate) struct Delivery {
    pub(crate) handoff_id: String,
    pub(crate) connector: String,
    pub(crate) part: i64,
    pub(crate) state: i32,
    pub(crate) attempt: i64,
    /// Whether the handoff is in the queue.
    pub(crate) queued: bool,
}

/// An execution.
#[derive(Debug)]
pub(crate) struct Execution {
    pub(crate) workflow: String,
    pub(crate) state: String,
    pub(crate) confidence: f64,
    pub(crate) threshold: f64,
    pub(crate) attempts: i64,
    pub(crate) lease: i64,
    pub(crate) confirmed_in: String,
    pub(crate) resolved_by: String,
    pub(crate) approved_by: String,
    /// Whether its conversation has still to be told, and since when it has ended, in milliseconds.
    pub(crate) untold: Option<i64>,
}

/// Everything, read at about the same time.
#[derive(Debug, Default)]
pub(crate) struct Stores {
    /// Now, by the clock of the orchestrator's store.
    pub(crate) now: i64,
    pub(crate) turns: Vec<Kept>,
    pub(crate) conversations: BTreeSet<String>,
    pub(crate) handoffs: BTreeMap<String, Queued>,
    pub(crate) deliveries: Vec<Delivery>,
    /// Turns whose record waits for telemetry.
    pub(crate) spooled: BTreeSet<String>,
    /// Feedback that waits for telemetry.
    pub(crate) feedback_spooled: BTreeSet<String>,
    /// When the entries that wait were put there.
    pub(crate) waiting_since: Vec<i64>,
    pub(crate) executions: BTreeMap<String, Execution>,
    pub(crate) recorded: BTreeSet<String>,
    pub(crate) feedback: BTreeSet<String>,
    pub(crate) rollout: Vec<Logged>,
    /// Files of SQLite.
    pub(crate) files: Vec<PathBuf>,
}

impl Stores {
    pub(crate) async fn read(scope: &Scope) -> std::result::Result<Self, Error> {
        let mut stores = Self::default();
        let since = scope.since;
        // What is promised of a turn is looked up behind it: telemetry last, so that nothing seems to be missing
        // that came in between.
        let journal = open("orchestrator", &scope.orchestrator, &mut stores.files).await?;
        let failed = |stage| move |source| Error::Store { stage, source };
        stores.now = journal.read(|connection| connection.now()).await.map_err(failed("orchestrator"))?;
        stores.turns = journal.read(move |c| turns(c, since)).await.map_err(failed("orchestrator"))?;
        (stores.handoffs, stores.deliveries) =
            journal.read(handoffs).await.map_err(failed("orchestrator"))?;
        let conversations = "SELECT conversation_id FROM conversation";
        stores.conversations = journal.read(ids(conversations)).await.map_err(failed("orchestrator"))?;
        let spool = journal.read(spool).await.map_err(failed("orchestrator"))?;
        (stores.spooled, stores.feedback_spooled, stores.waiting_since) = spool;
        let workflow = open("workflow", &scope.workflow, &mut stores.files).await?;
        stores.executions = workflow.read(move |c| executions(c, since)).await.map_err(failed("workflow"))?;
        let telemetry = open("telemetry", &scope.telemetry, &mut stores.files).await?;
        let recorded = telemetry.read(ids("SELECT turn_id FROM turns")).await;
        stores.recorded = recorded.map_err(failed("telemetry"))?;
        let feedback = telemetry.read(ids("SELECT feedback_id FROM feedback")).await;
        stores.feedback = feedback.map_err(failed("telemetry"))?;
        stores.rollout = telemetry.read(rollout::log).await.map_err(failed("telemetry"))?;
        Ok(stores)
    }
}

async fn open(
    stage: &'static str,
    source: &Source,
    files: &mut Vec<PathBuf>,
) -> std::result::Result<Store, Error> {
    if let Source::File(path) = source {
        files.push(path.clone());
    }
    Store::inspect(source.clone()).await.map_err(|source| Error::Store { stage, source })
}

fn turns(connection: &mut Connection<'_>, since: i64) -> Result<Vec<Kept>> {
    let query = "SELECT turn_id, conversation_id, request_id, deadline, outcome, turn FROM turn WHERE accepted_at >= $1";
    connection.query(query, values![since], |row| {
        Ok(Kept {
            turn_id: row.get(0)?,
            conversation_id: row.get(1)?,
            request_id: row.get(2)?,
            deadline: row.get(3)?,
            outcome: row.get(4)?,
            turn: row.get::<Option<&[u8]>, _>(5)?.and_then(|bytes| Turn::decode(bytes).ok()),
        })
    })
}

/// Handoffs, and after them what is told of them.
fn handoffs(connection: &mut Connection<'_>) -> Result<(BTreeMap<String, Queued>, Vec<Delivery>)> {
    let query = "SELECT handoff_id, conversation_id, turn_id, state, step, sent_to FROM handoff";
    let handoffs = connection.query(query, &[], |row| {
        let sent_to = row.get::<&str, _>(5)?.split_whitespace().map(str::to_owned).collect();
        let (conversation_id, turn_id) = (row.get(1)?, row.get(2)?);
        let queued = Queued { conversation_id, turn_id, state: row.get(3)?, step: row.get(4)?, sent_to };
        Ok((row.get(0)?, queued))
    })?;
    let query = "SELECT delivery.handoff_id, connector, part, delivery.state, attempt, handoff.handoff_id
        FROM delivery LEFT JOIN handoff ON handoff.handoff_id = delivery.handoff_id";
    let deliveries = connection.query(query, &[], |row| {
        Ok(Delivery {
            handoff_id: row.get(0)?,
            connector: row.get(1)?,
            part: row.get(2)?,
            state: row.get(3)?,
            attempt: row.get(4)?,
            queued: row.get::<Option<String>, _>(5)?.is_some(),
        })
    })?;
    Ok((handoffs.into_iter().collect(), deliveries))
}

type Spool = (BTreeSet<String>, BTreeSet<String>, Vec<i64>);

/// Entries that telemetry refuses are kept with a negative kind; they wait for nobody.
fn spool(connection: &mut Connection<'_>) -> Result<Spool> {
    const RECORD: i32 = 1;
    const FEEDBACK: i32 = 2;
    let (mut turns, mut feedback) = (BTreeSet::new(), BTreeSet::new());
    let query = "SELECT kind, turn_id, payload, at FROM spool";
    let waiting = connection.query(query, &[], |row| {
        let kind: i32 = row.get(0)?;
        match kind.abs() {
            RECORD => drop(turns.insert(row.get(1)?)),
            FEEDBACK => {
                let sent = proto::Feedback::decode(row.get::<&[u8], _>(2)?).unwrap_or_default();
                feedback.insert(sent.feedback_id);
            }
            _ => {}
        }
        Ok((kind > 0).then_some(row.get(3)?))
    })?;
    Ok((turns, feedback, waiting.into_iter().flatten().collect()))
}

fn executions(connection: &mut Connection<'_>, since: i64) -> Result<BTreeMap<String, Execution>> {
    let query = "SELECT * FROM execution WHERE created_at >= $1";
    let execution = |row: &Row<'_>| {
        let state: String = row.get("state")?;
        let ended = matches!(state.as_str(), "DONE" | "FAILED" | "UNKNOWN" | "CANCELLED");
        let untold = ended && row.get("notice")?;
        let execution = Execution {
            workflow: row.get("workflow")?,
            confidence: row.get("confidence")?,
            threshold: row.get("threshold")?,
            attempts: row.get("attempts")?,
            lease: row.get("lease")?,
            confirmed_in: row.get("confirmed_in")?,
            resolved_by: row.get("resolved_by")?,
            approved_by: row.get("approved_by")?,
            untold: if untold { Some(row.get("updated_at")?) } else { None },
            state,
        };
        Ok((row.get("execution_id")?, execution))
    };
    Ok(connection.query(query, values![since / 1000], execution)?.into_iter().collect())
}

/// The ids that a query names.
fn ids(query: &'static str) -> impl Fn(&mut Connection<'_>) -> Result<BTreeSet<String>> + Send + 'static {
    move |connection| Ok(connection.query(query, &[], |row| row.get(0))?.into_iter().collect())
}
