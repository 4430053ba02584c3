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
const MAX_TOKENS: u64 = u32::MAX as u64;

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

/// Tokens of a customer on a day, counted in days since the Unix epoch, UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Spend {
    day: i64,
    key: Key,
    tokens: u64,
}

/// Tokens charged before a call, to be settled after it.
#[derive(Debug)]
#[must_use]
pub(crate) struct Charge(Spend);

/// What was spent today, with what calls under way may still spend.
#[derive(Debug)]
pub(crate) struct Ledger {
    limits: Budget,
    book: Mutex<Book>,
}

#[derive(Debug, Default)]
struct Book {
    day: i64,
    tokens: u64,
    customers: HashMap<Key, u64>,
    minute: i64,
    turns: HashMap<Key, u32>,
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
        let mut book = self.book();
        book.turn_to(at.div_euclid(DAY));
        let exceeds = |spent: u64, limit| limit > 0 && spent.saturating_add(tokens) > limit;
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
        let spend = Spend { tokens: tokens.unwrap_or(charged.tokens).min(MAX_TOKENS), ..charged };
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

    fn of(&self, key: &Key) -> u64 {
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
        if left == 0 {
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
        connection.execute(upsert, values![day, key, i64::try_from(*tokens).unwrap_or(0)])?;
        let delete = "DELETE FROM spend WHERE (day, customer) IN (SELECT day, customer FROM spend WHERE day < $1 LIMIT 100)";
        connection.execute(delete, values![day])?;
    }
    Ok(())
}

/// What was spent on the day of a time.
fn spent(connection: &mut Connection<'_>, at: i64) -> Result<Vec<Spend>> {
    let query = "SELECT day, customer, tokens FROM spend WHERE day = $1";
    connection.query(query, values![at.div_euclid(DAY)], |row| {
        let tokens: i64 = row.get(2)?;
        Ok(Spend { day: row.get(0)?, key: row.get(1)?, tokens: tokens.unsigned_abs() })
    })
}

impl Journal {
    /// What was spent on the day of a time, in microseconds since the Unix epoch.
    pub(crate) async fn spent(&self, at: i64) -> Result<Vec<Spend>> {
        self.sql.read(move |connection| spent(connection, at)).await
    }
}

impl Orchestrator {
    /// Charges a model call with texts of so many bytes; `None` when it would exceed a budget. A token has at
    /// least one byte, so that only the length of the answer is an assumption.
    pub(crate) fn charge(&self, draft: &mut Draft<'_>, bytes: usize) -> Option<Charge> {
        let tokens = bytes as u64 + PROMPT_TOKENS + u64::from(self.config.budget.answer_tokens);
        let key = key(&draft.customer_key, &draft.turn.conversation_id);
        let charge = self.ledger.charge(key, tokens, draft.accepted_at);
        charge.map_err(|scope| draft.note(format!("{scope} do not suffice: no model is asked"))).ok()
    }

    /// Books what a charged call cost; `None` when nobody knows.
    pub(crate) fn settle(&self, draft: &mut Draft<'_>, charge: Option<Charge>, usage: Option<Usage>) {
        let Some(charge) = charge else { return };
        let tokens = usage.map(|usage| usage.input_tokens.saturating_add(usage.output_tokens));
        let spend = self.ledger.settle(charge, tokens);
        if spend.tokens > 0 {
            draft.spends.push(spend);
        }
    }

