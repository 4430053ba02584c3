//! Training of the guard: weights from all examples, and how they join the lexicons from examples held out.

use std::path::{Path, PathBuf};

use encoder::{Encoder, Vectors};
use learn::{Ngrams, Place, Vector, Vocabulary, Weights, minimise};
use rayon::prelude::*;

use crate::decode::views;
use crate::error::Error;
use crate::examples::{Example, FOLDS, Marks, fingerprint, of_bundle, shipped};
use crate::guard::{Evidence, Guard, Join, Joins, Meaning, Parts, join, most, parts};
use crate::lexicon::{self, Lexicon};
use crate::policy::Category;
use crate::scan::Scanner;
use crate::solve::{Row, scores, solve};
use crate::vary::vary;

/// Changes whenever features, training or scoring do: an old guard must not serve a new program.
const FORMAT: u32 = 1;
/// Costs of a margin violation by words and by meaning.
const COST_WORDS: f32 = 1.0;
const COST_MEANING: f32 = 0.1;
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
    hasher.update(&FORMAT.to_le_bytes());
    fingerprint(&mut hasher);
    lexicon::fingerprint(&mut hasher);
    for Example { text, marks, fold } in own {
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
    examples.extend(vary(&examples));
    let set = Set::new(&examples, meaning)?;
    let held: Vec<Vec<(usize, Evidence)>> =
        (0..FOLDS).into_par_iter().map(|fold| set.held_out(fold)).collect();
    let held = held.into_iter().flatten();
    let held: Vec<(Evidence, &Marks)> =
        held.map(|(index, evidence)| (evidence, &examples[index].marks)).collect();
    let all: Vec<usize> = (0..examples.len()).collect();
    let (vocabulary, exact) = set.words(&all);
    let (bias, rows) = exact.split_last().map(|(bias, rows)| (*bias, rows)).unwrap_or_default();
    let words = Weights::pack(rows.as_flattened(), Category::ALL.len());
    let meaning = set.meaning(&all).map(|(encoder, weights)| Meaning { encoder, weights });
    Guard::new(
        vocabulary,
        Parts { words, bias, meaning, joins: [false, true].map(|dense| fit(&held, dense)) },
    )
}

/// A vector of an encoder as the solver takes it.
fn dense(row: &[f32]) -> Vector {
    Vector { items: (0..).zip(row.iter().copied()).collect(), known_words: 1.0, known_parts: 1.0 }
}

/// The examples, as everything that is trained on them sees them.
struct Set<'e> {
    examples: &'e [Example],
    ngrams: Vec<Ngrams>,
    /// The n-grams of the parts of each text.
    parts: Vec<Vec<Ngrams>>,
    lexicons: Vec<crate::policy::Scores>,
    /// The encoder's id and the vectors of the first examples.
    vectors: Option<(String, Vec<Vector>)>,
}

impl<'e> Set<'e> {
    fn new(examples: &'e [Example], vectors: Option<(String, Vec<Vector>)>) -> Result<Self, Error> {
        let (baseline, _) = Lexicon::baseline()?;
        let scanner = Scanner::new(&baseline)?;
        let ngrams = examples.par_iter().map(|example| Ngrams::of(&example.text)).collect();
        let parts =
            examples.par_iter().map(|example| parts(&example.text).map(Ngrams::of).collect()).collect();
        let look = |example: &Example| scanner.score(&scanner.find(&views(&example.text)));
        Ok(Self { examples, ngrams, parts, lexicons: examples.par_iter().map(look).collect(), vectors })
    }

    /// Vocabulary and exact weights of words.
    fn words(&self, places: &[usize]) -> (Vocabulary, Vec<Row>) {
        let texts: Vec<&Ngrams> = places.iter().map(|&place| &self.ngrams[place]).collect();
        let vocabulary = Vocabulary::fit(&texts);
        let rows: Vec<Vector> = texts.iter().map(|text| vocabulary.vector(text)).collect();
        let weights = self.solve(places, &rows.iter().collect::<Vec<_>>(), COST_WORDS);
        (vocabulary, weights)
    }

    fn solve(&self, places: &[usize], rows: &[&Vector], cost: f32) -> Vec<Row> {
        let marks: Vec<&Marks> = places.iter().map(|&place| &self.examples[place].marks).collect();
        let items = rows.iter().flat_map(|row| &row.items);
        let features = items.map(|(id, _)| *id as usize + 1).max().unwrap_or(0);
        solve(rows, &marks, features, cost)
    }

    /// The encoder and the weights of meaning by those of the examples that have a vector.
    fn meaning(&self, places: &[usize]) -> Option<(String, Vec<Row>)> {
        let (encoder, vectors) = self.vectors.as_ref()?;
        let known: Vec<usize> = places.iter().copied().filter(|&place| place < vectors.len()).collect();
        let rows: Vec<&Vector> = known.iter().map(|&place| &vectors[place]).collect();
        Some((encoder.clone(), self.solve(&known, &rows, COST_MEANING)))
    }

    /// The evidence for the examples of a fold by what was learned from the others.
    fn held_out(&self, fold: usize) -> Vec<(usize, Evidence)> {
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
            lexicons: self.lexicons[place],
            words: most(std::iter::once(&self.ngrams[place]).chain(&self.parts[place]).map(see)),
            meaning: meant(place),
        };
        held.into_iter().map(|place| (place, look(place))).collect()
    }
}

/// The joins that make the examples held out most likely.
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
