//! Composes an answer from verbatim sentences of the passages, or abstains.

use text::BlockKind;

use crate::answer::{Citation, Passage, Statement};
use crate::asked::Asked;
use crate::evidence::{Evidence, Unit};
use crate::lexicon::{Lexicon, Pool};
use crate::markup;
use crate::score::{Run, Scored};
use crate::suffice;
use crate::terms::Terms;

/// How the sentence begins that tells which question nothing was found about: the only sentence of an
/// extractive answer that no passage has.
pub const NOTHING_ABOUT: &str = "I found nothing about ";

/// How much the ranks of the passages count, as a power of their scores: best of 1 to 5. With the title of
/// the accepted intent in its query the retriever is right about the document far more often than words of
/// a sentence are.
const RANKED: f64 = 3.0;
/// The same for one of several questions, since the passages were ranked for all of them.
const RANKED_FOR_ALL: f64 = 1.0;
/// Score relative to the best that gets a sentence of the same document into the answer.
const JOINS: f64 = 0.7;
/// The same for a sentence of another document.
const JOINS_FROM_ELSEWHERE: f64 = 0.9;
/// The same for the sentence right after the best.
const CONTINUES: f64 = 0.4;
/// Similarity above which a sentence only repeats another, 0..=1.
const REPEATS: f64 = 0.75;
/// Most questions of a message that are answered one by one; the first ones.
const MAX_PARTS: usize = 3;
/// Most words of a question that are said back.
const MAX_ECHO: usize = 6;

/// An answer made of the passages' own sentences.
#[derive(Debug)]
pub(crate) struct Extract {
    /// How well the passages answer the question, 0..=1.
    pub(crate) support: f64,
    /// What is shown, in order: each piece with the white space before it.
    pub(crate) pieces: Vec<(String, Statement)>,
    /// Sources of the pieces.
    pub(crate) citations: Vec<Citation>,
    /// A sentence that tells which question nothing was found about; empty when there is none.
    pub(crate) unknown: String,
}

/// What questions are compared by.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Words<'a> {
    pub(crate) terms: &'a Terms,
    pub(crate) lexicon: &'a Lexicon,
}

/// Composes the best answer the passages give, of at most `max_sentences` sentences or one list for each
/// question of the message, which may lean on the `context` said before it. `None` when no sentence has to do with
/// it.
pub(crate) fn compose(
    words: Words<'_>,
    message: &str,
    context: &str,
    passages: &[Passage],
    max_sentences: usize,
) -> Option<Extract> {
    let Words { terms, lexicon } = words;
    let evidence = Evidence::read(terms, lexicon, passages);
    let asked = Asked::new(terms, lexicon, message).beside(&Asked::new(terms, lexicon, context));
    let scored = Scored::new(lexicon, &evidence, &asked, RANKED)?;
    let best = scored.best()?;
    let mut support = suffice::support(&scored, best);
    let mut parts = Asked::parts(terms, lexicon, message);
    parts.truncate(MAX_PARTS);
    let mut unknown = Vec::new();
    parts.retain(|(question, _)| match echo(words, &evidence, question) {
        Some(echo) => {
            unknown.push(echo);
            false
        }
        None => true,
    });
    if parts.is_empty() {
        unknown.clear();
    }
    let mut runs = Vec::new();
    for (_, part) in parts.iter().filter(|_| parts.len() > 1) {
        let Some(scored) = Scored::new(lexicon, &evidence, part, RANKED_FOR_ALL) else { continue };
        // One question that is answered is worth an answer.
        support = scored.best().map_or(support, |best| support.max(suffice::support(&scored, best)));
        let shown: usize =
            runs.iter().filter(|run| !is_list(&evidence, run)).map(|run| run.clone().count()).sum();
        let most = max_sentences.div_ceil(parts.len()).min(max_sentences.saturating_sub(shown));
        for run in answer(&scored, most) {
            if !runs.iter().any(|other: &Run| other.contains(run.start()) || other.contains(run.end())) {
                runs.push(run);
            }
        }
    }
    if runs.is_empty() {
        runs = answer(&scored, max_sentences);
    }
    let unknown =
        if unknown.is_empty() { String::new() } else { format!("{NOTHING_ABOUT}{}.", unknown.join(" or ")) };
    let (pieces, citations) = (pieces(&evidence, &runs), cite(&evidence, &runs));
    Some(Extract { support, pieces, citations, unknown })
}

