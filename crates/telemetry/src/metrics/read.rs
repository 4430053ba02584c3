//! Reads a window from the store, piece by piece: a long one neither holds a connection nor outlives its caller.

use std::sync::{Arc, Mutex, PoisonError};

use sql::{Connection, Row, values};

use super::sample;
use super::window::{By, Correction, Kind, Rating, Report, Verdict, Window};
use crate::config::Config;
use crate::record::{Arm, Error};
use crate::store::{Cursor, Store};

/// Turns that one scan adds up: some 10 ms.
const TURNS_A_SCAN: usize = 10_000;
/// Feedback, labels and the like that one scan adds up: each looks for its turn.
const WORDS_A_SCAN: usize = 1000;

/// A window that is being read, and what it is read by.
type Reading = (Window, Arc<Config>);

/// Place in what is said: microseconds since 1970, and the ids that make it unique.
type Place = (i64, String, String);

impl Store {
    /// What comes of turns accepted and of what was said of them in `from_us..to_us`, microseconds since 1970.
    ///
    /// # Errors
    /// `Store`, `Malformed`.
    pub async fn metrics(
        &self,
        from_us: i64,
        to_us: i64,
        by: By,
        config: &Arc<Config>,
    ) -> Result<Report, Error> {
        let reading = Arc::new(Mutex::new((Window::new(by), config.clone())));
        self.all(&reading, (from_us, 0), move |connection, reading, place| {
            add_turns(connection, reading, place, to_us)
        })
        .await?;
        // Turns come first: what is said of a conversation that is not in the window counts in no conversation.
        for said in &SAID {
            let begin = (from_us, String::new(), String::new());
            self.all(&reading, begin, move |connection, (window, _), place| {
                said.add_next(connection, window, place, (from_us, to_us))
            })
            .await?;
        }
        let mut reading = reading.lock().unwrap_or_else(PoisonError::into_inner);
        let window = std::mem::replace(&mut reading.0, Window::new(by));
        Ok(window.report(to_us, config))
    }

    /// Scans from a place to the end.
    async fn all<P: Send + 'static>(
        &self,
        reading: &Arc<Mutex<Reading>>,
        begin: P,
        scan: impl Fn(&mut Connection<'_>, &mut Reading, &P) -> Result<Option<P>, Error> + Copy + Send + 'static,
    ) -> Result<(), Error> {
        let mut after = Some(begin);
        while let Some(place) = after {
            let reading = reading.clone();
            let read = move |connection: &mut Connection<'_>| {
                let mut reading = reading.lock().unwrap_or_else(PoisonError::into_inner);
                Ok(scan(connection, &mut reading, &place))
            };
            after = self.0.read(read).await??;
        }
        Ok(())
    }
}

/// Adds the next turns behind a place; returns the last one's place unless that was all.
fn add_turns(
    connection: &mut Connection<'_>,
    (window, config): &mut Reading,
    after: &Cursor,
    to_us: i64,
) -> Result<Option<Cursor>, Error> {
    const SCAN: &str = "SELECT accepted_us, id, sample, arm, category, intent, model, details FROM turns
        WHERE (accepted_us, id) > ($1, $2) AND accepted_us < $3 ORDER BY accepted_us, id LIMIT $4";
    let (mut added, mut last, mut wrong) = (0, None, None);
    let values = values![after.0, after.1, to_us, TURNS_A_SCAN as u32];
    connection.query(SCAN, values, |turn| {
        let accepted_us = turn.get(0)?;
        let sample = sample::parse(accepted_us, turn.get(2)?, turn.get(7)?, kind(turn, 3)?);
        let sample = sample.ok_or(Error::Malformed);
        wrong = wrong.take().or(sample.and_then(|sample| window.add(&sample, config)).err());
        (added, last) = (added + 1, Some((accepted_us, turn.get(1)?)));
        Ok(())
    })?;
    wrong.map_or_else(|| Ok(last.filter(|_| added == TURNS_A_SCAN)), Err)
}

