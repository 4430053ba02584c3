//! What the assistant costs and what measures save, added up by day as turns are stored: no personal data, so that it
//! outlives them.

pub mod forecast;
pub mod plan;
pub(crate) mod run;
pub(crate) mod server;
pub mod transition;

use std::collections::BTreeMap;

use sql::{Connection, Result, values};

use crate::record::{Error, Row};
use crate::store::Store;

/// See the migrations of the store.
pub(crate) const TABLES: &str = "
CREATE TABLE costs (
    day INTEGER NOT NULL, purpose INTEGER NOT NULL, unseen INTEGER NOT NULL, model TEXT NOT NULL, category TEXT NOT NULL,
    calls INTEGER NOT NULL, input INTEGER NOT NULL, cached INTEGER NOT NULL, output INTEGER NOT NULL,
    nanos INTEGER NOT NULL, PRIMARY KEY (day, purpose, unseen, model, category)
) STRICT;
CREATE TABLE savings (
    day INTEGER NOT NULL, measure TEXT NOT NULL, turns INTEGER NOT NULL, tokens INTEGER NOT NULL, nanos INTEGER NOT NULL,
    PRIMARY KEY (day, measure)
) STRICT;
CREATE TABLE traffic (hour INTEGER NOT NULL PRIMARY KEY, turns INTEGER NOT NULL, written INTEGER NOT NULL) STRICT;
";

/// Microseconds of an hour.
const HOUR: i64 = 3_600_000_000;
/// Hours of a day.
pub(crate) const HOURS: i64 = 24;

/// The day since 1970, UTC, of a moment in microseconds since then.
pub(crate) fn day(us: i64) -> i64 {
    us.div_euclid(HOUR * HOURS)
}

/// What a model was called for, as the number of the contract.
pub type Purpose = u8;
/// To write an answer.
pub const ANSWER: Purpose = 1;

/// Tokens and money of some calls.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Spent {
    /// Calls.
    pub calls: i64,
    /// Tokens of the prompts.
    pub input: i64,
    /// Those of them that the provider had in its cache.
    pub cached: i64,
    /// Tokens of the completions.
    pub output: i64,
    /// Billionths of a US dollar.
    pub nanos: i64,
}

impl Spent {
    pub(crate) fn add(&mut self, other: Self) {
        self.calls = self.calls.saturating_add(other.calls);
        self.input = self.input.saturating_add(other.input);
        self.cached = self.cached.saturating_add(other.cached);
        self.output = self.output.saturating_add(other.output);
        self.nanos = self.nanos.saturating_add(other.nanos);
    }
}

/// One call of a model.
#[derive(Debug, Clone)]
pub struct Call {
    /// What it was called for.
    pub purpose: Purpose,
    /// Name of the model.
    pub model: String,
    /// What it cost.
    pub spent: Spent,
}

/// What one measure saved.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Saved {
    /// Turns.
    pub turns: i64,
    /// Tokens that were not sent.
    pub tokens: i64,
    /// Billionths of a US dollar that were not spent.
    pub nanos: i64,
}

/// What calls are told apart by: day since 1970, purpose, whether nobody read it, model, category.
type CostKey = (i64, Purpose, bool, String, String);

/// What is to be added to the tables, in their order, so that no two writers wait for each other.
#[derive(Debug, Default)]
pub(crate) struct Sums {
    costs: BTreeMap<CostKey, Spent>,
    savings: BTreeMap<(i64, &'static str), Saved>,
    traffic: BTreeMap<i64, (i64, i64)>,
}

impl Sums {
    /// Adds a stored turn.
    pub(crate) fn add(&mut self, row: &Row) {
        let (hour, day) = (row.accepted_us.div_euclid(HOUR), day(row.accepted_us));
        for Call { purpose, model, spent } in &row.calls {
            self.spend((day, *purpose, row.unseen, model.clone(), row.category.clone()), *spent);
        }
        if row.unseen {
            return;
        }
        for (measure, saved) in &row.saved {
            let sum = self.savings.entry((day, measure)).or_default();
            sum.turns += saved.turns;
            sum.tokens = sum.tokens.saturating_add(saved.tokens);
            sum.nanos = sum.nanos.saturating_add(saved.nanos);
        }
        let (turns, written) = self.traffic.entry(hour).or_default();
        *turns += 1;
        *written += i64::from(row.calls.iter().any(|call| call.purpose == ANSWER));
    }

