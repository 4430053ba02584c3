//! Answers that are known already are given before a model is asked.

use tokio::sync::mpsc::Sender;
use tokio::time::Instant;

use crate::answer::{Answer, Call, Request};
use crate::cache::{self, Cache, Found};
use crate::semantic::{Key, agree};
use crate::write::{Event, Tried, Writer, in_words};

/// What draws the known answers that are compared.
const DRAW: &str = "recheck";

impl Writer {
    /// The cache and what it would know the answer to a request by, where it may.
    pub(crate) fn keyed(&self, request: &Request) -> Option<(&Cache, Key)> {
        let cache = self.cache.as_ref().filter(|_| !request.passages.is_empty())?;
        Some((cache, cache.key(request)?))
    }

    /// The answer that is known to the same words, before anything else is looked at.
    pub(crate) async fn known(
        &self,
        keyed: Option<(&Cache, Key)>,
        request: &Request,
        events: &Sender<Event>,
    ) -> Option<Answer> {
        let (cache, key) = keyed?;
        let known = cache.get(&key).await?;
        if self.is_semantic(request) {
            cache.semantic.keep(&self.judge, request, key, &known);
        }
        Some(self.give(cache::again(&known, key, true), events).await)
    }

    /// The answer that is known to others, or for other words, or one of the models; with how well the passages support
    /// an answer.
    pub(crate) async fn known_or_written(
        &self,
        keyed: Option<(&Cache, Key)>,
        (request, support, end): (&Request, f64, Option<Instant>),
        events: &Sender<Event>,
    ) -> Result<Answer, Tried> {
        let write = async || {
            let written = self.ask_models(request, end, events).await;
            written.map(|answer| Answer { support, ..answer })
        };
        let Some((cache, key)) = keyed else { return write().await };
        let is_semantic = self.is_semantic(request);
        let alike = if is_semantic { cache.alike(&self.judge, request).await } else { None };
        if let Some((of, known)) = &alike
            && cache.semantic.serves(&request.category)
        {
            let answer = Answer { recheck: self.is_drawn(request), ..cache::again(known, *of, false) };
            return Ok(self.give(answer, events).await);
        }
        let answer = match cache.through(key, request, write).await {
            Found::Known(known) => self.give(cache::again(&known, key, true), events).await,
            Found::Written(written) => {
                kit::generation::count_answer("miss");
                let answer = written?;
                if let Some((_, known)) = &alike {
                    cache.semantic.learn(&request.category, self.agree(known, &answer));
                }
                if !cache::may_be_kept(&answer) {
                    return Ok(answer);
                }
                Answer { key: cache::in_words(key), ..answer }
            }
        };
        if is_semantic {
            cache.semantic.keep(&self.judge, request, key, &answer);
        }
        Ok(answer)
    }

    /// Whether an answer may be given to other words in the request's category.
    fn is_semantic(&self, request: &Request) -> bool {
        self.config.categories.get(&request.category).is_some_and(|own| own.semantic_cache)
    }

    /// Shows a known answer.
    async fn give(&self, answer: Answer, events: &Sender<Event>) -> Answer {
        kit::generation::count_answer(answer.cache);
        self.send(events, answer.text.clone(), false).await;
        answer
    }

    /// Whether the known answer that a request gets is to be written once more.
    fn is_drawn(&self, request: &Request) -> bool {
        stats::bucket(DRAW, &request.turn_id) < stats::buckets(self.config.cache.recheck_share)
    }

    fn agree(&self, one: &Answer, other: &Answer) -> bool {
        agree(&self.judge, self.config.sentence_threshold, one, other)
    }

    /// Writes an answer once more that was known for other words, for nobody, and learns whether both say the same, with
    /// what that cost.
    ///
    /// # Errors
    /// Why nothing was compared.
    pub async fn recheck(
        &self,
        request: &Request,
        key: &str,
        deadline: Option<Instant>,
    ) -> Result<(bool, Vec<Call>), (Vec<Call>, String)> {
        let gone = || (Vec::new(), "the answer is not known any more".to_owned());
        let cache = self.cache.as_ref().ok_or_else(gone)?;
        let (of, known) = cache.alike(&self.judge, request).await.ok_or_else(gone)?;
        if cache::in_words(of) != key {
            return Err(gone());
        }
        let (nobody, _) = tokio::sync::mpsc::channel(1);
        let written = self.ask_models(request, deadline, &nobody).await;
        let answer = written.map_err(|(calls, error)| (calls, in_words(&error)))?;
        let is_same = self.agree(&known, &answer);
        cache.semantic.learn(&request.category, is_same);
        if !is_same {
            cache.evict(key).await;
        }
        Ok((is_same, answer.calls))
    }

    /// Forgets an answer that is known by this key.
    pub async fn evict(&self, key: &str) {
        if let Some(cache) = &self.cache {
            cache.evict(key).await;
        }
    }
}
