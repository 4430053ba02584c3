//! The guard: what it learned from examples, joined with what the lexicons found, as a score for each category.

use learn::{Ngrams, Vocabulary, Weights};
use serde::{Deserialize, Serialize};

use crate::decode::View;
use crate::error::Error;
use crate::policy::{Category, Scores};
use crate::solve::Row;

/// First bytes of a guard's file.
const MAGIC: &[u8; 8] = b"FLGUARD1";
const HASH_BYTES: usize = 32;
/// Most evidence of lexicons, -ln(1 - score): beyond it a score is certain.
const CERTAIN: f64 = 5.0;

/// A trained guard.
#[derive(Debug)]
pub struct Guard {
    version: String,
    vocabulary: Vocabulary,
    pub(crate) parts: Parts,
}

/// What is learned, beside the vocabulary.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Parts {
    pub(crate) words: Weights,
    pub(crate) bias: Row,
    pub(crate) meaning: Option<Meaning>,
    /// For words alone, and for words and meaning.
    pub(crate) joins: [Joins; 2],
    pub(crate) planted: Planted,
}

/// What tells documents with an instruction planted in them.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Planted {
    pub(crate) words: Weights,
    pub(crate) bias: f32,
    pub(crate) join: Join,
}

/// The inputs of the join for a document: bias, what the lexicons found (0..=1), the part that sounds most like an
/// instruction, and how many parts there were to choose from. A document of one part counts as a whole.
pub(crate) fn signs(
    lexicons: f64,
    parts: impl Iterator<Item = f32>,
    whole: impl Iterator<Item = f32>,
) -> Join {
    let parts: Vec<f32> = parts.collect();
    let worst = parts.iter().copied().reduce(f32::max);
    let worst = worst.or_else(|| whole.reduce(f32::max)).unwrap_or_default();
    [1.0, surprise(lexicons), f64::from(worst), (parts.len() as f64).ln_1p()]
}

/// Weights over the vectors of an encoder.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Meaning {
    /// Id of the encoder.
    pub(crate) encoder: String,
    /// A row for each value of a vector, and the biases.
    pub(crate) weights: Vec<Row>,
}

/// How the evidence for a category becomes its probability, a logistic regression: bias, lexicons, words, meaning.
pub(crate) type Join = [f64; 4];
pub(crate) type Joins = [Join; Category::ALL.len()];

/// Evidence for each category.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Evidence {
    pub(crate) lexicons: Scores,
    pub(crate) words: Row,
    pub(crate) meaning: Option<Row>,
}

impl Evidence {
    /// The inputs of a category's join.
    pub(crate) fn of(&self, category: usize) -> Join {
        let meaning = self.meaning.map_or(0.0, |meaning| meaning[category]);
        let lexicons = surprise(self.lexicons[category]);
        [1.0, lexicons, f64::from(self.words[category]), f64::from(meaning)]
    }
}

/// A lexicon's score as evidence.
fn surprise(score: f64) -> f64 {
    (-(1.0 - score).max(1e-9).ln()).min(CERTAIN)
}

/// The highest score of each category.
pub(crate) fn most(rows: impl Iterator<Item = Row>) -> Row {
    let lowest = [f32::NEG_INFINITY; Category::ALL.len()];
    rows.fold(lowest, |mut most, row| {
        most.iter_mut().zip(row).for_each(|(most, score)| *most = most.max(score));
        most
    })
}

/// The sentences of a text and what else reads like one: an instruction in a long message would be drowned by the
/// words around it. None for a text of one.
pub(crate) fn parts(text: &str) -> impl Iterator<Item = &str> {
    let mut cuts = vec![0];
    let mut before = ' ';
    for (at, c) in text.char_indices() {
        let ends = matches!(before, '.' | '!' | '?' | '…' | ':' | ';' | '"' | ')') && c.is_whitespace();
        let dash = matches!(c, '-' | '–' | '—') && before == ' ';
        if ends || dash || c == '\n' || matches!(before, '。' | '！' | '？') {
            cuts.push(at);
        }
        before = c;
    }
    cuts.push(text.len());
    let long = |part: &&str| part.split_whitespace().nth(2).is_some() || !part.is_ascii() && part.len() > 12;
    let whole = cuts.len() == 2;
    let ends = cuts.clone().into_iter().skip(1);
    cuts.into_iter()
        .zip(ends)
        .map(|(start, end)| text[start..end].trim())
        .filter(long)
        .filter(move |_| !whole)
}

/// The probability of a category.
pub(crate) fn join(weights: &Join, inputs: &Join) -> f64 {
    let sum: f64 = weights.iter().zip(inputs).map(|(weight, input)| weight * input).sum();
    1.0 / (1.0 + (-sum).exp())
}

impl Guard {
    pub(crate) fn new(vocabulary: Vocabulary, parts: Parts) -> Result<Self, Error> {
        let guard = Self { version: String::new(), vocabulary, parts };
        let version = blake3::hash(&guard.body()?).to_hex().to_string();
        Ok(Self { version, ..guard })
    }

