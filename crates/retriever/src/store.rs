//! The index that answers: the bundle's own, or a copy of it that takes changes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use bundle::{Audience, Document, Reader};
use encoder::Encoder;
use tantivy::collector::Count;
use tantivy::directory::MmapDirectory;
use tantivy::query::TermQuery;
use tantivy::schema::IndexRecordOption;
use tantivy::{Index, IndexReader, IndexWriter, ReloadPolicy, Searcher, TantivyError, Term};

use crate::build::find;
use crate::config::Config;
use crate::index::{self, Error, Fields, Frozen, audience_name, cut};
use crate::meaning::Meanings;
use crate::rerank::Reranker;
use crate::search::{Found, Query, Source, search};
use crate::synonyms::Synonyms;

/// Held by the process that changes a live index, from its first change to its end.
const LOCK_FILE: &str = ".firstline-writer.lock";

/// What the index holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// Documents.
    pub documents: u64,
    /// Passages.
    pub passages: u64,
    /// Version: the hash of the bundle's knowledge and, once changed, a hash over all changes.
    pub index_version: String,
}

/// What a change did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changed {
    /// Documents written or deleted.
    pub documents: usize,
    /// Version of the index after the change.
    pub index_version: String,
}

/// One commit, with everything said about it: a search sees one or another, never a mixture.
struct Snapshot {
    searcher: Searcher,
    meanings: Meanings,
    state: State,
}

/// Who may change the index.
enum Access {
    /// Nobody, and why.
    Refused(String),
    /// One change at a time; the file is locked from the first on.
    Granted { lock: Mutex<Option<File>>, path: PathBuf },
}

/// The index of a bundle: searches without waiting, changes one at a time.
pub struct Retriever {
    index: Index,
    reader: IndexReader,
    fields: Fields,
    config: Config,
    synonyms: Synonyms,
    reranker: Option<Reranker>,
    /// What the vectors of the passages are by; `None` in the linear tier.
    encoder: Option<Arc<Encoder>>,
    /// Version of the index as it was built.
    base: String,
    access: Access,
    snapshot: RwLock<Arc<Snapshot>>,
}

impl Retriever {
    /// Opens the bundle's own index, which is never written to.
    ///
    /// # Errors
    /// The index was not built, or cannot be read.
    pub fn open(reader: &Reader, encoder: Option<Arc<Encoder>>, config: &Config) -> Result<Self, Error> {
        let (folder, base) = built(reader, encoder.as_deref())?;
        let frozen = Frozen(MmapDirectory::open(&folder).map_err(TantivyError::from)?);
        let reason = "it is the bundle's own, opened without a data folder".to_owned();
        Self::new(index::open(frozen)?, base, encoder, config, Access::Refused(reason))?.with(reader)
    }

    /// Opens the live index of the bundle under `data_dir`, first copied from the bundle's own when there is
    /// none. When the folder cannot be written to, the bundle's own is opened instead, read only.
    ///
    /// # Errors
    /// The index was not built, or cannot be read or copied.
    pub fn open_live(
        reader: &Reader,
        encoder: Option<Arc<Encoder>>,
        data_dir: &Path,
        config: &Config,
    ) -> Result<Self, Error> {
        let (folder, base) = built(reader, encoder.as_deref())?;
        let live = data_dir.join("retriever").join(&base);
        let path = live.join(LOCK_FILE);
        match copy(&folder, &live).and_then(|()| open_lock(&path)) {
            Ok(_) => {}
            Err(source) if is_read_only(&source) => {
                let reason = format!("{} cannot be written to", live.display());
                tracing::warn!(reason, "documents cannot be changed");
                return Ok(Self { access: Access::Refused(reason), ..Self::open(reader, encoder, config)? });
            }
            Err(source) => return Err(Error::Io { path: live, source }),
        }
        let directory = MmapDirectory::open(&live).map_err(TantivyError::from)?;
        let access = Access::Granted { lock: Mutex::new(None), path };
        Self::new(index::open(directory)?, base, encoder, config, access)?.with(reader)
    }

