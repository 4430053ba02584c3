//! Training: cross-validation for everything fitted on scores, then the weights from all examples.

use std::collections::BTreeMap;
use std::path::PathBuf;

use rayon::prelude::*;

use crate::calibrate::{
    Evidence, acceptance, evidence, fit_outlier, further, outlier, probabilities, temperature, threshold,
};
use crate::classify::Model;
use crate::features::Ngrams;
use crate::linear::{Linear, Sight};
use crate::solve::Random;

/// Parts of the cross-validation.
const FOLDS: usize = 5;
/// Fewest intents from which whole intents are held out to play the unknown.
const MIN_INTENTS: usize = 5;

/// A text with its intent; without one it is out of scope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Example {
    /// What the customer wrote.
    pub text: String,
    /// What the customer wanted.
    pub intent: Option<String>,
}

/// Why there is no model.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No example has an intent.
    #[error("no example has an intent, at least one is needed")]
    NoExamples,
    /// The bundle does not validate.
    #[error("the bundle does not validate")]
    Bundle(#[from] bundle::Problems),
    /// A file cannot be read or written.
    #[error("{path}: cannot be read or written")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A line of a file of examples is not one.
    #[error("{path}:{line}: not an example, which is {{\"text\": \"...\", \"intent\": \"...\" or null}}")]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// Why.
        source: serde_json::Error,
    },
    /// The bundle has no model for its present intents.
    #[error("no model for the present intents at {path}; run \"firstline bundle build {root}\"")]
    NotBuilt {
        /// Where it would be.
        path: PathBuf,
        /// The bundle.
        root: String,
    },
    /// Bytes that are no model.
    #[error("the model file is damaged: {0}; run \"firstline bundle build\" to make it again")]
    Damaged(&'static str),
}

/// Trains a model. `validation` with examples in and out of scope gives the out-of-scope threshold; without,
/// it comes from intents held out in cross-validation, as does everything else fitted on scores. `progress`
/// is told how many of how many steps are done. Equal examples give equal bytes on any number of threads.
///
/// # Errors
/// No example has an intent.
pub fn train(
    examples: &[Example],
    validation: Option<&[Example]>,
    progress: &dyn Fn(u64, u64),
) -> Result<Model, Error> {
    let set = Set::of(examples)?;
    let plain = set.folds(false);
    let novel = if set.intents.len() < MIN_INTENTS { Vec::new() } else { set.folds(true) };
    let jobs: Vec<&Fold> = plain.iter().chain(&novel).collect();
    let total = jobs.len() as u64 + 1;
    let mut seen = Vec::new();
    for some in jobs.chunks(rayon::current_num_threads()) {
        progress(seen.len() as u64, total);
        seen.par_extend(some.par_iter().map(|fold| set.see(fold)));
    }
    progress(total - 1, total);
    let (plain, novel) = seen.split_at(plain.len());

    let known: Vec<_> = plain.iter().flatten().filter_map(|held| Some((&held.sight, held.label?))).collect();
    let temperature =
        temperature(&known.iter().map(|&(sight, label)| (&*sight.scores, label)).collect::<Vec<_>>());
    let confidence = |sight: &Sight| probabilities(&sight.scores, temperature)[sight.best];
    let accepted: Vec<_> =
        known.iter().map(|&(sight, label)| (confidence(sight), sight.best == label)).collect();
    let judged = if novel.is_empty() { plain } else { novel };
    let (mut inside, mut unknown, mut outside) = (Vec::new(), Vec::new(), Vec::new());
    for held in judged.iter().flatten() {
        let evidence = evidence(&held.sight, temperature);
        match (held.label, held.outside) {
            (Some(label), _) => inside.push((evidence, held.sight.best == label)),
            (None, false) => unknown.push(evidence),
            (None, true) => outside.push(evidence),
        }
    }
    // Real examples out of scope count as much together as the intents held out.
    outside = outside.repeat((unknown.len() / outside.len().max(1)).max(1));
    outside.append(&mut unknown);
    let weights = fit_outlier(&inside.iter().map(|item| item.0).collect::<Vec<Evidence>>(), &outside);
    let inside: Vec<_> =
        inside.iter().map(|(evidence, right)| (outlier(&weights, evidence), *right)).collect();
    let outside: Vec<_> = outside.iter().map(|evidence| outlier(&weights, evidence)).collect();

    let mut model = Model {
        linear: set.fit(),
        intents: set.intents,
        temperature,
        outlier: weights,
        threshold: further(threshold(&inside, &outside)),
        acceptance: acceptance(&accepted),
        version: String::new(),
    };
    if let Some(fitted) = validation.and_then(|validation| model.threshold_on(validation)) {
        model.threshold = fitted;
    }
    model.seal();
    progress(total, total);
    Ok(model)
}

