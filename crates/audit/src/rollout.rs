//! The promises of the rollout, from its log.

use serde_json::Value;
use sql::{Connection, Result};

use crate::Finding;

/// A row of the log.
#[derive(Debug)]
pub(crate) struct Logged {
    seq: i64,
    entry: Value,
    decision: Value,
}

pub(crate) fn log(connection: &mut Connection<'_>) -> Result<Vec<Logged>> {
    let query = "SELECT seq, entry, decision FROM rollout_log ORDER BY seq";
    connection.query(query, &[], |row| {
        let json = |text: &str| serde_json::from_str(text).unwrap_or_default();
        Ok(Logged { seq: row.get(0)?, entry: json(row.get(1)?), decision: json(row.get(2)?) })
    })
}

impl Logged {
    fn number(&self, key: &str) -> u64 {
        self.decision[key].as_u64().unwrap_or_default()
    }

    /// Verdicts of the guards that act.
    fn verdicts<'l>(&'l self, verdict: &'l str) -> impl Iterator<Item = &'l Value> {
        let readings = self.decision["readings"].as_array().into_iter().flatten();
        readings.filter(move |reading| reading["dry_run"] == false && reading["verdict"] == verdict)
    }

    /// Whether the share may be more than it was before.
    fn may_raise(&self, before: &Self) -> bool {
        if self.entry.get("applied").is_some() || self.decision["action"] == "rearmed" {
            // A person begins it.
            return before.number("share") == 0;
        }
        let seen = &self.entry["observed"];
        let sound = seen["fault"] == "" && seen["turns"].as_u64() > Some(0);
        let unsure = self.verdicts("INCONCLUSIVE").next().is_some() && before.number("share") > 0;
        sound && !unsure && ["FAIL", "ERROR"].iter().all(|verdict| self.verdicts(verdict).next().is_none())
    }
}

pub(crate) fn rises(log: &[Logged]) -> Finding {
    let mut found = crate::check::finding(
        "I5",
        "the share rises only when every guard passes, and there is one line of decisions",
    );
    let first = log.first().is_none_or(|first| first.seq == 1);
    found.expect(first, || "the log of the rollout has no beginning".to_owned());
    for pair in log.windows(2) {
        let [before, after] = pair else { continue };
        let seq = after.seq;
        found.expect(seq == before.seq + 1, || format!("decision {} is missing", before.seq + 1));
        let (share, was) = (after.number("share"), before.number("share"));
        found.expect(share <= was || after.may_raise(before), || {
            format!("decision {seq} raises the share from {was} to {share} without cause")
        });
        let same = share == was && after.decision["stage"] == before.decision["stage"];
        let (version, last) = (after.number("version"), before.number("version"));
        found.expect(version > last || same && version == last, || {
            format!("decision {seq} changes the plan, and its version goes from {last} to {version}")
        });
    }
    found
}

pub(crate) fn falls(log: &[Logged]) -> Finding {
    let mut found = crate::check::finding("I6", "what harms is rolled back by the look that sees it");
    for row in log {
        let harm = row.verdicts("FAIL").find(|reading| reading["action"] == "rollback");
        found.expect(harm.is_none() || row.number("share") == 0, || {
            let metric = harm.map(|reading| reading["metric"].to_string()).unwrap_or_default();
            format!("decision {} sees {metric} fail and leaves the share at {}", row.seq, row.number("share"))
        });
    }
    found
}
