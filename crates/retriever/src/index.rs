//! The tantivy index: its fields, its words, and one entry a passage.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bundle::{Audience, Document};
use serde::{Deserialize, Serialize};
use tantivy::directory::error::{DeleteError, LockError, OpenReadError, OpenWriteError};
use tantivy::directory::{
    Directory, DirectoryLock, FileHandle, Lock, MmapDirectory, WatchCallback, WatchHandle, WritePtr,
};
use tantivy::indexer::IndexWriterOptions;
use tantivy::schema::{
    Field, INDEXED, IndexRecordOption, STORED, STRING, Schema, TextFieldIndexing, TextOptions,
};
use tantivy::tokenizer::{
    AsciiFoldingFilter, Language, LowerCaser, RemoveLongFilter, SimpleTokenizer, Stemmer, StopWordFilter,
    TextAnalyzer,
};
use tantivy::{Index, IndexWriter, TantivyDocument, TantivyError, Term};

use crate::chunk::{Chunk, chunks};
use crate::meaning;

/// Changes with everything that changes what a build writes: fields, words, passages.
pub(crate) const FORMAT: &[u8] = b"firstline retriever index 3";
const ANALYSER: &str = "english";
/// The least memory for writing that tantivy takes.
pub(crate) const MIN_ARENA_BYTES: usize = 15_000_000;
/// Longer words are serial numbers and noise.
const MAX_TOKEN_BYTES: usize = 64;
/// Lucene's English list but for "no" and "not", which turn a rule around; then the words that questions are
/// made of, and those of courtesy. On the 809 training claims of SciFact it is 0.002 nDCG@10 over Lucene's.
const STOP_WORDS: &str = "a an and are as at be but by for if in into is it of on or such that the their then \
    there these they this to was will with i me my we our us you your he she him her his hers its who whom \
    what which when where why how am been being have has had having do does did doing can could would should \
    may might must shall some any all each than too very so from about after before between during through \
    over under again once here s t d m ll re ve don just also only other more most nor own same please thanks \
    thank hello hi hey help want like need know tell let get got go going";

/// Why the stage cannot do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The knowledge of the bundle does not validate.
    #[error("{0}")]
    Bundle(#[from] bundle::Problems),
    /// The bundle holds no index of its present knowledge.
    #[error("no index of the knowledge in {}; run \"firstline bundle build {}\"", .0.display(), .0.display())]
    Absent(PathBuf),
    /// A file or folder cannot be read or written.
    #[error("{}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The index does.
    #[error("the index failed")]
    Index(#[from] TantivyError),
    /// A document that cannot be indexed.
    #[error("{field}: document {index}, counted from 0, {message}")]
    Document {
        /// Position in the call, from 0.
        index: usize,
        /// The field, as the contract names it.
        field: &'static str,
        /// What is wrong and what is allowed.
        message: String,
    },
    /// The encoder of the dense tier does.
    #[error("no vectors of the passages")]
    Encoder(#[from] encoder::Error),
    /// The vector of a request is none of the encoder that the passages went through.
    #[error(
        "embedding: is by {request}, the passages are by {index}; let all stages use one server.encoder and \
         build the bundle with it"
    )]
    Mismatch {
        /// Encoder and dimension of the request's vector.
        request: String,
        /// Those of the index.
        index: String,
    },
    /// No client for the reranker can be built.
    #[error("retriever.rerank: no HTTP client")]
    Reranker(#[source] reqwest::Error),
    /// The index cannot be changed by this process.
    #[error("the index is read only: {0}")]
    ReadOnly(String),
    /// A line of a data set that cannot be used.
    #[error("{}:{line}: {message}", file.display())]
    Dataset {
        /// The file.
        file: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong and what is expected.
        message: String,
    },
}

impl Error {
    /// An input or output error at a path.
    pub(crate) fn at(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, source }
    }
}

