//! The audit over gRPC.

use proto::{AuditItem, IntentDecision, LabelAuditRequest, NextAuditRequest, NextAuditResponse, TurnRecord};

use crate::audit::{Drawn, OUT_OF_SCOPE, draw};
use crate::config;
use crate::record::{Error, check_id};
use crate::server::{decode, now_us};
use crate::store::Store;

/// Whether a turn is drawn: one that has a question to show and an intent to judge.
pub(crate) fn drawn(record: &TurnRecord, rates: &config::Audit) -> Option<Drawn> {
    let turn = record.turn.as_ref().filter(|_| !record.question.is_empty())?;
    let intent = turn.intent.as_ref()?;
    draw(&turn.turn_id, &intent.category, intent.confidence, rates)
}

/// The next turn to label.
///
/// # Errors
/// `Store`, `Malformed`.
pub(crate) async fn next(store: &Store, request: NextAuditRequest) -> Result<NextAuditResponse, Error> {
    let Some(found) = store.next_audit(request.stratum).await? else {
        return Ok(NextAuditResponse::default());
    };
    let Drawn { stratum, probability } = found.drawn;
    let record = Some(decode(&found.encoded)?);
    Ok(NextAuditResponse { item: Some(AuditItem { record, stratum, probability }), waiting: found.waiting })
}

/// Keeps a label.
///
/// # Errors
/// `Invalid` where it says nothing, or says that an intent is right where none was predicted; `Store`.
pub(crate) async fn label(store: &Store, request: LabelAuditRequest) -> Result<(), Error> {
    let LabelAuditRequest { turn_id, mut intent, correct, grounded } = request;
    check_id("turn_id", &turn_id)?;
    let record = decode(&store.audited(turn_id.clone()).await?)?;
    if correct {
        if !intent.is_empty() {
            return Err(Error::invalid("intent", "is set although the prediction is correct; leave one out"));
        }
        intent = predicted(&record).to_owned();
        check_id("intent", &intent)
            .map_err(|_| Error::invalid("correct", "is set, but no intent was predicted; set intent"))?;
    } else if !intent.is_empty() {
        check_id("intent", &intent)?;
    } else if grounded.is_none() {
        return Err(Error::invalid("intent", "must be set, or correct, or grounded"));
    }
    let intent = Some(intent).filter(|intent| !intent.is_empty());
    store.label_audit(turn_id, intent, grounded, now_us()).await
}

/// Whether the classifier took the turn of an encoded record for what it is.
pub(crate) fn is_right(encoded: &[u8], intent: &str) -> bool {
    decode(encoded).is_ok_and(|record| predicted(&record) == intent)
}

/// What the classifier takes a turn for.
fn predicted(record: &TurnRecord) -> &str {
    let intent = record.turn.as_ref().and_then(|turn| turn.intent.as_ref());
    intent.map_or("", |intent| match intent.decision() {
        IntentDecision::OutOfScope => OUT_OF_SCOPE,
        _ => intent.name.as_str(),
    })
}
