//! Scores the sentences of the passages for a question.

use text::BlockKind;

use crate::evidence::{Evidence, Unit};
use crate::terms::{NOT, Terms, is_number};

/// Most different words of a question that count; the first ones.
const MAX_TERMS: usize = 64;
/// Most items of a list that is still shown as a list.
const MAX_ITEMS: usize = 12;
/// Most sentences looked at on each side to find the ends of a list.
const MAX_REACH: usize = 64;
/// Weight of a question's word found in a heading or the title instead of the sentence.
const IN_CONTEXT: f64 = 0.7;
/// Weight of a question's word found in the sentence before or after, in the same block.
const IN_NEIGHBOUR: f64 = 0.4;
/// Share of a sentence's score that does not depend on the rank of its passage.
const RANK_FREE: f64 = 0.5;
/// What a fitting kind of sentence gains: a step for "how", a number for "how much".
const FITS: f64 = 1.25;
/// What a sentence loses that points to one that is not there.
const ORPHANED: f64 = 0.6;
/// Words added to every question as if they were missing from the passages.
const DOUBT: f64 = 2.0;
/// What shows that a question asks for a procedure.
const HOW: [&str; 6] = [" how ", " what do i", " what should i", " what can i do", " steps", " way to"];
/// What shows that a question asks for an amount or a time.
const HOW_MUCH: &str = " how much| how many| how long| how soon| how old| how early| how late| cost| fee | fees| charge| \
                        price| limit| when | hours";
/// Words at the beginning of a sentence that point to the one before.
const POINTERS: &str = " it its they their them this these those that he she such both otherwise however then also but \
                        and or so therefore instead here there neither ";

/// Units next to each other in the evidence.
pub(crate) type Run = std::ops::RangeInclusive<usize>;

/// The sentences of the passages with their scores for one question.
pub(crate) struct Scored<'a> {
    pub(crate) evidence: &'a Evidence<'a>,
    question: Vec<(String, f64)>,
    scores: Vec<f64>,
    /// Whether the question asks for a procedure.
    how: bool,
    /// Whether the question asks for an amount or a time.
    how_much: bool,
}

impl<'a> Scored<'a> {
    /// `None` when the question has no content words, or the passages no sentences.
    pub(crate) fn new(terms: &Terms, evidence: &'a Evidence<'a>, question: &str) -> Option<Self> {
        let mut question_terms: Vec<(String, f64)> = Vec::new();
        for stem in terms.of(question) {
            let is_new = stem != NOT && question_terms.iter().all(|(known, _)| *known != stem);
            if is_new && question_terms.len() < MAX_TERMS {
                let weight = evidence.weight(&stem);
                question_terms.push((stem, weight));
            }
        }
        let total: f64 = question_terms.iter().map(|(_, weight)| weight).sum();
        if question_terms.is_empty() || evidence.units.is_empty() {
            return None;
        }
        let lower = format!(" {} ", question.to_lowercase());
        let how_much = HOW_MUCH.split('|').any(|cue| lower.contains(cue));
        let how = !how_much && HOW.iter().any(|cue| lower.contains(cue));
        let mut scored = Self { evidence, question: question_terms, scores: Vec::new(), how, how_much };
        let finite = evidence.passages.iter().map(|passage| passage.score).filter(|score| score.is_finite());
        let top = finite.fold(0.0, f64::max);
        let prior = |passage: usize| match evidence.passages[passage].score {
            score if top > 0.0 => {
                if score.is_finite() {
                    (score / top).clamp(0.0, 1.0)
                } else {
                    0.0
                }
            }
            _ => 1.0 / (1.0 + passage as f64),
        };
        let ranked = |passage| RANK_FREE + (1.0 - RANK_FREE) * prior(passage);
        let score = |index| scored.cover(index) / total * ranked(evidence.units[index].passage);
        scored.scores = (0..evidence.units.len()).map(score).collect();
        Some(scored)
    }

    /// Weight of the question's words that a sentence answers to.
    fn cover(&self, index: usize) -> f64 {
        let unit = &self.evidence.units[index];
        let neighbours = [index.checked_sub(1), Some(index + 1)];
        let near = |stem: &str| {
            neighbours
                .iter()
                .flatten()
                .filter_map(|at| self.evidence.units.get(*at))
                .any(|other| other.block == unit.block && other.stems.contains(stem))
        };
        self.question
            .iter()
            .map(|(stem, weight)| {
                weight
                    * if unit.stems.contains(stem) {
                        1.0
                    } else if unit.context.contains(stem) {
                        if self.is_step(index) { 1.0 } else { IN_CONTEXT }
                    } else if near(stem) {
                        IN_NEIGHBOUR
                    } else {
                        0.0
                    }
            })
            .sum()
    }

