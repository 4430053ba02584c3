//! Approved answers: they win over everything generated.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use bundle::{Document, Problems, Reader};
use jiff::civil::Date;
use proto::Citation;

/// An approved answer, ready to be given.
#[derive(Debug, Clone)]
pub struct Approved {
    pub(crate) text: String,
    pub(crate) citations: Vec<Citation>,
    expires: Date,
}

/// The approved answers of a bundle by normalised question and by intent.
#[derive(Debug, Default)]
pub struct Curated {
    by_question: BTreeMap<String, usize>,
    by_intent: BTreeMap<String, usize>,
    answers: Vec<Approved>,
}

impl Curated {
    /// Reads the answers and, for their citations, the documents they name.
    ///
    /// # Errors
    /// Answers or, where there are some, articles that do not validate.
    pub fn read(reader: &Reader) -> Result<Self, Problems> {
        let mut curated = Self::default();
        let answers = reader.curated()?;
        if answers.is_empty() {
            return Ok(curated);
        }
        let documents = reader.knowledge()?;
        for answer in answers {
            let index = curated.answers.len();
            curated
                .by_question
                .extend(answer.questions.iter().map(|question| (text::plain(question), index)));
            curated.by_intent.extend(answer.intents.into_iter().map(|intent| (intent, index)));
            let cited =
                answer.documents.iter().filter_map(|id| documents.iter().find(|document| document.id == *id));
            let citations = cited.map(|document| cite(&answer.text, document)).collect();
            curated.answers.push(Approved { text: answer.text, citations, expires: answer.expires });
        }
        Ok(curated)
    }

    /// The answer to a question in these words, or to an accepted intent, unless it has expired.
    pub fn find(&self, question: &str, intent: Option<&str>, today: Date) -> Option<&Approved> {
        let by_question = self.by_question.get(&text::plain(question));
        let index = by_question.or_else(|| intent.and_then(|intent| self.by_intent.get(intent)))?;
        self.answers.get(*index).filter(|answer| today <= answer.expires)
    }
}

/// The sentence of the document that shares most words with the answer stands as its quote.
fn cite(answer: &str, document: &Document) -> Citation {
    let normal = text::normalise(answer);
    let wanted: BTreeSet<&str> = text::words(&normal).filter(|word| word.chars().count() > 3).collect();
    let shared = |sentence: &str| {
        let normal = text::normalise(sentence);
        text::words(&normal).collect::<BTreeSet<_>>().intersection(&wanted).count()
    };
    let sentences = text::sentences(&document.content);
    let quote =
        sentences.into_iter().map(|range| &document.content[range]).max_by_key(|sentence| shared(sentence));
    Citation {
        document_id: document.id.clone(),
        title: document.title.clone(),
        document_version: document.version(),
        quote: quote.unwrap_or_default().trim().to_owned(),
    }
}
