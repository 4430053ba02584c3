//! Units as they are exposed, and again when their time for an event is over.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use bundle::rollout::{Guard, Metric, Plan};
use sql::{Connection, values};

use super::control::State;
use super::tick::{Cursor, Exposed, Matured, Seen};

/// What units have shown since the last look.
#[derive(Debug, Default)]
pub(super) struct Units {
    pub(super) exposed: Vec<Exposed>,
    pub(super) matured: Vec<Matured>,
    /// Exposed to another bundle than the candidate.
    pub(super) strangers: u64,
}

/// Counts of control and treated units by share, and by whether the customers have keys.
type Counts<T> = BTreeMap<(u32, bool), [T; 2]>;

/// Units that are alike in both numbers of a scan.
type Alike = BTreeMap<(i64, i64), u64>;

/// What is added up over ranges of ids.
struct Sums<'p> {
    plan: &'p Plan,
    exposed: BTreeMap<String, Counts<u64>>,
    strangers: u64,
    matured: Vec<Counts<Seen>>,
}

/// Bit of a unit that was exposed to another bundle than the candidate; before it each guard has two, for an event and a
/// rating within its window.
const STRANGER: u64 = 1 << 32;

impl Sums<'_> {
    /// Adds the units of a range, of which those of `guards` are over, and all are new or none.
    fn scan(
        &mut self,
        connection: &mut Connection<'_>,
        range: &Range<i64>,
        epoch: u32,
        guards: &[usize],
        new: bool,
    ) -> sql::Result<()> {
        // Two numbers a unit, and the database need not sort. Scanned by id, whatever it thinks of the index by customer:
        // ids are as they came, customers are not.
        let query = format!(
            "SELECT share * 4 + sticky * 2 + treated, {}, {} FROM exposures
            WHERE id >= $1 AND id < $2 AND rollout_id || '' = $3 AND epoch + 0 = $4",
            self.bits(guards, new),
            if new { "stage" } else { "''" },
        );
        let values = values![range.start, range.end, &self.plan.id, epoch, &self.plan.candidate];
        let mut found: Vec<(String, Alike)> = Vec::new();
        connection.query(&query, values, |row| {
            let (place, stage): ((i64, i64), &str) = ((row.get(0)?, row.get(1)?), row.get(2)?);
            if found.last().is_none_or(|(last, _)| last != stage) {
                found.push((stage.to_owned(), Alike::new()));
            }
            if let Some((_, counts)) = found.last_mut() {
                *counts.entry(place).or_default() += 1;
            }
            Ok(())
        })?;
        for (stage, counts) in found {
            for ((unit, bits), n) in counts {
                self.add(&stage, unit.unsigned_abs(), bits.unsigned_abs(), n, guards, new);
            }
        }
        Ok(())
    }

    /// What is to be known of each unit, as bits, in SQL.
    fn bits(&self, guards: &[usize], new: bool) -> String {
        let bit = |of: String, bit: u64| format!(" + CASE WHEN {of} THEN {bit} ELSE 0 END");
        let mut bits = "0".to_owned();
        for at in guards {
            let guard = &self.plan.guards[*at];
            bits += &bit(event(guard), 1 << (2 * at));
            if guard.metric == Metric::Dissatisfied {
                bits += &bit(within("rated_us", guard), 2 << (2 * at));
            }
        }
        let is_new = u8::from(new);
        bits + &bit(format!("{is_new} = 1 AND $5 <> '' AND bundle <> $5"), STRANGER)
    }

    fn add(&mut self, stage: &str, unit: u64, bits: u64, n: u64, guards: &[usize], new: bool) {
        let share = u32::try_from(unit / 4).unwrap_or(u32::MAX);
        let (place, arm) = ((share, unit & 2 > 0), usize::from(unit & 1 > 0));
        let many = |bit: u64| if bits & bit > 0 { n } else { 0 };
        if new {
            self.strangers += many(STRANGER);
            self.exposed.entry(stage.to_owned()).or_default().entry(place).or_default()[arm] += n;
        }
        for at in guards {
            let seen = &mut self.matured[*at].entry(place).or_default()[arm];
            seen.n += n;
            seen.events += many(1 << (2 * at));
            seen.rated += many(2 << (2 * at));
        }
    }

    fn end(self) -> Units {
        let mut units = Units { strangers: self.strangers, ..Units::default() };
        for (stage, shares) in self.exposed {
            units.exposed.extend(shares.into_iter().map(|((share, sticky), [control, treated])| Exposed {
                stage: stage.clone(),
                share,
                sticky,
                treated,
                control,
            }));
        }
        for (guard, shares) in self.plan.guards.iter().zip(self.matured) {
            let metric = guard.metric;
            units.matured.extend(shares.into_iter().map(|((share, sticky), [control, treated])| Matured {
                metric,
                share,
                sticky,
                treated,
                control,
            }));
        }
        units
    }
}

