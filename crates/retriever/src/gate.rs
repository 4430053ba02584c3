//! The audience of a search and the category it favours, around the words it ranks by.
//!
//! As clauses of one boolean query they would keep tantivy from skipping blocks of passages that cannot be among
//! the best: a search of a million passages took three times as long.

use std::sync::Arc;

use tantivy::postings::SegmentPostings;
use tantivy::query::{EnableScoring, Explanation, Query, Scorer, Weight};
use tantivy::schema::IndexRecordOption;
use tantivy::{DocId, DocSet, Score, SegmentReader, TERMINATED, TantivyError, Term};

/// Passages that the words match and the gate admits, scored by the words and the gate's extra points.
#[derive(Debug, Clone)]
pub(crate) struct Gated {
    pub(crate) words: Arc<dyn Query>,
    pub(crate) gate: Gate,
}

/// Which passages may be found, and which score more.
#[derive(Debug, Clone)]
pub(crate) struct Gate {
    /// A passage without it is never found.
    pub(crate) must: Option<Term>,
    /// A passage with it scores so many points more, at least 0.
    pub(crate) bonus: Option<(Term, Score)>,
}

impl Query for Gated {
    fn weight(&self, scoring: EnableScoring<'_>) -> tantivy::Result<Box<dyn Weight>> {
        Ok(Box::new(GatedWeight { words: self.words.weight(scoring)?, gate: self.gate.clone() }))
    }
}

struct GatedWeight {
    words: Box<dyn Weight>,
    gate: Gate,
}

impl Weight for GatedWeight {
    fn scorer(&self, reader: &SegmentReader, boost: Score) -> tantivy::Result<Box<dyn Scorer>> {
        let (words, gate) = (self.words.scorer(reader, boost)?, self.gate.open(reader, boost)?);
        let mut scorer = GatedScorer { words, gate };
        scorer.settle();
        Ok(Box::new(scorer))
    }

    fn explain(&self, reader: &SegmentReader, doc: DocId) -> tantivy::Result<Explanation> {
        let mut scorer = self.scorer(reader, 1.0)?;
        if scorer.doc() > doc || scorer.seek(doc) != doc {
            return Err(TantivyError::InvalidArgument(format!("passage {doc} does not match")));
        }
        let mut explanation = Explanation::new("words and bonus", scorer.score());
        explanation.add_detail(self.words.explain(reader, doc)?);
        Ok(explanation)
    }

    fn for_each_pruning(
        &self,
        mut threshold: Score,
        reader: &SegmentReader,
        callback: &mut dyn FnMut(DocId, Score) -> Score,
    ) -> tantivy::Result<()> {
        let mut gate = self.gate.open(reader, 1.0)?;
        let most = gate.bonus.as_ref().map_or(0.0, |(_, points)| *points);
        // The words alone may be the bonus short of the threshold.
        self.words.for_each_pruning(threshold - most, reader, &mut |doc, score| {
            if gate.admits(doc) {
                let score = score + gate.points(doc);
                if score > threshold {
                    threshold = callback(doc, score);
                }
            }
            threshold - most
        })
    }
}

impl Gate {
    fn open(&self, reader: &SegmentReader, boost: Score) -> tantivy::Result<OpenGate> {
        let must = match &self.must {
            None => Must::Nothing,
            Some(term) => {
                postings(reader, term)?.map_or(Must::Absent, |passages| Must::Term(Box::new(passages)))
            }
        };
        let bonus = match &self.bonus {
            None => None,
            Some((term, points)) => postings(reader, term)?.map(|passages| (passages, points * boost)),
        };
        Ok(OpenGate { must, bonus })
    }
}

fn postings(reader: &SegmentReader, term: &Term) -> tantivy::Result<Option<SegmentPostings>> {
    Ok(reader.inverted_index(term.field())?.read_postings(term, IndexRecordOption::Basic)?)
}

/// What a passage must have.
enum Must {
    Nothing,
    /// What no passage of the segment has.
    Absent,
    Term(Box<SegmentPostings>),
}

/// A gate at one segment; asked for passages in rising order.
struct OpenGate {
    must: Must,
    bonus: Option<(SegmentPostings, Score)>,
}

impl OpenGate {
    fn admits(&mut self, doc: DocId) -> bool {
        match &mut self.must {
            Must::Nothing => true,
            Must::Absent => false,
            Must::Term(passages) => has(passages, doc),
        }
    }

    fn points(&mut self, doc: DocId) -> Score {
        self.bonus.as_mut().map_or(0.0, |(passages, points)| if has(passages, doc) { *points } else { 0.0 })
    }
}

