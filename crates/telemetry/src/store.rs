//! The durable store: turns as columns, their records as bytes, feedback and labels.

use std::sync::Arc;

use sql::{Connection, Source, values};

use crate::audit;
use crate::costs::Sums;
use crate::metrics::sample::{render, render_details};
use crate::record::{Error, Row};
use crate::rollout::{store as rollout, unseen};

// The records lie apart from the columns, so that metrics need not read them. `sample` repeats what
// metrics read of a row, rendered once instead of at every reading, and stands first because SQLite
// decodes a row up to the last column it needs. `cargo bench -p telemetry` measures this.
const MIGRATIONS: &[&str] = &[
    "
CREATE TABLE turns (
    id INTEGER PRIMARY KEY, accepted_us INTEGER NOT NULL, sample TEXT NOT NULL, turn_id TEXT NOT NULL UNIQUE,
    conversation_id TEXT NOT NULL, outcome INTEGER NOT NULL, reason INTEGER NOT NULL, arm INTEGER NOT NULL,
    intent TEXT NOT NULL, category TEXT NOT NULL, confidence REAL NOT NULL, bundle TEXT NOT NULL,
    model TEXT NOT NULL, input_tokens INTEGER NOT NULL, output_tokens INTEGER NOT NULL,
    cost_nanos INTEGER NOT NULL
) STRICT;
CREATE INDEX turns_by_time ON turns (accepted_us);
CREATE TABLE records (turn INTEGER NOT NULL PRIMARY KEY, encoded BLOB NOT NULL) STRICT;
CREATE TABLE feedback (
    feedback_id TEXT PRIMARY KEY, conversation_id TEXT NOT NULL, turn_id TEXT NOT NULL,
    rating INTEGER NOT NULL, resolved INTEGER, comment TEXT NOT NULL, received_us INTEGER NOT NULL
) STRICT;
CREATE INDEX feedback_by_time ON feedback (received_us, rating);
CREATE TABLE labels (
    turn_id TEXT NOT NULL, source TEXT NOT NULL, intent TEXT NOT NULL, received_us INTEGER NOT NULL,
    PRIMARY KEY (turn_id, source)
) STRICT;
CREATE INDEX labels_by_time ON labels (received_us);
CREATE INDEX turns_of ON turns (conversation_id);
CREATE INDEX feedback_of ON feedback (conversation_id);
",
    "ALTER TABLE labels ADD COLUMN disposition TEXT NOT NULL DEFAULT '';",
    crate::labels::TABLES,
    audit::TABLES,
    rollout::MIGRATION,
    "ALTER TABLE turns ADD COLUMN details TEXT NOT NULL DEFAULT '';",
    unseen::TABLES,
    "
ALTER TABLE turns ADD COLUMN withheld INTEGER NOT NULL DEFAULT 0;
ALTER TABLE turns ADD COLUMN ungrounded INTEGER NOT NULL DEFAULT 0;
",
    crate::evaluations::TABLES,
    crate::costs::TABLES,
];

/// Rows of one table that one deletion takes: under 10 ms of the writer's time.
const ROWS_A_DELETION: i64 = 500;

/// Place of a record in the order of time: microseconds since 1970, then order of arrival.
pub type Cursor = (i64, i64);

/// The store. Clones share it.
#[derive(Debug, Clone)]
pub struct Store(pub(crate) sql::Store, pub(crate) rollout::Latest);

impl Store {
    /// Opens or creates the store.
    ///
    /// # Errors
    /// As [`sql::Store::open`].
    pub async fn open(source: Source) -> sql::Result<Self> {
        Ok(Self(sql::Store::open(source, MIGRATIONS).await?, rollout::Latest::default()))
    }

