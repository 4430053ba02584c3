//! From a question to the best passages.

use std::collections::BTreeMap;

use bundle::Audience;
use tantivy::collector::TopDocs;
use tantivy::schema::Value as _;
use tantivy::{DocAddress, Score, Searcher, TantivyDocument, TantivyError, Term};

use crate::config::Config;
use crate::gate::{Gate, Gated};
use crate::index::{Fields, Passage};
use crate::meaning::Meanings;
use crate::query;
use crate::rerank::Reranker;
use crate::synonyms::Synonyms;

/// How many passages of each ranking are looked at together.
const CANDIDATES: usize = 100;

/// A question to the index.
#[derive(Debug, Clone, Copy)]
pub struct Query<'a> {
    /// The words; nothing in them is an operator.
    pub text: &'a str,
    /// Its meaning, with the id of the encoder; `None` ranks by words alone.
    pub vector: Option<(&'a str, &'a [f32])>,
    /// Public sees public documents only, internal sees all.
    pub audience: Audience,
    /// Documents tagged with it rank slightly higher; empty for none.
    pub category: &'a str,
    /// Most passages to return.
    pub k: usize,
}

/// What a search found, best first.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// Passages with their scores; a higher score is better, comparable within one search.
    pub passages: Vec<(f32, Passage)>,
    /// Version of the index that answered.
    pub index_version: String,
}

/// What is searched.
pub(crate) struct Source<'a> {
    pub(crate) searcher: &'a Searcher,
    pub(crate) meanings: &'a Meanings,
    pub(crate) fields: &'a Fields,
    pub(crate) config: &'a Config,
    pub(crate) synonyms: &'a Synonyms,
    pub(crate) reranker: Option<&'a Reranker>,
}

type Hits = Vec<(Score, DocAddress)>;

/// Ranks by words and, with a vector, by meaning as well. The audience is part of both queries, so no later step
/// can forget it. What a reranker sees is what the caller may see.
pub(crate) fn search(source: &Source<'_>, question: &Query<'_>) -> Result<Vec<(f32, Passage)>, TantivyError> {
    let k = question.k.max(1);
    let Some(reranker) = source.reranker else { return best(source, question, k) };
    let mut reranked = reranker.rerank(question.text, best(source, question, reranker.candidates().max(k))?);
    reranked.truncate(k);
    Ok(reranked)
}

/// The best `k` by the index alone.
fn best(source: &Source<'_>, question: &Query<'_>, k: usize) -> Result<Vec<(f32, Passage)>, TantivyError> {
    let hits = match question.vector {
        None => by_words(source, question, k)?,
        Some((_, vector)) => {
            let Source { searcher, meanings, config, .. } = *source;
            let words = by_words(source, question, CANDIDATES.max(k))?;
            let vector = encoder::Query::new(vector);
            let near = meanings.nearest(searcher, &vector, question.audience, CANDIDATES.max(k));
            let cosine = |address| meanings.cosine(searcher, address, &vector);
            fuse(words, near, cosine, config.meaning_weight, k)
        }
    };
    let load = |(score, address)| {
        let entry: TantivyDocument = source.searcher.doc(address)?;
        let json =
            entry.get_first(source.fields.passage).and_then(|value| value.as_str()).unwrap_or_default();
        let passage = serde_json::from_str(json).map_err(std::io::Error::from)?;
        Ok((score, passage))
    };
    hits.into_iter().map(load).collect()
}

/// By BM25 (k1 1.2, b 0.75; Robertson and Zaragoza, 2009) of the words over body, title and heading; a word the
/// index does not have counts as the one nearest to it, and a synonym nearly as the word itself.
fn by_words(source: &Source<'_>, question: &Query<'_>, most: usize) -> Result<Hits, TantivyError> {
    let Source { searcher, fields, config, synonyms, .. } = *source;
    let Some(words) = query::words(searcher, fields, config, synonyms, question.text)? else {
        return Ok(Vec::new());
    };
    let must = (question.audience == Audience::Public).then(|| fields.audience_term(Audience::Public));
    let is_favoured = !question.category.is_empty() && config.category_boost > 0.0;
    let bonus =
        is_favoured.then(|| (Term::from_field_text(fields.tags, question.category), config.category_boost));
    let gated = Gated { words: words.into(), gate: Gate { must, bonus } };
    searcher.search(&gated, &TopDocs::with_limit(most).order_by_score())
}

/// The best `k` of both rankings, by a weighted sum of score and cosine, each as a share of its highest (the
/// convex combination of Bruch, Gai and Ingber, 2023, which they found better than reciprocal ranks).
fn fuse(words: Hits, near: Hits, cosine: impl Fn(DocAddress) -> Score, weight: Score, k: usize) -> Hits {
    let highest = |hits: &Hits| hits.first().map_or(1.0, |(score, _)| score.max(Score::MIN_POSITIVE));
    let (top_score, top_cosine) = (highest(&words), highest(&near));
    let mut scores: BTreeMap<DocAddress, Score> =
        near.into_iter().map(|(_, address)| (address, 0.0)).collect();
    scores.extend(words.into_iter().map(|(score, address)| (address, score / top_score)));
    let mut fused: Hits = scores
        .into_iter()
        .map(|(address, score)| {
            ((1.0 - weight) * score + weight * cosine(address).max(0.0) / top_cosine, address)
        })
        .collect();
    fused.sort_by(|(a, one), (b, other)| b.total_cmp(a).then(one.cmp(other)));
    fused.truncate(k);
    fused
}
