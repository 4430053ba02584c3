//! Training: cross-validation for everything fitted on scores, then the weights from all examples.

use std::path::PathBuf;

use rayon::prelude::*;

use encoder::Vectors;

use crate::calibrate::{
    AS_IT_IS, Evidence, Fitted, PRIOR_BOTH, PRIOR_TEMPERATURE, PRIOR_WEIGHTS, PRIOR_WORDS, Weights,
    acceptance, fit_confidence, fit_outlier, further, join, outlier, sure, threshold,
};
use crate::classify::{Meaning, Model, View};
use crate::folds::{Fold, Held, Set};

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
    /// A line of a file of messages that ask for a person, or not, is not one.
    #[error("{path}:{line}: not a message, which is {{\"text\": \"...\", \"handoff\": true or false}}")]
    HandoffLine {
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
    /// The model was built with another encoder than the one at hand.
    #[error(
        "the model was built with the encoder {built}, this process has {present}; run \"firstline bundle build\" again, or set server.encoder as it was"
    )]
    Encoder {
        /// Encoder of the model, or "none".
        built: String,
        /// Encoder of this process.
        present: String,
    },
    /// The encoder failed.
    #[error("the examples cannot be encoded")]
    Encode(#[from] encoder::Error),
    /// Bytes that are no model.
    #[error("the model file is damaged: {0}; run \"firstline bundle build\" to make it again")]
    Damaged(&'static str),
}

/// Trains a model; with `vectors` it has a dense part besides the words. `validation` with examples in and out
/// of scope gives the out-of-scope threshold; without, it comes from intents held out in cross-validation, as
/// does everything else fitted on scores. `progress` is told how many of how many steps are done. Equal
/// examples give equal bytes on any number of threads.
///
/// # Errors
/// No example has an intent, or the encoder fails.
pub fn train(
    examples: &[Example],
    vectors: Option<&mut Vectors<'_>>,
    validation: Option<&[Example]>,
    progress: &(dyn Fn(u64, u64) + Sync),
) -> Result<Model, Error> {
    let mut set = Set::of(examples)?;
    let encoder = match vectors {
        Some(vectors) => {
            set.encode(examples, vectors, progress)?;
            Some(vectors.encoder())
        }
        None => None,
    };
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
    let judged = if novel.is_empty() { plain } else { novel };

    let words = fit(plain, judged, false);
    let meaning = set.vectors.as_ref().map(|vectors| {
        let fitted = fit(plain, judged, true);
        Meaning { dense: set.fit_dense(vectors), fitted }
    });
    let mut model = Model { linear: set.fit(), intents: set.intents, words, meaning, version: String::new() };
    if let Some(validation) = validation {
        model.fit_thresholds(validation, encoder)?;
    }
    model.seal();
    progress(total, total);
    Ok(model)
}

/// Fits one tier on examples that share their intents with the training, and on those of which some do not.
fn fit(plain: &[Vec<Held>], judged: &[Vec<Held>], dense: bool) -> Fitted {
    let weights = if dense { both_weights(plain) } else { word_weights(plain) };
    let view = |held: &Held| View::new(&held.sight, held.glance.as_ref().filter(|_| dense), &weights);
    let known = plain.iter().flatten().filter_map(|held| Some((view(held), held.label?)));
    let found: Vec<_> =
        known.map(|(view, label)| (view.probabilities[view.best], view.best == label)).collect();
    // Words, meaning and density joined are calibrated already.
    let confidence = if dense { AS_IT_IS } else { fit_confidence(&found) };
    let accepted: Vec<_> =
        found.iter().map(|(probability, right)| (sure(&confidence, *probability), *right)).collect();
    let (mut inside, mut unknown, mut outside) = (Vec::new(), Vec::new(), Vec::new());
    for held in judged.iter().flatten() {
        let View { best, evidence, .. } = view(held);
        match (held.label, held.outside) {
            (Some(label), _) => inside.push((evidence, best == label)),
            (None, false) => unknown.push(evidence),
            (None, true) => outside.push(evidence),
        }
    }
    // Real examples out of scope count as much together as the intents held out.
    outside = outside.repeat((unknown.len() / outside.len().max(1)).max(1));
    outside.append(&mut unknown);
    let evidence: Vec<Evidence> = inside.iter().map(|item| item.0).collect();
    let prior = if dense { PRIOR_BOTH } else { PRIOR_WORDS };
    let outlier_weights = fit_outlier(&evidence, &outside, &prior);
    let inside: Vec<_> =
        inside.iter().map(|(evidence, right)| (outlier(&outlier_weights, evidence), *right)).collect();
    let outside: Vec<_> = outside.iter().map(|evidence| outlier(&outlier_weights, evidence)).collect();
    Fitted {
        weights,
        confidence,
        outlier: outlier_weights,
        threshold: further(threshold(&inside, &outside)),
        acceptance: acceptance(&accepted),
    }
}

/// The weights of the linear tier.
fn word_weights(plain: &[Vec<Held>]) -> Weights {
    let known = plain.iter().flatten().filter_map(|held| Some(([&*held.sight.scores], held.label?)));
    let [words] = join(&known.collect::<Vec<_>>(), PRIOR_TEMPERATURE);
    [words, 0.0, 0.0]
}

/// The weights of the dense tier.
fn both_weights(plain: &[Vec<Held>]) -> Weights {
    let known = plain.iter().flatten().filter_map(|held| {
        let glance = held.glance.as_ref()?;
        Some(([&*held.sight.scores, &*glance.scores, &*glance.density], held.label?))
    });
    join(&known.collect::<Vec<_>>(), PRIOR_WEIGHTS)
}

impl Model {
    /// Fits the thresholds on examples in and out of scope, where there are enough of both.
    fn fit_thresholds(
        &mut self,
        examples: &[Example],
        encoder: Option<&encoder::Encoder>,
    ) -> Result<(), Error> {
        for encoder in [None].into_iter().chain(encoder.map(Some)) {
            let (mut inside, mut outside) = (Vec::new(), Vec::new());
            for example in examples {
                let vector = encoder.map(|encoder| encoder.embed(&example.text)).transpose()?;
                let scores = self.classify(&example.text, vector.as_deref());
                match &example.intent {
                    Some(intent) => {
                        let right = scores.ranked.first().is_some_and(|best| self.intents[best.0] == *intent);
                        inside.push((scores.out_of_scope, right));
                    }
                    None => outside.push(scores.out_of_scope),
                }
            }
            let Some(fitted) = threshold(&inside, &outside) else { continue };
            match (encoder, &mut self.meaning) {
                (Some(_), Some(meaning)) => meaning.fitted.threshold = fitted,
                _ => self.words.threshold = fitted,
            }
        }
        Ok(())
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
        &model.intents()[model.classify(text, None).ranked[0].0]
    }

    #[test]
    fn a_trained_model_knows_its_intents_in_other_words() {
        let model = train(&examples(), None, None, &|_, _| {}).unwrap();
        assert_eq!(best(&model, "my card is lost!"), "lost_card");
        assert_eq!(best(&model, "Changing the pin code"), "change_pin");
        let known = model.classify("how do I change my PIN please", None);
        assert!(known.out_of_scope < model.threshold(false), "{known:?} {}", model.threshold(false));
        assert!((known.ranked.iter().map(|item| item.1).sum::<f64>() - 1.0).abs() < 1e-9);
        assert!(model.classify("écrivez un poème sur la mer", None).out_of_scope > known.out_of_scope);
    }

    #[test]
    fn equal_examples_give_equal_bytes_on_any_number_of_threads() {
        let bytes = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| train(&examples(), None, None, &|_, _| {}).unwrap().to_bytes())
        };
        assert_eq!(bytes(1), bytes(3));
    }

    #[test]
    fn text_without_anything_known_is_out_of_scope_with_confidence_zero() {
        let model = train(&examples(), None, None, &|_, _| {}).unwrap();
        for text in ["", "   ", "🙂🙂🙂", "?!…", "\u{0}\u{7f}"] {
            let scores = model.classify(text, None);
            assert_eq!((scores.confidence(), scores.out_of_scope), (0.0, 1.0), "{text:?}");
        }
    }

    #[test]
    fn one_intent_or_one_example_is_enough_and_none_is_an_error() {
        let one = &examples()[..1];
        let model = train(one, None, None, &|_, _| {}).unwrap();
        let (known, other) = (model.classify(&one[0].text, None), model.classify("is it raining", None));
        assert!(known.out_of_scope < 0.5 && other.out_of_scope > 0.5, "{known:?} {other:?}");
        assert!(train(&examples()[..2], None, None, &|_, _| {}).is_ok());
        let outside = Example { text: "is it raining".to_owned(), intent: None };
        assert!(matches!(train(&[outside], None, None, &|_, _| {}), Err(Error::NoExamples)));
    }

    #[test]
    fn progress_ends_where_it_said_it_would() {
        let seen = std::sync::Mutex::new(Vec::new());
        train(&examples(), None, None, &|done, total| seen.lock().unwrap().push((done, total))).unwrap();
        let seen = seen.into_inner().unwrap();
        assert!(seen.is_sorted_by_key(|step| step.0) && seen.iter().all(|step| step.1 == seen[0].1));
        assert!(seen.last().is_some_and(|(done, total)| done == total));
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]
        #[test]
        fn any_text_gives_figures_within_their_ranges(text in "\\PC{0,300}", repeat in 1_usize..40) {
            static MODEL: std::sync::OnceLock<Model> = std::sync::OnceLock::new();
            let model = MODEL.get_or_init(|| train(&examples(), None, None, &|_, _| {}).unwrap());
            let scores = model.classify(&text.repeat(repeat), None);
            proptest::prop_assert!((0.0..=1.0).contains(&scores.out_of_scope));
            proptest::prop_assert!(scores.ranked.iter().all(|item| (0.0..=1.0).contains(&item.1)));
            proptest::prop_assert!(scores.ranked.is_sorted_by(|left, right| left.1 >= right.1));
        }
    }
}
