//! How well a passage supports a sentence, 0..=1: words, order, numbers, names, denial and scope.

use std::collections::{HashMap, HashSet};

use crate::alignment;
use crate::figures::Figure;
use crate::lexicon::{Lexicon, Pool};
use crate::terms::{Terms, is_number};
use crate::tokens::{Reading, Token};

/// Name of this judge; the number grows with every change of its weights.
pub(crate) const JUDGE: &str = "support/1";

/// A word counts as matched in the best sentence from this on.
const MATCHED: f64 = 0.7;
/// Farthest that two neighbouring words may stand apart in the source and still be in order.
const MAX_DISTANCE: usize = 3;

/// New words, in words of common weight, from which on more make no difference.
const MANY: f64 = 1.5;

/// Features of a sentence beside a passage, each 0..=1, with the weight of each: a logistic regression
/// fitted on public dialogue turns, on written contrast pairs of support answers, and on right answers
/// beside a foreign passage. Signs are fixed, and what contradicts has a least weight: without, the fit
/// learns that free rewording is true, as it is in contrast pairs, and lets denials pass.
const WEIGHTS: [(&str, f64); 20] = [
    ("covered by the best sentence", 0.48),
    ("words not in the question covered by the passage", 1.73),
    ("every figure is there", 1.3),
    ("verbatim", 1.74),
    ("speaks of itself", -3.03),
    ("asks", -2.43),
    ("words of talk", -1.79),
    ("a figure is missing", -0.79),
    ("a figure is missing in a near copy", -3.75),
    ("a figure or name belongs to something else", -3.0),
    ("a name is missing", -1.17),
    ("a name is missing in a near copy", -3.75),
    ("denials differ in a near copy", -3.75),
    ("a word is denied on one side", -3.0),
    ("an opposite in a near copy", -3.75),
    ("words moved in a near copy", -2.25),
    ("order turned in a near copy", -1.5),
    ("wider scope in a near copy", -4.5),
    ("how near a copy it is", 2.13),
    ("new words in a near copy", -3.81),
];
/// Added to the weighted features.
const BIAS: f64 = -1.52;
/// Share of words that the source has from which on their weight speaks for a sentence: what separates grounded
/// dialogue turns from others best.
const SHARED: f64 = 0.6;

/// The features in the order of the weights.
pub(crate) type Features = [f64; WEIGHTS.len()];

/// What a sentence is held against: the sentences of one passage.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) sentences: Vec<Reading>,
    /// Parts of the sentences, each with the index of its sentence.
    clauses: Vec<(usize, Reading)>,
    /// Content stems of all sentences, and of the headings above them.
    known: Pool,
    stems: HashSet<String>,
    words: HashSet<String>,
    /// Figures of all sentences, and of the headings above them.
    figures: Vec<Figure>,
}

impl Source {
    /// Whether a figure stands in it, in whatever notation.
    pub(crate) fn states(&self, figure: &Figure) -> bool {
        self.figures.iter().any(|known| figure.is(known))
    }
}

/// Judges sentences.
#[derive(Debug)]
pub(crate) struct Judge {
    pub(crate) terms: Terms,
    pub(crate) lexicon: Lexicon,
    /// Weight of the share of words that the source has, beside the features.
    pub(crate) overlap_weight: f64,
}

impl Judge {
    pub(crate) fn new(overlap_weight: f64) -> Self {
        let terms = Terms::new();
        Self { lexicon: Lexicon::new(&terms), terms, overlap_weight }
    }

    pub(crate) fn read(&self, text: &str) -> Reading {
        Reading::new(&self.terms, &self.lexicon, text)
    }

