//! Words and phrases of a question that stand for others, as the analyser sees them.

use std::collections::HashMap;

use bundle::Synonym;
use tantivy::tokenizer::TextAnalyzer;

/// A word or several in a row, analysed; never empty.
pub(crate) type Phrase = Vec<String>;

/// What to search besides the words of a question.
#[derive(Debug, Default)]
pub(crate) struct Synonyms {
    /// By first word, the phrases that have others, longest first.
    by_first: HashMap<String, Vec<(Phrase, Vec<Phrase>)>>,
}

impl Synonyms {
    /// Analyses the groups of a bundle. A phrase of stop words alone could never be found and is left out.
    pub(crate) fn new(groups: &[Synonym], analyser: &mut TextAnalyzer) -> Self {
        let mut found: HashMap<Phrase, Vec<Phrase>> = HashMap::new();
        for group in groups {
            let to: Vec<Phrase> = group.to.iter().map(|text| analyse(analyser, text)).collect();
            for text in &group.from {
                let from = analyse(analyser, text);
                if from.is_empty() {
                    tracing::warn!(text, "this synonym holds only words that are not searched");
                    continue;
                }
                let others = found.entry(from.clone()).or_default();
                others.extend(to.iter().filter(|other| !other.is_empty() && **other != from).cloned());
                others.sort();
                others.dedup();
            }
        }
        let mut by_first: HashMap<String, Vec<(Phrase, Vec<Phrase>)>> = HashMap::new();
        for (from, to) in found.into_iter().filter(|(_, to)| !to.is_empty()) {
            by_first.entry(from[0].clone()).or_default().push((from, to));
        }
        by_first
            .values_mut()
            .for_each(|phrases| phrases.sort_by(|a, b| (b.0.len(), &a.0).cmp(&(a.0.len(), &b.0))));
        Self { by_first }
    }

    /// The longest phrase that these words begin with, and what it stands for.
    pub(crate) fn at(&self, words: &[String]) -> Option<(&Phrase, &[Phrase])> {
        let phrases = self.by_first.get(words.first()?)?;
        let (from, to) = phrases.iter().find(|(from, _)| words.starts_with(from))?;
        Some((from, to))
    }
}

/// The words of a text in their order.
pub(crate) fn analyse(analyser: &mut TextAnalyzer, text: &str) -> Phrase {
    let mut words = Vec::new();
    analyser.token_stream(text).process(&mut |token| words.push(token.text.clone()));
    words
}
