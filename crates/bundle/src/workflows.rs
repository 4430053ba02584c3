//! Workflows, each with the file it stands in.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::place::line_of;
use crate::read::{Problem, Problems, Reader, check_template, finish, is_name, parse};
use crate::request::Precondition;
use crate::types::*;

/// As the reasons of the contracts.
const MAX_REASON_BYTES: usize = 63;

/// Reads the workflows of all files under `workflows/`.
pub(crate) fn workflows(reader: &Reader) -> Result<Vec<(PathBuf, Workflow)>, Problems> {
    let mut workflows = Vec::<(PathBuf, Workflow)>::new();
    let mut problems = Vec::new();
    for file in reader.under("workflows") {
        let read = reader.text(file).and_then(|text| Ok((parse::<Workflow>(file, &text)?, text)));
        match read {
            Ok((workflow, text)) => {
                problems.extend(check_workflow(file, &text, &workflow));
                if let Some((first, _)) = workflows.iter().find(|(_, other)| other.name == workflow.name) {
                    let message =
                        format!("duplicate workflow {:?}, first in {}", workflow.name, first.display());
                    problems.push(Problem::new(file, line_of(&text, &["name"]), message));
                }
                workflows.push((file.clone(), workflow));
            }
            Err(problem) => problems.push(problem),
        }
    }
    finish(workflows, problems)
}

/// `file:line` of a key of the workflow of that name.
pub(crate) fn place(reader: &Reader, name: &str, path: &[&str]) -> String {
    let workflows = workflows(reader).unwrap_or_default();
    let Some((file, _)) = workflows.iter().find(|(_, workflow)| workflow.name == name) else {
        return "workflows".to_owned();
    };
    let line = reader.text(file).map_or(0, |text| line_of(&text, path));
    format!("{}:{line}", file.display())
}

fn check_workflow(file: &Path, text: &str, workflow: &Workflow) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut refuse =
        |path: &[&str], message: String| problems.push(Problem::new(file, line_of(text, path), message));
    let request = &workflow.request;
    if !is_name(&workflow.name) {
        refuse(&["name"], format!("name {:?}, allowed [a-z][a-z0-9_]*", workflow.name));
    }
    if !(0.0..=1.0).contains(&workflow.threshold) {
        refuse(&["threshold"], format!("threshold is {}, allowed 0..=1", workflow.threshold));
    }
    if workflow.intents.is_empty() {
        refuse(&["intents"], "intents is empty, at least one is needed".to_owned());
    }
    if !request.path.starts_with('/') || request.path.contains("{{") {
        let message = format!("path {:?}, allowed a fixed path that begins with /", request.path);
        refuse(&["request", "path"], message);
    }
    if !(100..=30_000).contains(&request.timeout_ms) {
        let message = format!("timeout_ms is {}, allowed 100..=30000", request.timeout_ms);
        refuse(&["request", "timeout_ms"], message);
    }
    if !(1..=10).contains(&request.max_attempts) {
        let message = format!("max_attempts is {}, allowed 1..=10", request.max_attempts);
        refuse(&["request", "max_attempts"], message);
    }
    check_caps(workflow, &mut refuse);
    check_preconditions(&workflow.preconditions, &mut refuse);
    let mut names = BTreeSet::new();
    for slot in &workflow.slots {
        if !is_name(&slot.name) || !names.insert(&slot.name) {
            let message = format!("slot {:?}, allowed [a-z][a-z0-9_]*, each once", slot.name);
            refuse(&["slot", &slot.name], message);
        }
        check_slot(slot, &mut refuse);
    }
    let mut templates =
        vec![(vec!["confirmation"], workflow.confirmation.as_str()), (vec!["done"], workflow.done.as_str())];
    let told = workflow.preconditions.iter();
    templates
        .extend(told.map(|one| (vec!["precondition", one.reason.as_str(), "message"], one.message.as_str())));
    let body = request.body.iter();
    templates.extend(body.filter_map(|(key, value)| Some((vec!["request", "body", key], value.as_str()?))));
    for (path, template) in templates {
        if let Err(problem) = check_template(file, template, 1) {
            refuse(&path, format!("{}: {}", path.join("."), problem.message));
        }
    }
    problems
}

fn check_caps(workflow: &Workflow, refuse: &mut impl FnMut(&[&str], String)) {
    let Caps { per_customer_per_day, per_day, amount } = workflow.caps;
    for (key, cap) in [("per_customer_per_day", per_customer_per_day), ("per_day", per_day)] {
        if let Some(cap) = cap.filter(|cap| !(1..=1_000_000).contains(cap)) {
            refuse(&["caps", key], format!("caps.{key} is {cap}, allowed 1..=1000000"));
        }
    }
    let Some(amount) = amount else { return };
    if !(amount > 0.0 && amount.is_finite()) {
        refuse(&["caps", "amount"], format!("caps.amount is {amount}, allowed above 0"));
    }
    if !workflow.slots.iter().any(|slot| matches!(slot.kind, SlotKind::Amount { .. })) {
        refuse(&["caps", "amount"], "caps.amount needs a slot of type \"amount\"".to_owned());
    }
}

fn check_preconditions(preconditions: &[Precondition], refuse: &mut impl FnMut(&[&str], String)) {
    let mut reasons = BTreeSet::new();
    for Precondition { when, reason, message } in preconditions {
        let path = |key| ["precondition", reason.as_str(), key];
        let fits = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
        let constant = reason.starts_with(|c: char| c.is_ascii_uppercase()) && reason.chars().all(fits);
        if !constant || reason.len() > MAX_REASON_BYTES || !reasons.insert(reason) {
            let allowed = format!("allowed [A-Z][A-Z0-9_]* up to {MAX_REASON_BYTES} bytes, each once");
            refuse(&path("reason"), format!("reason {reason:?} of a precondition, {allowed}"));
        }
        for (key, text) in [("when", when), ("message", message)] {
            if text.trim().is_empty() {
                refuse(&path(key), format!("{key} of the precondition {reason} is empty"));
            }
        }
    }
}

fn check_slot(slot: &Slot, refuse: &mut impl FnMut(&[&str], String)) {
    let name = slot.name.as_str();
    let pattern = match &slot.kind {
        SlotKind::Pattern { pattern } => Some(pattern),
        SlotKind::OrderId { pattern } => pattern.as_ref(),
        SlotKind::Choice { choices } if choices.is_empty() => {
            refuse(&["slot", name, "choices"], format!("slot {name:?} has no choices"));
            None
        }
        _ => None,
    };
    if let Some(Err(error)) = pattern.map(|pattern| regex::Regex::new(pattern)) {
        let error = error.to_string().lines().last().unwrap_or_default().to_owned();
        let error = error.trim_start_matches("error: ");
        let message = format!("pattern of slot {name:?} is no regular expression: {error}");
        refuse(&["slot", name, "pattern"], message);
    }
}
