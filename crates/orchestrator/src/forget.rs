//! What is held of a customer, and its deletion on request, in every stage.

use prost::Message as _;
use proto::{ExportCustomerResponse, Feedback, ForgetCustomerResponse, Handoff};
use sql::{Connection, Result, values};

use crate::budget;
use crate::spool::Kind;
use crate::stages::Failure;
use crate::store::Journal;
use crate::turn::{Error, Orchestrator};

/// Conversations that one call to a stage names.
const BATCH: usize = 1000;

impl Orchestrator {
    /// Deletes all that is held of a customer. Where it stops half way it is repeated: the conversations go last.
    pub(crate) async fn forget(
        &self,
        customer_key: String,
    ) -> std::result::Result<ForgetCustomerResponse, Error> {
        let ids = self.journal.conversations_of(&customer_key).await?;
        let mut forgotten = ForgetCustomerResponse::default();
        for ids in ids.chunks(BATCH) {
            forgotten.executions += self.stages.forget_executions(ids.to_vec()).await.map_err(unforgotten)?;
            forgotten.records += self.stages.forget_conversations(ids.to_vec()).await.map_err(unforgotten)?;
        }
        // Nothing of the customer is on its way to telemetry while it is deleted here, and nothing is afterwards.
        let _sending = self.journal.sending.lock().await;
        for id in &ids {
            let (turns, handoffs) = self.journal.forget(id.clone()).await?.ok_or_else(|| {
                Error::Precondition(format!(
                    "a turn of conversation {id} is under way; try again in a moment"
                ))
            })?;
            forgotten.conversations += 1;
            forgotten.turns += turns;
            forgotten.handoffs += handoffs;
        }
        for ids in ids.chunks(BATCH) {
            forgotten.records += self.stages.forget_conversations(ids.to_vec()).await.map_err(unforgotten)?;
        }
        self.journal.forget_spend(&customer_key).await?;
        Ok(forgotten)
    }

    /// All that is held of one conversation.
    pub(crate) async fn export(&self, id: String) -> std::result::Result<ExportCustomerResponse, Error> {
        let (utterances, turns) = self.journal.conversation(&id).await?.unwrap_or_default();
        let mut records = Vec::with_capacity(turns.len());
        for turn in turns {
            records.extend(self.journal.record(&turn.turn_id, "").await?);
        }
        records.extend(self.stages.unseen_of(id.clone()).await.map_err(unforgotten)?);
        Ok(ExportCustomerResponse {
            utterances,
            records,
            handoffs: self.journal.handoffs_of(id.clone()).await?,
            executions: self.stages.executions(id.clone()).await.map_err(unforgotten)?,
            feedback: self.stages.feedback_on(id.clone()).await.map_err(unforgotten)?,
            conversation_id: id,
        })
    }
}

/// A stage that does not answer, or has a reason not to do it.
fn unforgotten(failure: Failure) -> Error {
    Error::Precondition(failure.to_string())
}

impl Journal {
    /// Ids of a customer's conversations, oldest first.
    pub(crate) async fn conversations_of(&self, customer_key: &str) -> Result<Vec<String>> {
        let query = "SELECT conversation_id FROM conversation WHERE customer_key = $1 ORDER BY created_at";
        let key = customer_key.to_owned();
        self.sql.read(move |connection| connection.query(query, values![&key], |row| row.get(0))).await
    }

    async fn handoffs_of(&self, id: String) -> Result<Vec<Handoff>> {
        let query =
            "SELECT packet, state, assignee FROM handoff WHERE conversation_id = $1 ORDER BY created_at";
        self.sql.read(move |connection| connection.query(query, values![&id], crate::desk::handoff)).await
    }

    /// Deletes a conversation; the numbers of its turns and handoffs, or `None` while a turn is under way.
    async fn forget(&self, id: String) -> Result<Option<(u64, u64)>> {
        self.sql.write(move |connection| forget(connection, &id)).await
    }

    async fn forget_spend(&self, customer_key: &str) -> Result<()> {
        let key = budget::key(customer_key, "");
        let delete = "DELETE FROM spend WHERE customer = $1";
        self.sql.write(move |connection| connection.execute(delete, values![&key]).map(|_| ())).await
    }
}

/// Deletes a conversation and all that hangs on it; `None` while a turn is under way.
pub(crate) fn forget(connection: &mut Connection<'_>, id: &str) -> Result<Option<(u64, u64)>> {
    connection.lock(id)?;
    let open = "SELECT 1 FROM turn WHERE conversation_id = $1 AND outcome IS NULL";
    if connection.first(open, values![id], |_| Ok(()))?.is_some() {
        return Ok(None);
    }
    for spooled in ["turn_id", crate::unseen::ID] {
        let of = format!("(SELECT {spooled} FROM turn WHERE conversation_id = $1)");
        connection.execute(&format!("DELETE FROM spool WHERE turn_id IN {of}"), values![id])?;
    }
    // Feedback is kept as it came, and says itself what it is about.
    let query = "SELECT seq, payload FROM spool WHERE kind IN ($1, $2)";
    let kind = Kind::Feedback as i32;
    let about = connection.query(query, values![kind, -kind], |row| {
        let feedback = Feedback::decode(row.get::<&[u8], _>(1)?).unwrap_or_default();
        Ok((feedback.conversation_id == id).then_some(row.get::<i64, _>(0)?))
    })?;
    for seq in about.into_iter().flatten() {
        connection.execute("DELETE FROM spool WHERE seq = $1", values![seq])?;
    }
    for table in ["note", "delivery"] {
        let of = "handoff_id IN (SELECT handoff_id FROM handoff WHERE conversation_id = $1)";
        connection.execute(&format!("DELETE FROM {table} WHERE {of}"), values![id])?;
    }
    let mut delete = |table: &str| {
        connection.execute(&format!("DELETE FROM {table} WHERE conversation_id = $1"), values![id])
    };
    let handoffs = delete("handoff")?;
    delete("utterance")?;
    let turns = delete("turn")?;
    delete("conversation")?;
    Ok(Some((turns, handoffs)))
}
