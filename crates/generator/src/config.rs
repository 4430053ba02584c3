//! Settings of the generator: table `[generator]`.

use std::collections::BTreeMap;
use std::time::Duration;

use kit::Violation;
use kit::config::within;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use crate::answer::Usage;
use crate::cache;
use crate::pack;
use crate::route::Routing;
use crate::support::JUDGE;
use crate::tokenizer::BUILT_IN;

/// Where `OPENAI_BASE_URL` is not set either.
const OPENAI: &str = "https://api.openai.com/v1";

/// Who writes the answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Provider {
    /// Verbatim sentences of the passages; no model, no network.
    Extractive,
    /// A server that speaks the OpenAI chat completions protocol; extractive when it fails.
    Openai,
}

/// Settings of the generator.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Who writes the answers.
    pub provider: Provider,
    /// Least support of a question by its passages for an extractive answer, 0..=1. Measured on questions
    /// with an accepted intent and the right document first, on banking questions that no document
    /// answers, and on questions about anything else: 0.3 answers 93 %, 37 % and 24 %, so that it relies on
    /// the classifier before it; 0.75 answers 67 %, 7 % and 5 %.
    pub answer_threshold: f64,
    /// Least support of a model's sentence by the passages, 0..=1; others are dropped. Measured on data the
    /// weights were not fitted to: 0.4 keeps 87 % of grounded dialogue turns and 62 % of true support answers,
    /// most of them freely reworded, and drops 83 % of ungrounded turns and 76 % of answers with a changed fact.
    pub sentence_threshold: f64,
    /// Weight, 0..=10, of the share of a model's words that the passages have, in the support of its sentences. 0
    /// tells changed facts from free rewording best; more suits models that keep to the words of their source.
    /// `firstline eval grounding --dev` finds the best for labelled answers of one's own.
    pub overlap_weight: f64,
    /// Most sentences of an extractive answer that is no list, 1..=20.
    pub max_sentences: usize,
    /// Base URL of the model server up to and with `/v1`; empty means `OPENAI_BASE_URL`, else OpenAI.
    pub base_url: String,
    /// Name of the model; needed with provider "openai".
    pub model: String,
    /// Key of the model server; left out means `OPENAI_API_KEY`, else none is sent.
    #[serde(skip_serializing)]
    pub api_key: Option<SecretString>,
    /// Longest wait for a connection, in milliseconds, 10..=60000.
    pub connect_timeout_ms: u64,
    /// Whether that server runs on machines of the company's own: it is asked also where a hard limit of a budget is
    /// passed.
    pub self_hosted: bool,
    /// Longest silence of the model server, in milliseconds, 10..=600000.
    pub idle_timeout_ms: u64,
    /// Longest time for the model's whole answer with its retry, in milliseconds, 10..=600000.
    pub timeout_ms: u64,
    /// Answers that this process has written at the same time, 1..=65536; others wait.
    pub max_in_flight: usize,
    /// Most tokens of an answer, 1..=32768.
    pub max_tokens: u32,
    /// What the model's tokens are counted by: "o200k_base", "cl100k_base", or the path of a `tokenizer.json`.
    pub tokenizer: String,
    /// Most bytes of an answer, 256..=65536; a longer one counts as a failure.
    pub max_answer_bytes: usize,
    /// Sampling temperature, 0..=2; left out means the model's own, which some models demand.
    pub temperature: Option<f64>,
    /// Whether the words of passages are joined by a mark in the prompt, so that a model takes nothing in them for an
    /// instruction. It costs about one token a word of the passages.
    pub datamark: bool,
    /// Longest time for the model's choice of an intent, in milliseconds, 10..=60000.
    pub choice_timeout_ms: u64,
    /// Most tokens of that choice, 8..=4096; models that think before they speak need some hundred.
    pub choice_max_tokens: u32,
    /// What one choice may cost at most in US dollars, 0..=1; it is not asked for when it could cost more.
    pub choice_max_cost_usd: f64,
    /// Name of the model that judges answers on the same server, as a second judge of their support; empty means
    /// `model`.
    pub judge_model: String,
    /// Prices by name of the model.
    pub prices: BTreeMap<String, Price>,
    /// Names of further models, in the order in which they are asked when those before them cannot answer.
    pub fallback: Vec<String>,
    /// Names of models, or hosts of their servers, that an operator has silenced: they are not asked, and no answer that was
    /// known before is given, whoever wrote it. Where no other is left the passages' own sentences answer.
    pub silenced: Vec<String>,
    /// When the second model is asked too, because the first one has shown nothing yet, in milliseconds, 0..=60000; 0: never.
    pub hedge_after_ms: u64,
    /// Which of the models is asked first.
    pub routing: Routing,
    /// Further models by a name of one's own.
    pub models: BTreeMap<String, Model>,
    /// What of passages and conversation goes into the prompt.
    pub packing: pack::Settings,
    /// Answers that were written before.
    pub cache: cache::Settings,
    /// What is different in a category of the bundle, by its name.
    pub categories: BTreeMap<String, Category>,
}

