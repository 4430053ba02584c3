//! Feedback and labels over gRPC.

use crate::labels::Feedback;
use crate::record::Error;

/// Feedback of a request, checked.
///
/// # Errors
/// `Invalid` with the field.
pub(crate) fn feedback(feedback: proto::Feedback) -> Result<Feedback, Error> {
    let proto::Feedback { feedback_id, conversation_id, turn_id, rating, resolved, comment, .. } = feedback;
    let rating = u8::try_from(rating).ok().filter(|rating| *rating <= 5).ok_or_else(|| {
        Error::invalid("feedback.rating", format!("is {rating}, allowed 1..=5, or 0 for none"))
    })?;
    let (demonstration, intent) = (feedback.demonstration, feedback.intent);
    let feedback =
        Feedback { feedback_id, conversation_id, turn_id, rating, resolved, comment, demonstration, intent };
    feedback.check()?;
    Ok(feedback)
}

/// Stored feedback as callers read it.
pub(crate) fn given_feedback(given: Feedback) -> proto::Feedback {
    let Feedback { feedback_id, conversation_id, turn_id, resolved, comment, demonstration, intent, .. } =
        given;
    let rating = given.rating.into();
    proto::Feedback {
        feedback_id,
        conversation_id,
        turn_id,
        rating,
        resolved,
        comment,
        demonstration,
        intent,
    }
}
