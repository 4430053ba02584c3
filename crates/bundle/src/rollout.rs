//! How the assistant is switched on: `rollout.toml`.

mod guards;
mod stages;

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::ops::Bound::{Excluded, Included};
use std::path::Path;

use serde::{Deserialize, Serialize};
use toml::de::DeTable;

use crate::keys::{ID, Keys, Source, is_id};
use crate::layout;
use crate::menu::{self, Menu};
use crate::read::{Problems, Reader};
use crate::types::{Assistant, Risk};

/// A plan of a rollout: its stages, guards and tripwires.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Name of the rollout, kept for its life, 1..=64 of a-z, 0-9, '.', '_' and '-'.
    pub id: String,
    /// What customers are assigned by, 1..=256 bytes; the id unless the file says otherwise.
    pub salt: String,
    /// Hash of the bundle that is rolled out, 16 hexadecimal digits; empty means whichever is served.
    pub candidate: String,
    /// What is compared.
    #[serde(default)]
    pub compares: Compares,
    /// Seconds between two evaluations, 1..=3600.
    pub interval_s: u32,
    /// Hours after a rollback before a person may arm the rollout again, 0..=8760.
    pub cooldown_hours: f64,
    /// Share of customers that stay with the menu at a share of 1, 0..=0.5.
    pub holdback: f64,
    /// Customers per arm below which a guard has no verdict, 1..=1000000.
    pub min_customers: u32,
    /// In order, 1..=32; those for an audience first, and the shares of one audience rise.
    pub stages: Vec<Stage>,
    /// One a metric; at least one rolls back.
    pub guards: Vec<Guard>,
    /// What stops the rollout without statistics.
    pub tripwires: Tripwires,
}

/// What a rollout compares.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Compares {
    /// The assistant with what customers had before it.
    #[default]
    Assistant,
    /// The assistant with models of the company's own first, with the assistant as it is configured.
    Model,
}

/// One stage of a rollout.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Stage {
    /// Unique in the plan, 1..=64 of a-z, 0-9, '.', '_' and '-'.
    pub name: String,
    /// Share of the customers of the audience that are treated, 0..=1.
    pub share: f64,
    /// Share of conversations that the assistant answers unseen, 0..=1; only where the share is 0.
    pub mirror: f64,
    /// What unseen answers may cost a day in US dollars, above 0 to 1000000 with a mirror, else 0.
    pub mirror_usd_per_day: f64,
    /// Largest share of unseen answers that would go to a person unplanned, for the next stage, 0..=1; only with a mirror.
    #[serde(default)]
    pub max_escalation: f64,
    /// Value of the customer's attribute `audience` that this stage is for, up to 256 bytes; empty means everybody.
    pub audience: String,
    /// Categories in which customers are treated; names of the bundle, never empty.
    pub categories: Vec<String>,
    /// Highest risk at which they are.
    pub max_risk: Risk,
    /// Hours before the next stage, 0..=8760.
    pub min_hours: f64,
    /// Treated customers seen in this stage before the next, 0..=100000000; with a mirror, conversations answered unseen.
    pub min_customers: u32,
    /// Whether a person has to agree to the next stage.
    pub approval: bool,
    /// Relative risk, over 1 to 10, that has to be ruled out for a metric before the next stage.
    pub certificate: BTreeMap<Metric, f64>,
}

/// What is watched. A bad event of a customer within a fixed time after the exposure, but for the cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// Handed to a person for an unplanned reason.
    EscalationUnplanned,
    /// Rated 1 or 2.
    Dissatisfied,
    /// Given an answer with a statement that no passage supports.
    UngroundedDelivered,
    /// Such an answer was written and held back.
    UngroundedGenerated,
    /// Routed to what a person or the customer corrected.
    Misrouted,
    /// A stage or a guard failed.
    Failed,
    /// Waited longer than the SLA for a turn.
    LatencyOverSla,
    /// Mean cost of a treated turn in US dollars.
    CostPerRequest,
}

