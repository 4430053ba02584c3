//! Whether two questions ask the same, so that the answer to one may be given to who asks the other. It errs on the side
//! of no: every word that says something must have its like on the other side, and nothing that turns an answer round
//! (a figure, a name, a denial, an opposite, a direction, the kind of question) may differ. A similarity of vectors alone
//! tells none of these apart: a question and its reverse are often nearer than two ways to ask the same.

use std::collections::{BTreeMap, BTreeSet};

use crate::asked::{Asked, Kind};
use crate::figures::Figure;
use crate::lexicon::Lexicon;
use crate::support::Judge;
use crate::terms::is_number;
use crate::tokens::{Reading, Token};

/// Words around a question that ask nothing, beside those that say nothing anyway.
const FILLERS: &str = "hi hello hey please thank thanks cheers dear team question wonder wondering quick quickly sorry hope \
guys folks morning afternoon evening good day advance explain advise clarify idea information info detail details";
/// Words that say nothing about a subject and yet decide what is asked.
const DECISIVE: &str = "again all any anyone before after each ever every few from further into more most off on once only \
other out over own somebody someone through under until up without both still soon often";
/// Likeness of two questions from which on every word counts: what differs in one word mostly differs on purpose.
const ALIKE: f64 = 0.5;
/// Least cosine of two questions that mean the same in other words.
const LEAST_COSINE: f32 = 0.72;
/// Most words of a question that are compared in their order.
const MAX_WORDS: usize = 64;
/// Where something goes, by the word before it.
const FROM: [&str; 4] = ["from", "off", "out", "leaving"];
const TO: [&str; 4] = ["to", "into", "onto", "towards"];
/// Shortest word that may be mistyped: in a shorter one a letter makes another word.
const TYPED: usize = 6;

/// A question, read.
#[derive(Debug)]
pub(crate) struct Question {
    reading: Reading,
    kinds: BTreeSet<u8>,
    /// What asks: "how", "why", and of "how long" both words.
    asks: BTreeSet<&'static str>,
}

impl Question {
    pub(crate) fn read(judge: &Judge, text: &str) -> Self {
        let asked = Asked::new(&judge.terms, &judge.lexicon, text);
        let kinds = KINDS.into_iter().filter(|(kind, _)| asked.wants(*kind)).map(|(_, number)| number);
        let reading = judge.read(text);
        let asks = asks(&reading);
        Self { kinds: kinds.collect(), reading, asks }
    }
}

/// The kinds of answers that tell questions apart.
const KINDS: [(Kind, u8); 5] =
    [(Kind::Amount, 0), (Kind::Time, 1), (Kind::Place, 2), (Kind::Reason, 3), (Kind::Contact, 4)];

/// Words that ask, each with what it is compared as.
const ASKS: [(&str, &str); 14] = [
    ("how", "how"),
    ("hows", "how"),
    ("why", "why"),
    ("where", "where"),
    ("wheres", "where"),
    ("when", "when"),
    ("whens", "when"),
    ("who", "who"),
    ("whom", "who"),
    ("whose", "who"),
    ("which", "which"),
    ("long", "long"),
    ("much", "much"),
    ("many", "much"),
];

fn asks(reading: &Reading) -> BTreeSet<&'static str> {
    let word = |token: &Token| ASKS.iter().find(|(word, _)| *word == token.word).map(|(_, asks)| *asks);
    reading.tokens.iter().filter_map(word).collect()
}

