//! Texts as vectors, by a sentence encoder in this process or behind an OpenAI-compatible server.
//!
//! The encoder is optional: without it every stage works from words alone, the linear tier.

mod local;
mod packed;
mod remote;
mod store;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use kit::config::{Encoder as Config, Tier};
use moka::sync::Cache;

pub use packed::{Query, pack};
pub use store::Vectors;

/// Why there is no vector.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The dense tier is configured and its files are not there.
    #[error("{} is missing; `make models` fetches the encoder, server.encoder.models names its folder", .0.display())]
    Absent(PathBuf),
    /// A file of the encoder cannot be used.
    #[error("{}: {message}; delete it and run `make models`", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        message: String,
    },
    /// The encoder in this process failed.
    #[error("the encoder failed: {0}")]
    Run(String),
    /// The encoder's server did not answer as it should.
    #[error("the encoder at {url}: {message}")]
    Remote {
        /// The address asked.
        url: String,
        /// Why.
        message: String,
    },
    /// One run of the model for all who asked for a text at the same time, and it failed.
    #[error("{0}")]
    Shared(Arc<Error>),
    /// Vectors cannot be kept.
    #[error("{}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// What turns a text into its vector. Blocks: about 9 ms of one core for a short text, or a call over the
/// network; call it from a thread that may.
#[derive(Debug)]
pub struct Encoder {
    id: String,
    dimension: usize,
    source: Source,
    /// By the hash of a text: classifier and safety ask for the same message at the same time.
    recent: Cache<blake3::Hash, Vec<f32>>,
}

/// Vectors remembered, and for how long: about as long as a turn.
const RECENT: u64 = 256;
const RECENT_FOR: Duration = Duration::from_secs(10);

#[derive(Debug)]
enum Source {
    Local(Box<local::Local>),
    Remote(remote::Remote),
}

/// What the configured tier comes to on this machine.
#[derive(Debug)]
pub enum Opened {
    /// The linear tier is configured.
    Linear,
    /// The encoder is ready; the stages of one process share it.
    Dense(Arc<Encoder>),
    /// The dense tier is configured and cannot run: the linear tier stands in, and says so.
    Fallback(Error),
}

impl Opened {
    /// Opens what the configuration asks for. Blocks for the time of loading a model.
    pub fn new(config: &Config) -> Self {
        match config.tier {
            Tier::Linear => Self::Linear,
            Tier::Dense => match shared(config) {
                Ok(encoder) => Self::Dense(encoder),
                Err(error) => {
                    tracing::warn!(%error, "the dense tier cannot run, the linear tier stands in");
                    Self::Fallback(error)
                }
            },
        }
    }

    /// The encoder, when there is one.
    pub fn encoder(&self) -> Option<&Arc<Encoder>> {
        match self {
            Self::Dense(encoder) => Some(encoder),
            Self::Linear | Self::Fallback(_) => None,
        }
    }

    /// Name of the health check that says whether the dense tier runs.
    pub const HEALTH: &'static str = "dense";

    /// The tier in words: "linear", "dense (MODEL)", or "linear, because ...".
    pub fn describe(&self) -> String {
        match self {
            Self::Linear => "linear".to_owned(),
            Self::Dense(encoder) => format!("dense ({}, {} dimensions)", encoder.id, encoder.dimension),
            Self::Fallback(error) => format!("linear, because {error}"),
        }
    }
}

impl Encoder {
    /// Loads the local model, or asks the server for the size of its vectors.
    ///
    /// # Errors
    /// Missing or unusable files, or a server that does not answer.
    pub fn open(config: &Config) -> Result<Self, Error> {
        if config.base_url.is_empty() {
            let (local, id, dimension) = local::Local::open(config)?;
            return Ok(Self::new(id, dimension, Source::Local(Box::new(local))));
        }
        let remote = remote::Remote::new(config)?;
        let dimension = remote.embed(&["dimension"])?.first().map_or(0, Vec::len);
        let id = format!("{}@{}", config.model, config.base_url.trim_end_matches('/'));
        Ok(Self::new(id, dimension, Source::Remote(remote)))
    }

