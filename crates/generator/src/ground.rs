//! Holds a model's words back until each sentence is checked against the passages.

use std::ops::Range;

use text::{Block, BlockKind};

use crate::answer::{Citation, Passage, Request, Statement};
use crate::evidence::Evidence;
use crate::markup;
use crate::support::{Judge, Source};
use crate::tokens::Reading;

/// What the prompt asks a model to write when the passages do not answer.
pub(crate) const NO_ANSWER: &str = "NO_ANSWER";

/// A sentence that may leave, with the white space before it and its source, which the answer has still to
/// number.
#[derive(Debug)]
pub(crate) struct Checked {
    pub(crate) gap: String,
    pub(crate) statement: Statement,
    pub(crate) citation: Citation,
}

/// Collects a model's words and gives out the sentences the passages support.
#[derive(Debug)]
pub(crate) struct Grounder<'a> {
    judge: &'a Judge,
    evidence: Evidence<'a>,
    /// By passage: its sentences, and the index of each among the units.
    sources: Vec<(Source, Vec<usize>)>,
    question: Reading,
    threshold: f64,
    text: String,
    /// Bytes of `text` that are decided.
    decided: usize,
    /// First byte and kind of the block the last released sentence stands in.
    block: Option<(usize, BlockKind)>,
    /// Number of the last released item of the current list.
    number: u32,
    /// Sentences that state something and were held back.
    unsupported: u32,
    /// Introductions such as "The steps are:", which wait for what they introduce.
    introductions: Vec<Checked>,
}

/// A sentence of the model: its block and its bytes.
type Sentence = (Block, Range<usize>);

impl<'a> Grounder<'a> {
    /// Sentences need at least `threshold` support, 0..=1.
    pub(crate) fn new(judge: &'a Judge, request: &'a Request, threshold: f64) -> Self {
        let evidence = Evidence::read(&judge.terms, &judge.lexicon, &request.passages);
        let sources = (0..request.passages.len()).map(|passage| source(judge, &evidence, passage)).collect();
        let question = judge.read(&request.question);
        let text = String::new();
        Self {
            judge,
            evidence,
            sources,
            question,
            threshold,
            text,
            decided: 0,
            block: None,
            number: 0,
            unsupported: 0,
            introductions: Vec::new(),
        }
    }

    /// Everything the model wrote so far.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Sentences so far that state something and were held back.
    pub(crate) fn unsupported(&self) -> u32 {
        self.unsupported
    }

    /// Takes the next words and gives out the sentences that are complete and supported.
    pub(crate) fn push(&mut self, piece: &str) -> Vec<Checked> {
        self.text.push_str(piece);
        // Only white space after a word can show that the sentence before is over.
        if piece.contains(char::is_whitespace) { self.release(false) } else { Vec::new() }
    }

    /// Gives out what is left; `whole` says whether the model finished its last sentence.
    pub(crate) fn finish(&mut self, whole: bool) -> Vec<Checked> {
        let ended = self.text.trim_end().ends_with(['.', '!', '?', ']', '。', '！', '？']);
        if !whole && !ended {
            let sentences = self.sentences();
            if let Some(last) = sentences.last() {
                self.text.truncate(last.1.start);
            }
        }
        self.release(true)
    }

    /// The undecided sentences; markers that follow a full stop belong to it.
    fn sentences(&self) -> Vec<Sentence> {
        let mut found: Vec<Sentence> = Vec::new();
        for block in text::blocks(&self.text) {
            for mut range in block.sentences(&self.text) {
                if range.end <= self.decided {
                    continue;
                }
                range.start = range.start.max(self.decided);
                let own = &self.text[range.clone()];
                let marked = own.len() - after_markers(own).len();
                if let Some((_, last)) = found.last_mut().filter(|_| marked > 0) {
                    last.end = range.start + marked;
                    range.start += marked;
                }
                let trimmed = self.text[range.clone()].trim_start();
                range.start = range.end - trimmed.len();
                if !range.is_empty() {
                    found.push((block.clone(), range));
                }
            }
        }
        found
    }

    fn release(&mut self, all: bool) -> Vec<Checked> {
        let sentences = self.sentences();
        let mut released = Vec::new();
        for (index, (block, range)) in sentences.iter().enumerate() {
            // The next sentence must show a whole word: before that, this one may still grow.
            let (next, after) = sentences
                .get(index + 1)
                .map_or(("", ""), |(_, next)| (&self.text[next.clone()], &self.text[next.end..]));
            let ends = next.contains(char::is_whitespace) || after.starts_with(char::is_whitespace);
            let grown = next.starts_with(|c: char| c != '[') && ends;
            if !all && !grown {
                break;
            }
            self.decided = range.end;
            match self.check(block, range.clone()) {
                Some(checked) if checked.statement.text.ends_with(':') => self.introductions.push(checked),
                Some(checked) => {
                    released.append(&mut self.introductions);
                    released.push(checked);
                }
                None => {}
            }
        }
        released
    }

