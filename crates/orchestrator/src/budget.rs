//! What customers may cost: tokens of model calls a day, turns a minute, turns of a conversation.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use proto::Usage;
use sql::{Connection, Result, values};

use crate::config::Budget;
use crate::draft::Draft;
use crate::store::Journal;
use crate::turn::Orchestrator;

const MINUTE: i64 = 60_000_000;
const DAY: i64 = 24 * 60 * MINUTE;
/// Tokens of a prompt beside the texts of the request: the bundle's template and the server's own.
const PROMPT_TOKENS: u64 = 2048;
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
    /// The customer's own.
    Customer,
    /// That of all customers together.
    Installation,
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Customer => "the customer's tokens of the day",
            Self::Installation => "the installation's tokens of the day",
        })
    }
}

/// In the store of several processes the sum of all customers stands under this.
const EVERYBODY: Key = [0; 16];

/// Tokens of a customer on a day, counted in days since the Unix epoch, UTC; below 0 where less was spent than charged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Spend {
    day: i64,
    key: Key,
    tokens: i64,
}

/// Tokens charged before a call, to be settled after it.
#[derive(Debug)]
#[must_use]
pub(crate) struct Charge(Spend);

/// What was spent today, with what calls under way may still spend: of a process that has its journal for itself. Where
/// several share one, tokens are charged there, and only the turns of a minute are counted here.
#[derive(Debug)]
pub(crate) struct Ledger {
    limits: Budget,
    book: Mutex<Book>,
}

#[derive(Debug, Default)]
struct Book {
    day: i64,
    tokens: i64,
    customers: HashMap<Key, i64>,
    minute: i64,
    turns: HashMap<Key, u32>,
}

impl Spend {
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
        let day = at.div_euclid(DAY);
        let mut book = Book { day, ..Book::default() };
        spent.iter().filter(|spend| spend.day == day).copied().for_each(|spend| book.add(spend));
        Self { limits, book: Mutex::new(book) }
    }

    /// Charges a call that costs at most `tokens`, unless a budget does not have them.
    pub(crate) fn charge(&self, key: Key, tokens: u64, at: i64) -> std::result::Result<Charge, Scope> {
        let (mut book, tokens) = (self.book(), signed(tokens));
        book.turn_to(at.div_euclid(DAY));
        let exceeds = |spent: i64, limit| limit > 0 && spent.saturating_add(tokens) > signed(limit);
        if exceeds(book.of(&key), self.limits.customer_tokens_per_day) {
            return Err(Scope::Customer);
        }
        if exceeds(book.tokens, self.limits.tokens_per_day) {
            return Err(Scope::Installation);
        }
        let spend = Spend { day: book.day, key, tokens };
        book.add(spend);
        Ok(Charge(spend))
    }

    /// Replaces a charge by what the call cost; `None` when nobody knows: then the charge stands.
    pub(crate) fn settle(&self, charge: Charge, tokens: Option<u64>) -> Spend {
        let Charge(charged) = charge;
        let spend = charged.but(tokens);
        let mut book = self.book();
        if book.day == charged.day {
            book.remove(charged);
            book.add(spend);
        }
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
    /// A clock that is set back does not give a day's budget twice.
    fn turn_to(&mut self, day: i64) {
        if day > self.day {
            self.day = day;
            self.tokens = 0;
            self.customers.clear();
        }
    }

    fn of(&self, key: &Key) -> i64 {
        self.customers.get(key).copied().unwrap_or_default()
    }

    fn add(&mut self, spend: Spend) {
        if spend.tokens > 0 {
            self.tokens = self.tokens.saturating_add(spend.tokens);
            let own = self.customers.entry(spend.key).or_default();
            *own = own.saturating_add(spend.tokens);
        }
    }

    fn remove(&mut self, spend: Spend) {
        self.tokens = self.tokens.saturating_sub(spend.tokens);
        let left = self.of(&spend.key).saturating_sub(spend.tokens);
        // Who has spent nothing takes no memory.
        if left <= 0 {
            self.customers.remove(&spend.key);
        } else {
            self.customers.insert(spend.key, left);
        }
    }
}

/// Writes what a turn spent, and forgets some of what earlier days did.
pub(crate) fn keep(connection: &mut Connection<'_>, spends: &[Spend]) -> Result<()> {
    for Spend { day, key, tokens } in spends {
        let upsert = "INSERT INTO spend VALUES ($1, $2, $3)
            ON CONFLICT (day, customer) DO UPDATE SET tokens = spend.tokens + excluded.tokens";
        connection.execute(upsert, values![day, key, tokens])?;
        let delete = "DELETE FROM spend WHERE (day, customer) IN (SELECT day, customer FROM spend WHERE day < $1 LIMIT 100)";
        connection.execute(delete, values![day])?;
    }
    Ok(())
}

