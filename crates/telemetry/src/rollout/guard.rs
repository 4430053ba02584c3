//! What a guard makes of the evidence.

use bundle::rollout::{Action, Guard, Kind, Metric};
use serde::{Deserialize, Serialize};
use stats::sequential::exceedance;
use stats::{Confidence, Share, newcombe};

use super::evidence::Evidence;
use super::tick::Seen;

/// Events, of both arms together, below which an odd-looking alarm is not raised.
const LEAST_EVENTS: u64 = 5;
/// Chance at which ratings are taken to be given by different shares of the arms. Where treated customers merely rate
/// twice as often, a guard at 0.01 is alarmed falsely in 5.5 % of runs with 0.01 here, in 1.8 % with 0.1, in 0.8 % with
/// 0.3, which holds more of those who rate alike (400 simulated runs each).
const BIAS_ALPHA: f64 = 0.1;
/// Intervals in a row that have to be too costly.
pub(super) const COSTLY: u32 = 3;

/// What a look at a guard says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Verdict {
    /// Nothing speaks against the candidate, and there is enough to say so.
    Pass,
    /// Too little is known.
    Inconclusive,
    /// What is known makes no sense, or cannot be read.
    Error,
    /// The candidate does harm.
    Fail,
}

/// What a guard says, with everything it says it from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reading {
    /// What is watched.
    pub metric: Metric,
    /// What it says.
    pub verdict: Verdict,
    /// The same in words.
    pub words: String,
    /// What it does when it fails; a breach of one condition of two holds only.
    pub action: Action,
    /// Whether it is only reported.
    pub dry_run: bool,
    /// Treated units and their events.
    pub treated: Seen,
    /// Units of the control and their events.
    pub control: Seen,
    /// The logarithm of the evidence of harm.
    pub evidence: f64,
    /// At which it fails.
    pub limit: f64,
}

/// Reads a guard. `least` is the number of units per arm below which it has no verdict, `costly` for how many intervals
/// the cost has been over the cap.
pub(super) fn read(guard: &Guard, evidence: &Evidence, least: u64, costly: u32) -> Reading {
    let (treated, control) = evidence.compared(guard.metric);
    let reading = Reading {
        metric: guard.metric,
        verdict: Verdict::Pass,
        words: String::new(),
        action: guard.action,
        dry_run: guard.dry_run,
        treated,
        control,
        evidence: 0.0,
        limit: -libm::log(guard.alpha),
    };
    match guard.kind {
        Kind::Relative => relative(guard, evidence, least, reading),
        Kind::Absolute => absolute(guard, evidence.treated(guard.metric), least, reading),
        Kind::RelativeAbsolute => both(guard, evidence, least, reading),
        Kind::Cap => cap(costly, reading),
    }
}

fn relative(guard: &Guard, evidence: &Evidence, least: u64, mut reading: Reading) -> Reading {
    reading.evidence = evidence.excess(guard.metric, guard.r0);
    let events = reading.treated.events + reading.control.events;
    let bias = -libm::log(BIAS_ALPHA);
    if guard.metric == Metric::Dissatisfied && evidence.bias(guard.metric) >= bias {
        let words = "customers of the two arms do not rate alike often: biased, cannot trigger".to_owned();
        return Reading { verdict: Verdict::Inconclusive, words, ..reading };
    }
    if reading.evidence >= reading.limit && events >= LEAST_EVENTS {
        let words = format!("more than {} times as often as without the assistant", guard.r0);
        return Reading { verdict: Verdict::Fail, words, ..reading };
    }
    if let Some(margin) = guard.hold_margin.filter(|margin| excess(&reading) > *margin) {
        let words = format!("more than {} points more often than without the assistant", percent(margin));
        return Reading { verdict: Verdict::Fail, action: Action::Hold, words, ..reading };
    }
    let fewer = reading.treated.n.min(reading.control.n);
    enough(fewer, least, "in each arm", reading)
}

/// By how much the rate of treated customers exceeds that of the menu's at least, with 95 % at this look: quick and not
/// valid over many looks, which is why it only holds.
fn excess(reading: &Reading) -> f64 {
    let share = |seen: &Seen| Share { hits: seen.events, n: seen.n };
    let left = newcombe(share(&reading.treated), share(&reading.control), Confidence::OneSided95);
    left.map_or(0.0, |left| left.lower)
}

fn absolute(guard: &Guard, treated: Seen, least: u64, mut reading: Reading) -> Reading {
    reading.treated = treated;
    reading.control = Seen::default();
    reading.evidence = exceedance(treated.n, treated.events, guard.max_rate);
    if reading.evidence >= reading.limit && treated.events >= LEAST_EVENTS {
        let words = format!("in more than {} % of conversations", percent(guard.max_rate));
        return Reading { verdict: Verdict::Fail, words, ..reading };
    }
    enough(treated.n, least, "treated", reading)
}

/// Both have to be breached: a menu is always quicker, and a slow day of a model is not the candidate's.
fn both(guard: &Guard, evidence: &Evidence, least: u64, reading: Reading) -> Reading {
    let treated = evidence.treated(guard.metric);
    let slow = exceedance(treated.n, treated.events, 1.0 - guard.q);
    let mut reading = relative(guard, evidence, least, Reading { treated, ..reading });
    // Whichever is less decides.
    reading.evidence = reading.evidence.min(slow);
    if slow < reading.limit {
        if reading.verdict == Verdict::Fail {
            let words = "slower than the control, but within the SLA".to_owned();
            return enough(
                reading.treated.n,
                least,
                "treated",
                Reading { verdict: Verdict::Pass, words, ..reading },
            );
        }
        return reading;
    }
    let late = format!("more than {} % of turns take over {} ms", percent(1.0 - guard.q), guard.sla_ms);
    if reading.verdict == Verdict::Fail {
        return Reading { words: late, ..reading };
    }
    let words = format!("{late}, in both arms");
    Reading { verdict: Verdict::Fail, action: Action::Hold, words, evidence: slow, ..reading }
}

fn cap(costly: u32, reading: Reading) -> Reading {
    if costly < COSTLY {
        return Reading {
            words: "within the cap".to_owned(),
            limit: COSTLY.into(),
            evidence: costly.into(),
            ..reading
        };
    }
    let words = format!("over the cap for {costly} intervals");
    Reading { verdict: Verdict::Fail, words, limit: COSTLY.into(), evidence: costly.into(), ..reading }
}

fn enough(n: u64, least: u64, of: &str, reading: Reading) -> Reading {
    if n < least {
        let words = format!("{n} of {least} customers {of} so far");
        return Reading { verdict: Verdict::Inconclusive, words, ..reading };
    }
    let words = if reading.words.is_empty() { "no harm seen".to_owned() } else { reading.words };
    Reading { words, ..reading }
}

fn percent(share: f64) -> f64 {
    (share * 1e4).round() / 1e2
}
