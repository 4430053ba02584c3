//! What stays of an execution that is over: the request goes, and personal data in slots and answers is masked.

use rusqlite::Connection;

use crate::converse::Progress;
use crate::deliver::Delivery;
use crate::store::{Execution, State, parsed, rendered};

/// Whether nothing is done with the slots any more. What failed or is unknown is for a person, who needs them.
fn is_settled(state: State) -> bool {
    matches!(state, State::Done | State::Cancelled)
}

/// Slots and request as they are stored.
pub(crate) fn kept(execution: &Execution) -> (Progress, Option<Delivery>) {
    let mut progress = execution.progress.clone();
    if !is_settled(execution.state) {
        return (progress, execution.delivery.clone());
    }
    progress.slots.values_mut().for_each(|value| *value = personal::mask(value));
    (progress, None)
}

/// Masks what the turns of an execution that is over were answered.
pub(crate) fn mask_replies(connection: &Connection, execution: &Execution) -> rusqlite::Result<()> {
    if !is_settled(execution.state) {
        return Ok(());
    }
    let query = "SELECT turn_id, reply FROM turn WHERE conversation_id = ? AND execution_id = ?";
    let mut query = connection.prepare_cached(query)?;
    let key = [&execution.conversation, &execution.id];
    let replies = query.query_map(key, |row| Ok((row.get::<_, String>(0)?, parsed(row, "reply")?)))?;
    let replies = replies.collect::<rusqlite::Result<Vec<(_, Option<crate::store::Reply>)>>>()?;
    let update = "UPDATE turn SET reply = ? WHERE conversation_id = ? AND turn_id = ?";
    let mut update = connection.prepare_cached(update)?;
    for (turn, reply) in replies {
        let mut reply = reply.unwrap_or_default();
        reply.message = personal::mask(&reply.message);
        update.execute([rendered(&reply)?, execution.conversation.clone(), turn])?;
    }
    Ok(())
}
