//! What customers may cost: tokens of model calls a turn, a day and a month, turns a minute, turns of a conversation.

mod shared;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use sql::{Connection, Result, values};

use crate::config::Budget;
use crate::store::Journal;
use shared::Taken;

const MINUTE: i64 = 60_000_000;
const DAY: i64 = 24 * 60 * MINUTE;
/// Days of 400 years of the Gregorian calendar, and from its first of March of the year 0 to the Unix epoch.
const ERA: (i64, i64) = (146_097, 719_468);
/// Most tokens one call is believed to have cost.
const MAX_TOKENS: i64 = u32::MAX as i64;

/// A customer by hash, so that a day of customers fits into memory and no key is stored twice.
pub(crate) type Key = [u8; 16];

/// Who pays: the customer, and without a key of one the conversation.
pub(crate) fn key(customer_key: &str, conversation_id: &str) -> Key {
    let mut hasher = blake3::Hasher::new();
    match customer_key {
        "" => hasher.update(b"conversation ").update(conversation_id.as_bytes()),
        _ => hasher.update(b"customer ").update(customer_key.as_bytes()),
    };
    let mut key = Key::default();
    hasher.finalize_xof().fill(&mut key);
    key
}

/// The budget that a call would exceed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    /// That of one turn.
    Turn,
    /// The customer's own, of a day or a month.
    Customer(Span),
    /// That of all customers together.
    Installation(Span),
}

/// How long a budget lasts, by UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Span {
    Day,
    Month,
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Turn => "the tokens of the turn",
            Self::Customer(Span::Day) => "the customer's tokens of the day",
            Self::Customer(Span::Month) => "the customer's tokens of the month",
            Self::Installation(Span::Day) => "the installation's tokens of the day",
            Self::Installation(Span::Month) => "the installation's tokens of the month",
        })
    }
}

/// The sum of all customers stands under this.
const EVERYBODY: Key = [0; 16];

/// Tokens of a customer on a day, counted in days since the Unix epoch, UTC; below 0 where less was spent than charged.
/// In the store also those of a month, under its [`month`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Spend {
    day: i64,
    key: Key,
    tokens: i64,
}

/// Tokens charged before a call, to be settled after it.
#[derive(Debug)]
#[must_use]
pub(crate) struct Charge {
    spend: Spend,
    /// Whether a soft limit is passed.
    pub(crate) is_soft: bool,
}

/// The number of the month of a day, below 0 so that it is no day, and lower the later it is. (Civil from days: Hinnant,
/// "chrono-compatible low-level date algorithms".)
fn month(day: i64) -> i64 {
    let (length, epoch) = ERA;
    let (era, of_era) = ((day + epoch).div_euclid(length), (day + epoch).rem_euclid(length));
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    -((era * 400 + year) * 12 + (5 * of_year + 2) / 153) - 1
}

/// A limit of somebody, with what it is called.
type Limit = (Key, Span, u64, Scope);

impl Budget {
    /// The limits that a call of somebody is under; 0 is none.
    fn limits(&self, key: Key) -> [Limit; 4] {
        use Scope::{Customer, Installation};
        use Span::{Day, Month};
        [
            (key, Day, self.customer_tokens_per_day, Customer(Day)),
            (key, Month, self.customer_tokens_per_month, Customer(Month)),
            (EVERYBODY, Day, self.tokens_per_day, Installation(Day)),
            (EVERYBODY, Month, self.tokens_per_month, Installation(Month)),
        ]
    }

    /// Whether so many tokens pass a soft limit.
    ///
    /// # Errors
    /// The hard one that they pass.
    fn weigh(&self, spent: i64, (.., limit, scope): Limit) -> std::result::Result<bool, Scope> {
        match limit {
            0 => Ok(false),
            limit if spent > signed(limit) => Err(scope),
            limit => Ok(spent as f64 > limit as f64 * self.soft_share),
        }
    }
}

/// What was spent today, with what calls under way may still spend: of a process that has its journal for itself. Where
/// several share one, customers are charged there, and here stand the turns of a minute and what this process has taken of
/// the installation's tokens: one row for everybody, written by every turn, would be the queue of all turns.
#[derive(Debug)]
pub(crate) struct Ledger {
    limits: Budget,
    book: Mutex<Book>,
    /// By day: turns that began before midnight spend of theirs.
    taken: Mutex<BTreeMap<i64, Taken>>,
}

#[derive(Debug, Default)]
struct Book {
    day: Account,
    month: Account,
    minute: i64,
    turns: HashMap<Key, u32>,
}

/// What customers, and [`EVERYBODY`], spent in a day or a month.
#[derive(Debug, Default)]
struct Account {
    /// A day, or a [`month`].
    period: i64,
    tokens: HashMap<Key, i64>,
}

impl Charge {
    /// How much was charged.
    pub(crate) fn tokens(&self) -> u64 {
        self.spend.tokens.unsigned_abs()
    }
}

impl Spend {
    pub(crate) fn new(key: Key, tokens: u64, at: i64) -> Self {
        Self { day: at.div_euclid(DAY), key, tokens: signed(tokens) }
    }

    pub(crate) fn is_some(&self) -> bool {
        self.tokens > 0
    }

