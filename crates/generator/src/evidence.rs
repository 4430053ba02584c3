//! The passages of a request, cut into sentences that can be quoted and compared.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use text::{Block, BlockKind};

use crate::answer::Passage;
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
    /// Stems of its content words.
    pub(crate) stems: HashSet<String>,
    /// Stems of the headings above it and of the title.
    pub(crate) context: HashSet<String>,
}

/// The sentences of all passages, in their order.
#[derive(Debug)]
pub(crate) struct Evidence<'a> {
    pub(crate) passages: &'a [Passage],
    pub(crate) units: Vec<Unit>,
    /// By passage: the stems of its text, its headings and its title.
    pub(crate) known: Vec<HashSet<String>>,
    frequency: HashMap<String, usize>,
}

impl<'a> Evidence<'a> {
    pub(crate) fn read(terms: &Terms, passages: &'a [Passage]) -> Self {
        let mut units = Vec::new();
        let mut block = 0;
        for (index, passage) in passages.iter().enumerate() {
            let outer: HashSet<String> =
                terms.of(&passage.title).into_iter().chain(terms.of(&passage.heading)).collect();
            let mut context = outer.clone();
            for Block { kind, range } in text::blocks(&passage.text) {
                let sentences = Block { kind, range }.sentences(&passage.text);
                for range in sentences {
                    let stems: HashSet<String> = terms.of(&passage.text[range.clone()]).into_iter().collect();
                    if kind == BlockKind::Heading {
                        context = outer.union(&stems).cloned().collect();
                    }
                    units.push(Unit { passage: index, block, kind, range, stems, context: context.clone() });
                }
                block += 1;
            }
        }
        let mut frequency = HashMap::new();
        for stem in units.iter().flat_map(|unit| &unit.stems) {
            *frequency.entry(stem.clone()).or_default() += 1;
        }
        let mut known = vec![HashSet::new(); passages.len()];
        for unit in &units {
            known[unit.passage].extend(unit.stems.iter().chain(&unit.context).cloned());
        }
        Self { passages, units, known, frequency }
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