    /// An index that takes no changes.
    pub(crate) fn fixed(
        index: Index,
        encoder: Option<Arc<Encoder>>,
        config: &Config,
        reason: &str,
    ) -> Result<Self, Error> {
        Self::new(index, String::new(), encoder, config, Access::Refused(reason.to_owned()))
    }

    fn new(
        index: Index,
        base: String,
        encoder: Option<Arc<Encoder>>,
        config: &Config,
        access: Access,
    ) -> Result<Self, Error> {
        let (_, fields) = Fields::schema();
        let reader = index.reader_builder().reload_policy(ReloadPolicy::Manual).try_into()?;
        let known = encoder.as_ref().map(|_| Meanings::default());
        let snapshot = RwLock::new(Arc::new(snapshot(&index, &reader, &fields, &base, known.as_ref())?));
        let (config, synonyms) = (config.clone(), Synonyms::default());
        let reranker = Reranker::new(&config.rerank).map_err(Error::Reranker)?;
        let retriever =
            Self { index, reader, fields, config, synonyms, reranker: None, encoder, base, access, snapshot };
        retriever.warm()?;
        Ok(Self { reranker, ..retriever })
    }

    /// Searches with the synonyms of the bundle.
    fn with(self, reader: &Reader) -> Result<Self, Error> {
        let synonyms = Synonyms::new(&reader.synonyms()?, &mut index::analyser());
        Ok(Self { synonyms, ..self })
    }

    /// The best passages for a question, 0.1 ms for some thousand passages, 2 ms for a million.
    ///
    /// # Errors
    /// The index cannot be read, or the vector is not of the encoder the passages went through. Without an
    /// encoder the vector does not count.
    pub fn search(&self, query: &Query<'_>) -> Result<Found, Error> {
        if let (Some(present), Some((id, vector))) = (&self.encoder, query.vector)
            && (present.id() != id || present.dimension() != vector.len())
        {
            let name = |id: &str, dimension: usize| format!("{id:?}, {dimension} dimensions");
            let (index, request) = (name(present.id(), present.dimension()), name(id, vector.len()));
            return Err(Error::Mismatch { request, index });
        }
        let snapshot = self.snapshot();
        let Self { fields, config, synonyms, .. } = self;
        let Snapshot { searcher, meanings, .. } = &*snapshot;
        let reranker = self.reranker.as_ref();
        let passages = search(&Source { searcher, meanings, fields, config, synonyms, reranker }, query)?;
        Ok(Found { passages, index_version: snapshot.state.index_version.clone() })
    }

    /// What the index holds now.
    pub fn state(&self) -> State {
        self.snapshot().state.clone()
    }

    /// Adds documents, or replaces those of the same id; the last of several with one id wins. All or none;
    /// on disk and visible to every search that begins after it returns. Blocks.
    ///
    /// # Errors
    /// A document out of its limits, an index that is read only, a full disk.
    pub fn put(&self, documents: &[Document]) -> Result<Changed, Error> {
        documents.iter().enumerate().try_for_each(|(index, document)| check(index, document))?;
        let latest: BTreeMap<&str, &Document> =
            documents.iter().map(|document| (document.id.as_str(), document)).collect();
        let _lock = self.lock()?;
        if latest.is_empty() {
            return Ok(Changed { documents: 0, index_version: self.state().index_version });
        }
        let mut change = blake3::Hasher::new_derive_key("firstline retriever put 1");
        latest.values().for_each(|document| digest(&mut change, document));
        let cut = cut(latest.values().copied());
        let vectors = match &self.encoder {
            Some(encoder) => index::vectors(&cut, |texts| encoder.embed_all(texts, &|_| {}))?,
            None => Vec::new(),
        };
        let mut vectors = vectors.into_iter();
        let index_version = self.commit(change, |writer| {
            cut.iter().try_for_each(|cut| {
                writer.delete_term(self.fields.id_term(&cut.0.id));
                self.fields.add(writer, cut, &mut vectors)
            })
        })?;
        Ok(Changed { documents: latest.len(), index_version })
    }

