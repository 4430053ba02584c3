//! What a plan changes, in words.

use bundle::rollout::{Guard, Kind, Plan, Stage};

use super::look::name;

/// What a plan changes: lines that begin with "+" come, those with "-" go.
pub(super) fn changes(before: Option<&Plan>, after: &Plan) -> Vec<String> {
    let (old, new) = (before.map(lines).unwrap_or_default(), lines(after));
    let gone = old.iter().filter(|line| !new.contains(line)).map(|line| format!("- {line}"));
    let come = new.iter().filter(|line| !old.contains(line)).map(|line| format!("+ {line}"));
    gone.chain(come).collect()
}

fn lines(plan: &Plan) -> Vec<String> {
    let candidate = if plan.candidate.is_empty() { "whichever is served" } else { &plan.candidate };
    let head = format!(
        "rollout {} of bundle {candidate}, looked at every {} s, {} % of customers kept back at the end",
        plan.id,
        plan.interval_s,
        plan.holdback * 100.0
    );
    std::iter::once(head).chain(plan.stages.iter().map(stage)).chain(plan.guards.iter().map(guard)).collect()
}

fn stage(stage: &Stage) -> String {
    let whom = match (stage.audience.as_str(), stage.mirror) {
        ("", mirror) if mirror > 0.0 => {
            let usd = stage.mirror_usd_per_day;
            format!("nobody; {} % of conversations unseen for up to {usd} US dollars a day", mirror * 100.0)
        }
        ("", _) => format!("{} % of customers", stage.share * 100.0),
        (audience, _) => format!("customers with audience {audience}"),
    };
    let risk = format!("{:?}", stage.max_risk).to_lowercase();
    let mut gates = format!("{} h and {} customers", stage.min_hours, stage.min_customers);
    if stage.mirror > 0.0 {
        gates = format!(
            "{} h and {} unseen answers, of which up to {} % would go to a person unplanned",
            stage.min_hours,
            stage.min_customers,
            stage.max_escalation * 100.0
        );
    }
    let person = if stage.approval { ", a person's approval" } else { "" };
    let certificates = stage.certificate.iter().map(|(metric, ratio)| {
        format!(", a certificate that {} is below {ratio} times the control's", name(*metric))
    });
    let certificates: String = certificates.collect();
    let topics = stage.categories.join(", ");
    format!(
        "stage {}: {whom} in {topics}, up to {risk} risk; next after {gates}{person}{certificates}",
        stage.name
    )
}

fn guard(guard: &Guard) -> String {
    let metric = name(guard.metric);
    let breach = match guard.kind {
        Kind::Relative => format!("{} times as often as in the control", guard.r0),
        Kind::Absolute => format!("in over {} % of conversations", guard.max_rate * 100.0),
        Kind::RelativeAbsolute => {
            format!("over {} ms in more than {} % of turns", guard.sla_ms, (1.0 - guard.q) * 100.0)
        }
        Kind::Cap => format!("over {} US dollars a turn", guard.cap_usd),
    };
    let (action, dry) =
        (format!("{:?}", guard.action).to_lowercase(), if guard.dry_run { " (only reported)" } else { "" });
    let window = guard.window_s;
    format!(
        "guard {metric}: {breach} within {window} s, at a chance of {} of a false alarm: {action}{dry}",
        guard.alpha
    )
}