    fn check(&mut self, block: &Block, range: Range<usize>) -> Option<Checked> {
        let (shown, mut cited) = take_markers(&self.text[range]);
        cited.retain(|passage| *passage < self.evidence.passages.len());
        let text = markup::plain(&shown);
        if block.kind == BlockKind::Heading || text.contains(NO_ANSWER) {
            return None;
        }
        let supported = self.support(&text, &cited).filter(|(support, _)| *support >= self.threshold);
        let Some((support, unit)) = supported else {
            // What states nothing, such as "Sure!", is no claim.
            self.unsupported += u32::from(!self.judge.read(&text).subjects().is_empty());
            return None;
        };
        let gap = self.gap(block);
        let unit = &self.evidence.units[unit];
        let citation = Citation { passage: unit.passage, quote: self.evidence.quote(unit).to_owned() };
        Some(Checked { gap, statement: Statement { text, support, citation: 0 }, citation })
    }

    /// The white space before a sentence of this block, with the marker of a list item that begins. A
    /// dropped step leaves no hole in the numbers.
    fn gap(&mut self, block: &Block) -> String {
        let before = self.block.replace((block.range.start, block.kind));
        let in_list = matches!(before, Some((_, BlockKind::Item { .. })));
        let gap = match block.kind {
            _ if before.is_some_and(|(start, _)| start == block.range.start) => " ".to_owned(),
            BlockKind::Item { number, .. } => {
                self.number = if in_list { self.number + 1 } else { 1 };
                number.map_or_else(|| "\n- ".to_owned(), |_| format!("\n{}. ", self.number))
            }
            _ if in_list => "\n".to_owned(),
            _ => " ".to_owned(),
        };
        if before.is_none() { gap.trim_start().to_owned() } else { gap }
    }

    /// The support of a sentence by the cited passages, or by any passage when those do not support
    /// it, with the sentence to quote. `None` without a content word, or with a figure that no passage has.
    fn support(&self, sentence: &str, cited: &[usize]) -> Option<(f64, usize)> {
        let claim = self.judge.read(sentence);
        let stated = |figure| self.sources.iter().any(|(source, _)| source.states(figure));
        // A figure out of nowhere is the invention that costs most: no score makes up for it.
        if claim.subjects().is_empty() || !claim.counted().all(stated) {
            return None;
        }
        let support = |passage: usize| {
            let (source, units) = &self.sources[passage];
            let (support, sentence) = self.judge.support(&claim, source, &self.question)?;
            Some((support, units[sentence]))
        };
        let best = |passages: &mut dyn Iterator<Item = usize>| {
            passages.filter_map(support).reduce(|best, next| if next.0 > best.0 { next } else { best })
        };
        best(&mut cited.iter().copied())
            .filter(|(support, _)| *support >= self.threshold)
            .or_else(|| best(&mut (0..self.sources.len())))
    }
}

/// The sentences of a passage that can be quoted, and the index of each among the units.
fn source(judge: &Judge, evidence: &Evidence<'_>, passage: usize) -> (Source, Vec<usize>) {
    let own = evidence.units.iter().enumerate().filter(|(_, unit)| unit.passage == passage);
    let (headings, units): (Vec<_>, Vec<_>) = own.partition(|(_, unit)| unit.kind == BlockKind::Heading);
    let Passage { title, heading, .. } = &evidence.passages[passage];
    let mut known = vec![title.as_str(), heading.as_str()];
    known.extend(headings.iter().map(|(_, unit)| evidence.quote(unit)));
    let sentences = units.iter().map(|(_, unit)| evidence.quote(unit));
    (judge.source(sentences, &known), units.iter().map(|(index, _)| *index).collect())
}

/// What follows the markers a text begins with, "[1] [2, 3] Then" -> " Then".
fn after_markers(text: &str) -> &str {
    let mut rest = text;
    while let Some((_, tail)) = marker(rest.trim_start()) {
        rest = tail;
    }
    rest
}

/// The numbers of the marker a text begins with, and what follows it.
fn marker(text: &str) -> Option<(Vec<usize>, &str)> {
    let (inner, tail) = text.strip_prefix('[')?.split_once(']')?;
    let numbers = inner.split([',', ' ']).filter(|part| !part.is_empty());
    let numbers: Option<Vec<usize>> = numbers.map(|part| part.trim_start_matches('^').parse().ok()).collect();
    // A link such as [1](https://...) is no marker.
    numbers.filter(|numbers| !numbers.is_empty() && !tail.starts_with('(')).map(|numbers| (numbers, tail))
}

