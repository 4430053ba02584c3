//! Several questions in one message: passages for each, and what is asked beside a workflow.

use proto::*;

use crate::context::points_back;
use crate::draft::Draft;
use crate::gate::{Choice, Pending};
use crate::stages::Timed;
use crate::turn::Orchestrator;

/// Most questions of a message that are looked after one by one; the first ones.
const MAX_PARTS: usize = 3;
/// A shorter piece asks nothing of its own.
const MIN_WORDS: usize = 3;

/// The first questions of a message that ask something of their own, in words that can be understood: "and how long
/// do they take?" comes with the question before it.
fn parts(message: &str) -> Vec<String> {
    let mut parts = text::questions(message);
    parts.retain(|part| part.split_whitespace().count() >= MIN_WORDS);
    parts.truncate(MAX_PARTS);
    let with_before = |(index, part): (usize, &&str)| match index.checked_sub(1) {
        Some(before) if points_back(part) => format!("{} {part}", parts[before]),
        _ => (*part).to_owned(),
    };
    parts.iter().enumerate().map(with_before).collect()
}

/// How the orchestrator's own words after an answer begin: they offer or ask something and state nothing.
pub const OFFERS: [&str; 3] =
    ["I can also do this for you: ", "You also asked about: ", "Back to your request: "];

/// Said to a question in a workflow that nobody can answer.
const UNANSWERED: &str = "I cannot answer that, but a colleague can: type \"agent\" to reach one.";

/// What shows that a sentence asks for one thing more.
const FURTHER: [&str; 6] = ["also", "as well", "too", "and", "plus", "then"];

/// The sentences of a message that ask for one thing more, without questions.
fn further(message: &str) -> impl Iterator<Item = &str> {
    let asks_more = |sentence: &&str| {
        let said = format!(" {} ", text::plain(sentence));
        let more = FURTHER.iter().any(|word| match *word {
            "and" | "plus" | "then" => said.starts_with(&format!(" {word} ")),
            word => said.contains(&format!(" {word} ")),
        });
        more && text::questions(sentence).is_empty()
    };
    text::sentences(message).into_iter().map(|range| &message[range]).filter(asks_more)
}

impl Orchestrator {
    /// Offers a workflow after an answer: that of its intent, of another question, or of another sentence.
    pub(crate) async fn offer_workflow(&self, draft: &mut Draft<'_>, intent: Intent, question: &str) {
        if draft.conversation.is_in_workflow() {
            return;
        }
        let mut wanted =
            self.choice(&intent).map(|choice| (choice, question.to_owned())).or(draft.beside.take());
        for range in text::sentences(question) {
            let part = &question[range];
            if wanted.is_some() || part.len() == question.len() || !text::questions(part).is_empty() {
                continue;
            }
            let classified = self.stages.classify(part).await;
            let Ok((intent, _)) = draft.took("classifier", classified) else { break };
            wanted = self.choice(&intent).map(|choice| (choice, part.to_owned()));
        }
        let Some((choice, question)) = wanted else { return };
        draft.note(format!("the workflow of {} is offered", choice.name));
        draft.turn.answer.push_str(&format!("\n\n{}{}. Shall I?", OFFERS[0], choice.title));
        let turn_id = draft.turn.turn_id.clone();
        draft.pending = Some(Pending { question, turn_id, choices: vec![choice], later: false });
    }

    /// The intent, when it is accepted and has a workflow.
    fn choice(&self, intent: &Intent) -> Option<Choice> {
        let begins = intent.decision() == IntentDecision::Accept && self.actionable.contains(&intent.name);
        begins.then(|| Choice { name: intent.name.clone(), title: intent.title.clone() })
    }

    /// Finds passages for each question of a message that asks several, so that one answer can serve all. Where
    /// nothing is clear from the whole, the first question that is understood says what the message is about.
    pub(crate) async fn in_parts(&self, draft: &mut Draft<'_>, question: &str) {
        let parts = parts(question);
        let mut found: Vec<Vec<Passage>> = Vec::new();
        let mut ms = 0.0;
        for part in parts.iter().filter(|_| parts.len() > 1) {
            let Some((intent, retrieved)) = self.read_part(draft, part).await else { return };
            draft.note(format!("question {} of several: intent {}", found.len() + 1, intent.name));
            if intent.decision() == IntentDecision::Accept && draft.accepted_intent().is_none() {
                draft.reads(intent.clone());
            }
            if draft.beside.is_none() {
                draft.beside = self.choice(&intent).map(|choice| (choice, part.clone()));
            }
            ms += retrieved.ms;
            found.push(retrieved.result.unwrap_or_default());
        }
        if !found.is_empty() {
            draft.better = Some(Timed { result: Ok(merge(found, self.config.passages as usize)), ms });
        }
    }