    /// Deletes documents by id; an id that is not there is passed over. All or none, visible and blocking
    /// as [`Retriever::put`].
    ///
    /// # Errors
    /// An index that is read only, a full disk.
    pub fn delete<'a>(&self, ids: impl IntoIterator<Item = &'a str>) -> Result<Changed, Error> {
        let _lock = self.lock()?;
        let snapshot = self.snapshot();
        let mut found = BTreeSet::new();
        for id in ids {
            if count(&snapshot.searcher, self.fields.id_term(id))? > 0 {
                found.insert(id);
            }
        }
        if found.is_empty() {
            return Ok(Changed { documents: 0, index_version: snapshot.state.index_version.clone() });
        }
        let mut change = blake3::Hasher::new_derive_key("firstline retriever delete 1");
        for id in &found {
            change.update(&(id.len() as u64).to_le_bytes()).update(id.as_bytes());
        }
        let index_version = self.commit(change, |writer| {
            for id in &found {
                writer.delete_term(self.fields.id_term(id));
            }
            Ok(())
        })?;
        Ok(Changed { documents: found.len(), index_version })
    }

    /// Waits for the change before this one. Two processes must not change one folder in turns, since neither
    /// would see what the other did: the first to change it keeps it.
    fn lock(&self) -> Result<MutexGuard<'_, Option<File>>, Error> {
        let (lock, path) = match &self.access {
            Access::Refused(reason) => return Err(Error::ReadOnly(reason.clone())),
            Access::Granted { lock, path } => (lock, path),
        };
        let mut held = lock.lock().unwrap_or_else(PoisonError::into_inner);
        if held.is_none() {
            let file = open_lock(path).map_err(Error::at(path))?;
            file.try_lock().map_err(|error| match error {
                TryLockError::WouldBlock => {
                    Error::ReadOnly(format!("another process holds {}", path.display()))
                }
                TryLockError::Error(source) => Error::at(path)(source),
            })?;
            self.refresh()?;
            *held = Some(file);
        }
        Ok(held)
    }

    /// Applies a change and commits it; a process killed anywhere in here leaves the commit before it.
    fn commit(
        &self,
        mut change: blake3::Hasher,
        apply: impl FnOnce(&IndexWriter) -> Result<(), Error>,
    ) -> Result<String, Error> {
        let mut writer = index::writer(&self.index, index::MIN_ARENA_BYTES)?;
        apply(&writer)?;
        let before = self.state().index_version;
        let next = &change.update(before.as_bytes()).finalize().to_hex()[..16];
        let version = format!("{}.{next}", self.base);
        let mut prepared = writer.prepare_commit()?;
        prepared.set_payload(&version);
        prepared.commit()?;
        self.refresh()?;
        // The change is made: a merge that fails costs speed, and the next change tries again.
        if let Err(error) = writer.wait_merging_threads().map_err(Error::from).and_then(|()| self.refresh()) {
            tracing::warn!(error = &error as &dyn std::error::Error, "segments were not merged");
        }
        Ok(version)
    }

    fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn refresh(&self) -> Result<(), Error> {
        let known = self.snapshot();
        let known = self.encoder.as_ref().map(|_| &known.meanings);
        let next = Arc::new(snapshot(&self.index, &self.reader, &self.fields, &self.base, known)?);
        *self.snapshot.write().unwrap_or_else(PoisonError::into_inner) = next;
        Ok(())
    }

    /// Searches once, so that the first customer does not wait for the pages of the index.
    fn warm(&self) -> Result<(), Error> {
        let text = "account card help how much pay question";
        self.search(&Query { text, vector: None, audience: Audience::Public, category: "", k: 100 })?;
        Ok(())
    }
}