    fn new(id: String, dimension: usize, source: Source) -> Self {
        let recent = Cache::builder().max_capacity(RECENT).time_to_live(RECENT_FOR).build();
        Self { id, dimension, source, recent }
    }

    /// Names the model and its content: vectors of different ids are never compared.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Length of a vector.
    pub fn dimension(&self) -> usize {
        self.dimension
    }

    /// The vector of a text, of length 1. What is beyond the model's window, 256 tokens here, does not count. Stages
    /// of one process that ask for the same text get it for one run of the model.
    ///
    /// # Errors
    /// The model or its server fails.
    pub fn embed(&self, text: &str) -> Result<Vec<f32>, Error> {
        self.recent.try_get_with(blake3::hash(text.as_bytes()), || self.run(text)).map_err(Error::Shared)
    }

    fn run(&self, text: &str) -> Result<Vec<f32>, Error> {
        match &self.source {
            Source::Local(local) => local.embed(text),
            Source::Remote(remote) => {
                let mut vectors = remote.embed(&[text])?;
                self.check(vectors.pop().unwrap_or_default())
            }
        }
    }

    /// The vectors of many texts, in their order, on all cores. `progress` is told how many are done.
    ///
    /// # Errors
    /// The model or its server fails for one of them.
    pub fn embed_all(
        &self,
        texts: &[&str],
        progress: &(dyn Fn(usize) + Sync),
    ) -> Result<Vec<Vec<f32>>, Error> {
        match &self.source {
            Source::Local(local) => local.embed_all(texts, progress),
            Source::Remote(remote) => {
                let mut vectors = Vec::with_capacity(texts.len());
                for some in texts.chunks(remote::BATCH) {
                    for vector in remote.embed(some)? {
                        vectors.push(self.check(vector)?);
                    }
                    progress(vectors.len());
                }
                Ok(vectors)
            }
        }
    }

    fn check(&self, vector: Vec<f32>) -> Result<Vec<f32>, Error> {
        if vector.len() == self.dimension {
            return Ok(vector);
        }
        let (got, want) = (vector.len(), self.dimension);
        Err(Error::Run(format!("a vector has {got} values, the model's have {want}")))
    }
}

/// The encoder of a configuration, loaded once for all stages of a process.
fn shared(config: &Config) -> Result<Arc<Encoder>, Error> {
    static LOADED: Mutex<Vec<(String, Weak<Encoder>)>> = Mutex::new(Vec::new());
    let key = format!("{config:?}");
    let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
    loaded.retain(|(_, encoder)| encoder.strong_count() > 0);
    if let Some(encoder) = loaded.iter().find(|(other, _)| *other == key).and_then(|(_, it)| it.upgrade()) {
        return Ok(encoder);
    }
    let encoder = Arc::new(Encoder::open(config)?);
    loaded.push((key, Arc::downgrade(&encoder)));
    Ok(encoder)
}

/// Scales to length 1; a vector of nothing but rounding stays.
pub fn normalise(vector: &mut [f32]) {
    let length = vector.iter().map(|value| value * value).sum::<f32>().sqrt();
    if length > 1e-6 {
        vector.iter_mut().for_each(|value| *value /= length);
    }
}

/// The cosine of two vectors of length 1, -1..=1; 0 for vectors of different sizes.
#[must_use]
pub fn cosine(left: &[f32], right: &[f32]) -> f32 {
    if left.len() != right.len() {
        return 0.0;
    }
    // Eight sums at a time, which the compiler keeps in one register.
    let (left, left_rest) = left.as_chunks::<8>();
    let (right, right_rest) = right.as_chunks::<8>();
    let mut sums = [0.0_f32; 8];
    for (left, right) in left.iter().zip(right) {
        for lane in 0..8 {
            sums[lane] += left[lane] * right[lane];
        }
    }
    let rest: f32 = left_rest.iter().zip(right_rest).map(|(left, right)| left * right).sum();
    sums.iter().sum::<f32>() + rest
}
