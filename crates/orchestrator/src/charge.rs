//! Model calls are charged before they are made, and settled after them.

use proto::{Generation, ModelCall, Passage, Savings, Usage};

use crate::budget::{Charge, Key, Scope, Spend};
use crate::draft::Draft;
use crate::grounding;
use crate::turn::Orchestrator;

/// Tokens of a prompt beside the texts of the request: the bundle's template and the server's own.
const PROMPT_TOKENS: u64 = 2048;

impl Orchestrator {
    /// Charges a model call of a turn; `None` when it would exceed a budget.
    pub(crate) async fn charge(&self, draft: &mut Draft<'_>, bytes: usize) -> Option<Charge> {
        let (most, spent) = (self.config.budget.tokens_per_turn, draft.turn.usage.unwrap_or_default());
        let spent =
            spent.input_tokens.saturating_add(spent.output_tokens).saturating_add(draft.untold_tokens);
        if most > 0 && spent.saturating_add(self.most(bytes)) > most {
            draft.note(exceeded(Scope::Turn));
            return None;
        }
        let charge = self.charge_to(draft.payer, draft.accepted_at, bytes).await;
        charge.map_err(|why| draft.note(why)).ok()
    }

    /// Most tokens of a model call with texts of so many bytes. A token has at least one byte, so that only the length of
    /// the answer is an assumption.
    fn most(&self, bytes: usize) -> u64 {
        bytes as u64 + PROMPT_TOKENS + u64::from(self.config.budget.answer_tokens)
    }

    /// Charges a model call with texts of so many bytes to somebody, or says why it is not made.
    pub(crate) async fn charge_to(
        &self,
        key: Key,
        at: i64,
        bytes: usize,
    ) -> std::result::Result<Charge, String> {
        let tokens = self.most(bytes);
        let charge = if self.journal.sql.is_shared() {
            let charge = self.journal.charge(&self.ledger, Spend::new(key, tokens, at)).await;
            charge.map_err(|error| format!("the budgets cannot be read: no model is paid: {error}"))?
        } else {
            self.ledger.charge(key, tokens, at)
        };
        charge.map_err(exceeded)
    }

    /// Books what a charged call of a turn cost; `None` when nobody knows.
    pub(crate) fn settle(&self, draft: &mut Draft<'_>, charge: Option<Charge>, usage: Option<Usage>) {
        let Some(charge) = charge else { return };
        if usage.is_none() {
            draft.untold_tokens = draft.untold_tokens.saturating_add(charge.tokens());
        }
        draft.spends.extend(self.spend(charge, usage));
    }

    /// What is to be booked of a charged call; `None` when nobody knows what it cost.
    pub(crate) fn spend(&self, charge: Charge, usage: Option<Usage>) -> Vec<Spend> {
        let tokens = usage.map(|usage| usage.input_tokens.saturating_add(usage.output_tokens));
        if self.journal.sql.is_shared() {
            return self.ledger.beyond(charge, tokens).into_iter().collect();
        }
        let spend = self.ledger.settle(charge, tokens);
        Some(spend).filter(Spend::is_some).into_iter().collect()
    }

    /// Whether the conversation has had all its turns.
    pub(crate) fn is_used_up(&self, draft: &Draft<'_>) -> bool {
        let most = self.config.budget.turns_per_conversation;
        most > 0 && draft.conversation.turns >= most
    }
}

/// That a limit is passed, for the explanation of the turn.
fn exceeded(scope: Scope) -> String {
    format!("{scope} do not suffice: no model is paid")
}

impl Draft<'_> {
    /// Notes how an answer was written, what that cost and what was saved.
    pub(crate) fn spent(&mut self, generation: &Generation) {
        for (rank, passage) in self.passages.iter().enumerate() {
            let Passage { document_id, document_version, score, .. } = passage;
            self.decisions.push(format!(
                "passage {}: {document_id} (version {document_version}) at {score:.2}",
                rank + 1
            ));
        }
        self.note(format!("the passages support an answer at {:.2}", generation.support));
        for sentence in &generation.sentences {
            self.decisions.push(format!("support {:.2}: {}", sentence.support, sentence.text));
        }
        if let Some(savings) = generation.savings.as_ref() {
            self.saves(savings);
        }
        if !generation.model_failure.is_empty() {
            self.note(format!("answered without the model: {}", generation.model_failure));
        }
        let written = if generation.abstained { "nothing written by" } else { "written by" };
        let by = format!("{written} {} {}", generation.model, generation.prompt_version);
        self.note(by.trim_end());
        self.turn.model.clone_from(&generation.model);
        self.grounding = grounding::written(generation);
        self.cache_key.clone_from(&generation.cache_key);
        self.pays(generation.calls.clone());
    }

    fn saves(&mut self, savings: &Savings) {
        let Savings { cache_usd, packing_tokens, packing_usd, routing_usd, cache_tier } = savings;
        if !cache_tier.is_empty() {
            self.note(format!("known already ({cache_tier}): {cache_usd:.6} US dollars not spent"));
        }
        if *packing_tokens > 0 {
            self.note(format!(
                "{packing_tokens} tokens left out of the prompt: {packing_usd:.6} US dollars not spent"
            ));
        }
        if *routing_usd != 0.0 {
            self.note(format!("by a cheaper model than the first: {routing_usd:.6} US dollars not spent"));
        }
        self.savings = Some(savings.clone());
    }

    /// Adds what model calls cost to the turn.
    pub(crate) fn pays(&mut self, calls: impl IntoIterator<Item = ModelCall>) {
        for call in calls {
            let ModelCall { usage, cost_usd, price_version, .. } = &call;
            let usage = usage.unwrap_or_default();
            if !price_version.is_empty() {
                price_version.clone_into(&mut self.prices);
            }
            let total = self.turn.usage.get_or_insert_default();
            total.input_tokens += usage.input_tokens;
            total.output_tokens += usage.output_tokens;
            total.cached_input_tokens += usage.cached_input_tokens;
            self.turn.cost_usd += cost_usd;
            self.calls.push(call);
        }
    }
}