/// A piece of a document, as it was indexed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Passage {
    /// Id of the document.
    pub document: String,
    /// Version of the document, [`Document::version`]: 16 hexadecimal digits.
    pub version: String,
    /// Title of the document.
    pub title: String,
    /// Headings above the passage, joined by " > "; may be empty.
    pub heading: String,
    /// The passage, verbatim from the content.
    pub text: String,
    /// First byte in the content.
    pub start: u32,
    /// One past the last byte.
    pub end: u32,
    /// Who may read it.
    pub audience: Audience,
}

/// The fields of the index. A passage is one entry.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fields {
    /// Id of the document, one term.
    pub(crate) id: Field,
    /// Whether it is the first passage of its document.
    pub(crate) first: Field,
    /// "public" or "internal".
    pub(crate) audience: Field,
    /// Tags of the document, one term each.
    pub(crate) tags: Field,
    /// Words of the title.
    pub(crate) title: Field,
    /// Words of the heading path.
    pub(crate) heading: Field,
    /// Words of title, heading path and text together, what BM25 is mostly about.
    pub(crate) body: Field,
    /// The [`Passage`] as JSON, stored.
    pub(crate) passage: Field,
    /// Its meaning, packed; stored in the dense tier.
    pub(crate) vector: Field,
}

impl Fields {
    pub(crate) fn schema() -> (Schema, Self) {
        let mut schema = Schema::builder();
        let indexing = TextFieldIndexing::default()
            .set_tokenizer(ANALYSER)
            .set_index_option(IndexRecordOption::WithFreqs);
        let words = TextOptions::default().set_indexing_options(indexing);
        let fields = Self {
            id: schema.add_text_field("id", STRING),
            first: schema.add_bool_field("first", INDEXED),
            audience: schema.add_text_field("audience", STRING),
            tags: schema.add_text_field("tags", STRING),
            title: schema.add_text_field("title", words.clone()),
            heading: schema.add_text_field("heading", words.clone()),
            body: schema.add_text_field("body", words),
            passage: schema.add_text_field("passage", STORED),
            vector: schema.add_bytes_field("vector", STORED),
        };
        (schema.build(), fields)
    }

    pub(crate) fn id_term(&self, id: &str) -> Term {
        Term::from_field_text(self.id, id)
    }

    pub(crate) fn audience_term(&self, audience: Audience) -> Term {
        Term::from_field_text(self.audience, audience_name(audience))
    }

    /// Adds documents by the passages given, slices of their content, with the vectors of these in their order;
    /// no vectors in the linear tier. Not visible before the commit.
    pub(crate) fn add(
        &self,
        writer: &IndexWriter,
        (document, chunks): &Cut<'_>,
        vectors: &mut impl Iterator<Item = Vec<f32>>,
    ) -> Result<(), Error> {
        let version = document.version();
        for (ordinal, chunk) in chunks.iter().enumerate() {
            let mut entry = TantivyDocument::new();
            entry.add_text(self.id, &document.id);
            entry.add_bool(self.first, ordinal == 0);
            entry.add_text(self.audience, audience_name(document.audience));
            for tag in &document.tags {
                entry.add_text(self.tags, tag);
            }
            entry.add_text(self.title, &document.title);
            entry.add_text(self.heading, &chunk.heading);
            entry.add_text(self.body, body(document, chunk));
            let passage = Passage {
                document: document.id.clone(),
                version: version.clone(),
                title: document.title.clone(),
                heading: chunk.heading.clone(),
                text: document.content[chunk.range.clone()].to_owned(),
                start: chunk.range.start as u32,
                end: chunk.range.end as u32,
                audience: document.audience,
            };
            let json = serde_json::to_string(&passage)
                .map_err(|error| TantivyError::from(io::Error::from(error)))?;
            entry.add_text(self.passage, json);
            if let Some(vector) = vectors.next() {
                entry.add_bytes(self.vector, &meaning::pack(&vector));
            }
            writer.add_document(entry)?;
        }
        Ok(())
    }
}

/// A document and its passages.
pub(crate) type Cut<'d> = (&'d Document, Vec<Chunk>);

/// Documents cut into their passages.
pub(crate) fn cut<'d>(documents: impl IntoIterator<Item = &'d Document>) -> Vec<Cut<'d>> {
    documents.into_iter().map(|document| (document, chunks(&document.content))).collect()
}

