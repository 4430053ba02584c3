//! A sentence word by word: what support is judged by.

use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;

use crate::figures::{self, Figure};
use crate::lexicon::{Lexicon, Pool};
use crate::terms::{NOT, Terms, is_number};

/// Ways of speaking, longest first where they begin alike, each with the plain words it is compared by.
const PHRASES: &str = "no more than=up to|no greater than=up to|no higher than=up to|no longer than=up to|no longer=stopped|\
no less than=at least|no fewer than=at least|no lower than=at least|no later than=by|no sooner than=at least|no earlier \
than=at least|no worries=|no worry=|no problem=|no doubt=|no cost=free|no charge=free|no fee=free|no fees=free|at no extra \
cost=free|at no extra charge=free|at no cost=free|at no charge=free|not more than=up to|not later than=by|not longer than=up \
to|not only=also|for free=free|free of charge=free|without any charge=free|without any cost=free|without cost=free|without \
charge=free|without charging=free|costs you nothing=free|cost you nothing=free|costs nothing=free|cost nothing=free|costing \
nothing=free|charge you nothing=free|charges nothing=free|charge nothing=free|pay nothing=free|pays nothing=free|half an \
hour=30 minutes|a quarter of an hour=15 minutes|quarter of an hour=15 minutes|half a year=6 months|a fortnight=2 weeks|\
fortnight=2 weeks|noon=12:00|midday=12:00|weekdays=monday to friday|at weekends=saturday and sunday|at the weekend=saturday \
and sunday|weekends=saturday and sunday|weekend=saturday and sunday|per cent=percent|united states of america=usa|united \
states=usa|u s a=usa|u s=usa|united kingdom=uk|u k=uk";

/// The phrases by their first word, with the words that replace them.
static PLAIN: LazyLock<HashMap<&str, Vec<Phrase>>> = LazyLock::new(|| {
    let mut plain: HashMap<&str, Vec<Phrase>> = HashMap::new();
    for (from, to) in PHRASES.split('|').filter_map(|line| line.split_once('=')) {
        let from: Vec<&str> = from.split_whitespace().collect();
        plain.entry(from[0]).or_default().push((from, to.split_whitespace().collect()));
    }
    plain
});

/// Words, and those that replace them.
type Phrase = (Vec<&'static str>, Vec<&'static str>);

/// Words that begin a new part of a sentence.
const JOINTS: [&str; 9] = ["and", "but", "while", "whereas", "unless", "because", "if", "although", "though"];
/// Words that end what a negation before them covers.
const TURNS: [&str; 8] = ["but", "and", "or", "if", "when", "unless", "because", "although"];
/// Content words after a negation that it covers.
const COVERED: usize = 3;

/// One word.
#[derive(Debug, Clone)]
pub(crate) struct Token {
    /// Lower case, as written.
    pub(crate) word: String,
    pub(crate) stem: String,
    /// Whether it says something; negations do.
    pub(crate) content: bool,
    /// Capitalised although no sentence begins with it.
    pub(crate) name: bool,
    /// Whether a part of the sentence begins with it.
    joint: bool,
}

impl Token {
    pub(crate) fn is_not(&self) -> bool {
        self.stem == NOT
    }

    /// Whether it is a content word other than a negation.
    pub(crate) fn is_subject(&self) -> bool {
        self.content && !self.is_not()
    }
}

/// A sentence or a part of one, read.
#[derive(Debug)]
pub(crate) struct Reading {
    pub(crate) tokens: Vec<Token>,
    /// Stems of the content words.
    pub(crate) pool: Pool,
    /// Stems of all words.
    pub(crate) stems: HashSet<String>,
    /// All words as written.
    pub(crate) words: HashSet<String>,
    pub(crate) figures: Vec<Figure>,
    /// Whether it is a question.
    pub(crate) asks: bool,
}

impl Reading {
    pub(crate) fn new(terms: &Terms, lexicon: &Lexicon, text: &str) -> Self {
        Self { asks: text.trim_end().ends_with('?'), ..Self::of(lexicon, tokens(terms, text)) }
    }

    /// The figures a source has to have.
    pub(crate) fn counted(&self) -> impl Iterator<Item = &Figure> {
        self.figures.iter().filter(|figure| figure.counts())
    }

    fn of(lexicon: &Lexicon, tokens: Vec<Token>) -> Self {
        let mut pool = Pool::default();
        tokens.iter().filter(|token| token.content).for_each(|token| pool.add(lexicon, &token.stem));
        Self {
            pool,
            stems: tokens.iter().map(|token| token.stem.clone()).collect(),
            words: tokens.iter().map(|token| token.word.clone()).collect(),
            figures: figures::read(&tokens),
            tokens,
            asks: false,
        }
    }

    /// Its content words without negations, each stem once.
    pub(crate) fn subjects(&self) -> Vec<&Token> {
        let mut seen = HashSet::new();
        self.tokens.iter().filter(|token| token.is_subject() && seen.insert(&token.stem)).collect()
    }

