//! What the store has seen since the last look, as counts.

use std::collections::BTreeMap;

use bundle::rollout::{Guard, Metric};
use sql::{Connection, values};

use super::control::State;
use super::tick::{Cost, Cursor, Exposed, Failures, Matured, Seen, Tick};

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
    Ok(Cursor { exposure, matured: BTreeMap::new(), turn, labels_us })
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
    let (turns, cost) = turns(connection, &mut seen)?;
    let last = last(connection, state.began_us())?;
    let incidents = incidents(connection, state, &mut seen)?;
    Ok(Tick {
        turns,
        exposed,
        matured: matured_rows,
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
    const QUERY: &str = "SELECT stage, share, sticky, count(*) FILTER (WHERE treated = 1),
            count(*) FILTER (WHERE treated = 0), max(id), count(*) FILTER (WHERE $4 <> '' AND bundle <> $4)
        FROM exposures WHERE id > $1 AND rollout_id = $2 AND epoch = $3
        GROUP BY stage, share, sticky ORDER BY stage, share, sticky";
    let plan = state.plan();
    let mut strangers = 0;
    let values = values![seen.exposure, &plan.id, state.epoch(), &plan.candidate];
    let rows = connection.query(QUERY, values, |row| {
        seen.exposure = seen.exposure.max(row.get(5)?);
        strangers += count(row.get(6)?);
        Ok(Exposed {
            stage: row.get(0)?,
            share: row.get(1)?,
            sticky: row.get(2)?,
            treated: count(row.get(3)?),
            control: count(row.get(4)?),
        })
    })?;
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
        "SELECT share * 4 + sticky * 2 + treated AS kind, count(*), count(*) FILTER (WHERE {event}),
            count(*) FILTER (WHERE rated_us <= exposed_us + {window_us}), max(id)
        FROM exposures WHERE id > $1 AND rollout_id = $2 AND epoch = $3 AND id < coalesce(
            (SELECT min(id) FROM exposures WHERE received_us > $4), 9223372036854775807)
        GROUP BY kind ORDER BY kind"
    );
    let start = seen.matured.get(&guard.metric).copied().unwrap_or(state.before());
    let mut last = start;
    let values = values![start, &state.plan().id, state.epoch(), until_us - window_us];
    let mut rows: BTreeMap<(u32, bool), Matured> = BTreeMap::new();
    connection.query(&query, values, |row| {
        let kind: u32 = row.get(0)?;
        let (share, sticky, treated) = (kind / 4, kind & 2 != 0, kind & 1 != 0);
        let units = Seen { n: count(row.get(1)?), events: count(row.get(2)?), rated: count(row.get(3)?) };
        last = last.max(row.get(4)?);
        let (none, metric) = (Seen::default(), guard.metric);
        let both = rows.entry((share, sticky)).or_insert(Matured {
            metric,
            share,
            sticky,
            treated: none,
            control: none,
        });
        *if treated { &mut both.treated } else { &mut both.control } = units;
        Ok(())
    })?;
    seen.matured.insert(guard.metric, last);
    Ok(rows.into_values().collect())
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
    // A failed guard and overload; an answer that took another way is none.
    const QUERY: &str = "SELECT CASE WHEN outcome = 3 AND reason IN (9, 15) THEN 1 ELSE 0 END FROM turns
        WHERE arm = 2 AND accepted_us >= $1 ORDER BY id DESC LIMIT $2";
    let failed = connection.query(QUERY, values![from_us, LAST], |row| row.get::<bool, _>(0))?;
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