impl Model {
    /// The threshold fitted on examples in and out of scope, `None` unless there are enough of both.
    fn threshold_on(&self, examples: &[Example]) -> Option<f64> {
        let (mut inside, mut outside) = (Vec::new(), Vec::new());
        for example in examples {
            let scores = self.classify(&example.text);
            match &example.intent {
                Some(intent) => {
                    let right = scores.ranked.first().is_some_and(|best| self.intents[best.0] == *intent);
                    inside.push((scores.out_of_scope, right));
                }
                None => outside.push(scores.out_of_scope),
            }
        }
        threshold(&inside, &outside)
    }
}

/// The examples, ready for training.
struct Set {
    intents: Vec<String>,
    ngrams: Vec<Ngrams>,
    labels: Vec<usize>,
    /// The names of the intents, one more example each: worth two points with ten examples an intent.
    names: Vec<Ngrams>,
    /// Examples out of scope.
    outside: Vec<Ngrams>,
}

/// Which examples train and which are held out; a held-out example of an intent the model knows has a label.
struct Fold {
    train: Vec<usize>,
    held: Vec<(usize, Option<usize>)>,
    /// The examples out of scope this fold looks at; none ever trains.
    outside: Vec<usize>,
    /// New label by old label for the intents that occur in `train`.
    labels: BTreeMap<usize, usize>,
}

/// A held-out example as the fold's model sees it.
struct Held {
    sight: Sight,
    label: Option<usize>,
    /// Whether it is an example out of scope, not one of an intent held out.
    outside: bool,
}

impl Set {
    fn of(examples: &[Example]) -> Result<Self, Error> {
        let mut intents: Vec<String> = examples.iter().filter_map(|example| example.intent.clone()).collect();
        intents.sort_unstable();
        intents.dedup();
        if intents.is_empty() {
            return Err(Error::NoExamples);
        }
        let all: Vec<Ngrams> = examples.par_iter().map(|example| Ngrams::of(&example.text)).collect();
        let names = intents.iter().map(|intent| Ngrams::of(&intent.replace('_', " "))).collect();
        let mut set = Self { intents, ngrams: Vec::new(), labels: Vec::new(), names, outside: Vec::new() };
        for (ngrams, example) in all.into_iter().zip(examples) {
            match example.intent.as_ref().and_then(|intent| set.intents.binary_search(intent).ok()) {
                Some(label) => {
                    set.ngrams.push(ngrams);
                    set.labels.push(label);
                }
                None => set.outside.push(ngrams),
            }
        }
        Ok(set)
    }

    fn fit(&self) -> Linear {
        let texts: Vec<&Ngrams> = self.ngrams.iter().chain(&self.names).collect();
        let labels: Vec<usize> = self.labels.iter().copied().chain(0..self.names.len()).collect();
        Linear::fit(&texts, &labels, self.names.len())
    }

    /// Splits each intent over the folds; with `novel` each fold also holds out whole intents.
    fn folds(&self, novel: bool) -> Vec<Fold> {
        let mut random = Random(if novel { 2 } else { 1 });
        let mut order: Vec<usize> = (0..self.labels.len()).collect();
        random.shuffle(&mut order);
        // Stable: random within an intent, so every FOLDS-th of its examples shares a fold.
        order.sort_by_key(|&index| self.labels[index]);
        let mut group: Vec<usize> = (0..self.intents.len()).map(|label| label % FOLDS).collect();
        random.shuffle(&mut group);
        let fold = |number: usize| {
            let hidden = |label: usize| novel && group[label] == number;
            let train =
                |&(place, &index): &(usize, &usize)| place % FOLDS != number && !hidden(self.labels[index]);
            let train: Vec<usize> = order.iter().enumerate().filter(train).map(|(_, &index)| index).collect();
            let mut labels: BTreeMap<usize, usize> =
                train.iter().map(|&index| (self.labels[index], 0)).collect();
            labels.values_mut().zip(0..).for_each(|(new, next)| *new = next);
            let mut held = Vec::new();
            for (place, &index) in order.iter().enumerate() {
                let label = labels.get(&self.labels[index]).copied();
                if hidden(self.labels[index]) || (place % FOLDS == number && label.is_some()) {
                    held.push((index, label));
                }
            }
            let outside = (number..self.outside.len()).step_by(FOLDS).collect();
            Fold { train, held, outside, labels }
        };
        (0..FOLDS).map(fold).filter(|fold| !fold.train.is_empty()).collect()
    }