    /// How well the passages answer, 0..=1: the share of the question's words in the best sentence and
    /// its headings, averaged with the mean share over all passages. `DOUBT` words that nobody asked for
    /// count as missing, so that one matching word proves little. Plain shares separated answerable
    /// from foreign questions better than weighted ones.
    pub(crate) fn support(&self) -> f64 {
        let units = &self.evidence.units;
        let words = self.question.len() as f64 + DOUBT;
        let found = |unit: &Unit| {
            let known = |stem: &str| unit.stems.contains(stem) || unit.context.contains(stem);
            self.question.iter().filter(|(stem, _)| known(stem)).count() as f64 / words
        };
        let speaking = (0..units.len()).filter(|index| self.speaks(*index));
        let best = speaking.map(|index| found(&units[index])).fold(0.0, f64::max);
        let shares = self.evidence.known.iter().map(|known| {
            self.question.iter().filter(|(stem, _)| known.contains(stem)).count() as f64 / words
        });
        (best + shares.sum::<f64>() / self.evidence.known.len() as f64) / 2.0
    }

    /// Whether a unit can stand in an answer: a statement, no heading, code, question or lead-in.
    pub(crate) fn speaks(&self, index: usize) -> bool {
        let unit = &self.evidence.units[index];
        let words = self.evidence.quote(unit);
        !matches!(unit.kind, BlockKind::Heading | BlockKind::Code)
            && !words.ends_with(['?', ':'])
            && (unit.stems.len() > 1 || self.list_around(index).is_some())
    }

    /// The sentence that answers best, the earlier one among equals; `None` when none has to do with the
    /// question.
    pub(crate) fn best(&self) -> Option<usize> {
        let speaking = (0..self.scores.len()).filter(|index| self.speaks(*index));
        let best =
            speaking.reduce(|best, next| if self.rank(next) > self.rank(best) { next } else { best })?;
        (self.scores[best] > 0.0).then_some(best)
    }

    /// The score of a sentence, with what its kind adds and takes away.
    pub(crate) fn rank(&self, index: usize) -> f64 {
        let numbered = self.evidence.units[index].stems.iter().any(|stem| is_number(stem));
        let fits = self.is_step(index) || self.how_much && numbered;
        let orphaned = self.is_orphan(index) && self.before(index).is_none();
        self.scores[index] * if fits { FITS } else { 1.0 } * if orphaned { ORPHANED } else { 1.0 }
    }

    /// Whether a unit is a step of the procedure asked for; its heading then names what it is a step of.
    fn is_step(&self, index: usize) -> bool {
        self.how && matches!(self.evidence.units[index].kind, BlockKind::Item { number: Some(_), .. })
    }

    /// The list a unit is an item of, with the sentence that leads to it: all of an ordered list, and a
    /// bulleted one when a lead-in says what it lists.
    pub(crate) fn list_around(&self, index: usize) -> Option<Run> {
        let units = &self.evidence.units;
        let is_item = |at: usize| {
            units.get(at).is_some_and(|unit| {
                unit.passage == units[index].passage && matches!(unit.kind, BlockKind::Item { .. })
            })
        };
        if !is_item(index) {
            return None;
        }
        let (mut first, mut last) = (index, index);
        while first > 0 && index - first < MAX_REACH && is_item(first - 1) {
            first -= 1;
        }
        while last - index < MAX_REACH && is_item(last + 1) {
            last += 1;
        }
        let items = units[last].block - units[first].block + 1;
        let ordered = matches!(units[first].kind, BlockKind::Item { number: Some(1), .. });
        let lead = first.checked_sub(1).filter(|lead| {
            let unit = &units[*lead];
            unit.passage == units[first].passage
                && unit.kind == BlockKind::Paragraph
                && self.evidence.quote(unit).trim_end_matches('*').ends_with(':')
        });
        let shown = items > 1 && items <= MAX_ITEMS && (ordered || lead.is_some());
        shown.then(|| lead.unwrap_or(first)..=last)
    }

    /// The statement before a unit in its block.
    pub(crate) fn before(&self, index: usize) -> Option<usize> {
        let units = &self.evidence.units;
        index
            .checked_sub(1)
            .filter(|before| units[*before].block == units[index].block && self.speaks(*before))
    }

    /// Whether a sentence begins with a word that points to the one before.
    pub(crate) fn is_orphan(&self, index: usize) -> bool {
        let words = self.evidence.quote(&self.evidence.units[index]);
        let first =
            words.split(|c: char| !c.is_alphanumeric()).find(|word| !word.is_empty()).unwrap_or_default();
        POINTERS.contains(&format!(" {} ", first.to_lowercase()))
    }
}
