//! What stays of an execution that is over: the request goes, and personal data in slots and answers is masked.

use sql::{Connection, Result, values};

use crate::converse::Progress;
use crate::deliver::Delivery;
use crate::execution::{Execution, State, parsed, rendered};
use crate::store::Reply;

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
pub(crate) fn mask_replies(connection: &mut Connection<'_>, execution: &Execution) -> Result<()> {
    if !is_settled(execution.state) {
        return Ok(());
    }
    let query = "SELECT turn_id, reply FROM turn WHERE conversation_id = $1 AND execution_id = $2";
    let (conversation, id) = (&execution.conversation, &execution.id);
    let replies = connection.query(query, values![conversation, id], |row| {
        Ok((row.get::<String, _>(0)?, parsed::<Reply>(row, "reply")?.unwrap_or_default()))
    })?;
    for (turn, mut reply) in replies {
        reply.message = personal::mask(&reply.message);
        let update = "UPDATE turn SET reply = $1 WHERE conversation_id = $2 AND turn_id = $3";
        connection.execute(update, values![&rendered(&reply)?, conversation, &turn])?;
    }
    Ok(())
}
