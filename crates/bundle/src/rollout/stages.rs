//! The stages of a plan.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound::{Excluded, Included};

use serde_json::json;

use super::guards::Guards;
use super::{MAX_BYTES, Metric, Stage, is_word};
use crate::keys::{ID, Keys, is_id, word};
use crate::menu::Menu;
use crate::types::{Assistant, Category, Risk};

const MAX_STAGES: usize = 32;
const MAX_USD: f64 = 1_000_000.0;
const KEYS: [&str; 12] = [
    "name",
    "share",
    "mirror",
    "mirror_usd_per_day",
    "max_escalation",
    "audience",
    "categories",
    "max_risk",
    "min_hours",
    "min_customers",
    "approval",
    "certificate",
];

/// What stages refer to.
pub(super) struct Around<'a> {
    /// `None` when the plan stands alone.
    pub(super) assistant: Option<&'a Assistant>,
    /// `None` when it cannot be read.
    pub(super) menu: Option<&'a Menu>,
    pub(super) guards: &'a Guards,
}

/// Stages in the making.
struct Stages<'a, 's> {
    around: &'a Around<'a>,
    rollout: &'a Keys<'s>,
    /// Those of `[rollout]`, each with its line.
    categories: Option<Vec<(usize, String)>>,
    max_risk: Risk,
    /// The line of each name.
    names: BTreeMap<String, usize>,
    /// The last share of each audience, with its stage.
    shares: BTreeMap<String, (f64, String)>,
    /// The first stage that treats everybody.
    open: Option<String>,
    /// Categories that a stage would never treat, by their lines.
    untreated: BTreeSet<(usize, String)>,
}

pub(super) fn read(file: &Keys<'_>, rollout: &Keys<'_>, around: &Around<'_>) -> Vec<Stage> {
    let mut stages = Stages {
        around,
        rollout,
        categories: None,
        max_risk: rollout.word("max_risk").unwrap_or(Risk::Low),
        names: BTreeMap::new(),
        shares: BTreeMap::new(),
        open: None,
        untreated: BTreeSet::new(),
    };
    stages.categories = stages.listed(rollout);
    let tables = file.tables("stage", "name", &KEYS, MAX_STAGES);
    let found: Vec<_> = tables.iter().map(|keys| stages.stage(keys)).collect();
    if found.is_empty() && (!file.has("stage") || file.is_empty("stage")) {
        file.refuse_at(0, "has no stage, needed is at least one [[stage]]");
    }
    found
}

impl Stages<'_, '_> {
    fn stage(&mut self, keys: &Keys<'_>) -> Stage {
        let name = self.name(keys);
        let one = format!("1 to {MAX_BYTES} bytes, or left out for everybody");
        let audience = keys.text("audience", &one, is_word).unwrap_or_default();
        let Exposure { share, mirror, mirror_usd_per_day, max_escalation, min_customers } = exposure(keys);
        let is_audience_known = keys.has("audience") != audience.is_empty();
        if let Some(share) = share.filter(|_| is_audience_known) {
            self.check_order(keys, &name, &audience, share);
        }
        let max_risk = keys.word("max_risk").unwrap_or(self.max_risk);
        let categories = self.categories(keys, &name, max_risk);
        Stage {
            share: share.unwrap_or_default(),
            mirror,
            mirror_usd_per_day,
            max_escalation,
            categories,
            max_risk,
            min_hours: keys.number("min_hours", 0.0..=8760.0).unwrap_or(24.0),
            min_customers,
            approval: keys.flag("approval").unwrap_or(true),
            certificate: self.certificate(keys),
            name,
            audience,
        }
    }

    fn name(&mut self, keys: &Keys<'_>) -> String {
        keys.need("name", ID);
        let Some(name) = keys.text("name", ID, is_id) else { return String::new() };
        if let Some(line) = self.names.insert(name.clone(), keys.line("name")) {
            keys.refuse("name", format_args!("stands already on line {line}, allowed once"));
        }
        name
    }

    fn check_order(&mut self, keys: &Keys<'_>, name: &str, audience: &str, share: f64) {
        if let Some(open) = self.open.as_ref().filter(|_| !audience.is_empty()) {
            let message =
                format!("comes after stage {open:?}, which treats everybody, allowed only before it");
            keys.refuse("audience", message);
        }
        if let Some((last, before)) = self.shares.get(audience).filter(|(last, _)| share <= *last) {
            let message =
                format!("is {share} after {last} of stage {before:?}, allowed more: shares have to rise");
            keys.refuse("share", message);
        }
        self.shares.insert(audience.to_owned(), (share, name.to_owned()));
        if audience.is_empty() && share > 0.0 {
            self.open.get_or_insert_with(|| name.to_owned());
        }
    }