/// The last commit, with its vectors when some are known. Another process may commit meanwhile: then what was
/// read is read again.
fn snapshot(
    index: &Index,
    reader: &IndexReader,
    fields: &Fields,
    base: &str,
    known: Option<&Meanings>,
) -> Result<Snapshot, Error> {
    loop {
        let meta = index.load_metas()?;
        reader.reload()?;
        if index.load_metas()?.opstamp != meta.opstamp {
            continue;
        }
        let searcher = reader.searcher();
        let state = State {
            documents: count(&searcher, Term::from_field_bool(fields.first, true))?,
            passages: searcher.num_docs(),
            index_version: meta.payload.unwrap_or_else(|| base.to_owned()),
        };
        let meanings = known.map_or(Ok(Meanings::default()), |known| known.of(&searcher, fields))?;
        return Ok(Snapshot { searcher, meanings, state });
    }
}

fn count(searcher: &Searcher, term: Term) -> Result<u64, TantivyError> {
    Ok(searcher.search(&TermQuery::new(term, IndexRecordOption::Basic), &Count)? as u64)
}

/// Everything of a document, each part after its length, so that no two documents look the same.
fn digest(hasher: &mut blake3::Hasher, document: &Document) {
    let audience = audience_name(document.audience);
    let parts = [document.id.as_str(), &document.title, &document.content, audience];
    hasher.update(&(document.tags.len() as u64).to_le_bytes());
    for part in parts.into_iter().chain(document.tags.iter().map(String::as_str)) {
        hasher.update(&(part.len() as u64).to_le_bytes()).update(part.as_bytes());
    }
}

/// The limits of a document are the bundle's.
fn check(index: usize, document: &Document) -> Result<(), Error> {
    let Document { id, title, content, .. } = document;
    let (field, message) = if id.is_empty() || id.len() > 200 || id.chars().any(char::is_whitespace) {
        ("document.id", format!("has an id of {} bytes, allowed 1 to 200 without spaces", id.len()))
    } else if title.trim().is_empty() || title.len() > 1000 {
        ("document.title", format!("has a title of {} bytes, allowed 1 to 1000", title.len()))
    } else if content.trim().is_empty() {
        ("document.content", "has no content".to_owned())
    } else if content.len() > bundle::MAX_DOCUMENT_BYTES {
        let message = format!("has {} bytes, allowed up to {}", content.len(), bundle::MAX_DOCUMENT_BYTES);
        ("document.content", message)
    } else {
        return Ok(());
    };
    Err(Error::Document { index, field, message })
}

/// The folder and version of the index of a bundle, which must exist.
fn built(reader: &Reader, encoder: Option<&Encoder>) -> Result<(PathBuf, String), Error> {
    find(reader, encoder)?.ok_or_else(|| Error::Absent(reader.root().to_owned()))
}

/// Makes a live index from a built one. Segments are never written to twice, so they may share their bytes;
/// what tantivy replaces is copied, and its locks are left behind.
fn copy(built: &Path, live: &Path) -> io::Result<()> {
    if live.exists() {
        return Ok(());
    }
    let temporary = live.with_extension(format!("tmp-{}", std::process::id()));
    fs::create_dir_all(&temporary)?;
    for entry in fs::read_dir(built)? {
        let (from, name) = entry.map(|entry| (entry.path(), entry.file_name()))?;
        let to = temporary.join(&name);
        match name.to_str() {
            Some("meta.json" | ".managed.json") => drop(fs::copy(from, to)?),
            Some(name) if name.starts_with('.') => {}
            _ => match fs::hard_link(&from, &to) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => drop(fs::copy(from, to)?),
                _ => {}
            },
        }
    }
    match fs::rename(&temporary, live) {
        // Another process made it first.
        Err(_) if live.exists() => fs::remove_dir_all(&temporary),
        outcome => outcome,
    }
}

fn open_lock(path: &Path) -> io::Result<File> {
    File::options().create(true).truncate(false).write(true).open(path)
}

fn is_read_only(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem)
}
