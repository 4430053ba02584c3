//! What of a request goes into the prompt: of the passages the blocks that help to answer, by value for each token and
//! each thing once, and of the conversation what was said last. Sentences are still checked against the whole passages.

use std::collections::BTreeSet;
use std::ops::Range;

use kit::Violation;
use kit::config::within;
use serde::{Deserialize, Serialize};
use text::BlockKind;

use crate::answer::{Passage, Request};
use crate::asked::Asked;
use crate::evidence::Evidence;
use crate::extract::{Words, similarity};
use crate::lexicon::Pool;
use crate::score::{Run, Scored};
use crate::tokenizer::Tokenizer;

/// Similarity of their words above which one block only repeats another, 0..=1.
const REPEATS: f64 = 0.8;

/// Table `[generator.packing]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Most tokens of all passages together, 0..=1000000; 0 is no limit.
    pub passage_tokens: u64,
    /// Least value of a block of a passage relative to the best, 0..=1; what is below it is left out. 0 keeps all.
    pub floor: f64,
    /// Most tokens of the conversation so far, 0..=1000000; 0 is no limit. What was said last stays.
    pub history_tokens: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { passage_tokens: 800, floor: 0.5, history_tokens: 400 }
    }
}

impl Settings {
    pub(crate) fn validate(&self, found: &mut Vec<Violation>) {
        within("packing.passage_tokens", self.passage_tokens, 0..=1_000_000, found);
        within("packing.floor", self.floor, 0.0..=1.0, found);
        within("packing.history_tokens", self.history_tokens, 0..=1_000_000, found);
    }
}

/// A request as a model gets it.
#[derive(Debug)]
pub(crate) struct Packed {
    /// What the prompt shows.
    pub(crate) shown: Request,
    /// The passages it shows something of, whole: what sentences are checked against.
    pub(crate) whole: Request,
    /// By passage of both: its index in the request.
    pub(crate) origin: Vec<usize>,
    /// Tokens of what is not shown, without the titles and headings of passages.
    pub(crate) left_out: u64,
}

/// A piece of a passage that is shown as a whole or not at all.
struct Piece {
    passage: usize,
    range: Range<usize>,
    section: usize,
    value: f64,
    tokens: u64,
    pool: Pool,
}

/// Packs a request by these settings.
pub(crate) fn pack(
    words: Words<'_>,
    request: &Request,
    settings: &Settings,
    tokenizer: &Tokenizer,
) -> Packed {
    let (kept, left_out) = keep(words, request, settings, tokenizer);
    let chosen = |text: fn(&Passage, &str) -> String| {
        let passages = kept.iter().map(|(passage, shown)| {
            let passage = &request.passages[*passage];
            Passage { text: text(passage, shown), ..passage.clone() }
        });
        Request { passages: passages.collect(), ..request.clone() }
    };
    let mut shown = chosen(|_, shown| shown.to_owned());
    let left_out = left_out + forget(&mut shown, settings.history_tokens, tokenizer);
    let whole = chosen(|passage, _| passage.text.clone());
    Packed { shown, whole, origin: kept.into_iter().map(|(passage, _)| passage).collect(), left_out }
}

/// Leaves out what was said first; returns its tokens.
fn forget(request: &mut Request, most: u64, tokenizer: &Tokenizer) -> u64 {
    if most == 0 {
        return 0;
    }
    let tokens: Vec<u64> = request.history.iter().map(|said| tokenizer.count(&said.text)).collect();
    let mut used = 0;
    let fits = |tokens: &&u64| {
        used += **tokens;
        used <= most
    };
    let first = tokens.len() - tokens.iter().rev().take_while(fits).count();
    request.history.drain(..first);
    tokens[..first].iter().sum()
}

