//! A message that leans on what was said before it.

use std::collections::BTreeSet;

use proto::{Intent, IntentDecision, IntentSource, Role, Turn, Utterance};

use crate::draft::Draft;
use crate::gate;
use crate::turn::Orchestrator;

/// How a message begins that goes on with the question before it.
const OPENERS: [&str; 11] =
    ["and", "or", "but", "so", "then", "what about", "how about", "what if", "same", "also", "even"];
/// Words that stand for something said before.
const POINTERS: [&str; 11] =
    ["it", "its", "them", "they", "their", "ones", "he", "she", "him", "her", "instead"];
/// Words that do so at the end of a message; elsewhere they mostly belong to what follows.
const POINTERS_AT_THE_END: [&str; 7] = ["that", "this", "these", "those", "one", "there", "then"];
/// What comes before an "it" that stands for nothing when a "to" follows: "how long does it take to".
const BEFORE_EMPTY_IT: [&str; 6] = ["is", "does", "will", "would", "was", "did"];
/// A message of so few words may lack what it is about.
const FEW_WORDS: usize = 7;

/// How far a message leans on the question before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Leaning {
    /// It stands alone.
    None,
    /// It is so short that it may lack what it is about.
    Short,
    /// It points back to what was said, or goes on with it.
    Back,
}

/// How a message was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reading {
    /// By itself.
    Alone,
    /// By itself, though it points back to something that nobody knows.
    Dangling,
    /// Together with the question before it.
    Joined,
    /// The same, and it asks for nothing but an answer.
    Asking,
}

/// By its first words, its pronouns and its length; the lists are English, other languages stand alone unless
/// they are short.
fn leaning(message: &str) -> Leaning {
    let normal = text::normalise(message);
    let words: Vec<&str> = text::words(&normal).collect();
    let said = words.join(" ");
    let opens = |opener: &str| said.strip_prefix(opener).is_some_and(|rest| rest.starts_with(' '));
    if OPENERS.iter().any(|opener| opens(opener)) || points_back(message) {
        Leaning::Back
    } else if words.len() <= FEW_WORDS {
        Leaning::Short
    } else {
        Leaning::None
    }
}

/// Whether a word of the message stands for something said before.
pub(crate) fn points_back(message: &str) -> bool {
    let normal = text::normalise(message);
    let words: Vec<&str> = text::words(&normal).collect();
    let points = |(at, word): (usize, &&str)| {
        let empty = *word == "it"
            && at.checked_sub(1).is_some_and(|before| BEFORE_EMPTY_IT.contains(&words[before]))
            && words[at..].contains(&"to");
        POINTERS.contains(word) && !empty
    };
    let ends = words.last().is_some_and(|word| POINTERS_AT_THE_END.contains(word));
    ends || words.iter().enumerate().any(points)
}

/// The customer's last question before this message.
fn before(history: &[Utterance]) -> Option<&str> {
    let mut said = history.iter().rev().filter(|utterance| utterance.role() == Role::Customer);
    said.next().map(|utterance| utterance.text.as_str())
}

impl Orchestrator {
    /// A message that leans on the question before it is classified, and its passages are found, together with
    /// that question and with what answered it.
    pub(crate) async fn in_context(&self, draft: &mut Draft<'_>, question: &str) -> Reading {
        let leaning = leaning(question);
        let alone = draft.accepted_intent().is_some();
        // What a longer message points back to may stand in itself.
        let dangles = leaning == Leaning::Back && question.split_whitespace().count() <= FEW_WORDS;
        let unread = if dangles { Reading::Dangling } else { Reading::Alone };
        // Who asks for something to be done in words that are understood goes on with nothing: "I lost my card, block it".
        let wish =
            alone && self.actionable.contains(draft.intent_name()) && text::questions(question).is_empty();
        if leaning == Leaning::None || alone && leaning == Leaning::Short || wish {
            return Reading::Alone;
        }
        let Some(before) = before(&draft.conversation.history).map(str::to_owned) else { return unread };
        let joined = format!("{before} {question}");
        let classified = self.stages.classify(&joined).await;
        let Ok((mut intent, embedding)) = draft.took("classifier", classified) else { return unread };
        if intent.decision() == IntentDecision::Person {
            return unread;
        }
        let last = draft.conversation.last_answer.clone();
        if last.is_none() && intent.decision() != IntentDecision::Accept {
            // What leans on a question that was not understood either is no clearer with it.
            return unread;
        }
        draft.note("understood with the question before it");
        if last.as_ref().is_some_and(|last| self.stays_with(last, &mut intent)) {
            draft.note("the intent of the last answer stands");
        }
        let titles = last.iter().flat_map(|turn| &turn.citations).map(|citation| citation.title.as_str());
        let titles: BTreeSet<&str> = titles.collect();
        draft.context = titles.into_iter().fold(before, |context, title| format!("{context} {title}"));
        // The words of the message itself count twice.
        let query = format!("{} {question} {question}", draft.context);
        draft.better = match self.retrieve_better(&query, &intent, embedding).await {
            Some(better) => Some(better),
            None => Some(self.stages.retrieve(&query, "", None).await),
        };
        if !alone || intent.decision() != IntentDecision::OutOfScope {
            draft.reads(intent);
        }
        if text::questions(question).is_empty() { Reading::Joined } else { Reading::Asking }
    }

    /// Where the classifier is unsure, the intent that was answered last stands, if it is among the likely ones.
    fn stays_with(&self, last: &Turn, intent: &mut Intent) -> bool {
        let Some(name) = last.intent.as_ref().map(|intent| &intent.name) else { return false };
        let likely = intent.name == *name || intent.alternatives.iter().any(|other| other.name == *name);
        let stays = likely && gate::is_unsure(intent) && self.intents.contains_key(name);
        if stays {
            self.prefer(intent, name);
            intent.set_decision(IntentDecision::Accept);
            intent.set_source(IntentSource::Conversation);
        }
        stays
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_on_or_points_back_leans() {
        for (message, expected) in [
            ("And for business accounts?", Leaning::Back),
            ("what about my mortgage", Leaning::Back),
            ("does it cost anything", Leaning::Back),
            ("how far back can I go", Leaning::Short),
            ("do I get a card of my own for that", Leaning::Back),
            ("is there a fee for sending money to a friend abroad", Leaning::None),
            ("how long does it take to get a new card by post", Leaning::None),
            ("is it safe to go on with it until the next one comes", Leaning::Back),
            ("Android phones are what I want to set the app up on", Leaning::None),
            ("How do I report a card which was stolen from my bag today", Leaning::None),
        ] {
            assert_eq!(leaning(message), expected, "{message}");
        }
    }

    #[test]
    fn the_last_thing_the_customer_said_is_found() {
        let said = |role: Role, text: &str| Utterance { role: role.into(), text: text.to_owned() };
        let history = [said(Role::Customer, "a"), said(Role::Customer, "b"), said(Role::Assistant, "c")];
        assert_eq!(before(&history), Some("b"));
        assert_eq!(before(&history[2..]), None);
    }
}
