//! Workflows, each with the file it stands in.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::place::line_of;
use crate::read::{Problem, Problems, Reader, check_template, finish, is_name, parse};
use crate::request::{Precondition, RequestTemplate, Response};
use crate::types::*;

/// Most days that a date may lie before or after today: a century.
const MAX_DAYS: u32 = 36_500;
/// As the reasons of the contracts.
const MAX_REASON_BYTES: usize = 63;
/// Most headers, parts of a query or values of a response.
const MAX_FIELDS: usize = 32;
const MAX_POINTER_BYTES: usize = 256;
const DESCRIPTORS: &str = "workflows/descriptors";

/// Reads the workflows of all files under `workflows/`.
pub(crate) fn workflows(reader: &Reader) -> Result<Vec<(PathBuf, Workflow)>, Problems> {
    let mut workflows = Vec::<(PathBuf, Workflow)>::new();
    let mut problems = Vec::new();
    for file in reader.under("workflows").filter(|file| !file.starts_with(DESCRIPTORS)) {
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

/// The sets of file descriptors of targets, by their names.
pub(crate) fn descriptors(reader: &Reader) -> Result<BTreeMap<String, Vec<u8>>, Problem> {
    let read = |file: &PathBuf| {
        let target = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        Ok((target, reader.bytes(file)?))
    };
    reader.under(DESCRIPTORS).map(read).collect()
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
    check_request(&["request"], request, &mut refuse);
    check_retry(workflow, &mut refuse);
    check_response(&["response"], &workflow.response, &mut refuse);
    if let Some(undo) = &workflow.compensation {
        check_request(&["compensation", "request"], &undo.request, &mut refuse);
        check_response(&["compensation", "response"], &undo.response, &mut refuse);
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
        for key in unknown_keys(text, slot) {
            let message = format!("slot {:?} has an unknown key {key:?} for its type", slot.name);
            refuse(&["slot", &slot.name, &key], message);
        }
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

fn check_request(at: &[&str], request: &RequestTemplate, refuse: &mut impl FnMut(&[&str], String)) {
    let plain = request.path.is_empty() && request.query.is_empty() && request.method.is_none();
    match &request.grpc {
        Some(_) if !plain => {
            let message = "has grpc beside method, path or query, allowed one or the other".to_owned();
            refuse(&[at, &["grpc"]].concat(), format!("request {message}"));
        }
        Some(name) if !is_method(name) => {
            let message = format!("grpc is {name:?}, allowed package.Service/Method");
            refuse(&[at, &["grpc"]].concat(), message);
        }
        None if request.method.is_none() => {
            refuse(at, "request has no method, allowed POST, PUT, PATCH, DELETE, or grpc".to_owned());
        }
        _ => (),
    }
    if request.grpc.is_none() && !request.path.starts_with('/') || request.path.contains("{{") {
        let message =
            format!("path {:?}, allowed a path that begins with /, with {{slot}} segments", request.path);
        refuse(&[at, &["path"]].concat(), message);
    }
    if !(100..=30_000).contains(&request.timeout_ms) {
        let message = format!("timeout_ms is {}, allowed 100..=30000", request.timeout_ms);
        refuse(&[at, &["timeout_ms"]].concat(), message);
    }
    for (key, count) in [("headers", request.headers.len()), ("query", request.query.len())] {
        if count > MAX_FIELDS {
            refuse(&[at, &[key]].concat(), format!("{key} has {count}, allowed up to {MAX_FIELDS}"));
        }
    }
}

/// "package.Service/Method".
fn is_method(name: &str) -> bool {
    let fits = |part: &str| {
        let part = part.replace(['.', '_'], "");
        !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric())
    };
    name.split_once('/').is_some_and(|(service, method)| fits(service) && fits(method))
}

fn check_retry(workflow: &Workflow, refuse: &mut impl FnMut(&[&str], String)) {
    let Some(retry) = &workflow.retry else { return };
    if workflow.effect == Effect::NonIdempotent {
        refuse(&["retry"], "retry needs effect = \"idempotent\", what is not is never sent twice".to_owned());
    }
    let mut within = |key: &str, value: u64, most: u64| {
        if !(1..=most).contains(&value) {
            refuse(&["retry", key], format!("retry.{key} is {value}, allowed 1..={most}"));
        }
    };
    within("max_attempts", u64::from(retry.max_attempts), 10);
    within("base_ms", retry.base_ms.unwrap_or(1), 60_000);
    within("max_ms", retry.max_ms.unwrap_or(1), 3_600_000);
    within("max_age_hours", u64::from(retry.max_age_hours), 24);
}

fn check_response(at: &[&str], response: &Response, refuse: &mut impl FnMut(&[&str], String)) {
    let place = |key: &'static str| [at, &[key]].concat();
    let pointer = |text: &str| text.starts_with('/') && text.len() <= MAX_POINTER_BYTES;
    let allowed = format!("allowed a JSON pointer such as \"/data/id\" up to {MAX_POINTER_BYTES} bytes");
    if !pointer(&response.reference) {
        refuse(&place("reference"), format!("reference is {:?}, {allowed}", response.reference));
    }
    if response.values.len() > MAX_FIELDS {
        let message = format!("values has {}, allowed up to {MAX_FIELDS}", response.values.len());
        refuse(&place("values"), message);
    }
    for (name, text) in &response.values {
        let here = [at, &["values", name]].concat();
        if !is_name(name) {
            refuse(&here, format!("value {name:?}, allowed [a-z][a-z0-9_]*"));
        } else if !pointer(text) {
            refuse(&here, format!("value {name} is {text:?}, {allowed}"));
        }
    }
    for code in response.messages.keys() {
        let refused = code.parse().is_ok_and(|code: u16| (400..=499).contains(&code));
        let failed = code == "failed" && response.success.is_some();
        let word = !code.is_empty() && code.chars().all(|c| c.is_ascii_uppercase() || c == '_');
        if !refused && !failed && !word {
            let allowed = "allowed a status from 400 to 499, a code of gRPC, or \"failed\" beside success";
            refuse(&[at, &["messages", code]].concat(), format!("message for {code:?}, {allowed}"));
        }
    }
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

/// What stands in the table of a slot and nobody reads; serde cannot refuse it where types have keys of their own.
fn unknown_keys(text: &str, slot: &Slot) -> Vec<String> {
    let known = serde_json::to_value(slot).unwrap_or_default();
    let tables = toml::from_str::<toml::Table>(text).ok();
    let tables = tables.as_ref().and_then(|table| table.get("slot")?.as_array());
    let of = |table: &&toml::Value| table.get("name").and_then(toml::Value::as_str) == Some(&slot.name);
    let table = tables.and_then(|tables| tables.iter().find(of)?.as_table());
    let keys = table.into_iter().flat_map(toml::Table::keys);
    keys.filter(|key| known.get(key.as_str()).is_none()).cloned().collect()
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
        SlotKind::Date { past_days, future_days } => {
            for (key, days) in [("past_days", past_days), ("future_days", future_days)] {
                if let Some(days) = days.filter(|days| *days > MAX_DAYS) {
                    let message = format!("{key} of slot {name:?} is {days}, allowed 0..={MAX_DAYS}");
                    refuse(&["slot", name, key], message);
                }
            }
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