/// What was spent on the day of a time.
fn spent(connection: &mut Connection<'_>, at: i64) -> Result<Vec<Spend>> {
    let query = "SELECT day, customer, tokens FROM spend WHERE day = $1";
    connection.query(query, values![at.div_euclid(DAY)], |row| {
        Ok(Spend { day: row.get(0)?, key: row.get(1)?, tokens: row.get(2)? })
    })
}

impl Journal {
    /// What was spent on the day of a time, in microseconds since the Unix epoch.
    pub(crate) async fn spent(&self, at: i64) -> Result<Vec<Spend>> {
        self.sql.read(move |connection| spent(connection, at)).await
    }

    /// Charges a call in the store, for all processes that share it. A commit that got no answer may charge twice.
    async fn charge(&self, spend: Spend, limits: Budget) -> Result<std::result::Result<Charge, Scope>> {
        let wanted = [
            (spend.key, limits.customer_tokens_per_day, Scope::Customer),
            (EVERYBODY, limits.tokens_per_day, Scope::Installation),
        ];
        let write = move |connection: &mut Connection<'_>| {
            let query = "SELECT tokens FROM spend WHERE day = $1 AND customer = $2";
            // Nobody else charges between the look and the charge; a turn's end may only give back.
            connection.lock("spend")?;
            for (key, limit, scope) in &wanted {
                let spent = connection.first(query, values![spend.day, key], |row| row.get::<i64, _>(0))?;
                if *limit > 0 && spent.unwrap_or(0).saturating_add(spend.tokens) > signed(*limit) {
                    return Ok(Err(*scope));
                }
            }
            keep(connection, &wanted.each_ref().map(|(key, ..)| Spend { key: *key, ..spend }))?;
            Ok(Ok(Charge(spend)))
        };
        self.sql.write(write).await
    }
}

impl Orchestrator {
    /// Charges a model call of a turn; `None` when it would exceed a budget.
    pub(crate) async fn charge(&self, draft: &mut Draft<'_>, bytes: usize) -> Option<Charge> {
        let charge = self.charge_to(draft.payer, draft.accepted_at, bytes).await;
        charge.map_err(|why| draft.note(why)).ok()
    }

    /// Charges a model call with texts of so many bytes to somebody, or says why no model is asked. A token has at
    /// least one byte, so that only the length of the answer is an assumption.
    pub(crate) async fn charge_to(
        &self,
        key: Key,
        at: i64,
        bytes: usize,
    ) -> std::result::Result<Charge, String> {
        let tokens = bytes as u64 + PROMPT_TOKENS + u64::from(self.config.budget.answer_tokens);
        let charge = if self.journal.sql.is_shared() {
            let spend = Spend { day: at.div_euclid(DAY), key, tokens: signed(tokens) };
            let charge = self.journal.charge(spend, self.config.budget.clone()).await;
            charge.map_err(|error| format!("the budgets cannot be read: no model is asked: {error}"))?
        } else {
            self.ledger.charge(key, tokens, at)
        };
        charge.map_err(|scope| format!("{scope} do not suffice: no model is asked"))
    }

    /// Books what a charged call of a turn cost; `None` when nobody knows.
    pub(crate) fn settle(&self, draft: &mut Draft<'_>, charge: Option<Charge>, usage: Option<Usage>) {
        draft.spends.extend(charge.into_iter().flat_map(|charge| self.spend(charge, usage)));
    }

    /// What is to be booked of a charged call; `None` when nobody knows what it cost.
    pub(crate) fn spend(&self, charge: Charge, usage: Option<Usage>) -> Vec<Spend> {
        let tokens = usage.map(|usage| usage.input_tokens.saturating_add(usage.output_tokens));
        if self.journal.sql.is_shared() {
            let Charge(charged) = charge;
            let tokens = charged.but(tokens).tokens - charged.tokens;
            let beyond = [charged.key, EVERYBODY].map(|key| Spend { key, tokens, ..charged });
            return beyond.into_iter().filter(|_| tokens != 0).collect();
        }
        let spend = self.ledger.settle(charge, tokens);
        Some(spend).filter(|spend| spend.tokens > 0).into_iter().collect()
    }

    /// Whether the conversation has had all its turns.
    pub(crate) fn is_used_up(&self, draft: &Draft<'_>) -> bool {
        let most = self.config.budget.turns_per_conversation;
        most > 0 && draft.conversation.turns >= most
    }
}

impl Draft<'_> {
    /// Adds what a model call cost to the turn.
    pub(crate) fn pays(&mut self, usage: Option<Usage>, cost_usd: f64, prices: &str) {
        let usage = usage.unwrap_or_default();
        if !prices.is_empty() {
            prices.clone_into(&mut self.prices);
        }
        let total = self.turn.usage.get_or_insert_default();
        total.input_tokens += usage.input_tokens;
        total.output_tokens += usage.output_tokens;
        self.turn.cost_usd += cost_usd;
    }
}

#[cfg(test)]
mod tests;
