//! The model file: magic, format version, content hash, body; little endian.

use crate::calibrate::Fitted;
use crate::classify::{Meaning, Model};
use crate::dense::Dense;
use crate::linear::Linear;
use crate::near::Examples;
use crate::train::Error;
use learn::{Vocabulary, Weights};

/// First bytes of every model file.
const MAGIC: &[u8; 8] = b"FLINTENT";
/// Changes whenever the body, the features or the scoring do: an old file must not be read as a new one.
pub(crate) const FORMAT: u32 = 4;
const HASH_BYTES: usize = 32;

impl Model {
    /// The model as bytes, equal for equal models.
    pub fn to_bytes(&self) -> Vec<u8> {
        let body = self.body();
        let hash = blake3::hash(&body);
        [MAGIC.as_slice(), &FORMAT.to_le_bytes(), hash.as_bytes(), &body].concat()
    }

    /// Reads a model.
    ///
    /// # Errors
    /// [`Error::Damaged`] for bytes that are no model, of another format version, cut short, or changed.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        let mut input = Input(bytes);
        if input.take(MAGIC.len())? != MAGIC {
            return Err(Error::Damaged("it does not begin as a model does"));
        }
        if input.number()? != FORMAT as usize {
            return Err(Error::Damaged("it has the format of another version"));
        }
        let hash = input.take(HASH_BYTES)?;
        if blake3::hash(input.0).as_bytes() != hash {
            return Err(Error::Damaged("its content does not match its hash"));
        }
        let mut intents = Vec::new();
        for _ in 0..input.number()? {
            intents.push(input.text()?);
        }
        let words = input.fitted()?;
        let (features, word_features) = (input.number()?, input.number()?);
        let keys = input.many(features, u64::from_le_bytes)?;
        let idf = input.many(features, f32::from_le_bytes)?;
        let scales = input.many(features, f32::from_le_bytes)?;
        let values = input.many(features.saturating_mul(intents.len()), i8::from_le_bytes)?;
        let mut centroids = Vec::new();
        for _ in 0..intents.len() {
            let length = input.number()?;
            let ids = input.many(length, u32::from_le_bytes)?;
            centroids.push(ids.into_iter().zip(input.many(length, f32::from_le_bytes)?).collect());
        }
        let meaning = input.meaning(intents.len())?;
        if !input.0.is_empty() || intents.is_empty() || word_features > features {
            return Err(Error::Damaged("its parts do not fit together"));
        }
        let vocabulary = Vocabulary::new(keys, idf, word_features);
        let weights = Weights { classes: intents.len(), scales, values };
        let linear = Linear { vocabulary, weights, centroids };
        let version =
            blake3::Hash::from_slice(hash).map_or_else(|_| String::new(), |hash| hash.to_hex().to_string());
        Ok(Self { intents, linear, words, meaning, version })
    }

    /// Sets the version to the hash of the content.
    pub(crate) fn seal(&mut self) {
        self.version = blake3::hash(&self.body()).to_hex().to_string();
    }

    fn body(&self) -> Vec<u8> {
        let linear = &self.linear;
        let vocabulary = &linear.vocabulary;
        let mut body = Vec::with_capacity(linear.weights.values.len() * 2);
        let number = |body: &mut Vec<u8>, value: usize| body.extend((value as u32).to_le_bytes());
        number(&mut body, self.intents.len());
        for intent in &self.intents {
            number(&mut body, intent.len());
            body.extend(intent.bytes());
        }
        write_fitted(&mut body, &self.words);
        number(&mut body, vocabulary.features());
        number(&mut body, vocabulary.words);
        body.extend(vocabulary.keys.iter().flat_map(|key| key.to_le_bytes()));
        body.extend(
            vocabulary.idf.iter().chain(&linear.weights.scales).flat_map(|value| value.to_le_bytes()),
        );
        body.extend(linear.weights.values.iter().flat_map(|weight| weight.to_le_bytes()));
        for centroid in &linear.centroids {
            number(&mut body, centroid.len());
            body.extend(centroid.iter().flat_map(|(id, _)| id.to_le_bytes()));
            body.extend(centroid.iter().flat_map(|(_, value)| value.to_le_bytes()));
        }
        number(&mut body, self.meaning.as_ref().map_or(0, |meaning| meaning.dense.mean.len()));
        if let Some(Meaning { dense, fitted }) = &self.meaning {
            number(&mut body, dense.encoder.len());
            body.extend(dense.encoder.bytes());
            write_fitted(&mut body, fitted);
            let values = dense.mean.iter().chain(&dense.weights).chain(&dense.centroids);
            body.extend(values.flat_map(|value| value.to_le_bytes()));
            let Examples { counts, values, scales, radii } = &dense.examples;
            body.extend(counts.iter().flat_map(|count| count.to_le_bytes()));
            body.extend(values.iter().flat_map(|value| value.to_le_bytes()));
            body.extend(scales.iter().chain(radii).flat_map(|value| value.to_le_bytes()));
        }
        body
    }
}

