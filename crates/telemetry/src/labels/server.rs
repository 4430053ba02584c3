//! Feedback and labels over gRPC.

use proto::ExportResponse;

use crate::labels::{Feedback, Said};
use crate::record::{Error, Label};
use crate::server::decode;

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
    let reply = feedback.reply;
    let feedback = Feedback {
        feedback_id,
        conversation_id,
        turn_id,
        rating,
        resolved,
        comment,
        demonstration,
        intent,
        reply,
    };
    feedback.check()?;
    Ok(feedback)
}

/// Stored feedback as callers read it.
pub(crate) fn given_feedback(given: Feedback) -> proto::Feedback {
    let Feedback {
        feedback_id,
        conversation_id,
        turn_id,
        resolved,
        comment,
        demonstration,
        intent,
        reply,
        ..
    } = given;
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
        reply,
    }
}

/// A record with what people said of it, as callers read it.
///
/// # Errors
/// `Malformed`.
pub(crate) fn exported(Said { encoded, feedback, labels }: Said) -> Result<ExportResponse, Error> {
    let label = |Label { intent, source, disposition, .. }| proto::Label { intent, source, disposition };
    Ok(ExportResponse {
        record: Some(decode(&encoded)?),
        feedback: feedback.into_iter().map(given_feedback).collect(),
        labels: labels.into_iter().map(label).collect(),
    })
}
