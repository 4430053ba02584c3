//! The guards of a plan.

use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Included};

use super::{Action, Guard, Kind, Metric};
use crate::keys::Keys;

/// Chance of a false alarm of all guards that act.
const ALPHA: f64 = 0.05;
/// Sums of decimals miss it by less than that.
const ROUNDING: f64 = 1e-9;
/// Most events, as a share, that a guard may tolerate.
const MAX_RATE: f64 = 0.5;
const MAX_USD: f64 = 1_000_000.0;
const MONTH_S: u32 = 30 * 24 * 3600;
const DAY_S: u32 = 24 * 3600;
/// Most guards: one a metric, and some to name when there are too many.
const MAX_GUARDS: usize = 32;
const KEYS: [&str; 12] = [
    "metric",
    "kind",
    "action",
    "r0",
    "alpha",
    "window_s",
    "sla_ms",
    "q",
    "cap_usd",
    "max_rate",
    "hold_margin",
    "dry_run",
];

/// The guards of a file.
pub(super) struct Guards {
    pub(super) guards: Vec<Guard>,
    /// Whether some cannot be read, so that what they guard is not known.
    is_partial: bool,
}

impl Guards {
    /// Why a metric can have no certificate.
    pub(super) fn uncertified(&self, metric: Metric) -> Option<&'static str> {
        match self.guards.iter().find(|guard| guard.metric == metric) {
            None if self.is_partial => None,
            None => Some("has no [[guard]], allowed a metric that is guarded"),
            Some(guard) if guard.kind == Kind::Cap => {
                Some("has a cap, allowed a metric that is compared with the menu")
            }
            Some(guard) if guard.kind == Kind::Absolute => {
                Some("is not compared with the menu, allowed a metric that is")
            }
            Some(_) => None,
        }
    }
}

pub(super) fn read(file: &Keys<'_>) -> Guards {
    let tables = file.tables("guard", "metric", &KEYS, MAX_GUARDS);
    let mut guards = Vec::new();
    let mut is_partial = tables.is_empty() && file.has("guard") && !file.is_empty("guard");
    let mut lines = BTreeMap::new();
    let mut spent = 0.0;
    for keys in &tables {
        let Some(guard) = guard(keys) else {
            is_partial = true;
            continue;
        };
        if let Some(line) = lines.insert(guard.metric, keys.line("metric")) {
            let once = "allowed once; several windows of one metric are not supported";
            keys.refuse("metric", format_args!("stands already on line {line}, {once}"));
        } else if !guard.dry_run {
            let before = spent;
            spent += guard.alpha;
            if before <= ALPHA + ROUNDING && spent > ALPHA + ROUNDING {
                let sum = (spent * 1e6).round() / 1e6;
                let message = format!("makes the sum {sum}, allowed up to {ALPHA} for all guards that act");
                keys.refuse("alpha", message);
            }
        }
        guards.push(guard);
    }
    let rolls_back = |guard: &Guard| guard.action == Action::Rollback && !guard.dry_run;
    if !is_partial && !guards.iter().any(rolls_back) {
        file.refuse_at(
            0,
            "no guard rolls back, needed is a [[guard]] with action = \"rollback\" that is not dry_run",
        );
    }
    Guards { guards, is_partial }
}

