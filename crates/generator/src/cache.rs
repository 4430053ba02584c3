//! Answers that were written before. An answer follows from what is in its key: the words of the question, the passages,
//! the prompt, the models and their thresholds. Another version of an article, another bundle or another model is
//! another key, so that nothing need ever be declared void.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use crate::answer::{Answer, Citation, Passage, Request, Saved, Spending, Statement};
use crate::config::Config;
use crate::prompt::Prompt;
use crate::semantic::{Key, Semantic, moved};
use crate::shared::Shared;
use crate::support::Judge;

/// What an entry takes beside its texts, in bytes.
const ENTRY: usize = 512;
/// Name of the tier that knows the same words only.
const EXACT: &str = "exact";
/// Name of the tier that knows other words for the same.
const SEMANTIC: &str = "semantic";
/// Longest time in seconds that a process goes on with an answer that others may have found wrong.
const SHARED_TTL_S: u64 = 60;

/// Table `[generator.cache]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// URL of a Redis that several processes share, "redis://..." or with TLS "rediss://..."; left out means that each
    /// knows its own answers only.
    #[serde(skip_serializing)]
    pub url: Option<SecretString>,
    /// Memory of this process for answers in MiB, 0..=65536; 0 keeps none, on the Redis neither.
    pub max_mb: u64,
    /// How long an answer is kept, in seconds, 1..=2592000.
    pub ttl_s: u64,
    /// Share of the answers given to other words for the same that are written once more and compared, 0..=1.
    pub recheck_share: f64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { url: None, max_mb: 64, ttl_s: 86_400, recheck_share: 0.01 }
    }
}

/// Nothing was written that may be kept.
#[derive(Debug)]
struct Unkept;

/// What came of a question whose answer may be known.
#[derive(Debug)]
pub(crate) enum Found<W> {
    /// It was written before, or by somebody who asked the same at the same time.
    Known(Arc<Answer>),
    /// It was written now.
    Written(W),
}

/// Answers by what they follow from.
#[derive(Debug)]
pub(crate) struct Cache {
    kept: moka::future::Cache<Key, Arc<Answer>>,
    shared: Option<Shared>,
    pub(crate) semantic: Semantic,
    /// What all keys begin with: who writes, and how.
    writer: String,
}

impl Cache {
    /// `None` when no memory is given for it, or nobody writes.
    ///
    /// # Errors
    /// The URL of the Redis cannot be used.
    pub(crate) fn new(config: &Config, prompt: &Prompt) -> anyhow::Result<Option<Self>> {
        let chain = config.chain();
        let Settings { url, max_mb, ttl_s, .. } = &config.cache;
        if *max_mb == 0 || chain.is_empty() {
            return Ok(None);
        }
        let shared = url.as_ref().map(|url| Shared::new(url, *ttl_s)).transpose()?;
        let models: Vec<_> = chain
            .iter()
            .map(|(_, model)| (&model.base_url, &model.model, model.temperature, model.max_tokens))
            .collect();
        let Config { sentence_threshold, overlap_weight, max_tokens, temperature, datamark, packing, .. } =
            config;
        let (assistant, version) = (prompt.assistant(), prompt.version());
        let writer = format!(
            "{assistant:?} {version} {models:?} {sentence_threshold} {overlap_weight} {max_tokens} {temperature:?} {datamark} {packing:?}"
        );
        let own_s = if shared.is_some() { SHARED_TTL_S.min(*ttl_s) } else { *ttl_s };
        let kept = moka::future::Cache::builder()
            .max_capacity(max_mb * 1024 * 1024)
            .weigher(|_, answer: &Arc<Answer>| u32::try_from(size(answer)).unwrap_or(u32::MAX))
            .time_to_live(Duration::from_secs(own_s))
            .build();
        Ok(Some(Self { kept, shared, semantic: Semantic::new(*ttl_s), writer }))
    }

    /// What an answer to a request follows from; `None` when it may be for this customer alone, or is not sure.
    pub(crate) fn key(&self, request: &Request) -> Option<Key> {
        let Request {
            question, context, passages, history, extractive, min_support, category, spending, ..
        } = request;
        let alone = context.is_empty() && history.is_empty() && !holds_mask(question);
        if !alone || *extractive || *min_support > 0.0 {
            return None;
        }
        let mut hasher = blake3::Hasher::new();
        let mut add = |part: &str| {
            hasher.update(&(part.len() as u64).to_le_bytes()).update(part.as_bytes());
        };
        add(&self.writer);
        // Its category may have a limit of its own; and models that are compared must not answer for each other.
        add(category);
        add(if *spending == Spending::Own { "own" } else { "" });
        add(&words(question));
        for Passage { document_id, document_version, title, heading, text, score: _ } in passages {
            [document_id, document_version, title, heading, text].into_iter().for_each(|part| add(part));
        }
        Some(*hasher.finalize().as_bytes())
    }

    /// What this process knows.
    pub(crate) async fn get(&self, key: &Key) -> Option<Arc<Answer>> {
        self.kept.get(key).await
    }

