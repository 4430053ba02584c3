//! What the commands print: lines and JSON on stdout, progress on stderr.

use std::io::Write as _;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use proto::{Outcome, Turn};
use serde_json::{Value, json};

/// Work shorter than this shows no bar.
const SHOW_AFTER: Duration = Duration::from_secs(1);

/// Prints a line on stdout. A closed pipe is no error: the reader has what it wanted.
pub(crate) fn line(text: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}

/// The first characters of a text, on one line.
pub(crate) fn excerpt(text: &str, characters: usize) -> String {
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut excerpt: String = words.chars().take(characters).collect();
    if excerpt.len() < words.len() {
        excerpt.push('…');
    }
    excerpt
}

/// A bar on stderr that appears when work takes over a second.
pub(crate) struct Bar {
    what: &'static str,
    start: Instant,
    bar: Mutex<Option<ProgressBar>>,
}

impl Bar {
    pub(crate) fn new(what: &'static str) -> Self {
        Self { what, start: Instant::now(), bar: Mutex::new(None) }
    }

    pub(crate) fn set(&self, done: u64, total: u64) {
        if self.start.elapsed() < SHOW_AFTER {
            return;
        }
        let mut bar = self.bar.lock().unwrap_or_else(PoisonError::into_inner);
        let bar = bar.get_or_insert_with(|| {
            let style = ProgressStyle::with_template("{msg} [{bar:30}] {pos}/{len} {eta}");
            let bar = ProgressBar::new(total).with_message(self.what);
            style.map(|style| bar.clone().with_style(style)).unwrap_or(bar)
        });
        bar.set_length(total);
        bar.set_position(done);
    }

    pub(crate) fn finish(&self) {
        if let Some(bar) = self.bar.lock().unwrap_or_else(PoisonError::into_inner).take() {
            bar.finish_and_clear();
        }
    }
}

/// The name of an enum value without its prefix, or null for unspecified.
pub(crate) fn name(full: &str, prefix: &str) -> Value {
    match full.strip_prefix(prefix).unwrap_or(full) {
        "UNSPECIFIED" => Value::Null,
        name => json!(name),
    }
}

pub(crate) fn text(text: &str) -> Value {
    if text.is_empty() { Value::Null } else { json!(text) }
}

/// A turn as the commands print it with `--json`.
pub(crate) fn turn(turn: &Turn) -> Value {
    let intent = turn.intent.as_ref().map(|intent| {
        let alternatives = intent.alternatives.iter();
        let alternatives =
            alternatives.map(|other| json!({ "name": other.name, "probability": other.probability }));
        json!({
            "name": text(&intent.name),
            "category": text(&intent.category),
            "risk": name(intent.risk().as_str_name(), "RISK_"),
            "confidence": intent.confidence,
            "decision": name(intent.decision().as_str_name(), "INTENT_DECISION_"),
            "alternatives": alternatives.collect::<Vec<_>>(),
        })
    });
    let safety = turn.safety.as_ref().map(|verdict| {
        let categories = verdict.categories.iter();
        json!({
            "action": name(verdict.action().as_str_name(), "SAFETY_ACTION_"),
            "status": name(verdict.status().as_str_name(), "SAFETY_STATUS_"),
            "categories": categories.map(|seen| json!({ "name": seen.name, "score": seen.score })).collect::<Vec<_>>(),
        })
    });
    let citations = turn.citations.iter().map(|citation| {
        json!({
            "doc_id": citation.document_id, "title": citation.title,
            "version": citation.document_version, "quote": citation.quote,
        })
    });
    let handoff = turn.handoff.as_ref().map(|notice| {
        let reason = name(notice.reason().as_str_name(), "HANDOFF_REASON_");
        json!({ "id": notice.handoff_id, "reason": reason, "message": notice.message })
    });
    let workflow = turn.workflow.as_ref().map(|status| {
        let state = name(status.state().as_str_name(), "EXECUTION_STATE_");
        json!({
            "execution_id": status.execution_id, "name": status.name, "state": state,
            "missing_slots": status.missing_slots, "awaiting_confirmation": status.awaiting_confirmation,
        })
    });
    // A handoff has a message of its own; it is no answer.
    let answer = if turn.outcome() == Outcome::Handoff { Value::Null } else { text(&turn.answer) };
    json!({
        "turn_id": turn.turn_id,
        "conversation_id": turn.conversation_id,
        "trace_id": turn.trace_id,
        "bundle": turn.bundle,
        "arm": name(turn.arm().as_str_name(), "ARM_"),
        "outcome": name(turn.outcome().as_str_name(), "OUTCOME_"),
        "intent": intent,
        "safety": safety,
        "answer": answer,
        "citations": citations.collect::<Vec<_>>(),
        "handoff": handoff,
        "workflow": workflow,
        "offers_person": turn.offers_person,
        "model": text(&turn.model),
        "usage": turn.usage.map(|usage| json!({ "input_tokens": usage.input_tokens, "output_tokens": usage.output_tokens })),
        "cost_usd": turn.cost_usd,
        "timings_ms": turn.timings_ms.iter().collect::<std::collections::BTreeMap<_, _>>(),
    })
}

