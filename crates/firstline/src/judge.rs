//! What came of a golden question against what should, and the figures of many.

use std::collections::{BTreeMap, BTreeSet};

use bundle::{Audience, Document, Question};
use proto::{HandoffReason, Intent, IntentDecision, Outcome, Turn};
use serde::Serialize;

/// Kinds of questions that nothing of the bundle answers.
const UNANSWERABLE: [&str; 3] = ["out_of_scope", "unanswerable", "language"];
/// Name of the outcome of a turn that failed.
pub(crate) const ERROR: &str = "ERROR";
/// Model of an answer made of the documents' own sentences.
const EXTRACTIVE: &str = "extractive";

/// A question, its turn and what is right about it.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) question: Question,
    /// Empty when the turn failed.
    pub(crate) turn: Turn,
    /// Why the turn failed.
    pub(crate) error: Option<String>,
    /// What was decided, in words.
    pub(crate) decisions: Vec<String>,
    /// Whether the outcome is an allowed one.
    pub(crate) outcome: bool,
    /// Whether the intent is right, where one is expected.
    pub(crate) intent: Option<bool>,
    /// Whether the documents are cited, where some are expected.
    pub(crate) documents: Option<bool>,
    /// Whether an answer stands on its documents; `None` without an answer.
    pub(crate) grounded: Option<bool>,
}

impl Asked {
    /// Judges a turn, or the words for why there is none.
    pub(crate) fn new(
        question: Question,
        turn: Result<Turn, String>,
        library: &BTreeMap<String, Document>,
    ) -> Self {
        let (turn, error) = turn.map_or_else(|error| (Turn::default(), Some(error)), |turn| (turn, None));
        let mut asked = Self {
            question,
            turn,
            error,
            decisions: Vec::new(),
            outcome: false,
            intent: None,
            documents: None,
            grounded: None,
        };
        asked.outcome = asked.question.outcomes.contains(&asked.got().to_owned());
        asked.intent = asked.means();
        asked.documents = asked.cites();
        asked.grounded = asked.answered().then(|| grounded(&asked.turn, library));
        asked
    }

    /// The outcome, or that there was an error.
    pub(crate) fn got(&self) -> &'static str {
        let name = self.turn.outcome().as_str_name();
        if self.error.is_some() { ERROR } else { name.strip_prefix("OUTCOME_").unwrap_or(name) }
    }

    /// The intent, empty without one.
    pub(crate) fn got_intent(&self) -> &str {
        self.turn.intent.as_ref().map_or("", |intent| &intent.name)
    }

    /// Documents cited, each once, in the order of the citations.
    pub(crate) fn cited(&self) -> Vec<&str> {
        let mut seen = BTreeSet::new();
        let ids = self.turn.citations.iter().map(|citation| citation.document_id.as_str());
        ids.filter(|id| seen.insert(*id)).collect()
    }

    pub(crate) fn answered(&self) -> bool {
        self.error.is_none() && self.turn.outcome() == Outcome::Answered
    }

    /// Milliseconds of the turn; `None` when it failed.
    pub(crate) fn ms(&self) -> Option<f64> {
        self.turn.timings_ms.get("total").copied()
    }

    /// What is wrong: of "outcome", "intent", "documents".
    pub(crate) fn wrong(&self) -> Vec<&'static str> {
        let judged =
            [("outcome", Some(self.outcome)), ("intent", self.intent), ("documents", self.documents)];
        judged.into_iter().filter(|(_, right)| *right == Some(false)).map(|(what, _)| what).collect()
    }

    pub(crate) fn correct(&self) -> bool {
        self.wrong().is_empty()
    }

    /// The literal keyword reaches a person without a classification, and asking for one is an intent of the
    /// platform: neither has an intent of the bundle to judge.
    fn means(&self) -> Option<bool> {
        let reason = self.turn.handoff.as_ref().map(|notice| notice.reason());
        let decision = self.turn.intent.as_ref().map(Intent::decision);
        let unread = match decision {
            None => reason == Some(HandoffReason::UserKeyword),
            Some(decision) => decision == IntentDecision::Person,
        };
        let intents = &self.question.intents;
        (!intents.is_empty() && !unread).then(|| intents.iter().any(|name| name == self.got_intent()))
    }

    /// Another outcome that is right too has nothing to cite.
    fn cites(&self) -> Option<bool> {
        let Question { documents, all_documents, .. } = &self.question;
        if documents.is_empty() || self.outcome && !self.answered() {
            return None;
        }
        let cited = self.cited();
        let mut hits = documents.iter().map(|id| cited.contains(&id.as_str()));
        Some(if *all_documents { hits.all(|hit| hit) } else { hits.any(|hit| hit) })
    }
}