    /// Stores turns, all or none, and returns those that were not stored before; of those that nobody read none.
    /// Returns when durable.
    ///
    /// # Errors
    /// `Store`.
    pub async fn record(&self, rows: Vec<Row>) -> Result<Vec<Row>, Error> {
        let rows = Arc::new(rows);
        let write = rows.clone();
        let record = move |connection: &mut Connection<'_>| {
            let now_us = if write.iter().any(|row| row.exposure.is_some()) { connection.now()? } else { 0 };
            let (mut new, mut sums) = (Vec::with_capacity(write.len()), Sums::default());
            for row in write.iter() {
                let is_new = insert(connection, row, now_us)?;
                if is_new {
                    sums.add(row);
                }
                new.push(is_new && !row.unseen);
            }
            for (row, _) in write.iter().zip(&new).filter(|(_, new)| **new) {
                rollout::note(connection, row, now_us)?;
            }
            sums.keep(connection)?;
            Ok(new)
        };
        let new = self.0.write(record).await?;
        let rows = Arc::unwrap_or_clone(rows).into_iter().zip(new);
        Ok(rows.filter_map(|(row, new)| new.then_some(row)).collect())
    }

    /// At most `limit` encoded records accepted after `after` and before `to_us`, oldest first, each
    /// with its place.
    ///
    /// # Errors
    /// `Store`.
    pub async fn page(&self, after: Cursor, to_us: i64, limit: u32) -> Result<Vec<(Cursor, Vec<u8>)>, Error> {
        const PAGE: &str = "SELECT accepted_us, id, encoded FROM turns JOIN records ON turn = id
            WHERE (accepted_us, id) > ($1, $2) AND accepted_us < $3 ORDER BY accepted_us, id LIMIT $4";
        let read = move |connection: &mut Connection<'_>| {
            let values = values![after.0, after.1, to_us, limit];
            connection.query(PAGE, values, |row| Ok(((row.get(0)?, row.get(1)?), row.get(2)?)))
        };
        Ok(self.0.read(read).await?)
    }

    /// Deletes a small batch of what was accepted or received before `before_us`; returns the number
    /// of rows, 0 when nothing is left.
    ///
    /// # Errors
    /// `Store`.
    pub async fn delete_batch(&self, before_us: i64) -> Result<u64, Error> {
        const DELETIONS: [&str; 8] = [
            "DELETE FROM unseen WHERE id IN
                (SELECT id FROM unseen WHERE received_us < $1 ORDER BY received_us LIMIT $2)",
            "DELETE FROM exposures WHERE id IN
                (SELECT id FROM exposures WHERE received_us < $1 ORDER BY received_us LIMIT $2)",
            "DELETE FROM records WHERE turn IN
                (SELECT id FROM turns WHERE accepted_us < $1 ORDER BY accepted_us, id LIMIT $2)",
            "DELETE FROM turns WHERE id IN
                (SELECT id FROM turns WHERE accepted_us < $1 ORDER BY accepted_us, id LIMIT $2)",
            "DELETE FROM feedback WHERE feedback_id IN
                (SELECT feedback_id FROM feedback WHERE received_us < $1 LIMIT $2)",
            "DELETE FROM labels WHERE (turn_id, source) IN
                (SELECT turn_id, source FROM labels WHERE received_us < $1 LIMIT $2)",
            "DELETE FROM audit WHERE turn_id IN
                (SELECT turn_id FROM audit WHERE sampled_us < $1 LIMIT $2)",
            "DELETE FROM evaluations WHERE (turn_id, name, judge) IN
                (SELECT turn_id, name, judge FROM evaluations WHERE received_us < $1 LIMIT $2)",
        ];
        let delete = move |connection: &mut Connection<'_>| {
            let mut run = |deletion: &str| connection.execute(deletion, values![before_us, ROWS_A_DELETION]);
            DELETIONS.into_iter().try_fold(0, |rows, deletion| Ok(rows + run(deletion)?))
        };
        Ok(self.0.write(delete).await?)
    }
}

