//! Answers of the cache that are compared with new ones after the turn, and those that somebody says are wrong.

use std::time::Duration;

use prost::Message as _;
use proto::{Evaluation, Feedback, GenerateRequest, RecheckAnswerRequest, RecheckAnswerResponse, Usage};
use sql::{Connection, Result, values};

use crate::budget;
use crate::draft::Draft;
use crate::judged::sum;
use crate::store::Journal;
use crate::turn::{Orchestrator, now};

/// What is judged, as telemetry names it, and by what.
const NAME: &str = "cache_agreement";
const JUDGE: &str = "recheck/1";
/// Ratings from this on say nothing against an answer.
const CONTENT: u32 = 3;
/// Most answers of a conversation that one complaint makes forgotten.
const MOST: i64 = 20;

/// A known answer that is to be written once more.
#[derive(Debug)]
pub(crate) struct Recheck {
    request: RecheckAnswerRequest,
    turn_id: String,
    conversation_id: String,
    traceparent: String,
}

impl Recheck {
    /// That of a turn, if its answer was drawn.
    pub(crate) fn of(draft: &Draft<'_>) -> Option<Self> {
        let request = draft.recheck.as_deref().cloned()?;
        Some(Self {
            request: RecheckAnswerRequest { request: Some(request), cache_key: draft.cache_key.clone() },
            turn_id: draft.turn.turn_id.clone(),
            conversation_id: draft.turn.conversation_id.clone(),
            traceparent: kit::Call::current().traceparent(),
        })
    }
}

impl Orchestrator {
    /// Has a known answer written once more, within what the installation may spend, and keeps what came of it.
    pub(crate) async fn recheck(&self, recheck: Recheck) -> Result<()> {
        let Recheck { request, turn_id, conversation_id, traceparent } = recheck;
        // No customer pays for what they do not get.
        let payer = budget::key("", &format!("recheck {turn_id}"));
        let bytes = request.request.as_ref().map_or(0, GenerateRequest::encoded_len);
        let category = request.request.as_ref().map(|asked| asked.category.clone()).unwrap_or_default();
        let charge = match self.charge_to(payer, now(), bytes).await {
            Ok(charge) => charge,
            Err(why) => {
                tracing::debug!(why, "a known answer is not compared");
                return Ok(());
            }
        };
        let budget = Duration::from_millis(self.config.turn_timeout_ms);
        let call = kit::Call::resume(&traceparent).within(budget);
        let found = call.scope(self.stages.recheck(request)).await;
        let usage = match &found {
            Ok(found) => Some(sum(&found.calls)),
            Err(failure) => failure.unreached().then(Usage::default),
        };
        let spends = self.spend(charge, usage);
        let found = found.inspect_err(|failure| tracing::debug!(%failure, "a known answer is not compared"));
        let of = Evaluation { turn_id, conversation_id, category, ..Evaluation::default() };
        let evaluation = found.ok().and_then(|found| evaluation(of, found));
        self.journal.keep_evaluation(evaluation, spends, traceparent).await
    }

    /// Has the answers forgotten that feedback says are wrong: that of its turn, or all of its conversation.
    pub(crate) async fn forget_wrong(&self, feedback: &Feedback) {
        let Feedback { conversation_id, turn_id, rating, resolved, .. } = feedback;
        let wrong = (1..CONTENT).contains(rating) || *resolved == Some(false);
        if !wrong {
            return;
        }
        let known = self.journal.cache_keys(conversation_id.clone(), turn_id.clone()).await;
        let keys = known.unwrap_or_else(|error| {
            tracing::warn!(%error, "an answer that may be wrong stays in the cache");
            Vec::new()
        });
        for key in keys {
            if let Err(failure) = self.stages.evict(key).await {
                tracing::warn!(%failure, "an answer that may be wrong stays in the cache");
            }
        }
    }
}

/// What telemetry keeps `of` a turn; `None` where nothing was compared.
fn evaluation(of: Evaluation, found: RecheckAnswerResponse) -> Option<Evaluation> {
    let RecheckAnswerResponse { same, calls, skipped } = found;
    if !skipped.is_empty() {
        tracing::debug!(skipped, of.turn_id, "a known answer is not compared");
        return None;
    }
    let (name, judge) = (NAME.to_owned(), JUDGE.to_owned());
    Some(Evaluation { name, judge, claims: 1, unsupported: u32::from(!same), calls, ..of })
}

impl Journal {
    /// What the answer cache knows the answers of a turn by, or those of a conversation.
    async fn cache_keys(&self, conversation_id: String, turn_id: String) -> Result<Vec<String>> {
        let query = "SELECT record FROM turn WHERE record IS NOT NULL AND conversation_id = $1 AND ($2 = '' OR turn_id = $2)
            ORDER BY accepted_at DESC LIMIT $3";
        let read = move |connection: &mut Connection<'_>| {
            connection.query(query, values![&conversation_id, &turn_id, MOST], |row| row.get::<Vec<u8>, _>(0))
        };
        let records = self.sql.read(read).await?;
        let keys = records.iter().filter_map(|record| proto::TurnRecord::decode(record.as_slice()).ok());
        Ok(keys.map(|record| record.cache_key).filter(|key| !key.is_empty()).collect())
    }
}