/// What is different in a category; what is left out is as elsewhere.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Category {
    /// Most tokens of an answer, 1..=32768; where a model may write fewer, fewer.
    pub max_tokens: Option<u32>,
    /// Whether an answer may also be given to other words for the same question, once enough such answers were compared
    /// with new ones and at most one in a hundred can be false.
    pub semantic_cache: bool,
}

/// A model and the server that has it; what is left out is as for the first one.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Model {
    /// Name of the model on its server; needed.
    pub model: String,
    /// Base URL of its server up to and with `/v1`; needed. Of Azure the URL of a deployment.
    pub base_url: String,
    /// Key of its server; left out means none.
    #[serde(skip_serializing)]
    pub api_key: Option<SecretString>,
    /// `api-version` in the query, as Azure wants it, where the key goes into the header `api-key`; empty means neither.
    pub api_version: String,
    /// Longest time for its whole answer, in milliseconds, 10..=600000.
    pub timeout_ms: Option<u64>,
    /// Longest silence of its server, in milliseconds, 10..=600000.
    pub idle_timeout_ms: Option<u64>,
    /// Most tokens of an answer, 1..=32768.
    pub max_tokens: Option<u32>,
    /// What its tokens are counted by.
    pub tokenizer: Option<String>,
    /// Sampling temperature, 0..=2.
    pub temperature: Option<f64>,
    /// Whether its server only answers as a whole.
    pub unary: bool,
    /// Whether it cannot be held to a JSON schema: then it is asked for answers only.
    pub no_json_schema: bool,
    /// Whether it runs on machines of the company's own: it is asked also where a hard limit of a budget is passed.
    pub self_hosted: bool,
    /// Most calls in a minute, 0..=1000000; 0 is no limit.
    pub requests_per_minute: u32,
    /// Most tokens of calls in a minute, 0..=1000000000000; 0 is no limit.
    pub tokens_per_minute: u64,
    /// Its price; left out means that of its name in `prices`.
    pub price: Option<Price>,
}

impl Model {
    fn validate(&self, name: &str, found: &mut Vec<Violation>) {
        let key = |key: &str| format!("models.{name}.{key}");
        let mut refuse = |at: &str, message: String| found.push(Violation { key: key(at), message });
        if self.model.trim().is_empty() {
            refuse("model", "is empty, needed is the name of the model on its server".to_owned());
        }
        if parse_url(&self.base_url).is_none() {
            refuse("base_url", format!("is {:?}, allowed a URL such as \"{OPENAI}\"", self.base_url));
        }
        for (at, ms) in [("timeout_ms", self.timeout_ms), ("idle_timeout_ms", self.idle_timeout_ms)] {
            within(&key(at), ms.unwrap_or(10), 10..=600_000, found);
        }
        within(&key("max_tokens"), self.max_tokens.unwrap_or(1), 1..=32_768, found);
        within(&key("temperature"), self.temperature.unwrap_or(0.0), 0.0..=2.0, found);
        within(&key("requests_per_minute"), self.requests_per_minute, 0..=1_000_000, found);
        within(&key("tokens_per_minute"), self.tokens_per_minute, 0..=1_000_000_000_000, found);
        if let Some(price) = &self.price {
            price.validate(&key("price"), found);
        }
    }
}

