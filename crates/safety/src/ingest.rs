//! What of a knowledge base the passage rail will hold back, told before a customer asks.

use bundle::Place;
use serde::Serialize;

use crate::policy::Action;
use crate::screen::Rails;

/// Characters that nobody sees from which a text hides something: a stray byte order mark or soft hyphen does not.
const HIDDEN: usize = 4;

/// A document with something in it for whoever reads it by machine.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Planted {
    /// Id of the document.
    pub document: String,
    /// Where it begins.
    #[serde(skip)]
    pub place: Place,
    /// The part that the passage rail blocks; `None` when what it hides cannot be seen.
    pub part: Option<String>,
}

/// The documents of a bundle that hold instructions to a machine, or characters that nobody sees.
///
/// # Errors
/// The bundle's knowledge does not validate.
pub fn planted(rails: &Rails, reader: &bundle::Reader) -> Result<Vec<Planted>, bundle::Problems> {
    let mut found = Vec::new();
    for (place, document) in reader.placed_knowledge()? {
        let text = format!("{}\n\n{}", document.title, document.content);
        let blocks = text::blocks(&text);
        let parts = blocks.iter().map(|block| &text[block.range.clone()]);
        let blocked = parts.into_iter().find(|part| rails.passage(part).action == Action::Block);
        if blocked.is_some() || hides(&text) {
            let part = blocked.map(str::to_owned);
            found.push(Planted { document: document.id, place, part });
        }
    }
    Ok(found)
}

/// Whether a text holds more invisible characters than happen, or any that spell something unseen. What an emoji is
/// joined of does not count.
fn hides(text: &str) -> bool {
    let joins = |c: char| matches!(c, '\u{200d}' | '\u{fe00}'..='\u{fe0f}' | '\u{ad}');
    let spells =
        |c: char| matches!(c, '\u{e0020}'..='\u{e007e}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    text.chars().any(spells)
        || text.chars().filter(|c| text::is_invisible(*c) && !joins(*c)).count() >= HIDDEN
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_spells_something_unseen_hides_and_an_emoji_does_not() {
        assert!(!hides("Our team 👩‍💻 writes co\u{ad}op\u{ad}er\u{ad}a\u{ad}tive\u{ad}ly ❤️ \u{feff}"));
        assert!(hides("Fees apply. \u{e0069}\u{e0067}"));
        assert!(hides("a\u{200b}b\u{200b}c\u{200b}d\u{200b}e"));
    }
}