    /// What one question is about, and its passages.
    async fn read_part(&self, draft: &mut Draft<'_>, part: &str) -> Option<(Intent, Timed<Vec<Passage>>)> {
        let classified = self.stages.classify(part).await;
        let (intent, embedding) = draft.took("classifier", classified).ok()?;
        let retrieved = match self.retrieve_better(part, &intent, embedding).await {
            Some(better) => better,
            None => self.stages.retrieve(part, "", None).await,
        };
        Some((intent, retrieved))
    }

    /// What a message asks beside the workflow it has just begun: the first such question or wish is kept, to be
    /// offered when the workflow has ended.
    pub(crate) async fn keep_others(&self, draft: &mut Draft<'_>, question: &str) {
        let workflow = draft.intent_name().to_owned();
        let wishes = further(question).take(MAX_PARTS).map(str::to_owned);
        for part in parts(question).into_iter().chain(wishes) {
            let classified = self.stages.classify(&part).await;
            let Ok((intent, _)) = draft.took("classifier", classified) else { return };
            if intent.decision() == IntentDecision::Accept && intent.name != workflow {
                draft.note(format!("also asked: {}, kept for later", intent.name));
                let choice = Choice { name: intent.name, title: intent.title };
                let (question, turn_id) = (part, draft.turn.turn_id.clone());
                draft.kept = Some(Pending { question, turn_id, choices: vec![choice], later: true });
                return;
            }
        }
    }
}

impl Draft<'_> {
    /// Asks the question of the open workflow again after the answer to another.
    pub(crate) fn ask_still(&mut self) {
        if let Some((_, question)) = &self.waiting
            && self.turn.outcome() == Outcome::Answered
        {
            self.turn.answer.push_str(&format!("\n\n{}{question}", OFFERS[2]));
        }
    }

    /// Goes on with the open workflow after a question that nobody can answer; `false` when none is open.
    pub(crate) async fn goes_on(&mut self) -> bool {
        let Some((status, question)) = self.waiting.take() else { return false };
        self.note("no answer to what came between: the workflow goes on");
        self.turn.offers_person = true;
        self.workflow(status).await;
        self.reply(format!("{UNANSWERED}\n\n{}{question}", OFFERS[2]), Outcome::ActionPending);
        true
    }

    /// Offers the question that was kept once no workflow is open, and keeps it on until then. A person who takes
    /// over sees it in the conversation.
    pub(crate) fn offer_kept(&mut self) {
        let Some(kept) = self.kept.take() else { return };
        let titles: Vec<&str> = kept.choices.iter().map(|choice| choice.title.as_str()).collect();
        let titles = titles.join(", ");
        match self.turn.outcome() {
            Outcome::Handoff | Outcome::Blocked => {}
            _ if self.pending.is_some() => {
                self.turn.answer.push_str(&format!("\n\n{}{titles}. Just ask me again.", OFFERS[1]));
            }
            _ if self.open().is_some() => self.pending = Some(kept),
            _ => {
                self.turn.answer.push_str(&format!("\n\n{}{titles}. Shall I go on with that?", OFFERS[1]));
                self.pending = Some(Pending { later: false, ..kept });
            }
        }
    }
}

/// The best of each question in turn, each once, at most `most` and at least two of each. Scores become shares of
/// the best of their question, so that no question outweighs another.
fn merge(found: Vec<Vec<Passage>>, most: usize) -> Vec<Passage> {
    let each = most.div_ceil(found.len().max(1)).max(2);
    let mut merged: Vec<Passage> = Vec::new();
    for rank in 0..each {
        for passages in &found {
            let Some(passage) = passages.get(rank) else { continue };
            let same =
                |other: &Passage| (&other.document_id, other.start) == (&passage.document_id, passage.start);
            let top = passages[0].score.max(f64::MIN_POSITIVE);
            if !merged.iter().any(same) {
                merged.push(Passage { score: passage.score / top, ..passage.clone() });
            }
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_question_gets_its_best_passages_and_none_outweighs_another() {
        let passage = |id: &str, score| Passage { document_id: id.to_owned(), score, ..Passage::default() };
        let found = vec![
            vec![passage("a", 20.0), passage("b", 10.0), passage("c", 1.0)],
            vec![passage("d", 2.0), passage("a", 1.0)],
        ];
        let merged: Vec<_> = merge(found, 4).into_iter().map(|one| (one.document_id, one.score)).collect();
        let expected = [("a", 1.0), ("d", 1.0), ("b", 0.5)].map(|(id, score)| (id.to_owned(), score));
        assert_eq!(merged, expected);
        assert_eq!(parts("My card is gone. Why? What does a new one cost?"), ["What does a new one cost?"]);
        let both = ["What does a transfer cost", "What does a transfer cost how fast is it?"];
        assert_eq!(parts("What does a transfer cost and how fast is it?"), both);
    }
}