/// How a guard compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Against the customers of the menu at the same time.
    Relative,
    /// Against `1 - q` of turns over `sla_ms` too; only that is breached: hold.
    RelativeAbsolute,
    /// Against `max_rate`, of treated customers alone: for what a menu cannot do.
    Absolute,
    /// Against `cap_usd`, in three intervals in a row.
    Cap,
}

/// What a guard does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Ends the rollout: every customer is back with the menu.
    Rollback,
    /// Keeps the share from rising.
    Hold,
}

/// A guard of a metric.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Guard {
    /// What is watched.
    pub metric: Metric,
    /// How it is compared; fits the metric.
    pub kind: Kind,
    /// What follows when it is breached.
    pub action: Action,
    /// Tolerated relative risk, 1..=3; 0 where the kind is absolute or a cap.
    pub r0: f64,
    /// Chance of a false alarm over the whole rollout, over 0 to 0.05; those that act sum to 0.05 at most. 0 at a
    /// cap.
    pub alpha: f64,
    /// Seconds after the exposure within which an event counts, 1..=2592000; 0 at a cap.
    pub window_s: u32,
    /// Milliseconds a turn may take, 1..=600000; only for the latency, else 0.
    pub sla_ms: u32,
    /// Quantile that has to be within the SLA, 0.5..=0.999; only where kind is relative-absolute, else 0.
    pub q: f64,
    /// Mean cost of a treated turn in US dollars, over 0 to 1000000; only at a cap, else 0.
    pub cap_usd: f64,
    /// Share of treated customers that may have the event, over 0 to 0.5; only where kind is absolute, else 0.
    pub max_rate: f64,
    /// Excess of the rate over that of the menu, 0..=1, from which on the share is held (Newcombe, one-sided 95 %);
    /// absent: never.
    pub hold_margin: Option<f64>,
    /// Reported, but never acts.
    pub dry_run: bool,
}

/// What stops a rollout at once.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Tripwires {
    /// Share of the last twenty treated turns that ended because a stage failed, over 0 to 1.
    pub failed_share: f64,
    /// Words of the desk (dispositions of a handoff) that confirm a leak or a wrong effect, up to 32 of 1..=256
    /// bytes; one is enough.
    pub dispositions: Vec<String>,
}

const MAX_BYTES: usize = 256;
const MAX_DISPOSITIONS: usize = 32;
const FAILED_SHARE: f64 = 0.5;
const DISPOSITIONS: [&str; 2] = ["leak", "wrong_action"];
const KEYS: [&str; 10] = [
    "id",
    "compares",
    "salt",
    "candidate",
    "categories",
    "max_risk",
    "interval_s",
    "cooldown_hours",
    "holdback",
    "min_customers",
];

impl Reader {
    /// `rollout.toml`; `None` without the file.
    ///
    /// # Errors
    /// Everything that is wrong with the file: what does not exist, does not fit or is out of range, a stage that does
    /// nothing, guards that never roll back or whose false alarms sum to too much, a category without an entry in
    /// `menu.toml`; or what is wrong with `assistant.toml` or `menu.toml`.
    pub fn rollout(&self) -> Result<Option<Plan>, Problems> {
        let assistant = self.assistant()?;
        let menu = menu::read(self, &assistant)?.unwrap_or_default();
        read(self, &assistant, Some(&menu))
    }
}

/// A plan without its bundle: whether its categories exist, are in the menu and within the risk is not looked at.
///
/// # Errors
/// As [`Reader::rollout`].
pub fn parse(text: &str) -> Result<Plan, Problems> {
    plan(text, None, None)
}

/// Without a menu nothing is said of its entries.
pub(crate) fn read(
    reader: &Reader,
    assistant: &Assistant,
    menu: Option<&Menu>,
) -> Result<Option<Plan>, Problems> {
    let file = Path::new(layout::ROLLOUT);
    // A link that leads nowhere is a plan that cannot be read: without one everybody would be treated.
    let found = reader.root().join(file).symlink_metadata();
    if found.is_err_and(|error| error.kind() == ErrorKind::NotFound) {
        return Ok(None);
    }
    plan(&reader.text(file)?, Some(assistant), menu).map(Some)
}

