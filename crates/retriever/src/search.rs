//! From the words of a question to the best passages.

use bundle::Audience;
use tantivy::collector::TopDocs;
use tantivy::schema::Value as _;
use tantivy::{Searcher, TantivyDocument, TantivyError, Term};

use crate::config::Config;
use crate::gate::{Gate, Gated};
use crate::index::{Fields, Passage};
use crate::query;
use crate::synonyms::Synonyms;

/// A question to the index.
#[derive(Debug, Clone, Copy)]
pub struct Query<'a> {
    /// The words; nothing in them is an operator.
    pub text: &'a str,
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

/// Ranks by BM25 (k1 1.2, b 0.75; Robertson and Zaragoza, 2009) of the words over body, title and heading;
/// a word the index does not have counts as those nearest to it, and a synonym nearly as the word itself.
/// The audience is part of the query, so no later step can forget it.
pub(crate) fn search(
    searcher: &Searcher,
    fields: &Fields,
    config: &Config,
    synonyms: &Synonyms,
    question: &Query<'_>,
) -> Result<Vec<(f32, Passage)>, TantivyError> {
    let Some(words) = query::words(searcher, fields, config, synonyms, question.text)? else {
        return Ok(Vec::new());
    };
    let must = (question.audience == Audience::Public).then(|| fields.audience_term(Audience::Public));
    let is_favoured = !question.category.is_empty() && config.category_boost > 0.0;
    let bonus =
        is_favoured.then(|| (Term::from_field_text(fields.tags, question.category), config.category_boost));
    let gated = Gated { words: words.into(), gate: Gate { must, bonus } };
    let hits = searcher.search(&gated, &TopDocs::with_limit(question.k.max(1)).order_by_score())?;
    let load = |(score, address)| {
        let entry: TantivyDocument = searcher.doc(address)?;
        let json = entry.get_first(fields.passage).and_then(|value| value.as_str()).unwrap_or_default();
        let passage = serde_json::from_str(json).map_err(std::io::Error::from)?;
        Ok((score, passage))
    };
    hits.into_iter().map(load).collect()
}