/// Whether the answer to one may be given to who asks the other, whose vectors have this cosine, where they have any.
pub(crate) fn same(lexicon: &Lexicon, one: &Question, other: &Question, cosine: Option<f32>) -> bool {
    let (a, b) = (&one.reading, &other.reading);
    let both = |holds: &dyn Fn(&Reading, &Reading) -> bool| holds(a, b) && holds(b, a);
    let turned = |own: &Reading, its: &Reading| {
        own.tokens.iter().any(|token| lexicon.opposes(&token.stem, &own.stems, &its.stems))
    };
    let agree = one.kinds == other.kinds
        && denials(a) == denials(b)
        && polarity_agrees(a, b)
        && both(&|own, its| has_figures(&own.figures, &its.figures) && !turned(own, its))
        && goes(a).iter().all(|(stem, from)| goes(b).get(stem).is_none_or(|other| other == from));
    if !agree {
        return false;
    }
    // What is worded alike must say the same word for word; what is not, mean the same.
    let in_words = one.asks == other.asks
        && decisive(a) == decisive(b)
        && both(&|own, its| has_all(lexicon, own, its))
        && in_order(a, b);
    in_words
        || cosine.is_some_and(|cosine| cosine >= LEAST_COSINE) && both(&has_names) && likeness(a, b) < ALIKE
}

/// Whether every name has its like.
fn has_names(own: &Reading, its: &Reading) -> bool {
    own.tokens.iter().filter(|token| token.name).all(|token| its.stems.contains(&token.stem))
}

/// Whether the words that both have stand in the same order.
fn in_order(a: &Reading, b: &Reading) -> bool {
    let common = |own: &Reading, its: &Reading| -> Vec<String> {
        let common = own.tokens.iter().filter(|token| token.is_subject() && its.stems.contains(&token.stem));
        common.map(|token| token.stem.clone()).collect()
    };
    common(a, b) == common(b, a)
}

/// Share of their words that two questions have in common, in their order, 0..=1.
fn likeness(a: &Reading, b: &Reading) -> f64 {
    let words = |reading: &'_ Reading| -> Vec<String> {
        reading.tokens.iter().take(MAX_WORDS).map(|token| token.word.clone()).collect()
    };
    let (own, its) = (words(a), words(b));
    let mut before = vec![0_usize; its.len() + 1];
    for word in &own {
        let mut row = vec![0; its.len() + 1];
        for (at, other) in its.iter().enumerate() {
            row[at + 1] = if word == other { before[at] + 1 } else { row[at].max(before[at + 1]) };
        }
        before = row;
    }
    2.0 * before[its.len()] as f64 / (own.len() + its.len()).max(1) as f64
}

/// Whether every word that says something has its like.
fn has_all(lexicon: &Lexicon, own: &Reading, its: &Reading) -> bool {
    let has = |token: &Token| {
        its.pool.find(lexicon, &token.stem) > 0.0
            || !is_number(&token.stem) && its.words.iter().any(|word| mistyped(&token.word, word))
    };
    own.tokens.iter().filter(|token| token.is_subject() && !is_filler(&token.word)).all(has)
}

fn is_filler(word: &str) -> bool {
    FILLERS.split_whitespace().any(|filler| filler == word)
}

fn has_figures(own: &[Figure], its: &[Figure]) -> bool {
    own.iter().all(|figure| its.iter().any(|other| figure.is(other)))
}

/// The small words that decide, in order of the alphabet.
fn decisive(reading: &Reading) -> BTreeSet<&str> {
    let words = reading.tokens.iter().map(|token| token.word.as_str());
    words.filter(|word| DECISIVE.split_whitespace().any(|decisive| decisive == *word)).collect()
}

fn denials(reading: &Reading) -> usize {
    reading.tokens.iter().filter(|token| token.is_not()).count()
}

/// Whether no word is denied on one side only.
fn polarity_agrees(a: &Reading, b: &Reading) -> bool {
    let (own, its) = (a.polarity(), b.polarity());
    own.iter().all(|(stem, sides)| its.get(stem).is_none_or(|other| other == sides))
}