/// The passages of which something is shown, in their order, with what that is; and the tokens of all that is not.
fn keep(
    words: Words<'_>,
    request: &Request,
    settings: &Settings,
    tokenizer: &Tokenizer,
) -> (Vec<(usize, String)>, u64) {
    let Words { terms, lexicon } = words;
    let Request { question, context, passages, .. } = request;
    let as_they_are = || (passages.iter().map(|passage| passage.text.clone()).enumerate().collect(), 0);
    if settings.floor == 0.0 && settings.passage_tokens == 0 {
        return as_they_are();
    }
    let evidence = Evidence::read(terms, lexicon, passages);
    let mut asked = vec![Asked::new(terms, lexicon, question).beside(&Asked::new(terms, lexicon, context))];
    asked.extend(Asked::parts(terms, lexicon, question).into_iter().map(|(_, part)| part));
    let scored = asked.iter().filter_map(|asked| Scored::new(lexicon, &evidence, asked, 1.0));
    let scored: Vec<_> = scored.filter_map(|scored| Some((scored.rank(scored.best()?), scored))).collect();
    let Some((_, first)) = scored.first() else {
        return as_they_are();
    };
    let value = |unit: usize| {
        let relative = scored.iter().map(|(best, scored)| scored.rank(unit) / best);
        relative.fold(0.0, f64::max)
    };
    let mut pieces: Vec<Piece> = runs(first)
        .into_iter()
        .map(|run| {
            let (from, to) = (&evidence.units[*run.start()], &evidence.units[*run.end()]);
            let range = whole_lines(&passages[from.passage].text, from.range.start..to.range.end);
            let tokens = tokenizer.count(&passages[from.passage].text[range.clone()]);
            let mut pool = Pool::default();
            let stems = evidence.units[run.clone()].iter().flat_map(|unit| &unit.own.stems);
            stems.for_each(|stem| pool.add(lexicon, stem));
            let value = run.map(value).fold(0.0, f64::max);
            Piece { passage: from.passage, range, section: to.section, value, tokens, pool }
        })
        .collect();
    let density = |piece: &Piece| piece.value / piece.tokens.max(1) as f64;
    // The best stands above what is merely short.
    pieces.sort_by(|a, b| (b.value >= 1.0).cmp(&(a.value >= 1.0)).then(density(b).total_cmp(&density(a))));
    let all: u64 = pieces.iter().map(|piece| piece.tokens).sum();
    let mut left = if settings.passage_tokens == 0 { u64::MAX } else { settings.passage_tokens };
    let mut chosen: Vec<Piece> = Vec::new();
    for piece in pieces.into_iter().filter(|piece| piece.value >= settings.floor) {
        let repeats = chosen.iter().any(|other| similarity(&other.pool, &piece.pool) > REPEATS);
        if !repeats && (piece.tokens <= left || chosen.is_empty()) {
            left = left.saturating_sub(piece.tokens);
            chosen.push(piece);
        }
    }
    let texts =
        (0..passages.len()).filter_map(|passage| Some((passage, shown(&evidence, passage, &chosen)?)));
    (texts.collect(), all - chosen.iter().map(|piece| piece.tokens).sum::<u64>())
}

/// The sentences in runs that belong together: a block, a list with what leads to it, a table. Headings are none.
fn runs(scored: &Scored<'_>) -> Vec<Run> {
    let units = &scored.evidence.units;
    let mut runs: Vec<Run> = Vec::new();
    for (at, unit) in units.iter().enumerate().filter(|(_, unit)| unit.kind != BlockKind::Heading) {
        let whole = scored.belongs_to(at);
        match runs.last_mut() {
            Some(run) if whole.contains(run.end()) => *run = (*run.start()).min(*whole.start())..=at,
            Some(run) if units[*run.end()].block == unit.block => *run = *run.start()..=at,
            _ => runs.push(at..=at),
        }
    }
    runs
}

/// A range with the marks around it that make it a heading, an item or a row.
fn whole_lines(text: &str, range: Range<usize>) -> Range<usize> {
    let is_mark = |c: char| !c.is_alphabetic() && !"(\"'“".contains(c);
    let (before, after) = (&text[..range.start], &text[range.end..]);
    let line = before.rfind('\n').map_or(0, |at| at + 1);
    let end = after.find('\n').unwrap_or(after.len());
    let start = if before[line..].chars().all(is_mark) { line } else { range.start };
    let end = if after[..end].chars().all(|c| is_mark(c) && !c.is_ascii_digit()) { end } else { 0 };
    start..range.end + end
}

