//! What is simulated: a file, or one that is built in.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use bundle::rollout::{Metric, Plan};
use bundle::{Problem, Problems};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use super::plans;

/// Scenarios that need no file, by name.
pub(super) const BUILT_IN: [(&str, &str); 6] = [
    ("equal", include_str!("scenarios/equal.toml")),
    ("worse", include_str!("scenarios/worse.toml")),
    ("better", include_str!("scenarios/better.toml")),
    ("slower", include_str!("scenarios/slower.toml")),
    ("drift", include_str!("scenarios/drift.toml")),
    ("biased", include_str!("scenarios/biased.toml")),
];

/// A company, its customers and a candidate.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Scenario {
    /// Customers that come in the time of the simulation, 1..=1000000000.
    #[serde(deserialize_with = "customers")]
    pub(super) customers: u64,
    /// How long it is, over 0 to 366.
    #[serde(deserialize_with = "days")]
    pub(super) days: f64,
    /// Conversations a customer has on average, 1..=100. At 1 everybody comes once; otherwise it is chance who comes.
    #[serde(default = "one_contact", deserialize_with = "contacts")]
    pub(super) contacts: u32,
    /// How alike customers are, 0.1..=10: their rates have a beta distribution whose parameters sum to it. Absent: all
    /// have the same.
    #[serde(default, deserialize_with = "concentration")]
    pub(super) concentration: Option<f64>,
    /// Share of the customers that every stage with an audience is for, 0..=1.
    #[serde(default, deserialize_with = "share")]
    pub(super) audience: f64,
    /// What a treated conversation costs, in US dollars, 0..=1000.
    #[serde(default, deserialize_with = "usd")]
    pub(super) cost_usd: f64,
    /// Whether every conversation counts instead of a customer's first: only to see why it does not.
    #[serde(default)]
    pub(super) every_contact: bool,
    /// A `rollout.toml`, relative to the scenario; absent: a plan that is built in.
    #[serde(default)]
    pub(super) plan: Option<PathBuf>,
    /// What happens to customers, by metric; what is absent never happens.
    #[serde(default)]
    pub(super) event: BTreeMap<Metric, Event>,
}

/// How often something bad happens to a customer, and when.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Event {
    /// Share of the customers of the menu that have it, at the start, 0..=1; of those that rate, if not all do.
    #[serde(deserialize_with = "share")]
    pub(super) control: f64,
    /// The same of treated ones.
    #[serde(deserialize_with = "share")]
    pub(super) treated: f64,
    /// What both are multiplied by at the end, 0..=100; between it changes evenly.
    #[serde(default = "one", deserialize_with = "factor")]
    pub(super) drift: f64,
    /// Mean time until it happens, in seconds, exponential, 0..=31536000.
    #[serde(default, deserialize_with = "seconds")]
    pub(super) lag_control_s: f64,
    /// The same of treated ones.
    #[serde(default, deserialize_with = "seconds")]
    pub(super) lag_treated_s: f64,
    /// Share of the customers of the menu that say how it was, 0..=1.
    #[serde(default = "one", deserialize_with = "share")]
    pub(super) answers_control: f64,
    /// The same of treated ones.
    #[serde(default = "one", deserialize_with = "share")]
    pub(super) answers_treated: f64,
}

impl Event {
    /// Of `control` of the customers, and of `ratio` times as many treated ones.
    pub(super) fn of(control: f64, ratio: f64) -> Self {
        Self {
            control,
            treated: control * ratio,
            drift: 1.0,
            lag_control_s: 0.0,
            lag_treated_s: 0.0,
            answers_control: 1.0,
            answers_treated: 1.0,
        }
    }
}

impl Scenario {
    /// A scenario where only `metric` is of interest.
    pub(super) fn of(customers: u64, hours: f64, metric: Metric, event: Event) -> Self {
        Self {
            customers,
            days: hours / 24.0,
            contacts: 1,
            concentration: None,
            audience: 0.0,
            cost_usd: 0.0,
            every_contact: false,
            plan: None,
            event: BTreeMap::from([(metric, event)]),
        }
    }