fn plan(text: &str, assistant: Option<&Assistant>, menu: Option<&Menu>) -> Result<Plan, Problems> {
    let source = Source::of(Path::new(layout::ROLLOUT), text);
    let (table, none) = (source.parse()?, DeTable::new());
    let keys = Keys::of(&source, &table).known(&["rollout", "stage", "guard", "tripwires"]);
    let part = |key: &str, known: &[&str]| {
        let table = keys.table(key).unwrap_or_else(|| Keys::of(&source, &none));
        table.named(key, "").known(known)
    };
    let rollout = part("rollout", &KEYS);
    let tripwires = tripwires(&part("tripwires", &["failed_share", "dispositions"]));
    let guards = guards::read(&keys);
    let settings = settings(&rollout);
    // Whoever compares models has nobody who gets the menu.
    let menu = menu.filter(|_| settings.compares == Compares::Assistant);
    let stages = stages::read(&keys, &rollout, &stages::Around { assistant, menu, guards: &guards });
    if settings.compares == Compares::Model && stages.iter().any(|stage| stage.mirror > 0.0) {
        rollout.refuse("compares", "is \"model\", allowed only without stages that have a mirror");
    }
    let plan = Plan { stages, guards: guards.guards, tripwires, ..settings };
    source.finish(plan)
}

fn settings(rollout: &Keys<'_>) -> Plan {
    rollout.need("id", ID);
    let id = rollout.text("id", ID, is_id).unwrap_or_default();
    let is_hash = |text: &str| text.is_empty() || text.len() == 16 && text.bytes().all(is_hexadecimal);
    let hash = "the hash of a bundle, 16 of 0-9 and a-f, or \"\" for whichever is served";
    Plan {
        salt: rollout.text("salt", &format!("1 to {MAX_BYTES} bytes"), is_word).unwrap_or_else(|| id.clone()),
        id,
        candidate: rollout.text("candidate", hash, is_hash).unwrap_or_default(),
        compares: rollout.word("compares").unwrap_or_default(),
        interval_s: rollout.whole("interval_s", 1..=3600).unwrap_or(300),
        cooldown_hours: rollout.number("cooldown_hours", 0.0..=8760.0).unwrap_or(24.0),
        holdback: rollout.number("holdback", 0.0..=0.5).unwrap_or(0.05),
        min_customers: rollout.whole("min_customers", 1..=1_000_000).unwrap_or(50),
        stages: Vec::new(),
        guards: Vec::new(),
        tripwires: Tripwires { failed_share: FAILED_SHARE, dispositions: Vec::new() },
    }
}

fn tripwires(keys: &Keys<'_>) -> Tripwires {
    let failed_share = keys.number("failed_share", (Excluded(0.0), Included(1.0))).unwrap_or(FAILED_SHARE);
    let Some(words) = keys.list("dispositions") else {
        return Tripwires { failed_share, dispositions: DISPOSITIONS.map(str::to_owned).to_vec() };
    };
    if words.len() > MAX_DISPOSITIONS {
        keys.refuse("dispositions", format_args!("has {}, allowed up to {MAX_DISPOSITIONS}", words.len()));
    }
    for (line, word) in words.iter().filter(|(_, word)| !is_word(word)) {
        keys.refuse_at(*line, format_args!("dispositions holds {word:?}, allowed 1 to {MAX_BYTES} bytes"));
    }
    Tripwires { failed_share, dispositions: words.into_iter().map(|(_, word)| word).collect() }
}

fn is_word(text: &str) -> bool {
    !text.trim().is_empty() && text.len() <= MAX_BYTES
}

fn is_hexadecimal(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'f')
}
