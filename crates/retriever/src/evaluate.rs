//! How well the ranking serves questions with known answers: a data set in the form of BEIR.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use bundle::{Audience, Document};
use encoder::Encoder;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tantivy::directory::RamDirectory;

use crate::chunk::Chunk;
use crate::config::Config;
use crate::index::{self, Error, Fields};
use crate::search::Query;
use crate::store::Retriever;

/// The deepest rank that a measure looks at.
const DEPTH: usize = 20;

/// Means over the queries that have judgments, and the time of a search of 20 passages.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Report {
    /// Documents of the corpus.
    pub docs: usize,
    /// Queries with judgments.
    pub queries: usize,
    /// Normalised discounted cumulative gain of the first 10, 0..1.
    #[serde(rename = "ndcg@10")]
    pub ndcg_10: f64,
    /// Share of the relevant documents among the first 10, 0..1.
    #[serde(rename = "recall@10")]
    pub recall_10: f64,
    /// Share of the relevant documents among the first 20, 0..1.
    #[serde(rename = "recall@20")]
    pub recall_20: f64,
    /// Reciprocal rank of the first relevant document among the first 10, 0..1.
    #[serde(rename = "mrr@10")]
    pub mrr_10: f64,
    /// Median time of a search, microseconds.
    pub p50_us: f64,
    /// 99th percentile of the time of a search, microseconds.
    pub p99_us: f64,
}

#[derive(Deserialize)]
struct Entry {
    #[serde(rename = "_id")]
    id: String,
    #[serde(default)]
    title: String,
    text: String,
}

/// Evaluates on a folder with corpus.jsonl, queries.jsonl and qrels/test.tsv. Every document is one passage of
/// its title and whole text. With an encoder documents and queries are ranked by meaning as well; the time of
/// a query's vector is none of the search. `progress` is told what is done and of how much.
///
/// # Errors
/// A file that is missing, a line of it that does not parse or names an unknown query, by file and line, or a
/// failure of the encoder.
pub fn evaluate(
    dir: &Path,
    encoder: Option<Arc<Encoder>>,
    config: &Config,
    progress: &(dyn Fn(u64, u64) + Sync),
) -> Result<Report, Error> {
    let (retriever, docs) = load(&dir.join("corpus.jsonl"), encoder.clone(), config, progress)?;
    let mut questions = HashMap::new();
    each_line(&dir.join("queries.jsonl"), |text| {
        let entry: Entry = parse(text)?;
        questions.insert(entry.id, entry.text);
        Ok(())
    })?;
    let judgments = judgments(&dir.join("qrels").join("test.tsv"), &questions)?;
    let mut sums = [0.0; 4];
    let mut times = Vec::with_capacity(judgments.len());
    for (done, (id, relevance)) in judgments.iter().enumerate() {
        progress(done as u64, judgments.len() as u64);
        let text = questions.get(id).map_or("", String::as_str);
        let vector = encoder.as_ref().map(|encoder| encoder.embed(text)).transpose()?;
        let vector = encoder.as_ref().zip(vector.as_deref()).map(|(encoder, vector)| (encoder.id(), vector));
        let query = Query { text, vector, audience: Audience::Public, category: "", k: DEPTH };
        let start = Instant::now();
        let found = retriever.search(&query)?;
        times.push(start.elapsed().as_secs_f64() * 1e6);
        let ranked: Vec<String> = found.passages.into_iter().map(|(_, passage)| passage.document).collect();
        let gains: Vec<f64> = ranked.iter().map(|id| relevance.get(id).copied().unwrap_or(0.0)).collect();
        let ideal: Vec<f64> = relevance.values().copied().collect();
        let measures = [
            stats::ndcg_at(10, &gains, &ideal),
            stats::recall_at(10, &ranked, relevance),
            stats::recall_at(DEPTH, &ranked, relevance),
            stats::mrr_at(10, &ranked, relevance),
        ];
        sums.iter_mut().zip(measures).for_each(|(sum, measure)| *sum += measure.unwrap_or(0.0));
    }
    let queries = judgments.len();
    let [ndcg_10, recall_10, recall_20, mrr_10] = sums.map(|sum| sum / queries as f64);
    let percentile = |p| stats::percentile(&times, p).unwrap_or(0.0);
    let (p50_us, p99_us) = (percentile(0.5), percentile(0.99));
    Ok(Report { docs, queries, ndcg_10, recall_10, recall_20, mrr_10, p50_us, p99_us })
}

