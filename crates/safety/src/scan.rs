//! Finds weighted phrases and rules in a text, in time linear in its length: one automaton looks for all
//! phrases and for the first words of all rules, and only there a rule itself is tried.

use std::collections::BTreeMap;

use aho_corasick::{AhoCorasick, AhoCorasickBuilder, MatchKind};
use regex::{Regex, RegexSet};

use crate::decode::{View, words};
use crate::error::Error;
use crate::lexicon::{Lexicon, sets};
use crate::policy::{Category, Scores};
use crate::rule::{Rule, Sets};
use crate::screen::PLANTED;

/// Shortest phrase, in bytes without its spaces, looked for in words that were spaced out letter by letter.
const RUN_TOGETHER_BYTES: usize = 12;
/// Lowest weight of a phrase looked for there.
const RUN_TOGETHER_WEIGHT: f64 = 0.6;

/// Categories in which what the lexicons find counts whatever the guard thinks of the text: a miss is dear there,
/// and their phrases hardly have another meaning.
const CERTAIN: [Category; 3] = [Category::SelfHarm, Category::PromptInjection, Category::PromptExtraction];
/// How much of what they find counts in the others.
const ELSEWHERE: f64 = 0.5;

/// Compiled lexicons.
#[derive(Debug)]
pub(crate) struct Scanner {
    automaton: AhoCorasick,
    /// What each pattern of the automaton means.
    starts: Vec<Start>,
    rules: Vec<Rule>,
    entries: Vec<Entry>,
    /// Phrases without their spaces, and the entry of each.
    run_together: (AhoCorasick, Vec<usize>),
    markup: RegexSet,
    /// The entry of each regular expression of `markup`.
    marked: Vec<usize>,
}

#[derive(Debug)]
struct Entry {
    category: Category,
    /// 0..=1, or `None` for what is ordinary.
    weight: Option<f64>,
    /// Whether all of it counts whatever the guard thinks.
    certain: bool,
}

#[derive(Debug)]
struct Start {
    entry: usize,
    /// The place of the rule to try where the pattern is found; a phrase has none.
    rule: Option<usize>,
}

/// The entries found in a text, each once, in ascending order.
pub(crate) type Found = Vec<usize>;

impl Scanner {
    /// The built-in lexicons and those of a bundle.
    pub(crate) fn everywhere(own: &[Lexicon]) -> Result<Self, Error> {
        let (baseline, _) = Lexicon::baseline()?;
        Self::new(baseline.iter().chain(own))
    }

    /// Those of them that make a passage unusable, with what is looked for in passages alone.
    pub(crate) fn in_passages(own: &[Lexicon]) -> Result<Self, Error> {
        let (baseline, planted) = Lexicon::baseline()?;
        let injections =
            |lexicon: &&Lexicon| lexicon.category().is_ok_and(|category| PLANTED.contains(&category));
        Self::new(baseline.iter().chain(own).filter(injections).chain(&planted))
    }

