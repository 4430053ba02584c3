//! Composes an answer from verbatim sentences of the passages, or abstains.

use std::collections::HashSet;

use text::BlockKind;

use crate::answer::{Citation, Passage, Statement};
use crate::evidence::{Evidence, Unit};
use crate::markup;
use crate::score::{Run, Scored};
use crate::terms::Terms;

/// Score relative to the best that gets a sentence of the same document into the answer.
const JOINS: f64 = 0.7;
/// The same for a sentence of another document.
const JOINS_FROM_ELSEWHERE: f64 = 0.9;
/// The same for the sentence right after the best.
const CONTINUES: f64 = 0.4;
/// Similarity above which a sentence only repeats another, 0..=1.
const REPEATS: f64 = 0.75;

/// An answer made of the passages' own sentences.
#[derive(Debug)]
pub(crate) struct Extract {
    /// How well the passages answer the question, 0..=1.
    pub(crate) support: f64,
    /// What is shown, in order: each piece with the white space before it.
    pub(crate) pieces: Vec<(String, Statement)>,
    /// Sources of the pieces.
    pub(crate) citations: Vec<Citation>,
}

/// Composes the best answer the passages give, of at most `max_sentences` sentences or one list.
/// `None` when no sentence has to do with the question.
pub(crate) fn compose(
    terms: &Terms,
    question: &str,
    passages: &[Passage],
    max_sentences: usize,
) -> Option<Extract> {
    let evidence = Evidence::read(terms, passages);
    let scored = Scored::new(terms, &evidence, question)?;
    let best = scored.best()?;
    let runs = match scored.list_around(best) {
        Some(list) => vec![list],
        None => sentences(&scored, best, max_sentences),
    };
    Some(Extract {
        support: scored.support(),
        pieces: pieces(&evidence, &runs),
        citations: cite(&evidence, &runs),
    })
}

/// The best sentence and those that add to it.
fn sentences(scored: &Scored<'_>, best: usize, most: usize) -> Vec<Run> {
    let units = &scored.evidence.units;
    let document = |index: usize| &scored.evidence.passages[units[index].passage].document_id;
    let mut order: Vec<usize> =
        (0..units.len()).filter(|index| scored.speaks(*index) && *index != best).collect();
    order.sort_by(|a, b| scored.rank(*b).total_cmp(&scored.rank(*a)).then(a.cmp(b)));
    let mut chosen = Vec::new();
    add(scored, best, most, &mut chosen);
    for index in order {
        let share = if index == best + 1 && units[index].block == units[best].block {
            CONTINUES
        } else if document(index) == document(best) {
            JOINS
        } else {
            JOINS_FROM_ELSEWHERE
        };
        let in_list = scored.list_around(index).is_some();
        if scored.rank(index) >= share * scored.rank(best) && !in_list && !repeats(units, index, &chosen) {
            add(scored, index, most, &mut chosen);
        }
    }
    runs(units, &chosen, best)
}

/// Adds a sentence, after the one its pronoun points to, when both still fit.
fn add(scored: &Scored<'_>, index: usize, most: usize, chosen: &mut Vec<usize>) {
    let mut needed = vec![index];
    let mut at = index;
    while scored.is_orphan(at) {
        let Some(before) = scored.before(at) else { break };
        needed.push(before);
        at = before;
    }
    needed.retain(|unit| !chosen.contains(unit));
    if chosen.is_empty() {
        needed.truncate(most);
    }
    if chosen.len() + needed.len() <= most {
        chosen.extend(needed);
    }
}

fn repeats(units: &[Unit], index: usize, chosen: &[usize]) -> bool {
    chosen.iter().any(|other| similarity(&units[*other].stems, &units[index].stems) > REPEATS)
}

/// Jaccard similarity, 0..=1.
fn similarity(a: &HashSet<String>, b: &HashSet<String>) -> f64 {
    let common = a.intersection(b).count() as f64;
    common / ((a.len() + b.len()) as f64 - common).max(1.0)
}

/// Chosen units as runs of neighbours in a block: the run of the best first, the others in their order.
fn runs(units: &[Unit], chosen: &[usize], best: usize) -> Vec<Run> {
    let mut sorted = chosen.to_vec();
    sorted.sort_unstable();
    let mut found: Vec<Run> = Vec::new();
    for index in sorted {
        match found.last_mut() {
            Some(run) if *run.end() + 1 == index && units[index].block == units[*run.end()].block => {
                *run = *run.start()..=index;
            }
            _ => found.push(index..=index),
        }
    }
    found.sort_by_key(|run| !run.contains(&best));
    found
}

