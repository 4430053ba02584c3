//! Budgets where several processes share a journal.

use std::collections::BTreeMap;
use std::sync::{MutexGuard, PoisonError};

use sql::{Connection, Result, values};

use super::{Charge, EVERYBODY, Ledger, Limit, Scope, Span, Spend, keep, month, signed};
use crate::config::Budget;
use crate::store::Journal;

/// Share of a limit of the installation that a process takes at a time, as a divisor: what a restart may lose.
const TAKES: u64 = 1000;
/// Tokens that are taken where there is no limit: nobody has to ask again today.
const UNLIMITED: i64 = i64::MAX / 2;

/// Tokens that this process has taken of the installation's for a day, and not spent. What is lost of them with a process
/// counts as spent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Taken {
    tokens: i64,
    /// Whether a soft limit of the installation is passed.
    is_soft: bool,
}

impl Ledger {
    /// Draws tokens of a call from what this process has taken, and says whether a soft limit is passed.
    ///
    /// # Errors
    /// How much is missing.
    fn draw(&self, spend: Spend) -> std::result::Result<bool, Spend> {
        let mut days = self.taken();
        let taken = days.entry(spend.day).or_default();
        if taken.tokens < spend.tokens {
            return Err(Spend { tokens: spend.tokens - taken.tokens, ..spend });
        }
        taken.tokens -= spend.tokens;
        Ok(taken.is_soft)
    }

    /// Adds what was taken of the installation's tokens for a day.
    fn take(&self, day: i64, more: Taken) {
        let mut days = self.taken();
        days.retain(|earlier, _| *earlier + 1 >= day);
        let taken = days.entry(day).or_default();
        *taken = Taken { tokens: taken.tokens + more.tokens, ..more };
    }

    /// Gives tokens of a call back, below 0 when it cost more.
    fn give_back(&self, Spend { day, tokens, .. }: Spend) {
        if let Some(taken) = self.taken().get_mut(&day) {
            taken.tokens += tokens;
        }
    }

    fn taken(&self) -> MutexGuard<'_, BTreeMap<i64, Taken>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is to be booked, in a store that several processes charge in, beside what was charged.
    pub(crate) fn beyond(&self, Charge { spend: charged, .. }: Charge, tokens: Option<u64>) -> Option<Spend> {
        let tokens = charged.but(tokens).tokens - charged.tokens;
        let beyond = Spend { tokens, ..charged };
        self.give_back(Spend { tokens: -tokens, ..charged });
        Some(beyond).filter(|_| tokens != 0)
    }
}

impl Journal {
    /// Charges a call in the store, for all processes that share it: the customer there, the installation from what the
    /// process of the ledger has taken. A commit that got no answer may charge twice.
    pub(crate) async fn charge(
        &self,
        ledger: &Ledger,
        spend: Spend,
    ) -> Result<std::result::Result<Charge, Scope>> {
        let charged = match self.charge_customer(spend, ledger.limits.clone()).await? {
            Ok(is_soft) => Charge { spend, is_soft },
            Err(scope) => return Ok(Err(scope)),
        };
        loop {
            let missing = match ledger.draw(spend) {
                Ok(is_soft) => return Ok(Ok(Charge { is_soft: charged.is_soft || is_soft, ..charged })),
                Err(missing) => missing,
            };
            match self.draw_from_all(missing, ledger.limits.clone()).await? {
                Ok(taken) => ledger.take(spend.day, taken),
                Err(scope) => {
                    let back = Spend { tokens: -spend.tokens, ..spend };
                    self.sql.write(move |connection| keep(connection, &[back])).await?;
                    return Ok(Err(scope));
                }
            }
        }
    }

    /// Takes of the installation's tokens, at least those of a call.
    async fn draw_from_all(&self, spend: Spend, limits: Budget) -> Result<std::result::Result<Taken, Scope>> {
        let write = move |connection: &mut Connection<'_>| {
            // Nobody else takes between the look and the taking.
            connection.lock("spend")?;
            let [.., day, month] = limits.limits(spend.key);
            let taken = match allowed(connection, &limits, [day, month], spend)? {
                Ok(taken) => taken,
                Err(scope) => return Ok(Err(scope)),
            };
            if taken.tokens < UNLIMITED {
                keep(connection, &[Spend { key: EVERYBODY, tokens: taken.tokens, ..spend }])?;
            }
            Ok(Ok(taken))
        };
        self.sql.write(write).await
    }

    /// Charges a customer, and says whether one of their soft limits is passed.
    async fn charge_customer(
        &self,
        spend: Spend,
        limits: Budget,
    ) -> Result<std::result::Result<bool, Scope>> {
        let write = move |connection: &mut Connection<'_>| {
            // Nobody else charges them between the look and the charge; a turn's end may only give back.
            connection.lock(&format!("spend {:032x}", u128::from_be_bytes(spend.key)))?;
            let [day, month, ..] = limits.limits(spend.key);
            let is_soft = match allowed(connection, &limits, [day, month], spend)? {
                Ok(allowed) => allowed.is_soft,
                Err(scope) => return Ok(Err(scope)),
            };
            keep(connection, &[spend])?;
            Ok(Ok(is_soft))
        };
        self.sql.write(write).await
    }
}

/// What may be taken at once for a call that needs so many tokens: more where the limits are large.
///
/// # Errors
/// The limit that the call would pass; or the store.
fn allowed(
    connection: &mut Connection<'_>,
    limits: &Budget,
    these: [Limit; 2],
    spend: Spend,
) -> Result<std::result::Result<Taken, Scope>> {
    let mut taken = Taken { tokens: UNLIMITED, is_soft: false };
    for limit in these.into_iter().filter(|(.., most, _)| *most > 0) {
        let spent = spent_of(connection, spend.day, limit)?;
        match limits.weigh(spent.saturating_add(spend.tokens), limit) {
            Ok(passes) => taken.is_soft |= passes,
            Err(scope) => return Ok(Err(scope)),
        }
        let (.., most, _) = limit;
        let takes = signed(most / TAKES).min(signed(most) - spent);
        taken.tokens = taken.tokens.min(takes.max(spend.tokens));
    }
    Ok(Ok(taken))
}

/// What somebody has spent in the span of a limit.
fn spent_of(connection: &mut Connection<'_>, day: i64, (key, span, ..): Limit) -> Result<i64> {
    let query = "SELECT tokens FROM spend WHERE day = $1 AND customer = $2";
    let period = if span == Span::Day { day } else { month(day) };
    Ok(connection.first(query, values![period, &key], |row| row.get(0))?.unwrap_or(0))
}