/// That a unit had an event of a guard, in SQL.
fn event(guard: &Guard) -> String {
    let column = match guard.metric {
        Metric::EscalationUnplanned => "escalated_us",
        Metric::Dissatisfied => "dissatisfied_us",
        Metric::UngroundedDelivered => "ungrounded_us",
        Metric::UngroundedGenerated => "withheld_us",
        Metric::Misrouted => "misrouted_us",
        Metric::Failed => "failed_us",
        Metric::LatencyOverSla => return format!("took_us > {}", i64::from(guard.sla_ms) * 1000),
        Metric::CostPerRequest => return "1 = 0".to_owned(),
    };
    within(column, guard)
}

fn within(column: &str, guard: &Guard) -> String {
    format!("{column} <= exposed_us + {}", window_us(guard))
}

fn window_us(guard: &Guard) -> i64 {
    i64::from(guard.window_s) * 1_000_000
}

/// Reads the units exposed since the last look, and for each guard those whose time has been over since then, before
/// `until_us`. By when telemetry got them and not by when they were exposed: what was on its way for long brings its
/// events with it. Each is read once for all that it counts in.
pub(super) fn read(
    connection: &mut Connection<'_>,
    state: &State,
    until_us: i64,
    seen: &mut Cursor,
) -> sql::Result<Units> {
    let plan = state.plan();
    let end = id(connection, "SELECT max(id) FROM exposures", &[])?
        .map_or(seen.exposure, |last| last.max(seen.exposure))
        + 1;
    let exposed = seen.exposure + 1..end;
    seen.exposure = end - 1;
    let mut matured = Vec::new();
    for guard in &plan.guards {
        let from = seen.matured.get(&guard.metric).copied().unwrap_or(state.before()) + 1;
        // The first that is too young, in whatever rollout: all before it came before it.
        let young = "SELECT min(id) FROM exposures WHERE received_us > $1";
        let to = id(connection, young, values![until_us - window_us(guard)])?.unwrap_or(end);
        let range = from..to.max(from);
        if guard.metric != Metric::CostPerRequest {
            seen.matured.insert(guard.metric, range.end - 1);
        }
        matured.push(if guard.metric == Metric::CostPerRequest { from..from } else { range });
    }
    let counts = vec![Counts::new(); plan.guards.len()];
    let mut sums = Sums { plan, exposed: BTreeMap::new(), strangers: 0, matured: counts };
    for part in parts(std::iter::once(&exposed).chain(&matured)) {
        let holds = |range: &Range<i64>| range.start <= part.start && part.end <= range.end;
        let guards: Vec<_> = (0..matured.len()).filter(|at| holds(&matured[*at])).collect();
        let new = holds(&exposed);
        if !new && guards.is_empty() {
            continue;
        }
        sums.scan(connection, &part, state.epoch(), &guards, new)?;
    }
    Ok(sums.end())
}

/// The smallest pieces that ranges of ids cut each other into.
fn parts<'r>(ranges: impl Iterator<Item = &'r Range<i64>>) -> Vec<Range<i64>> {
    let cuts: BTreeSet<_> =
        ranges.filter(|range| !range.is_empty()).flat_map(|range| [range.start, range.end]).collect();
    let cuts: Vec<_> = cuts.into_iter().collect();
    cuts.windows(2).map(|pair| pair[0]..pair[1]).collect()
}

fn id(connection: &mut Connection<'_>, query: &str, values: &[sql::Value<'_>]) -> sql::Result<Option<i64>> {
    Ok(connection.first(query, values, |row| row.get::<Option<i64>, _>(0))?.flatten())
}
