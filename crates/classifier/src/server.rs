//! The classifier service over gRPC.

use std::sync::Arc;

use anyhow::Context as _;
use encoder::{Encoder, Opened};
use proto::classifier_service_server::{ClassifierService, ClassifierServiceServer};
use tonic::{Request, Response, Status};

use crate::build;
use crate::classify::Model;
use crate::config::Config;
use crate::decide::{Decision, Rules};
use crate::language::Locales;
use crate::person::Person;

/// Name of the stage.
pub const NAME: &str = "classifier";
/// Longest text, in bytes, as the contract says.
const MAX_TEXT_BYTES: usize = 64 * 1024;
/// Alternatives returned when the request does not say, and at most, as the contract says.
const DEFAULT_ALTERNATIVES: usize = 3;
const MAX_ALTERNATIVES: usize = 20;

/// Loads the model of the bundle.
///
/// # Errors
/// The bundle does not validate, or its model is missing or damaged.
pub async fn service(config: Config, context: kit::Context) -> anyhow::Result<kit::Stage> {
    let reader = bundle::Reader::open(&context.server.bundle)?;
    let settings = context.server.encoder.clone();
    let opened = tokio::task::spawn_blocking(move || Opened::new(&settings)).await?;
    let model = build::open(&reader, opened.encoder().map(AsRef::as_ref))?;
    let person = Person::open(&reader, opened.encoder().map(AsRef::as_ref))?;
    let (intents, assistant) = (reader.intents()?, reader.assistant()?);
    let rules = [false, true].map(|dense| Rules::new(&model, dense, &intents, &assistant, &config));
    let tier = opened.describe();
    tracing::info!(intents = intents.len(), model = model.version(), tier, "model loaded");
    let infos: Vec<_> = intents.iter().map(info).collect();
    let place = |name: &String| infos.iter().position(|info| info.name == *name);
    let places = model.intents().iter().map(place).collect::<Option<_>>();
    let places = places.context("the model names an intent the bundle does not have")?;
    let locales = Locales::new(&assistant.locales);
    let (encoder, dense) = (opened.encoder().cloned(), opened.encoder().is_some());
    let server = Server { model, person, locales, encoder, tier, rules, infos, places };
    let service =
        ClassifierServiceServer::new(server).max_decoding_message_size(context.server.max_message_bytes);
    Ok(kit::Stage::new(NAME).reporting(Opened::HEALTH, dense).with(service))
}

struct Server {
    model: Model,
    person: Person,
    locales: Locales,
    encoder: Option<Arc<Encoder>>,
    /// In words.
    tier: String,
    /// Of words alone, and of words and encoder.
    rules: [Rules; 2],
    /// In the order of the bundle.
    infos: Vec<proto::IntentInfo>,
    /// Place in `infos` by place in the model.
    places: Vec<usize>,
}

#[tonic::async_trait]
impl ClassifierService for Server {
    async fn classify(
        &self,
        request: Request<proto::ClassifyRequest>,
    ) -> Result<Response<proto::ClassifyResponse>, Status> {
        let proto::ClassifyRequest { text, alternatives } = request.into_inner();
        if text.is_empty() || text.len() > MAX_TEXT_BYTES {
            let what = format!("is {} bytes long, allowed 1..={MAX_TEXT_BYTES}", text.len());
            return Err(kit::fault::invalid(NAME, "TEXT_LENGTH", "text", what));
        }
        let alternatives = match alternatives as usize {
            0 => DEFAULT_ALTERNATIVES,
            count if count <= MAX_ALTERNATIVES => count,
            count => {
                let what = format!("is {count}, allowed 0..={MAX_ALTERNATIVES}");
                return Err(kit::fault::invalid(NAME, "TOO_MANY_ALTERNATIVES", "alternatives", what));
            }
        };
        let vector = self.embed(&text).await;
        // Microseconds: not worth a thread of its own.
        let scores = self.model.classify(&text, vector.as_deref());
        let named =
            scores.ranked.iter().map(|&(place, probability)| (&self.infos[self.places[place]], probability));
        let others = named.clone().skip(1).take(alternatives).map(|(info, probability)| proto::IntentScore {
            name: info.name.clone(),
            title: info.title.clone(),
            probability,
        });
        let mut intent = proto::Intent {
            alternatives: others.collect(),
            confidence: scores.confidence(),
            out_of_scope_score: scores.out_of_scope,
            model_version: self.model.version().to_owned(),
            person_score: self.person.score(&text, vector.as_deref()),
            ..Default::default()
        };
        let foreign = self.locales.foreign(&text, scores.known_words);
        let decision = match foreign {
            Some(_) => Decision::Language,
            None if Person::asks(intent.person_score) => Decision::Person,
            None => self.rules[usize::from(scores.dense)].decide(&scores),
        };
        intent.set_decision(decision.into());
        intent.language = foreign.unwrap_or_default().to_owned();
        if let Some((info, _)) = named.clone().next() {
            intent.name.clone_from(&info.name);
            intent.title.clone_from(&info.title);
            intent.category.clone_from(&info.category);
            intent.risk = info.risk;
        }
        let encoder = self.encoder.as_ref().map(|encoder| encoder.id().to_owned()).unwrap_or_default();
        let embedding = vector.map(|values| proto::Embedding { encoder: encoder.clone(), values });
        intent.encoder = if embedding.is_some() { encoder } else { String::new() };
        Ok(Response::new(proto::ClassifyResponse { intent: Some(intent), embedding }))
    }

    async fn list_intents(
        &self,
        _: Request<proto::ListIntentsRequest>,
    ) -> Result<Response<proto::ListIntentsResponse>, Status> {
        let model_version = self.model.version().to_owned();
        let (intents, tier) = (self.infos.clone(), self.tier.clone());
        Ok(Response::new(proto::ListIntentsResponse { intents, model_version, tier }))
    }
}

impl Server {
    /// The vector of a text; without one words alone decide, and the answer says so.
    async fn embed(&self, text: &str) -> Option<Vec<f32>> {
        let (encoder, text) = (self.encoder.clone()?, text.to_owned());
        match tokio::task::spawn_blocking(move || encoder.embed(&text)).await {
            Ok(Ok(vector)) => return Some(vector),
            Ok(Err(error)) => tracing::error!(%error, "classified by words alone"),
            Err(error) => tracing::error!(%error, "classified by words alone"),
        }
        None
    }
}

fn info(intent: &bundle::Intent) -> proto::IntentInfo {
    let risk = match intent.risk {
        bundle::Risk::Low => proto::Risk::Low,
        bundle::Risk::Medium => proto::Risk::Medium,
        bundle::Risk::High => proto::Risk::High,
    };
    proto::IntentInfo {
        name: intent.name.clone(),
        title: intent.title.clone(),
        category: intent.category.clone(),
        risk: risk.into(),
        examples: u32::try_from(intent.examples.len()).unwrap_or(u32::MAX),
    }
}

impl From<Decision> for proto::IntentDecision {
    fn from(decision: Decision) -> Self {
        match decision {
            Decision::Accept => Self::Accept,
            Decision::Ambiguous => Self::Ambiguous,
            Decision::LowConfidence => Self::LowConfidence,
            Decision::OutOfScope => Self::OutOfScope,
            Decision::Person => Self::Person,
            Decision::Language => Self::Language,
        }
    }
}
