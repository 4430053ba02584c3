//! Vectors kept between builds: a text that did not change is not encoded again.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::{Encoder, Error};

const MAGIC: &[u8; 8] = b"FLVECTR1";
const KEY_BYTES: usize = 16;
/// How many new vectors are kept at once, so that a build that is stopped does not begin again.
const SAVE_EVERY: usize = 4096;

type Key = [u8; KEY_BYTES];

/// A file of vectors by the hash of their text, of one encoder.
#[derive(Debug)]
pub struct Vectors<'e> {
    encoder: &'e Encoder,
    path: Option<PathBuf>,
    known: HashMap<Key, Vec<f32>>,
}

impl<'e> Vectors<'e> {
    /// The vectors kept under a name in a folder; none when there is no file, it is damaged, or it is of
    /// another encoder.
    pub fn open(folder: &Path, name: &str, encoder: &'e Encoder) -> Self {
        let path = folder.join(format!("{name}.vectors"));
        let known = fs::read(&path).ok().and_then(|bytes| parse(&bytes, encoder)).unwrap_or_default();
        Self { encoder, path: Some(path), known }
    }

    /// No file: the vectors are forgotten with this.
    pub fn in_memory(encoder: &'e Encoder) -> Self {
        Self { encoder, path: None, known: HashMap::new() }
    }

    /// The encoder that makes the vectors.
    pub fn encoder(&self) -> &'e Encoder {
        self.encoder
    }

    /// The vectors of the texts, in their order; the file then holds these and no others. `progress` is told
    /// how many of how many are done.
    ///
    /// # Errors
    /// The encoder fails, or the file cannot be written.
    pub fn of(
        &mut self,
        texts: &[&str],
        progress: &(dyn Fn(u64, u64) + Sync),
    ) -> Result<Vec<Vec<f32>>, Error> {
        let keys: Vec<Key> = texts.iter().map(|text| key(text)).collect();
        let mut missing: Vec<usize> =
            (0..texts.len()).filter(|&index| !self.known.contains_key(&keys[index])).collect();
        missing.sort_by_key(|&index| keys[index]);
        missing.dedup_by_key(|index| keys[*index]);
        let total = missing.len();
        for (part, some) in missing.chunks(SAVE_EVERY).enumerate() {
            let wanted: Vec<&str> = some.iter().map(|&index| texts[index]).collect();
            let before = part * SAVE_EVERY;
            let vectors =
                self.encoder.embed_all(&wanted, &|n| progress((before + n) as u64, total as u64))?;
            self.known.extend(some.iter().map(|&index| keys[index]).zip(vectors));
            self.save(self.known.keys())?;
        }
        if self.known.len() > keys.len() {
            self.save(keys.iter().collect::<std::collections::BTreeSet<_>>().into_iter())?;
        }
        Ok(keys.iter().map(|key| self.known[key].clone()).collect())
    }

    fn save<'k>(&self, keys: impl Iterator<Item = &'k Key>) -> Result<(), Error> {
        let Some(path) = &self.path else { return Ok(()) };
        let mut bytes = MAGIC.to_vec();
        let id = self.encoder.id().as_bytes();
        bytes.extend((id.len() as u32).to_le_bytes());
        bytes.extend(id);
        bytes.extend((self.encoder.dimension() as u32).to_le_bytes());
        for key in keys {
            bytes.extend(key);
            bytes.extend(self.known[key].iter().flat_map(|value| value.to_le_bytes()));
        }
        kit::files::write_whole(path, &bytes).map_err(|source| Error::Io { path: path.clone(), source })
    }
}

fn key(text: &str) -> Key {
    let mut key = [0; KEY_BYTES];
    key.copy_from_slice(&blake3::hash(text.as_bytes()).as_bytes()[..KEY_BYTES]);
    key
}

fn parse(bytes: &[u8], encoder: &Encoder) -> Option<HashMap<Key, Vec<f32>>> {
    let bytes = bytes.strip_prefix(MAGIC)?;
    let (length, bytes) = bytes.split_first_chunk()?;
    let (id, bytes) = bytes.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    let (dimension, bytes) = bytes.split_first_chunk()?;
    let dimension = u32::from_le_bytes(*dimension) as usize;
    if id != encoder.id().as_bytes() || dimension != encoder.dimension() {
        return None;
    }
    let rows = bytes.chunks_exact(KEY_BYTES + 4 * dimension);
    rows.remainder().is_empty().then_some(())?;
    let row = |row: &[u8]| {
        let (key, values) = row.split_first_chunk::<KEY_BYTES>()?;
        let (values, _) = values.as_chunks();
        Some((*key, values.iter().map(|&value| f32::from_le_bytes(value)).collect()))
    };
    rows.map(row).collect()
}