/// Everything a passage is about: what is searched, and what its vector is of.
fn body(document: &Document, chunk: &Chunk) -> String {
    format!("{}\n{}\n{}", document.title, chunk.heading, &document.content[chunk.range.clone()])
}

/// The vectors of passages in their order, by what encodes their texts.
pub(crate) fn vectors(
    cut: &[Cut<'_>],
    encode: impl FnOnce(&[&str]) -> Result<Vec<Vec<f32>>, encoder::Error>,
) -> Result<Vec<Vec<f32>>, Error> {
    let passages = cut.iter().flat_map(|(document, chunks)| chunks.iter().map(|chunk| body(document, chunk)));
    let bodies: Vec<String> = passages.collect();
    Ok(encode(&bodies.iter().map(String::as_str).collect::<Vec<_>>())?)
}

pub(crate) fn audience_name(audience: Audience) -> &'static str {
    match audience {
        Audience::Public => "public",
        Audience::Internal => "internal",
    }
}

/// The analyser of every text field, and of queries.
pub(crate) fn analyser() -> TextAnalyzer {
    let stop_words = STOP_WORDS.split_whitespace().map(str::to_owned);
    TextAnalyzer::builder(SimpleTokenizer::default())
        .filter(RemoveLongFilter::limit(MAX_TOKEN_BYTES))
        .filter(LowerCaser)
        .filter(AsciiFoldingFilter)
        .filter(StopWordFilter::remove(stop_words))
        .filter(Stemmer::new(Language::English))
        .build()
}

/// A writer with one thread of each kind. It holds `arena_bytes` as long as it lives, at least
/// [`MIN_ARENA_BYTES`], and writes a segment each time they are full.
pub(crate) fn writer(index: &Index, arena_bytes: usize) -> tantivy::Result<IndexWriter> {
    let options = IndexWriterOptions::builder()
        .memory_budget_per_thread(arena_bytes.max(MIN_ARENA_BYTES))
        .num_worker_threads(1)
        .num_merge_threads(1)
        .build();
    index.writer_with_options(options)
}

/// An index in a folder, empty when there is none in it yet.
pub(crate) fn open(directory: impl Into<Box<dyn Directory>>) -> tantivy::Result<Index> {
    let index = Index::open_or_create(directory, Fields::schema().0)?;
    index.tokenizers().register(ANALYSER, analyser());
    Ok(index)
}

/// A folder nobody writes to, read without the lock file that tantivy would create in it.
#[derive(Clone)]
pub(crate) struct Frozen(pub(crate) MmapDirectory);

impl fmt::Debug for Frozen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Directory for Frozen {
    fn get_file_handle(&self, path: &Path) -> Result<Arc<dyn FileHandle>, OpenReadError> {
        self.0.get_file_handle(path)
    }
    fn exists(&self, path: &Path) -> Result<bool, OpenReadError> {
        self.0.exists(path)
    }
    fn atomic_read(&self, path: &Path) -> Result<Vec<u8>, OpenReadError> {
        self.0.atomic_read(path)
    }
    fn acquire_lock(&self, _lock: &Lock) -> Result<DirectoryLock, LockError> {
        Ok(DirectoryLock::from(Box::new(())))
    }
    fn delete(&self, path: &Path) -> Result<(), DeleteError> {
        Err(DeleteError::IoError { io_error: Arc::new(refused()), filepath: path.to_owned() })
    }
    fn open_write(&self, path: &Path) -> Result<WritePtr, OpenWriteError> {
        Err(OpenWriteError::wrap_io_error(refused(), path.to_owned()))
    }
    fn atomic_write(&self, _path: &Path, _data: &[u8]) -> io::Result<()> {
        Err(refused())
    }
    fn sync_directory(&self) -> io::Result<()> {
        Err(refused())
    }
    fn watch(&self, callback: WatchCallback) -> tantivy::Result<WatchHandle> {
        self.0.watch(callback)
    }
}

fn refused() -> io::Error {
    io::Error::from(io::ErrorKind::ReadOnlyFilesystem)
}