/// What a model costs, in US dollars for a million tokens, 0..=10000.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Price {
    /// Tokens of the prompt.
    pub input_usd_per_million: f64,
    /// Tokens of the completion.
    pub output_usd_per_million: f64,
    /// Tokens of the prompt that were in the provider's cache; left out means the input price.
    pub cached_input_usd_per_million: Option<f64>,
}

impl Price {
    fn validate(&self, place: &str, found: &mut Vec<Violation>) {
        let values = [
            ("input_usd_per_million", Some(self.input_usd_per_million)),
            ("output_usd_per_million", Some(self.output_usd_per_million)),
            ("cached_input_usd_per_million", self.cached_input_usd_per_million),
        ];
        for (key, value) in values {
            within(&format!("{place}.{key}"), value.unwrap_or(0.0), 0.0..=10_000.0, found);
        }
    }

    /// The cost of a usage in US dollars.
    #[must_use]
    pub fn cost_usd(&self, usage: Usage) -> f64 {
        let cached = usage.cached.min(usage.input);
        let cached_price = self.cached_input_usd_per_million.unwrap_or(self.input_usd_per_million);
        let input = (usage.input - cached) as f64 * self.input_usd_per_million + cached as f64 * cached_price;
        (input + usage.output as f64 * self.output_usd_per_million) / 1e6
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            provider: Provider::Extractive,
            answer_threshold: 0.3,
            sentence_threshold: 0.4,
            overlap_weight: 0.0,
            max_sentences: 5,
            base_url: String::new(),
            model: String::new(),
            api_key: None,
            connect_timeout_ms: 2_000,
            idle_timeout_ms: 10_000,
            timeout_ms: 20_000,
            max_in_flight: 256,
            max_tokens: 512,
            tokenizer: BUILT_IN[0].to_owned(),
            max_answer_bytes: 8192,
            temperature: None,
            datamark: true,
            choice_timeout_ms: 2_000,
            choice_max_tokens: 64,
            choice_max_cost_usd: 0.002,
            judge_model: String::new(),
            prices: BTreeMap::new(),
            fallback: Vec::new(),
            silenced: Vec::new(),
            hedge_after_ms: 0,
            routing: Routing::Listed,
            self_hosted: false,
            models: BTreeMap::new(),
            packing: pack::Settings::default(),
            cache: cache::Settings::default(),
            categories: BTreeMap::new(),
        }
    }
}

impl kit::Config for Config {
    fn validate(&self) -> Vec<Violation> {
        let mut found = Vec::new();
        within("answer_threshold", self.answer_threshold, 0.0..=1.0, &mut found);
        within("sentence_threshold", self.sentence_threshold, 0.0..=1.0, &mut found);
        within("overlap_weight", self.overlap_weight, 0.0..=10.0, &mut found);
        within("max_sentences", self.max_sentences, 1..=20, &mut found);
        within("connect_timeout_ms", self.connect_timeout_ms, 10..=60_000, &mut found);
        within("idle_timeout_ms", self.idle_timeout_ms, 10..=600_000, &mut found);
        within("timeout_ms", self.timeout_ms, 10..=600_000, &mut found);
        within("hedge_after_ms", self.hedge_after_ms, 0..=60_000, &mut found);
        within("max_in_flight", self.max_in_flight, 1..=65_536, &mut found);
        within("max_tokens", self.max_tokens, 1..=32_768, &mut found);
        within("max_answer_bytes", self.max_answer_bytes, 256..=65_536, &mut found);
        within("choice_timeout_ms", self.choice_timeout_ms, 10..=60_000, &mut found);
        within("choice_max_tokens", self.choice_max_tokens, 8..=4096, &mut found);
        within("choice_max_cost_usd", self.choice_max_cost_usd, 0.0..=1.0, &mut found);
        within("cache.max_mb", self.cache.max_mb, 0..=65_536, &mut found);
        within("cache.ttl_s", self.cache.ttl_s, 1..=2_592_000, &mut found);
        within("cache.recheck_share", self.cache.recheck_share, 0.0..=1.0, &mut found);
        if let Some(temperature) = self.temperature {
            within("temperature", temperature, 0.0..=2.0, &mut found);
        }
        let mut refuse = |key: &str, message: String| found.push(Violation { key: key.to_owned(), message });
        if self.provider == Provider::Openai && self.model.trim().is_empty() {
            refuse("model", "is empty, needed with provider = \"openai\"".to_owned());
        }
        if !self.base_url.is_empty() && parse_url(&self.base_url).is_none() {
            refuse("base_url", format!("is {:?}, allowed a URL such as \"{OPENAI}\"", self.base_url));
        }
        for name in self.fallback.iter().filter(|name| !self.models.contains_key(*name)) {
            refuse("fallback", format!("names {name:?}, which is not in generator.models"));
        }
        let known: Vec<(&str, &str)> = std::iter::once((self.model.as_str(), self.base_url.as_str()))
            .chain(self.models.values().map(|model| (model.model.as_str(), model.base_url.as_str())))
            .collect();
        for name in &self.silenced {
            let is_known = known.iter().any(|(model, url)| is_of(name, model, url));
            if !is_known && *name != self.judge_model && !is_of(name, "", OPENAI) {
                refuse(
                    "silenced",
                    format!("names {name:?}, which is no model here, and no host of its server"),
                );
            }
        }
        for (model, price) in &self.prices {
            price.validate(&format!("prices.{model}"), &mut found);
        }
        for (name, model) in &self.models {
            model.validate(name, &mut found);
        }
        self.packing.validate(&mut found);
        for (name, category) in &self.categories {
            within(
                &format!("categories.{name}.max_tokens"),
                category.max_tokens.unwrap_or(1),
                1..=32_768,
                &mut found,
            );
        }
        found
    }
}