    /// Adds what a judgement after a turn cost.
    pub(crate) fn spend(&mut self, key: CostKey, spent: Spent) {
        self.costs.entry(key).or_default().add(spent);
    }

    /// Writes the sums.
    pub(crate) fn keep(&self, connection: &mut Connection<'_>) -> Result<()> {
        const COST: &str = "INSERT INTO costs VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
            ON CONFLICT (day, purpose, unseen, model, category) DO UPDATE SET calls = costs.calls + excluded.calls,
                input = costs.input + excluded.input, cached = costs.cached + excluded.cached,
                output = costs.output + excluded.output, nanos = costs.nanos + excluded.nanos";
        for ((day, purpose, unseen, model, category), Spent { calls, input, cached, output, nanos }) in
            &self.costs
        {
            let values =
                values![day, *purpose, *unseen, model, category, calls, input, cached, output, nanos];
            connection.execute(COST, values)?;
        }
        const SAVING: &str = "INSERT INTO savings VALUES ($1, $2, $3, $4, $5)
            ON CONFLICT (day, measure) DO UPDATE SET turns = savings.turns + excluded.turns,
                tokens = savings.tokens + excluded.tokens, nanos = savings.nanos + excluded.nanos";
        for ((day, measure), Saved { turns, tokens, nanos }) in &self.savings {
            connection.execute(SAVING, values![day, *measure, turns, tokens, nanos])?;
        }
        const TRAFFIC: &str = "INSERT INTO traffic VALUES ($1, $2, $3) ON CONFLICT (hour) DO UPDATE
            SET turns = traffic.turns + excluded.turns, written = traffic.written + excluded.written";
        for (hour, (turns, written)) in &self.traffic {
            connection.execute(TRAFFIC, values![hour, turns, written])?;
        }
        Ok(())
    }
}

/// Calls of one model for one purpose in one category.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// What the model was called for.
    pub purpose: Purpose,
    /// Whether nobody read what it wrote.
    pub unseen: bool,
    /// Name of the model.
    pub model: String,
    /// Category of the bundle, may be empty.
    pub category: String,
    /// What the calls cost.
    pub spent: Spent,
}

/// One day.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Day {
    /// Days since 1970, UTC.
    pub day: i64,
    /// Billionths of a US dollar.
    pub nanos: i64,
    /// Turns.
    pub turns: i64,
    /// Turns for which a model was called to write.
    pub written: i64,
    /// Billionths of a US dollar that the first model of the configuration would have cost more.
    pub routing: i64,
}

/// The costs of some days.
#[derive(Debug, Clone, Default)]
pub struct Costs {
    /// The dearest first.
    pub lines: Vec<Line>,
    /// By measure.
    pub savings: Vec<(String, Saved)>,
    /// Every day of the window from the first on with turns or costs, the oldest first.
    pub days: Vec<Day>,
    /// Turns by hour of the day, UTC.
    pub hours: [i64; HOURS as usize],
}

impl Store {
    /// What was spent and saved from a day to another, both of them included, in days since 1970, UTC.
    ///
    /// # Errors
    /// `Store`.
    pub async fn costs(&self, from: i64, to: i64) -> std::result::Result<Costs, Error> {
        let read = move |connection: &mut Connection<'_>| {
            Ok(Costs {
                lines: lines(connection, from, to)?,
                savings: savings(connection, from, to)?,
                days: days(connection, from, to)?,
                hours: hours(connection, from, to)?,
            })
        };
        Ok(self.0.read(read).await?)
    }
}