/// What answers one question: a list, or at most `most` sentences.
fn answer(scored: &Scored<'_>, most: usize) -> Vec<Run> {
    let Some(best) = scored.best() else { return Vec::new() };
    match scored.list_around(best) {
        Some(list) => vec![list],
        None => sentences(scored, best, most),
    }
}

/// The words of a question from the first to the last that says something, when no passage knows one of
/// them and they can be said back as they are.
fn echo(words: Words<'_>, evidence: &Evidence<'_>, question: &str) -> Option<String> {
    let Words { terms, lexicon } = words;
    let says = |word: &&str| terms.of(word).iter().any(|stem| !lexicon.is_light(stem));
    let spoken: Vec<&str> = question.split_whitespace().collect();
    let first = spoken.iter().position(says)?;
    let last = spoken.iter().rposition(says)?;
    let known = |stem: &String| {
        !lexicon.is_light(stem) && evidence.known.iter().any(|pool| pool.find(lexicon, stem) > 0.0)
    };
    let echo = spoken[first..=last].join(" ");
    let echo = echo.trim_matches(|c: char| !c.is_alphanumeric());
    let plain = echo.chars().all(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '\'' | '’'));
    (plain && last - first < MAX_ECHO && !terms.of(echo).iter().any(known)).then(|| echo.to_owned())
}

/// Whether a run is shown as a list: steps, items or rows.
fn is_list(evidence: &Evidence<'_>, run: &Run) -> bool {
    evidence.units[*run.start()].block != evidence.units[*run.end()].block
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
        if !in_list && scored.rank(index) >= share * scored.rank(best) && !repeats(units, index, &chosen) {
            add(scored, index, most, &mut chosen);
        }
    }
    runs(scored, &chosen, best)
}

/// Adds a sentence, after what its pronoun points to, or a row after the first of its table, when all fit.
fn add(scored: &Scored<'_>, index: usize, most: usize, chosen: &mut Vec<usize>) {
    let mut needed: Vec<usize> = (scored.antecedent(index)..=index).rev().collect();
    needed.extend(scored.table_head(index));
    needed.retain(|unit| !chosen.contains(unit));
    if chosen.is_empty() {
        needed.truncate(most);
    }
    if chosen.len() + needed.len() <= most {
        chosen.extend(needed);
    }
}

fn repeats(units: &[Unit], index: usize, chosen: &[usize]) -> bool {
    chosen.iter().any(|other| similarity(&units[*other].own, &units[index].own) > REPEATS)
}

/// Jaccard similarity, 0..=1.
pub(crate) fn similarity(a: &Pool, b: &Pool) -> f64 {
    let (a, b) = (&a.stems, &b.stems);
    let common = a.intersection(b).count() as f64;
    common / ((a.len() + b.len()) as f64 - common).max(1.0)
}

/// Chosen units as runs of neighbours in a block: the best and the head of its table first, the others in
/// their order.
fn runs(scored: &Scored<'_>, chosen: &[usize], best: usize) -> Vec<Run> {
    let units = &scored.evidence.units;
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
    let head = scored.table_head(best).unwrap_or(best);
    found.sort_by_key(|run| !run.contains(&best) && !run.contains(&head));
    found
}