    /// Compiles lexicons.
    pub(crate) fn new<'a>(lexicons: impl IntoIterator<Item = &'a Lexicon>) -> Result<Self, Error> {
        let refuse =
            |message: String| Error::Pattern { file: "lexicons".into(), pattern: "all".into(), message };
        let sets = Sets::new(&sets()?).map_err(refuse)?;
        let mut build = Build::default();
        for lexicon in lexicons {
            build.add(lexicon, &sets)?;
        }
        let automaton = AhoCorasickBuilder::new().match_kind(MatchKind::Standard).build(&build.patterns);
        let markup = RegexSet::new(&build.markup).map_err(|error| refuse(error.to_string()))?;
        let mut joined = (Vec::new(), Vec::new());
        for (pattern, start) in
            build.patterns.iter().zip(&build.starts).filter(|(_, start)| start.rule.is_none())
        {
            let joins = pattern.replace(' ', "");
            let telling =
                build.entries[start.entry].weight.is_some_and(|weight| weight >= RUN_TOGETHER_WEIGHT);
            if telling && joins.len() >= RUN_TOGETHER_BYTES {
                joined.0.push(joins);
                joined.1.push(start.entry);
            }
        }
        let run_together = AhoCorasick::new(joined.0).map_err(|error| refuse(error.to_string()))?;
        Ok(Self {
            run_together: (run_together, joined.1),
            automaton: automaton.map_err(|error| refuse(error.to_string()))?,
            starts: build.starts,
            rules: build.rules,
            entries: build.entries,
            markup,
            marked: build.marked,
        })
    }

    /// What is found in any of the views and not excused there.
    pub(crate) fn find(&self, views: &[View]) -> Found {
        let mut found: Found = views.iter().flat_map(|view| self.find_in(view)).collect();
        found.sort_unstable();
        found.dedup();
        found
    }

    fn find_in(&self, view: &View) -> Found {
        let mut hits = Vec::new();
        let mut ordinary: BTreeMap<Category, Vec<(usize, usize)>> = BTreeMap::new();
        for start in self.automaton.find_overlapping_iter(&view.words) {
            let Start { entry, rule } = &self.starts[start.pattern().as_usize()];
            let end = match rule {
                None => start.end(),
                // The pattern begins with the space before the first word.
                Some(rule) => match self.rules[*rule].end(&view.words, start.start() + 1) {
                    Some(end) => end,
                    None => continue,
                },
            };
            let Entry { category, weight, .. } = self.entries[*entry];
            if weight.is_some() {
                hits.push((*entry, start.start(), end));
            } else {
                ordinary.entry(category).or_default().push((start.start(), end));
            }
        }
        ordinary.values_mut().for_each(merge);
        let counts = |(entry, start, end): &(usize, usize, usize)| {
            let spans = ordinary.get(&self.entries[*entry].category);
            !spans.is_some_and(|spans| contains(spans, *start, *end))
        };
        let mut found: Found = hits.iter().filter(|hit| counts(hit)).map(|hit| hit.0).collect();
        if view.joined {
            let (automaton, entries) = &self.run_together;
            found.extend(
                automaton.find_overlapping_iter(&view.words).map(|at| entries[at.pattern().as_usize()]),
            );
        }
        found.extend(self.markup.matches(&view.normal).iter().map(|at| self.marked[at]));
        found
    }

    /// Scores of what was found: independent evidence, 1 - (1 - a)(1 - b)...
    pub(crate) fn score(&self, found: &[usize]) -> Scores {
        self.sum(found, |_| 1.0)
    }

    /// The share of the scores that counts whatever the guard thinks of the text.
    pub(crate) fn certain(&self, found: &[usize]) -> Scores {
        self.sum(found, |entry| if entry.certain { 1.0 } else { ELSEWHERE })
    }

    fn sum(&self, found: &[usize], share: impl Fn(&Entry) -> f64) -> Scores {
        let mut rest = [1.0; Category::ALL.len()];
        for entry in found.iter().filter_map(|entry| self.entries.get(*entry)) {
            rest[entry.category as usize] *= 1.0 - share(entry) * entry.weight.unwrap_or(0.0);
        }
        rest.map(|rest| 1.0 - rest)
    }
}

/// Sorts spans and joins those that touch.
fn merge(spans: &mut Vec<(usize, usize)>) {
    spans.sort_unstable();
    spans.dedup_by(|next, last| {
        let joined = next.0 < last.1;
        if joined {
            last.1 = last.1.max(next.1);
        }
        joined
    });
}

/// Whether one of the disjoint, sorted spans holds the whole of `start..end`.
fn contains(spans: &[(usize, usize)], start: usize, end: usize) -> bool {
    let at = spans.partition_point(|span| span.0 <= start);
    at.checked_sub(1).and_then(|at| spans.get(at)).is_some_and(|span| span.1 >= end)
}

#[derive(Default)]
struct Build {
    patterns: Vec<String>,
    starts: Vec<Start>,
    rules: Vec<Rule>,
    entries: Vec<Entry>,
    markup: Vec<String>,
    marked: Vec<usize>,
}

impl Build {
    fn add(&mut self, lexicon: &Lexicon, sets: &Sets) -> Result<(), Error> {
        let category = lexicon.category()?;
        for (weighted, kind) in lexicon
            .terms
            .iter()
            .map(|group| (group, Kind::Phrase))
            .chain(lexicon.rules.iter().map(|group| (group, Kind::Rule)))
            .chain(lexicon.markup.iter().map(|group| (group, Kind::Markup)))
        {
            if !(0.0..=1.0).contains(&weighted.weight) {
                let (file, value) = (lexicon.file.clone(), weighted.weight);
                let key = format!("weight of \"{}\"", weighted.patterns.join("\", \""));
                return Err(Error::OutOfRange { file, key, value, allowed: "0..=1" });
            }
            for pattern in &weighted.patterns {
                self.pattern(lexicon, category, Some(weighted.weight), kind, pattern, sets)?;
            }
        }
        for phrase in &lexicon.ordinary.terms {
            self.pattern(lexicon, category, None, Kind::Phrase, phrase, sets)?;
        }
        for rule in &lexicon.ordinary.rules {
            self.pattern(lexicon, category, None, Kind::Rule, rule, sets)?;
        }
        Ok(())
    }