/// A sentence without its markers, and the passages they name, counted from 0.
fn take_markers(sentence: &str) -> (String, Vec<usize>) {
    let (mut shown, mut cited) = (String::new(), Vec::new());
    let mut rest = sentence;
    while let Some(at) = rest.find('[') {
        let (before, after) = rest.split_at(at);
        shown.push_str(before);
        rest = match marker(after) {
            Some((numbers, tail)) => {
                cited.extend(numbers.into_iter().filter_map(|number| number.checked_sub(1)));
                if tail.starts_with(['.', ',', '!', '?', ';', ':']) || tail.is_empty() {
                    shown.truncate(shown.trim_end().len());
                }
                tail
            }
            None => {
                shown.push('[');
                &after[1..]
            }
        };
    }
    shown.push_str(rest);
    (shown, cited)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "A replacement card costs 5 pounds. It arrives within 3 to 5 working days. A blocked card \
                        cannot be unblocked.\n\n1. Open the app.\n2. Tap Freeze card.\n";

    fn request() -> Request {
        Request { passages: passages(), ..Request::default() }
    }

    fn passages() -> Vec<Passage> {
        let fees = Passage { text: "Cash machines abroad charge 2 pounds.".to_owned(), ..Passage::default() };
        vec![Passage { text: TEXT.to_owned(), title: "Cards".to_owned(), ..Passage::default() }, fees]
    }

    /// The text released, with what each sentence cites, when words arrive in pieces of `size` characters.
    fn ground(words: &str, size: usize) -> (String, Vec<Citation>) {
        let (judge, request) = (Judge::new(0.0), request());
        let mut grounder = Grounder::new(&judge, &request, crate::Config::default().sentence_threshold);
        let characters: Vec<char> = words.chars().collect();
        let mut checked = Vec::new();
        for piece in characters.chunks(size) {
            checked.extend(grounder.push(&piece.iter().collect::<String>()));
        }
        checked.extend(grounder.finish(true));
        let text = checked.iter().map(|one| format!("{}{}", one.gap, one.statement.text)).collect();
        (text, checked.into_iter().map(|one| one.citation).collect())
    }

    #[test]
    fn only_supported_sentences_leave_and_any_split_of_the_stream_gives_the_same() {
        let words = "Sure! A replacement card costs 5 pounds [1]. It costs 7 pounds [1]. It arrives within 3 to 5 \
                     working days. [1] A blocked card can be unblocked [1]. We deliver pizza [9].\n\n1. Open the app \
                     [1].\n2. Sing a song [1].\n3. Tap **Freeze card** [1].";
        let expected = "A replacement card costs 5 pounds. It arrives within 3 to 5 working days.\n1. Open the app.\n2. \
                        Tap Freeze card.";
        for size in [1, 2, 3, 7, 50, 1000] {
            let (text, citations) = ground(words, size);
            assert_eq!(text, expected, "pieces of {size}");
            assert!(
                citations.iter().all(|citation| passages()[citation.passage].text.contains(&citation.quote))
            );
            assert_eq!(citations[1].quote, "It arrives within 3 to 5 working days.");
        }
    }

    #[test]
    fn what_was_held_back_is_counted_where_it_states_something() {
        let (judge, request) = (Judge::new(0.0), request());
        let mut grounder = Grounder::new(&judge, &request, crate::Config::default().sentence_threshold);
        grounder.push(
            "Sure! A replacement card costs 5 pounds [1]. It costs 7 pounds [1]. We deliver pizza [9].",
        );
        grounder.finish(true);
        assert_eq!(grounder.unsupported(), 2);
    }

    #[test]
    fn a_false_or_foreign_citation_is_replaced_by_the_passage_that_supports() {
        let (text, citations) = ground("A replacement card costs 5 pounds [2][7].", 4);
        assert_eq!(text, "A replacement card costs 5 pounds.");
        assert_eq!((citations[0].passage, citations[0].quote.as_str()), (0, text.as_str()));
    }

    #[test]
    fn denial_and_numbers_are_part_of_what_is_checked() {
        assert_eq!(
            ground("A blocked card cannot be unblocked [1].", 9).0,
            "A blocked card cannot be unblocked."
        );
        assert_eq!(ground("A replacement card does not cost 5 pounds [1].", 9).0, "");
        assert_eq!(ground("A replacement card costs 50 pounds [1].", 9).0, "");
        assert_eq!(ground("NO_ANSWER", 9).0, "");
    }

    #[test]
    fn a_figure_that_no_passage_has_never_leaves_whatever_the_threshold() {
        let (judge, request) = (Judge::new(0.0), request());
        let mut grounder = Grounder::new(&judge, &request, 0.0);
        grounder.push("A replacement card costs 50 pounds and arrives within 3 to 5 working days. ");
        assert!(grounder.finish(true).is_empty());
        grounder.push("Cash machines abroad charge two pounds. ");
        assert_eq!(grounder.finish(true).len(), 1);
    }

    #[test]
    fn an_introduction_leaves_with_what_it_introduces_or_not_at_all() {
        let steps = "To freeze the card, open the app:\n\n1. Sing a song [1].\n2. Tap Freeze card [1].";
        let expected = "To freeze the card, open the app:\n1. Tap Freeze card.";
        for size in [1, 7, 1000] {
            assert_eq!(ground(steps, size).0, expected, "pieces of {size}");
            assert_eq!(ground("To freeze the card, open the app:\n\n1. Sing a song [1].", size).0, "");
        }
    }

    #[test]
    fn a_sentence_cut_off_at_the_end_does_not_leave() {
        let (judge, request) = (Judge::new(0.0), request());
        let mut grounder = Grounder::new(&judge, &request, crate::Config::default().sentence_threshold);
        let mut left = grounder.push("A replacement card costs 5 pounds [1]. It arrives within 3 to");
        left.extend(grounder.finish(false));
        assert_eq!(left.len(), 1);
    }
}