    /// Whether the conversation has had all its turns.
    pub(crate) fn is_used_up(&self, draft: &Draft<'_>) -> bool {
        let most = self.config.budget.turns_per_conversation;
        most > 0 && draft.conversation.turns >= most
    }
}

impl Draft<'_> {
    /// Adds what a model call cost to the turn.
    pub(crate) fn pays(&mut self, usage: Option<Usage>, cost_usd: f64) {
        let usage = usage.unwrap_or_default();
        let total = self.turn.usage.get_or_insert_default();
        total.input_tokens += usage.input_tokens;
        total.output_tokens += usage.output_tokens;
        self.turn.cost_usd += cost_usd;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMITS: Budget = Budget {
        turns_per_conversation: 0,
        turns_per_minute: 3,
        customer_tokens_per_day: 100,
        tokens_per_day: 250,
        answer_tokens: 1,
    };

    #[derive(Debug, Clone)]
    enum Act {
        Charge {
            customer: u8,
            tokens: u64,
        },
        /// Ends a call under way with a share of what was charged, in percent; `None`: unknown.
        Settle {
            call: usize,
            percent: Option<u64>,
        },
        Wait {
            hours: i64,
        },
        Restart,
    }

    fn act() -> impl Strategy<Value = Act> {
        prop_oneof![
            6 => (0..4_u8, 0..60_u64).prop_map(|(customer, tokens)| Act::Charge { customer, tokens }),
            6 => (0..8_usize, prop::option::of(0..=150_u64))
                .prop_map(|(call, percent)| Act::Settle { call, percent }),
            1 => (0..30_i64).prop_map(|hours| Act::Wait { hours }),
            1 => Just(Act::Restart),
        ]
    }

    /// A call as the oracle remembers it: its day, who pays, and what it counts.
    type Call = (i64, u8, u64);

    fn sum(calls: &[Call], day: i64, customer: Option<u8>) -> u64 {
        let counts = |call: &&Call| call.0 == day && customer.is_none_or(|customer| call.1 == customer);
        calls.iter().filter(counts).map(|call| call.2).sum()
    }

    proptest! {
        #[test]
        fn the_ledger_lets_through_what_a_list_of_all_calls_would(acts in prop::collection::vec(act(), 0..120)) {
            let store = rusqlite::Connection::open_in_memory().unwrap();
            store.execute_batch(crate::store::MIGRATIONS[0]).unwrap();
            let mut store = Connection::from(&store);
            let mut at = 20_000 * DAY;
            let mut ledger = Ledger::new(LIMITS, &[], at);
            let (mut calls, mut open): (Vec<Call>, Vec<(Charge, usize)>) = (Vec::new(), Vec::new());
            for act in acts {
                let day = at.div_euclid(DAY);
                match act {
                    Act::Wait { hours } => at += hours * 60 * MINUTE,
                    Act::Charge { customer, tokens } => {
                        let expected = if sum(&calls, day, Some(customer)) + tokens > 100 {
                            Err(Scope::Customer)
                        } else if sum(&calls, day, None) + tokens > 250 {
                            Err(Scope::Installation)
                        } else {
                            Ok(())
                        };
                        let charged = ledger.charge([customer; 16], tokens, at);
                        prop_assert_eq!(charged.as_ref().map(|_| ()).map_err(|scope| *scope), expected);
                        if let Ok(charge) = charged {
                            open.push((charge, calls.len()));
                            calls.push((day, customer, tokens));
                        }
                    }
                    Act::Settle { call, percent } if call < open.len() => {
                        let (charge, index) = open.remove(call);
                        let tokens = percent.map(|percent| calls[index].2 * percent / 100);
                        calls[index].2 = tokens.unwrap_or(calls[index].2);
                        keep(&mut store, &[ledger.settle(charge, tokens)]).unwrap();
                    }
                    Act::Settle { .. } => {}
                    Act::Restart => {
                        // What was under way is lost with the process.
                        open.drain(..).for_each(|(_, index)| calls[index].2 = 0);
                        ledger = Ledger::new(LIMITS, &spent(&mut store, at).unwrap(), at);
                    }
                }
            }
            let day = at.div_euclid(DAY);
            open.drain(..).for_each(|(charge, _)| keep(&mut store, &[ledger.settle(charge, None)]).unwrap());
            let kept: u64 = spent(&mut store, at).unwrap().iter().map(|spend| spend.tokens).sum();
            prop_assert_eq!(kept, sum(&calls, day, None));
        }
    }

    #[test]
    fn a_day_begins_at_midnight_utc_and_a_clock_set_back_gives_nothing_twice() {
        let midnight = 20_000 * DAY;
        let ledger = Ledger::new(LIMITS, &[], midnight - 1);
        let spend = ledger.settle(ledger.charge([1; 16], 100, midnight - 1).unwrap(), None);
        assert_eq!(ledger.charge([1; 16], 1, midnight - 1).unwrap_err(), Scope::Customer);
        let late = ledger.charge([2; 16], 100, midnight - 1).unwrap();
        let today = ledger.charge([1; 16], 100, midnight).unwrap();
        assert_eq!(ledger.settle(late, Some(90)).day, spend.day, "a call is of the day it began");
        assert_eq!(ledger.charge([1; 16], 1, midnight - 1).unwrap_err(), Scope::Customer);
        assert_eq!(ledger.settle(today, Some(0)).tokens, 0);
        assert!(ledger.charge([1; 16], 100, midnight).is_ok());
        // A restart reads what the day has.
        let again = Ledger::new(LIMITS, &[spend], midnight - 1);
        assert_eq!(again.charge([1; 16], 1, midnight - 1).unwrap_err(), Scope::Customer);
        assert!(Ledger::new(LIMITS, &[spend], midnight).charge([1; 16], 100, midnight).is_ok());
    }

    #[test]
    fn a_customer_has_so_many_turns_a_minute_and_takes_none_of_others() {
        let ledger = Ledger::new(LIMITS, &[], 0);
        let admitted = (0..5).filter(|at| ledger.admit([1; 16], *at)).count();
        assert_eq!((admitted, ledger.admit([2; 16], 5)), (3, true));
        assert!(ledger.admit([1; 16], MINUTE));
        assert_ne!(key("c1", ""), key("", "c1"));
    }
}