fn write_fitted(body: &mut Vec<u8>, fitted: &Fitted) {
    let limits = [fitted.threshold, fitted.acceptance];
    let values = fitted.weights.iter().chain(&fitted.confidence).chain(&limits).chain(&fitted.outlier);
    body.extend(values.flat_map(|value| value.to_le_bytes()));
}

/// What is left to read.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], Error> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(Error::Damaged("it is cut short"))?;
        self.0 = rest;
        Ok(taken)
    }

    fn many<const N: usize, T>(&mut self, count: usize, decode: fn([u8; N]) -> T) -> Result<Vec<T>, Error> {
        let (values, _) = self.take(count.saturating_mul(N))?.as_chunks();
        Ok(values.iter().map(|&value| decode(value)).collect())
    }

    fn number(&mut self) -> Result<usize, Error> {
        Ok(self.many(1, u32::from_le_bytes)?[0] as usize)
    }

    fn text(&mut self) -> Result<String, Error> {
        let length = self.number()?;
        let text = str::from_utf8(self.take(length)?).map_err(|_| Error::Damaged("a name is not UTF-8"))?;
        Ok(text.to_owned())
    }

    fn fitted(&mut self) -> Result<Fitted, Error> {
        let (weights, confidence) = (self.doubles()?, self.doubles()?);
        let [threshold, acceptance] = self.doubles()?;
        Ok(Fitted { weights, confidence, threshold, acceptance, outlier: self.doubles()? })
    }

    /// The dense part, which begins with the size of a vector; 0 stands for none.
    fn meaning(&mut self, classes: usize) -> Result<Option<Meaning>, Error> {
        let dimension = self.number()?;
        if dimension == 0 {
            return Ok(None);
        }
        let encoder = self.text()?;
        let fitted = self.fitted()?;
        let mean = self.many(dimension, f32::from_le_bytes)?;
        let weights = self.many(dimension.saturating_mul(classes), f32::from_le_bytes)?;
        let centroids = self.many(dimension.saturating_mul(classes), f32::from_le_bytes)?;
        let counts = self.many(classes, u32::from_le_bytes)?;
        let all = counts.iter().fold(0_usize, |sum, &count| sum.saturating_add(count as usize));
        let values = self.many(dimension.saturating_mul(all), i8::from_le_bytes)?;
        let (scales, radii) = (self.many(all, f32::from_le_bytes)?, self.many(all, f32::from_le_bytes)?);
        let examples = Examples { counts, values, scales, radii };
        Ok(Some(Meaning { dense: Dense { encoder, mean, weights, centroids, examples }, fitted }))
    }

    fn doubles<const N: usize>(&mut self) -> Result<[f64; N], Error> {
        let values = self.many(N, f64::from_le_bytes)?;
        values.try_into().map_err(|_| Error::Damaged("it is cut short"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::{tests::examples, train};

    #[test]
    fn a_model_read_back_says_the_same() {
        let model = train(&examples(), None, None, &|_, _| {}).unwrap();
        let again = Model::from_bytes(&model.to_bytes()).unwrap();
        assert_eq!(again.version(), model.version());
        assert_eq!(again.to_bytes(), model.to_bytes());
        assert_eq!(again.classify("lost card", None), model.classify("lost card", None));
    }

    #[test]
    fn a_cut_or_changed_file_is_refused() {
        let bytes = train(&examples(), None, None, &|_, _| {}).unwrap().to_bytes();
        for length in (0..bytes.len()).step_by(997).chain([0, 7, 8, 12, 44, bytes.len() - 1]) {
            assert!(matches!(Model::from_bytes(&bytes[..length]), Err(Error::Damaged(_))), "{length}");
        }
        for place in (0..bytes.len()).step_by(997).chain([0, 8, 12, 44, bytes.len() - 1]) {
            let mut changed = bytes.clone();
            changed[place] ^= 1;
            assert!(matches!(Model::from_bytes(&changed), Err(Error::Damaged(_))), "{place}");
        }
        assert!(matches!(Model::from_bytes(&[bytes, vec![0]].concat()), Err(Error::Damaged(_))));
    }
}
