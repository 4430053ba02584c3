//! A sentence encoder in this process: ONNX Runtime, loaded when it is wanted.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use kit::config::Encoder as Config;
use ort::environment::Environment;
use ort::session::Session;
use ort::session::builder::GraphOptimizationLevel;
use ort::value::Tensor;
use tokenizers::Tokenizer;

use crate::{Error, normalise};

/// Folder and name of the model that `make models` fetches: Reimers and Gurevych, "Sentence-BERT", EMNLP 2019,
/// distilled and trained on pairs by sentence-transformers; weights of one byte.
const MODEL: &str = "all-MiniLM-L6-v2-int8";
const RUNTIME: &str = "onnxruntime/libonnxruntime.so";
/// The window the model was trained with is 128 tokens, the one it takes 512; 256 is its authors' setting.
const MAX_TOKENS: usize = 256;

/// Sessions over one model, one for each text at the same time.
pub(crate) struct Local {
    tokenizer: Tokenizer,
    sessions: Vec<Mutex<Session>>,
    next: AtomicUsize,
}

impl std::fmt::Debug for Local {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Local").field("sessions", &self.sessions.len()).finish_non_exhaustive()
    }
}

impl Local {
    /// The model of the configured folder with its id and the size of its vectors.
    pub(crate) fn open(config: &Config) -> Result<(Self, String, usize), Error> {
        let models = folder(config);
        let [runtime, model, tokenizer] =
            [RUNTIME, &format!("{MODEL}/model.onnx"), &format!("{MODEL}/tokenizer.json")]
                .map(|file| models.join(file));
        if let Some(missing) = [&runtime, &model, &tokenizer].into_iter().find(|file| !file.exists()) {
            return Err(Error::Absent(missing.clone()));
        }
        let unusable = |path: &Path, message: String| Error::File { path: path.to_owned(), message };
        let weights = fs::read(&model).map_err(|error| unusable(&model, error.to_string()))?;
        let words = fs::read(&tokenizer).map_err(|error| unusable(&tokenizer, error.to_string()))?;
        let hash = blake3::Hasher::new().update(&weights).update(&words).finalize().to_hex();
        let mut split =
            Tokenizer::from_bytes(&words).map_err(|error| unusable(&tokenizer, error.to_string()))?;
        // Cut here, with the end marker in place; the file's own setting may be another.
        split.with_truncation(None).map_err(|error| unusable(&tokenizer, error.to_string()))?;
        split.with_padding(None);
        let environment = environment(&runtime).map_err(|message| unusable(&runtime, message))?;
        let threads = match config.threads {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            threads => threads,
        };
        let session = || -> Result<_, ort::Error> {
            let builder = Session::builder(&environment)?;
            let builder = builder.with_intra_threads(1)?.with_inter_threads(1)?;
            builder.with_optimization_level(GraphOptimizationLevel::All)?.commit_from_memory(&weights)
        };
        let sessions = (0..threads).map(|_| session().map(Mutex::new)).collect::<Result<_, _>>();
        let sessions = sessions.map_err(|error| unusable(&model, error.to_string()))?;
        let local = Self { tokenizer: split, sessions, next: AtomicUsize::new(0) };
        let dimension = local.embed("dimension")?.len();
        Ok((local, format!("{MODEL}@{}", &hash[..12]), dimension))
    }

    pub(crate) fn embed(&self, text: &str) -> Result<Vec<f32>, Error> {
        let failed = |error: &dyn std::fmt::Display| Error::Run(error.to_string());
        let encoding = self.tokenizer.encode(text, true).map_err(|error| failed(&error))?;
        let mut ids: Vec<i64> = encoding.get_ids().iter().map(|&id| i64::from(id)).collect();
        if let (true, Some(&end)) = (ids.len() > MAX_TOKENS, ids.last()) {
            ids.truncate(MAX_TOKENS - 1);
            ids.push(end);
        }
        let n = ids.len();
        let tensor = |values: Vec<i64>| Tensor::from_array(([1, n], values)).map_err(|error| failed(&error));
        let (ids, mask, types) = (tensor(ids)?, tensor(vec![1; n])?, tensor(vec![0; n])?);
        let inputs = ort::inputs!["input_ids" => ids, "attention_mask" => mask, "token_type_ids" => types];
        let mut session = self.session();
        let outputs = session.run(inputs).map_err(|error| failed(&error))?;
        let (_, states) = outputs[0].try_extract_tensor::<f32>().map_err(|error| failed(&error))?;
        // The mean over the tokens, as the model was trained; texts are run alone, so that a vector depends
        // on nothing but its text.
        let mut vector = vec![0.0; states.len() / n.max(1)];
        for state in states.chunks_exact(vector.len().max(1)) {
            vector.iter_mut().zip(state).for_each(|(sum, value)| *sum += value);
        }
        normalise(&mut vector);
        Ok(vector)
    }

    /// A session that is free, else the one whose turn it is.
    fn session(&self) -> std::sync::MutexGuard<'_, Session> {
        let free = self.sessions.iter().find_map(|session| session.try_lock().ok());
        free.unwrap_or_else(|| {
            let turn = self.next.fetch_add(1, Ordering::Relaxed) % self.sessions.len();
            self.sessions[turn].lock().unwrap_or_else(PoisonError::into_inner)
        })
    }

    pub(crate) fn embed_all(
        &self,
        texts: &[&str],
        progress: &(dyn Fn(usize) + Sync),
    ) -> Result<Vec<Vec<f32>>, Error> {
        let (next, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let work = || {
            let mut own = Vec::new();
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                let Some(text) = texts.get(index) else { return Ok(own) };
                own.push((index, self.embed(text)?));
                progress(done.fetch_add(1, Ordering::Relaxed) + 1);
            }
        };
        let parts: Vec<Result<Vec<_>, Error>> = std::thread::scope(|scope| {
            let workers: Vec<_> = self.sessions.iter().map(|_| scope.spawn(work)).collect();
            let crashed = |_| Err(Error::Run("a worker ended by a panic".to_owned()));
            workers.into_iter().map(|worker| worker.join().unwrap_or_else(crashed)).collect()
        });
        let mut vectors = parts.into_iter().collect::<Result<Vec<_>, _>>()?.concat();
        vectors.sort_by_key(|(index, _)| *index);
        Ok(vectors.into_iter().map(|(_, vector)| vector).collect())
    }
}

/// The runtime's environment, of which a process has one.
fn environment(runtime: &Path) -> Result<Environment, String> {
    static ENVIRONMENT: Mutex<Option<Environment>> = Mutex::new(None);
    let mut environment = ENVIRONMENT.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(environment) = &*environment {
        return Ok(environment.clone());
    }
    let builder = ort::init_from(runtime).map_err(|error| error.to_string())?;
    Ok(environment.insert(builder.build().map_err(|error| error.to_string())?).clone())
}

/// The folder of the models: configured, else in the user's cache.
pub(crate) fn folder(config: &Config) -> PathBuf {
    if !config.models.as_os_str().is_empty() {
        return config.models.clone();
    }
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = set("XDG_CACHE_HOME").or_else(|| set("HOME").map(|home| home.join(".cache")));
    cache.unwrap_or_default().join("firstline/models")
}
