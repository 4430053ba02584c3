//! The examples as sets to train on and sets held out, and what models of the first see in the second.

use std::collections::BTreeMap;

use encoder::Vectors;
use rayon::prelude::*;

use crate::dense::{Dense, Glance};
use crate::linear::{Linear, Sight};
use crate::train::{Error, Example};
use learn::{Ngrams, Random};

/// Parts of the cross-validation.
const FOLDS: usize = 5;

/// The examples, ready for training.
pub(crate) struct Set {
    pub(crate) intents: Vec<String>,
    pub(crate) ngrams: Vec<Ngrams>,
    pub(crate) labels: Vec<usize>,
    /// The names of the intents, one more example each: worth two points with ten examples an intent.
    pub(crate) names: Vec<Ngrams>,
    /// Examples out of scope.
    pub(crate) outside: Vec<Ngrams>,
    pub(crate) vectors: Option<Encoded>,
}

/// The vectors of a set, in its order.
pub(crate) struct Encoded {
    encoder: String,
    texts: Vec<Vec<f32>>,
    names: Vec<Vec<f32>>,
    outside: Vec<Vec<f32>>,
}

/// Which examples train and which are held out; a held-out example of an intent the model knows has a label.
pub(crate) struct Fold {
    train: Vec<usize>,
    held: Vec<(usize, Option<usize>)>,
    /// The examples out of scope this fold looks at; none ever trains.
    outside: Vec<usize>,
    /// New label by old label for the intents that occur in `train`.
    labels: BTreeMap<usize, usize>,
}

/// A held-out example as the fold's model sees it.
pub(crate) struct Held {
    /// Its place among the examples with an intent, or among those without.
    pub(crate) index: usize,
    pub(crate) sight: Sight,
    pub(crate) glance: Option<Glance>,
    pub(crate) label: Option<usize>,
    /// Whether it is an example out of scope, not one of an intent held out.
    pub(crate) outside: bool,
}

impl Set {
    pub(crate) fn of(examples: &[Example]) -> Result<Self, Error> {
        let mut intents: Vec<String> = examples.iter().filter_map(|example| example.intent.clone()).collect();
        intents.sort_unstable();
        intents.dedup();
        if intents.is_empty() {
            return Err(Error::NoExamples);
        }
        let all: Vec<Ngrams> = examples.par_iter().map(|example| Ngrams::of(&example.text)).collect();
        let names = intents.iter().map(|intent| Ngrams::of(&intent.replace('_', " "))).collect();
        let mut set = Self {
            intents,
            ngrams: Vec::new(),
            labels: Vec::new(),
            names,
            outside: Vec::new(),
            vectors: None,
        };
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

    /// Encodes the examples and the names of the intents.
    pub(crate) fn encode(
        &mut self,
        examples: &[Example],
        vectors: &mut Vectors<'_>,
        progress: &(dyn Fn(u64, u64) + Sync),
    ) -> Result<(), Error> {
        let names: Vec<String> = self.intents.iter().map(|intent| intent.replace('_', " ")).collect();
        let texts = examples.iter().map(|example| &example.text).chain(&names).map(String::as_str);
        let mut encoded = vectors.of(&texts.collect::<Vec<_>>(), progress)?;
        let names = encoded.split_off(examples.len());
        let (texts, outside): (Vec<_>, Vec<_>) =
            encoded.into_iter().zip(examples).partition(|(_, example)| example.intent.is_some());
        let [texts, outside] =
            [texts, outside].map(|side| side.into_iter().map(|(vector, _)| vector).collect::<Vec<_>>());
        let encoder = vectors.encoder().id().to_owned();
        self.vectors = Some(Encoded { encoder, texts, names, outside });
        Ok(())
    }

    pub(crate) fn fit_dense(&self, vectors: &Encoded) -> Dense {
        let texts: Vec<&[f32]> = vectors.texts.iter().chain(&vectors.names).map(Vec::as_slice).collect();
        let labels: Vec<usize> = self.labels.iter().copied().chain(0..self.names.len()).collect();
        Dense::fit(&texts, &labels, self.names.len(), &vectors.encoder)
    }

    pub(crate) fn fit(&self) -> Linear {
        let texts: Vec<&Ngrams> = self.ngrams.iter().chain(&self.names).collect();
        let labels: Vec<usize> = self.labels.iter().copied().chain(0..self.names.len()).collect();
        Linear::fit(&texts, &labels, self.names.len())
    }

    /// Splits each intent over the folds; with `novel` each fold also holds out whole intents.
    pub(crate) fn folds(&self, novel: bool) -> Vec<Fold> {
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

    pub(crate) fn see(&self, fold: &Fold) -> Vec<Held> {
        let texts = fold.train.iter().map(|&index| &self.ngrams[index]);
        let texts: Vec<&Ngrams> = texts.chain(fold.labels.keys().map(|&label| &self.names[label])).collect();
        let labels = fold.train.iter().map(|&index| fold.labels[&self.labels[index]]);
        let labels: Vec<usize> = labels.chain(0..fold.labels.len()).collect();
        let linear = Linear::fit(&texts, &labels, fold.labels.len());
        let dense = self.vectors.as_ref().map(|vectors| {
            let texts = fold.train.iter().map(|&index| &vectors.texts[index]);
            let texts = texts.chain(fold.labels.keys().map(|&label| &vectors.names[label]));
            let texts: Vec<&[f32]> = texts.map(Vec::as_slice).collect();
            (vectors, Dense::fit(&texts, &labels, fold.labels.len(), &vectors.encoder))
        });
        let glance = |pick: fn(&Encoded) -> &Vec<Vec<f32>>, index: usize| {
            dense.as_ref().map(|(vectors, dense)| dense.see(&pick(vectors)[index]))
        };
        let held = fold.held.iter().filter_map(|&(index, label)| {
            let sight = linear.see(&self.ngrams[index])?;
            Some(Held {
                index,
                sight,
                glance: glance(|vectors| &vectors.texts, index),
                label,
                outside: false,
            })
        });
        let outside = fold.outside.iter().filter_map(|&index| {
            let sight = linear.see(&self.outside[index])?;
            Some(Held {
                index,
                sight,
                glance: glance(|vectors| &vectors.outside, index),
                label: None,
                outside: true,
            })
        });
        held.chain(outside).collect()
    }
}
