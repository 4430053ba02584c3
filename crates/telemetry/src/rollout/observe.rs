//! What the store has seen since the last look, as counts.

use std::collections::BTreeMap;

use bundle::rollout::{Guard, Metric};
use sql::{Connection, values};

use super::control::State;
use super::store::handed_over;
use super::tick::{Cost, Cursor, Exposed, Failures, Matured, Seen, Tick};
use super::unseen;
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
    let (exposed, strangers) = exposed(connection, state, &mut seen)?;
    let mut matured_rows = Vec::new();
    for guard in &state.plan().guards {
        if let Some(event) = event(guard) {
            matured_rows.extend(matured(connection, state, guard, &event, now_us - grace_us, &mut seen)?);
        }
    }
    let (turns, mut cost) = turns(connection, &mut seen)?;
    let unseen = unseen::read(connection, state, &mut seen, &mut cost)?;
    let last = last(connection, state.began_us())?;
    let incidents = incidents(connection, state, &mut seen)?;
    Ok(Tick {
        turns,
        exposed,
        matured: matured_rows,
        unseen,
        cost,
        last,
        incidents,
        strangers,
        seen,
        fault: String::new(),
    })
}

fn exposed(
    connection: &mut Connection<'_>,
    state: &State,
    seen: &mut Cursor,
) -> sql::Result<(Vec<Exposed>, u64)> {
    const QUERY: &str = "SELECT stage, share, sticky, treated, id, bundle FROM exposures
        WHERE id > $1 AND rollout_id = $2 AND epoch = $3";
    let plan = state.plan();
    let (mut rows, mut strangers) = (BTreeMap::<String, BTreeMap<(u32, bool), [u64; 2]>>::new(), 0);
    let from = seen.exposure;
    // Added up here: the database would sort all of them first.
    connection.query(QUERY, values![from, &plan.id, state.epoch()], |row| {
        let (stage, share, sticky, treated): (&str, u32, bool, bool) =
            (row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?);
        seen.exposure = seen.exposure.max(row.get(4)?);
        strangers += u64::from(!plan.candidate.is_empty() && row.get::<&str, _>(5)? != plan.candidate);
        if !rows.contains_key(stage) {
            rows.insert(stage.to_owned(), BTreeMap::new());
        }
        if let Some(shares) = rows.get_mut(stage) {
            shares.entry((share, sticky)).or_default()[usize::from(treated)] += 1;
        }
        Ok(())
    })?;
    let rows = rows.into_iter().flat_map(|(stage, shares)| {
        shares.into_iter().map(move |((share, sticky), [control, treated])| Exposed {
            stage: stage.clone(),
            share,
            sticky,
            treated,
            control,
        })
    });
    let rows = rows.collect();
    Ok((rows, strangers))
}

/// What an event of a metric is, in the columns of an exposure; `None` for what is no event of a unit.
fn event(guard: &Guard) -> Option<String> {
    let within = |column: &str| {
        let window_us = i64::from(guard.window_s) * 1_000_000;
        Some(format!("{column} <= exposed_us + {window_us}"))
    };
    match guard.metric {
        Metric::EscalationUnplanned => within("escalated_us"),
        Metric::Dissatisfied => within("dissatisfied_us"),
        Metric::UngroundedDelivered => within("ungrounded_us"),
        Metric::UngroundedGenerated => within("withheld_us"),
        Metric::Misrouted => within("misrouted_us"),
        Metric::Failed => within("failed_us"),
        Metric::LatencyOverSla => Some(format!("took_us > {}", i64::from(guard.sla_ms) * 1000)),
        Metric::CostPerRequest => None,
    }
}

/// The units whose time is over since the last look. By when telemetry got them and not by when they were exposed: what
/// was on its way for long brings its events with it.
fn matured(
    connection: &mut Connection<'_>,
    state: &State,
    guard: &Guard,
    event: &str,
    until_us: i64,
    seen: &mut Cursor,
) -> sql::Result<Vec<Matured>> {
    let window_us = i64::from(guard.window_s) * 1_000_000;
    let query = format!(
        "SELECT share, sticky, treated, id, CASE WHEN {event} THEN 1 ELSE 0 END,
            CASE WHEN rated_us <= exposed_us + {window_us} THEN 1 ELSE 0 END
        FROM exposures WHERE id > $1 AND rollout_id = $2 AND epoch = $3 AND id < coalesce(
            (SELECT min(id) FROM exposures WHERE received_us > $4), 9223372036854775807)"
    );
    let start = seen.matured.get(&guard.metric).copied().unwrap_or(state.before());
    let mut last = start;
    let values = values![start, &state.plan().id, state.epoch(), until_us - window_us];
    let mut rows: BTreeMap<(u32, bool), [Seen; 2]> = BTreeMap::new();
    connection.query(&query, values, |row| {
        let (share, sticky, treated): (u32, bool, bool) = (row.get(0)?, row.get(1)?, row.get(2)?);
        last = last.max(row.get(3)?);
        let units = &mut rows.entry((share, sticky)).or_default()[usize::from(treated)];
        units.n += 1;
        units.events += row.get::<i64, _>(4)?.unsigned_abs();
        units.rated += row.get::<i64, _>(5)?.unsigned_abs();
        Ok(())
    })?;
    seen.matured.insert(guard.metric, last);
    let metric = guard.metric;
    let rows = rows.into_iter().map(|((share, sticky), [control, treated])| Matured {
        metric,
        share,
        sticky,
        treated,
        control,
    });
    Ok(rows.collect())
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
