//! A message that leans on what was said before it.

use proto::{Role, Utterance};

/// How a message begins that goes on with the question before it.
const OPENERS: [&str; 12] = [
    "and",
    "or",
    "but",
    "so",
    "then",
    "what about",
    "how about",
    "what if",
    "what happens",
    "same",
    "also",
    "even",
];
/// Words that stand for something said before.
const POINTERS: [&str; 18] = [
    "it", "its", "that", "this", "these", "those", "them", "they", "their", "one", "ones", "there", "he",
    "she", "him", "her", "then", "instead",
];
/// A message of so few words may lack what it is about.
const FEW_WORDS: usize = 7;

/// How far a message leans on the question before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Leaning {
    /// It stands alone.
    None,
    /// It may be meant with the question before it.
    Some,
    /// It goes on with the question before it.
    Strong,
}

/// By its first words, its pronouns and its length; the lists are English, other languages stand alone unless
/// they are short.
pub(crate) fn leaning(message: &str) -> Leaning {
    let normal = text::normalise(message);
    let words: Vec<&str> = text::words(&normal).collect();
    let said = words.join(" ");
    let opens = |opener: &&str| said.strip_prefix(*opener).is_some_and(|rest| rest.starts_with(' '));
    if OPENERS.iter().any(|opener| opens(&opener)) {
        Leaning::Strong
    } else if words.len() <= FEW_WORDS || words.iter().any(|word| POINTERS.contains(word)) {
        Leaning::Some
    } else {
        Leaning::None
    }
}

/// The customer's last question before this message.
pub(crate) fn before(history: &[Utterance]) -> Option<&str> {
    let mut said = history.iter().rev().filter(|utterance| utterance.role() == Role::Customer);
    said.next().map(|utterance| utterance.text.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_on_leans_more_than_what_points_back() {
        for (message, expected) in [
            ("And for business accounts?", Leaning::Strong),
            ("what about my mortgage", Leaning::Strong),
            ("does it cost anything", Leaning::Some),
            ("how far back can I go", Leaning::Some),
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
