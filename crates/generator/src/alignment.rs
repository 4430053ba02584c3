//! What a sentence keeps of another, word by word.

use std::ops::Range;

use crate::tokens::{Reading, Token};

/// Most words of a sentence that are aligned, for a table row or code block of any length.
const MAX_TOKENS: usize = 256;

fn stems(reading: &Reading) -> Vec<&str> {
    reading.tokens.iter().take(MAX_TOKENS).map(|token| token.stem.as_str()).collect()
}

/// The most words in a row that a sentence has in common with another.
pub(crate) fn longest_run(claim: &Reading, other: &Reading) -> usize {
    let (own, its) = (stems(claim), stems(other));
    let mut before = vec![0; its.len() + 1];
    let mut longest = 0;
    for stem in own {
        let mut row = vec![0; its.len() + 1];
        for (at, _) in its.iter().enumerate().filter(|(_, known)| **known == stem) {
            row[at + 1] = before[at] + 1;
            longest = longest.max(row[at + 1]);
        }
        before = row;
    }
    longest
}

/// How many content words of a sentence the other has, but in another place: those outside the longest
/// common subsequence.
pub(crate) fn moved(claim: &Reading, other: &Reading) -> usize {
    let (own, its) = (stems(claim), stems(other));
    let mut table = vec![vec![0_u16; its.len() + 1]; own.len() + 1];
    for (i, stem) in own.iter().enumerate().rev() {
        for (j, known) in its.iter().enumerate().rev() {
            table[i][j] =
                if stem == known { table[i + 1][j + 1] + 1 } else { table[i + 1][j].max(table[i][j + 1]) };
        }
    }
    let known = |token: &Token| token.is_subject() && other.pool.stems.contains(&token.stem);
    let (mut i, mut j, mut moved) = (0, 0, 0);
    while i < own.len() {
        if j < its.len() && own[i] == its[j] {
            (i, j) = (i + 1, j + 1);
        } else if j == its.len() || table[i + 1][j] >= table[i][j + 1] {
            moved += usize::from(known(&claim.tokens[i]));
            i += 1;
        } else {
            j += 1;
        }
    }
    moved
}

/// Whether a sentence denies more or less than the part of the other it has words of.
pub(crate) fn denials_differ(claim: &Reading, other: &Reading) -> bool {
    let denials = |tokens: &[Token]| tokens.iter().filter(|token| token.is_not()).count();
    denials(&claim.tokens) != denials(&other.tokens[span(claim, other)])
}

/// From two words before the first common content word to the last.
fn span(claim: &Reading, other: &Reading) -> Range<usize> {
    let common = |token: &Token| token.is_subject() && claim.pool.stems.contains(&token.stem);
    match (other.tokens.iter().position(common), other.tokens.iter().rposition(common)) {
        (Some(first), Some(last)) => first.saturating_sub(2)..last + 1,
        _ => 0..0,
    }
}
