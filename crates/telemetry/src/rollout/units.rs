//! Units as they are exposed, and again when their time for an event is over.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use bundle::rollout::{Guard, Metric, Plan};
use sql::{Connection, Row, values};

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

/// A unit, from the columns of [`SCAN`].
struct Unit<'r> {
    stage: &'r str,
    bundle: &'r str,
    share: u32,
    sticky: bool,
    treated: bool,
    exposed_us: i64,
    took_us: i64,
    /// When it had its first event of each kind, from escalated to misrouted.
    events: [Option<i64>; 7],
}

/// Scanned by id, whatever the database thinks of the index by customer: ids are as they came, customers are not.
const SCAN: &str =
    "SELECT stage, bundle, share, sticky, treated, exposed_us, took_us, escalated_us, failed_us,
        withheld_us, ungrounded_us, rated_us, dissatisfied_us, misrouted_us
    FROM exposures WHERE id >= $1 AND id < $2 AND rollout_id || '' = $3 AND epoch + 0 = $4";

impl<'r> Unit<'r> {
    fn of(row: &'r Row<'_>) -> sql::Result<Self> {
        let mut events = [None; 7];
        for (event, column) in events.iter_mut().zip(7..) {
            *event = row.get(column)?;
        }
        Ok(Self {
            stage: row.get(0)?,
            bundle: row.get(1)?,
            share: row.get(2)?,
            sticky: row.get(3)?,
            treated: row.get(4)?,
            exposed_us: row.get(5)?,
            took_us: row.get(6)?,
            events,
        })
    }

    /// Whether it had an event of a guard within the guard's window.
    fn had(&self, guard: &Guard) -> bool {
        let [escalated, failed, withheld, ungrounded, _, dissatisfied, misrouted] = self.events;
        let event = match guard.metric {
            Metric::EscalationUnplanned => escalated,
            Metric::Dissatisfied => dissatisfied,
            Metric::UngroundedDelivered => ungrounded,
            Metric::UngroundedGenerated => withheld,
            Metric::Misrouted => misrouted,
            Metric::Failed => failed,
            Metric::LatencyOverSla => return self.took_us > i64::from(guard.sla_ms) * 1000,
            Metric::CostPerRequest => None,
        };
        self.within(event, guard)
    }

    fn rated(&self, guard: &Guard) -> bool {
        let [.., rated, _, _] = self.events;
        self.within(rated, guard)
    }

    fn within(&self, event: Option<i64>, guard: &Guard) -> bool {
        event.is_some_and(|at_us| at_us <= self.exposed_us + window_us(guard))
    }
}

/// Counts of control and treated units by share, and by whether the customers have keys.
type Counts<T> = BTreeMap<(u32, bool), [T; 2]>;

/// What is added up over a range of ids.
struct Sums<'p> {
    plan: &'p Plan,
    exposed: BTreeMap<String, Counts<u64>>,
    strangers: u64,
    matured: Vec<Counts<Seen>>,
}

impl Sums<'_> {
    fn expose(&mut self, unit: &Unit<'_>) {
        self.strangers += u64::from(!self.plan.candidate.is_empty() && unit.bundle != self.plan.candidate);
        if !self.exposed.contains_key(unit.stage) {
            self.exposed.insert(unit.stage.to_owned(), Counts::new());
        }
        if let Some(shares) = self.exposed.get_mut(unit.stage) {
            shares.entry((unit.share, unit.sticky)).or_default()[usize::from(unit.treated)] += 1;
        }
    }

    fn mature(&mut self, unit: &Unit<'_>, at: usize) {
        let guard = &self.plan.guards[at];
        let seen =
            &mut self.matured[at].entry((unit.share, unit.sticky)).or_default()[usize::from(unit.treated)];
        seen.n += 1;
        seen.events += u64::from(unit.had(guard));
        seen.rated += u64::from(unit.rated(guard));
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
        connection.query(SCAN, values![part.start, part.end, &plan.id, state.epoch()], |row| {
            let unit = Unit::of(row)?;
            if new {
                sums.expose(&unit);
            }
            guards.iter().for_each(|at| sums.mature(&unit, *at));
            Ok(())
        })?;
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
