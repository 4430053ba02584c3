//! What the assistant would have said where the menu answered.

use bundle::rollout::Metric;
use sql::{Connection, values};

use super::control::State;
use super::tick::{Cost, Cursor, Matured, Seen};
use crate::record::{Error, Exposure, Outcome, Row};
use crate::store::Store;

pub(crate) const TABLES: &str = "
CREATE TABLE unseen (
    id INTEGER PRIMARY KEY, rollout_id TEXT NOT NULL, epoch INTEGER NOT NULL, conversation_id TEXT NOT NULL,
    stage TEXT NOT NULL, received_us INTEGER NOT NULL, cost_nanos INTEGER NOT NULL, escalated INTEGER NOT NULL,
    failed INTEGER NOT NULL, withheld INTEGER NOT NULL, ungrounded INTEGER NOT NULL, encoded BLOB NOT NULL,
    UNIQUE (rollout_id, epoch, conversation_id)
) STRICT;
CREATE INDEX unseen_by_time ON unseen (received_us);
CREATE INDEX unseen_of ON unseen (conversation_id);
";

/// What one answer can show, with the column that says so.
const EVENTS: [(Metric, &str); 4] = [
    (Metric::EscalationUnplanned, "escalated"),
    (Metric::Failed, "failed"),
    (Metric::UngroundedGenerated, "withheld"),
    (Metric::UngroundedDelivered, "ungrounded"),
];

/// Whether an unseen answer shows something of a metric: nobody rates it, and nobody waits for it.
pub(super) fn shows(metric: Metric) -> bool {
    EVENTS.iter().any(|(shown, _)| *shown == metric)
}

/// Keeps an unseen answer: of a conversation the first alone; false when there is one.
pub(crate) fn keep(
    connection: &mut Connection<'_>,
    row: &Row,
    exposure: &Exposure,
    received_us: i64,
) -> sql::Result<bool> {
    const INSERT: &str =
        "INSERT INTO unseen (rollout_id, epoch, conversation_id, stage, received_us, cost_nanos,
            escalated, failed, withheld, ungrounded, encoded)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) ON CONFLICT DO NOTHING";
    let values = values![
        &exposure.rollout_id,
        exposure.epoch,
        &row.conversation_id,
        &exposure.stage,
        received_us,
        row.cost_nanos,
        row.is_escalated(),
        row.outcome == Outcome::Handoff && row.reason.is_failure(),
        row.is_withheld(),
        row.is_ungrounded(),
        &row.encoded
    ];
    Ok(connection.execute(INSERT, values)? == 1)
}

/// What unseen answers have shown since the last look; adds what they cost.
pub(super) fn read(
    connection: &mut Connection<'_>,
    state: &State,
    seen: &mut Cursor,
    cost: &mut Cost,
) -> sql::Result<Vec<Matured>> {
    let sums: Vec<_> =
        EVENTS.iter().map(|(_, column)| format!("CAST(coalesce(sum({column}), 0) AS BIGINT)")).collect();
    let query = format!(
        "SELECT max(id), count(*), CAST(coalesce(sum(cost_nanos), 0) AS BIGINT), {} FROM unseen
        WHERE id > $1 AND rollout_id = $2 AND epoch = $3",
        sums.join(", ")
    );
    let values = values![seen.unseen, &state.plan().id, state.epoch()];
    let number = |row: &sql::Row<'_>, column| row.get::<i64, _>(column).map(i64::unsigned_abs);
    let found = connection.first(&query, values, |row| {
        let (last, n) = (row.get::<Option<i64>, _>(0)?, number(row, 1)?);
        let events =
            (0..EVENTS.len()).map(|event| number(row, event + 3)).collect::<sql::Result<Vec<_>>>()?;
        Ok((last, n, number(row, 2)?, events))
    })?;
    let Some((Some(last), n, nanos, events)) = found else { return Ok(Vec::new()) };
    seen.unseen = last;
    (cost.turns, cost.nanos) = (cost.turns + n, cost.nanos + nanos);
    let matured = |((metric, _), events): (&(Metric, _), u64)| Matured {
        metric: *metric,
        share: 0,
        sticky: false,
        treated: Seen { n, events, rated: 0 },
        control: Seen::default(),
    };
    Ok(EVENTS.iter().zip(events).map(matured).collect())
}

impl Store {
    /// At most `limit` unseen answers before a place, newest first, each encoded and with its place: of a conversation,
    /// or of all without the name of one.
    ///
    /// # Errors
    /// `Store`.
    pub async fn unseen(
        &self,
        conversation_id: String,
        before: i64,
        limit: u32,
    ) -> Result<Vec<(i64, Vec<u8>)>, Error> {
        let query = "SELECT id, encoded FROM unseen
            WHERE id < $1 AND ($2 = '' OR conversation_id = $2) ORDER BY id DESC LIMIT $3";
        let read = move |connection: &mut Connection<'_>| {
            let values = values![before, &conversation_id, limit];
            connection.query(query, values, |row| Ok((row.get(0)?, row.get(1)?)))
        };
        Ok(self.0.read(read).await?)
    }
}
