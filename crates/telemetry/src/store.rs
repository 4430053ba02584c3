//! The durable store: turns as columns, their records as bytes, feedback and labels.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};

use sql::{Connection, Source, values};

use crate::audit;
use crate::measure::{Metrics, Ratings, Sample, Tally};
use crate::record::{Error, Outcome, Reason, Row};
use crate::rollout::store as rollout;

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
];

/// Turns that one scan adds up: some 10 ms.
const TURNS_A_SCAN: u32 = 10_000;
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

    /// Stores turns, all or none, and returns those that were not stored before. Returns when durable.
    ///
    /// # Errors
    /// `Store`.
    pub async fn record(&self, rows: Vec<Row>) -> Result<Vec<Row>, Error> {
        let rows = Arc::new(rows);
        let write = rows.clone();
        let record = move |connection: &mut Connection<'_>| {
            let new = write.iter().map(|row| insert(connection, row)).collect::<sql::Result<Vec<bool>>>()?;
            for (row, _) in write.iter().zip(&new).filter(|(_, new)| **new) {
                rollout::note(connection, row)?;
            }
            Ok(new)
        };
        let new = self.0.write(record).await?;
        let rows = Arc::unwrap_or_clone(rows).into_iter().zip(new);
        Ok(rows.filter_map(|(row, new)| new.then_some(row)).collect())
    }

    /// The figures of turns accepted and ratings received in `from_us..to_us`, microseconds since 1970.
    ///
    /// # Errors
    /// `Store`, `Malformed`.
    pub async fn metrics(&self, from_us: i64, to_us: i64) -> Result<Metrics, Error> {
        const RATINGS: &str = "SELECT count(*), count(*) FILTER (WHERE rating >= 4) FROM feedback
            WHERE received_us >= $1 AND received_us < $2 AND rating > 0";
        // Piece by piece, so that a long window neither holds a connection nor outlives its caller.
        let (tally, mut after) = (Arc::new(Mutex::new(Tally::default())), Some((from_us, 0)));
        while let Some(place) = after {
            let tally = tally.clone();
            let add = move |connection: &mut Connection<'_>| {
                let mut tally = tally.lock().unwrap_or_else(PoisonError::into_inner);
                Ok(add_turns(connection, &mut tally, place, to_us))
            };
            after = self.0.read(add).await??;
        }
        let read = move |connection: &mut Connection<'_>| {
            let ratings = |row: &sql::Row<'_>| Ok((row.get::<i64, _>(0)?, row.get::<i64, _>(1)?));
            connection.first(RATINGS, values![from_us, to_us], ratings)
        };
        let (given, positive) = self.0.read(read).await?.unwrap_or_default();
        let ratings = Ratings { given: given.unsigned_abs(), positive: positive.unsigned_abs() };
        let tally = std::mem::take(&mut *tally.lock().unwrap_or_else(PoisonError::into_inner));
        Ok(tally.metrics(ratings))
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
        const DELETIONS: [&str; 6] = [
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
        ];
        let delete = move |connection: &mut Connection<'_>| {
            let mut run = |deletion: &str| connection.execute(deletion, values![before_us, ROWS_A_DELETION]);
            DELETIONS.into_iter().try_fold(0, |rows, deletion| Ok(rows + run(deletion)?))
        };
        Ok(self.0.write(delete).await?)
    }
}

/// Adds the next turns behind a place; returns the last one's place unless that was all.
fn add_turns(
    connection: &mut Connection<'_>,
    tally: &mut Tally,
    after: Cursor,
    to_us: i64,
) -> Result<Option<Cursor>, Error> {
    const SCAN: &str = "SELECT accepted_us, id, sample FROM turns
        WHERE (accepted_us, id) > ($1, $2) AND accepted_us < $3 ORDER BY accepted_us, id LIMIT $4";
    let (mut added, mut last, mut wrong) = (0, None, None);
    connection.query(SCAN, values![after.0, after.1, to_us, TURNS_A_SCAN], |turn| {
        let sample = parse(turn.get(2)?).ok_or(Error::Malformed);
        wrong = wrong.take().or(sample.and_then(|sample| tally.add(&sample)).err());
        (added, last) = (added + 1, Some((turn.get(0)?, turn.get(1)?)));
        Ok(())
    })?;
    wrong.map_or_else(|| Ok(last.filter(|_| added == TURNS_A_SCAN)), Err)
}

/// Inserts a turn; false when it is there already.
fn insert(connection: &mut Connection<'_>, row: &Row) -> sql::Result<bool> {
    const TURN: &str =
        "INSERT INTO turns (accepted_us, sample, turn_id, conversation_id, outcome, reason, arm,
            intent, category, confidence, bundle, model, input_tokens, output_tokens, cost_nanos)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)
        ON CONFLICT (turn_id) DO NOTHING RETURNING id";
    let sample = render(row);
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
        row.cost_nanos
    ];
    let Some(id) = connection.first(TURN, values, |turn| turn.get::<i64, _>(0))? else { return Ok(false) };
    connection.execute("INSERT INTO records VALUES ($1, $2)", values![id, &row.encoded])?;
    if let Some(drawn) = &row.drawn {
        audit::keep(connection, &row.turn_id, drawn, row.accepted_us)?;
    }
    Ok(true)
}

/// What metrics read of a turn, such as "3 4 1200 classifier=1250,total=400000, c7": outcome, reason,
/// cost, microseconds by stage, conversation.
fn render(row: &Row) -> String {
    let mut text = format!("{} {} {} ", row.outcome as u8, row.reason as u8, row.cost_nanos);
    for (stage, micros) in &row.timings_us {
        // Writing to a string cannot fail.
        let _ = write!(text, "{stage}={micros},");
    }
    text + " " + &row.conversation_id
}

/// What `render` wrote; `None` for anything else.
fn parse(text: &str) -> Option<Sample<'_>> {
    let (outcome, text) = cut(text, b' ')?;
    let (reason, text) = cut(text, b' ')?;
    let (cost, text) = cut(text, b' ')?;
    let (mut timings, conversation_id) = cut(text, b' ')?;
    let mut timings_us = Vec::with_capacity(16);
    while !timings.is_empty() {
        let (stage, rest) = cut(timings, b'=')?;
        let (micros, rest) = cut(rest, b',')?;
        timings_us.push((stage, micros.parse().ok()?));
        timings = rest;
    }
    Some(Sample {
        conversation_id,
        outcome: Outcome::from_number(outcome.parse().ok()?)?,
        reason: Reason::from_number(reason.parse().ok()?)?,
        cost_nanos: cost.parse().ok()?,
        timings_us,
    })
}

/// Splits at the first `separator`, an ASCII byte. For so few bytes the block search of `split_once`
/// costs more than it saves.
fn cut(text: &str, separator: u8) -> Option<(&str, &str)> {
    let at = text.bytes().position(|byte| byte == separator)?;
    Some((&text[..at], &text[at + 1..]))
}

#[cfg(test)]
mod tests {
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::labels::Feedback;
    use crate::record::{Arm, Label};

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
            customer_hash: String::new(),
            exposure: None,
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
        }
        let shutdown = CancellationToken::new();
        let deleted = crate::expire::delete_before(&store, 1200, &shutdown).await.unwrap();
        assert_eq!(deleted, 3 * 1200 + 2);
        let left = store.metrics(0, 10_000).await.unwrap();
        assert_eq!((left.turns, left.ratings), (100, 1));
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
