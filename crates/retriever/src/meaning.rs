//! Nearness of meaning: a vector a passage, kept with it in the index, and the passages nearest to a question's.

use std::collections::HashMap;
use std::sync::Arc;

use bundle::Audience;
use tantivy::index::SegmentId;
use tantivy::schema::Value as _;
use tantivy::{DocAddress, DocId, Score, Searcher, SegmentReader, TantivyDocument, TantivyError};

use crate::index::{Fields, Passage};

/// How many passages are read at once from the store of a segment.
const STORE_BLOCKS: usize = 8;
/// A quantised value stands for this share of the largest of its vector.
const STEPS: f32 = 127.0;

/// A vector as it is stored: the size of a step, little-endian, then a byte a value. Of nDCG@10 it takes less
/// than 0.001.
pub(crate) fn pack(vector: &[f32]) -> Vec<u8> {
    let most = vector.iter().fold(f32::MIN_POSITIVE, |most, value| most.max(value.abs()));
    let step = most / STEPS;
    let values = vector.iter().map(|value| ((value / step).round() as i8).cast_unsigned());
    step.to_le_bytes().into_iter().chain(values).collect()
}

fn product(values: &[i8], vector: &[f32]) -> f32 {
    // Eight sums at a time, which the compiler keeps in one register.
    let ((values, values_rest), (vector, vector_rest)) = (values.as_chunks::<8>(), vector.as_chunks::<8>());
    let mut sums = [0.0_f32; 8];
    for (values, vector) in values.iter().zip(vector) {
        for lane in 0..8 {
            sums[lane] += f32::from(values[lane]) * vector[lane];
        }
    }
    let rest = values_rest.iter().zip(vector_rest).map(|(value, other)| f32::from(*value) * other);
    sums.iter().sum::<f32>() + rest.sum::<f32>()
}

/// The vectors of all segments of a searcher. A segment never changes, so its vectors are read once.
#[derive(Debug, Clone, Default)]
pub(crate) struct Meanings(HashMap<SegmentId, Arc<Segment>>);

/// The vectors of one segment, by the number of the passage in it.
#[derive(Debug, Default)]
struct Segment {
    dimension: usize,
    steps: Vec<f32>,
    values: Vec<i8>,
    public: Vec<bool>,
}

impl Meanings {
    /// Those of the segments of a searcher: known ones are kept, others are read, what is gone is forgotten.
    pub(crate) fn of(&self, searcher: &Searcher, fields: &Fields) -> Result<Self, TantivyError> {
        let mut next = HashMap::new();
        for reader in searcher.segment_readers() {
            let id = reader.segment_id();
            let segment = match self.0.get(&id) {
                Some(known) => known.clone(),
                None => Arc::new(Segment::read(reader, fields)?),
            };
            next.insert(id, segment);
        }
        Ok(Self(next))
    }

    /// The passages nearest to a vector, best first, with their cosine -1..=1. Every passage is compared.
    pub(crate) fn nearest(
        &self,
        searcher: &Searcher,
        vector: &[f32],
        audience: Audience,
        most: usize,
    ) -> Vec<(Score, DocAddress)> {
        let mut found: Vec<(Score, DocAddress)> = Vec::new();
        for (ordinal, reader) in (0..).zip(searcher.segment_readers()) {
            let Some(segment) = self.0.get(&reader.segment_id()) else { continue };
            let near = (0..reader.max_doc()).filter(|doc| !reader.is_deleted(*doc));
            let near = near.filter_map(|doc| segment.cosine(doc, vector, audience).map(|score| (score, doc)));
            found.extend(near.map(|(score, doc)| (score, DocAddress::new(ordinal, doc))));
        }
        let order = |(a, one): &(Score, DocAddress), (b, other): &(Score, DocAddress)| {
            b.total_cmp(a).then(one.cmp(other))
        };
        if found.len() > most {
            found.select_nth_unstable_by(most, order);
            found.truncate(most);
        }
        found.sort_unstable_by(order);
        found
    }

    /// The cosine of one passage, 0 when it has no vector.
    pub(crate) fn cosine(&self, searcher: &Searcher, address: DocAddress, vector: &[f32]) -> Score {
        let segment = self.0.get(&searcher.segment_reader(address.segment_ord).segment_id());
        segment.and_then(|segment| segment.cosine(address.doc_id, vector, Audience::Internal)).unwrap_or(0.0)
    }
}

impl Segment {
    fn read(reader: &SegmentReader, fields: &Fields) -> Result<Self, TantivyError> {
        let store = reader.get_store_reader(STORE_BLOCKS)?;
        let mut segment = Self::default();
        for doc in 0..reader.max_doc() {
            // A deleted passage keeps its place; what is not there any more is never looked at.
            let entry: TantivyDocument = store.get(doc)?;
            let packed =
                entry.get_first(fields.vector).and_then(|value| value.as_bytes()).unwrap_or_default();
            let Some((step, values)) = packed.split_first_chunk() else { return Ok(Self::default()) };
            let json = entry.get_first(fields.passage).and_then(|value| value.as_str()).unwrap_or_default();
            let passage: Passage = serde_json::from_str(json).map_err(std::io::Error::from)?;
            segment.dimension = values.len();
            segment.steps.push(f32::from_le_bytes(*step));
            segment.values.extend(values.iter().map(|value| value.cast_signed()));
            segment.public.push(passage.audience == Audience::Public);
        }
        Ok(segment)
    }

    /// `None` for a passage that the audience may not read, or that has no vector of this size.
    fn cosine(&self, doc: DocId, vector: &[f32], audience: Audience) -> Option<Score> {
        let doc = doc as usize;
        let allowed = audience == Audience::Internal || *self.public.get(doc)?;
        let values = self.values.get(doc * self.dimension..(doc + 1) * self.dimension)?;
        if !allowed || values.len() != vector.len() {
            return None;
        }
        Some(product(values, vector) * self.steps.get(doc)?)
    }
}
