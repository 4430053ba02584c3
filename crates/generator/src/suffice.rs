//! How well the passages suffice to answer a question.

use crate::asked::Kind;
use crate::lexicon::Pool;
use crate::score::Scored;

/// Neighbouring words of the question in one sentence, from which on more make no difference.
const MANY_PAIRS: f64 = 3.0;
/// Words known, from which on more make no difference; of those that say something.
const MANY_WORDS: f64 = 5.0;
const MANY_HEAVY: f64 = 4.0;

/// Features of a question beside its passages, each 0..=1, with the weight of each: a logistic regression
/// for "the best sentence is of a right document", fitted on the examples of intents with known documents,
/// on questions of a bank that its documents do not answer, and on questions about other things. What the
/// retriever prefers proves little when the passage has few of the question's words, so it counts by them.
const WEIGHTS: [(&str, f64); 10] = [
    ("words known by a passage, on average", 1.12),
    ("words of heading and title that are asked about", 1.51),
    ("neighbouring words in the best sentence", 0.81),
    ("asks whether there is something", -2.32),
    ("number of words known by the best passage", 1.07),
    ("weight of the best document among all", 2.95),
    ("lead over the next document", 1.92),
    ("number of words that say something in the best sentence", 0.78),
    ("at most one of them", -0.28),
    ("all of them", 0.39),
];
/// Added to the weighted features.
const BIAS: f64 = -2.72;

/// How well the passages answer, 0..=1; `best` is the sentence that answers best.
pub(crate) fn support(scored: &Scored<'_>, best: usize) -> f64 {
    let sum: f64 =
        features(scored, best).iter().zip(&WEIGHTS).map(|(value, (_, weight))| value * weight).sum();
    1.0 / (1.0 + (-sum - BIAS).exp())
}

fn features(scored: &Scored<'_>, best: usize) -> [f64; WEIGHTS.len()] {
    let (evidence, lexicon, asked) = (scored.evidence, scored.lexicon, scored.asked);
    let unit = &evidence.units[best];
    let (heading, home) = (&evidence.headings[unit.section], &evidence.known[unit.passage]);
    let count =
        |pool: &Pool| asked.terms.iter().map(|(stem, weight)| weight * pool.find(lexicon, stem)).sum::<f64>();
    let words: f64 = asked.terms.iter().map(|(_, weight)| weight).sum();
    let known = count(home) / words;

    let mut question = Pool::default();
    asked.terms.iter().for_each(|(stem, _)| question.add(lexicon, stem));
    let named: f64 = heading.stems.iter().map(|stem| question.find(lexicon, stem)).sum();
    let says = |stem: &str| unit.own.find(lexicon, stem) > 0.0;
    let pairs = asked.terms.windows(2).filter(|pair| says(&pair[0].0) && says(&pair[1].0)).count();
    let heavy = || asked.terms.iter().filter(|(_, weight)| *weight >= 1.0);
    let found = heavy().filter(|(stem, _)| says(stem) || heading.find(lexicon, stem) > 0.0).count();

    let is_home = |passage: usize| {
        evidence.passages[passage].document_id == evidence.passages[unit.passage].document_id
    };
    let priors = || scored.priors.iter().enumerate();
    let own: f64 = priors().filter(|(passage, _)| is_home(*passage)).map(|(_, prior)| prior).sum();
    let all: f64 = scored.priors.iter().sum();
    let other =
        priors().filter(|(passage, _)| !is_home(*passage)).map(|(_, prior)| *prior).fold(0.0, f64::max);
    let lead = (1.0 - other / scored.priors[unit.passage]).max(0.0);
    let when = |holds: bool| f64::from(u8::from(holds));
    [
        evidence.known.iter().map(count).sum::<f64>() / words / evidence.known.len() as f64,
        named / heading.stems.len().max(1) as f64,
        (pairs as f64 / MANY_PAIRS).min(1.0),
        when(asked.wants(Kind::Offer)),
        (count(home) / MANY_WORDS).min(1.0),
        own / all * known,
        lead * known,
        (found as f64 / MANY_HEAVY).min(1.0),
        when(found <= 1),
        when(found == heavy().count()),
    ]
}
