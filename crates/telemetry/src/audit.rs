//! The audit: turns drawn for people to label, so that accuracy can be told without labelling all of them.

pub(crate) mod server;

use sql::{Connection, values};

use crate::config;
use crate::labels::label;
use crate::record::{Error, Label};
use crate::store::Store;

/// See the migrations of the store.
pub(crate) const TABLES: &str = "
CREATE TABLE audit (
    turn_id TEXT PRIMARY KEY, stratum TEXT NOT NULL, probability REAL NOT NULL, sampled_us INTEGER NOT NULL,
    labelled_us INTEGER, grounded INTEGER
) STRICT;
CREATE INDEX audit_by_time ON audit (sampled_us);
CREATE INDEX audit_waiting ON audit (sampled_us) WHERE labelled_us IS NULL;
";

/// Source of the labels that people give to drawn turns.
pub const SOURCE: &str = "audit";
/// The right intent of what belongs to none.
pub const OUT_OF_SCOPE: &str = "out_of_scope";
/// Below the first a confidence is low, from the second on high.
const BANDS: [f64; 2] = [0.5, 0.8];
/// Names the draw: another one would draw other turns.
const DRAW: &str = "firstline telemetry 2026-11-28 turns drawn for the audit";

/// A turn that was drawn.
#[derive(Debug, Clone, PartialEq)]
pub struct Drawn {
    /// Category of the predicted intent and band of its confidence, such as "cards/low".
    pub stratum: String,
    /// With which it was drawn, above 0 and up to 1.
    pub probability: f64,
}

/// Whether a turn is drawn. The same turn always is or is not: a keyed hash of its id decides.
pub fn draw(turn_id: &str, category: &str, confidence: f64, rates: &config::Audit) -> Option<Drawn> {
    let (band, probability) = match confidence {
        low if low < BANDS[0] => ("low", rates.low_confidence_rate),
        middle if middle < BANDS[1] => ("middle", rates.rate),
        _ => ("high", rates.rate),
    };
    let hash = blake3::keyed_hash(&blake3::derive_key(DRAW, b""), turn_id.as_bytes());
    let place = hash.as_bytes().iter().take(8).fold(0_u64, |place, byte| place << 8 | u64::from(*byte));
    // 2^64 times a probability of 1 saturates; the greatest place is drawn then all the same.
    let drawn = probability >= 1.0 || place < (probability * 2_f64.powi(64)) as u64;
    let category = if category.is_empty() { "none" } else { category };
    drawn.then(|| Drawn { stratum: format!("{category}/{band}"), probability })
}

/// A drawn turn that waits for its label.
#[derive(Debug, Clone)]
pub struct Waiting {
    /// Where it belongs.
    pub drawn: Drawn,
    /// Its record, encoded.
    pub encoded: Vec<u8>,
    /// How many wait, with this one.
    pub waiting: u64,
}

/// Keeps that a turn was drawn.
pub(crate) fn keep(
    connection: &mut Connection<'_>,
    turn_id: &str,
    drawn: &Drawn,
    sampled_us: i64,
) -> sql::Result<()> {
    let insert = "INSERT INTO audit (turn_id, stratum, probability, sampled_us) VALUES ($1, $2, $3, $4)
        ON CONFLICT DO NOTHING";
    connection.execute(insert, values![turn_id, &drawn.stratum, drawn.probability, sampled_us]).map(|_| ())
}