/// Inserts a turn; false when it is there already.
fn insert(connection: &mut Connection<'_>, row: &Row, now_us: i64) -> sql::Result<bool> {
    if let (true, Some(exposure)) = (row.unseen, &row.exposure) {
        return unseen::keep(connection, row, exposure, now_us);
    }
    const TURN: &str =
        "INSERT INTO turns (accepted_us, sample, turn_id, conversation_id, outcome, reason, arm,
            intent, category, confidence, bundle, model, input_tokens, output_tokens, cost_nanos, details,
            withheld, ungrounded)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18)
        ON CONFLICT (turn_id) DO NOTHING RETURNING id";
    let (sample, details) = (render(row), render_details(row));
    let values = values![
        row.accepted_us,
        &sample,
        &row.turn_id,
        &row.conversation_id,
        row.outcome as u8,
        row.reason as u8,
        row.arm as u8,
        &row.intent,
        &row.category,
        row.confidence,
        &row.bundle,
        &row.model,
        row.input_tokens,
        row.output_tokens,
        row.cost_nanos,
        &details,
        row.is_withheld(),
        row.is_ungrounded()
    ];
    let Some(id) = connection.first(TURN, values, |turn| turn.get::<i64, _>(0))? else { return Ok(false) };
    connection.execute("INSERT INTO records VALUES ($1, $2)", values![id, &row.encoded])?;
    if let Some(drawn) = &row.drawn {
        audit::keep(connection, &row.turn_id, drawn, row.accepted_us)?;
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::evaluations::Evaluation;
    use crate::labels::Feedback;
    use crate::metrics::{By, Grounding, Step};
    use crate::record::{Arm, Label, Outcome, Reason};

    fn row(index: i64) -> Row {
        Row {
            turn_id: format!("t{index}"),
            conversation_id: "a".to_owned(),
            accepted_us: index,
            outcome: Outcome::Answered,
            reason: Reason::Unspecified,
            arm: Arm::Treatment,
            intent: String::new(),
            category: String::new(),
            confidence: 0.5,
            bundle: String::new(),
            model: String::new(),
            input_tokens: 0,
            output_tokens: 0,
            cost_nanos: 0,
            timings_us: Vec::new(),
            muted: false,
            step: Step::Nothing,
            grounding: Grounding::default(),
            judge: String::new(),
            prices: String::new(),
            customer_hash: String::new(),
            unseen: false,
            exposure: None,
            calls: Vec::new(),
            saved: Vec::new(),
            drawn: Some(audit::Drawn { stratum: "none/low".to_owned(), probability: 1.0 }),
            encoded: index.to_le_bytes().to_vec(),
        }
    }

    fn feedback(feedback_id: &str) -> Feedback {
        let (feedback_id, conversation_id) = (feedback_id.to_owned(), "a".to_owned());
        Feedback {
            feedback_id,
            conversation_id,
            turn_id: String::new(),
            rating: 5,
            resolved: None,
            comment: String::new(),
            demonstration: String::new(),
            intent: String::new(),
            reply: false,
        }
    }

    async fn count(store: &Store, table: &str) -> i64 {
        let query = format!("SELECT count(*) FROM {table}");
        let count = move |connection: &mut Connection<'_>| connection.first(&query, &[], |row| row.get(0));
        store.0.read(count).await.unwrap().unwrap()
    }

    #[tokio::test]
    async fn retention_takes_all_that_is_older_over_many_batches_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(Source::File(dir.path().join("telemetry.db"))).await.unwrap();
        store.record((0..1300).map(row).collect()).await.unwrap();
        for received_us in [1199, 1200] {
            store.add_feedback(feedback(&received_us.to_string()), received_us).await.unwrap();
            let (turn_id, source) = (format!("t{received_us}"), "agent".to_owned());
            store
                .add_label(
                    Label { turn_id, source, intent: "x".to_owned(), disposition: String::new() },
                    received_us,
                )
                .await
                .unwrap();
            let (turn_id, conversation_id) = (format!("t{received_us}"), "a".to_owned());
            let evaluation = Evaluation { turn_id, conversation_id, claims: 1, ..Evaluation::default() };
            assert!(store.add_evaluation(evaluation, received_us).await.unwrap());
        }
        let shutdown = CancellationToken::new();
        let deleted = crate::expire::delete_before(&store, 1200, &shutdown).await.unwrap();
        assert_eq!(deleted, 3 * 1200 + 3);
        let config = Arc::new(crate::Config::default());
        let left = store.metrics(0, 10_000, By::Nothing, &config).await.unwrap().metrics;
        assert_eq!((left.turns, left.ratings), (100, 1));
        assert_eq!(count(&store, "evaluations").await, 1);
        let left =
            (count(&store, "records").await, count(&store, "labels").await, count(&store, "audit").await);
        assert_eq!(left, (100, 1, 100));
        assert_eq!(store.page((0, 0), 10_000, 1).await.unwrap()[0].1, 1200_i64.to_le_bytes());
    }

    #[tokio::test]
    async fn a_label_sent_again_is_one_and_a_corrected_one_replaces_it() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(Source::File(dir.path().join("telemetry.db"))).await.unwrap();
        for intent in ["refund", "refund", "lost_card"] {
            let (turn_id, source) = ("t1".to_owned(), "agent".to_owned());
            store
                .add_label(
                    Label { turn_id, source, intent: intent.to_owned(), disposition: String::new() },
                    1,
                )
                .await
                .unwrap();
        }
        assert_eq!(count(&store, "labels").await, 1);
        let query = "SELECT intent FROM labels";
        let intent =
            store.0.read(move |connection| connection.first(query, &[], |row| row.get::<String, _>(0)));
        assert_eq!(intent.await.unwrap().as_deref(), Some("lost_card"));
    }
}
