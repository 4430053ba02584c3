//! Evaluations over gRPC.

use crate::costs;
use crate::evaluations::Evaluation;
use crate::record::Error;

/// An evaluation of a request, checked.
///
/// # Errors
/// `Invalid` with the field.
pub(crate) fn evaluation(given: proto::Evaluation) -> Result<Evaluation, Error> {
    let evaluation = Evaluation {
        turn_id: given.turn_id,
        conversation_id: given.conversation_id,
        name: given.name,
        judge: given.judge,
        claims: given.claims,
        unsupported: given.unsupported,
        calls: costs::server::calls(&given.calls)?,
        prices: given.calls.into_iter().next_back().map(|call| call.price_version).unwrap_or_default(),
        category: given.category,
    };
    evaluation.check()?;
    Ok(evaluation)
}