/// Whether every citation quotes a public document word by word, in the version the bundle has, and every
/// sentence of an extractive answer is made of words of one quote, but that which tells what was not found. A turn does not tell which quote carries
/// which sentence of a model's or an approved answer: there the quotes alone are judged.
fn grounded(turn: &Turn, library: &BTreeMap<String, Document>) -> bool {
    let mut citations = turn.citations.iter();
    let stands = citations.all(|citation| {
        let document = library.get(&citation.document_id);
        document.is_some_and(|document| {
            document.audience == Audience::Public
                && document.version() == citation.document_version
                && !citation.quote.trim().is_empty()
                && document.content.contains(&citation.quote)
        })
    });
    stands && !turn.citations.is_empty() && (turn.model != EXTRACTIVE || is_quoted(turn))
}

fn is_quoted(turn: &Turn) -> bool {
    let quotes: Vec<String> =
        turn.citations.iter().map(|citation| text::normalise(&citation.quote)).collect();
    let quotes: Vec<BTreeSet<&str>> = quotes.iter().map(|quote| text::words(quote).collect()).collect();
    let offer =
        orchestrator::OFFERS.iter().filter_map(|offer| turn.answer.find(&format!("\n\n{offer}"))).min();
    let answer = &turn.answer[..offer.unwrap_or(turn.answer.len())];
    text::sentences(answer).into_iter().all(|range| {
        let sentence = &answer[range];
        if sentence.starts_with(generator::NOTHING_ABOUT) {
            return true;
        }
        let sentence = text::normalise(sentence);
        quotes.iter().any(|quote| text::words(&sentence).all(|word| quote.contains(word)))
    })
}

/// Questions and how many of them are right.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct Count {
    pub(crate) n: usize,
    pub(crate) correct: usize,
}

impl Count {
    fn add(&mut self, correct: bool) {
        self.n += 1;
        self.correct += usize::from(correct);
    }

    /// 0..=1; `None` without a question.
    pub(crate) fn share(self) -> Option<f64> {
        (self.n > 0).then(|| self.correct as f64 / self.n as f64)
    }
}

