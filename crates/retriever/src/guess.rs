//! What a word that the index does not have was meant to be.

use std::collections::BTreeMap;

use tantivy::query::FuzzyTermQuery;
use tantivy::schema::Field;
use tantivy::{Searcher, TantivyError, Term};

/// Shorter words have too many neighbours that mean something else. Letters of the stem, as all here.
const MIN_CHARS: usize = 4;
/// Of words this long also those two letters away, when none is nearer.
const MIN_CHARS_FOR_TWO: usize = 7;
/// Whether a word is long enough to be told from its neighbours.
pub(crate) fn can_be(word: &str) -> bool {
    word.chars().count() >= MIN_CHARS
}

/// The word of a field with the fewest letters inserted, deleted, replaced or swapped with their neighbour; of
/// several the one in most passages. These are stems: a misspelt ending hides its own.
pub(crate) fn nearest(searcher: &Searcher, field: Field, word: &str) -> Result<Option<String>, TantivyError> {
    let near = within(searcher, field, word, 1)?;
    if near.is_some() || word.chars().count() < MIN_CHARS_FOR_TWO {
        return Ok(near);
    }
    within(searcher, field, word, 2)
}

fn within(
    searcher: &Searcher,
    field: Field,
    word: &str,
    distance: u8,
) -> Result<Option<String>, TantivyError> {
    let automaton = FuzzyTermQuery::new(Term::from_field_text(field, word), distance, true).automaton()?;
    let mut found: BTreeMap<Vec<u8>, u32> = BTreeMap::new();
    for segment in searcher.segment_readers() {
        let index = segment.inverted_index(field)?;
        let mut terms = index.terms().search(&automaton).into_stream()?;
        while let Some((term, info)) = terms.next() {
            *found.entry(term.to_vec()).or_default() += info.doc_freq;
        }
    }
    // The first of equals in the alphabet: the same in every run.
    let best = found.into_iter().rev().max_by_key(|(_, passages)| *passages);
    Ok(best.map(|(term, _)| String::from_utf8_lossy(&term).into_owned()))
}
