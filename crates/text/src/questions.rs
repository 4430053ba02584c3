//! The questions of a message.

/// Words that begin a question; English.
const OPENERS: [&str; 31] = [
    "how", "hows", "what", "whats", "when", "whens", "where", "wheres", "who", "whos", "whom", "why",
    "which", "is", "are", "can", "could", "do", "does", "did", "will", "would", "must", "should", "may",
    "am", "has", "have", "shall", "was", "were",
];
/// Words before one that begins a question.
const BEFORE: [&str; 5] = ["and", "also", "so", "but", "then"];
/// What joins a question to the one before.
const JOINERS: [&str; 7] = [" and ", " also ", " plus ", ", ", "; ", ": ", " - "];

/// What shows that a question asks for something to be done, or how to do it.
const REQUESTS: [&str; 15] = [
    "please",
    "for me",
    "can you",
    "could you",
    "would you",
    "will you",
    "can i",
    "could i",
    "may i",
    "how do i",
    "how can i",
    "how do we",
    "how to",
    "i want",
    "i need",
];

/// The questions of a message in its own words: its sentences, cut where another question begins, without those
/// that ask nothing.
pub fn questions(message: &str) -> Vec<&str> {
    let mut found = Vec::new();
    for range in crate::sentences(message) {
        let sentence = &message[range];
        let mut start = 0;
        for (at, _) in sentence.char_indices().skip(1) {
            let rest = &sentence[at..];
            let joiner = JOINERS.iter().find(|joiner| rest.starts_with(**joiner));
            if let Some(joiner) = joiner.filter(|joiner| opens(&rest[joiner.len()..]))
                && at > start
                && asks(&sentence[start..at])
            {
                found.push(&sentence[start..at]);
                start = at + joiner.len();
            }
        }
        found.push(&sentence[start..]);
    }
    found.retain(|piece| asks(piece));
    found
}

/// Whether a message asks to know something, and not for something to be done; by English words.
pub fn asks_for_facts(message: &str) -> bool {
    let said = format!(" {} ", crate::plain(message));
    let requests = REQUESTS.iter().any(|request| said.contains(&format!(" {request} ")));
    !requests && !questions(message).is_empty()
}

/// Whether words begin like a question, or end like one.
fn asks(words: &str) -> bool {
    words.trim_end().ends_with('?') || opens(words)
}

/// Whether words begin like a question. Marks inside a word do not count: "what's" is "whats".
fn opens(words: &str) -> bool {
    let bare = |word: &str| {
        word.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect::<String>()
    };
    let mut words = words.split_whitespace().map(bare).filter(|word| !word.is_empty());
    words.find(|word| !BEFORE.contains(&word.as_str())).is_some_and(|word| OPENERS.contains(&word.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_question_is_a_piece_and_what_asks_nothing_is_none() {
        for (message, expected) in [
            (
                "how do i set a new pin and whats the daily limit?",
                &["how do i set a new pin", "whats the daily limit?"][..],
            ),
            (
                "I am moving. When does Hull open? And do you insure pets?",
                &["When does Hull open?", "And do you insure pets?"],
            ),
            ("Can I pay with my phone and my watch?", &["Can I pay with my phone and my watch?"]),
            ("My card is gone.", &[]),
            ("", &[]),
        ] {
            assert_eq!(questions(message), expected, "{message}");
        }
    }

    #[test]
    fn what_asks_for_a_fact_is_told_from_what_asks_for_a_deed() {
        for (message, expected) in [
            ("How many days do I get to dispute a payment?", true),
            ("My card is cracked, is it safe to carry on with it?", true),
            ("Could you block my card?", false),
            ("How do I close my account?", false),
            ("What now? Block it please", false),
            ("Block my card", false),
        ] {
            assert_eq!(asks_for_facts(message), expected, "{message}");
        }
    }
}
