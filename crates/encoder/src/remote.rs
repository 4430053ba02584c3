//! An encoder behind a server that speaks the embeddings protocol of OpenAI.

use std::time::Duration;

use kit::config::Encoder as Config;
use reqwest::blocking::Client;
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};

use crate::{Error, normalise};

/// Texts of one request; every server known takes this many.
pub(crate) const BATCH: usize = 64;

#[derive(Debug)]
pub(crate) struct Remote {
    client: Client,
    url: String,
    model: String,
    key: Option<SecretString>,
}

#[derive(Serialize)]
struct Request<'a> {
    model: &'a str,
    input: &'a [&'a str],
    encoding_format: &'a str,
}

#[derive(Deserialize)]
struct Response {
    data: Vec<Item>,
}

#[derive(Deserialize)]
struct Item {
    index: usize,
    embedding: Vec<f32>,
}

impl Remote {
    pub(crate) fn new(config: &Config) -> Result<Self, Error> {
        let url = format!("{}/embeddings", config.base_url.trim_end_matches('/'));
        let client = Client::builder().timeout(Duration::from_millis(config.timeout_ms)).build();
        let client =
            client.map_err(|error| Error::Remote { url: url.clone(), message: error.to_string() })?;
        let from_environment = || std::env::var("OPENAI_API_KEY").ok().filter(|key| !key.trim().is_empty());
        let key = config.api_key.clone().or_else(|| from_environment().map(SecretString::from));
        Ok(Self { client, url, model: config.model.clone(), key })
    }

    /// Vectors of length 1, in the order of the texts.
    pub(crate) fn embed(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>, Error> {
        let failed = |message: String| Error::Remote { url: self.url.clone(), message };
        let body = Request { model: &self.model, input: texts, encoding_format: "float" };
        let mut request = self.client.post(&self.url).json(&body);
        if let Some(key) = &self.key {
            request = request.bearer_auth(key.expose_secret());
        }
        let response = request.send().and_then(reqwest::blocking::Response::error_for_status);
        let response = response.and_then(reqwest::blocking::Response::json::<Response>);
        let mut items = response.map_err(|error| failed(error.without_url().to_string()))?.data;
        items.sort_by_key(|item| item.index);
        let whole = items.iter().map(|item| item.index).eq(0..texts.len());
        let finite = |item: &Item| !item.embedding.is_empty() && item.embedding.iter().all(|v| v.is_finite());
        if !whole || !items.iter().all(finite) {
            return Err(failed(format!(
                "{} vectors for {} texts, or one is empty",
                items.len(),
                texts.len()
            )));
        }
        items.iter_mut().for_each(|item| normalise(&mut item.embedding));
        Ok(items.into_iter().map(|item| item.embedding).collect())
    }
}
