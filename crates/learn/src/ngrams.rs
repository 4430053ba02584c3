//! Word and character n-grams of a text, and the vocabulary that weighs them.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// Characters of the normalised text that count, so that 64 KiB cost no more than 4: people say what they
/// want at the beginning.
const MAX_CHARS: usize = 4096;
/// Lengths of the character n-grams inside a padded word. 2..=6 and 3..=5 were no better, and n-grams across
/// words were worse.
const MIN_PART: usize = 2;
const MAX_PART: usize = 5;
/// Texts a character n-gram must occur in. One occurrence adds size and no accuracy.
const MIN_PART_TEXTS: u32 = 2;
/// Share of the words in the squared length of a vector, the rest is the characters'.
const WORD_SHARE: f32 = 0.4;
/// Exponent of the inverse document frequency: the rarest n-grams of a small training set are noise.
const IDF_EXPONENT: f32 = 0.5;

/// The n-grams of one text as 64-bit hashes, each list sorted and with repetitions.
#[derive(Debug, Clone, Default)]
pub struct Ngrams {
    words: Vec<u64>,
    parts: Vec<u64>,
}

impl Ngrams {
    /// The n-grams of a text in its normal form.
    pub fn of(text: &str) -> Self {
        Self::of_normal(&text::normalise(text))
    }

    /// The n-grams of a text that is in its normal form already.
    pub fn of_normal(normal: &str) -> Self {
        let end = normal.char_indices().nth(MAX_CHARS).map_or(normal.len(), |(index, _)| index);
        let mut ngrams = Self::default();
        let mut previous = None;
        let mut padded = Vec::new();
        for word in text::words(&normal[..end]) {
            padded.clear();
            padded.push(' ');
            padded.extend(word.chars().filter(|c| c.is_alphanumeric()));
            padded.push(' ');
            let hash = padded.iter().fold(WORD_SEED, |hash, &c| mix(hash, u32::from(c)));
            ngrams.words.push(finish(hash));
            if let Some(previous) = previous {
                ngrams.words.push(finish(padded.iter().fold(previous, |hash, &c| mix(hash, u32::from(c)))));
            }
            previous = Some(hash);
            for start in 0..padded.len() {
                let mut hash = PART_SEED;
                for (index, &c) in padded[start..].iter().take(MAX_PART).enumerate() {
                    hash = mix(hash, u32::from(c));
                    if index + 1 >= MIN_PART {
                        ngrams.parts.push(finish(hash));
                    }
                }
            }
        }
        ngrams.words.sort_unstable();
        ngrams.parts.sort_unstable();
        ngrams
    }
}

const WORD_SEED: u64 = 0x9e37_79b9_7f4a_7c15;
const PART_SEED: u64 = 0xc2b2_ae3d_27d4_eb4f;

/// One step of FxHash over a character. 64 bits keep collisions out of any vocabulary that fits in memory.
fn mix(hash: u64, c: u32) -> u64 {
    (hash.rotate_left(5) ^ u64::from(c)).wrapping_mul(0x517c_c1b7_2722_0a95)
}

/// The finaliser of MurmurHash3: the low bits, which pick the bucket, depend on every character.
fn finish(hash: u64) -> u64 {
    let hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^ (hash >> 33)
}

/// A text as the vocabulary sees it: known features with their weights, ascending, of length 1 (or 0).
#[derive(Debug, Clone, Default)]
pub struct Vector {
    /// Places in the vocabulary with their values.
    pub items: Vec<(u32, f32)>,
    /// Share of the word n-grams that are known, 0..=1.
    pub known_words: f32,
    /// Share of the character n-grams that are known, 0..=1.
    pub known_parts: f32,
}

impl Vector {
    /// The squared length: 1, less without any known word or part.
    pub fn square(&self) -> f32 {
        self.items.iter().map(|(_, value)| value * value).sum()
    }
}

/// The n-grams of the training texts with their inverse document frequencies: words first, then parts, each
/// in ascending order of their hashes.
#[derive(Debug, Clone)]
pub struct Vocabulary {
    /// Hashes of the n-grams.
    pub keys: Vec<u64>,
    /// The weight of each, above 0.
    pub idf: Vec<f32>,
    /// How many of them are of words.
    pub words: usize,
    ids: HashMap<u64, u32, BuildHasherDefault<Hashed>>,
}