    /// The answer to a question that asks the same as a request, as it fits its passages, with what it is known by.
    pub(crate) async fn alike(&self, judge: &Judge, request: &Request) -> Option<(Key, Answer)> {
        for (key, sources) in self.semantic.alike(judge, request) {
            let known = match self.kept.get(&key).await {
                Some(known) => Some(known),
                None => self.shared_answer(&key).await.map(Arc::new),
            };
            let moved = known.and_then(|known| moved(&known, &sources, &request.passages));
            if let Some(answer) = moved.filter(|answer| stands(answer, &request.passages)) {
                return Some((key, answer));
            }
        }
        None
    }

    /// Forgets an answer, by what it is known by in words.
    pub(crate) async fn evict(&self, key: &str) {
        let Ok(hash) = blake3::Hash::from_hex(key) else { return };
        self.kept.invalidate(hash.as_bytes()).await;
        if let Some(shared) = &self.shared {
            shared.remove(hash.as_bytes()).await;
        }
    }

    async fn shared_answer(&self, key: &Key) -> Option<Answer> {
        self.shared.as_ref()?.get(key).await
    }

    /// What other processes know, where it fits the request.
    async fn told(&self, key: &Key, request: &Request) -> Option<Answer> {
        let answer = self.shared_answer(key).await?;
        Some(answer).filter(|answer| stands(answer, &request.passages))
    }

    /// The answer to a request with its key: known, or written by `write`. Who asks the same while it is written waits
    /// for it.
    pub(crate) async fn through<E, F>(
        &self,
        key: Key,
        request: &Request,
        write: impl Fn() -> F,
    ) -> Found<Result<Answer, E>>
    where
        F: Future<Output = Result<Answer, E>>,
    {
        let mut own = None;
        let first = async {
            if let Some(answer) = self.told(&key, request).await {
                return Ok(Arc::new(answer));
            }
            match own.insert(write().await) {
                Ok(answer) if may_be_kept(answer) => {
                    if let Some(shared) = &self.shared {
                        shared.put(&key, answer).await;
                    }
                    Ok(Arc::new(answer.clone()))
                }
                _ => Err(Unkept),
            }
        };
        let found = self.kept.try_get_with(key, first).await;
        match (own, found) {
            (Some(written), _) => Found::Written(written),
            (None, Ok(answer)) => Found::Known(answer),
            // Whoever wrote it has nothing for others.
            (None, Err(_)) => Found::Written(write().await),
        }
    }
}

/// Whether every citation of an answer that came from elsewhere stands in the passages.
fn stands(answer: &Answer, passages: &[Passage]) -> bool {
    let stands = |citation: &Citation| {
        let passage = passages.get(citation.passage);
        passage.is_some_and(|passage| !citation.quote.is_empty() && passage.text.contains(&citation.quote))
    };
    let cited = |statement: &Statement| statement.citation < answer.citations.len();
    may_be_kept(answer) && answer.citations.iter().all(stands) && answer.statements.iter().all(cited)
}

/// A known answer as it is given once more, to the same words or to others: it costs nothing.
pub(crate) fn again(answer: &Answer, key: Key, is_exact: bool) -> Answer {
    Answer {
        calls: Vec::new(),
        saved: Saved { cache_usd: answer.cost_usd(), ..Saved::default() },
        cache: if is_exact { EXACT } else { SEMANTIC },
        key: in_words(key),
        ..answer.clone()
    }
}

/// What an answer is known by, as others are told.
pub(crate) fn in_words(key: Key) -> String {
    blake3::Hash::from(key).to_hex().to_string()
}

/// An answer of a model in which every sentence had its support.
pub(crate) fn may_be_kept(answer: &Answer) -> bool {
    !answer.abstained() && answer.unsupported == 0 && !answer.leaked && answer.model_failure.is_empty()
}

/// The same words, however they are cased, spaced and ended.
pub(crate) fn words(question: &str) -> String {
    let words: Vec<_> = question.split_whitespace().map(str::to_lowercase).collect();
    words.join(" ").trim_end_matches(['.', '?', '!', ' ']).to_owned()
}

/// Whether personal data was masked in a text, such as "[CARD]": then the answer may be about it.
fn holds_mask(text: &str) -> bool {
    let inner = text.split('[').skip(1).filter_map(|rest| rest.split_once(']')).map(|(inner, _)| inner);
    let is_mask = |inner: &str| {
        !inner.is_empty()
            && inner.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_')
    };
    inner.into_iter().any(is_mask)
}

fn size(answer: &Answer) -> usize {
    let statements: usize = answer.statements.iter().map(|statement| statement.text.len() + 64).sum();
    let citations: usize = answer.citations.iter().map(|citation| citation.quote.len() + 64).sum();
    ENTRY + answer.text.len() + statements + citations
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_words_are_one_question_and_any_other_word_is_another() {
        assert_eq!(words("  How much IS a card?! "), words("how much is\na card"));
        for other in
            ["how much is a card not", "how much is 1 card", "how much is a cards", "how much is a card-"]
        {
            assert_ne!(words("how much is a card"), words(other));
        }
    }

    #[test]
    fn masks_are_told_from_other_brackets() {
        for (text, masked) in [
            ("charge on [CARD]", true),
            ("[EMAIL_2] is mine", true),
            ("see [1] and [a]", true),
            ("see [a b] or [x", false),
            ("[]", false),
        ] {
            assert_eq!(holds_mask(text), masked, "{text}");
        }
    }
}
