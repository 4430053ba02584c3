//! What `safety/` of a bundle holds.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::problem::{Place, plain_json};
use crate::read::{Problem, Problems, Reader, find_key, finish, parse};

/// What the safety policy may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Go on.
    Allow,
    /// Go on with a rewritten text.
    Rewrite,
    /// Hand over to a person.
    Escalate,
    /// Refuse.
    Block,
}

/// `safety/policy.toml`: changes to the built-in policy.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// Version, free text.
    #[serde(default)]
    pub version: String,
    /// Hosts an answer may link to, without "www."; left out means those that its passages name.
    #[serde(default)]
    pub link_hosts: Option<Vec<String>>,
    /// Changes by category.
    #[serde(default)]
    pub categories: BTreeMap<String, CategoryPolicy>,
}

/// Changes to the policy of one category.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CategoryPolicy {
    /// What follows when the score reaches the threshold.
    pub action: Option<Action>,
    /// Score from which the action holds, 0..=1.
    pub threshold: Option<f64>,
    /// What the customer reads.
    pub message: Option<String>,
    /// What follows when the rail fails: escalate or block.
    pub on_failure: Option<Action>,
}

/// `safety/lexicons/*.toml`: phrases added to the built-in ones.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lexicon {
    /// Category of the phrases.
    pub category: String,
    /// The phrases.
    #[serde(rename = "term")]
    pub terms: Vec<Term>,
}

/// A phrase with the weight it adds.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Term {
    /// Words, matched on normalised text.
    pub phrase: String,
    /// Weight, 0..=1.
    pub weight: f64,
}

/// Longest example, in bytes.
const MAX_EXAMPLE_BYTES: usize = 4000;

/// A line of `safety/examples/*.jsonl`: what the guard learns from, besides the platform's own examples.
#[derive(Debug, Clone)]
pub struct SafetyExample {
    /// Where it stands.
    pub place: Place,
    /// What a customer might write.
    pub text: String,
    /// Names of the categories it belongs to; none for what only looks harmful.
    pub categories: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ExampleLine {
    text: String,
    categories: Vec<String>,
}

impl Reader {
    /// `safety/policy.toml`; the default without the file.
    ///
    /// # Errors
    /// The file does not parse or holds a value out of range.
    pub fn policy(&self) -> Result<Policy, Problems> {
        let file = Path::new("safety/policy.toml");
        if !self.holds(file) {
            return Ok(Policy::default());
        }
        let text = self.text(file)?;
        let policy: Policy = parse(file, &text)?;
        let mut problems = Vec::new();
        for (name, category) in &policy.categories {
            let line = find_key(&text, &format!("categories.{name}"));
            if category.threshold.is_some_and(|value| !(0.0..=1.0).contains(&value)) {
                let message = format!("categories.{name}.threshold is out of range, allowed 0..=1");
                problems.push(Problem::new(file, line, message));
            }
            if matches!(category.on_failure, Some(Action::Allow | Action::Rewrite)) {
                let message = format!("categories.{name}.on_failure, allowed escalate and block");
                problems.push(Problem::new(file, line, message));
            }
        }
        finish(policy, problems)
    }

    /// The lexicons of all files under `safety/lexicons/`.
    ///
    /// # Errors
    /// A file that does not parse or holds a weight out of range.
    pub fn lexicons(&self) -> Result<Vec<Lexicon>, Problems> {
        let mut lexicons = Vec::new();
        for file in self.under("safety/lexicons") {
            let text = self.text(file)?;
            let lexicon: Lexicon = parse(file, &text)?;
            for term in &lexicon.terms {
                if !(0.0..=1.0).contains(&term.weight) {
                    let message = format!("weight of {:?} is {}, allowed 0..=1", term.phrase, term.weight);
                    return Err(Problem::new(file, find_key(&text, &term.phrase), message).into());
                }
            }
            lexicons.push(lexicon);
        }
        Ok(lexicons)
    }

    /// The examples of all files under `safety/examples/`.
    ///
    /// # Errors
    /// A line that is no example, or whose text is empty or longer than 4000 bytes.
    pub fn safety_examples(&self) -> Result<Vec<SafetyExample>, Problems> {
        let (mut examples, mut problems) = (Vec::new(), Vec::new());
        for file in self.under("safety/examples") {
            let text = self.text(file)?;
            for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
                let mut refuse = |message| problems.push(Problem::new(file, index + 1, message));
                match serde_json::from_str::<ExampleLine>(line) {
                    Err(error) => refuse(plain_json(&error)),
                    Ok(ExampleLine { text, .. }) if !(1..=MAX_EXAMPLE_BYTES).contains(&text.trim().len()) => {
                        refuse(format!("text has {} bytes, allowed 1..={MAX_EXAMPLE_BYTES}", text.len()));
                    }
                    Ok(ExampleLine { text, categories }) => {
                        let place = Place { file: file.clone(), line: index + 1 };
                        examples.push(SafetyExample { place, text, categories });
                    }
                }
            }
        }
        finish(examples, problems)
    }
}