impl Config {
    /// Fills what is left out from the variables `OPENAI_BASE_URL` and `OPENAI_API_KEY`.
    #[must_use]
    pub fn or_environment(mut self, variable: impl Fn(&str) -> Option<String>) -> Self {
        let set = |name: &str| variable(name).filter(|value| !value.trim().is_empty());
        if self.base_url.is_empty() {
            self.base_url = set("OPENAI_BASE_URL").unwrap_or_else(|| OPENAI.to_owned());
        }
        self.api_key = self.api_key.or_else(|| set("OPENAI_API_KEY").map(SecretString::from));
        self
    }

    /// The models in the order in which they are asked, each with its place in the configuration; none where the
    /// passages' own sentences answer.
    pub(crate) fn chain(&self) -> Vec<(String, Model)> {
        if self.provider == Provider::Extractive {
            return Vec::new();
        }
        let first = Model {
            model: self.model.clone(),
            base_url: self.base_url.clone(),
            api_key: self.api_key.clone(),
            self_hosted: self.self_hosted,
            ..Model::default()
        };
        let named =
            |name: &String| Some((format!("generator.models.{name}"), self.models.get(name)?.clone()));
        std::iter::once(("generator".to_owned(), first))
            .chain(self.fallback.iter().filter_map(named))
            .filter(|(_, model)| !self.is_silenced(&model.model, &model.base_url))
            .collect()
    }

    /// Whether the model that judges answers may be asked: it is on the first one's server.
    pub(crate) fn may_judge(&self) -> bool {
        [self.model.as_str(), self.judging_model()]
            .iter()
            .all(|model| !self.is_silenced(model, &self.base_url))
    }

    fn is_silenced(&self, model: &str, url: &str) -> bool {
        self.silenced.iter().any(|name| is_of(name, model, url))
    }

    /// Name of the model that judges answers.
    pub(crate) fn judging_model(&self) -> &str {
        if self.judge_model.is_empty() { &self.model } else { &self.judge_model }
    }

    /// What judges the support of a model's sentences, with all that its verdict depends on.
    pub(crate) fn judge(&self) -> String {
        let Self { sentence_threshold, overlap_weight, .. } = self;
        format!("{JUDGE} at {sentence_threshold}, overlap {overlap_weight}")
    }

    pub(crate) fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout_ms)
    }
}

/// Whether a name is that of a model, or of the host of its server.
fn is_of(name: &str, model: &str, url: &str) -> bool {
    name == model || parse_url(url).is_some_and(|url| url.host_str() == Some(name))
}

/// A URL of a server, or `None` when it is none.
pub(crate) fn parse_url(url: &str) -> Option<reqwest::Url> {
    let url = reqwest::Url::parse(url).ok()?;
    (matches!(url.scheme(), "http" | "https") && url.has_host()).then_some(url)
}

#[cfg(test)]
mod tests;
