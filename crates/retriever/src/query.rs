//! The words of a question as a query of the index.

use std::collections::BTreeMap;

use tantivy::query::{BooleanQuery, BoostQuery, DisjunctionMaxQuery, Occur, Query, TermQuery};
use tantivy::schema::IndexRecordOption;
use tantivy::{Score, Searcher, TantivyError, Term};

use crate::config::Config;
use crate::guess;
use crate::index::Fields;
use crate::synonyms::{Phrase, Synonyms, analyse};

/// The rarest words say most; more of them only cost time.
const MAX_TERMS: usize = 64;
/// How many phrases of a question are searched with their synonyms.
const MAX_GROUPS: usize = 8;
/// How many words unknown to the index are compared with those it has.
const MAX_GUESSES: usize = 8;
/// Worth of a guessed word against a written one. Of 0.4 to 0.8 as good as any on the 809 training claims of
/// SciFact and on misspelt questions to the demo.
const GUESS_WEIGHT: Score = 0.6;
/// Worth of a synonym against the word itself. Of 0.3 to 1 the best on the 1,723 examples of the demo that have
/// an article: it comes first for 0.607 of them instead of 0.571.
const SYNONYM_WEIGHT: Score = 0.8;

/// What scores a passage: BM25 of the words over body, title and heading, each added up, and the better of a
/// word and its synonyms. Nothing when no word of the question can match.
pub(crate) fn words(
    searcher: &Searcher,
    fields: &Fields,
    config: &Config,
    synonyms: &Synonyms,
    text: &str,
) -> Result<Option<Box<dyn Query>>, TantivyError> {
    let scoring = Scoring { searcher, fields, config };
    let words = Words::read(&scoring, synonyms, text)?;
    let mut clauses: Vec<Box<dyn Query>> = Vec::new();
    for (_, word, count) in words.known {
        clauses.extend(scoring.word(&word, count));
    }
    for (from, to, count) in words.groups {
        clauses.extend(scoring.group(from, to, count)?);
    }
    for word in words.unknown {
        if let Some(meant) = guess::nearest(searcher, fields.body, &word)? {
            clauses.extend(scoring.word(&meant, GUESS_WEIGHT));
        }
    }
    Ok((!clauses.is_empty()).then(|| any(clauses)))
}

fn any(clauses: Vec<Box<dyn Query>>) -> Box<dyn Query> {
    Box::new(BooleanQuery::union(clauses))
}

/// How one word scores.
struct Scoring<'a> {
    searcher: &'a Searcher,
    fields: &'a Fields,
    config: &'a Config,
}

impl Scoring<'_> {
    fn passages(&self, word: &str) -> Result<u64, TantivyError> {
        self.searcher.doc_freq(&Term::from_field_text(self.fields.body, word))
    }

    /// A clause for each field with a weight; the first is the body's, which holds the words of the others.
    fn word(&self, word: &str, weight: Score) -> impl Iterator<Item = Box<dyn Query>> {
        let Fields { body, title, heading, .. } = *self.fields;
        let boosts = [(body, 1.0), (title, self.config.title_boost), (heading, self.config.heading_boost)];
        boosts.into_iter().filter(|(_, boost)| *boost > 0.0).map(move |(field, boost)| {
            let term = TermQuery::new(Term::from_field_text(field, word), IndexRecordOption::WithFreqs);
            Box::new(BoostQuery::new(Box::new(term), boost * weight)) as Box<dyn Query>
        })
    }

    /// One clause for a phrase and its synonyms, so that a passage with several of them counts the best alone.
    /// A synonym of several words needs them all.
    fn group(
        &self,
        from: &[String],
        to: &[Phrase],
        count: Score,
    ) -> Result<Option<Box<dyn Query>>, TantivyError> {
        let mut written = Vec::new();
        for word in from {
            if self.passages(word)? > 0 {
                written.extend(self.word(word, count));
            }
        }
        let mut choices = Vec::new();
        if !written.is_empty() {
            choices.push(any(written));
        }
        let weight = count * SYNONYM_WEIGHT;
        for phrase in to {
            choices.push(self.all(phrase, weight));
        }
        Ok((!choices.is_empty()).then(|| Box::new(DisjunctionMaxQuery::new(choices)) as Box<dyn Query>))
    }

    fn all(&self, phrase: &Phrase, weight: Score) -> Box<dyn Query> {
        let mut clauses = Vec::new();
        for word in phrase {
            let occurs = std::iter::once(Occur::Must).chain(std::iter::repeat(Occur::Should));
            clauses.extend(occurs.zip(self.word(word, weight)));
        }
        Box::new(BooleanQuery::new(clauses))
    }
}

/// The words of a question, as the index knows them.
struct Words<'s> {
    /// In how many passages, the word, how often in the question; at most [`MAX_TERMS`], rarest first.
    known: Vec<(u64, String, f32)>,
    /// A phrase with synonyms, they, how often in the question; at most [`MAX_GROUPS`].
    groups: Vec<(&'s Phrase, &'s [Phrase], f32)>,
    /// Words that no passage has, probably misspelt; at most [`MAX_GUESSES`].
    unknown: Vec<String>,
}

impl<'s> Words<'s> {
    fn read(scoring: &Scoring<'_>, synonyms: &'s Synonyms, text: &str) -> Result<Self, TantivyError> {
        let mut analyser = scoring.searcher.index().tokenizer_for_field(scoring.fields.body)?;
        let all = analyse(&mut analyser, text);
        let mut words = Words { known: Vec::new(), groups: Vec::new(), unknown: Vec::new() };
        let mut counts: BTreeMap<&String, f32> = BTreeMap::new();
        let mut rest = all.as_slice();
        while let Some(word) = rest.first() {
            let length = match synonyms.at(rest) {
                Some((from, to)) if words.take(from, to) => from.len(),
                _ => {
                    *counts.entry(word).or_default() += 1.0;
                    1
                }
            };
            rest = &rest[length..];
        }
        for (word, count) in counts {
            match scoring.passages(word)? {
                0 if words.unknown.len() < MAX_GUESSES && guess::can_be(word) => {
                    words.unknown.push(word.clone());
                }
                0 => {}
                passages => words.known.push((passages, word.clone(), count)),
            }
        }
        words.known.sort_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
        words.known.truncate(MAX_TERMS);
        Ok(words)
    }

    /// Counts a phrase with synonyms, unless there are too many already.
    fn take(&mut self, from: &'s Phrase, to: &'s [Phrase]) -> bool {
        if let Some((_, _, count)) = self.groups.iter_mut().find(|(other, ..)| *other == from) {
            *count += 1.0;
        } else if self.groups.len() < MAX_GROUPS {
            self.groups.push((from, to, 1.0));
        } else {
            return false;
        }
        true
    }
}
