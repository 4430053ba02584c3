//! Texts that say the same, put together.

use crate::ngrams::{Ngrams, Vector, Vocabulary};

/// Exponent of the inverse document frequency beyond that of a vector: what many texts say tells least here.
const MORE_IDF: i32 = 1;

/// Puts texts together as long as those of two groups resemble each other on average by at least `threshold`, 0..=1.
/// A text counts as often as its weight says. Groups hold the places of their texts, in order of the first.
///
/// Takes memory of 4 bytes for each pair of texts: 64 MB for 4000.
pub fn clusters(texts: &[(&Ngrams, u32)], threshold: f32) -> Vec<Vec<usize>> {
    let mut near = Near::of(texts);
    let mut sizes: Vec<f32> = texts.iter().map(|(_, weight)| *weight as f32).collect();
    let mut groups: Vec<Vec<usize>> = (0..texts.len()).map(|place| vec![place]).collect();
    let mut chain: Vec<usize> = Vec::new();
    // Nearest neighbours of nearest neighbours end at two that are each other's: with averages no later merge of others
    // brings anything nearer to them, so that they may be merged at once.
    let mut next = 0;
    while next < groups.len() {
        let Some(&last) = chain.last() else {
            match groups[next].is_empty() {
                true => next += 1,
                false => chain.push(next),
            }
            continue;
        };
        let before = chain.len().checked_sub(2).map(|place| chain[place]);
        match near.nearest(last, &groups, before) {
            Some((nearest, likeness)) if likeness >= threshold => {
                if before != Some(nearest) {
                    chain.push(nearest);
                    continue;
                }
                chain.truncate(chain.len() - 2);
                let (one, other) = (last.min(nearest), last.max(nearest));
                near.merge(one, other, &sizes);
                sizes[one] += sizes[other];
                let moved = std::mem::take(&mut groups[other]);
                groups[one].extend(moved);
            }
            // Nothing is near enough, and so it stays.
            _ => {
                chain.pop();
                if chain.is_empty() {
                    next += 1;
                }
            }
        }
    }
    groups.retain(|group| !group.is_empty());
    groups.iter_mut().for_each(|group| group.sort_unstable());
    groups
}

/// How far groups resemble each other on average.
struct Near {
    groups: usize,
    /// A row for each group.
    likeness: Vec<f32>,
}

impl Near {
    fn of(texts: &[(&Ngrams, u32)]) -> Self {
        let ngrams: Vec<_> = texts.iter().map(|(ngrams, _)| *ngrams).collect();
        let vocabulary = Vocabulary::fit(&ngrams);
        let groups = texts.len();
        let mut likeness = vec![0.0; groups * groups];
        // Texts by what they hold, so that only pairs that share something are looked at.
        let mut holders: Vec<Vec<(usize, f32)>> = vec![Vec::new(); vocabulary.features()];
        for (here, text) in ngrams.iter().enumerate() {
            let Vector { mut items, known_parts, .. } = vocabulary.vector(text);
            items.iter_mut().for_each(|(id, value)| *value *= vocabulary.idf[*id as usize].powi(MORE_IDF));
            let length = items.iter().map(|(_, value)| value * value).sum::<f32>().sqrt();
            for (id, value) in items {
                // Parts that no other text has are not in the vocabulary, and few texts share few: what they share must
                // not count as all there is.
                let shared = if (id as usize) < vocabulary.words { 1.0 } else { known_parts.sqrt() };
                let value = value / length * shared;
                for (other, theirs) in &holders[id as usize] {
                    likeness[here * groups + other] += value * theirs;
                    likeness[other * groups + here] += value * theirs;
                }
                holders[id as usize].push((here, value));
            }
        }
        Self { groups, likeness }
    }

    /// The group that resembles one the most, of several the one given; `None` without another group.
    fn nearest(&self, one: usize, groups: &[Vec<usize>], first: Option<usize>) -> Option<(usize, f32)> {
        let row = &self.likeness[one * self.groups..(one + 1) * self.groups];
        let mut best = first.map(|first| (first, row[first]));
        for (other, &likeness) in row.iter().enumerate() {
            let other_is_one = other == one || groups[other].is_empty();
            if !other_is_one && best.is_none_or(|(_, most)| likeness > most) {
                best = Some((other, likeness));
            }
        }
        best
    }

    fn merge(&mut self, one: usize, other: usize, sizes: &[f32]) {
        let whole = sizes[one] + sizes[other];
        for third in 0..self.groups {
            let [mine, theirs] = [one, other].map(|row| self.likeness[row * self.groups + third]);
            let both = (mine * sizes[one] + theirs * sizes[other]) / whole;
            self.likeness[one * self.groups + third] = both;
            self.likeness[third * self.groups + one] = both;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_about_the_same_come_together_whatever_their_order() {
        let texts = [
            "how do I cancel my subscription",
            "do you deliver to Norway",
            "cancel the subscription please",
            "when is delivery to Norway possible",
            "I want to cancel my subscription now",
            "the kettle leaks",
        ];
        let ngrams = texts.map(Ngrams::of);
        let all: Vec<_> = ngrams.iter().map(|ngrams| (ngrams, 1)).collect();
        let found = clusters(&all, 0.15);
        assert_eq!(found, [vec![0, 2, 4], vec![1, 3], vec![5]]);
        let backwards: Vec<_> = all.iter().rev().copied().collect();
        assert_eq!(clusters(&backwards, 0.15), [vec![0], vec![1, 3, 5], vec![2, 4]]);
        assert_eq!(clusters(&all, 1.1).len(), texts.len());
        assert_eq!(clusters(&[], 0.2), Vec::<Vec<usize>>::new());
    }
}
