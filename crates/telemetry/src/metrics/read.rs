//! Reads a window from the store, piece by piece: a long one neither holds a connection nor outlives its caller.

use std::sync::{Arc, Mutex, PoisonError};

use sql::{Connection, Row, values};

use super::sample;
use super::window::{By, Correction, Kind, Rating, Report, Window};
use crate::config::Config;
use crate::record::{Arm, Error};
use crate::store::{Cursor, Store};

/// Turns that one scan adds up: some 10 ms.
const TURNS_A_SCAN: usize = 10_000;
/// Feedback or labels that one scan adds up: each looks for its turn.
const WORDS_A_SCAN: usize = 1000;

/// A window that is being read, and what it is read by.
type Reading = (Window, Arc<Config>);

/// Place in the feedback or the labels: microseconds since 1970, and the ids that make it unique.
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
        let begin = (from_us, String::new(), String::new());
        self.all(&reading, begin.clone(), move |connection, reading, place| {
            add_ratings(connection, reading, place, to_us)
        })
        .await?;
        self.all(&reading, begin, move |connection, reading, place| {
            add_labels(connection, reading, place, from_us, to_us)
        })
        .await?;
        let begin = (from_us, String::new(), String::new());
        self.all(&reading, begin, move |connection, reading, place| {
            add_audits(connection, reading, place, from_us, to_us)
        })
        .await?;
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

/// Adds the next feedback. One on a whole conversation is told apart by that one's last turn.
fn add_ratings(
    connection: &mut Connection<'_>,
    (window, _): &mut Reading,
    after: &Place,
    to_us: i64,
) -> Result<Option<Place>, Error> {
    const SCAN: &str = "SELECT f.received_us, f.feedback_id, f.conversation_id, f.rating, f.resolved,
            coalesce(t.arm, 1), coalesce(t.category, ''), coalesce(t.intent, ''), coalesce(t.model, '')
        FROM feedback f LEFT JOIN turns t ON t.id = (SELECT id FROM turns
            WHERE conversation_id = f.conversation_id AND (f.turn_id = '' OR turn_id = f.turn_id)
            ORDER BY accepted_us DESC, id DESC LIMIT 1)
        WHERE (f.received_us, f.feedback_id) > ($1, $2) AND f.received_us < $3
        ORDER BY f.received_us, f.feedback_id LIMIT $4";
    let (mut added, mut last) = (0, None);
    let values = values![after.0, &after.1, to_us, WORDS_A_SCAN as u32];
    connection.query(SCAN, values, |said| {
        let (conversation_id, rating, resolved) = (said.get(2)?, said.get(3)?, said.get(4)?);
        let rating = Rating { conversation_id, kind: kind(said, 5)?, rating, resolved };
        window.rate(&rating);
        (added, last) = (added + 1, Some((said.get(0)?, said.get(1)?, String::new())));
        Ok(())
    })?;
    Ok(last.filter(|_| added == WORDS_A_SCAN))
}

/// Adds the next labels of turns in the window that say another intent. Those of an audit are no corrections: its
/// turns are drawn, and nobody stumbled over them; nor are imported ones. Details begin with 1 in a muted turn.
fn add_labels(
    connection: &mut Connection<'_>,
    (window, _): &mut Reading,
    after: &Place,
    from_us: i64,
    to_us: i64,
) -> Result<Option<Place>, Error> {
    const SCAN: &str = "SELECT l.received_us, l.turn_id, l.source, l.intent, t.conversation_id,
            t.arm, t.category, t.intent, t.model
        FROM labels l JOIN turns t ON t.turn_id = l.turn_id
        WHERE (l.received_us, l.turn_id, l.source) > ($1, $2, $3) AND l.received_us < $4
            AND l.intent <> '' AND t.intent <> '' AND l.intent <> t.intent
            AND l.source NOT IN ('audit', 'import') AND t.accepted_us >= $5 AND t.details NOT LIKE '1 %'
        ORDER BY l.received_us, l.turn_id, l.source LIMIT $6";
    let (mut added, mut last) = (0, None);
    let values = values![after.0, &after.1, &after.2, to_us, from_us, WORDS_A_SCAN as u32];
    connection.query(SCAN, values, |label| {
        let (turn_id, source): (&str, &str) = (label.get(1)?, label.get(2)?);
        let correction = Correction {
            turn_id,
            conversation_id: label.get(4)?,
            kind: kind(label, 5)?,
            intent: label.get(3)?,
            by_agent: source == "agent",
        };
        window.correct(&correction);
        (added, last) = (added + 1, Some((label.get(0)?, turn_id.to_owned(), source.to_owned())));
        Ok(())
    })?;
    Ok(last.filter(|_| added == WORDS_A_SCAN))
}

/// Adds the next turns of the window that were drawn for the audit and that people labelled.
fn add_audits(
    connection: &mut Connection<'_>,
    (window, _): &mut Reading,
    after: &Place,
    from_us: i64,
    to_us: i64,
) -> Result<Option<Place>, Error> {
    const SCAN: &str = "SELECT a.sampled_us, a.turn_id, a.probability, l.intent, r.encoded,
            t.arm, t.category, t.intent, t.model
        FROM audit a JOIN labels l ON l.turn_id = a.turn_id AND l.source = 'audit' AND l.intent <> ''
            JOIN turns t ON t.turn_id = a.turn_id JOIN records r ON r.turn = t.id
        WHERE (a.sampled_us, a.turn_id) > ($1, $2) AND t.accepted_us >= $3 AND t.accepted_us < $4
        ORDER BY a.sampled_us, a.turn_id LIMIT $5";
    let (mut added, mut last) = (0, None);
    let values = values![after.0, &after.1, from_us, to_us, WORDS_A_SCAN as u32];
    connection.query(SCAN, values, |drawn| {
        let (turn_id, right): (&str, &str) = (drawn.get(1)?, drawn.get(3)?);
        let hit = crate::audit::server::is_right(drawn.get(4)?, right);
        window.audit(&kind(drawn, 5)?, hit, drawn.get(2)?);
        (added, last) = (added + 1, Some((drawn.get(0)?, turn_id.to_owned(), String::new())));
        Ok(())
    })?;
    Ok(last.filter(|_| added == WORDS_A_SCAN))
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
