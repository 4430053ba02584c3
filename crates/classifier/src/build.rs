//! The model of a bundle's intents, trained once under the hash of what went into it.

use std::fs;
use std::path::{Path, PathBuf};

use bundle::Reader;
use encoder::{Encoder, Vectors};

use crate::classify::Model;
use crate::file::FORMAT;
use crate::person::Person;
use crate::train::{Error, Example, train};

/// What a build made or found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Built {
    /// The model file.
    pub path: PathBuf,
    /// Content hash of the model, 64 hexadecimal digits.
    pub version: String,
    /// Intents.
    pub intents: usize,
    /// Training examples, titles among them.
    pub examples: usize,
    /// Whether it was there already and nothing was done.
    pub reused: bool,
}

/// Trains on the intents of a bundle and writes the model into its build folder, unless that is done already;
/// with an encoder the model has a dense part. `progress` is told how many of how many steps are done.
///
/// # Errors
/// Intents that do not validate, no example, an encoder that fails, a folder that cannot be written.
pub fn build(
    reader: &Reader,
    encoder: Option<&Encoder>,
    progress: &(dyn Fn(u64, u64) + Sync),
) -> Result<Built, Error> {
    let (path, examples) = locate(reader)?;
    let built = |model: &Model, reused| Built {
        path: path.clone(),
        version: model.version().to_owned(),
        intents: model.intents().len(),
        examples: examples.len(),
        reused,
    };
    Person::build(reader, encoder, progress)?;
    // A damaged file is made again, not kept; a model with a dense part serves words alone too.
    if let Ok(model) = load(&path, reader, encoder) {
        return Ok(built(&model, true));
    }
    let mut vectors = encoder.map(|encoder| Vectors::open(&reader.build_dir(), "intents", encoder));
    let model = train(&examples, vectors.as_mut(), None, progress)?;
    keep(&path, &model)?;
    Ok(built(&model, false))
}

/// Writes a model, whole or not at all.
pub(crate) fn keep(path: &Path, model: &Model) -> Result<(), Error> {
    let written = kit::files::write_whole(path, &model.to_bytes());
    written.map_err(|source| Error::File { path: path.to_owned(), source })
}

/// Loads the model of a bundle's present intents, for the vectors of an encoder when there is one.
///
/// # Errors
/// Intents that do not validate, [`Error::NotBuilt`], a damaged file, or a model of another encoder.
pub fn open(reader: &Reader, encoder: Option<&Encoder>) -> Result<Model, Error> {
    let (path, _) = locate(reader)?;
    load(&path, reader, encoder)
}

/// Loads a model; with an encoder it must have been built for that one.
pub(crate) fn load(path: &Path, reader: &Reader, encoder: Option<&Encoder>) -> Result<Model, Error> {
    if !path.exists() {
        return Err(Error::NotBuilt { path: path.to_owned(), root: reader.root().display().to_string() });
    }
    let bytes = fs::read(path).map_err(|source| Error::File { path: path.to_owned(), source })?;
    let model = Model::from_bytes(&bytes)?;
    let Some(present) = encoder.map(Encoder::id).filter(|id| model.encoder() != Some(id)) else {
        return Ok(model);
    };
    let built = model.encoder().unwrap_or("none").to_owned();
    Err(Error::Encoder { built, present: present.to_owned() })
}

