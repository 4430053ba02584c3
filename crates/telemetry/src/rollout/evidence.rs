//! What the units of a rollout have shown, added up.

use std::collections::BTreeMap;

use bundle::rollout::Metric;
use stats::BUCKETS;
use stats::sequential::{Arms, deficit, excess, mismatch};

use super::tick::{Exposed, Matured, Seen, Tick};

/// Counts of both arms by the share at which they were exposed.
type Shares = BTreeMap<u32, Both>;

#[derive(Debug, Clone, Copy, Default)]
struct Both {
    treated: Seen,
    control: Seen,
}

/// What the units of a rollout have shown. Customers with a key and conversations without are kept apart: who comes
/// back without a key is counted again, so that the two are not alike.
#[derive(Debug, Clone, Default)]
pub struct Evidence {
    metrics: BTreeMap<Metric, [Shares; 2]>,
    exposed: [Shares; 2],
}

impl Evidence {
    /// Adds what was seen since the last look.
    pub(super) fn add(&mut self, tick: &Tick) {
        for Exposed { share, sticky, treated, control, .. } in &tick.exposed {
            let both = self.exposed[usize::from(*sticky)].entry(*share).or_default();
            both.treated.events += treated;
            both.control.events += control;
        }
        self.add_matured(&tick.matured);
    }

    /// Adds units whose time for an event is over.
    pub(super) fn add_matured(&mut self, rows: &[Matured]) {
        for Matured { metric, share, sticky, treated, control } in rows {
            let shares = &mut self.metrics.entry(*metric).or_default()[usize::from(*sticky)];
            let both = shares.entry(*share).or_default();
            add(&mut both.treated, treated);
            add(&mut both.control, control);
        }
    }

    /// Units that can be compared, by arm: treated, control. Where everybody or nobody is treated nothing can.
    pub fn compared(&self, metric: Metric) -> (Seen, Seen) {
        let split = |(share, _): &(&u32, &Both)| (1..BUCKETS).contains(*share);
        let (mut treated, mut control) = (Seen::default(), Seen::default());
        for (_, both) in self.of(metric).iter().flatten().filter(split) {
            add(&mut treated, &both.treated);
            add(&mut control, &both.control);
        }
        (treated, control)
    }

    /// Treated units, compared or not.
    pub fn treated(&self, metric: Metric) -> Seen {
        let mut sum = Seen::default();
        self.of(metric).iter().flatten().for_each(|(_, both)| add(&mut sum, &both.treated));
        sum
    }

    /// The logarithm of the evidence that events of treated units are more than `r0` times as frequent.
    pub fn excess(&self, metric: Metric, r0: f64) -> f64 {
        // Evidence of different units, each valid given all before it: the product is valid too.
        self.of(metric).iter().map(|shares| excess(&arms(shares, |seen| seen.events), r0)).sum()
    }

    /// The logarithm of the evidence that they are less than `r0` times as frequent.
    pub fn deficit(&self, metric: Metric, r0: f64) -> f64 {
        self.of(metric).iter().map(|shares| deficit(&arms(shares, |seen| seen.events), r0)).sum()
    }

    /// The logarithm of the evidence that ratings are not as frequent in both arms.
    pub(super) fn bias(&self, metric: Metric) -> f64 {
        self.of(metric).iter().map(|shares| mismatch(&arms(shares, |seen| seen.rated))).sum()
    }

    /// The logarithm of the evidence that units are not assigned as the share says.
    pub(super) fn misassigned(&self) -> f64 {
        self.exposed.iter().map(|shares| mismatch(&arms(shares, |seen| seen.events))).sum()
    }

    /// Events by share, for an interval of the risk ratio.
    pub fn arms(&self, metric: Metric) -> Vec<Arms> {
        self.of(metric).iter().flat_map(|shares| arms(shares, |seen| seen.events)).collect()
    }

    fn of(&self, metric: Metric) -> &[Shares] {
        self.metrics.get(&metric).map_or(&[], |both| both)
    }
}

fn add(sum: &mut Seen, more: &Seen) {
    sum.n += more.n;
    sum.events += more.events;
    sum.rated += more.rated;
}

fn arms(shares: &Shares, count: fn(&Seen) -> u64) -> Vec<Arms> {
    let of = |(share, both): (&u32, &Both)| Arms {
        share: f64::from(*share) / f64::from(BUCKETS),
        treated: count(&both.treated),
        control: count(&both.control),
    };
    shares.iter().map(of).collect()
}