/// What is shown of a passage: the chosen pieces under their headings, in their order; `None` without any.
fn shown(evidence: &Evidence<'_>, passage: usize, chosen: &[Piece]) -> Option<String> {
    let own = || chosen.iter().filter(|piece| piece.passage == passage);
    let sections: BTreeSet<usize> = own().map(|piece| piece.section).collect();
    let heads = evidence.units.iter().filter(|unit| {
        unit.passage == passage && unit.kind == BlockKind::Heading && sections.contains(&unit.section)
    });
    let text = &evidence.passages[passage].text;
    let heads = heads.map(|unit| whole_lines(text, unit.range.clone()));
    let mut ranges: Vec<_> = own().map(|piece| piece.range.clone()).chain(heads).collect();
    ranges.sort_by_key(|range| range.start);
    let pieces: Vec<_> = ranges.into_iter().map(|range| text[range].trim()).collect();
    (!sections.is_empty()).then(|| pieces.join("\n\n"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::answer::Utterance;
    use crate::support::Judge;

    const CARD: &str = "Cards of this bank are made of recycled plastic and come in four colours.\n\n## Freeze a card\n\nTo freeze a \
                        lost card:\n\n1. Open the app.\n2. Tap Freeze.\n\n## Fees\n\n| Service | Price |\n| --- | --- |\n| New \
                        card | 5 pounds |\n| New PIN | free |\n\nWe wish you a pleasant day.";

    fn passage(id: &str, text: &str) -> Passage {
        Passage { document_id: id.to_owned(), text: text.to_owned(), score: 1.0, ..Passage::default() }
    }

    fn packed(question: &str, passages: &[&str], settings: &Settings) -> Packed {
        let judge = Judge::new(0.0);
        let words = Words { terms: &judge.terms, lexicon: &judge.lexicon };
        let passages = passages.iter().enumerate().map(|(id, text)| passage(&id.to_string(), text)).collect();
        let history = ["Do you have cards?", "Yes.", "I lost mine yesterday."]
            .map(|text| Utterance { role: "customer", text: text.to_owned() });
        let request = Request {
            question: question.to_owned(),
            passages,
            history: history.into(),
            ..Request::default()
        };
        pack(words, &request, settings, &Tokenizer::named("o200k_base").unwrap())
    }

    fn shown(packed: &Packed) -> Vec<&str> {
        packed.shown.passages.iter().map(|passage| passage.text.as_str()).collect()
    }

    #[test]
    fn what_helps_is_shown_with_what_belongs_to_it_and_the_rest_is_not() {
        let hours = "Branches are open from nine to five.";
        let packed = packed("How do I freeze a lost card?", &[hours, CARD], &Settings::default());
        let steps = "## Freeze a card\n\nTo freeze a lost card:\n\n1. Open the app.\n2. Tap Freeze.";
        assert_eq!((shown(&packed), &packed.origin), (vec![steps], &vec![1]));
        assert_eq!(packed.whole.passages[0].text, CARD, "sentences are checked against all of it");
    }

    #[test]
    fn a_table_stays_whole_and_each_of_several_questions_keeps_its_answer() {
        let asked = "How do I freeze a lost card? And what is the price of a new PIN?";
        let packed = packed(asked, &[CARD], &Settings::default());
        let text = shown(&packed)[0];
        assert!(text.contains("2. Tap Freeze.") && text.contains("| Service | Price |"), "{text}");
        assert!(text.contains("| New PIN | free |") && !text.contains("pleasant"), "{text}");
    }

    #[test]
    fn what_is_said_twice_is_shown_once_and_a_budget_keeps_the_best() {
        let twice = ["A new card costs 5 pounds.", "A new card costs 5 pounds!"];
        let asked = "What does a new card cost?";
        assert_eq!(shown(&packed(asked, &twice, &Settings::default())), [twice[0]]);
        let blocks =
            "A new card costs 5 pounds.\n\nA new card for a child costs nothing, whatever its colour may be.";
        let tight = Settings { passage_tokens: 8, ..Settings::default() };
        assert_eq!(shown(&packed(asked, &[blocks], &tight)), ["A new card costs 5 pounds."]);
        // The best is shown even where it alone is more than there is room for.
        let none = Settings { passage_tokens: 1, ..Settings::default() };
        assert_eq!(shown(&packed(asked, &[blocks], &none)), ["A new card costs 5 pounds."]);
    }

    #[test]
    fn without_limits_or_a_word_in_common_passages_stay_as_they_are() {
        let off = Settings { passage_tokens: 0, floor: 0.0, history_tokens: 0 };
        let same = ["A new card costs 5 pounds.", "A new card costs 5 pounds."];
        let all = packed("What does a new card cost?", &same, &off);
        assert_eq!((shown(&all).len(), all.shown.history.len()), (2, 3));
        assert_eq!(shown(&packed("Zebras?", &[CARD], &Settings::default())), [CARD]);
    }

    #[test]
    fn what_was_said_last_stays() {
        let settings = Settings { history_tokens: 8, ..Settings::default() };
        let history = packed("And the card?", &[CARD], &settings).shown.history;
        let said: Vec<_> = history.iter().map(|said| said.text.as_str()).collect();
        assert_eq!(said, ["Yes.", "I lost mine yesterday."]);
    }
}
