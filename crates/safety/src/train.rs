//! Training of the guard: weights from all examples, and how they join the lexicons from examples held out.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use encoder::{Encoder, Vectors};
use learn::{Ngrams, Place, Vector, Vocabulary, Weights, minimise};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::decode::views;
use crate::error::Error;
use crate::examples::{Example, FOLDS, Marks, fingerprint, of_bundle, shipped};
use crate::guard::{Evidence, Guard, Join, Joins, Meaning, Parts, Planted, join, most, parts, signs};
use crate::lexicon;
use crate::policy::Scores;
use crate::scan::Scanner;
use crate::screen::PLANTED;
use crate::solve::{Row, scores, solve};
use crate::vary::vary;

/// The joins of words, as the test below writes them.
const JOINS: (&str, &str) = ("safety/src/joins.toml", include_str!("joins.toml"));
/// Changes whenever features, training or scoring do: an old guard must not serve a new program.
const FORMAT: u32 = 3;
/// Costs of a margin violation by words and by meaning.
const COST_WORDS: f32 = 1.0;
const COST_MEANING: f32 = 0.1;
/// What the log-odds of an instruction in a document lose: knowledge bases hold fewer than the examples.
const RARE: f64 = 1.8;
/// Draws the weights of a join to 0, and so a category with few examples to what its lexicon says.
const PRIOR: f64 = 0.5;

/// The guard of a bundle, trained once under the hash of what went into it.
///
/// # Errors
/// A bundle that does not validate, an encoder that fails, a folder that cannot be written.
pub fn build(
    reader: &bundle::Reader,
    encoder: Option<&Encoder>,
    progress: &(dyn Fn(u64, u64) + Sync),
) -> anyhow::Result<Guard> {
    let own = of_bundle(reader)?;
    let path = path(reader, &own);
    if let Ok(guard) = load(&path, reader, encoder) {
        return Ok(guard);
    }
    let mut vectors = encoder.map(|encoder| Vectors::open(&reader.build_dir(), "guard", encoder));
    let guard = train(own, vectors.as_mut(), progress)?;
    let written = kit::files::write_whole(&path, &guard.to_bytes()?);
    written.map_err(|source| Error::File { path, source })?;
    Ok(guard)
}

/// The guard of the platform alone, for a measurement without a bundle; vectors are kept in the folder.
///
/// # Errors
/// The encoder fails, or the folder cannot be written.
pub fn platform(
    folder: &Path,
    encoder: Option<&Encoder>,
    progress: &(dyn Fn(u64, u64) + Sync),
) -> Result<Guard, Error> {
    let mut vectors = encoder.map(|encoder| Vectors::open(folder, "guard", encoder));
    train(Vec::new(), vectors.as_mut(), progress)
}

/// Loads the guard of a bundle; with an encoder it must have been built for that one.
///
/// # Errors
/// A bundle that does not validate, [`Error::NotBuilt`], a damaged file, or a guard of another encoder.
pub fn open(reader: &bundle::Reader, encoder: Option<&Encoder>) -> anyhow::Result<Guard> {
    Ok(load(&path(reader, &of_bundle(reader)?), reader, encoder)?)
}

fn path(reader: &bundle::Reader, own: &[Example]) -> PathBuf {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&FORMAT.to_le_bytes()).update(JOINS.1.as_bytes());
    fingerprint(&mut hasher);
    lexicon::fingerprint(&mut hasher);
    for Example { text, marks, fold, .. } in own {
        hasher.update(format!("{} {fold} {marks:?}", text.len()).as_bytes()).update(text.as_bytes());
    }
    reader.build_dir().join(format!("guard-{}.model", &hasher.finalize().to_hex()[..16]))
}

fn load(path: &Path, reader: &bundle::Reader, encoder: Option<&Encoder>) -> Result<Guard, Error> {
    if !path.exists() {
        return Err(Error::NotBuilt { path: path.to_owned(), root: reader.root().display().to_string() });
    }
    let bytes = std::fs::read(path).map_err(|source| Error::File { path: path.to_owned(), source })?;
    let guard = Guard::from_bytes(&bytes)?;
    match encoder.map(Encoder::id).filter(|id| guard.encoder() != Some(id)) {
        None => Ok(guard),
        Some(present) => Err(Error::Encoder {
            built: guard.encoder().unwrap_or("none").to_owned(),
            present: present.to_owned(),
        }),
    }
}

