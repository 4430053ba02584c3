//! What a model is asked beside answers, and says in JSON.

use serde_json::Value;
use tokio::time::Instant;
use tracing::Instrument as _;

use crate::answer::Usage;
use crate::chat::Error;
use crate::leak::{Pieces, Watch};
use crate::prompt::NOTE;
use crate::served::Served;
use crate::transport::Failure;
use crate::write::{self, LEAK, Writer, usage};

/// Why no model is asked where there is none.
pub(crate) const NO_MODEL: &str = "no model is configured";
/// Why the words of a model that gave its prompt away count for nothing.
const GAVE_AWAY: &str = "the model began to repeat its prompt";
/// Why words that are not the JSON that was asked for count for nothing.
pub(crate) const NO_SCHEMA: &str = "the model's reply does not follow the schema";

/// What came of asking.
#[derive(Debug, Clone, PartialEq)]
pub enum Opinion<T> {
    /// No model was asked, and why.
    Skipped(&'static str),
    /// The model replied.
    Given {
        /// What it said, or why its reply says nothing: it was paid for all the same.
        said: Result<T, &'static str>,
        /// Name of the model.
        model: String,
        /// Tokens spent.
        usage: Usage,
        /// Cost of `usage` in US dollars.
        cost_usd: f64,
        /// The prices of that; empty when the model has none.
        prices: String,
    },
}

/// What a model is asked.
pub(crate) struct Asked<'a> {
    pub(crate) prompt: String,
    pub(crate) canary: String,
    /// What is ours in the prompt, beside the note at its end.
    pub(crate) task: &'a [&'a str],
    /// What others wrote in it.
    pub(crate) data: Vec<&'a str>,
    /// JSON schema of the reply.
    pub(crate) schema: Value,
    pub(crate) max_tokens: u32,
    pub(crate) end: Instant,
}

impl Writer {
    /// Asks a model in a span of its own; `read` says what its words mean, or why they mean nothing.
    ///
    /// # Errors
    /// The model or its server fails.
    pub(crate) async fn ask<T>(
        &self,
        model: &Served,
        asked: Asked<'_>,
        read: impl FnOnce(&str) -> Result<T, &'static str>,
    ) -> Result<Opinion<T>, Error> {
        let start = Instant::now();
        let span = write::span(model.chat.name(), asked.max_tokens.into());
        model.admit(&asked.prompt, asked.max_tokens)?;
        let opinion = self.hear(model, asked, read).instrument(span.clone()).await;
        match &opinion {
            Ok(_) => model.succeeded(),
            // Its time is short on purpose, and says nothing of whether the server could have written an answer.
            Err(failure) if matches!(failure.error, Error::Timeout) => {}
            Err(failure) => model.failed(failure),
        }
        let opinion = opinion.map_err(|failure| failure.error);
        let (answered, usage) = match &opinion {
            Ok(Opinion::Given { model, usage, .. }) => (model.as_str(), *usage),
            _ => ("", Usage::default()),
        };
        write::close(&span, (model.chat.name(), start), answered, usage, failed(&opinion));
        opinion
    }

    async fn hear<T>(
        &self,
        model: &Served,
        Asked { prompt, canary, task, data, schema, max_tokens, end }: Asked<'_>,
        read: impl FnOnce(&str) -> Result<T, &'static str>,
    ) -> Result<Opinion<T>, Failure> {
        let mut reply = model.chat.open_json(&prompt, max_tokens, &schema, end).await?;
        let instructions = Pieces::of_instructions(task.iter().copied().chain(NOTE));
        let mut watch = Watch::new(&canary, &instructions, data);
        let (mut words, mut leaked) = (String::new(), false);
        while let Some(piece) = reply.next().await? {
            words.push_str(&piece);
            leaked = watch.push(&piece);
            if leaked {
                break;
            }
        }
        let usage = usage(reply.usage, (&prompt, &words), max_tokens.into(), &model.tokenizer);
        let said = if leaked { Err(GAVE_AWAY) } else { read(&words) };
        let (cost_usd, prices) = model.bill(usage);
        let answered = reply.model.take().unwrap_or_else(|| model.chat.name().to_owned());
        Ok(Opinion::Given { said, model: answered, usage, cost_usd, prices })
    }
}

/// Why nothing came of asking, as in `error.type`; `None` when something did, or nobody was asked.
pub(crate) fn failed<T>(opinion: &Result<Opinion<T>, Error>) -> Option<&'static str> {
    match opinion {
        Err(error) => Some(error.reason()),
        Ok(Opinion::Given { said: Err(GAVE_AWAY), .. }) => Some(LEAK),
        Ok(Opinion::Given { said: Err(_), .. }) => Some("GARBAGE"),
        Ok(_) => None,
    }
}
