//! The rollout as it is printed.

use proto::*;
use serde_json::{Value, json};

use crate::desk::time;
use crate::show;

pub(super) fn show_share(share: u64) -> String {
    format!("{} %", share as f64 / 1000.0)
}

/// The ladder, the guards and what is missing, for a terminal.
pub(super) fn page(rollout: &Rollout) -> String {
    let plan = rollout.plan.clone().unwrap_or_default();
    let phase =
        plan.phase().as_str_name().trim_start_matches("ROLLOUT_PHASE_").replace('_', " ").to_lowercase();
    let looked = time(rollout.looked_at.as_ref());
    let mut lines = vec![
        format!(
            "{}  {phase}, {} of customers, version {}, last look {}",
            plan.rollout_id,
            show_share(plan.share.into()),
            plan.version,
            looked.as_str().unwrap_or("-")
        ),
        String::new(),
    ];
    for stage in &rollout.stages {
        let mark = match (stage.current, stage.serving) {
            (true, true) => "->",
            (true, false) => "(>",
            (false, true) => "v ",
            (false, false) => "  ",
        };
        let whom = if stage.audience.is_empty() {
            show_share(stage.share.into())
        } else {
            format!("audience {}", stage.audience)
        };
        let customers = match plan.mirror_share {
            0 => format!(", {} treated customers so far", rollout.customers),
            _ => format!(", {} conversations answered unseen", rollout.customers),
        };
        lines.push(format!(
            "  {mark} {:<16}{whom}{}",
            stage.name,
            if stage.current { &customers } else { "" }
        ));
    }
    lines.push(String::new());
    if let Some(RolloutUnits { n, events }) = rollout.unseen.filter(|unseen| unseen.n > 0) {
        lines.push(format!("  of {n} unseen answers {events} would have gone to a person unplanned"));
    }
    lines.extend(rollout.readings.iter().map(reading));
    let said =
        |what: &str, all: &[String]| all.iter().map(|one| format!("  {what} {one}")).collect::<Vec<_>>();
    lines.extend(said(&format!("{}:", rollout.action), &rollout.reasons));
    lines.extend(said("the next stage waits for", &rollout.missing));
    lines.join("\n")
}

fn reading(reading: &GuardReading) -> String {
    let units = |units: Option<RolloutUnits>| {
        let RolloutUnits { n, events } = units.unwrap_or_default();
        format!("{events} of {n}")
    };
    let ratio = reading.ratio.map_or_else(
        || "ratio -".to_owned(),
        |ratio| {
            let upper = reading.upper.map_or_else(|| "...".to_owned(), |upper| format!("{upper:.2}"));
            format!("ratio {ratio:.2} [{:.2}, {upper}]", reading.lower.unwrap_or_default())
        },
    );
    let verdict = reading.verdict().as_str_name().trim_start_matches("ROLLOUT_VERDICT_");
    let dry = if reading.dry_run { " (only reported)" } else { "" };
    format!(
        "  {:<22}{verdict:<14}treated {}, control {}, {ratio}, evidence {:.2} of {:.2}: {}{dry}",
        reading.metric,
        units(reading.treated),
        units(reading.control),
        reading.evidence,
        reading.limit,
        reading.words
    )
}

pub(super) fn value(rollout: &Rollout) -> Value {
    let plan = rollout.plan.clone().unwrap_or_default();
    let stages = rollout.stages.iter().map(|stage| {
        json!({ "name": stage.name, "share": f64::from(stage.share) / 1e5, "audience": show::text(&stage.audience),
            "current": stage.current, "serving": stage.serving })
    });
    let readings = rollout.readings.iter().map(|read| {
        json!({ "metric": read.metric, "verdict": show::name(read.verdict().as_str_name(), "ROLLOUT_VERDICT_"),
            "words": read.words, "action": read.action, "dry_run": read.dry_run, "treated": units(read.treated),
            "control": units(read.control), "ratio": read.ratio, "lower": read.lower, "upper": read.upper,
            "evidence": read.evidence, "limit": read.limit })
    });
    json!({
        "rollout_id": plan.rollout_id,
        "phase": show::name(plan.phase().as_str_name(), "ROLLOUT_PHASE_"),
        "version": plan.version,
        "epoch": plan.epoch,
        "share": f64::from(plan.share) / 1e5,
        "stage": rollout.stages.iter().find(|stage| stage.current).map(|stage| &stage.name),
        "stages": stages.collect::<Vec<_>>(),
        "verdict": show::name(rollout.verdict().as_str_name(), "ROLLOUT_VERDICT_"),
        "action": rollout.action,
        "reasons": rollout.reasons,
        "missing": rollout.missing,
        "customers": rollout.customers,
        "unseen": units(rollout.unseen),
        "entered_at": time(rollout.entered_at.as_ref()),
        "looked_at": time(rollout.looked_at.as_ref()),
        "readings": readings.collect::<Vec<_>>(),
    })
}

fn units(units: Option<RolloutUnits>) -> Value {
    let RolloutUnits { n, events } = units.unwrap_or_default();
    json!({ "n": n, "events": events })
}

/// What the assistant would have said, for a terminal.
pub(super) fn unseen(answer: &UnseenAnswer) -> String {
    let record = answer.record.clone().unwrap_or_default();
    let turn = record.turn.clone().unwrap_or_default();
    let stage = record.exposure.map(|exposure| exposure.stage).unwrap_or_default();
    let at = time(record.accepted_at.as_ref());
    let outcome = show::name(turn.outcome().as_str_name(), "OUTCOME_");
    let mut lines = vec![
        format!(
            "{:>6}  {}  {stage}  {}  {}",
            answer.place,
            at.as_str().unwrap_or("-"),
            outcome.as_str().unwrap_or("-"),
            turn.turn_id
        ),
        format!("        asked  {}", record.question),
    ];
    let said = turn.answer.lines().map(|line| format!("        said   {line}"));
    lines.extend(said);
    let dry = record.decisions.iter().filter(|decision| decision.starts_with("dry run:"));
    lines.extend(dry.map(|found| format!("        {found}")));
    lines.join("\n")
}

/// The same for `--json`.
pub(super) fn unseen_value(answer: &UnseenAnswer) -> Value {
    let record = answer.record.clone().unwrap_or_default();
    let turn = record.turn.unwrap_or_default();
    json!({
        "place": answer.place,
        "accepted_at": time(record.accepted_at.as_ref()),
        "stage": record.exposure.map(|exposure| exposure.stage),
        "question": record.question,
        "turn": show::turn(&turn),
        "decisions": record.decisions,
    })
}
