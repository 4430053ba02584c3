//! What the store has seen since the last look, as counts.

use std::collections::BTreeMap;

use sql::{Connection, values};

use super::control::State;
use super::store::handed_over;
use super::tick::{Cost, Cursor, Failures, Tick};
use super::{units, unseen};
use crate::record::Reason;

/// Turns that the tripwire of failures looks at.
const LAST: u32 = 20;

/// From where on a rollout that begins now reads.
pub(super) fn begin(connection: &mut Connection<'_>) -> sql::Result<Cursor> {
    let last = |connection: &mut Connection<'_>, query| {
        connection.first(query, &[], |row| row.get::<Option<i64>, _>(0)).map(|id| id.flatten().unwrap_or(0))
    };
    let exposure = last(connection, "SELECT max(id) FROM exposures")?;
    let turn = last(connection, "SELECT max(id) FROM turns")?;
    let labels_us = last(connection, "SELECT max(received_us) FROM labels")?;
    let unseen = last(connection, "SELECT max(id) FROM unseen")?;
    Ok(Cursor { exposure, matured: BTreeMap::new(), turn, labels_us, unseen })
}

/// What was seen since the last look. A unit is read once, when its time for an event is over and `grace_us` more, for
/// what is late.
pub(super) fn observe(
    connection: &mut Connection<'_>,
    state: &State,
    now_us: i64,
    grace_us: i64,
) -> sql::Result<Tick> {
    let mut seen = state.seen().clone();
    let units = units::read(connection, state, now_us - grace_us, &mut seen)?;
    let (turns, mut cost) = turns(connection, &mut seen)?;
    let unseen = unseen::read(connection, state, &mut seen, &mut cost)?;
    let last = last(connection, state.began_us())?;
    let incidents = incidents(connection, state, &mut seen)?;
    Ok(Tick {
        turns,
        exposed: units.exposed,
        matured: units.matured,
        unseen,
        cost,
        last,
        incidents,
        strangers: units.strangers,
        seen,
        fault: String::new(),
    })
}

/// Turns since the last look, and what treated ones cost.
fn turns(connection: &mut Connection<'_>, seen: &mut Cursor) -> sql::Result<(u64, Cost)> {
    const QUERY: &str = "SELECT count(*), count(*) FILTER (WHERE arm = 2),
        CAST(coalesce(sum(cost_nanos) FILTER (WHERE arm = 2), 0) AS BIGINT), max(id) FROM turns WHERE id > $1";
    let found = connection.first(QUERY, values![seen.turn], |row| {
        let cost = Cost { turns: count(row.get(1)?), nanos: count(row.get(2)?) };
        Ok((count(row.get(0)?), cost, row.get::<Option<i64>, _>(3)?))
    })?;
    let (turns, cost, last) = found.unwrap_or_default();
    seen.turn = last.unwrap_or(seen.turn);
    Ok((turns, cost))
}

/// How the last treated turns ended, since the rollout began.
fn last(connection: &mut Connection<'_>, from_us: i64) -> sql::Result<Failures> {
    let query = format!(
        "SELECT CASE WHEN {} THEN 1 ELSE 0 END FROM turns
        WHERE arm = 2 AND accepted_us >= $1 ORDER BY id DESC LIMIT $2",
        handed_over(Reason::is_failure)
    );
    let failed = connection.query(&query, values![from_us, LAST], |row| row.get::<bool, _>(0))?;
    let ended = failed.iter().filter(|failed| **failed).count();
    Ok(Failures { turns: failed.len() as u64, failed: ended as u64 })
}

/// Leaks and wrong effects of treated turns that people have confirmed since the last look.
fn incidents(connection: &mut Connection<'_>, state: &State, seen: &mut Cursor) -> sql::Result<u64> {
    const QUERY: &str = "SELECT disposition, labels.received_us FROM labels JOIN turns USING (turn_id)
        WHERE disposition <> '' AND arm = 2 AND labels.received_us > $1";
    let (words, mut last, mut confirmed) = (&state.plan().tripwires.dispositions, seen.labels_us, 0);
    connection.query(QUERY, values![seen.labels_us], |row| {
        last = last.max(row.get(1)?);
        confirmed += u64::from(words.contains(&row.get(0)?));
        Ok(())
    })?;
    seen.labels_us = last;
    Ok(confirmed)
}

fn count(number: i64) -> u64 {
    number.unsigned_abs()
}
