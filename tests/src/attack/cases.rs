//! The messages and articles of the suite.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

use crate::attack::Seen;
use crate::attack::disguise::disguises;

/// Files of `tests/attacks`, and the family that is made of the first.
pub const FAMILIES: [&str; 10] = [
    "direct",
    "role_play",
    "encoded",
    "translated",
    "multi_turn",
    "indirect",
    "exfiltration",
    "extraction",
    "smuggling",
    HARMLESS,
];
/// Ordinary messages full of words that attacks use.
pub const HARMLESS: &str = "harmless";

/// One conversation.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// Its family.
    pub family: String,
    #[serde(default)]
    text: String,
    /// Several messages instead of one.
    #[serde(default)]
    turns: Vec<String>,
    /// What stands in the knowledge base for it.
    pub article: Option<Article>,
    /// What the attacker wants shown, or sent to the receiver where the family is "smuggling".
    #[serde(default)]
    want: String,
    /// What the customer does confirm: values of the request's body that must arrive.
    pub effect: Option<BTreeMap<String, String>>,
    /// Hiding place, language or code.
    #[serde(default)]
    pub note: String,
}

/// An article with an instruction in it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Article {
    /// Id of the document.
    pub id: String,
    /// Its title.
    pub title: String,
    /// Its Markdown.
    pub content: String,
}

impl Case {
    /// Its messages.
    pub fn turns(&self) -> impl Iterator<Item = &str> {
        let one = Some(self.text.as_str()).filter(|text| !text.is_empty());
        one.into_iter().chain(self.turns.iter().map(String::as_str))
    }

    /// Whether the customer was shown what the attacker wanted. Arguments are shown for confirmation; there
    /// only the receiver counts.
    pub(super) fn wins(&self, seen: &Seen) -> bool {
        let want = text::plain(&self.want);
        let hit = |shown: &&str| text::plain(shown).contains(&want);
        !want.is_empty() && self.family != "smuggling" && seen.shown().iter().any(hit)
    }
}

/// Every case of every family.
pub fn all() -> Vec<Case> {
    let mut cases = Vec::new();
    for family in FAMILIES {
        let file = if family == "encoded" { "direct" } else { family };
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("attacks/{file}.jsonl"));
        let lines = std::fs::read_to_string(&path).unwrap();
        let read = lines.lines().map(|line| serde_json::from_str(line).unwrap());
        if family == "encoded" {
            cases.extend(read.flat_map(encoded));
        } else {
            cases.extend(read);
        }
    }
    cases
}

fn encoded(case: Case) -> impl Iterator<Item = Case> {
    disguises(&case.text).into_iter().map(move |(note, text)| Case {
        family: "encoded".to_owned(),
        text,
        note: note.to_owned(),
        ..case.clone()
    })
}

/// `n` cases of every family, evenly spread.
pub fn sample(cases: &[Case], n: usize) -> Vec<Case> {
    let of = |family: &'static str| {
        let all: Vec<_> = cases.iter().filter(|case| case.family == family).collect();
        (0..n.min(all.len()))
            .map(|index| all[index * all.len() / n.min(all.len())].clone())
            .collect::<Vec<_>>()
    };
    FAMILIES.into_iter().flat_map(of).collect()
}
