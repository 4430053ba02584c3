//! The passages of a request, cut into sentences that can be quoted and compared.

use std::collections::HashMap;
use std::ops::Range;

use text::{Block, BlockKind};

use crate::answer::Passage;
use crate::lexicon::{Lexicon, Pool};
use crate::markup;
use crate::terms::Terms;

/// One sentence of a passage.
#[derive(Debug)]
pub(crate) struct Unit {
    /// Index of the passage.
    pub(crate) passage: usize,
    /// Index of the block among all blocks of all passages.
    pub(crate) block: usize,
    /// What the block is.
    pub(crate) kind: BlockKind,
    /// Bytes of the sentence in the passage's text.
    pub(crate) range: Range<usize>,
    /// Its content words.
    pub(crate) own: Pool,
    /// Index of its section: what stands under one heading.
    pub(crate) section: usize,
}

/// The sentences of all passages, in their order, without those that hide or mark up something: a quote is
/// shown as it stands.
#[derive(Debug)]
pub(crate) struct Evidence<'a> {
    pub(crate) passages: &'a [Passage],
    pub(crate) units: Vec<Unit>,
    /// By section: the content words of its headings and of the title.
    pub(crate) headings: Vec<Pool>,
    /// By passage: the content words of its text, its headings and its title.
    pub(crate) known: Vec<Pool>,
    frequency: HashMap<String, usize>,
}

impl<'a> Evidence<'a> {
    pub(crate) fn read(terms: &Terms, lexicon: &Lexicon, passages: &'a [Passage]) -> Self {
        let (mut units, mut headings, mut known) = (Vec::new(), Vec::new(), Vec::new());
        let mut block = 0;
        let pool = |texts: &[&str]| {
            let mut pool = Pool::default();
            texts.iter().flat_map(|text| terms.of(text)).for_each(|stem| pool.add(lexicon, &stem));
            pool
        };
        for (index, passage) in passages.iter().enumerate() {
            headings.push(pool(&[&passage.title, &passage.heading]));
            known.push(pool(&[&passage.title, &passage.heading, &passage.text]));
            let comments = markup::comments(&passage.text);
            let hidden = |range: &Range<usize>| {
                let covers = |comment: &Range<usize>| comment.start < range.end && range.start < comment.end;
                comments.iter().any(covers) || markup::acts(&passage.text[range.clone()])
            };
            for Block { kind, range } in text::blocks(&passage.text) {
                if kind == BlockKind::Heading {
                    let heading = &passage.text[range.clone()];
                    headings.push(pool(&[&passage.title, &passage.heading, heading]));
                }
                let section = headings.len() - 1;
                let sentences = (Block { kind, range }).sentences(&passage.text);
                for range in sentences.into_iter().filter(|range| !hidden(range)) {
                    let own = pool(&[&passage.text[range.clone()]]);
                    units.push(Unit { passage: index, block, kind, range, own, section });
                }
                block += 1;
            }
        }
        let mut frequency = HashMap::new();
        for stem in units.iter().flat_map(|unit| &unit.own.stems) {
            *frequency.entry(stem.clone()).or_default() += 1;
        }
        Self { passages, units, headings, known, frequency }
    }

    /// Inverse frequency of a stem among the sentences: about 0.7 for one in every sentence, and higher
    /// the rarer it is.
    pub(crate) fn weight(&self, stem: &str) -> f64 {
        let frequency = self.frequency.get(stem).copied().unwrap_or(0) as f64;
        (1.0 + (self.units.len() as f64 + 1.0) / (frequency + 1.0)).ln()
    }

    /// The words of a unit, verbatim.
    pub(crate) fn quote(&self, unit: &Unit) -> &'a str {
        &self.passages[unit.passage].text[unit.range.clone()]
    }
}