fn pieces(evidence: &Evidence<'_>, runs: &[Run]) -> Vec<(String, Statement)> {
    let mut found: Vec<(String, Statement)> = Vec::new();
    let mut block = None;
    let is_list = |run: &Run| evidence.units[*run.start()].block != evidence.units[*run.end()].block;
    for run in runs {
        for unit in &evidence.units[run.clone()] {
            let begins = block.replace(unit.block) != Some(unit.block);
            let gap = match unit.kind {
                BlockKind::Item { number, indent } if begins && is_list(run) => {
                    let marker = number.map_or_else(|| "-".to_owned(), |number| format!("{number}."));
                    format!("\n{}{marker} ", " ".repeat(indent.min(8)))
                }
                _ => " ".to_owned(),
            };
            let gap = if found.is_empty() { gap.trim_start().to_owned() } else { gap };
            let text = markup::plain(evidence.quote(unit));
            found.push((gap, Statement { text, support: 1.0 }));
        }
    }
    found
}

/// One citation a run, quoting from its first to its last word.
fn cite(evidence: &Evidence<'_>, runs: &[Run]) -> Vec<Citation> {
    runs.iter()
        .map(|run| {
            let (first, last) = (&evidence.units[*run.start()], &evidence.units[*run.end()]);
            let quote = &evidence.passages[first.passage].text[first.range.start..last.range.end];
            Citation { passage: first.passage, quote: quote.to_owned() }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CARD: &str = "Freeze a lost card at once. It can be unfrozen later.\n\n## Freeze a card\n\n1. Open the **app**.\n\
                        2. Tap [Freeze](https://a.example).\n\n## Cost\n\nDoes it cost much? A replacement costs 5 pounds. \
                        It arrives within 3 days.\n\nYou need:\n- a passport\n- a bill\n";

    fn passages() -> Vec<Passage> {
        let other = "A replacement costs 5 pounds. Savings earn 2 percent. | x |";
        [("Lost card", CARD), ("Fees", other)]
            .map(|(title, text)| Passage {
                title: title.to_owned(),
                text: text.to_owned(),
                score: 1.0,
                ..Passage::default()
            })
            .to_vec()
    }

    fn answer(question: &str) -> Option<(String, Vec<Citation>, f64)> {
        let found = compose(&Terms::new(), question, &passages(), 5)?;
        let text: String =
            found.pieces.iter().map(|(gap, statement)| format!("{gap}{}", statement.text)).collect();
        for citation in &found.citations {
            assert!(passages()[citation.passage].text.contains(&citation.quote), "{}", citation.quote);
        }
        for (_, statement) in &found.pieces {
            let quoted = found
                .citations
                .iter()
                .any(|citation| markup::plain(&citation.quote).contains(&statement.text));
            assert!(quoted, "{} is in no quote", statement.text);
        }
        Some((text, found.citations, found.support))
    }

    #[test]
    fn a_procedure_is_kept_as_steps() {
        let (text, citations, _) = answer("How do I freeze my card?").unwrap();
        assert_eq!(text, "1. Open the app.\n2. Tap Freeze.");
        assert_eq!(
            citations[0].quote,
            "1. Open the **app**.\n2. Tap [Freeze](https://a.example).".trim_start_matches("1. ")
        );
    }

    #[test]
    fn the_best_sentence_comes_first_without_repetition_questions_or_headings() {
        let (text, ..) = answer("What does a replacement cost?").unwrap();
        assert!(text.starts_with("A replacement costs 5 pounds."), "{text}");
        assert_eq!(text.matches("A replacement costs").count(), 1, "{text}");
        assert!(!text.contains('?') && !text.contains("Cost "), "{text}");
    }

    #[test]
    fn a_pronoun_brings_the_sentence_it_points_to() {
        let (text, ..) = answer("Will it be unfrozen later?").unwrap();
        assert!(text.starts_with("Freeze a lost card at once. It can be unfrozen later."), "{text}");
    }

    #[test]
    fn a_list_comes_with_the_words_that_lead_to_it() {
        let (text, ..) = answer("Do I need a passport or a bill?").unwrap();
        assert_eq!(text, "You need:\n- a passport\n- a bill");
    }

    #[test]
    fn support_tells_answers_from_guesses() {
        let known = answer("What does a replacement cost?").unwrap().2;
        let foreign =
            answer("Who painted the ceiling of the church on the hill?").map_or(0.0, |found| found.2);
        assert!(known > 0.3 && foreign < 0.1, "{known} {foreign}");
        assert!(answer("what is it?").is_none() && compose(&Terms::new(), "a card", &[], 5).is_none());
    }

    #[test]
    fn odd_passages_do_no_harm() {
        let odd =
            ["", "   \n", "???", "# Only a heading", "| a | b |", "```\ncard", "card", "- card\n- card\n"];
        let passages: Vec<Passage> = odd
            .iter()
            .map(|text| Passage { text: (*text).to_owned(), score: f64::NAN, ..Passage::default() })
            .collect();
        for most in [1, 5] {
            let found = compose(&Terms::new(), "the card a heading", &passages, most);
            assert!(found.is_none_or(|found| found.support <= 1.0 && found.pieces.len() <= most.max(2)));
        }
    }
}
