//! Nearness of meaning: a vector a passage, kept with it in the index, and the passages nearest to a question's.

use std::collections::HashMap;
use std::sync::Arc;

use bundle::Audience;
use encoder::Query;
use tantivy::index::SegmentId;
use tantivy::schema::Value as _;
use tantivy::{DocAddress, DocId, Score, Searcher, SegmentReader, TantivyDocument, TantivyError};

use crate::index::{Fields, Passage};

/// How many passages are read at once from the store of a segment.
const STORE_BLOCKS: usize = 8;
/// A vector as it is stored: what a value of 1 stands for, little-endian, then a byte a value.
pub(crate) fn pack(vector: &[f32]) -> Vec<u8> {
    let (unit, values) = encoder::pack(vector);
    unit.to_le_bytes().into_iter().chain(values.into_iter().map(i8::cast_unsigned)).collect()
}

/// The vectors of all segments of a searcher. A segment never changes, so its vectors are read once.
#[derive(Debug, Clone, Default)]
pub(crate) struct Meanings(HashMap<SegmentId, Arc<Segment>>);

/// The vectors of one segment, by the number of the passage in it.
#[derive(Debug, Default)]
struct Segment {
    dimension: usize,
    units: Vec<f32>,
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
        query: &Query,
        audience: Audience,
        most: usize,
    ) -> Vec<(Score, DocAddress)> {
        let mut found: Vec<(Score, DocAddress)> = Vec::new();
        for (ordinal, reader) in (0..).zip(searcher.segment_readers()) {
            let Some(segment) = self.0.get(&reader.segment_id()) else { continue };
            let near = (0..reader.max_doc()).filter(|doc| !reader.is_deleted(*doc));
            let near = near.filter_map(|doc| segment.cosine(doc, query, audience).map(|score| (score, doc)));
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
    pub(crate) fn cosine(&self, searcher: &Searcher, address: DocAddress, query: &Query) -> Score {
        let segment = self.0.get(&searcher.segment_reader(address.segment_ord).segment_id());
        segment.and_then(|segment| segment.cosine(address.doc_id, query, Audience::Internal)).unwrap_or(0.0)
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
            let Some((unit, values)) = packed.split_first_chunk() else { return Ok(Self::default()) };
            let json = entry.get_first(fields.passage).and_then(|value| value.as_str()).unwrap_or_default();
            let passage: Passage = serde_json::from_str(json).map_err(std::io::Error::from)?;
            segment.dimension = values.len();
            segment.units.push(f32::from_le_bytes(*unit));
            segment.values.extend(values.iter().map(|value| value.cast_signed()));
            segment.public.push(passage.audience == Audience::Public);
        }
        Ok(segment)
    }

    /// `None` for a passage that the audience may not read, or that has no vector of this size.
    fn cosine(&self, doc: DocId, query: &Query, audience: Audience) -> Option<Score> {
        let doc = doc as usize;
        let allowed = audience == Audience::Internal || *self.public.get(doc)?;
        let values = self.values.get(doc * self.dimension..(doc + 1) * self.dimension)?;
        if !allowed || values.len() != query.dimension() {
            return None;
        }
        Some(query.product(*self.units.get(doc)?, values))
    }
}
