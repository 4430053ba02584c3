//! Customers, and what happens to them: the counts that a store would hold, without the store.

use std::collections::VecDeque;

use bundle::rollout::{Guard, Metric, Plan};
use fastrand::Rng;
use stats::{BUCKETS, bucket, buckets};
use telemetry::rollout::{Cost, Exposed, Failures, Matured, Phase, Seen, State, Tick};

use super::scenario::{Event, Scenario};

/// Treated turns that the tripwire of failures looks at.
const LAST: u32 = 20;

/// What happens in a simulation. Memory grows with the customers by a bit each, and with the windows of the guards.
pub(super) struct World<'s> {
    scenario: &'s Scenario,
    salt: String,
    rng: Rng,
    met: Met,
    begun: u64,
    watched: Vec<Watched>,
    last: Failed,
    /// Treated units so far.
    pub(super) treated: u64,
}

/// What is the same for all conversations of an interval.
struct Now {
    share: u32,
    /// Whether a stage has an audience that is treated.
    guests: bool,
    /// How much of the simulation is over, 0..=1.
    progress: f64,
}

impl<'s> World<'s> {
    pub(super) fn new(scenario: &'s Scenario, plan: &Plan, seed: u64) -> Self {
        let watch = |guard: &Guard| {
            let event = scenario.event.get(&guard.metric).copied().unwrap_or(Event::of(0.0, 1.0));
            Watched::new(guard, event, plan.interval_s, scenario.concentration)
        };
        // A mean of turns is no event of a customer.
        let guards = plan.guards.iter().filter(|guard| guard.metric != Metric::CostPerRequest);
        Self {
            scenario,
            salt: plan.salt.clone(),
            rng: Rng::with_seed(seed),
            met: Met::new(scenario),
            begun: 0,
            watched: guards.map(watch).collect(),
            last: Failed::default(),
            treated: 0,
        }
    }

    /// Conversations so far.
    pub(super) fn conversations(&self) -> u64 {
        self.begun
    }

    /// Bad events of the first metric, control and treated, in the order in which they happened.
    pub(super) fn came(&self) -> [u64; 2] {
        self.watched.first().map_or([0; 2], |watched| watched.came)
    }

    /// What is seen in the interval from one second to another, while the controller says what it says.
    pub(super) fn interval(&mut self, state: &State, from_s: f64, until_s: f64) -> Tick {
        let total_s = self.scenario.seconds();
        let now = Now {
            share: state.share(),
            guests: state.phase() == Phase::Running && !state.audiences().is_empty(),
            progress: from_s / total_s,
        };
        self.watched.iter_mut().for_each(|watched| watched.open(now.share));
        let due = (self.scenario.conversations() as f64 * (until_s / total_s).min(1.0)).round() as u64;
        let mut tick = Tick { turns: due - self.begun, ..Tick::default() };
        let mut exposed = [[0; 2]; 2];
        while self.begun < due {
            self.conversation(&now, &mut tick.cost, &mut exposed);
        }
        let stage = &state.serving().name;
        let of = |(share, [control, treated]): (u32, [u64; 2])| Exposed {
            stage: stage.clone(),
            share,
            sticky: !self.scenario.every_contact,
            treated,
            control,
        };
        let rows = [now.share, BUCKETS].into_iter().zip(exposed);
        tick.exposed = rows.filter(|(_, arms)| arms.iter().sum::<u64>() > 0).map(of).collect();
        let sticky = !self.scenario.every_contact;
        tick.matured = self.watched.iter_mut().flat_map(|watched| watched.close(sticky)).collect();
        tick.last = self.last.turns();
        tick
    }

    fn conversation(&mut self, now: &Now, cost: &mut Cost, exposed: &mut [[u64; 2]; 2]) {
        let customer = self.met.draw(&mut self.rng, self.begun);
        self.begun += 1;
        let key = format!("c{customer}");
        let guest = now.guests && bucket("audience", &key) < buckets(self.scenario.audience);
        let treated = guest || bucket(&self.salt, &key) < now.share;
        if treated {
            cost.turns += 1;
            cost.nanos += (self.scenario.cost_usd * 1e9) as u64;
        }
        // Whoever comes again is in an arm already; what happens then says nothing new of the candidate.
        if !self.met.meet(customer) && !self.scenario.every_contact {
            return;
        }
        exposed[usize::from(guest)][usize::from(treated)] += 1;
        self.treated += u64::from(treated);
        for watched in &mut self.watched {
            let bad = watched.expose(&mut self.rng, &self.salt, &key, treated, guest, now.progress);
            if treated && watched.metric == Metric::Failed {
                self.last.add(bad);
            }
        }
    }
}

/// Who had a conversation.
struct Met {
    customers: u64,
    once: bool,
    bits: Vec<u64>,
}

impl Met {
    fn new(scenario: &Scenario) -> Self {
        let once = scenario.contacts == 1;
        let words = if once { 0 } else { scenario.customers / 64 + 1 };
        Self { customers: scenario.customers, once, bits: vec![0; words as usize] }
    }

    fn draw(&self, rng: &mut Rng, nth: u64) -> u64 {
        if self.once { nth } else { rng.u64(0..self.customers) }
    }