impl Store {
    /// The oldest drawn turn without a label, of a stratum or of all for an empty one.
    ///
    /// # Errors
    /// `Store`.
    pub async fn next_audit(&self, stratum: String) -> Result<Option<Waiting>, Error> {
        const OF: &str = "labelled_us IS NULL AND ($1 = '' OR stratum = $1)";
        let count = format!("SELECT count(*) FROM audit WHERE {OF}");
        let oldest = format!(
            "SELECT stratum, probability, encoded FROM audit JOIN turns USING (turn_id) JOIN records ON turn = id
            WHERE {OF} ORDER BY sampled_us, turn_id LIMIT 1"
        );
        let read = move |connection: &mut Connection<'_>| {
            let waiting = connection.first(&count, values![&stratum], |row| row.get::<i64, _>(0))?;
            let waiting = waiting.unwrap_or_default().unsigned_abs();
            connection.first(&oldest, values![&stratum], |row| {
                let drawn = Drawn { stratum: row.get(0)?, probability: row.get(1)? };
                Ok(Waiting { drawn, encoded: row.get(2)?, waiting })
            })
        };
        Ok(self.0.read(read).await?)
    }

    /// The encoded record of a drawn turn.
    ///
    /// # Errors
    /// `Invalid` for a turn that was not drawn or is gone, `Store`.
    pub async fn audited(&self, turn_id: String) -> Result<Vec<u8>, Error> {
        let query = "SELECT encoded FROM audit JOIN turns USING (turn_id) JOIN records ON turn = id WHERE turn_id = $1";
        let read = move |connection: &mut Connection<'_>| {
            connection.first(query, values![&turn_id], |row| row.get(0))
        };
        let found = self.0.read(read).await?;
        found.ok_or_else(|| {
            Error::invalid("turn_id", "was not drawn for the audit, or is older than the retention")
        })
    }

    /// Keeps what a person says of a drawn turn; said again it is corrected. A turn waits until its intent is said.
    ///
    /// # Errors
    /// `Store`.
    pub async fn label_audit(
        &self,
        turn_id: String,
        intent: Option<String>,
        grounded: Option<bool>,
        now_us: i64,
    ) -> Result<(), Error> {
        const GROUNDED: &str = "UPDATE audit SET grounded = $1 WHERE turn_id = $2";
        const LABELLED: &str = "UPDATE audit SET labelled_us = $1 WHERE turn_id = $2";
        let write = move |connection: &mut Connection<'_>| {
            if let Some(grounded) = grounded {
                connection.execute(GROUNDED, values![i64::from(grounded), &turn_id])?;
            }
            let Some(intent) = &intent else { return Ok(()) };
            connection.execute(LABELLED, values![now_us, &turn_id])?;
            let (turn_id, source) = (turn_id.clone(), SOURCE.to_owned());
            let given = Label { turn_id, source, intent: intent.clone(), disposition: String::new() };
            label(connection, &given, now_us)
        };
        Ok(self.0.write(write).await?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_are_drawn_at_the_rate_of_their_stratum_and_the_same_ones_again() {
        let rates = config::Audit { rate: 0.02, low_confidence_rate: 0.2 };
        let drawn = |confidence: f64, rates: &config::Audit| {
            let of = |turn: u32| draw(&format!("t_{turn}"), "cards", confidence, rates);
            (0..10_000).filter_map(|turn| of(turn).map(|drawn| (turn, drawn))).collect::<Vec<_>>()
        };
        let low = drawn(0.3, &rates);
        let high = drawn(0.9, &rates);
        // Five standard deviations.
        assert!((1800..=2200).contains(&low.len()), "{}", low.len());
        assert!((130..=270).contains(&high.len()), "{}", high.len());
        assert_eq!(low[0].1, Drawn { stratum: "cards/low".to_owned(), probability: 0.2 });
        assert_eq!(high[0].1, Drawn { stratum: "cards/high".to_owned(), probability: 0.02 });
        assert_eq!(draw("t", "", 0.5, &config::Audit { rate: 1.0, ..rates }).unwrap().stratum, "none/middle");
        // Who is drawn at a lower rate is at a higher one.
        assert!(high.iter().all(|(turn, _)| low.iter().any(|(other, _)| other == turn)));
        assert_eq!(drawn(0.9, &config::Audit { rate: 0.0, ..rates }), []);
        assert_eq!(drawn(0.9, &config::Audit { rate: 1.0, ..rates }).len(), 10_000);
    }
}