/// `None` for an unknown metric.
fn guard(keys: &Keys<'_>) -> Option<Guard> {
    keys.need("metric", "such as \"escalation_unplanned\"");
    let metric = keys.word::<Metric>("metric");
    let kind = keys.word::<Kind>("kind");
    let action = keys.word("action");
    let r0 = keys.number("r0", 1.0..=3.0);
    let alpha = keys.number("alpha", (Excluded(0.0), Included(ALPHA)));
    let window_s = keys.whole("window_s", 1..=MONTH_S);
    let sla_ms = keys.whole("sla_ms", 1..=600_000);
    let q = keys.number("q", 0.5..=0.999);
    let cap_usd = keys.number("cap_usd", (Excluded(0.0), Included(MAX_USD)));
    let max_rate = keys.number("max_rate", (Excluded(0.0), Included(MAX_RATE)));
    let hold_margin = keys.number("hold_margin", 0.0..=1.0);
    let dry_run = keys.flag("dry_run").unwrap_or_default();
    let metric = metric?;
    let usual = Usual::of(metric);
    let kind = match kind {
        Some(kind) if !usual.kinds.contains(&kind) => {
            keys.refuse_value("kind", format_args!("{} for this metric", usual.words));
            usual.kinds[0]
        }
        kind => kind.unwrap_or(usual.kinds[0]),
    };
    check_keys(keys, metric, kind, usual.alpha);
    let (is_cap, is_latency) = (kind == Kind::Cap, metric == Metric::LatencyOverSla);
    let is_compared = matches!(kind, Kind::Relative | Kind::RelativeAbsolute);
    let statistical = |value: Option<f64>, usual: f64| if is_cap { 0.0 } else { value.unwrap_or(usual) };
    Some(Guard {
        metric,
        kind,
        action: action.unwrap_or(if is_cap { Action::Hold } else { Action::Rollback }),
        r0: if is_compared { r0.unwrap_or(1.0) } else { 0.0 },
        alpha: statistical(alpha, usual.alpha.unwrap_or_default()),
        window_s: if is_cap { 0 } else { window_s.unwrap_or(usual.window_s) },
        sla_ms: sla_ms.filter(|_| is_latency).unwrap_or_default(),
        q: if kind == Kind::RelativeAbsolute { q.unwrap_or(0.95) } else { 0.0 },
        cap_usd: cap_usd.filter(|_| is_cap).unwrap_or_default(),
        max_rate: max_rate.filter(|_| kind == Kind::Absolute).unwrap_or_default(),
        hold_margin,
        dry_run,
    })
}

/// Refuses the keys of another kind or metric, and the absence of its own.
fn check_keys(keys: &Keys<'_>, metric: Metric, kind: Kind, usual_alpha: Option<f64>) {
    let (is_cap, is_latency) = (kind == Kind::Cap, metric == Metric::LatencyOverSla);
    let is_compared = matches!(kind, Kind::Relative | Kind::RelativeAbsolute);
    for (key, belongs, place) in [
        ("cap_usd", is_cap, "where kind is \"cap\""),
        ("sla_ms", is_latency, "for latency_over_sla"),
        ("q", kind == Kind::RelativeAbsolute, "where kind is \"relative-absolute\""),
        ("max_rate", kind == Kind::Absolute, "where kind is \"absolute\""),
        ("r0", is_compared, "where the menu is compared with"),
        ("alpha", !is_cap, "where kind is not \"cap\""),
        ("window_s", !is_cap, "where kind is not \"cap\""),
        ("hold_margin", is_compared, "where the menu is compared with"),
    ] {
        if keys.has(key) && !belongs {
            keys.refuse(key, format_args!("has no meaning here, allowed {place}"));
        }
    }
    if is_cap {
        keys.need("cap_usd", format_args!("above 0 to {MAX_USD}"));
    }
    if kind == Kind::Absolute {
        keys.need("max_rate", format_args!("above 0 to {MAX_RATE}"));
    }
    if is_latency {
        keys.need("sla_ms", "1..=600000, a whole number");
    }
    if !is_cap && usual_alpha.is_none() {
        keys.need("alpha", format_args!("above 0 to {ALPHA}; this metric has none by itself"));
    }
}

/// What holds for a metric when nothing else is written.
struct Usual {
    /// Those that fit it, the usual one first.
    kinds: &'static [Kind],
    /// The same in words.
    words: &'static str,
    alpha: Option<f64>,
    window_s: u32,
}

impl Usual {
    fn of(metric: Metric) -> Self {
        let (alpha, window_s) = match metric {
            Metric::EscalationUnplanned => (Some(0.02), 1800),
            Metric::Dissatisfied => (Some(0.01), DAY_S),
            Metric::UngroundedDelivered => (Some(0.01), 120),
            Metric::UngroundedGenerated => (None, 120),
            Metric::Misrouted => (Some(0.005), DAY_S),
            Metric::Failed => (None, 1800),
            Metric::LatencyOverSla => (Some(0.005), 120),
            Metric::CostPerRequest => (None, 0),
        };
        let (kinds, words): (&[Kind], _) = match metric {
            Metric::LatencyOverSla => {
                (&[Kind::RelativeAbsolute, Kind::Relative], "\"relative-absolute\" and \"relative\"")
            }
            Metric::CostPerRequest => (&[Kind::Cap], "\"cap\""),
            _ => (&[Kind::Relative, Kind::Absolute], "\"relative\" and \"absolute\""),
        };
        Self { kinds, words, alpha, window_s }
    }
}