/// Trains on the platform's examples and those of a bundle; with `vectors` the guard has a part by meaning.
pub(crate) fn train(
    own: Vec<Example>,
    vectors: Option<&mut Vectors<'_>>,
    progress: &(dyn Fn(u64, u64) + Sync),
) -> Result<Guard, Error> {
    let mut examples: Vec<Example> = shipped()?.into_iter().chain(own).collect();
    let meaning = match vectors {
        None => None,
        Some(vectors) => {
            let texts: Vec<&str> = examples.iter().map(|example| example.text.as_str()).collect();
            let rows = vectors.of(&texts, progress)?;
            Some((vectors.encoder().id().to_owned(), rows.iter().map(|row| dense(row)).collect()))
        }
    };
    // Variations are judged by words alone: what an encoder makes of two texts in one says little of either.
    let written = examples.len();
    examples.extend(vary(&examples));
    let set = Set::new(&examples, written, meaning);
    // Words are the same in every bundle; what an encoder adds depends on the encoder.
    let Fitted { joins, planted } = if set.vectors.is_some() { set.joins()? } else { Fitted::shipped()? };
    let all: Vec<usize> = (0..examples.len()).collect();
    let (vocabulary, exact) = set.words(&all);
    let (bias, words) = packed(&exact);
    let ([planted_bias], planted_words) = packed(&set.planted(&vocabulary, &all));
    let planted = Planted { words: planted_words, bias: planted_bias, join: planted };
    let meaning = set.meaning(&all).map(|(encoder, weights)| Meaning { encoder, weights });
    Guard::new(vocabulary, Parts { words, bias, meaning, joins, planted })
}

/// How evidence becomes a probability: fitted on the platform's examples, which takes much longer than the training
/// itself and comes out the same for every bundle.
#[derive(Debug, Serialize, Deserialize)]
struct Fitted {
    /// Those of messages by words, and by words and meaning.
    joins: [Joins; 2],
    /// That of documents.
    planted: Join,
}

impl Fitted {
    fn shipped() -> Result<Self, Error> {
        toml::from_str(JOINS.1).map_err(|source| Error::Baseline { file: JOINS.0, source })
    }
}

/// Exact weights as they are served: the biases, and the rest in one byte each.
fn packed<const N: usize>(exact: &[[f32; N]]) -> ([f32; N], Weights) {
    let (bias, rows) = exact.split_last().map_or(([0.0; N], exact), |(bias, rows)| (*bias, rows));
    (bias, Weights::pack(rows.as_flattened(), N))
}

/// A vector of an encoder as the solver takes it.
fn dense(row: &[f32]) -> Vector {
    Vector { items: (0..).zip(row.iter().copied()).collect(), known_words: 1.0, known_parts: 1.0 }
}

/// The examples, as everything that is trained on them sees them.
struct Set<'e> {
    examples: &'e [Example],
    /// How many of them were written; the others are their variations.
    written: usize,
    ngrams: Vec<Ngrams>,
    /// The n-grams of the parts of each text.
    parts: Vec<Vec<Ngrams>>,
    /// The encoder's id and the vectors of the first examples.
    vectors: Option<(String, Vec<Vector>)>,
}

impl<'e> Set<'e> {
    fn new(examples: &'e [Example], written: usize, vectors: Option<(String, Vec<Vector>)>) -> Self {
        let ngrams = examples.par_iter().map(|example| Ngrams::of(&example.text)).collect();
        let parts =
            examples.par_iter().map(|example| parts(&example.text).map(Ngrams::of).collect()).collect();
        Self { examples, written, ngrams, parts, vectors }
    }

    /// The joins that make the examples held out most likely.
    fn joins(&self) -> Result<Fitted, Error> {
        let found = Found::new(self.examples)?;
        let held: Vec<HeldOut<'_>> =
            (0..FOLDS).into_par_iter().map(|fold| self.held_out(fold, &found)).collect();
        let documents: Vec<_> = held.iter().flat_map(|fold| fold.documents.iter().copied()).collect();
        let messages: Vec<_> = held.into_iter().flat_map(|fold| fold.messages).collect();
        let mut planted = logistic(&documents);
        planted[0] -= RARE;
        Ok(Fitted { joins: [false, true].map(|dense| fit(&messages, dense)), planted })
    }