fn lines(connection: &mut Connection<'_>, from: i64, to: i64) -> Result<Vec<Line>> {
    let sums = ["calls", "input", "cached", "output", "nanos"]
        .map(|column| format!("CAST(sum({column}) AS BIGINT)"));
    let query = format!(
        "SELECT purpose, unseen, model, category, {} FROM costs WHERE day BETWEEN $1 AND $2
            GROUP BY purpose, unseen, model, category ORDER BY sum(nanos) DESC, sum(calls) DESC, model, category",
        sums.join(", ")
    );
    connection.query(&query, values![from, to], |row| {
        let (calls, input, cached) = (row.get(4)?, row.get(5)?, row.get(6)?);
        let spent = Spent { calls, input, cached, output: row.get(7)?, nanos: row.get(8)? };
        Ok(Line {
            purpose: row.get(0)?,
            unseen: row.get(1)?,
            model: row.get(2)?,
            category: row.get(3)?,
            spent,
        })
    })
}

fn savings(connection: &mut Connection<'_>, from: i64, to: i64) -> Result<Vec<(String, Saved)>> {
    let query =
        "SELECT measure, CAST(sum(turns) AS BIGINT), CAST(sum(tokens) AS BIGINT), CAST(sum(nanos) AS BIGINT)
        FROM savings WHERE day BETWEEN $1 AND $2 GROUP BY measure ORDER BY measure";
    connection.query(query, values![from, to], |row| {
        Ok((row.get(0)?, Saved { turns: row.get(1)?, tokens: row.get(2)?, nanos: row.get(3)? }))
    })
}

fn days(connection: &mut Connection<'_>, from: i64, to: i64) -> Result<Vec<Day>> {
    let mut days = BTreeMap::<i64, Day>::new();
    let spent = "SELECT day, CAST(sum(nanos) AS BIGINT) FROM costs WHERE day BETWEEN $1 AND $2 GROUP BY day";
    for (day, nanos) in connection.query(spent, values![from, to], |row| Ok((row.get(0)?, row.get(1)?)))? {
        days.entry(day).or_default().nanos = nanos;
    }
    let routing = "SELECT day, nanos FROM savings WHERE measure = 'routing' AND day BETWEEN $1 AND $2";
    for (day, nanos) in connection.query(routing, values![from, to], |row| Ok((row.get(0)?, row.get(1)?)))? {
        days.entry(day).or_default().routing = nanos;
    }
    let turns = "SELECT hour, turns, written FROM traffic WHERE hour BETWEEN $1 AND $2";
    let hours = values![from * HOURS, to * HOURS + HOURS - 1];
    let hours: Vec<(i64, i64, i64)> =
        connection.query(turns, hours, |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    for (hour, turns, written) in hours {
        let day = days.entry(hour.div_euclid(HOURS)).or_default();
        (day.turns, day.written) = (day.turns + turns, day.written + written);
    }
    // A day on which nothing happened cost nothing, and counts.
    let first = days.keys().next().copied().unwrap_or(to + 1);
    Ok((first..=to).map(|day| Day { day, ..days.get(&day).copied().unwrap_or_default() }).collect())
}

fn hours(connection: &mut Connection<'_>, from: i64, to: i64) -> Result<[i64; HOURS as usize]> {
    let query = "SELECT hour, turns FROM traffic WHERE hour BETWEEN $1 AND $2";
    let values = values![from * HOURS, to * HOURS + HOURS - 1];
    let mut hours = [0; HOURS as usize];
    for (hour, turns) in
        connection.query(query, values, |row| Ok((row.get::<i64, _>(0)?, row.get::<i64, _>(1)?)))?
    {
        hours[hour.rem_euclid(HOURS) as usize] += turns;
    }
    Ok(hours)
}