/// For what something goes from or to: whether from.
fn goes(reading: &Reading) -> BTreeMap<&str, bool> {
    let (mut found, mut from) = (BTreeMap::new(), None);
    for token in &reading.tokens {
        match token.word.as_str() {
            word if FROM.contains(&word) => from = Some(true),
            word if TO.contains(&word) => from = Some(false),
            _ if token.is_subject() => {
                if let Some(from) = from.take() {
                    found.insert(token.stem.as_str(), from);
                }
            }
            _ => {}
        }
    }
    found
}

/// Whether one word is the other with one letter wrong, missing or too many, or two exchanged; the first one is right.
fn mistyped(one: &str, other: &str) -> bool {
    let (a, b): (Vec<char>, Vec<char>) = (one.chars().collect(), other.chars().collect());
    let (short, long) = if a.len() <= b.len() { (&a, &b) } else { (&b, &a) };
    if short.len() < TYPED || long.len() - short.len() > 1 || short[0] != long[0] {
        return false;
    }
    let at = short.iter().zip(long.iter()).take_while(|(a, b)| a == b).count();
    let rest = |word: &[char], skip: usize| word.get(at + skip..).unwrap_or_default().to_vec();
    if long.len() > short.len() {
        return rest(short, 0) == rest(long, 1);
    }
    let swapped = at + 1 < a.len() && a[at] == b[at + 1] && a[at + 1] == b[at] && rest(&a, 2) == rest(&b, 2);
    rest(&a, 1) == rest(&b, 1) || swapped
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Deserialize)]
    struct Pair {
        a: String,
        b: String,
        kind: String,
    }

    /// Of the pairs that ask the same and of the others: how many, and how many are taken for the same.
    fn hits(file: &str, encoder: Option<&encoder::Encoder>) -> [(usize, usize); 2] {
        let (judge, mut found) = (Judge::new(0.0), [(0, 0); 2]);
        for line in file.lines() {
            let Pair { a, b, kind } = serde_json::from_str(line).unwrap();
            let cosine = encoder
                .map(|encoder| encoder::cosine(&encoder.embed(&a).unwrap(), &encoder.embed(&b).unwrap()));
            let read = |text: &str| Question::read(&judge, text);
            let hit = same(&judge.lexicon, &read(&a), &read(&b), cosine);
            assert!(kind == "same" || crate::cache::words(&a) != crate::cache::words(&b), "{a} | {b}");
            let (n, taken) = &mut found[usize::from(kind != "same")];
            (*n, *taken) = (*n + 1, *taken + usize::from(hit));
            if hit && kind != "same" {
                println!("{kind}: {a} | {b}");
            }
        }
        found
    }

    #[test]
    fn other_words_for_the_same_are_told_from_what_only_looks_like_it() {
        let encoder = encoder::Encoder::open(&kit::config::Encoder::default());
        let encoder = encoder.expect("the pairs need the encoder: run `make models`");
        let (dev, test) = (include_str!("../pairs/dev.jsonl"), include_str!("../pairs/test.jsonl"));
        for (name, file, encoder) in [
            ("dev", dev, None),
            ("dev", dev, Some(&encoder)),
            ("test", test, None),
            ("test", test, Some(&encoder)),
        ] {
            let [(same, hits), (others, false_hits)] = hits(file, encoder);
            let tier = if encoder.is_some() { "dense" } else { "linear" };
            println!("{name}, {tier}: {hits} of {same} hit, {false_hits} of {others} falsely");
            assert!(100 * false_hits <= others, "{false_hits} of {others} falsely");
            assert!(encoder.is_none() || 100 * hits >= 30 * same, "{hits} of {same}");
        }
    }

    #[test]
    fn mistyped_words_are_told_from_others() {
        for (one, other, is) in [
            ("reciept", "receipt", true),
            ("transfr", "transfer", true),
            ("subscripton", "subscription", true),
            ("refundd", "refund", true),
            ("send", "lend", false),
            ("deposit", "depot", false),
            ("incoming", "outgoing", false),
        ] {
            assert_eq!(mistyped(one, other), is, "{one} {other}");
        }
    }
}