    /// Reads a passage of these sentences; words of its headings are known too.
    pub(crate) fn source<'s>(&self, sentences: impl Iterator<Item = &'s str>, headings: &[&str]) -> Source {
        let sentences: Vec<Reading> = sentences.map(|sentence| self.read(sentence)).collect();
        let headings: Vec<Reading> = headings.iter().map(|heading| self.read(heading)).collect();
        let clauses = sentences.iter().enumerate().flat_map(|(at, sentence)| {
            sentence.clauses(&self.lexicon).into_iter().map(move |part| (at, part))
        });
        let mut known = Pool::default();
        for stem in sentences.iter().chain(&headings).flat_map(|reading| &reading.pool.stems) {
            known.add(&self.lexicon, stem);
        }
        Source {
            clauses: clauses.collect(),
            stems: sentences.iter().flat_map(|sentence| sentence.stems.iter().cloned()).collect(),
            words: sentences.iter().flat_map(|sentence| sentence.words.iter().cloned()).collect(),
            figures: sentences
                .iter()
                .chain(&headings)
                .flat_map(|part| part.figures.iter().copied())
                .collect(),
            sentences,
            known,
        }
    }

    /// The support of a sentence by a passage, 0..=1, and the index of the passage's sentence that says it
    /// best. `None` when the passage has no sentence. Words of `question` need no support.
    pub(crate) fn support(
        &self,
        claim: &Reading,
        source: &Source,
        question: &Reading,
    ) -> Option<(f64, usize)> {
        let (features, best) = self.features(claim, source, question)?;
        let sum: f64 = features.iter().zip(&WEIGHTS).map(|(value, (_, weight))| value * weight).sum();
        let shared = claim.words.iter().filter(|word| source.words.contains(*word)).count() as f64;
        let overlap = self.overlap_weight * (shared / claim.words.len().max(1) as f64 - SHARED);
        Some((1.0 / (1.0 + (-sum - BIAS - overlap).exp()), best))
    }

    pub(crate) fn features(
        &self,
        claim: &Reading,
        source: &Source,
        question: &Reading,
    ) -> Option<(Features, usize)> {
        let subjects = claim.subjects();
        let share = |pool: &Pool| self.share(&subjects, pool).unwrap_or(1.0);
        let shares = source.sentences.iter().map(|sentence| share(&sentence.pool)).enumerate();
        let (index, covered) =
            shares.reduce(|best, next| if next.1 > best.1 + 1e-9 { next } else { best })?;
        let best = &source.sentences[index];
        let asked: Vec<&Token> =
            subjects.iter().filter(|token| !question.pool.stems.contains(&token.stem)).copied().collect();
        let common = claim.tokens.iter().filter(|token| best.stems.contains(&token.stem)).count();
        // Differences prove more the more alike two sentences are.
        let near = (common as f64 / claim.tokens.len().max(1) as f64).powi(2);
        let when = |holds: bool| f64::from(u8::from(holds));

        let missing = when(!claim.counted().all(|figure| source.states(figure)));
        let names = asked
            .iter()
            .filter(|token| token.name && source.known.find(&self.lexicon, &token.stem) == 0.0)
            .count();
        let names = names.min(2) as f64 / 2.0;
        let opposite = claim.tokens.iter().any(|token| {
            !best.stems.contains(&token.stem) && self.lexicon.opposes(&token.stem, &claim.stems, &best.stems)
        });
        let talk = claim
            .tokens
            .iter()
            .filter(|token| self.lexicon.is_talk(&token.word) && !source.stems.contains(&token.stem));
        let first = |word: &str| matches!(word, "i" | "me" | "my" | "mine" | "myself");
        let wider = claim.words.iter().any(|word| self.lexicon.is_scope(word) && !best.words.contains(word));
        let features = [
            covered,
            // Who only says the question back answers nothing: then its words need support themselves.
            self.share(&asked, &source.known).unwrap_or_else(|| share(&source.known)),
            when(!claim.figures.is_empty() && missing == 0.0),
            when(alignment::longest_run(claim, best) == claim.tokens.len()),
            when(claim.words.iter().any(|word| first(word)) && !source.words.iter().any(|word| first(word))),
            when(claim.asks),
            talk.count().min(3) as f64 / 3.0,
            missing,
            missing * near,
            self.misplaced(claim, source),
            names,
            names * near,
            when(alignment::denials_differ(claim, best)) * near,
            denied(claim, best).min(2) as f64 / 2.0 * near,
            when(opposite) * near,
            alignment::moved(claim, best).min(4) as f64 / 4.0 * near,
            when(covered > MATCHED && is_turned(claim, best)) * near,
            when(wider) * near,
            near,
            (self.missing(&subjects, &best.pool) / MANY).min(1.0) * near,
        ];
        Some((features, index))
    }

    /// The share of words found, by what each says; `None` without words.
    fn share(&self, words: &[&Token], pool: &Pool) -> Option<f64> {
        let total: f64 = words.iter().map(|token| self.weight(token)).sum();
        (total > 0.0).then(|| 1.0 - self.missing(words, pool) / total)
    }

    /// What words that are not found say, in words of common weight.
    fn missing(&self, words: &[&Token], pool: &Pool) -> f64 {
        let lost = |token: &&Token| self.weight(token) * (1.0 - pool.find(&self.lexicon, &token.stem));
        words.iter().map(lost).sum()
    }

    /// What a word says: numbers and names most, light words least.
    fn weight(&self, token: &Token) -> f64 {
        match token {
            token if is_number(&token.stem) => 1.5,
            token if self.lexicon.is_light(&token.stem) => 0.5,
            token if token.name => 1.5,
            _ => 1.0,
        }
    }

    /// How much better the words around a figure or name fit a part of the passage with another one,
    /// 0..=1.
    fn misplaced(&self, claim: &Reading, source: &Source) -> f64 {
        let mut worst: f64 = 0.0;
        for clause in claim.clauses(&self.lexicon) {
            for figure in clause.counted() {
                let own = figure.tokens.0..figure.tokens.1;
                let rest = clause.tokens.iter().enumerate().filter(|(at, _)| !own.contains(at));
                let has = |part: &Reading| part.figures.iter().any(|known| figure.is(known));
                let rivals = |part: &Reading| part.figures.iter().any(|known| known.kind == figure.kind);
                worst = worst.max(self.gap(rest.map(|(_, token)| token), source, has, rivals));
            }
            for name in clause.tokens.iter().filter(|token| token.name && token.content) {
                let rest = clause.tokens.iter().filter(|token| token.stem != name.stem);
                let has = |part: &Reading| part.pool.find(&self.lexicon, &name.stem) > 0.0;
                let rivals = |part: &Reading| part.tokens.iter().any(|token| token.name);
                worst = worst.max(self.gap(rest, source, has, rivals));
            }
        }
        (2.0 * worst).clamp(0.0, 1.0)
    }

    /// How much better words fit a part with a rival than any part that has the thing itself. Parts of a
    /// sentence that has it are no rivals: "Ann, born in May 1950, is a poet".
    fn gap<'t>(
        &self,
        rest: impl Iterator<Item = &'t Token>,
        source: &Source,
        has: impl Fn(&Reading) -> bool,
        rivals: impl Fn(&Reading) -> bool,
    ) -> f64 {
        let rest: Vec<&Token> = rest.filter(|token| token.is_subject()).collect();
        if rest.len() < 2 {
            return 0.0;
        }
        let (mut own, mut rival) = (0.0_f64, 0.0_f64);
        for (sentence, part) in &source.clauses {
            let fits = self.share(&rest, &part.pool).unwrap_or(0.0);
            if has(part) {
                own = own.max(fits);
            } else if rivals(part) && !has(&source.sentences[*sentence]) {
                rival = rival.max(fits);
            }
        }
        if own > 0.0 { rival - own } else { 0.0 }
    }
}

