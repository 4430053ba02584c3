//! Which model is asked first, and who after it. A cheap model whose answers pass the checks often enough is asked before
//! a dear one, which is asked where the cheap one's answer falls short (a cascade: Chen et al., "FrugalGPT",
//! arXiv 2305.05176).

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::answer::Spending;

/// What is believed of a model before it answered in a category: so many answers, and those of them that passed.
const BELIEVED: (f64, f64) = (10.0, 9.0);
/// After this time half of what was learned is forgotten, so that a model that got better is tried again.
const HALF_LIFE: Duration = Duration::from_secs(3600);
/// Least share of its answers that pass, below which no model is asked first: customers would wait twice.
const LEAST: f64 = 0.5;
/// A conversation stays with its model unless another one costs less than this share of it.
const STAYS: f64 = 0.7;

/// Which model is asked first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Routing {
    /// The first one of the configuration, then the others as they are listed when it cannot answer.
    #[default]
    Listed,
    /// The one with which an answer that passes the checks is expected to cost least in the question's category; where
    /// its answer falls short a dearer one is asked.
    Cheapest,
}

/// What a model offers for one answer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Offer<'a> {
    pub(crate) name: &'a str,
    /// Expected cost of one call in US dollars.
    pub(crate) cost_usd: f64,
    pub(crate) is_self_hosted: bool,
}

/// The models in the order in which they are asked, by index.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Route {
    pub(crate) order: Vec<usize>,
    /// So many of them, from the first, are asked when the one before fell short; the others only when it failed.
    pub(crate) rising: usize,
}

/// How often the answers of models pass, by category.
#[derive(Debug, Default)]
pub(crate) struct Router {
    known: Mutex<HashMap<(String, usize), Known>>,
}

/// What is known of a model in a category.
#[derive(Debug, Clone, Copy)]
struct Known {
    answers: f64,
    passed: f64,
    at: Instant,
}

impl Known {
    /// As of now, with less of what is long ago.
    fn faded(self, now: Instant) -> Self {
        let age = now.saturating_duration_since(self.at).as_secs_f64() / HALF_LIFE.as_secs_f64();
        let left = libm::exp2(-age);
        Self { answers: self.answers * left, passed: self.passed * left, at: now }
    }
}