/// The model file of a bundle's present examples, with those examples. A title is one more example of its
/// intent; thresholds and categories are no input. Those of no intent come last.
pub(crate) fn locate(reader: &Reader) -> Result<(PathBuf, Vec<Example>), Error> {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&FORMAT.to_le_bytes());
    let mut examples = Vec::new();
    for intent in reader.intents()? {
        for text in intent.examples.into_iter().chain([intent.title]) {
            for part in [&intent.name, &text] {
                hasher.update(&(part.len() as u64).to_le_bytes()).update(part.as_bytes());
            }
            examples.push(Example { text, intent: Some(intent.name.clone()) });
        }
    }
    for (_, text) in reader.out_of_scope()? {
        // No intent has an empty name.
        hasher.update(&0_u64.to_le_bytes()).update(&(text.len() as u64).to_le_bytes());
        hasher.update(text.as_bytes());
        examples.push(Example { text, intent: None });
    }
    let hash = hasher.finalize().to_hex();
    Ok((reader.build_dir().join(format!("intents-{}.model", &hash[..16])), examples))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASSISTANT: &str = "schema = 1\nname = \"shop\"\ntitle = \"Shop\"\nlocales = [\"en\"]\n\
        [handoff]\nmessage = \"One moment.\"\n[categories.orders]\ntitle = \"Orders\"\n";
    const INTENTS: &str = "[[intent]]\nname = \"refund\"\ntitle = \"Refund\"\ncategory = \"orders\"\n\
        description = \"Money back.\"\nexamples = [\"I want my money back\", \"refund please\"]\n\
        [[intent]]\nname = \"status\"\ntitle = \"Status\"\ncategory = \"orders\"\n\
        description = \"Where it is.\"\nexamples = [\"where is my order\", \"order status\"]\n";

    #[test]
    fn a_model_is_built_once_for_its_examples_and_again_when_they_change_or_it_is_damaged() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("intents")).unwrap();
        fs::write(folder.path().join("assistant.toml"), ASSISTANT).unwrap();
        let write = |text: &str| {
            fs::write(folder.path().join("intents/all.toml"), text).unwrap();
            Reader::open(folder.path()).unwrap()
        };
        let reader = write(INTENTS);
        let error = open(&reader, None).unwrap_err();
        assert!(error.to_string().contains("run \"firstline bundle build"), "{error}");

        let first = build(&reader, None, &|_, _| {}).unwrap();
        assert!(!first.reused && build(&reader, None, &|_, _| {}).unwrap().reused);
        assert_eq!(open(&reader, None).unwrap().version(), first.version);

        fs::write(&first.path, b"FLINTENT").unwrap();
        assert!(matches!(open(&reader, None), Err(Error::Damaged(_))));
        assert_eq!(build(&reader, None, &|_, _| {}).unwrap(), first);

        let changed =
            build(&write(&INTENTS.replace("order status", "track my parcel")), None, &|_, _| {}).unwrap();
        assert_ne!((changed.path, changed.version), (first.path, first.version));
        let described = build(&write(&INTENTS.replace("Where it is.", "Where?")), None, &|_, _| {}).unwrap();
        assert!(described.reused);
    }

    #[test]
    fn examples_out_of_scope_change_that_score_and_no_intent() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("intents")).unwrap();
        fs::write(folder.path().join("assistant.toml"), ASSISTANT).unwrap();
        fs::write(folder.path().join("intents/all.toml"), INTENTS).unwrap();
        let made = || {
            let reader = Reader::open(folder.path()).unwrap();
            let built = build(&reader, None, &|_, _| {}).unwrap();
            (built.path, open(&reader, None).unwrap())
        };
        let (path, plain) = made();
        let weather = ["is it raining", "will it snow", "how warm is it outside", "a storm is coming"];
        fs::write(folder.path().join("intents/other.toml"), format!("out_of_scope = {weather:?}\n")).unwrap();
        let (taught_path, taught) = made();
        assert_ne!(taught_path, path);
        assert_eq!(taught.intents(), plain.intents());
        let scores = |model: &Model, text: &str| model.classify(text, None);
        assert_eq!(scores(&taught, "my order").ranked, scores(&plain, "my order").ranked);
        let limit = taught.threshold(false);
        let (inside, outside) = (scores(&taught, "where is my order"), scores(&taught, "is it windy"));
        assert!(
            inside.out_of_scope < limit && limit < outside.out_of_scope,
            "{inside:?} {limit} {outside:?}"
        );
        assert_ne!(outside.out_of_scope, scores(&plain, "is it windy").out_of_scope);
    }
}
