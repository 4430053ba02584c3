//! What a word that the index does not have was meant to be.

use std::collections::BTreeMap;

use tantivy::query::FuzzyTermQuery;
use tantivy::schema::Field;
use tantivy::{Searcher, TantivyError, Term};

/// Shorter words have too many neighbours that mean something else. Letters of the stem, as all here.
const MIN_CHARS: usize = 4;
/// Of words this long also those two letters away, when none is nearer.
const MIN_CHARS_FOR_TWO: usize = 7;
/// Most meanings of a word: those in most passages.
const MAX_MEANINGS: usize = 3;

/// Whether a word is long enough to be told from its neighbours.
pub(crate) fn can_be(word: &str) -> bool {
    word.chars().count() >= MIN_CHARS
}

/// The nearest words of a field (stems: a misspelt ending hides its own) by letters inserted, deleted, replaced or swapped with their neighbour.
pub(crate) fn near(searcher: &Searcher, field: Field, word: &str) -> Result<Vec<String>, TantivyError> {
    let chars = word.chars().count();
    for (distance, least) in [(1, MIN_CHARS), (2, MIN_CHARS_FOR_TWO)] {
        let found = if chars < least { Vec::new() } else { within(searcher, field, word, distance)? };
        if !found.is_empty() {
            return Ok(found);
        }
    }
    Ok(Vec::new())
}

fn within(searcher: &Searcher, field: Field, word: &str, distance: u8) -> Result<Vec<String>, TantivyError> {
    let automaton = FuzzyTermQuery::new(Term::from_field_text(field, word), distance, true).automaton()?;
    let mut found: BTreeMap<String, u32> = BTreeMap::new();
    for segment in searcher.segment_readers() {
        let index = segment.inverted_index(field)?;
        let mut terms = index.terms().search(&automaton).into_stream()?;
        while let Some((term, info)) = terms.next() {
            *found.entry(String::from_utf8_lossy(term).into_owned()).or_default() += info.doc_freq;
        }
    }
    let mut found: Vec<_> = found.into_iter().collect();
    found.sort_by(|(a, most), (b, other)| (other, a).cmp(&(most, b)));
    found.truncate(MAX_MEANINGS);
    Ok(found.into_iter().map(|(word, _)| word).collect())
}
