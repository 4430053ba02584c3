use proptest::prelude::*;

use super::*;

const LIMITS: Budget = Budget {
    turns_per_conversation: 0,
    turns_per_minute: 3,
    tokens_per_turn: 0,
    customer_tokens_per_day: 100,
    customer_tokens_per_month: 220,
    tokens_per_day: 250,
    tokens_per_month: 500,
    soft_share: 0.8,
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
        1 => (0..40_i64).prop_map(|days| Act::Wait { hours: 24 * days }),
        1 => Just(Act::Restart),
    ]
}

/// A call as the oracle remembers it: its day, who pays, and what it counts.
type Call = (i64, u8, u64);

/// What calls of the same day or month as a day count, of a customer or of all.
fn sum(calls: &[Call], day: i64, span: Span, customer: Option<u8>) -> u64 {
    let is_same = |other: i64| if span == Span::Day { other == day } else { civil(other) == civil(day) };
    let counts = |call: &&Call| is_same(call.0) && customer.is_none_or(|customer| call.1 == customer);
    calls.iter().filter(counts).map(|call| call.2).sum()
}

/// Year and month of a day.
fn civil(day: i64) -> (i16, i8) {
    let date = jiff::Timestamp::from_second(day * 86_400).unwrap().to_zoned(jiff::tz::TimeZone::UTC).date();
    (date.year(), date.month())
}

/// The limit that a call passes, if any.
fn expected(calls: &[Call], day: i64, customer: u8, tokens: u64) -> std::result::Result<bool, Scope> {
    let mut is_soft = false;
    for (who, span, limit, scope) in [
        (Some(customer), Span::Day, 100, Scope::Customer(Span::Day)),
        (Some(customer), Span::Month, 220, Scope::Customer(Span::Month)),
        (None, Span::Day, 250, Scope::Installation(Span::Day)),
        (None, Span::Month, 500, Scope::Installation(Span::Month)),
    ] {
        let spent = sum(calls, day, span, who) + tokens;
        if spent > limit {
            return Err(scope);
        }
        is_soft |= spent * 10 > limit * 8;
    }
    Ok(is_soft)
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
                    let charged = ledger.charge([customer + 1; 16], tokens, at);
                    let told = charged.as_ref().map(|charge| charge.is_soft).map_err(|scope| *scope);
                    prop_assert_eq!(told, expected(&calls, day, customer, tokens));
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
        for (span, is_month) in [(Span::Day, false), (Span::Month, true)] {
            let kept = spent(&mut store, at).unwrap().into_iter().filter(|spend| (spend.day < 0) == is_month);
            prop_assert_eq!(kept.map(|spend| spend.tokens).sum::<i64>().unsigned_abs(), sum(&calls, day, span, None));
        }
    }
}