    /// The categories of a table, each with its line; those that do not exist or have no entry are refused.
    fn listed(&self, keys: &Keys<'_>) -> Option<Vec<(usize, String)>> {
        let Some(known) = self.around.assistant.map(|assistant| &assistant.categories) else {
            return keys.list("categories");
        };
        let found = keys.categories(known)?;
        if found.is_empty() && keys.is_empty("categories") {
            keys.refuse("categories", "is empty, allowed at least one category");
        }
        for (line, name) in found.iter().filter(|(_, name)| known.contains_key(name)) {
            if self.around.menu.is_some_and(|menu| menu.entry(name).is_none()) {
                let message = format!(
                    "category {name:?} has no entry in menu.toml, needed is one for customers who are not treated"
                );
                keys.refuse_at(*line, message);
            }
        }
        Some(found)
    }

    fn categories(&mut self, keys: &Keys<'_>, stage: &str, max_risk: Risk) -> Vec<String> {
        let own = self.listed(keys);
        let from = if keys.has("categories") { keys } else { self.rollout };
        if !from.has("categories") {
            let allowed = "a list of them, here or in [rollout] for all stages";
            keys.need("categories", allowed);
        }
        let found = own.or_else(|| self.categories.clone().filter(|_| !keys.has("categories")));
        let found = found.unwrap_or_default();
        for (line, name) in &found {
            let known = self.around.assistant.and_then(|assistant| assistant.categories.get(name));
            let Some(Category { risk, .. }) = known else { continue };
            if *risk > max_risk && self.untreated.insert((*line, name.clone())) {
                let (risk, most) = (json!(risk), json!(max_risk));
                let message = format!(
                    "category {name:?} has the risk {risk}, allowed up to max_risk {most} of stage {stage:?}: it would never be treated"
                );
                from.refuse_at(*line, message);
            }
        }
        found.into_iter().map(|(_, name)| name).collect()
    }

    fn certificate(&self, keys: &Keys<'_>) -> BTreeMap<Metric, f64> {
        let Some(table) = keys.table("certificate") else { return BTreeMap::new() };
        let mut found = BTreeMap::new();
        for name in table.names() {
            let metric = match word::<Metric>(name) {
                Ok(metric) => metric,
                Err(error) => {
                    table.refuse_at(table.line(name), format_args!("has an {error}"));
                    continue;
                }
            };
            if let Some(why) = self.around.guards.uncertified(metric) {
                table.refuse_at(table.line(name), format_args!("{name} {why}"));
            }
            if let Some(risk) = table.number(name, (Excluded(1.0), Included(10.0))) {
                found.insert(metric, risk);
            }
        }
        found
    }
}

/// Who is answered in a stage.
struct Exposure {
    /// `None` when it is not known.
    share: Option<f64>,
    mirror: f64,
    mirror_usd_per_day: f64,
    max_escalation: f64,
    min_customers: u32,
}

/// Share of unseen answers that may go to a person unplanned where nothing else is written: half.
const MAX_ESCALATION: f64 = 0.5;

fn exposure(keys: &Keys<'_>) -> Exposure {
    if !keys.has("audience") {
        keys.need("share", "0..=1");
    }
    let whole = (keys.has("audience") && !keys.has("share")).then_some(1.0);
    let share = keys.number("share", 0.0..=1.0).or(whole);
    let written = keys.number("mirror", 0.0..=1.0);
    let usd = keys.number("mirror_usd_per_day", (Excluded(0.0), Included(MAX_USD)));
    let min_customers = keys.whole("min_customers", 0..=100_000_000).unwrap_or_default();
    let mirror = written.unwrap_or_default();
    let is_known = share.is_some() && written.is_some() == keys.has("mirror");
    if is_known && share == Some(0.0) && mirror == 0.0 {
        keys.refuse("share", "is 0 without a mirror: the stage does nothing");
    }
    let most = keys.number("max_escalation", 0.0..=1.0);
    if let Some(share) = share.filter(|share| *share > 0.0 && mirror > 0.0) {
        keys.refuse("mirror", format_args!("is {mirror} beside a share of {share}, allowed where that is 0"));
    }
    if mirror > 0.0 {
        keys.need("mirror_usd_per_day", format_args!("above 0 to {MAX_USD}"));
    }
    for key in ["mirror_usd_per_day", "max_escalation"] {
        if mirror == 0.0 && is_known && keys.has(key) {
            keys.refuse(key, "has no meaning here, allowed beside a mirror above 0");
        }
    }
    Exposure {
        share,
        mirror,
        mirror_usd_per_day: usd.unwrap_or_default(),
        max_escalation: if mirror > 0.0 { most.unwrap_or(MAX_ESCALATION) } else { 0.0 },
        min_customers,
    }
}
