//! Evaluations over gRPC.

use crate::evaluations::Evaluation;
use crate::record::{Error, MAX_COST_USD, scaled};

/// An evaluation of a request, checked.
///
/// # Errors
/// `Invalid` with the field.
pub(crate) fn evaluation(given: proto::Evaluation) -> Result<Evaluation, Error> {
    let cost_nanos = scaled("evaluation.cost_usd", given.cost_usd, MAX_COST_USD, 1e9)?;
    let evaluation = Evaluation {
        turn_id: given.turn_id,
        conversation_id: given.conversation_id,
        name: given.name,
        judge: given.judge,
        claims: given.claims,
        unsupported: given.unsupported,
        // 10^13 at most.
        cost_nanos: cost_nanos as i64,
        prices: given.price_version,
    };
    evaluation.check()?;
    Ok(evaluation)
}