    /// Its parts at commas and conjunctions, each with at least two content words where it has them.
    pub(crate) fn clauses(&self, lexicon: &Lexicon) -> Vec<Self> {
        let mut parts: Vec<Vec<Token>> = Vec::new();
        let is_short = |part: &[Token]| part.iter().filter(|token| token.content).count() < 2;
        for token in &self.tokens {
            match parts.last_mut().filter(|_| !token.joint) {
                Some(part) => part.push(token.clone()),
                None => parts.push(vec![token.clone()]),
            }
        }
        let mut joined: Vec<Vec<Token>> = Vec::new();
        for part in parts {
            match joined.last_mut() {
                Some(last) if is_short(&part) || is_short(last) => last.extend(part),
                _ => joined.push(part),
            }
        }
        joined.into_iter().map(|part| Self::of(lexicon, part)).collect()
    }

    /// For each content stem, whether it stands without and with a negation before it.
    pub(crate) fn polarity(&self) -> HashMap<&str, [bool; 2]> {
        let (mut polarity, mut left) = (HashMap::<&str, [bool; 2]>::new(), 0);
        for token in &self.tokens {
            if token.is_not() {
                left = COVERED;
            } else if token.content {
                polarity.entry(&token.stem).or_default()[usize::from(left > 0)] = true;
                left = left.saturating_sub(1);
            } else if TURNS.contains(&token.word.as_str()) {
                left = 0;
            }
        }
        polarity
    }
}

/// A word before its stem is known.
struct Raw {
    word: String,
    name: bool,
    joint: bool,
}

fn tokens(terms: &Terms, text: &str) -> Vec<Token> {
    let raw = plain(raw(text));
    let mut tokens = Vec::with_capacity(raw.len());
    for Raw { word, name, joint } in raw {
        let joint = joint || JOINTS.contains(&word.as_str());
        if word.ends_with("n't") {
            tokens.push(Token { word, stem: NOT.to_owned(), content: true, name: false, joint });
            continue;
        }
        let stem = terms.stem_of(&word);
        let content = !terms.is_stop(&word);
        tokens.push(Token { name: name && !is_number(&stem), word, stem, content, joint });
    }
    tokens
}

fn raw(text: &str) -> Vec<Raw> {
    let text = text.replace(['’', '‘'], "'");
    let mut found: Vec<Raw> = Vec::new();
    let mut end = 0;
    for range in crate::terms::spans(&text) {
        let gap = &text[end..range.start];
        end = range.end;
        let (own, before) = (&text[range.clone()], text[..range.start].trim_end());
        let begins = found.is_empty() || before.ends_with(['.', '!', '?', ':', '"', '“']);
        let mut word = own.to_lowercase();
        if !word.ends_with("n't") && word != "o'clock" {
            word.truncate(word.find('\'').unwrap_or(word.len()));
        }
        let joint = gap.contains(char::is_whitespace) && gap.trim_end().ends_with([',', ';', ':']);
        // "No, you can" answers; it denies nothing.
        if joint && found.len() == 1 && matches!(found[0].word.as_str(), "no" | "yes") {
            found.clear();
        }
        let name = !begins && own.starts_with(char::is_uppercase) && word != "i";
        found.push(Raw { word, name, joint });
    }
    found
}

/// The words with ways of speaking made plain.
fn plain(words: Vec<Raw>) -> Vec<Raw> {
    let mut found = Vec::with_capacity(words.len());
    let mut at = 0;
    while at < words.len() {
        let known = PLAIN.get(words[at].word.as_str()).into_iter().flatten();
        let matches = |from: &[&str]| {
            from.iter()
                .enumerate()
                .all(|(next, word)| words.get(at + next).is_some_and(|raw| raw.word == *word))
        };
        let phrase = known.into_iter().find(|(from, _)| matches(from));
        match phrase {
            Some((from, to)) => {
                let mut joint = words[at].joint;
                for word in to {
                    found.push(Raw {
                        word: (*word).to_owned(),
                        name: false,
                        joint: std::mem::take(&mut joint),
                    });
                }
                at += from.len();
            }
            None => {
                let Raw { word, name, joint } = &words[at];
                found.push(Raw { word: word.clone(), name: *name, joint: *joint });
                at += 1;
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ways_of_speaking_meet_and_parts_are_found() {
        let terms = Terms::new();
        let lexicon = Lexicon::new(&terms);
        let read = |text: &str| Reading::new(&terms, &lexicon, text);
        let stems = |text: &str| read(text).tokens.into_iter().map(|token| token.stem).collect::<Vec<_>>();
        assert_eq!(stems("No, it costs nothing."), stems("It free"));
        assert_eq!(stems("no more than £5"), stems("up to £5"));
        let parts = read("A card costs 5 pounds, and a letter from Dover costs 2 pounds.").clauses(&lexicon);
        assert_eq!(parts.len(), 2);
        assert!(parts[1].tokens.iter().any(|token| token.name && token.word == "dover"));
        assert_eq!(read("cards are not free and open").polarity()["open"], [true, false]);
    }
}
