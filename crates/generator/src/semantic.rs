//! Known answers for questions that ask the same in other words: only in categories where the configuration wants it, and
//! there only while it is known to be right. At first an answer is written although one is known, and both are compared,
//! which costs nothing more; known ones are given from the moment on when the share of false ones is below
//! [`MOST_FALSE`], and some of those are compared after the turn.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use stats::{Confidence, Share};

use crate::answer::{Answer, Passage, Request, Spending};
use crate::same::{Question, same};
use crate::support::Judge;

/// The share of false answers that the upper bound of its interval must not pass.
const MOST_FALSE: f64 = 0.01;
/// Questions that are known of one intent; the newest ones.
const QUESTIONS: usize = 64;
/// Intents of which questions are known.
const ROOMS: u64 = 512;

/// What the exact cache knows an answer by.
pub(crate) type Key = [u8; 32];

/// A question whose answer is known.
#[derive(Debug)]
struct Asked {
    question: Question,
    embedding: Option<(String, Vec<f32>)>,
    key: Key,
    sources: Sources,
}

/// By citation of an answer: document and version.
pub(crate) type Sources = Vec<(String, String)>;

type Room = Arc<Mutex<Vec<Asked>>>;
/// Category, intent, and whether models of the company's own are asked first.
type Place = (String, String, bool);

/// Questions by category and intent.
#[derive(Debug)]
pub(crate) struct Semantic {
    rooms: moka::sync::Cache<Place, Room>,
    /// By category: known answers that were compared with new ones, and those that were false.
    compared: Mutex<HashMap<String, Share>>,
}

impl Semantic {
    /// Forgets questions of an intent in which so long nothing was asked.
    pub(crate) fn new(ttl_s: u64) -> Self {
        let rooms = moka::sync::Cache::builder().max_capacity(ROOMS).time_to_idle(Duration::from_secs(ttl_s));
        Self { rooms: rooms.build(), compared: Mutex::default() }
    }

    /// The questions that ask the same as a request, the newest first: by what their answers are known, and for each of
    /// its citations the document and the version.
    pub(crate) fn alike(&self, judge: &Judge, request: &Request) -> Vec<(Key, Sources)> {
        let Some(room) = place(request).and_then(|place| self.rooms.get(&place)) else { return Vec::new() };
        let asked = Question::read(judge, &request.question);
        let room = locked(&room);
        let alike = room.iter().rev().filter(|known| {
            let cosine = cosine(&known.embedding, &request.embedding);
            same(&judge.lexicon, &known.question, &asked, cosine)
        });
        alike.map(|known| (known.key, known.sources.clone())).collect()
    }

    /// Keeps the question of an answer that the exact cache has as the newest one.
    pub(crate) fn keep(&self, judge: &Judge, request: &Request, key: Key, answer: &Answer) {
        let Some(place) = place(request) else { return };
        let source = |passage: usize| {
            let Passage { document_id, document_version, .. } = request.passages.get(passage)?;
            Some((document_id.clone(), document_version.clone()))
        };
        let sources: Option<Sources> =
            answer.citations.iter().map(|citation| source(citation.passage)).collect();
        let Some(sources) = sources else { return };
        let room = self.rooms.get_with(place, Room::default);
        let mut room = locked(&room);
        // What is asked often stays among the newest.
        if let Some(place) = room.iter().position(|known| known.key == key) {
            return room[place..].rotate_left(1);
        }
        if room.len() >= QUESTIONS {
            room.remove(0);
        }
        let question = Question::read(judge, &request.question);
        room.push(Asked { question, embedding: request.embedding.clone(), key, sources });
    }

    /// Whether known answers of a category are given: enough were compared and few enough were false.
    pub(crate) fn serves(&self, category: &str) -> bool {
        let compared = locked(&self.compared).get(category).copied().unwrap_or_default();
        compared.interval(Confidence::OneSided95).is_some_and(|interval| interval.upper <= MOST_FALSE)
    }

    /// Learns whether a known answer said the same as a new one.
    pub(crate) fn learn(&self, category: &str, is_same: bool) {
        let before = self.serves(category);
        let compared = {
            let mut all = locked(&self.compared);
            let compared = all.entry(category.to_owned()).or_default();
            *compared = Share { hits: compared.hits + u64::from(!is_same), n: compared.n + 1 };
            *compared
        };
        let (now, Share { hits, n }) = (self.serves(category), compared);
        if before != now {
            tracing::warn!(category, given = now, compared = n, wrong = hits, "known answers in other words");
        }
    }
}

/// The room of a request; `None` where its intent is not sure.
fn place(request: &Request) -> Option<Place> {
    let Request { category, intent, spending, .. } = request;
    // Models that are compared must not answer for each other.
    let place = || (category.clone(), intent.clone(), *spending == Spending::Own);
    (!intent.is_empty()).then(place)
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The cosine of two vectors of length 1; `None` where they are not both there and of one encoder.
fn cosine(one: &Option<(String, Vec<f32>)>, other: &Option<(String, Vec<f32>)>) -> Option<f32> {
    let ((encoder, a), (of, b)) = (one.as_ref()?, other.as_ref()?);
    (encoder == of && a.len() == b.len()).then(|| a.iter().zip(b).map(|(a, b)| a * b).sum())
}

/// An answer with its citations in other passages; `None` when one of them does not stand there.
pub(crate) fn moved(answer: &Answer, sources: &[(String, String)], passages: &[Passage]) -> Option<Answer> {
    let mut answer = answer.clone();
    for (citation, (document, version)) in answer.citations.iter_mut().zip(sources) {
        citation.passage = passages.iter().position(|passage| {
            passage.document_id == *document
                && passage.document_version == *version
                && passage.text.contains(&citation.quote)
        })?;
    }
    (answer.citations.len() == sources.len()).then_some(answer)
}

/// Whether two answers to questions that ask the same say the same: one says at least half of the other.
pub(crate) fn agree(judge: &Judge, threshold: f64, one: &Answer, other: &Answer) -> bool {
    let says = |text: &Answer, of: &Answer| {
        let sentences = text.statements.iter().map(|statement| statement.text.as_str());
        let source = judge.source(sentences, &[]);
        let nothing = judge.read("");
        let said = of.statements.iter().filter(|statement| {
            let support = judge.support(&judge.read(&statement.text), &source, &nothing);
            support.is_some_and(|(support, _)| support >= threshold)
        });
        2 * said.count() >= of.statements.len()
    };
    !one.abstained() && !other.abstained() && (says(one, other) || says(other, one))
}