/// One line a stage, then what the customer reads.
pub(crate) fn lines(turn: &Turn) -> String {
    let mut lines = Vec::new();
    let mut stage = |name: &str, what: String| {
        let ms = turn.timings_ms.get(name).map_or(String::new(), |ms| format!("{ms:.1} ms"));
        lines.push(format!("  {name:<11}{what:<58}{ms:>10}"));
    };
    let short =
        |full: &str, prefix: &str| full.strip_prefix(prefix).unwrap_or(full).to_lowercase().replace('_', " ");
    if let Some(intent) = &turn.intent {
        let decision = short(intent.decision().as_str_name(), "INTENT_DECISION_");
        let name = if intent.name.is_empty() { "none" } else { &intent.name };
        stage("classifier", format!("{name} {:.2}, {decision}", intent.confidence));
    }
    if let Some(verdict) = &turn.safety {
        let seen: Vec<_> =
            verdict.categories.iter().map(|seen| format!("{} {:.2}", seen.name, seen.score)).collect();
        let action = short(verdict.action().as_str_name(), "SAFETY_ACTION_");
        stage("safety", format!("{action}{}{}", if seen.is_empty() { "" } else { ": " }, seen.join(", ")));
    }
    if turn.timings_ms.contains_key("retriever") {
        let mut found = turn.passages.iter().take(3).map(String::as_str).collect::<Vec<_>>().join(", ");
        if turn.passages.len() > 3 {
            found.push_str(&format!(" and {} more", turn.passages.len() - 3));
        }
        stage("retriever", if found.is_empty() { "nothing".to_owned() } else { found });
    }
    if !turn.model.is_empty() {
        stage("generator", format!("{}, {:.6} USD", turn.model, turn.cost_usd));
    }
    if let Some(status) = &turn.workflow {
        let state = short(status.state().as_str_name(), "EXECUTION_STATE_");
        let missing = status.missing_slots.join(", ");
        let missing = if missing.is_empty() { missing } else { format!(", missing {missing}") };
        stage("workflow", format!("{} {state}{missing}", status.name));
    }
    let reason = turn.handoff.as_ref().map(|notice| short(notice.reason().as_str_name(), "HANDOFF_REASON_"));
    let outcome = short(turn.outcome().as_str_name(), "OUTCOME_");
    let total = turn.timings_ms.get("total").copied().unwrap_or_default();
    let outcome = reason.map_or(outcome.clone(), |reason| format!("{outcome} ({reason})"));
    lines.push(format!("  {:<11}{outcome:<58}{:>10}", "outcome", format!("{total:.1} ms")));
    if !turn.answer.is_empty() {
        lines.push(turn.answer.lines().map(|line| format!("  | {line}")).collect::<Vec<_>>().join("\n"));
    }
    if turn.offers_person {
        lines.push("  (type \"agent\" to talk to a person)".to_owned());
    }
    let mut sources: Vec<_> = turn.citations.iter().collect();
    sources.dedup_by_key(|citation| &citation.document_id);
    for citation in sources {
        lines.push(format!("    [{}] {}", citation.document_id, citation.title));
    }
    lines.join("\n")
}
