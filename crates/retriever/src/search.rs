//! From the words of a question to the best passages.

use std::collections::BTreeMap;

use bundle::Audience;
use tantivy::collector::TopDocs;
use tantivy::query::{BooleanQuery, BoostQuery, ConstScoreQuery, FuzzyTermQuery, Occur, TermQuery};
use tantivy::schema::{Field, IndexRecordOption, Value as _};
use tantivy::{Score, Searcher, TantivyDocument, TantivyError, Term};

use crate::config::Config;
use crate::index::{Fields, Passage};

/// The rarest words say most; more of them only cost time.
const MAX_TERMS: usize = 64;
/// How many words unknown to the index are compared with those it has.
const MAX_GUESSES: usize = 8;
/// Shorter words have too many neighbours that mean something else.
const MIN_GUESS_CHARS: usize = 5;
/// Worth of a guessed word against the rarest known one. Of 0, 0.2, 0.35, 0.5 and 0.7 the best on the 809
/// training claims of SciFact: nDCG@10 0.7033 instead of 0.7018.
const GUESS_WEIGHT: Score = 0.5;

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

type Clause = (Occur, Box<dyn tantivy::query::Query>);

/// Ranks by BM25 (k1 1.2, b 0.75; Robertson and Zaragoza, 2009) of the words over body, title and heading;
/// a word the index does not have counts as those one letter away.
/// The audience is a clause of the query, so no later step can forget it.
pub(crate) fn search(
    searcher: &Searcher,
    fields: &Fields,
    config: &Config,
    query: &Query<'_>,
) -> Result<Vec<(f32, Passage)>, TantivyError> {
    let boosts =
        [(fields.body, 1.0), (fields.title, config.title_boost), (fields.heading, config.heading_boost)];
    let mut words: Vec<Clause> = Vec::new();
    let Words { known, unknown } = read(searcher, fields.body, query.text)?;
    for (_, word, count) in known {
        for (field, boost) in boosts.into_iter().filter(|(_, boost)| *boost > 0.0) {
            let term = Term::from_field_text(field, &word);
            let scored = TermQuery::new(term, IndexRecordOption::WithFreqs);
            words.push((Occur::Should, Box::new(BoostQuery::new(Box::new(scored), boost * count))));
        }
    }
    let guess_weight = GUESS_WEIGHT * (searcher.num_docs() as Score).ln_1p();
    for word in unknown {
        let near = FuzzyTermQuery::new(Term::from_field_text(fields.body, &word), 1, true);
        words.push((Occur::Should, Box::new(BoostQuery::new(Box::new(near), guess_weight))));
    }
    if words.is_empty() {
        return Ok(Vec::new());
    }
    let mut clauses: Vec<Clause> = vec![(Occur::Must, Box::new(BooleanQuery::new(words)))];
    if query.audience == Audience::Public {
        clauses.push((Occur::Must, constant(fields.audience_term(Audience::Public), 0.0)));
    }
    if !query.category.is_empty() && config.category_boost > 0.0 {
        let tag = Term::from_field_text(fields.tags, query.category);
        clauses.push((Occur::Should, constant(tag, config.category_boost)));
    }
    let hits = searcher
        .search(&BooleanQuery::new(clauses), &TopDocs::with_limit(query.k.max(1)).order_by_score())?;
    let load = |(score, address)| {
        let entry: TantivyDocument = searcher.doc(address)?;
        let json = entry.get_first(fields.passage).and_then(|value| value.as_str()).unwrap_or_default();
        let passage = serde_json::from_str(json).map_err(std::io::Error::from)?;
        Ok((score, passage))
    };
    hits.into_iter().map(load).collect()
}

/// A clause that matches one term and scores the same everywhere.
fn constant(term: Term, score: Score) -> Box<dyn tantivy::query::Query> {
    Box::new(ConstScoreQuery::new(Box::new(TermQuery::new(term, IndexRecordOption::Basic)), score))
}

/// The words of a question, as the index knows them.
struct Words {
    /// In how many passages, the word, how often in the question; at most [`MAX_TERMS`], rarest first.
    known: Vec<(u64, String, f32)>,
    /// Long words that no passage has, probably misspelt; at most [`MAX_GUESSES`].
    unknown: Vec<String>,
}

fn read(searcher: &Searcher, body: Field, text: &str) -> Result<Words, TantivyError> {
    let mut analyser = searcher.index().tokenizer_for_field(body)?;
    let mut counts: BTreeMap<String, f32> = BTreeMap::new();
    let mut stream = analyser.token_stream(text);
    while stream.advance() {
        let word = &stream.token().text;
        match counts.get_mut(word) {
            Some(count) => *count += 1.0,
            None => drop(counts.insert(word.clone(), 1.0)),
        }
    }
    let mut words = Words { known: Vec::new(), unknown: Vec::new() };
    for (word, count) in counts {
        match searcher.doc_freq(&Term::from_field_text(body, &word))? {
            0 if words.unknown.len() < MAX_GUESSES && word.chars().count() >= MIN_GUESS_CHARS => {
                words.unknown.push(word);
            }
            0 => {}
            passages => words.known.push((passages, word, count)),
        }
    }
    words.known.sort_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
    words.known.truncate(MAX_TERMS);
    Ok(words)
}
