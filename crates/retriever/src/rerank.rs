//! The best passages once more in the order of a cross-encoder, behind a server.

use std::time::Duration;

use kit::Violation;
use kit::config::within;
use reqwest::blocking::{Client, Response};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};

use crate::index::Passage;

/// A server that reranks: table `[retriever.rerank]`. It speaks the protocol of Cohere and Jina, as vLLM, Infinity
/// and LocalAI do: `POST {base_url}/rerank` with `model`, `query` and `documents`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rerank {
    /// Up to and with `/v1` or `/v2`; empty reranks nothing. The server reads what customers write as they wrote
    /// it, before anything is masked.
    pub base_url: String,
    /// Name of the model at that server; needed with `base_url`.
    pub model: String,
    /// Key of that server; left out, none is sent.
    #[serde(skip_serializing)]
    pub api_key: Option<SecretString>,
    /// How many of the best passages are reranked, 2..=100.
    pub candidates: usize,
    /// Longest wait for the server, in milliseconds, 10..=10000; after that the passages keep their order.
    pub timeout_ms: u64,
}

impl Default for Rerank {
    fn default() -> Self {
        let (base_url, model) = (String::new(), String::new());
        Self { base_url, model, api_key: None, candidates: 30, timeout_ms: 500 }
    }
}

impl Rerank {
    pub(crate) fn validate(&self, violations: &mut Vec<Violation>) {
        within("rerank.candidates", self.candidates, 2..=100, violations);
        within("rerank.timeout_ms", self.timeout_ms, 10..=10_000, violations);
        if self.base_url.is_empty() {
            return;
        }
        let mut refuse =
            |key: &str, message: String| violations.push(Violation { key: key.to_owned(), message });
        if !matches!(reqwest::Url::parse(&self.base_url), Ok(url) if url.scheme().starts_with("http")) {
            refuse("rerank.base_url", format!("{:?} is no http:// or https:// URL", self.base_url));
        }
        if self.model.is_empty() {
            refuse("rerank.model", "is empty, needed with rerank.base_url".to_owned());
        }
    }
}

/// Asks the server. Blocks: call it from a thread that may.
#[derive(Debug)]
pub(crate) struct Reranker {
    client: Client,
    settings: Rerank,
}

#[derive(Serialize)]
struct Request<'a> {
    model: &'a str,
    query: &'a str,
    documents: Vec<String>,
}

#[derive(Deserialize)]
struct Ranking {
    results: Vec<Ranked>,
}

#[derive(Deserialize)]
struct Ranked {
    index: usize,
    relevance_score: f32,
}

/// Why the passages keep their order.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Http(#[from] reqwest::Error),
    #[error("{0} scores for {1} passages, one is missing, double or no number")]
    Incomplete(usize, usize),
}

impl Reranker {
    /// `None` when no server is configured.
    pub(crate) fn new(settings: &Rerank) -> Result<Option<Self>, reqwest::Error> {
        if settings.base_url.is_empty() {
            return Ok(None);
        }
        let client = Client::builder().timeout(Duration::from_millis(settings.timeout_ms)).build()?;
        Ok(Some(Self { client, settings: settings.clone() }))
    }

    /// How many passages it wants to see.
    pub(crate) fn candidates(&self) -> usize {
        self.settings.candidates
    }

    /// The passages by the server's scores, best first; as they were when it does not answer as it should, since
    /// an answer from the second best order is better than none.
    pub(crate) fn rerank(&self, question: &str, found: Vec<(f32, Passage)>) -> Vec<(f32, Passage)> {
        if found.len() < 2 {
            return found;
        }
        match self.scores(question, &found) {
            Ok(scores) => {
                let passages = found.into_iter().map(|(_, passage)| passage);
                let mut reranked: Vec<_> = scores.into_iter().zip(passages).collect();
                reranked.sort_by(|one, other| other.0.total_cmp(&one.0));
                reranked
            }
            Err(error) => {
                let error = match error {
                    Error::Http(error) => Error::Http(error.without_url()),
                    error => error,
                };
                let base_url = &self.settings.base_url;
                tracing::warn!(%error, retriever.rerank.base_url = base_url, "the passages keep their order");
                found
            }
        }
    }

    fn scores(&self, question: &str, found: &[(f32, Passage)]) -> Result<Vec<f32>, Error> {
        let written = |(_, passage): &(f32, Passage)| {
            let Passage { title, heading, text, .. } = passage;
            let above = [title, heading].into_iter().filter(|words| !words.is_empty());
            above.chain([text]).map(String::as_str).collect::<Vec<_>>().join("\n")
        };
        let documents = found.iter().map(written).collect();
        let body = Request { model: &self.settings.model, query: question, documents };
        let mut request =
            self.client.post(format!("{}/rerank", self.settings.base_url.trim_end_matches('/')));
        if let Some(key) = &self.settings.api_key {
            request = request.bearer_auth(key.expose_secret());
        }
        let ranking: Ranking = request.json(&body).send().and_then(Response::error_for_status)?.json()?;
        let mut results = ranking.results;
        results.sort_by_key(|ranked| ranked.index);
        let whole = results.iter().map(|ranked| ranked.index).eq(0..found.len());
        if !whole || !results.iter().all(|ranked| ranked.relevance_score.is_finite()) {
            return Err(Error::Incomplete(results.len(), found.len()));
        }
        Ok(results.into_iter().map(|ranked| ranked.relevance_score).collect())
    }
}
