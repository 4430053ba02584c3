//! A model as a second judge of answers that customers got: of a share of them, after the turn.

use std::time::Duration;

use prost::Message as _;
use proto::{Evaluation, JudgeRequest, JudgeResponse, ModelCall, Outcome, Usage};
use sql::{Connection, Result};
use stats::{bucket, buckets};

use crate::budget::{self, Spend};
use crate::draft::Draft;
use crate::later::spool_of;
use crate::spool::{Kind, spool};
use crate::store::Journal;
use crate::turn::{Orchestrator, now};

/// What is judged, as telemetry names it.
const NAME: &str = "groundedness";

/// An answer that is to be judged.
#[derive(Debug)]
pub(crate) struct Judging {
    request: JudgeRequest,
    conversation_id: String,
    category: String,
    traceparent: String,
}

impl Judging {
    /// The answer of a turn, if a model wrote it and its id is drawn.
    pub(crate) fn of(draft: &Draft<'_>, text: &str) -> Option<Self> {
        let share = buckets(draft.orchestrator.config.judge_share);
        let written = draft.grounding.is_some() && draft.turn.outcome() == Outcome::Answered;
        let turn_id = draft.turn.turn_id.clone();
        (written && bucket(NAME, &turn_id) < share).then(|| Self {
            request: JudgeRequest {
                question: draft.masked(text),
                answer: draft.turn.answer.clone(),
                passages: draft.passages.clone(),
                turn_id,
            },
            conversation_id: draft.turn.conversation_id.clone(),
            category: draft.category(),
            traceparent: kit::Call::current().traceparent(),
        })
    }
}

impl Orchestrator {
    /// Has an answer judged, within what the installation may spend.
    pub(crate) async fn judge(&self, judging: Judging) -> Result<()> {
        let Judging { request, conversation_id, category, traceparent } = judging;
        // No customer pays for what they do not get.
        let (turn_id, payer) =
            (request.turn_id.clone(), budget::key("", &format!("judge {}", request.turn_id)));
        let charge = match self.charge_to(payer, now(), request.encoded_len()).await {
            Ok(charge) => charge,
            Err(why) => {
                tracing::debug!(why, "an answer is not judged");
                return Ok(());
            }
        };
        let budget = Duration::from_millis(self.config.turn_timeout_ms);
        let call = kit::Call::resume(&traceparent).within(budget);
        let judged = call.scope(self.stages.judge(request)).await;
        let usage = match &judged {
            Ok(judged) => Some(sum(&judged.calls)),
            Err(failure) => failure.unreached().then(Usage::default),
        };
        let spends = self.spend(charge, usage);
        let judged = judged.inspect_err(|failure| tracing::debug!(%failure, "an answer is not judged"));
        let of = Evaluation { turn_id, conversation_id, category, ..Evaluation::default() };
        let evaluation = judged.ok().and_then(|judged| evaluation(of, judged));
        self.journal.keep_evaluation(evaluation, spends, traceparent).await
    }
}

/// Tokens of some calls together.
pub(crate) fn sum(calls: &[ModelCall]) -> Usage {
    let mut sum = Usage::default();
    for usage in calls.iter().filter_map(|call| call.usage) {
        sum.input_tokens = sum.input_tokens.saturating_add(usage.input_tokens);
        sum.output_tokens = sum.output_tokens.saturating_add(usage.output_tokens);
    }
    sum
}

/// What telemetry keeps `of` a turn; `None` without a verdict.
fn evaluation(of: Evaluation, judged: JudgeResponse) -> Option<Evaluation> {
    let JudgeResponse { claims, unsupported, judge, skipped, failure, calls } = judged;
    if let Some(why) = [&skipped, &failure].into_iter().find(|why| !why.is_empty()) {
        tracing::debug!(why, of.turn_id, "there is no verdict on an answer");
        return None;
    }
    Some(Evaluation { name: NAME.to_owned(), judge, claims, unsupported, calls, ..of })
}

impl Journal {
    /// Keeps a judgement for telemetry, and what was spent on it.
    pub(crate) async fn keep_evaluation(
        &self,
        evaluation: Option<Evaluation>,
        spends: Vec<Spend>,
        traceparent: String,
    ) -> Result<()> {
        let owner = self.owner.clone();
        let write = move |connection: &mut Connection<'_>| {
            budget::keep(connection, &spends)?;
            let Some(evaluation) = &evaluation else { return Ok(()) };
            let (payload, id) = (evaluation.encode_to_vec(), &evaluation.turn_id);
            spool_of(connection, &evaluation.conversation_id, |connection| {
                spool(connection, &owner, Kind::Evaluation, &traceparent, id, &payload)
            })
        };
        self.sql.write(write).await
    }
}