    /// Vocabulary and exact weights of words.
    fn words(&self, places: &[usize]) -> (Vocabulary, Vec<Row>) {
        let texts: Vec<&Ngrams> = places.iter().map(|&place| &self.ngrams[place]).collect();
        let vocabulary = Vocabulary::fit(&texts);
        let messages = self.messages(places);
        let rows: Vec<Vector> =
            messages.iter().map(|&place| vocabulary.vector(&self.ngrams[place])).collect();
        let rows: Vec<&Vector> = rows.iter().collect();
        let weights = self.solve(&messages, &rows, vocabulary.keys.len(), COST_WORDS);
        (vocabulary, weights)
    }

    /// Exact weights of words that tell documents with an instruction in them.
    fn planted(&self, vocabulary: &Vocabulary, places: &[usize]) -> Vec<[f32; 1]> {
        let documents: Vec<usize> = places
            .iter()
            .copied()
            .filter(|&place| place < self.written && self.examples[place].document)
            .collect();
        // The parts of a harmless document are harmless; which part of another one is not, nobody says.
        let seen = |place: usize| {
            let parts = self.parts[place].iter().filter(move |_| !self.is_planted(place));
            std::iter::once(&self.ngrams[place]).chain(parts).map(move |text| (text, self.is_planted(place)))
        };
        let (rows, marks): (Vec<Vector>, Vec<[bool; 1]>) = documents
            .into_iter()
            .flat_map(seen)
            .map(|(text, planted)| (vocabulary.vector(text), [planted]))
            .unzip();
        let rows: Vec<&Vector> = rows.iter().collect();
        solve(&rows, &marks.iter().collect::<Vec<_>>(), vocabulary.keys.len(), COST_WORDS)
    }

    /// Those that a customer may write.
    fn messages(&self, places: &[usize]) -> Vec<usize> {
        places.iter().copied().filter(|&place| self.examples[place].message).collect()
    }

    fn is_planted(&self, place: usize) -> bool {
        PLANTED.iter().any(|&category| self.examples[place].marks[category as usize])
    }

    fn solve(&self, places: &[usize], rows: &[&Vector], features: usize, cost: f32) -> Vec<Row> {
        let marks: Vec<&Marks> = places.iter().map(|&place| &self.examples[place].marks).collect();
        solve(rows, &marks, features, cost)
    }

    /// The encoder and the weights of meaning by those of the examples that have a vector.
    fn meaning(&self, places: &[usize]) -> Option<(String, Vec<Row>)> {
        let (encoder, vectors) = self.vectors.as_ref()?;
        let messages = self.messages(places).into_iter();
        let known: Vec<usize> = messages.filter(|&place| place < vectors.len()).collect();
        let rows: Vec<&Vector> = known.iter().map(|&place| &vectors[place]).collect();
        let features = rows.first().map_or(0, |row| row.items.len());
        Some((encoder.clone(), self.solve(&known, &rows, features, COST_MEANING)))
    }

    /// The evidence for the examples of a fold by what was learned from the others.
    fn held_out(&self, fold: usize, found: &Found) -> HeldOut<'e> {
        let (held, rest): (Vec<usize>, Vec<usize>) =
            (0..self.examples.len()).partition(|&place| self.examples[place].fold == fold);
        let (vocabulary, words) = self.words(&rest);
        let meaning = self.meaning(&rest);
        let meant = |place: usize| {
            let ((_, weights), (_, vectors)) = (meaning.as_ref()?, self.vectors.as_ref()?);
            Some(scores(vectors.get(place)?, weights))
        };
        let see = |text: &Ngrams| scores(&vocabulary.vector(text), &words);
        let look = |place: usize| Evidence {
            lexicons: found.everywhere[place],
            words: most(std::iter::once(&self.ngrams[place]).chain(&self.parts[place]).map(see)),
            meaning: meant(place),
        };
        let messages = self.messages(&held).into_iter();
        let messages = messages.map(|place| (look(place), &self.examples[place].marks)).collect();
        let planted = self.planted(&vocabulary, &rest);
        let sounds = |text: &Ngrams| scores(&vocabulary.vector(text), &planted)[0];
        let search = |place: usize| {
            let parts = self.parts[place].iter().map(sounds);
            let whole = std::iter::once_with(|| sounds(&self.ngrams[place]));
            Some((signs(*found.documents.get(&place)?, parts, whole), self.is_planted(place)))
        };
        HeldOut { messages, documents: held.into_iter().filter_map(search).collect() }
    }
}