/// A question that went wrong.
#[derive(Debug, Serialize)]
pub(crate) struct Failure {
    line: usize,
    text: String,
    kind: String,
    expected: Expected,
    got: &'static str,
    intent: Option<String>,
    documents: Vec<String>,
    wrong: Vec<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

#[derive(Debug, Serialize)]
struct Expected {
    outcome: Vec<String>,
    intents: Vec<String>,
    documents: Vec<String>,
    all_documents: bool,
}

/// The figures of a run. Rates are shares of 0..=1, `None` where nothing is counted.
#[derive(Debug, Serialize)]
pub(crate) struct Figures {
    pub(crate) n: usize,
    pub(crate) correct: usize,
    pub(crate) outcome_accuracy: Option<f64>,
    /// Of the questions that expect an intent.
    pub(crate) intent_accuracy: Option<f64>,
    /// Of the questions that expect documents.
    pub(crate) document_hit_rate: Option<f64>,
    /// Of the answers.
    pub(crate) grounded_rate: Option<f64>,
    pub(crate) answered_rate: Option<f64>,
    /// Of the questions that have no answer, those that were answered.
    pub(crate) false_answer_rate: Option<f64>,
    /// Turns that failed count in no percentile.
    pub(crate) p50_ms: Option<f64>,
    pub(crate) p95_ms: Option<f64>,
    pub(crate) cost_usd: f64,
    pub(crate) by_kind: BTreeMap<String, Count>,
    pub(crate) failures: Vec<Failure>,
}

impl Figures {
    pub(crate) fn of(asked: &[Asked]) -> Self {
        let count = |judge: &dyn Fn(&Asked) -> Option<bool>| {
            let mut count = Count::default();
            asked.iter().filter_map(judge).for_each(|right| count.add(right));
            count
        };
        let correct = count(&|one| Some(one.correct()));
        let mut by_kind = BTreeMap::<String, Count>::new();
        for one in asked {
            by_kind.entry(one.question.kind.clone()).or_default().add(one.correct());
        }
        let unanswerable = |one: &Asked| UNANSWERABLE.contains(&one.question.kind.as_str());
        let mut times: Vec<f64> = asked.iter().filter_map(Asked::ms).collect();
        times.sort_by(f64::total_cmp);
        Self {
            n: correct.n,
            correct: correct.correct,
            outcome_accuracy: count(&|one| Some(one.outcome)).share(),
            intent_accuracy: count(&|one| one.intent).share(),
            document_hit_rate: count(&|one| one.documents).share(),
            grounded_rate: count(&|one| one.grounded).share(),
            answered_rate: count(&|one| Some(one.answered())).share(),
            false_answer_rate: count(&|one| unanswerable(one).then(|| one.answered())).share(),
            p50_ms: percentile(&times, 0.50),
            p95_ms: percentile(&times, 0.95),
            cost_usd: asked.iter().map(|one| one.turn.cost_usd).sum(),
            by_kind,
            failures: asked.iter().filter(|one| !one.correct()).map(failure).collect(),
        }
    }
}

fn failure(asked: &Asked) -> Failure {
    let question = &asked.question;
    let intent = asked.got_intent();
    Failure {
        line: question.line,
        text: question.text.clone(),
        kind: question.kind.clone(),
        expected: Expected {
            outcome: question.outcomes.clone(),
            intents: question.intents.clone(),
            documents: question.documents.clone(),
            all_documents: question.all_documents,
        },
        got: asked.got(),
        intent: (!intent.is_empty()).then(|| intent.to_owned()),
        documents: asked.cited().into_iter().map(str::to_owned).collect(),
        wrong: asked.wrong(),
        error: asked.error.clone(),
    }
}

/// The least value that the share of all values does not exceed; values are sorted.
fn percentile(sorted: &[f64], share: f64) -> Option<f64> {
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::{Citation, Intent};

    fn document() -> Document {
        Document {
            id: "fees".to_owned(),
            title: "Fees".to_owned(),
            content: "A **new card** costs 5 pounds. It comes by post.".to_owned(),
            audience: Audience::Public,
            tags: Vec::new(),
        }
    }

    fn turn(outcome: Outcome, answer: &str, quote: &str) -> Turn {
        let citation = Citation {
            document_id: "fees".to_owned(),
            document_version: document().version(),
            quote: quote.to_owned(),
            ..Citation::default()
        };
        Turn {
            outcome: outcome.into(),
            answer: answer.to_owned(),
            model: EXTRACTIVE.to_owned(),
            citations: if quote.is_empty() { Vec::new() } else { vec![citation] },
            intent: Some(Intent { name: "cost".to_owned(), ..Intent::default() }),
            timings_ms: [("total".to_owned(), 2.0)].into(),
            ..Turn::default()
        }
    }

    fn judge(outcomes: &[&str], documents: &[&str], all_documents: bool, turn: Turn) -> Asked {
        let owned = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        let question = Question {
            line: 1,
            text: "what does it cost".to_owned(),
            kind: "language".to_owned(),
            outcomes: owned(outcomes),
            intents: owned(&["price", "cost"]),
            documents: owned(documents),
            all_documents,
            conversation: None,
        };
        Asked::new(question, Ok(turn), &[("fees".to_owned(), document())].into())
    }

    #[test]
    fn an_answer_stands_on_the_words_of_its_documents_only() {
        let quote = "A **new card** costs 5 pounds.";
        for (answer, quote, grounded) in [
            ("A new card costs 5 pounds.", quote, true),
            ("A new card costs 50 pounds.", quote, false),
            ("A new card costs 5 pounds. It comes by post.", quote, false),
            ("A new card costs 5 pounds.\n\nI found nothing about pets.", quote, true),
            ("A new card costs 5 pounds.", "A new card costs 5 pounds.", false),
            ("A new card costs 5 pounds.", "", false),
        ] {
            let asked = judge(&["ANSWERED"], &[], false, turn(Outcome::Answered, answer, quote));
            assert_eq!(asked.grounded, Some(grounded), "{answer} from {quote}");
        }
        assert_eq!(judge(&["HANDOFF"], &[], false, turn(Outcome::Handoff, "", "")).grounded, None);
    }

    #[test]
    fn documents_are_judged_unless_another_outcome_is_right() {
        let answered = || turn(Outcome::Answered, "x", "It comes by post.");
        let both = ["fees", "limits"];
        assert_eq!(judge(&["ANSWERED"], &both, false, answered()).documents, Some(true));
        assert_eq!(judge(&["ANSWERED"], &both, true, answered()).documents, Some(false));
        let clarify = || turn(Outcome::Clarify, "x", "");
        assert_eq!(judge(&["ANSWERED", "CLARIFY"], &both, false, clarify()).documents, None);
        assert_eq!(judge(&["ANSWERED"], &both, false, clarify()).wrong(), ["outcome", "documents"]);
    }

    #[test]
    fn the_keyword_asks_no_classifier_and_has_no_intent_to_judge() {
        let handed_over = |reason: HandoffReason| {
            let notice = proto::HandoffNotice { reason: reason.into(), ..Default::default() };
            let turn = Turn { intent: None, handoff: Some(notice), ..turn(Outcome::Handoff, "", "") };
            judge(&["HANDOFF"], &[], false, turn).intent
        };
        assert_eq!(handed_over(HandoffReason::UserKeyword), None);
        assert_eq!(handed_over(HandoffReason::GuardError), Some(false));
    }

    #[test]
    fn every_outcome_a_question_may_expect_is_one_of_the_contract() {
        for word in bundle::OUTCOMES {
            let outcome = Outcome::from_str_name(&format!("OUTCOME_{word}")).unwrap();
            assert_eq!(judge(&[word], &[], false, turn(outcome, "", "")).got(), word);
        }
    }

    #[test]
    fn figures_count_what_is_judged() {
        let right = judge(&["ANSWERED"], &["fees"], false, turn(Outcome::Answered, "x", "It comes by post."));
        let mut failed = judge(&["HANDOFF"], &[], false, Turn::default());
        failed.error = Some("gone".to_owned());
        let figures = Figures::of(&[right, failed]);
        assert_eq!((figures.n, figures.correct, figures.failures.len()), (2, 1, 1));
        assert_eq!(figures.false_answer_rate, Some(0.5));
        assert_eq!((figures.document_hit_rate, figures.grounded_rate), (Some(1.0), Some(0.0)));
        assert_eq!((figures.p50_ms, figures.p95_ms), (Some(2.0), Some(2.0)));
        assert_eq!(percentile(&[1.0, 2.0, 3.0, 4.0], 0.5), Some(2.0));
        assert_eq!(percentile(&[], 0.5), None);
    }
}
