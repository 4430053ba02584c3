//! The durable store: turns as columns, their records as bytes, feedback and labels.

use std::fmt::Write as _;
use std::path::Path;

use rusqlite::{Connection, params};

use crate::measure::{Metrics, Ratings, Sample, Tally};
use crate::record::{Error, Feedback, Label, Outcome, Reason, Row};

// The records lie apart from the columns, so that metrics need not read them. `sample` repeats what
// metrics read of a row, rendered once instead of at every reading, and stands first because SQLite
// decodes a row up to the last column it needs. `cargo bench -p telemetry` measures this.
const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS turns (
    id INTEGER PRIMARY KEY, accepted_us INTEGER NOT NULL, sample TEXT NOT NULL, turn_id TEXT NOT NULL UNIQUE,
    conversation_id TEXT NOT NULL, outcome INTEGER NOT NULL, reason INTEGER NOT NULL, arm INTEGER NOT NULL,
    intent TEXT NOT NULL, category TEXT NOT NULL, confidence REAL NOT NULL, bundle TEXT NOT NULL,
    model TEXT NOT NULL, input_tokens INTEGER NOT NULL, output_tokens INTEGER NOT NULL,
    cost_nanos INTEGER NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS turns_by_time ON turns (accepted_us);
CREATE TABLE IF NOT EXISTS records (id INTEGER PRIMARY KEY, encoded BLOB NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS feedback (
    feedback_id TEXT PRIMARY KEY, conversation_id TEXT NOT NULL, turn_id TEXT NOT NULL,
    rating INTEGER NOT NULL, resolved INTEGER, comment TEXT NOT NULL, received_us INTEGER NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS feedback_by_time ON feedback (received_us, rating);
CREATE TABLE IF NOT EXISTS labels (
    turn_id TEXT NOT NULL, source TEXT NOT NULL, intent TEXT NOT NULL, received_us INTEGER NOT NULL,
    PRIMARY KEY (turn_id, source)
) STRICT;
CREATE INDEX IF NOT EXISTS labels_by_time ON labels (received_us);
";

/// Turns that one scan adds up: some 10 ms.
const TURNS_A_SCAN: u32 = 10_000;
/// Rows of one table that one deletion takes: under 10 ms of the writer's time.
const ROWS_A_DELETION: i64 = 500;

/// Place of a record in the order of time: microseconds since 1970, then order of arrival.
pub type Cursor = (i64, i64);

/// The store. Clones share it.
#[derive(Debug, Clone)]
pub struct Store(kit::store::Store);

impl Store {
    /// Opens or creates the store in a file.
    ///
    /// # Errors
    /// The file cannot be opened, or another process holds it.
    pub async fn open(path: &Path) -> Result<Self, kit::store::Error> {
        kit::store::Store::open(path, SCHEMA).await.map(Self)
    }

    /// Stores turns, all or none, and returns those that were not stored before. Returns when durable.
    ///
    /// # Errors
    /// `Store`.
    pub async fn record(&self, rows: Vec<Row>) -> Result<Vec<Row>, Error> {
        let record = move |connection: &Connection| {
            let mut new = Vec::with_capacity(rows.len());
            for row in rows {
                if insert(connection, &row)? {
                    new.push(row);
                }
            }
            Ok(new)
        };
        self.write(record).await
    }

    /// Stores feedback and returns whether its id is new; an id already there keeps its first content.
    ///
    /// # Errors
    /// `Store`.
    pub async fn add_feedback(&self, feedback: Feedback, received_us: i64) -> Result<bool, Error> {
        const INSERT: &str = "INSERT INTO feedback VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING";
        self.write(move |connection| {
            let inserted = connection.prepare_cached(INSERT)?.execute(params![
                feedback.feedback_id,
                feedback.conversation_id,
                feedback.turn_id,
                feedback.rating,
                feedback.resolved,
                feedback.comment,
                received_us
            ])?;
            Ok(inserted == 1)
        })
        .await
    }

    /// Stores a label; a later one of the same turn and source replaces it, as a person corrects themselves.
    ///
    /// # Errors
    /// `Store`.
    pub async fn add_label(&self, label: Label, received_us: i64) -> Result<(), Error> {
        const INSERT: &str = "INSERT INTO labels VALUES (?, ?, ?, ?) ON CONFLICT (turn_id, source)
            DO UPDATE SET intent = excluded.intent, received_us = excluded.received_us";
        let values = (label.turn_id, label.source, label.intent, received_us);
        self.write(move |connection| connection.prepare_cached(INSERT)?.execute(values).map(|_| ())).await
    }

    /// The figures of turns accepted and ratings received in `from_us..to_us`, microseconds since 1970.
    ///
    /// # Errors
    /// `Store`, `Malformed`.
    pub async fn metrics(&self, from_us: i64, to_us: i64) -> Result<Metrics, Error> {
        const RATINGS: &str = "SELECT count(*), count(*) FILTER (WHERE rating >= 4) FROM feedback
            WHERE received_us >= ? AND received_us < ? AND rating > 0";
        // Piece by piece, so that a long window neither holds a connection nor outlives its caller.
        let (mut tally, mut after) = (Tally::default(), Some((from_us, 0)));
        while let Some(place) = after {
            let add = move |reader: &Connection| Ok(add_turns(reader, tally, place, to_us));
            (tally, after) = self.0.read(add).await??;
        }
        let ratings = |row: &rusqlite::Row<'_>| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?));
        let read = move |reader: &Connection| reader.query_row(RATINGS, [from_us, to_us], ratings);
        let (given, positive) = self.0.read(read).await?;
        Ok(tally.metrics(Ratings { given: given.unsigned_abs(), positive: positive.unsigned_abs() }))
    }

    /// At most `limit` encoded records accepted after `after` and before `to_us`, oldest first, each
    /// with its place.
    ///
    /// # Errors
    /// `Store`.
    pub async fn page(&self, after: Cursor, to_us: i64, limit: u32) -> Result<Vec<(Cursor, Vec<u8>)>, Error> {
        const PAGE: &str = "SELECT accepted_us, id, encoded FROM turns JOIN records USING (id)
            WHERE (accepted_us, id) > (?, ?) AND accepted_us < ? ORDER BY accepted_us, id LIMIT ?";
        let read = move |reader: &Connection| {
            let mut page = reader.prepare_cached(PAGE)?;
            let rows = page.query_map(params![after.0, after.1, to_us, limit], |row| {
                Ok(((row.get(0)?, row.get(1)?), row.get(2)?))
            });
            rows?.collect()
        };
        Ok(self.0.read(read).await?)
    }

    /// Deletes a small batch of what was accepted or received before `before_us`; returns the number
    /// of rows, 0 when nothing is left.
    ///
    /// # Errors
    /// `Store`.
    pub async fn delete_batch(&self, before_us: i64) -> Result<u64, Error> {
        const DELETIONS: [&str; 4] = [
            "DELETE FROM records WHERE id IN
                (SELECT id FROM turns WHERE accepted_us < ? ORDER BY accepted_us, id LIMIT ?)",
            "DELETE FROM turns WHERE id IN
                (SELECT id FROM turns WHERE accepted_us < ? ORDER BY accepted_us, id LIMIT ?)",
            "DELETE FROM feedback WHERE rowid IN (SELECT rowid FROM feedback WHERE received_us < ? LIMIT ?)",
            "DELETE FROM labels WHERE rowid IN (SELECT rowid FROM labels WHERE received_us < ? LIMIT ?)",
        ];
        let delete = move |connection: &Connection| {
            let run = |deletion: &str| connection.execute(deletion, params![before_us, ROWS_A_DELETION]);
            DELETIONS.into_iter().try_fold(0, |rows, deletion| Ok(rows + run(deletion)? as u64))
        };
        self.write(delete).await
    }

    async fn write<T, F>(&self, write: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        Ok(self.0.write(write).await?)
    }
}

/// Adds the next turns behind a place; returns the last one's place unless that was all.
fn add_turns(
    reader: &Connection,
    mut tally: Tally,
    after: Cursor,
    to_us: i64,
) -> Result<(Tally, Option<Cursor>), Error> {
    const SCAN: &str = "SELECT accepted_us, id, sample FROM turns
        WHERE (accepted_us, id) > (?, ?) AND accepted_us < ? ORDER BY accepted_us, id LIMIT ?";
    let mut scan = reader.prepare_cached(SCAN)?;
    let mut turns = scan.query(params![after.0, after.1, to_us, TURNS_A_SCAN])?;
    let (mut added, mut last) = (0, None);
    while let Some(turn) = turns.next()? {
        let sample = turn.get_ref(2)?.as_str().map_err(|_| Error::Malformed)?;
        tally.add(&parse(sample).ok_or(Error::Malformed)?)?;
        (added, last) = (added + 1, Some((turn.get(0)?, turn.get(1)?)));
    }
    Ok((tally, last.filter(|_| added == TURNS_A_SCAN)))
}

/// Inserts a turn; false when it is there already.
fn insert(connection: &Connection, row: &Row) -> rusqlite::Result<bool> {
    const TURN: &str = "INSERT INTO turns VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
        ON CONFLICT (turn_id) DO NOTHING";
    let inserted = connection.prepare_cached(TURN)?.execute(params![
        row.accepted_us,
        render(row),
        row.turn_id,
        row.conversation_id,
        row.outcome as u8,
        row.reason as u8,
        row.arm as u8,
        row.intent,
        row.category,
        row.confidence,
        row.bundle,
        row.model,
        row.input_tokens,
        row.output_tokens,
        row.cost_nanos
    ])?;
    if inserted == 0 {
        return Ok(false);
    }
    let id = connection.last_insert_rowid();
    connection.prepare_cached("INSERT INTO records VALUES (?, ?)")?.execute(params![id, row.encoded])?;
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
    use crate::record::Arm;

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
        }
    }

    async fn count(store: &Store, table: &str) -> i64 {
        let query = format!("SELECT count(*) FROM {table}");
        store.0.read(move |reader| reader.query_row(&query, [], |row| row.get(0))).await.unwrap()
    }

    #[tokio::test]
    async fn retention_takes_all_that_is_older_over_many_batches_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("telemetry.db")).await.unwrap();
        store.record((0..1300).map(row).collect()).await.unwrap();
        for received_us in [1199, 1200] {
            store.add_feedback(feedback(&received_us.to_string()), received_us).await.unwrap();
            let (turn_id, source) = (format!("t{received_us}"), "agent".to_owned());
            store.add_label(Label { turn_id, source, intent: "x".to_owned() }, received_us).await.unwrap();
        }
        let shutdown = CancellationToken::new();
        let deleted = crate::expire::delete_before(&store, 1200, &shutdown).await.unwrap();
        assert_eq!(deleted, 2 * 1200 + 2);
        let left = store.metrics(0, 10_000).await.unwrap();
        assert_eq!((left.turns, left.ratings), (100, 1));
        assert_eq!((count(&store, "records").await, count(&store, "labels").await), (100, 1));
        assert_eq!(store.page((0, 0), 10_000, 1).await.unwrap()[0].1, 1200_i64.to_le_bytes());
    }

    #[tokio::test]
    async fn a_label_sent_again_is_one_and_a_corrected_one_replaces_it() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("telemetry.db")).await.unwrap();
        for intent in ["refund", "refund", "lost_card"] {
            let (turn_id, source) = ("t1".to_owned(), "agent".to_owned());
            store.add_label(Label { turn_id, source, intent: intent.to_owned() }, 1).await.unwrap();
        }
        assert_eq!(count(&store, "labels").await, 1);
        let query = "SELECT intent FROM labels";
        let intent = store.0.read(move |reader| reader.query_row(query, [], |row| row.get::<_, String>(0)));
        assert_eq!(intent.await.unwrap(), "lost_card");
    }
}