fn has(passages: &mut SegmentPostings, doc: DocId) -> bool {
    passages.doc() == doc || passages.doc() < doc && passages.seek(doc) == doc
}

struct GatedScorer {
    words: Box<dyn Scorer>,
    gate: OpenGate,
}

impl GatedScorer {
    /// Moves on to the next passage that is admitted, unless the present one is.
    fn settle(&mut self) -> DocId {
        let mut doc = self.words.doc();
        while doc != TERMINATED && !self.gate.admits(doc) {
            doc = self.words.advance();
        }
        doc
    }
}

impl DocSet for GatedScorer {
    fn advance(&mut self) -> DocId {
        self.words.advance();
        self.settle()
    }

    fn seek(&mut self, target: DocId) -> DocId {
        self.words.seek(target);
        self.settle()
    }

    fn doc(&self) -> DocId {
        self.words.doc()
    }

    fn size_hint(&self) -> u32 {
        self.words.size_hint()
    }
}

impl Scorer for GatedScorer {
    fn score(&mut self) -> Score {
        self.words.score() + self.gate.points(self.words.doc())
    }
}

#[cfg(test)]
mod tests {
    use bundle::{Audience, Document};
    use tantivy::collector::TopDocs;
    use tantivy::directory::RamDirectory;
    use tantivy::query::{BooleanQuery, ConstScoreQuery, Occur, TermQuery};
    use tantivy::{DocAddress, Searcher};

    use super::*;
    use crate::index::{self, Fields};

    fn best(searcher: &Searcher, query: &dyn Query) -> Vec<(Score, DocAddress)> {
        searcher.search(query, &TopDocs::with_limit(10).order_by_score()).unwrap()
    }

    #[test]
    fn skipping_finds_what_clauses_of_one_query_find() {
        let index = index::open(RamDirectory::create()).unwrap();
        let (_, fields) = Fields::schema();
        let mut writer = index::writer(&index, 0).unwrap();
        for n in 0..6_000_usize {
            let count = |word: &str, every: usize| format!("{word} ").repeat(n * 7919 / every % every);
            let document = Document {
                id: n.to_string(),
                title: "T".to_owned(),
                content: [count("card", 3), count("fee", 7), count("limit", 11), "x".to_owned()].concat(),
                audience: if n.is_multiple_of(3) { Audience::Internal } else { Audience::Public },
                tags: vec![format!("c{}", n % 5)],
            };
            let cut = index::cut([&document]);
            fields.add(&writer, &cut[0], &mut std::iter::empty()).unwrap();
            if n == 2_000 {
                writer.commit().unwrap();
            }
        }
        writer.delete_term(fields.id_term("11"));
        writer.commit().unwrap();
        let searcher = index.reader().unwrap().searcher();
        let term = |field, text: &str| {
            Box::new(TermQuery::new(Term::from_field_text(field, text), IndexRecordOption::WithFreqs))
        };
        let words = |texts: &[&str]| -> Box<dyn Query> {
            Box::new(BooleanQuery::union(texts.iter().map(|text| term(fields.body, text) as _).collect()))
        };
        let public = fields.audience_term(Audience::Public);
        for texts in [&["card"][..], &["card", "fee", "limit"], &["absent"]] {
            for (category, points) in [("c3", 0.0), ("c3", 0.5), ("c3", 50.0), ("none", 2.0)] {
                let tag = Term::from_field_text(fields.tags, category);
                let constant = |term: &Term, score| {
                    let query = TermQuery::new(term.clone(), IndexRecordOption::Basic);
                    Box::new(ConstScoreQuery::new(Box::new(query), score)) as Box<dyn Query>
                };
                let clauses = BooleanQuery::new(vec![
                    (Occur::Must, words(texts)),
                    (Occur::Must, constant(&public, 0.0)),
                    (Occur::Should, constant(&tag, points)),
                ]);
                let gate = Gate { must: Some(public.clone()), bonus: Some((tag, points)) };
                let gated = Gated { words: words(texts).into(), gate };
                let (found, expected) = (best(&searcher, &gated), best(&searcher, &clauses));
                assert_eq!(found.len(), expected.len());
                for ((a, _), (b, _)) in found.iter().zip(&expected) {
                    assert!((a - b).abs() < 1e-3, "{texts:?} {category} {points}: {a} {b}");
                }
                for (score, address) in found {
                    let explained = gated.explain(&searcher, address).unwrap().value();
                    assert!((explained - score).abs() < 1e-3, "{explained} {score}");
                }
            }
        }
        let gate = Gate { must: Some(Term::from_field_text(fields.audience, "nobody")), bonus: None };
        assert!(best(&searcher, &Gated { words: words(&["card"]).into(), gate }).is_empty());
    }
}