impl Vocabulary {
    /// The vocabulary of training texts.
    pub fn fit(texts: &[&Ngrams]) -> Self {
        let mut counted = count(texts.iter().map(|text| text.words.as_slice()));
        let words = counted.len();
        let parts = count(texts.iter().map(|text| text.parts.as_slice()));
        counted.extend(parts.into_iter().filter(|&(_, texts)| texts >= MIN_PART_TEXTS));
        let all = texts.len() as f32 + 1.0;
        let idf = |count: u32| ((all / (count as f32 + 1.0)).ln() + 1.0).powf(IDF_EXPONENT);
        let (keys, idf) = counted.into_iter().map(|(key, count)| (key, idf(count))).unzip();
        Self::new(keys, idf, words)
    }

    /// A vocabulary of which the first `words` keys are words.
    pub fn new(keys: Vec<u64>, idf: Vec<f32>, words: usize) -> Self {
        let ids = keys.iter().zip(0..).map(|(&key, id)| (key, id)).collect();
        Self { keys, idf, words, ids }
    }

    /// Number of features.
    pub fn features(&self) -> usize {
        self.keys.len()
    }

    /// The vector of a text: (1 + ln tf) * idf, each block scaled to its share.
    pub fn vector(&self, text: &Ngrams) -> Vector {
        let mut items = Vec::with_capacity(text.words.len() + text.parts.len());
        let known_words = self.block(&text.words, WORD_SHARE, &mut items);
        let known_parts = self.block(&text.parts, 1.0 - WORD_SHARE, &mut items);
        items.sort_unstable_by_key(|&(id, _)| id);
        Vector { items, known_words, known_parts }
    }

    fn block(&self, hashes: &[u64], share: f32, items: &mut Vec<(u32, f32)>) -> f32 {
        let (start, mut known) = (items.len(), 0);
        for run in hashes.chunk_by(|left, right| left == right) {
            if let Some(&id) = self.ids.get(&run[0]) {
                known += run.len();
                items.push((id, (1.0 + (run.len() as f32).ln()) * self.idf[id as usize]));
            }
        }
        let square: f32 = items[start..].iter().map(|(_, value)| value * value).sum();
        let scale = if square > 0.0 { (share / square).sqrt() } else { 0.0 };
        items[start..].iter_mut().for_each(|(_, value)| *value *= scale);
        known as f32 / hashes.len().max(1) as f32
    }
}

/// In how many of the sorted lists each hash occurs, ascending by hash.
fn count<'a>(lists: impl Iterator<Item = &'a [u64]>) -> Vec<(u64, u32)> {
    let mut hashes = Vec::new();
    for list in lists {
        hashes.extend(list.chunk_by(|left, right| left == right).map(|run| run[0]));
    }
    hashes.sort_unstable();
    hashes.chunk_by(|left, right| left == right).map(|run| (run[0], run.len() as u32)).collect()
}

/// The keys are hashes already.
#[derive(Debug, Clone, Default)]
struct Hashed(u64);

impl Hasher for Hashed {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u64(u64::from(byte));
        }
    }
    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vector_has_length_one_and_knows_what_it_does_not_know() {
        let texts = ["I lost my card", "my card was stolen"].map(Ngrams::of);
        let vocabulary = Vocabulary::fit(&texts.iter().collect::<Vec<_>>());
        let vector = vocabulary.vector(&texts[0]);
        assert!((vector.square() - 1.0).abs() < 1e-5);
        assert!((vector.known_words - 1.0).abs() < 1e-6);
        assert!(vector.items.is_sorted_by(|left, right| left.0 < right.0));
        // Of "my", "card", "hat", "my card", "card hat" three are known.
        assert!((vocabulary.vector(&Ngrams::of("my card hat")).known_words - 0.6).abs() < 1e-6);
        assert!(vocabulary.vector(&Ngrams::of("🙂🙂 ... !")).items.is_empty());
    }

    #[test]
    fn look_alikes_and_apostrophes_make_no_difference() {
        let plain = Ngrams::of("I can't pay");
        let other = Ngrams::of("i\u{200b} CAN’T  \u{ff50}ay!!");
        assert_eq!((plain.words, plain.parts), (other.words, other.parts));
    }
}