#[test]
fn a_day_begins_at_midnight_utc_and_a_clock_set_back_gives_nothing_twice() {
    let midnight = 20_000 * DAY;
    let ledger = Ledger::new(LIMITS, &[], midnight - 1);
    let spend = ledger.settle(ledger.charge([1; 16], 100, midnight - 1).unwrap(), None);
    assert_eq!(ledger.charge([1; 16], 1, midnight - 1).unwrap_err(), Scope::Customer(Span::Day));
    let late = ledger.charge([2; 16], 100, midnight - 1).unwrap();
    let today = ledger.charge([1; 16], 100, midnight).unwrap();
    assert_eq!(ledger.settle(late, Some(90)).day, spend.day, "a call is of the day it began");
    assert_eq!(ledger.charge([1; 16], 1, midnight - 1).unwrap_err(), Scope::Customer(Span::Day));
    assert_eq!(ledger.settle(today, Some(0)).tokens, 0);
    assert!(ledger.charge([1; 16], 100, midnight).is_ok());
    // A restart reads what the day has.
    let again = Ledger::new(LIMITS, &[spend], midnight - 1);
    assert_eq!(again.charge([1; 16], 1, midnight - 1).unwrap_err(), Scope::Customer(Span::Day));
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

#[tokio::test(flavor = "multi_thread")]
async fn processes_that_share_a_journal_share_its_budgets() {
    let server = sql::Server { url: scratch::database().into(), ca: None, connections: 4 };
    let source = sql::Source::Postgres { server, schema: "budget".to_owned() };
    let journals = [Journal::open(source.clone()).await.unwrap(), Journal::open(source).await.unwrap()];
    let ledgers = [Ledger::new(LIMITS, &[], 0), Ledger::new(LIMITS, &[], 0)];
    let spend = |customer: u8, tokens| Spend { day: 7, key: [customer; 16], tokens };
    let charge = |process: usize, spend| journals[process].charge(&ledgers[process], spend);
    let charged =
        futures::future::try_join_all((0..8).map(|call| charge(call % 2, spend(1, 30)))).await.unwrap();
    assert_eq!(charged.iter().filter(|charge| charge.is_ok()).count(), 3, "of 100 tokens");
    let calls = (2..9).map(|customer| charge(0, spend(customer, 50)));
    let charged = futures::future::try_join_all(calls).await.unwrap();
    let (mut open, refused): (Vec<_>, Vec<_>) = charged.into_iter().partition(std::result::Result::is_ok);
    let refused: Vec<_> = refused.into_iter().filter_map(std::result::Result::err).collect();
    assert_eq!(refused, [Scope::Installation(Span::Day); 4], "of 250 tokens");
    // One of them cost less: its process has what is left for the next call, and the other has not.
    let beyond = ledgers[0].beyond(open.pop().unwrap().unwrap(), Some(30)).unwrap();
    assert_eq!(beyond.tokens, -20);
    journals[0].sql.write(move |connection| keep(connection, &[beyond])).await.unwrap();
    let mut taken = Vec::new();
    for (process, day, tokens) in [(0, 7, 41), (1, 7, 30), (0, 7, 30), (1, 8, 100)] {
        taken.push(charge(process, Spend { day, ..spend(9, tokens) }).await.unwrap().is_ok());
    }
    assert_eq!(taken, [false, false, true, true]);
}

/// The row of everybody is written once in a while, whoever calls, and what is known of it is never less than was spent.
#[tokio::test(flavor = "multi_thread")]
async fn the_installation_is_charged_in_advance_and_not_by_every_call() {
    let url = scratch::database();
    let server = sql::Server { url: url.clone().into(), ca: None, connections: 4 };
    let source = sql::Source::Postgres { server, schema: "budget".to_owned() };
    let journal = Journal::open(source).await.unwrap();
    let limits =
        Budget { tokens_per_day: 1_000_000, tokens_per_month: 0, customer_tokens_per_day: 0, ..LIMITS };
    let ledger = Ledger::new(Budget { customer_tokens_per_month: 0, ..limits }, &[], 0);
    for customer in 1..=100_u8 {
        let charge =
            journal.charge(&ledger, Spend { day: 7, key: [customer; 16], tokens: 300 }).await.unwrap();
        ledger.beyond(charge.unwrap(), Some(50));
    }
    let booked = |days: &str| {
        let of_all = "customer = '\\x00000000000000000000000000000000'";
        scratch::number(&url, &format!("SELECT tokens::float8 FROM budget.spend WHERE {of_all} AND {days}"))
    };
    // 100 calls of 50 tokens, taken by the thousand: five times, and the sixth for the last call's 300.
    assert_eq!(booked("day = 7"), 6_000.0);
    // Around midnight turns of both days go on, each with what was taken for its own.
    for turn in 0..20 {
        let spend = Spend { day: 8 + turn % 2, key: [1; 16], tokens: 300 };
        ledger.beyond(journal.charge(&ledger, spend).await.unwrap().unwrap(), Some(50));
    }
    // Days before the newest one are forgotten; the row below 0 is the month's.
    assert_eq!(booked("day < 0"), 8_000.0);
}