    fn pattern(
        &mut self,
        lexicon: &Lexicon,
        category: Category,
        weight: Option<f64>,
        kind: Kind,
        pattern: &str,
        sets: &Sets,
    ) -> Result<(), Error> {
        let refuse = |message: String| Error::Pattern {
            file: lexicon.file.clone(),
            pattern: pattern.to_owned(),
            message,
        };
        let entry = self.entries.len();
        let certain = lexicon.own || CERTAIN.contains(&category);
        self.entries.push(Entry { category, weight, certain });
        match kind {
            Kind::Phrase => {
                self.patterns.push(phrase(pattern).ok_or_else(|| refuse("holds no word".into()))?);
                self.starts.push(Start { entry, rule: None });
            }
            Kind::Rule => {
                let rule = Rule::new(pattern, sets).map_err(refuse)?;
                for start in rule.starts() {
                    self.patterns.push(start);
                    self.starts.push(Start { entry, rule: Some(self.rules.len()) });
                }
                self.rules.push(rule);
            }
            Kind::Markup => {
                Regex::new(pattern).map_err(|error| refuse(error.to_string()))?;
                self.markup.push(pattern.to_owned());
                self.marked.push(entry);
            }
        }
        Ok(())
    }
}

#[derive(Clone, Copy)]
enum Kind {
    Phrase,
    Rule,
    Markup,
}

/// A phrase as the automaton looks for it in the words of a text; `None` when nothing is left of it.
fn phrase(written: &str) -> Option<String> {
    let open = written.strip_suffix('*');
    let words = words(&text::normalise(open.unwrap_or(written)));
    let bare = words.trim();
    if !bare.contains(char::is_alphanumeric) {
        return None;
    }
    // Words of scripts without spaces are found anywhere.
    let left = if bare.starts_with(is_unspaced) { "" } else { " " };
    let right = if open.is_some() || bare.ends_with(is_unspaced) { "" } else { " " };
    Some(format!("{left}{bare}{right}"))
}

fn is_unspaced(c: char) -> bool {
    matches!(c, '\u{e00}'..='\u{e7f}' | '\u{3040}'..='\u{30ff}' | '\u{3400}'..='\u{9fff}' | '\u{ac00}'..='\u{d7af}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::views;
    use crate::lexicon::{Ordinary, Weighted};

    fn lexicon(phrase: &str, weight: f64) -> Lexicon {
        let terms = vec![bundle::Term { phrase: phrase.into(), weight }];
        Lexicon::of_bundle("safety/lexicons", bundle::Lexicon { category: "fraud".into(), terms })
    }

    fn scanner(terms: &[&str], rules: &[&str], ordinary: &[&str]) -> Scanner {
        let group = |patterns: &[&str]| {
            vec![Weighted { weight: 0.5, patterns: patterns.iter().map(ToString::to_string).collect() }]
        };
        let mut lexicon = lexicon("unused", 0.5);
        (lexicon.terms, lexicon.rules) = (group(terms), group(rules));
        lexicon.ordinary =
            Ordinary { terms: ordinary.iter().map(ToString::to_string).collect(), rules: vec![] };
        Scanner::new([&lexicon]).unwrap()
    }

    fn score(scanner: &Scanner, text: &str) -> f64 {
        scanner.score(&scanner.find(&views(text)))[Category::Fraud as usize]
    }

    #[test]
    fn phrases_are_whole_words_and_evidence_adds_up_once_each() {
        let scanner = scanner(&["gift card", "scam*", "诈骗"], &[], &[]);
        assert_eq!(score(&scanner, "a Gift, card!"), 0.5);
        assert_eq!(score(&scanner, "gift cards"), 0.0);
        assert_eq!(score(&scanner, "gift card gift card scammer"), 0.75);
        assert_eq!(score(&scanner, "我被诈骗了"), 0.5);
    }

    #[test]
    fn what_is_ordinary_excuses_itself_and_nothing_else() {
        let scanner = scanner(&["kill"], &[], &["kill a pending transfer"]);
        assert_eq!(score(&scanner, "please kill a pending transfer"), 0.0);
        assert_eq!(score(&scanner, "kill a pending transfer or i kill you"), 0.5);
    }

    #[test]
    fn a_wrong_rule_is_told_its_file_and_its_fault() {
        let text = Scanner::new([&lexicon("!!", 0.5)]).unwrap_err().to_string();
        assert_eq!(text, "safety/lexicons: \"!!\" holds no word");
        assert!(matches!(Scanner::new([&lexicon("a", 1.5)]), Err(Error::OutOfRange { .. })));
    }
}
