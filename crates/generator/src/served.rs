//! A model that can be asked: its server, its price, and whether it is worth asking now.

use std::sync::{Mutex, PoisonError};

use anyhow::Context as _;
use tokio::time::Instant;

use crate::answer::Usage;
use crate::breaker::{Breaker, Closed, Limits};
use crate::chat::ChatModel;
use crate::config::{Config, Model, Price};
use crate::tokenizer::Tokenizer;
use crate::transport::Failure;

/// A model that can be asked.
#[derive(Debug)]
pub(crate) struct Served {
    pub(crate) chat: ChatModel,
    pub(crate) tokenizer: Tokenizer,
    /// Whether its tokens cost nothing, since it runs on machines of the company's own.
    pub(crate) is_self_hosted: bool,
    price: Option<Price>,
    limits: Limits,
    breaker: Mutex<Breaker>,
}

impl Served {
    /// The models of a configuration in the order in which they are asked.
    ///
    /// # Errors
    /// A base URL or a key that cannot be used, or an HTTP client that cannot be built.
    pub(crate) fn all(config: &Config) -> anyhow::Result<Vec<Self>> {
        config.chain().into_iter().map(|(place, model)| Self::new(config, &place, &model)).collect()
    }

    fn new(config: &Config, place: &str, model: &Model) -> anyhow::Result<Self> {
        let price = model.price.or_else(|| config.prices.get(&model.model).copied());
        if price.is_none() {
            tracing::warn!(model = model.model, "no price under generator.prices, its cost counts as 0");
        }
        let limits = Limits { requests: model.requests_per_minute.into(), tokens: model.tokens_per_minute };
        let tokenizer = Tokenizer::named(model.tokenizer.as_ref().unwrap_or(&config.tokenizer));
        let tokenizer = tokenizer.with_context(|| format!("{place}.tokenizer"))?;
        Ok(Self {
            chat: ChatModel::new(config, place, model)?,
            tokenizer,
            is_self_hosted: model.self_hosted,
            price,
            limits,
            breaker: Mutex::default(),
        })
    }

    /// The same server asked for another model, at the price of that.
    pub(crate) fn named(&self, config: &Config, model: &str) -> Self {
        let price = config.prices.get(model).copied().or(self.price.filter(|_| model == self.chat.name()));
        let (chat, tokenizer) = (self.chat.named(model), self.tokenizer.clone());
        let (is_self_hosted, limits) = (self.is_self_hosted, self.limits);
        Self { chat, tokenizer, is_self_hosted, price, limits, breaker: Mutex::default() }
    }

    /// Lets a call with a prompt and an answer of at most so many tokens pass, or says why it is not worth making.
    pub(crate) fn admit(&self, prompt: &str, max_tokens: u32) -> Result<(), Closed> {
        let input = if self.limits.tokens > 0 { self.tokenizer.count(prompt) } else { 0 };
        self.breaker().admit(Instant::now(), input + u64::from(max_tokens), self.limits)
    }

    pub(crate) fn succeeded(&self) {
        self.breaker().succeeded(Instant::now());
    }

    pub(crate) fn failed(&self, failure: &Failure) {
        if failure.error.is_of_the_server() {
            self.breaker().failed(Instant::now(), failure.wait());
        }
    }

    fn breaker(&self) -> std::sync::MutexGuard<'_, Breaker> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a usage costs in US dollars, and the prices of that, such as "gpt-5-mini 0.25/0.025/2": US dollars for a
    /// million tokens of prompt, cached prompt and completion. 0 and empty when it has none.
    pub(crate) fn bill(&self, usage: Usage) -> (f64, String) {
        let Some(price) = self.price else { return (0.0, String::new()) };
        let Price { input_usd_per_million: input, output_usd_per_million: output, .. } = price;
        let cached = price.cached_input_usd_per_million.unwrap_or(input);
        (price.cost_usd(usage), format!("{} {input}/{cached}/{output}", self.chat.name()))
    }
}
