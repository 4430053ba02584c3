//! Scores the sentences of the passages for a question.

use text::BlockKind;

use crate::answer::Passage;
use crate::asked::{Asked, Kind};
use crate::evidence::{Evidence, Unit};
use crate::lexicon::{Lexicon, Pool};

/// Most items of a list that is still shown as a list.
const MAX_ITEMS: usize = 12;
/// Most sentences looked at on each side to find the ends of a list.
const MAX_REACH: usize = 64;
/// Weight of a question's word found in a heading or the title instead of the sentence.
const IN_CONTEXT: f64 = 0.7;
/// Weight of a question's word found in the sentence before or after, in the same block.
const IN_NEIGHBOUR: f64 = 0.4;
/// What a fitting kind of sentence gains, a step for "how" or a number for "how much": as much as 0.3 of
/// the question's words. A question in a customer's own words shares few with the sentence that answers.
const FITS: f64 = 0.3;
/// What a sentence loses that points to one that is not there.
const ORPHANED: f64 = 0.6;
/// Share of a passage's weight that comes from the best passage of its document.
const BY_DOCUMENT: f64 = 0.5;
/// Score relative to the best of a list from which an item fits too.
const FITS_TOO: f64 = 0.8;
/// Words at the beginning of a sentence that point to the one before.
const POINTERS: &str = " it its they their them this these those that he she such both otherwise however then also but \
                        and or so therefore instead here there neither ";

/// Units next to each other in the evidence.
pub(crate) type Run = std::ops::RangeInclusive<usize>;

/// The sentences of the passages with their scores for one question.
pub(crate) struct Scored<'a> {
    pub(crate) evidence: &'a Evidence<'a>,
    pub(crate) lexicon: &'a Lexicon,
    pub(crate) asked: &'a Asked,
    /// By passage: what its rank counts for, 0..=1.
    pub(crate) priors: Vec<f64>,
    /// The question's words with what each says among these passages.
    question: Vec<(String, f64)>,
    scores: Vec<f64>,
}

impl<'a> Scored<'a> {
    /// `power`, from 1 on, is how much the passages' ranks count. `None` when the question has no content
    /// words, or the passages no sentences.
    pub(crate) fn new(
        lexicon: &'a Lexicon,
        evidence: &'a Evidence<'a>,
        asked: &'a Asked,
        power: f64,
    ) -> Option<Self> {
        let weigh = |(stem, weight): &(String, f64)| (stem.clone(), weight * evidence.weight(stem));
        let question: Vec<(String, f64)> = asked.terms.iter().map(weigh).collect();
        let total: f64 = question.iter().map(|(_, weight)| weight).sum();
        if question.is_empty() || evidence.units.is_empty() {
            return None;
        }
        let priors = priors(evidence.passages, power);
        let mut scored = Self { evidence, lexicon, asked, priors, question, scores: Vec::new() };
        let score = |unit: usize| scored.score(unit) / total;
        scored.scores = (0..evidence.units.len())
            .map(|unit| {
                let own: &Unit = &evidence.units[unit];
                (score(unit) + FITS * asked.fit(own.kind, evidence.quote(own))) * scored.priors[own.passage]
            })
            .collect();
        Some(scored)
    }

    /// Weight of the question's words that a sentence answers to.
    fn score(&self, index: usize) -> f64 {
        let units = &self.evidence.units;
        let unit = &units[index];
        let heading = &self.evidence.headings[unit.section];
        let in_context = if self.is_step(index) { 1.0 } else { IN_CONTEXT };
        let neighbours = [index.checked_sub(1), Some(index + 1)];
        let near: Vec<&Unit> = neighbours
            .into_iter()
            .filter_map(|at| units.get(at?))
            .filter(|other| other.block == unit.block)
            .collect();
        let find = |pool: &Pool, stem: &str| pool.find(self.lexicon, stem);
        let found = |stem: &str| {
            let beside = near.iter().map(|other| IN_NEIGHBOUR * find(&other.own, stem)).fold(0.0, f64::max);
            find(&unit.own, stem).max(in_context * find(heading, stem)).max(beside)
        };
        self.question.iter().map(|(stem, weight)| weight * found(stem)).sum()
    }

    /// Whether a unit can stand in an answer: a statement, no heading, code, question or lead-in.
    pub(crate) fn speaks(&self, index: usize) -> bool {
        let unit = &self.evidence.units[index];
        let words = self.evidence.quote(unit);
        !matches!(unit.kind, BlockKind::Heading | BlockKind::Code)
            && !words.ends_with(['?', ':'])
            && (unit.own.stems.len() > 1 || self.list_around(index).is_some())
            && self.table_head(index) != Some(index)
    }

    /// The sentence that answers best, the earlier one among equals; `None` when its passage has no word of
    /// the question. A sentence of the right kind may have none itself.
    pub(crate) fn best(&self) -> Option<usize> {
        let speaking = (0..self.scores.len()).filter(|index| self.speaks(*index));
        let best =
            speaking.reduce(|best, next| if self.rank(next) > self.rank(best) { next } else { best })?;
        let known = &self.evidence.known[self.evidence.units[best].passage];
        let touches = self.question.iter().any(|(stem, _)| known.find(self.lexicon, stem) > 0.0);
        (touches && self.rank(best) > 0.0).then_some(best)
    }

    /// The score of a sentence, less when it points to one that is not there.
    pub(crate) fn rank(&self, index: usize) -> f64 {
        let orphaned = self.is_orphan(index) && self.before(index).is_none();
        self.scores[index] * if orphaned { ORPHANED } else { 1.0 }
    }

