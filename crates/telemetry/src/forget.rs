//! What is held of a conversation, and its deletion.

use sql::{Connection, values};

use crate::labels::{self, Feedback};
use crate::record::Error;
use crate::store::Store;

/// In this order: the later ones are found by the earlier ones' rows.
const DELETIONS: [&str; 9] = [
    "DELETE FROM unseen WHERE conversation_id = $1",
    "DELETE FROM exposures WHERE conversation_id = $1",
    "DELETE FROM records WHERE turn IN (SELECT id FROM turns WHERE conversation_id = $1)",
    "DELETE FROM labels WHERE turn_id IN (SELECT turn_id FROM turns WHERE conversation_id = $1)",
    "DELETE FROM labels WHERE turn_id IN (SELECT turn_id FROM feedback WHERE conversation_id = $1)",
    "DELETE FROM audit WHERE turn_id IN (SELECT turn_id FROM turns WHERE conversation_id = $1)",
    "DELETE FROM turns WHERE conversation_id = $1",
    "DELETE FROM feedback WHERE conversation_id = $1",
    "DELETE FROM evaluations WHERE conversation_id = $1",
];

impl Store {
    /// The feedback on a conversation, in the order it came.
    ///
    /// # Errors
    /// `Store`.
    pub async fn feedback(&self, conversation_id: String) -> Result<Vec<Feedback>, Error> {
        let read =
            move |connection: &mut Connection<'_>| labels::feedback(connection, &conversation_id, i64::MAX);
        Ok(self.0.read(read).await?)
    }

    /// Deletes records, labels, feedback and evaluations of conversations; returns the number of rows.
    ///
    /// # Errors
    /// `Store`.
    pub async fn forget(&self, conversation_ids: Vec<String>) -> Result<u64, Error> {
        let delete = move |connection: &mut Connection<'_>| {
            let mut rows = 0;
            for id in &conversation_ids {
                for deletion in DELETIONS {
                    rows += connection.execute(deletion, values![id])?;
                }
            }
            Ok(rows)
        };
        Ok(self.0.write(delete).await?)
    }
}