    /// Whether it is the first time.
    fn meet(&mut self, customer: u64) -> bool {
        let Some(word) = self.bits.get_mut((customer / 64) as usize) else { return true };
        let bit = 1 << (customer % 64);
        let first = *word & bit == 0;
        *word |= bit;
        first
    }
}

/// How the last treated turns ended.
#[derive(Default)]
struct Failed {
    bits: u32,
    turns: u32,
}

impl Failed {
    fn add(&mut self, failed: bool) {
        self.bits = (self.bits << 1 | u32::from(failed)) & ((1 << LAST) - 1);
        self.turns = (self.turns + 1).min(LAST);
    }

    fn turns(&self) -> Failures {
        Failures { turns: self.turns.into(), failed: self.bits.count_ones().into() }
    }
}

/// Units that were exposed in one interval at one share.
#[derive(Clone, Copy, Default)]
struct Slot {
    share: u32,
    /// Of the control, and treated.
    arms: [Seen; 2],
}

/// What a guard watches: units wait until the time for an event is over.
struct Watched {
    metric: Metric,
    event: Event,
    concentration: Option<f64>,
    window_s: f64,
    interval_s: f64,
    /// By interval, the oldest first: customers, and those of an audience.
    waiting: VecDeque<[Slot; 2]>,
    /// Events of both arms by the interval in which they will happen, this one first.
    coming: VecDeque<[u64; 2]>,
    came: [u64; 2],
    /// Intervals that a unit waits.
    intervals: usize,
}

impl Watched {
    fn new(guard: &Guard, event: Event, interval_s: u32, concentration: Option<f64>) -> Self {
        let intervals = guard.window_s.div_ceil(interval_s) as usize;
        Self {
            metric: guard.metric,
            event,
            // Of nobody and of everybody there is nothing to vary.
            concentration: concentration.filter(|_| event.control > 0.0 && event.control < 1.0),
            window_s: guard.window_s.into(),
            interval_s: interval_s.into(),
            waiting: VecDeque::with_capacity(intervals + 1),
            coming: vec![[0; 2]; intervals + 1].into(),
            came: [0; 2],
            intervals,
        }
    }

    fn open(&mut self, share: u32) {
        let slot = |share| Slot { share, ..Slot::default() };
        self.waiting.push_back([slot(share), slot(BUCKETS)]);
    }

    /// Counts a unit, and says whether the event will happen to it within the window.
    fn expose(
        &mut self,
        rng: &mut Rng,
        salt: &str,
        key: &str,
        treated: bool,
        guest: bool,
        progress: f64,
    ) -> bool {
        let arm = usize::from(treated);
        let rate = self.rate(salt, key, treated, progress);
        let event = &self.event;
        let (answers, mean_s) = match treated {
            true => (event.answers_treated, event.lag_treated_s),
            false => (event.answers_control, event.lag_control_s),
        };
        let rated = answers >= 1.0 || rng.f64() < answers;
        let lag_s = if rated && mean_s > 0.0 { -mean_s * (1.0 - rng.f64()).ln() } else { 0.0 };
        let rated = rated && lag_s <= self.window_s;
        let bad = rated && rng.f64() < rate;
        if let Some(slots) = self.waiting.back_mut() {
            let seen = &mut slots[usize::from(guest)].arms[arm];
            seen.n += 1;
            seen.rated += u64::from(rated);
            seen.events += u64::from(bad);
        }
        if bad {
            let at = rng.f64() + lag_s / self.interval_s;
            let last = self.coming.len() - 1;
            self.coming[(at as usize).min(last)][arm] += 1;
        }
        bad
    }

    /// The probability of the event for a customer.
    fn rate(&self, salt: &str, key: &str, treated: bool, progress: f64) -> f64 {
        let Event { control, treated: of_treated, drift, .. } = self.event;
        let factor = 1.0 + (drift - 1.0) * progress;
        let rate = if treated { of_treated } else { control };
        let Some(concentration) = self.concentration else { return rate * factor };
        let own = u64::from(bucket(salt, &format!("{:?}:{key}", self.metric))) + 1;
        let mut rng = Rng::with_seed(own.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let customer = beta(&mut rng, control * concentration, (1.0 - control) * concentration);
        (customer * rate / control * factor).min(1.0)
    }

    /// The units whose time is over at the end of this interval.
    fn close(&mut self, sticky: bool) -> impl Iterator<Item = Matured> + use<> {
        self.came = self.coming.pop_front().unwrap_or_default();
        self.coming.push_back([0; 2]);
        let over = self.waiting.len() > self.intervals;
        let slots = if over { self.waiting.pop_front() } else { None };
        let metric = self.metric;
        let row = move |Slot { share, arms: [control, treated] }| Matured {
            metric,
            share,
            sticky,
            treated,
            control,
        };
        let some = |slot: &Slot| slot.arms.iter().any(|seen| seen.n > 0);
        slots.into_iter().flatten().filter(some).map(row)
    }
}

/// A number with a beta distribution. Jöhnk, "Erzeugung von betaverteilten und gammaverteilten Zufallszahlen", Metrika
/// 8, 1964: quick where the parameters are small.
fn beta(rng: &mut Rng, a: f64, b: f64) -> f64 {
    loop {
        let (x, y) = (rng.f64().powf(1.0 / a), rng.f64().powf(1.0 / b));
        if x + y <= 1.0 && x + y > 0.0 {
            return x / (x + y);
        }
    }
}