/// What the lexicons find in the examples.
struct Found {
    everywhere: Vec<Scores>,
    /// Those of passages, in documents, by their place.
    documents: BTreeMap<usize, f64>,
}

impl Found {
    fn new(examples: &[Example]) -> Result<Self, Error> {
        let (everywhere, in_passages) = (Scanner::everywhere(&[])?, Scanner::in_passages(&[])?);
        let look = |scanner: &Scanner, text: &str| scanner.score(&scanner.find(&views(text)));
        let found = examples.par_iter().map(|example| {
            if example.message { look(&everywhere, &example.text) } else { Scores::default() }
        });
        let documents = examples.par_iter().enumerate().filter(|(_, example)| example.document);
        let documents = documents.map(|(place, example)| {
            let scores = look(&in_passages, &example.text);
            (place, PLANTED.iter().map(|&category| scores[category as usize]).fold(0.0, f64::max))
        });
        Ok(Self { everywhere: found.collect(), documents: documents.collect() })
    }
}

/// Evidence for the examples of a fold, with what they are.
struct HeldOut<'e> {
    messages: Vec<(Evidence, &'e Marks)>,
    documents: Vec<(Join, bool)>,
}

/// A join for each category.
fn fit(held: &[(Evidence, &Marks)], dense: bool) -> Joins {
    let mut joins = Joins::default();
    let all = joins.par_iter_mut().enumerate();
    all.for_each(|(category, join)| {
        let known = held.iter().filter(|(evidence, _)| !dense || evidence.meaning.is_some());
        let examples = known.map(|(evidence, marks)| {
            let evidence = Evidence { meaning: evidence.meaning.filter(|_| dense), ..*evidence };
            (evidence.of(category), marks[category])
        });
        *join = logistic(&examples.collect::<Vec<_>>());
    });
    joins
}

fn logistic(examples: &[(Join, bool)]) -> Join {
    minimise(Join::default(), |weights| {
        let mut place = Place { value: 0.0, gradient: [0.0; 4], curvature: [[0.0; 4]; 4] };
        for (inputs, marked) in examples {
            let (chance, target) = (join(weights, inputs), f64::from(u8::from(*marked)));
            place.value -= (1.0 - (chance - target).abs()).max(1e-12).ln();
            for row in 0..4 {
                place.gradient[row] += (chance - target) * inputs[row];
                for column in 0..4 {
                    place.curvature[row][column] += chance * (1.0 - chance) * inputs[row] * inputs[column];
                }
            }
        }
        for (index, weight) in weights.iter().enumerate() {
            place.value += PRIOR * weight * weight;
            place.gradient[index] += 2.0 * PRIOR * weight;
            place.curvature[index][index] += 2.0 * PRIOR;
        }
        place
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_joins_that_ship_are_those_of_the_examples() {
        let mut examples = shipped().unwrap();
        let written = examples.len();
        examples.extend(vary(&examples));
        let fitted = Set::new(&examples, written, None).joins().unwrap();
        let shipped = Fitted::shipped().unwrap();
        let all =
            |it: &Fitted| it.joins.as_flattened().iter().copied().chain([it.planted]).collect::<Vec<_>>();
        let (fitted_all, shipped_all) = (all(&fitted), all(&shipped));
        let pairs = fitted_all.as_flattened().iter().zip(shipped_all.as_flattened());
        let file = std::env::temp_dir().join("joins.toml");
        for (now, before) in pairs {
            if (now - before).abs() > 0.01 * (1.0 + before.abs()) {
                std::fs::write(&file, toml::to_string(&fitted).unwrap()).unwrap();
                panic!("examples or features changed: copy {} to crates/{}", file.display(), JOINS.0);
            }
        }
    }
}