    /// What it is when so much was spent; `None`: as it is.
    fn but(self, tokens: Option<u64>) -> Self {
        Self { tokens: tokens.map_or(self.tokens, signed).min(MAX_TOKENS), ..self }
    }
}

fn signed(tokens: u64) -> i64 {
    i64::try_from(tokens).unwrap_or(i64::MAX)
}

impl Ledger {
    /// A ledger that goes on with what was spent before; times are microseconds since the Unix epoch.
    pub(crate) fn new(limits: Budget, spent: &[Spend], at: i64) -> Self {
        let mut book = Book::default();
        book.turn_to(at.div_euclid(DAY));
        for Spend { day, key, tokens } in spent {
            let account = if *day < 0 { &mut book.month } else { &mut book.day };
            if account.period == *day {
                account.add(*key, *tokens);
            }
        }
        Self { limits, book: Mutex::new(book), taken: Mutex::default() }
    }

    /// Charges a call that costs at most `tokens`, unless a budget does not have them.
    pub(crate) fn charge(&self, key: Key, tokens: u64, at: i64) -> std::result::Result<Charge, Scope> {
        let (mut book, tokens) = (self.book(), signed(tokens));
        book.turn_to(at.div_euclid(DAY));
        let mut is_soft = false;
        for limit in self.limits.limits(key) {
            let (key, span, ..) = limit;
            is_soft |= self.limits.weigh(book.of(span).of(&key).saturating_add(tokens), limit)?;
        }
        let spend = Spend { day: book.day.period, key, tokens };
        book.add(spend);
        Ok(Charge { spend, is_soft })
    }

    /// Replaces a charge by what the call cost; `None` when nobody knows: then the charge stands.
    pub(crate) fn settle(&self, charge: Charge, tokens: Option<u64>) -> Spend {
        let charged = charge.spend;
        let spend = charged.but(tokens);
        self.book().add(Spend { tokens: spend.tokens.saturating_sub(charged.tokens), ..charged });
        spend
    }

    /// Counts a turn; `false` when the customer has had all of this minute.
    pub(crate) fn admit(&self, key: Key, at: i64) -> bool {
        let most = self.limits.turns_per_minute;
        if most == 0 {
            return true;
        }
        let (mut book, minute) = (self.book(), at.div_euclid(MINUTE));
        if book.minute != minute {
            book.turns.clear();
            book.minute = minute;
        }
        let turns = book.turns.entry(key).or_default();
        let free = *turns < most;
        *turns += u32::from(free);
        free
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Book {
    /// A clock that is set back does not give a budget twice.
    fn turn_to(&mut self, day: i64) {
        if day > self.day.period {
            self.day = Account { period: day, ..Account::default() };
        }
        if month(day) < self.month.period {
            self.month = Account { period: month(day), ..Account::default() };
        }
    }

    fn of(&self, span: Span) -> &Account {
        match span {
            Span::Day => &self.day,
            Span::Month => &self.month,
        }
    }

    fn add(&mut self, Spend { day, key, tokens }: Spend) {
        for (account, period) in [(&mut self.day, day), (&mut self.month, month(day))] {
            if account.period == period {
                account.add(key, tokens);
            }
        }
    }
}

impl Account {
    fn of(&self, key: &Key) -> i64 {
        self.tokens.get(key).copied().unwrap_or_default()
    }

    fn add(&mut self, key: Key, tokens: i64) {
        for key in [key, EVERYBODY] {
            match self.of(&key).saturating_add(tokens) {
                // Who has spent nothing takes no memory.
                ..=0 => drop(self.tokens.remove(&key)),
                sum => drop(self.tokens.insert(key, sum)),
            }
        }
    }
}

/// Writes what a turn spent, and forgets some of what earlier days and months did.
pub(crate) fn keep(connection: &mut Connection<'_>, spends: &[Spend]) -> Result<()> {
    for Spend { day, key, tokens } in spends {
        for period in [*day, month(*day)] {
            let upsert = "INSERT INTO spend VALUES ($1, $2, $3)
                ON CONFLICT (day, customer) DO UPDATE SET tokens = spend.tokens + excluded.tokens";
            connection.execute(upsert, values![period, key, tokens])?;
        }
        let delete = "DELETE FROM spend WHERE (day, customer) IN
            (SELECT day, customer FROM spend WHERE day >= 0 AND day < $1 OR day < 0 AND day > $2 LIMIT 100)";
        connection.execute(delete, values![day, month(*day)])?;
    }
    Ok(())
}

/// What was spent in the day and the month of a time.
fn spent(connection: &mut Connection<'_>, at: i64) -> Result<Vec<Spend>> {
    let day = at.div_euclid(DAY);
    let query = "SELECT day, customer, tokens FROM spend WHERE day = $1 OR day = $2";
    connection.query(query, values![day, month(day)], |row| {
        Ok(Spend { day: row.get(0)?, key: row.get(1)?, tokens: row.get(2)? })
    })
}

impl Journal {
    /// What was spent in the day and the month of a time, in microseconds since the Unix epoch.
    pub(crate) async fn spent(&self, at: i64) -> Result<Vec<Spend>> {
        self.sql.read(move |connection| spent(connection, at)).await
    }
}

#[cfg(test)]
mod tests;
