//! Records as the contract has them.

use prost::Message as _;
use prost_types::Timestamp;
use proto::TurnRecord;

use super::{
    Arm, Error, MAX_COST_USD, MAX_TIMING_MS, MAX_TIMINGS, Outcome, Reason, Row, check_id, check_stage, scaled,
};
use crate::costs::server as costs;
use crate::metrics::{Grounding, Step};
use crate::rollout::server::exposure;

/// What is kept of a record.
///
/// # Errors
/// `Invalid` with the field.
pub(crate) fn row(record: &TurnRecord, audit: &crate::config::Audit) -> Result<Row, Error> {
    let turn = record.turn.as_ref().ok_or_else(|| Error::invalid("turn", "is missing"))?;
    check_id("turn.turn_id", &turn.turn_id)?;
    check_id("turn.conversation_id", &turn.conversation_id)?;
    let accepted = record.accepted_at.as_ref();
    let accepted = accepted.ok_or_else(|| Error::invalid("accepted_at", "is missing"))?;
    let outcome = Outcome::from_number(turn.outcome.into())
        .ok_or_else(|| Error::invalid("turn.outcome", format!("is {}, allowed 1..=7", turn.outcome)))?;
    let reason = match (&turn.handoff, outcome) {
        (Some(handoff), Outcome::Handoff) => Reason::from_number(handoff.reason.into()).ok_or_else(|| {
            Error::invalid("turn.handoff.reason", format!("is {}, allowed 0..=15", handoff.reason))
        })?,
        _ => Reason::Unspecified,
    };
    if turn.timings_ms.len() > MAX_TIMINGS {
        let message = format!("has {} stages, allowed 0..={MAX_TIMINGS}", turn.timings_ms.len());
        return Err(Error::invalid("turn.timings_ms", message));
    }
    let timing = |(stage, millis): (&String, &f64)| {
        check_stage("turn.timings_ms", stage)?;
        Ok((stage.clone(), scaled("turn.timings_ms", *millis, MAX_TIMING_MS, 1e3)?))
    };
    let mut timings_us = turn.timings_ms.iter().map(timing).collect::<Result<Vec<_>, Error>>()?;
    timings_us.sort();
    let intent = turn.intent.clone().unwrap_or_default();
    scaled("turn.intent.confidence", intent.confidence, 1.0, 1.0)?;
    let usage = turn.usage.unwrap_or_default();
    let grounding = record.grounding.clone().unwrap_or_default();
    for (field, name) in [
        ("customer_hash", &record.customer_hash),
        ("grounding.judge", &grounding.judge),
        ("price_version", &record.price_version),
    ] {
        if !name.is_empty() {
            check_id(field, name)?;
        }
    }
    if record.unseen && record.exposure.is_none() {
        return Err(Error::invalid("exposure", "is missing, needed where nobody read the turn"));
    }
    Ok(Row {
        turn_id: turn.turn_id.clone(),
        conversation_id: turn.conversation_id.clone(),
        accepted_us: micros("accepted_at", accepted)?,
        outcome,
        reason,
        arm: if turn.arm() == proto::Arm::Treatment { Arm::Treatment } else { Arm::Control },
        intent: intent.name,
        category: intent.category,
        confidence: intent.confidence,
        bundle: turn.bundle.clone(),
        model: turn.model.clone(),
        input_tokens: whole("turn.usage.input_tokens", usage.input_tokens)?,
        output_tokens: whole("turn.usage.output_tokens", usage.output_tokens)?,
        cost_nanos: whole("turn.cost_usd", scaled("turn.cost_usd", turn.cost_usd, MAX_COST_USD, 1e9)?)?,
        timings_us,
        muted: record.muted,
        step: step(turn.workflow.as_ref()),
        grounding: Grounding {
            claims: grounding.claims,
            unsupported: grounding.unsupported,
            delivered_claims: grounding.delivered_claims,
            delivered_unsupported: grounding.delivered_unsupported,
        },
        judge: grounding.judge,
        prices: record.price_version.clone(),
        customer_hash: record.customer_hash.clone(),
        exposure: record.exposure.as_ref().map(exposure).transpose()?,
        unseen: record.unseen,
        calls: costs::calls(&record.calls)?,
        saved: costs::saved(record.savings.as_ref())?,
        drawn: crate::audit::server::drawn(record, audit).filter(|_| !record.unseen),
        encoded: record.encode_to_vec(),
    })
}

/// Where a workflow stands: given up by its customer is what ended without an error.
fn step(workflow: Option<&proto::WorkflowStatus>) -> Step {
    match workflow {
        None => Step::Nothing,
        Some(status) if status.awaiting_confirmation => Step::Confirmation,
        Some(status) if status.state() == proto::ExecutionState::Cancelled && status.error.is_empty() => {
            Step::GivenUp
        }
        Some(_) => Step::Other,
    }
}

fn whole(field: &'static str, value: u64) -> Result<i64, Error> {
    i64::try_from(value).map_err(|_| Error::invalid(field, format!("is {value}, allowed 0..={}", i64::MAX)))
}

/// Microseconds since 1970 of a moment of the years 1970 to 9999, which the Timestamp type ends with.
pub(crate) fn micros(field: &'static str, moment: &Timestamp) -> Result<i64, Error> {
    const LAST: i64 = 253_402_300_799;
    let (0..=LAST, 0..=999_999_999) = (moment.seconds, moment.nanos) else {
        let message = format!("is {} s and {} ns, allowed 0..={LAST} s", moment.seconds, moment.nanos);
        return Err(Error::invalid(field, message));
    };
    Ok(moment.seconds * 1_000_000 + i64::from(moment.nanos) / 1000)
}
