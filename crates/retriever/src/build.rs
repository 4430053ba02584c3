//! The index of a bundle's knowledge, written once under the hash of what went into it.

use std::path::{Path, PathBuf};
use std::{fs, io};

use bundle::{Document, Reader};
use encoder::{Encoder, Vectors};
use tantivy::directory::{INDEX_WRITER_LOCK, META_LOCK, MmapDirectory};
use tantivy::indexer::NoMergePolicy;

use crate::index::{self, Error, FORMAT, Fields, cut};

/// Most memory to write with. Small knowledge needs no more than its own size; a million passages of 60 words
/// in arenas of 15 MB are some hundred segments to merge.
const MAX_ARENA_BYTES: usize = 200_000_000;

/// What a build made or found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Built {
    /// The folder of the index.
    pub path: PathBuf,
    /// Hash of the knowledge and the format, 16 hexadecimal digits, in the dense tier with 8 more of the
    /// encoder: the index version before any change.
    pub version: String,
    /// Whether it was there already and nothing was done.
    pub reused: bool,
}

/// Indexes the knowledge of a bundle into its build folder, with a vector a passage when there is an encoder,
/// unless that is done already. `progress` is told how many steps are done and how many there are.
///
/// # Errors
/// Knowledge that does not validate, a folder that cannot be written, a failure of the index or the encoder.
pub fn build(
    reader: &Reader,
    encoder: Option<&Encoder>,
    progress: &(dyn Fn(u64, u64) + Sync),
) -> Result<Built, Error> {
    let (path, version) = locate(reader, encoder);
    let built = Built { path, version, reused: true };
    if built.path.exists() {
        return Ok(built);
    }
    let mut documents = reader.knowledge()?;
    documents.sort_by(|a, b| a.id.cmp(&b.id));
    let temporary = built.path.with_extension(format!("tmp-{}", std::process::id()));
    remove(&temporary).map_err(Error::at(&temporary))?;
    fs::create_dir_all(&temporary).map_err(Error::at(&temporary))?;
    let known = encoder.map(|encoder| Vectors::open(&reader.build_dir(), "passages", encoder));
    let outcome = write(&temporary, &documents, known, progress)
        .and_then(|()| fs::rename(&temporary, &built.path).map_err(Error::at(&built.path)));
    if let Err(error) = outcome {
        let _ = remove(&temporary);
        // Another build of the same content may have been faster.
        return if built.path.exists() { Ok(built) } else { Err(error) };
    }
    Ok(Built { reused: false, ..built })
}

/// Whether the index of a bundle's present knowledge is there, by the encoder when there is one.
///
/// # Errors
/// The build folder cannot be looked into.
pub fn is_built(reader: &Reader, encoder: Option<&Encoder>) -> Result<bool, Error> {
    Ok(find(reader, encoder)?.is_some())
}

/// The folder and the version of the index of a bundle's present knowledge by this encoder.
fn locate(reader: &Reader, encoder: Option<&Encoder>) -> (PathBuf, String) {
    let mut hasher = blake3::Hasher::new();
    hasher.update(FORMAT).update(reader.hash_of(&["knowledge"]).as_bytes());
    let mut version = hasher.finalize().to_hex()[..16].to_owned();
    if let Some(encoder) = encoder {
        let id = format!("{} {}", encoder.id(), encoder.dimension());
        version = format!("{version}-{}", &blake3::hash(id.as_bytes()).to_hex()[..8]);
    }
    (reader.build_dir().join(format!("index-{version}")), version)
}

/// The folder and version of the index to open. Words are the same in every tier: without an encoder any
/// index of the present knowledge does, with one only its own.
pub(crate) fn find(reader: &Reader, encoder: Option<&Encoder>) -> Result<Option<(PathBuf, String)>, Error> {
    let (path, version) = locate(reader, encoder);
    if path.is_dir() {
        return Ok(Some((path, version)));
    }
    let folder = reader.build_dir();
    if encoder.is_some() || !folder.is_dir() {
        return Ok(None);
    }
    let mut others = Vec::new();
    for entry in fs::read_dir(&folder).map_err(Error::at(&folder))? {
        let name = entry.map_err(Error::at(&folder))?.file_name().to_string_lossy().into_owned();
        let tier = name.strip_prefix(&format!("index-{version}-")).map(str::len);
        if tier == Some(8) {
            others.push((folder.join(&name), name["index-".len()..].to_owned()));
        }
    }
    Ok(others.into_iter().min())
}

fn write(
    folder: &Path,
    documents: &[Document],
    known: Option<Vectors<'_>>,
    progress: &(dyn Fn(u64, u64) + Sync),
) -> Result<(), Error> {
    let directory = MmapDirectory::open(folder).map_err(tantivy::TantivyError::from)?;
    let index = index::open(directory)?;
    let (_, fields) = Fields::schema();
    let text: usize = documents.iter().map(|document| document.content.len()).sum();
    let mut writer = index::writer(&index, text.min(MAX_ARENA_BYTES))?;
    writer.set_merge_policy(Box::new(NoMergePolicy));
    let cut = cut(documents);
    let vectors = match known {
        Some(mut known) => index::vectors(&cut, |texts| known.of(texts, progress))?,
        None => Vec::new(),
    };
    let mut vectors = vectors.into_iter();
    let total = cut.len() as u64;
    for (done, cut) in cut.iter().enumerate() {
        progress(done as u64, total);
        fields.add(&writer, cut, &mut vectors)?;
    }
    writer.commit()?;
    let segments = index.searchable_segment_ids()?;
    if segments.len() > 1 {
        writer.merge(&segments).wait()?;
        writer.garbage_collect_files().wait()?;
    }
    writer.wait_merging_threads()?;
    progress(total, total);
    tidy(folder).map_err(Error::at(folder))
}

/// Gives the files that tantivy made for its own user alone the usual permissions, since another user may serve
/// what this one built, and removes its locks.
fn tidy(folder: &Path) -> io::Result<()> {
    for name in ["meta.json", ".managed.json"] {
        let path = folder.join(name);
        let content = fs::read(&path)?;
        fs::remove_file(&path)?;
        fs::write(&path, content)?;
    }
    for lock in [&*INDEX_WRITER_LOCK, &*META_LOCK] {
        fs::remove_file(folder.join(&lock.filepath)).or_else(|error| match error.kind() {
            io::ErrorKind::NotFound => Ok(()),
            _ => Err(error),
        })?;
    }
    Ok(())
}

fn remove(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        outcome => outcome,
    }
}