/// What is shown of the runs. Steps and items keep their markers, rows their lines.
fn pieces(evidence: &Evidence<'_>, runs: &[Run]) -> Vec<(String, Statement)> {
    let mut found: Vec<(String, Statement)> = Vec::new();
    let (mut block, mut after_list) = (None, false);
    for (citation, run) in runs.iter().enumerate() {
        let list = is_list(evidence, run);
        for index in run.clone() {
            let unit = &evidence.units[index];
            let begins = block.replace(unit.block) != Some(unit.block);
            let gap = match unit.kind {
                BlockKind::Item { number, indent } if begins && list => {
                    let marker = number.map_or_else(|| "-".to_owned(), |number| format!("{number}."));
                    format!("\n{}{marker} ", " ".repeat(indent.min(8)))
                }
                BlockKind::Row => "\n".to_owned(),
                _ if index == *run.start() && (after_list || list) => "\n\n".to_owned(),
                _ => " ".to_owned(),
            };
            let gap = if found.is_empty() { gap.trim_start().to_owned() } else { gap };
            let mut text = markup::plain(evidence.quote(unit));
            if unit.kind == BlockKind::Heading && !text.ends_with(['?', ':']) {
                text.push(':');
            }
            after_list = list || unit.kind == BlockKind::Row;
            found.push((gap, Statement { text, support: 1.0, citation }));
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

    fn composed(question: &str, passages: &[Passage], most: usize) -> Option<Extract> {
        let terms = Terms::new();
        compose(Words { terms: &terms, lexicon: &Lexicon::new(&terms) }, question, "", passages, most)
    }

    fn answer(question: &str) -> Option<(String, Vec<Citation>, f64)> {
        let found = composed(question, &passages(), 5)?;
        let text: String =
            found.pieces.iter().map(|(gap, statement)| format!("{gap}{}", statement.text)).collect();
        for citation in &found.citations {
            assert!(passages()[citation.passage].text.contains(&citation.quote), "{}", citation.quote);
        }
        for (_, statement) in &found.pieces {
            let quote = markup::plain(&found.citations[statement.citation].quote);
            assert!(
                quote.contains(statement.text.trim_end_matches(':')),
                "{} is not in {quote}",
                statement.text
            );
        }
        Some((text, found.citations, found.support))
    }

    #[test]
    fn a_procedure_is_kept_as_steps() {
        let (text, citations, _) = answer("How do I freeze my card?").unwrap();
        assert_eq!(text, "Freeze a card:\n1. Open the app.\n2. Tap Freeze.");
        let quote = "Freeze a card\n\n1. Open the **app**.\n2. Tap [Freeze](https://a.example).";
        assert_eq!(citations[0].quote, quote);
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
    fn the_kind_of_answer_decides_where_words_do_not() {
        let text = "The desk moves money. It takes 2 days.\n\n## Fees\n\nAll fees:\n- Home transfers cost 1 pound.\n\
                    - Urgent transfers cost 9 pounds.\n- A cheque costs 4 pounds.\n\n| Account | Fee |\n|---|---|\n\
                    | Plus | 12 pounds |\n| Basic | 3 pounds |\n";
        let passage = Passage { text: text.to_owned(), score: 1.0, ..Passage::default() };
        let answer = |question| {
            let found = composed(question, std::slice::from_ref(&passage), 5).unwrap();
            found.pieces.iter().map(|(gap, piece)| format!("{gap}{}", piece.text)).collect::<String>()
        };
        assert_eq!(answer("how fast will the desk move it"), "The desk moves money. It takes 2 days.");
        assert_eq!(answer("what's the charge for a cheque"), "A cheque costs 4 pounds.");
        assert_eq!(answer("how much is Plus?"), "Account – Fee\nPlus – 12 pounds");
    }

    #[test]
    fn of_two_questions_the_one_that_nothing_is_found_about_is_said() {
        let unknown =
            |question| composed(question, &passages(), 5).map_or_else(String::new, |found| found.unknown);
        assert_eq!(
            unknown("How do I freeze my card, and do you insure pets?"),
            "I found nothing about insure pets."
        );
        for question in [
            "How do I freeze my card and what does a replacement cost?",
            "How do I freeze my card and do you insure <b>pets</b>?",
            "How do I freeze my card and pets?",
            "Do you insure pets?",
            "Do you insure pets? Can I park?",
        ] {
            assert_eq!(unknown(question), "", "{question}");
        }
        let both = answer("How do I freeze my card and what does a replacement cost?").unwrap().0;
        assert!(both.contains("2. Tap Freeze.\n\nA replacement costs 5 pounds."), "{both}");
    }

    #[test]
    fn support_tells_answers_from_guesses() {
        let known = answer("What does a replacement cost?").unwrap().2;
        let foreign =
            answer("Who painted the ceiling of the church on the hill?").map_or(0.0, |found| found.2);
        assert!(known > 0.3 && foreign < 0.1, "{known} {foreign}");
        assert!(answer("what is it?").is_none() && composed("a card", &[], 5).is_none());
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
            let found = composed("the card a heading", &passages, most);
            assert!(found.is_none_or(|found| found.support <= 1.0 && found.pieces.len() <= most.max(2)));
        }
    }
}