impl Router {
    /// The order in which models are asked in a category by a conversation whose last answer came from `previous`.
    pub(crate) fn route(
        &self,
        routing: Routing,
        (category, spending, previous): (&str, Spending, &str),
        offers: &[Offer<'_>],
        now: Instant,
    ) -> Route {
        let mut all: Vec<usize> = (0..offers.len()).collect();
        if spending == Spending::Free {
            all.retain(|model| offers[*model].is_self_hosted);
        }
        if spending == Spending::Own {
            all.sort_by_key(|model| !offers[*model].is_self_hosted);
            return Route { order: all, rising: 1 };
        }
        if spending != Spending::Thrifty && routing == Routing::Listed {
            return Route { order: all, rising: 1 };
        }
        all.sort_by(|a, b| offers[*a].cost_usd.total_cmp(&offers[*b].cost_usd));
        if spending == Spending::Thrifty {
            return Route { order: all, rising: 1 };
        }
        let first = self.first(category, previous, &all, offers, now);
        let (cheaper, rising) = all.split_at(first);
        let order = rising.iter().chain(cheaper.iter().rev()).copied().collect();
        Route { order, rising: rising.len() }
    }

    /// The place of the model to begin with among these, which are sorted by cost.
    fn first(
        &self,
        category: &str,
        previous: &str,
        sorted: &[usize],
        offers: &[Offer<'_>],
        now: Instant,
    ) -> usize {
        // Expected cost of beginning with each: its own, and where it falls short that of the next one too.
        let (mut expected, mut after) = (vec![0.0; sorted.len()], 0.0);
        let shares: Vec<f64> = sorted.iter().map(|model| self.passes(category, *model, now)).collect();
        for place in (0..sorted.len()).rev() {
            after = offers[sorted[place]].cost_usd + (1.0 - shares[place]) * after;
            expected[place] = after;
        }
        let last = sorted.len().saturating_sub(1);
        let fit = |place: &usize| shares[*place] >= LEAST || *place == last;
        let best = (0..sorted.len()).filter(fit).min_by(|a, b| expected[*a].total_cmp(&expected[*b]));
        let best = best.unwrap_or(last);
        let before = sorted.iter().position(|model| offers[*model].name == previous).filter(fit);
        before.filter(|before| expected[best] >= STAYS * expected[*before]).unwrap_or(best)
    }

    /// Expected share of a model's answers in a category that pass, 0..=1.
    fn passes(&self, category: &str, model: usize, now: Instant) -> f64 {
        let known = self.known().get(&(category.to_owned(), model)).map(|known| known.faded(now));
        let (answers, passed) = known.map_or((0.0, 0.0), |known| (known.answers, known.passed));
        (BELIEVED.1 + passed) / (BELIEVED.0 + answers)
    }

    /// Learns whether an answer passed.
    pub(crate) fn learn(&self, category: &str, model: usize, passed: bool, now: Instant) {
        let mut all = self.known();
        let known =
            all.entry((category.to_owned(), model)).or_insert(Known { answers: 0.0, passed: 0.0, at: now });
        let faded = known.faded(now);
        let passed = faded.passed + f64::from(u8::from(passed));
        *known = Known { answers: faded.answers + 1.0, passed, at: now };
    }

    fn known(&self) -> MutexGuard<'_, HashMap<(String, usize), Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OFFERS: [Offer<'static>; 3] = [
        Offer { name: "large", cost_usd: 10.0, is_self_hosted: false },
        Offer { name: "small", cost_usd: 1.0, is_self_hosted: false },
        Offer { name: "own", cost_usd: 2.0, is_self_hosted: true },
    ];

    fn route(router: &Router, routing: Routing, spending: Spending, previous: &str, now: Instant) -> Route {
        router.route(routing, ("cards", spending, previous), &OFFERS, now)
    }

    #[test]
    fn limits_change_the_order_whatever_the_routing() {
        let (router, now) = (Router::default(), Instant::now());
        for (routing, spending, order, rising) in [
            (Routing::Listed, Spending::Normal, vec![0, 1, 2], 1),
            (Routing::Listed, Spending::Thrifty, vec![1, 2, 0], 1),
            (Routing::Listed, Spending::Free, vec![2], 1),
            (Routing::Cheapest, Spending::Normal, vec![1, 2, 0], 3),
            (Routing::Cheapest, Spending::Thrifty, vec![1, 2, 0], 1),
            (Routing::Cheapest, Spending::Free, vec![2], 1),
            (Routing::Listed, Spending::Own, vec![2, 0, 1], 1),
            (Routing::Cheapest, Spending::Own, vec![2, 0, 1], 1),
        ] {
            assert_eq!(
                route(&router, routing, spending, "", now),
                Route { order, rising },
                "{routing:?} {spending:?}"
            );
        }
    }

    #[test]
    fn a_model_that_falls_short_is_left_out_in_its_category_until_that_is_forgotten() {
        let (router, now) = (Router::default(), Instant::now());
        let first = |category, now| {
            router.route(Routing::Cheapest, (category, Spending::Normal, ""), &OFFERS, now).order[0]
        };
        for _ in 0..40 {
            router.learn("cards", 1, false, now);
        }
        assert_eq!([first("cards", now), first("fees", now)], [2, 1]);
        // Half of its answers pass: the expected cost is 1 + 0.5 * 2 and more than beginning with the second.
        assert_eq!(first("cards", now + 10 * HALF_LIFE), 1);
        (0..40).for_each(|_| router.learn("cards", 2, false, now));
        assert_eq!(
            route(&router, Routing::Cheapest, Spending::Normal, "", now),
            Route { order: vec![0, 2, 1], rising: 1 }
        );
    }

    #[test]
    fn a_conversation_stays_with_its_model_unless_another_costs_far_less() {
        let (router, now) = (Router::default(), Instant::now());
        let first = |previous| route(&router, Routing::Cheapest, Spending::Normal, previous, now).order[0];
        assert_eq!(first("large"), 1, "a tenth of the cost");
        (0..30).for_each(|n| router.learn("cards", 1, n % 2 == 0, now));
        assert_eq!([first(""), first("own"), first("gone")], [1, 2, 1]);
    }
}
