//! The third opinion, where a model chooses among the intents that the classifier is unsure of, and what the bundle
//! says of an intent.

use prost::Message as _;
use proto::*;

use crate::draft::Draft;
use crate::gate;
use crate::turn::Orchestrator;

impl Orchestrator {
    /// The intent after a model was asked, where one is configured and the classifier is unsure; as it was
    /// otherwise, and when the model finds that none fits. A choice is recorded as the model's and keeps the
    /// classifier's confidence; it starts no workflow, but is offered to the customer first.
    pub(crate) async fn third_opinion(
        &self,
        draft: &mut Draft<'_>,
        question: &str,
        intent: Intent,
    ) -> Intent {
        if !self.config.third_opinion || !gate::is_unsure(&intent) {
            return intent;
        }
        let others = intent.alternatives.iter().map(|other| &other.name);
        let choices = std::iter::once(&intent.name).chain(others).filter_map(|name| {
            let known = self.intents.get(name)?;
            let (title, description) = (known.title.clone(), known.description.clone());
            Some(IntentChoice { name: name.clone(), title, description })
        });
        let choices: Vec<_> = choices.collect();
        let (text, turn_id) = (question.to_owned(), draft.turn.turn_id.clone());
        let request = ChooseIntentRequest { text, choices, turn_id };
        let Some(charge) = self.charge(draft, request.encoded_len()).await else { return intent };
        let chosen = self.stages.choose_intent(request).await;
        let usage = match &chosen.result {
            Ok(chosen) => Some(chosen.usage.unwrap_or_default()),
            Err(failure) => failure.unreached().then(Usage::default),
        };
        self.settle(draft, Some(charge), usage);
        let Ok(chosen) = draft.took("generator", chosen) else { return intent };
        let asked = !chosen.model.is_empty();
        draft.pays(asked.then(|| ModelCall {
            purpose: ModelPurpose::Intent.into(),
            model: chosen.model.clone(),
            usage: chosen.usage,
            cost_usd: chosen.cost_usd,
            price_version: chosen.price_version.clone(),
        }));
        if let Some(why) = [&chosen.skipped, &chosen.failure].into_iter().find(|why| !why.is_empty()) {
            draft.note(format!("no third opinion: {why}"));
            return intent;
        }
        let ChooseIntentResponse { name, model, .. } = chosen;
        draft.note(match name.as_str() {
            "" => format!("third opinion of {model}: none of the intents"),
            name => format!("third opinion of {model}: {name}"),
        });
        let mut chosen = intent;
        if self.intents.contains_key(&name) {
            self.prefer(&mut chosen, &name);
            chosen.set_source(IntentSource::Model);
            if !self.actionable.contains(&name) {
                chosen.set_decision(IntentDecision::Accept);
            }
            draft.turn.intent = Some(chosen.clone());
        }
        chosen
    }

    /// Hands over what the bundle gives to a person whenever it is meant; `false` when it does not.
    pub(crate) fn goes_to_a_person(&self, draft: &mut Draft<'_>) -> bool {
        let known = draft.accepted_intent().and_then(|intent| self.intents.get(&intent.name));
        let goes = known.is_some_and(|known| known.handoff);
        if goes {
            draft.note("the bundle gives this intent to a person");
            draft.hand_over(HandoffReason::IntentPolicy);
        }
        goes
    }

    /// Makes it the intent of this name, with what the bundle says of it.
    pub(crate) fn rename(&self, intent: &mut Intent, name: &str) {
        name.clone_into(&mut intent.name);
        if let Some(known) = self.intents.get(name) {
            intent.title.clone_from(&known.title);
            intent.category.clone_from(&known.category);
            intent.set_risk(known.risk);
        }
    }

    /// Exchanges the best intent with the alternative of this name, with its probability.
    pub(crate) fn prefer(&self, intent: &mut Intent, name: &str) {
        if let Some(place) = intent.alternatives.iter().position(|other| other.name == name) {
            let other = &mut intent.alternatives[place];
            std::mem::swap(&mut intent.confidence, &mut other.probability);
            other.name.clone_from(&intent.name);
            other.title.clone_from(&intent.title);
        }
        self.rename(intent, name);
    }
}
