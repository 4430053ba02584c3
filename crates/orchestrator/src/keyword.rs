//! The override: the literal word that reaches a person, whatever else is down.

use std::collections::BTreeSet;

/// Always a keyword, in every bundle; its plural too.
const ALWAYS: [&str; 2] = ["agent", "agents"];
/// Longest text that is searched; the limit on messages is lower.
const MAX_BYTES: usize = 256 * 1024;

/// The keywords of a bundle, normalised.
#[derive(Debug, Clone)]
pub struct Keywords {
    words: BTreeSet<String>,
    /// Keywords of several words, or of scripts that write without spaces: found anywhere.
    phrases: Vec<String>,
}

impl Keywords {
    /// The keywords of all locales of a bundle besides "agent".
    pub fn new<'a>(keywords: impl IntoIterator<Item = &'a str>) -> Self {
        let normal = keywords.into_iter().map(text::normalise).filter(|keyword| !keyword.is_empty());
        let (words, phrases): (BTreeSet<_>, Vec<_>) = {
            let (words, phrases): (Vec<_>, Vec<_>) = normal.partition(|keyword| is_word(keyword));
            (words.into_iter().collect(), phrases)
        };
        let words = words.into_iter().chain(ALWAYS.map(str::to_owned)).collect();
        Self { words, phrases }
    }

    /// Whether the customer's own words hold a keyword as a word of its own: any case, any punctuation
    /// around it, letters spaced out, look-alike letters, invisible characters inside.
    pub fn hit(&self, message: &str) -> bool {
        if message.len() > MAX_BYTES {
            return true;
        }
        // A panic in the search must not keep anyone from a person.
        std::panic::catch_unwind(|| self.search(message)).unwrap_or(true)
    }

    /// A word, or its part before an apostrophe: "agent's", Turkish "agent'a".
    fn is_keyword(&self, word: &str) -> bool {
        let whole = word.split(['\'', '\u{2019}']).next().unwrap_or(word);
        [word, whole, stem(word)].iter().any(|form| self.words.contains(*form))
    }

    fn search(&self, message: &str) -> bool {
        let normal = text::normalise(message);
        let found = |text: &str| text::words(text).any(|word| self.is_keyword(word));
        found(&normal)
            || self.phrases.iter().any(|phrase| contains_phrase(&normal, phrase))
            || text::despace(message).is_some_and(|joined| found(&joined))
    }
}

/// A Latin word with an ending of another script attached, as Korean and Japanese write, without the ending.
fn stem(word: &str) -> &str {
    const LATIN_ENDS: char = '\u{370}';
    let end = word.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(word.len());
    if word[end..].starts_with(|c| c >= LATIN_ENDS) { &word[..end] } else { word }
}

fn is_word(keyword: &str) -> bool {
    let mut words = text::words(keyword);
    words.next() == Some(keyword) && keyword.is_ascii()
}

fn contains_phrase(text: &str, phrase: &str) -> bool {
    let boundary = |c: Option<char>| !phrase.is_ascii() || !c.is_some_and(char::is_alphanumeric);
    text.match_indices(phrase).any(|(at, _)| {
        boundary(text[..at].chars().next_back()) && boundary(text[at + phrase.len()..].chars().next())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_word_reaches_a_person_in_any_disguise_a_keyboard_makes() {
        let keywords = Keywords::new(["human", "real person", "人工"]);
        for message in [
            "agent",
            "AGENT!!",
            "\"Agent\"...",
            "please, an agent.",
            "agents",
            "a g e n t",
            "A.G.E.N.T",
            "аgent",
            "ag\u{200b}ent",
            "ａｇｅｎｔ",
            "𝐚𝐠𝐞𝐧𝐭",
            "agent\u{0}",
            "the agent's turn",
            "agent\u{2019}a bağla",
            "agent를 불러줘",
            "give me a HUMAN",
            "a real person, please",
            "我要人工服务",
        ] {
            assert!(keywords.hit(message), "{message}");
        }
        for message in ["", "agentic", "reagent", "my urgent transfer", "unreal personality", "humane", "🙂"]
        {
            assert!(!keywords.hit(message), "{message}");
        }
    }
}