    pub(super) fn conversations(&self) -> u64 {
        self.customers * u64::from(self.contacts)
    }

    pub(super) fn seconds(&self) -> f64 {
        self.days * 86_400.0
    }
}

/// A scenario by the name of one that is built in, or of a file, with its plan.
pub(super) fn read(name: &str) -> anyhow::Result<(Scenario, Plan)> {
    if let Some((_, text)) = BUILT_IN.iter().find(|(known, _)| *known == name) {
        return Ok((parse(Path::new(name), text)?, plans::standard()));
    }
    let file = Path::new(name);
    let names = BUILT_IN.map(|(name, _)| name).join(", ");
    let unreadable = || format!("{name} is no readable file, and none of {names}");
    let scenario = parse(file, &std::fs::read_to_string(file).with_context(unreadable)?)?;
    let Some(path) = &scenario.plan else { return Ok((scenario, plans::standard())) };
    let path = file.parent().unwrap_or(Path::new("")).join(path);
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok((scenario, bundle::rollout::parse(&text)?))
}

/// Reads a scenario; problems name file and line.
pub(super) fn parse(file: &Path, text: &str) -> Result<Scenario, Problems> {
    let scenario: Scenario = toml::from_str(text).map_err(|error| {
        let before = &text[..error.span().map_or(0, |span| span.start).min(text.len())];
        Problem::new(file, before.matches('\n').count() + 1, error.message())
    })?;
    let impossible = |(metric, event): (&Metric, &Event)| {
        let most = event.control.max(event.treated) * event.drift.max(1.0);
        let name = telemetry::rollout::name(*metric);
        (most > 1.0)
            .then(|| Problem::new(file, 0, format!("event.{name}: with its drift {most} of the customers")))
    };
    let problems: Vec<_> = scenario.event.iter().filter_map(impossible).collect();
    if problems.is_empty() { Ok(scenario) } else { Err(Problems(problems)) }
}

/// Refuses what would take more memory than a simulation may.
pub(super) fn fits(plan: &Plan) -> anyhow::Result<()> {
    const MOST: u32 = 100_000;
    for guard in &plan.guards {
        if guard.window_s / plan.interval_s > MOST {
            let name = telemetry::rollout::name(guard.metric);
            bail!("guard {name}: its window is over {MOST} intervals; make interval_s longer to simulate it");
        }
    }
    Ok(())
}

fn one() -> f64 {
    1.0
}

fn one_contact() -> u32 {
    1
}

fn within<'de, T, D>(value: D, least: T, most: T) -> Result<T, D::Error>
where
    T: Deserialize<'de> + PartialOrd + Display + Copy,
    D: Deserializer<'de>,
{
    let value = T::deserialize(value)?;
    let fits = (least..=most).contains(&value);
    if fits { Ok(value) } else { Err(D::Error::custom(format!("{value} is not within {least} to {most}"))) }
}

fn share<'de, D: Deserializer<'de>>(value: D) -> Result<f64, D::Error> {
    within(value, 0.0, 1.0)
}

fn factor<'de, D: Deserializer<'de>>(value: D) -> Result<f64, D::Error> {
    within(value, 0.0, 100.0)
}

fn seconds<'de, D: Deserializer<'de>>(value: D) -> Result<f64, D::Error> {
    within(value, 0.0, 31_536_000.0)
}

fn usd<'de, D: Deserializer<'de>>(value: D) -> Result<f64, D::Error> {
    within(value, 0.0, 1000.0)
}

fn days<'de, D: Deserializer<'de>>(value: D) -> Result<f64, D::Error> {
    within(value, 0.001, 366.0)
}

fn concentration<'de, D: Deserializer<'de>>(value: D) -> Result<Option<f64>, D::Error> {
    within(value, 0.1, 10.0).map(Some)
}

fn customers<'de, D: Deserializer<'de>>(value: D) -> Result<u64, D::Error> {
    within(value, 1, 1_000_000_000)
}

fn contacts<'de, D: Deserializer<'de>>(value: D) -> Result<u32, D::Error> {
    within(value, 1, 100)
}
