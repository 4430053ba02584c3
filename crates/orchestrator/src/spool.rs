//! What has still to reach telemetry; it stays in the journal until telemetry has it.

use prost::Message as _;
use proto::{Evaluation, Feedback, SubmitLabelRequest, Turn, TurnRecord};
use sql::{Connection, Result, Row, values};

use crate::store::Journal;
use crate::turn::now;

/// Age in microseconds at which an entry of another process is anybody's: it has tried for that long, or is gone.
const FORGOTTEN: i64 = 30_000_000;

/// Something that waits for telemetry.
#[derive(Debug)]
pub(crate) struct Spooled {
    pub(crate) seq: i64,
    pub(crate) traceparent: String,
    pub(crate) entry: Entry,
}

/// What waits for telemetry. What does not decode is empty, and refused there.
#[derive(Debug)]
pub(crate) enum Entry {
    Record(Box<TurnRecord>),
    Feedback(Feedback),
    Label(SubmitLabelRequest),
    Evaluation(Evaluation),
}

/// What waits for telemetry, as it is stored. The record of a turn stays in the turn's row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Record = 1,
    Feedback = 2,
    Label = 3,
    Unseen = 4,
    Evaluation = 5,
}

impl Journal {
    /// Keeps something for telemetry until telemetry has it.
    pub(crate) async fn keep(&self, kind: Kind, payload: Vec<u8>) -> Result<()> {
        let (traceparent, owner) = (kit::Call::current().traceparent(), self.owner.clone());
        self.sql.write(move |connection| spool(connection, &owner, kind, &traceparent, "", &payload)).await
    }

    /// The oldest entries of the spool. Of those that other processes have made, only what they should have sent
    /// long ago; what is sent twice telemetry keeps once.
    pub(crate) async fn spooled(&self, limit: u32) -> Result<Vec<Spooled>> {
        let query = "SELECT seq, traceparent, kind, payload, turn, record
            FROM spool LEFT JOIN turn USING (turn_id) WHERE kind > 0 AND (owner = $1 OR at < $2) ORDER BY seq LIMIT $3";
        let before = if self.sql.is_shared() { now() - FORGOTTEN } else { i64::MAX };
        let owner = self.owner.clone();
        let read = move |connection: &mut Connection<'_>| {
            connection.query(query, values![&*owner, before, limit], spooled)
        };
        self.sql.read(read).await
    }

    /// Keeps an entry that telemetry refuses, out of the way of the others: its kind turns negative.
    pub(crate) async fn set_aside(&self, seq: i64) -> Result<()> {
        let update = "UPDATE spool SET kind = -kind WHERE seq = $1 AND kind > 0";
        self.sql.write(move |connection| connection.execute(update, values![seq]).map(|_| ())).await
    }

    /// Forgets entries that telemetry has.
    pub(crate) async fn delivered(&self, seqs: Vec<i64>) -> Result<()> {
        let delete = move |connection: &mut Connection<'_>| {
            let delete = "DELETE FROM spool WHERE seq = $1";
            seqs.iter().try_for_each(|seq| connection.execute(delete, values![seq]).map(|_| ()))
        };
        self.sql.write(delete).await
    }
}

fn spooled(row: &Row<'_>) -> Result<Spooled> {
    let payload = || row.get::<&[u8], _>(3);
    let entry = match row.get::<i32, _>(2)? {
        kind if kind == Kind::Record as i32 => {
            Entry::Record(Box::new(record(row, 4, 5)?.unwrap_or_default()))
        }
        kind if kind == Kind::Unseen as i32 => {
            Entry::Record(Box::new(TurnRecord::decode(payload()?).unwrap_or_default()))
        }
        kind if kind == Kind::Feedback as i32 => {
            Entry::Feedback(Feedback::decode(payload()?).unwrap_or_default())
        }
        kind if kind == Kind::Evaluation as i32 => {
            Entry::Evaluation(Evaluation::decode(payload()?).unwrap_or_default())
        }
        _ => Entry::Label(SubmitLabelRequest::decode(payload()?).unwrap_or_default()),
    };
    Ok(Spooled { seq: row.get(0)?, traceparent: row.get(1)?, entry })
}

/// What telemetry may see of a turn, from its columns: nothing that a customer filled into a workflow.
pub(crate) fn record(row: &Row<'_>, turn: usize, rest: usize) -> Result<Option<TurnRecord>> {
    let blob = |column: usize| row.get::<Option<&[u8]>, _>(column);
    let (Some(turn), Some(rest)) = (blob(turn)?, blob(rest)?) else { return Ok(None) };
    let (Ok(turn), Ok(rest)) = (Turn::decode(turn), TurnRecord::decode(rest)) else { return Ok(None) };
    Ok(Some(TurnRecord { turn: Some(told(turn)), ..rest }))
}

/// A turn without what a customer filled into a workflow.
pub(crate) fn told(mut turn: Turn) -> Turn {
    if let Some(workflow) = &mut turn.workflow {
        workflow.slots.clear();
        turn.answer.clear();
    }
    turn
}

pub(crate) fn spool(
    connection: &mut Connection<'_>,
    owner: &str,
    kind: Kind,
    traceparent: &str,
    turn_id: &str,
    payload: &[u8],
) -> Result<()> {
    let insert =
        "INSERT INTO spool (kind, traceparent, turn_id, payload, owner, at) VALUES ($1, $2, $3, $4, $5, $6)";
    connection.execute(insert, values![kind as i32, traceparent, turn_id, payload, owner, now()]).map(|_| ())
}