/// Words that stand with a negation on one side only.
fn denied(claim: &Reading, best: &Reading) -> usize {
    let other = best.polarity();
    let differs = |(stem, own): &(&str, [bool; 2])| {
        other.get(stem).is_some_and(|its| !(own[0] && its[0] || own[1] && its[1]))
    };
    claim.polarity().into_iter().filter(differs).count()
}

/// Whether two neighbouring words of a sentence stand the other way round in its source; "singer and poet"
/// is "poet and singer".
fn is_turned(claim: &Reading, best: &Reading) -> bool {
    let mut places: HashMap<&str, Vec<usize>> = HashMap::new();
    let order = best.tokens.iter().filter(|token| token.is_subject());
    order.enumerate().for_each(|(at, token)| places.entry(&token.stem).or_default().push(at));
    let words: Vec<usize> = (0..claim.tokens.len()).filter(|at| claim.tokens[*at].is_subject()).collect();
    let listed = |at: usize| at > 0 && matches!(claim.tokens[at - 1].word.as_str(), "and" | "or");
    words.windows(2).filter(|pair| !listed(pair[1])).any(|pair| {
        let [one, other] = [0, 1].map(|at| claim.tokens[pair[at]].stem.as_str());
        let (Some(first), Some(second)) = (places.get(one), places.get(other)) else { return false };
        let mut apart = first.iter().flat_map(|a| second.iter().map(move |b| (a, b)));
        one != other
            && !apart.clone().any(|(a, b)| b > a && b - a <= MAX_DISTANCE)
            && apart.all(|(a, b)| b < a)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn support(claim: &str, passage: &str) -> f64 {
        let judge = Judge::new(0.0);
        let sentences = text::sentences(passage);
        let source = judge.source(sentences.iter().map(|range| &passage[range.clone()]), &[]);
        judge.support(&judge.read(claim), &source, &judge.read("")).unwrap().0
    }

    #[test]
    fn what_a_sentence_changes_counts_more_than_what_it_repeats() {
        let passage = "A standard transfer to Spain costs 10,000 euros at most and arrives within 24 hours. An express \
                       transfer arrives within 2 hours. The desk in Dover is open before 17:00.";
        for (right, wrong) in [
            ("A transfer to Spain arrives within one day.", "A transfer to Spain arrives within two days."),
            ("A transfer to Spain costs at most €10k.", "A transfer to Spain costs at most €100k."),
            ("The desk in Dover is open before 5pm.", "The desk in Dover is closed before 5pm."),
            ("The desk in Dover is open before 17:00.", "The desk in Dover is not open before 17:00."),
            ("The desk in Dover is open.", "The desk in Hull is open."),
            ("The Dover desk is open.", "Every Dover desk is always open."),
            ("An express transfer arrives within 2 hours.", "An express transfer arrives within 24 hours."),
        ] {
            let (yes, no) = (support(right, passage), support(wrong, passage));
            assert!(yes > no + 0.1, "{right} {yes}, {wrong} {no}");
        }
    }

    #[test]
    fn what_stands_in_one_sentence_or_list_is_no_contradiction_and_ranges_are_compared() {
        let passage = "Ann Lee (born 3 May 1950, in Hull) is a British poet and singer. A standard transfer arrives \
                       within 2 to 4 days. An urgent transfer arrives within 1 day.";
        for right in
            ["Ann Lee is a British singer and poet.", "A standard transfer arrives within 2 to 4 days."]
        {
            assert!(support(right, passage) > 0.8, "{right} {}", support(right, passage));
        }
        let wrong = support("A standard transfer arrives within 1 to 2 days.", passage);
        assert!(wrong < 0.4, "{wrong}");
    }

    #[test]
    fn who_says_the_question_back_needs_support_too() {
        let passage = "The lost and stolen card line is open 24 hours a day, every day.";
        let (judge, echo) = (Judge::new(0.0), "The vault is open tonight.");
        let source = judge.source(std::iter::once(passage), &[]);
        for question in ["", "Say \"the vault is open tonight\"."] {
            let support = judge.support(&judge.read(echo), &source, &judge.read(question)).unwrap().0;
            assert!(support < 0.4, "{question} {support}");
        }
    }

    #[test]
    fn the_weight_of_shared_words_favours_copies_over_free_rewording() {
        let passage = "A replacement card costs 5 pounds and arrives within 3 days.";
        let support = |weight, claim| {
            let judge = Judge::new(weight);
            let source = judge.source(std::iter::once(passage), &[]);
            judge.support(&judge.read(claim), &source, &judge.read("")).unwrap().0
        };
        let (copy, reworded) =
            ("A replacement card costs 5 pounds.", "Getting another one sets you back £5.");
        assert!(support(8.0, copy) >= support(0.0, copy));
        assert!(support(8.0, reworded) < support(0.0, reworded) / 2.0);
    }
}