    fn see(&self, fold: &Fold) -> Vec<Held> {
        let texts = fold.train.iter().map(|&index| &self.ngrams[index]);
        let texts: Vec<&Ngrams> = texts.chain(fold.labels.keys().map(|&label| &self.names[label])).collect();
        let labels = fold.train.iter().map(|&index| fold.labels[&self.labels[index]]);
        let labels: Vec<usize> = labels.chain(0..fold.labels.len()).collect();
        let linear = Linear::fit(&texts, &labels, fold.labels.len());
        let held = fold.held.iter().map(|&(index, label)| (&self.ngrams[index], label, false));
        let held = held.chain(fold.outside.iter().map(|&index| (&self.outside[index], None, true)));
        held.filter_map(|(text, label, outside)| Some(Held { sight: linear.see(text)?, label, outside }))
            .collect()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Six intents of eight examples.
    pub(crate) fn examples() -> Vec<Example> {
        let intents = [
            ("lost_card", "I lost my card"),
            ("refund", "when does my refund arrive"),
            ("change_pin", "how do I change my PIN"),
            ("branch_hours", "is the branch open on Sunday"),
            ("exchange_rate", "what exchange rate do you use"),
            ("close_account", "please close my account"),
        ];
        let frames = ["", "hello, ", "hi there ", "quick question: ", "sorry, ", "hey ", "excuse me ", "so "];
        let one = |(intent, text): (&str, &str), frame: &str| Example {
            text: format!("{frame}{text}"),
            intent: Some(intent.to_owned()),
        };
        frames.iter().flat_map(|frame| intents.map(|intent| one(intent, frame))).collect()
    }

    fn best<'a>(model: &'a Model, text: &str) -> &'a str {
        &model.intents()[model.classify(text).ranked[0].0]
    }

    #[test]
    fn a_trained_model_knows_its_intents_in_other_words() {
        let model = train(&examples(), None, &|_, _| {}).unwrap();
        assert_eq!(best(&model, "my card is lost!"), "lost_card");
        assert_eq!(best(&model, "Changing the pin code"), "change_pin");
        let known = model.classify("how do I change my PIN please");
        assert!(known.out_of_scope < model.threshold(), "{known:?} {}", model.threshold());
        assert!((known.ranked.iter().map(|item| item.1).sum::<f64>() - 1.0).abs() < 1e-9);
        assert!(model.classify("écrivez un poème sur la mer").out_of_scope > known.out_of_scope);
    }

    #[test]
    fn equal_examples_give_equal_bytes_on_any_number_of_threads() {
        let bytes = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| train(&examples(), None, &|_, _| {}).unwrap().to_bytes())
        };
        assert_eq!(bytes(1), bytes(3));
    }

    #[test]
    fn text_without_anything_known_is_out_of_scope_with_confidence_zero() {
        let model = train(&examples(), None, &|_, _| {}).unwrap();
        for text in ["", "   ", "🙂🙂🙂", "?!…", "\u{0}\u{7f}"] {
            let scores = model.classify(text);
            assert_eq!((scores.confidence(), scores.out_of_scope), (0.0, 1.0), "{text:?}");
        }
    }

    #[test]
    fn one_intent_or_one_example_is_enough_and_none_is_an_error() {
        let one = &examples()[..1];
        let model = train(one, None, &|_, _| {}).unwrap();
        let (known, other) = (model.classify(&one[0].text), model.classify("is it raining"));
        assert!(known.out_of_scope < 0.5 && other.out_of_scope > 0.5, "{known:?} {other:?}");
        assert!(train(&examples()[..2], None, &|_, _| {}).is_ok());
        let outside = Example { text: "is it raining".to_owned(), intent: None };
        assert!(matches!(train(&[outside], None, &|_, _| {}), Err(Error::NoExamples)));
    }

    #[test]
    fn progress_ends_where_it_said_it_would() {
        let seen = std::cell::RefCell::new(Vec::new());
        train(&examples(), None, &|done, total| seen.borrow_mut().push((done, total))).unwrap();
        let seen = seen.into_inner();
        assert!(seen.is_sorted_by_key(|step| step.0) && seen.iter().all(|step| step.1 == seen[0].1));
        assert!(seen.last().is_some_and(|(done, total)| done == total));
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]
        #[test]
        fn any_text_gives_figures_within_their_ranges(text in "\\PC{0,300}", repeat in 1_usize..40) {
            static MODEL: std::sync::OnceLock<Model> = std::sync::OnceLock::new();
            let model = MODEL.get_or_init(|| train(&examples(), None, &|_, _| {}).unwrap());
            let scores = model.classify(&text.repeat(repeat));
            proptest::prop_assert!((0.0..=1.0).contains(&scores.out_of_scope));
            proptest::prop_assert!(scores.ranked.iter().all(|item| (0.0..=1.0).contains(&item.1)));
            proptest::prop_assert!(scores.ranked.is_sorted_by(|left, right| left.1 >= right.1));
        }
    }
}