fn load(
    file: &Path,
    encoder: Option<Arc<Encoder>>,
    config: &Config,
    progress: &(dyn Fn(u64, u64) + Sync),
) -> Result<(Retriever, usize), Error> {
    let mut documents = Vec::new();
    each_line(file, |text| {
        let Entry { id, title, text: content } = parse(text)?;
        documents.push(Document { id, title, content, audience: Audience::Public, tags: Vec::new() });
        Ok(())
    })?;
    let whole = |document: &Document| Chunk { heading: String::new(), range: 0..document.content.len() };
    let cut: Vec<_> = documents.iter().map(|document| (document, vec![whole(document)])).collect();
    let total = documents.len() as u64;
    let vectors = match &encoder {
        Some(encoder) => {
            index::vectors(&cut, |texts| encoder.embed_all(texts, &|done| progress(done as u64, total)))?
        }
        None => Vec::new(),
    };
    let mut vectors = vectors.into_iter();
    let index = index::open(RamDirectory::create())?;
    let (_, fields) = Fields::schema();
    let mut writer = index::writer(&index, index::MIN_ARENA_BYTES)?;
    cut.iter().try_for_each(|cut| fields.add(&writer, cut, &mut vectors))?;
    writer.commit()?;
    let segments = index.searchable_segment_ids()?;
    if segments.len() > 1 {
        writer.merge(&segments).wait()?;
    }
    writer.wait_merging_threads()?;
    Ok((Retriever::fixed(index, encoder, config, "it is an evaluation's")?, documents.len()))
}

/// Gains above zero by query and document.
fn judgments(
    file: &Path,
    questions: &HashMap<String, String>,
) -> Result<BTreeMap<String, BTreeMap<String, f64>>, Error> {
    let mut judgments: BTreeMap<String, BTreeMap<String, f64>> = BTreeMap::new();
    let mut is_header = true;
    each_line(file, |text| {
        if std::mem::take(&mut is_header) {
            let expected = ["query-id", "corpus-id", "score"];
            return if text.split('\t').eq(expected) {
                Ok(())
            } else {
                Err(format!("expected {expected:?} with tabs between"))
            };
        }
        let [query, document, score] = text.split('\t').collect::<Vec<_>>()[..] else {
            return Err("expected query id, document id and score with tabs between".to_owned());
        };
        let score: f64 = score.trim().parse().map_err(|_| format!("score {score:?} is no number"))?;
        if !questions.contains_key(query) {
            return Err(format!("query {query:?} is not in queries.jsonl"));
        }
        if score > 0.0 {
            judgments.entry(query.to_owned()).or_default().insert(document.to_owned(), score);
        }
        Ok(())
    })?;
    if judgments.is_empty() {
        return Err(Error::Dataset {
            file: file.to_owned(),
            line: 1,
            message: "holds no judgment above 0".to_owned(),
        });
    }
    Ok(judgments)
}

fn parse<T: DeserializeOwned>(line: &str) -> Result<T, String> {
    serde_json::from_str(line).map_err(|error| error.to_string())
}

fn each_line(file: &Path, mut take: impl FnMut(&str) -> Result<(), String>) -> Result<(), Error> {
    let reader = BufReader::new(File::open(file).map_err(Error::at(file))?);
    for (index, line) in reader.lines().enumerate() {
        let line = line.map_err(Error::at(file))?;
        if !line.trim().is_empty() {
            let refuse = |message| Error::Dataset { file: file.to_owned(), line: index + 1, message };
            take(&line).map_err(refuse)?;
        }
    }
    Ok(())
}