    /// Content hash, 64 hexadecimal digits.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Id of the encoder whose vectors it takes, if any.
    #[must_use]
    pub fn encoder(&self) -> Option<&str> {
        self.parts.meaning.as_ref().map(|meaning| meaning.encoder.as_str())
    }

    /// The scores, 0..=1, of a text seen in these forms, for which the lexicons found so much; the vector is of
    /// the guard's encoder.
    pub(crate) fn score(
        &self,
        text: &str,
        views: &[View],
        lexicons: &Scores,
        vector: Option<&[f32]>,
    ) -> Scores {
        // Letters one by one say nothing of what they spell.
        let plain = views.first().map_or(0, |plain| plain.normal.len());
        let spelled = views.iter().any(|view| view.joined && view.normal.len() * 3 < plain * 2);
        let visible: String = text.chars().filter(|c| !text::is_invisible(*c)).collect();
        let forms = views.iter().enumerate().skip(usize::from(spelled)).flat_map(|(index, view)| {
            // Only the text as written has its lines.
            let lines = if index == 0 { &visible } else { &view.normal };
            std::iter::once(Ngrams::of_normal(&view.normal)).chain(parts(lines).map(Ngrams::of))
        });
        let words = most(forms.map(|form| self.words(&form)));
        let meaning = vector.zip(self.parts.meaning.as_ref()).map(|(vector, it)| it.scores(vector));
        let joins = &self.parts.joins[usize::from(meaning.is_some())];
        let evidence = Evidence { lexicons: *lexicons, words, meaning };
        std::array::from_fn(|category| join(&joins[category], &evidence.of(category)))
    }

    /// The chance, 0..=1, that an instruction is planted in a passage seen in these forms, in which the lexicons
    /// found so much.
    pub(crate) fn planted(&self, text: &str, views: &[View], lexicons: f64) -> f64 {
        let Planted { words, bias, join: weights } = &self.parts.planted;
        let look = |ngrams: Ngrams| bias + words.scores(&self.vocabulary.vector(&ngrams)).iter().sum::<f32>();
        let visible: String = text.chars().filter(|c| !text::is_invisible(*c)).collect();
        let written = parts(&visible).map(Ngrams::of);
        // What was decoded stands by itself.
        let hidden = views.iter().skip(1).map(|view| Ngrams::of_normal(&view.normal));
        let whole = views.iter().map(|view| Ngrams::of_normal(&view.normal));
        join(weights, &signs(lexicons, written.chain(hidden).map(look), whole.map(look)))
    }

    fn words(&self, text: &Ngrams) -> Row {
        let scores = self.parts.words.scores(&self.vocabulary.vector(text));
        let mut row = self.parts.bias;
        row.iter_mut().zip(scores).for_each(|(sum, score)| *sum += score);
        row
    }

    /// The guard as bytes, equal for equal guards.
    pub(crate) fn to_bytes(&self) -> Result<Vec<u8>, Error> {
        let body = self.body()?;
        Ok([MAGIC.as_slice(), blake3::hash(&body).as_bytes(), &body].concat())
    }

    fn body(&self) -> Result<Vec<u8>, Error> {
        let Vocabulary { keys, idf, words, .. } = &self.vocabulary;
        postcard::to_stdvec(&(keys, idf, words, &self.parts)).map_err(Error::Damaged)
    }

    /// Reads a guard.
    ///
    /// # Errors
    /// [`Error::Damaged`] or [`Error::Changed`] for bytes that are no guard, cut short, or changed.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        let (hash, body) = bytes
            .strip_prefix(MAGIC)
            .and_then(|rest| rest.split_at_checked(HASH_BYTES))
            .ok_or(Error::Changed)?;
        let version = blake3::hash(body);
        if version.as_bytes() != hash {
            return Err(Error::Changed);
        }
        let (keys, idf, words, parts): (Vec<u64>, Vec<f32>, usize, Parts) =
            postcard::from_bytes(body).map_err(Error::Damaged)?;
        let n = keys.len();
        let fit = |weights: &Weights, classes| {
            weights.classes == classes && weights.scales.len() == n && weights.values.len() == n * classes
        };
        let fits = idf.len() == n
            && words <= n
            && fit(&parts.words, Category::ALL.len())
            && fit(&parts.planted.words, 1);
        if !fits {
            return Err(Error::Changed);
        }
        let version = version.to_hex().to_string();
        Ok(Self { version, vocabulary: Vocabulary::new(keys, idf, words), parts })
    }
}

impl Meaning {
    /// The scores of a vector; no evidence for one of another size.
    fn scores(&self, vector: &[f32]) -> Row {
        let Some((bias, rows)) = self.weights.split_last().filter(|(_, rows)| rows.len() == vector.len())
        else {
            return Row::default();
        };
        let mut scores = *bias;
        for (row, value) in rows.iter().zip(vector) {
            scores.iter_mut().zip(row).for_each(|(sum, weight)| *sum += value * weight);
        }
        scores
    }
}