    /// Whether a unit is a step of the procedure asked for; its heading then names what it is a step of.
    fn is_step(&self, index: usize) -> bool {
        self.asked.wants(Kind::Steps)
            && matches!(self.evidence.units[index].kind, BlockKind::Item { number: Some(_), .. })
    }

    /// The list a unit is an item of, with the words that lead to it, the heading of steps where there are
    /// none: all of an ordered list, and a bulleted one that a lead-in says what it lists and that answers
    /// as a whole.
    pub(crate) fn list_around(&self, index: usize) -> Option<Run> {
        let units = &self.evidence.units;
        let (first, last) = self.neighbours(index, |kind| matches!(kind, BlockKind::Item { .. }))?;
        let items = units[last].block - units[first].block + 1;
        let ordered = matches!(units[first].kind, BlockKind::Item { number: Some(1), .. });
        let before = first.checked_sub(1).filter(|at| units[*at].passage == units[first].passage);
        let lead = before.filter(|at| {
            let unit = &units[*at];
            unit.kind == BlockKind::Paragraph
                && self.evidence.quote(unit).trim_end_matches('*').ends_with(':')
        });
        let whole = ordered || lead.is_some() && self.is_whole(first..=last, index);
        let heading = before.filter(|at| ordered && units[*at].kind == BlockKind::Heading);
        let lead = lead.map(|lead| self.antecedent(lead)).or(heading);
        (items > 1 && items <= MAX_ITEMS && whole).then(|| lead.unwrap_or(first)..=last)
    }

    /// Whether a list answers as a whole: its items are no sentences, or half of them fit as well as one.
    fn is_whole(&self, list: Run, item: usize) -> bool {
        let units = &self.evidence.units;
        let stands = |unit: &Unit| self.evidence.quote(unit).ends_with('.') && unit.own.stems.len() > 2;
        let fitting = list.clone().filter(|at| self.scores[*at] >= FITS_TOO * self.scores[item]).count();
        !units[list.clone()].iter().all(stands) || 2 * fitting >= list.count()
    }

    /// The units that say something only together with one: its list or its table.
    pub(crate) fn belongs_to(&self, index: usize) -> Run {
        let rows = || self.neighbours(index, |kind| *kind == BlockKind::Row);
        let whole = self.list_around(index).or_else(|| rows().map(|(first, last)| first..=last));
        whole.unwrap_or(index..=index)
    }

    /// The first row of the table a unit is a row of.
    pub(crate) fn table_head(&self, index: usize) -> Option<usize> {
        let (first, last) = self.neighbours(index, |kind| *kind == BlockKind::Row)?;
        (first < last).then_some(first)
    }

    /// First and last of the units of a kind around one of it, in its passage.
    fn neighbours(&self, index: usize, is_kind: impl Fn(&BlockKind) -> bool) -> Option<(usize, usize)> {
        let units = &self.evidence.units;
        let belongs = |at: usize| {
            units.get(at).is_some_and(|unit| unit.passage == units[index].passage && is_kind(&unit.kind))
        };
        if !belongs(index) {
            return None;
        }
        let (mut first, mut last) = (index, index);
        while first > 0 && index - first < MAX_REACH && belongs(first - 1) {
            first -= 1;
        }
        while last - index < MAX_REACH && belongs(last + 1) {
            last += 1;
        }
        Some((first, last))
    }

    /// The statement before a unit in its block.
    pub(crate) fn before(&self, index: usize) -> Option<usize> {
        let units = &self.evidence.units;
        index
            .checked_sub(1)
            .filter(|before| units[*before].block == units[index].block && self.speaks(*before))
    }

    /// The first of the statements that a unit points back to, or itself.
    pub(crate) fn antecedent(&self, index: usize) -> usize {
        let mut at = index;
        while self.is_orphan(at) {
            let Some(before) = self.before(at) else { break };
            at = before;
        }
        at
    }

    /// Whether a sentence begins with a word that points to the one before.
    fn is_orphan(&self, index: usize) -> bool {
        let words = self.evidence.quote(&self.evidence.units[index]);
        let first =
            words.split(|c: char| !c.is_alphanumeric()).find(|word| !word.is_empty()).unwrap_or_default();
        POINTERS.contains(&format!(" {} ", first.to_lowercase()))
    }
}

/// By passage: its score relative to the best to the given power, 0..=1. By rank when there are no scores.
fn priors(passages: &[Passage], power: f64) -> Vec<f64> {
    let finite = |score: f64| if score.is_finite() { score.max(0.0) } else { 0.0 };
    let top = passages.iter().map(|passage| finite(passage.score)).fold(0.0, f64::max);
    let share = |(rank, passage): (usize, &Passage)| {
        if top > 0.0 { finite(passage.score) / top } else { 1.0 / (1.0 + rank as f64) }
    };
    let own: Vec<f64> = passages.iter().enumerate().map(share).collect();
    let of_document = |id: &str| {
        let same = passages.iter().zip(&own).filter(|(passage, _)| passage.document_id == id);
        same.map(|(_, share)| *share).fold(0.0, f64::max)
    };
    let joined = |(passage, own): (&Passage, &f64)| {
        (BY_DOCUMENT * of_document(&passage.document_id) + (1.0 - BY_DOCUMENT) * own).powf(power)
    };
    passages.iter().zip(&own).map(joined).collect()
}