/// What people and judges say of turns.
struct Said {
    /// Reads the next of it behind a place ($1, $2, $3) for a window ($4, $5), $6 at most. The first three columns are
    /// the place of a row.
    query: &'static str,
    /// Adds one row.
    add: fn(&mut Window, &Row<'_>) -> sql::Result<()>,
}

const SAID: [Said; 4] = [
    // Feedback on a whole conversation is told apart by that one's last turn.
    Said {
        query: "SELECT f.received_us, f.feedback_id, f.conversation_id, f.rating, f.resolved,
                coalesce(t.arm, 1), coalesce(t.category, ''), coalesce(t.intent, ''), coalesce(t.model, '')
            FROM feedback f LEFT JOIN turns t ON t.id = (SELECT id FROM turns
                WHERE conversation_id = f.conversation_id AND (f.turn_id = '' OR turn_id = f.turn_id)
                ORDER BY accepted_us DESC, id DESC LIMIT 1)
            WHERE (f.received_us, f.feedback_id, f.conversation_id) > ($1, $2, $3)
                AND f.received_us >= $4 AND f.received_us < $5
            ORDER BY f.received_us, f.feedback_id, f.conversation_id LIMIT $6",
        add: rate,
    },
    // Labels of turns in the window that say another intent. Those of an audit are no corrections: its turns are drawn,
    // and nobody stumbled over them; nor are imported ones. Details begin with 1 in a muted turn.
    Said {
        query: "SELECT l.received_us, l.turn_id, l.source, l.intent, t.conversation_id,
                t.arm, t.category, t.intent, t.model
            FROM labels l JOIN turns t ON t.turn_id = l.turn_id
            WHERE (l.received_us, l.turn_id, l.source) > ($1, $2, $3)
                AND t.accepted_us >= $4 AND l.received_us < $5
                AND l.intent <> '' AND t.intent <> '' AND l.intent <> t.intent
                AND l.source NOT IN ('audit', 'import') AND t.details NOT LIKE '1 %'
            ORDER BY l.received_us, l.turn_id, l.source LIMIT $6",
        add: correct,
    },
    // Turns of the window that were drawn for the audit, where the time is the turn's, and that people labelled.
    Said {
        query: "SELECT a.sampled_us, a.turn_id, a.stratum, a.probability, l.intent, r.encoded,
                t.arm, t.category, t.intent, t.model
            FROM audit a JOIN labels l ON l.turn_id = a.turn_id AND l.source = 'audit' AND l.intent <> ''
                JOIN turns t ON t.turn_id = a.turn_id JOIN records r ON r.turn = t.id
            WHERE (a.sampled_us, a.turn_id, a.stratum) > ($1, $2, $3)
                AND a.sampled_us >= $4 AND a.sampled_us < $5
            ORDER BY a.sampled_us, a.turn_id, a.stratum LIMIT $6",
        add: audit,
    },
    // What second judges say of turns of the window; of what else was evaluated only the cost.
    Said {
        query: "SELECT e.received_us, e.turn_id, e.judge, CASE e.name WHEN 'groundedness' THEN e.claims ELSE 0 END,
                e.unsupported, e.cost_nanos, e.prices, t.arm, t.category, t.intent, t.model
            FROM evaluations e JOIN turns t ON t.turn_id = e.turn_id
            WHERE (e.received_us, e.turn_id, e.judge) > ($1, $2, $3)
                AND t.accepted_us >= $4 AND e.received_us < $5
            ORDER BY e.received_us, e.turn_id, e.judge LIMIT $6",
        add: evaluate,
    },
];

impl Said {
    /// Adds what comes next; returns the place of the last row unless that was all.
    fn add_next(
        &self,
        connection: &mut Connection<'_>,
        window: &mut Window,
        after: &Place,
        (from_us, to_us): (i64, i64),
    ) -> Result<Option<Place>, Error> {
        let (mut added, mut last) = (0, None);
        let values = values![after.0, &after.1, &after.2, from_us, to_us, WORDS_A_SCAN as u32];
        connection.query(self.query, values, |row| {
            (self.add)(window, row)?;
            (added, last) = (added + 1, Some((row.get(0)?, row.get(1)?, row.get(2)?)));
            Ok(())
        })?;
        Ok(last.filter(|_| added == WORDS_A_SCAN))
    }
}

fn rate(window: &mut Window, said: &Row<'_>) -> sql::Result<()> {
    let (conversation_id, rating, resolved) = (said.get(2)?, said.get(3)?, said.get(4)?);
    window.rate(&Rating { conversation_id, kind: kind(said, 5)?, rating, resolved });
    Ok(())
}

fn correct(window: &mut Window, label: &Row<'_>) -> sql::Result<()> {
    window.correct(&Correction {
        turn_id: label.get(1)?,
        conversation_id: label.get(4)?,
        kind: kind(label, 5)?,
        intent: label.get(3)?,
        by_agent: label.get::<&str, _>(2)? == "agent",
    });
    Ok(())
}

fn audit(window: &mut Window, drawn: &Row<'_>) -> sql::Result<()> {
    let hit = crate::audit::server::is_right(drawn.get(5)?, drawn.get(4)?);
    window.audit(&kind(drawn, 6)?, hit, drawn.get(3)?);
    Ok(())
}

fn evaluate(window: &mut Window, said: &Row<'_>) -> sql::Result<()> {
    window.evaluate(&Verdict {
        kind: kind(said, 7)?,
        claims: said.get(3)?,
        unsupported: said.get(4)?,
        judge: said.get(2)?,
        cost_nanos: said.get::<i64, _>(5)?.unsigned_abs(),
        prices: said.get(6)?,
    });
    Ok(())
}

/// Arm, category, intent and model, from a column on.
fn kind<'a>(row: &'a Row<'_>, column: usize) -> sql::Result<Kind<'a>> {
    let arm = if row.get::<u8, _>(column)? == Arm::Treatment as u8 { Arm::Treatment } else { Arm::Control };
    Ok(Kind {
        arm,
        category: row.get(column + 1)?,
        intent: row.get(column + 2)?,
        model: row.get(column + 3)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::labels::Feedback;

    #[tokio::test]
    async fn what_is_said_at_one_moment_is_read_to_its_end_over_many_pieces() {
        let dir = tempfile::tempdir().unwrap();
        let source = sql::Source::File(dir.path().join("telemetry.db"));
        let store = Store::open(source).await.unwrap();
        let said = |n: usize| Feedback {
            feedback_id: format!("f{n}"),
            conversation_id: "a".to_owned(),
            turn_id: String::new(),
            rating: 5,
            resolved: None,
            comment: String::new(),
            demonstration: String::new(),
            intent: String::new(),
            reply: false,
        };
        let all = (0..2 * WORDS_A_SCAN + 500).map(|n| store.add_feedback(said(n), 5));
        futures::future::try_join_all(all).await.unwrap();
        let config = Arc::new(Config::default());
        let found = async |from_us, to_us| {
            store.metrics(from_us, to_us, By::Nothing, &config).await.unwrap().metrics.ratings
        };
        assert_eq!((found(5, 6).await, found(0, 5).await, found(6, 9).await), (2500, 0, 0));
    }
}
