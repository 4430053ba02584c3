//! The four rails: input, passages, output and action. Pure functions of a compiled policy.

use std::sync::Arc;

use personal::{Kind, Span, detect, redact};

use crate::decode::{View, views};
use crate::error::Error;
use crate::guard::Guard;
use crate::lexicon::{Lexicon, fingerprint};
use crate::policy::{Action, Category, Judgement, Policy, Scores};
use crate::remote::Point;
use crate::sanitise::{hosts, sanitise};
use crate::scan::Scanner;

/// Categories that make a passage unusable: articles may speak of everything else.
pub(crate) const PLANTED: [Category; 2] = [Category::PromptInjection, Category::PromptExtraction];
/// Categories that must not leave. Articles on fraud, law or distress are answers too.
const HELD_BACK: [Category; 7] = [
    Category::Sexual,
    Category::Minors,
    Category::Hate,
    Category::Harassment,
    Category::Threats,
    Category::Violence,
    Category::PromptInjection,
];
/// Longest name of a slot in characters.
const SLOT_NAME_CHARS: usize = 64;
/// Opening signs of template languages and look-ups that a target might expand.
const EXPANSIONS: [&str; 6] = ["{{", "{%", "${", "<%", "<script", "$("];

/// How a rail came to its verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// It ran to its end.
    Ok,
    /// It failed.
    Error,
    /// It ran out of time.
    Timeout,
}

/// What a rail says.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    /// What is demanded.
    pub action: Action,
    /// How the rail came to it.
    pub status: Status,
    /// Categories that reached their threshold with their score, 0..=1, highest first.
    pub categories: Vec<(Category, f64)>,
    /// Personal data, in bytes of the screened text.
    pub redactions: Vec<Span>,
    /// The text with personal data masked, or made safe to show.
    pub text: String,
    /// Version of the policy, and a hash of policy, lexicons and limits.
    pub policy_id: Arc<str>,
    /// What the customer reads when the action is escalate or block; a hint when it is rewrite.
    pub message: String,
}

/// The compiled policy and lexicons.
#[derive(Debug)]
pub struct Rails {
    policy: Policy,
    policy_id: Arc<str>,
    everywhere: Scanner,
    in_passages: Scanner,
    guard: Arc<Guard>,
    max_slot_chars: usize,
}

impl Rails {
    /// Compiles the built-in lexicons and those of a bundle under a policy, beside a guard. Slots may hold up to
    /// `max_slot_chars` characters.
    pub fn new(
        policy: Policy,
        own: &[Lexicon],
        guard: Arc<Guard>,
        max_slot_chars: usize,
    ) -> Result<Self, Error> {
        let (everywhere, in_passages) = (Scanner::everywhere(own)?, Scanner::in_passages(own)?);
        // The orchestrator remembers verdicts on passages by this id.
        let mut hasher = blake3::Hasher::new();
        fingerprint(&mut hasher);
        hasher
            .update(env!("CARGO_PKG_VERSION").as_bytes())
            .update(format!("{policy:?}{own:?}{max_slot_chars}{}", guard.version()).as_bytes());
        let policy_id = format!("{}-{}", policy.version, &hasher.finalize().to_hex()[..12]).into();
        let rails = Self { policy, policy_id, everywhere, in_passages, guard, max_slot_chars };
        // Patterns compile on their first use: that must not be a customer's turn.
        personal::warm_up();
        let _ = rails.output("[a](b) <i> https://a.example", &[], "");
        Ok(rails)
    }

    /// Screens what a customer wrote: its categories, with personal data and secrets masked. The vector is the
    /// text's, of the guard's encoder.
    #[must_use]
    pub fn input(&self, text: &str, vector: Option<&[f32]>) -> Verdict {
        let redactions = detect(text);
        let mut scores = self.scores_of_input(text, vector);
        mark_secrets(&redactions, &mut scores);
        let judgement = self.policy.judge(&scores);
        let message = self.message(&judgement);
        Verdict { message, ..self.verdict(judgement, redact(text, &redactions), redactions) }
    }

    /// The score of each category for what a customer wrote, secrets aside.
    pub(crate) fn scores_of_input(&self, text: &str, vector: Option<&[f32]>) -> Scores {
        let views = views(text);
        let found = self.everywhere.find(&views);
        let scores = self.guard.score(text, &views, &self.everywhere.score(&found), vector);
        let certain = self.everywhere.certain(&found);
        std::array::from_fn(|category| 1.0 - (1.0 - scores[category]) * (1.0 - certain[category]))
    }

    /// The scores of what makes a passage unusable.
    pub(crate) fn scores_of_passage(&self, text: &str) -> Scores {
        let views = views(text);
        let mut scores = only(&self.scores(&self.in_passages, &views), &PLANTED);
        let lexicons = scores.iter().copied().fold(0.0, f64::max);
        let score = &mut scores[Category::PromptInjection as usize];
        *score = score.max(self.guard.planted(text, &views, lexicons));
        scores
    }

    /// Screens one passage: blocked when it holds instructions to whoever reads it by machine.
    #[must_use]
    pub fn passage(&self, text: &str) -> Verdict {
        let mut judgement = self.policy.judge(&self.scores_of_passage(text));
        if !judgement.categories.is_empty() {
            judgement.action = Action::Block;
        }
        self.verdict(judgement, text.to_owned(), Vec::new())
    }

    /// Screens text on its way to a customer against the passages it was made from and the customer's
    /// own `question`: held back, made safe to show, or passed.
    #[must_use]
    pub fn output(&self, text: &str, passages: &[String], question: &str) -> Verdict {
        let named = || hosts(passages.iter().map(String::as_str));
        let shown = sanitise(text, &self.policy.link_hosts.clone().unwrap_or_else(named));
        let mut found = self.everywhere.find(&views(text));
        let mut judgement = self.policy.judge(&only(&self.everywhere.score(&found), &HELD_BACK));
        if !judgement.categories.is_empty() {
            // Words of the knowledge base are the company's own. They can only lower a score, so they are
            // looked for only where it matters.
            let quoted = self.everywhere.find(&[View::of(text::normalise(&passages.join("\n")))]);
            found.retain(|entry| quoted.binary_search(entry).is_err());
            judgement = self.policy.judge(&only(&self.everywhere.score(&found), &HELD_BACK));
        }
        let mut redactions = detect(&shown);
        if !redactions.is_empty() {
            let known = compact(&format!("{}\n{question}", passages.join("\n")));
            redactions.retain(|span| !known.contains(&compact(&shown[span.start..span.end])));
        }
        let masked = redact(&shown, &redactions);
        if !judgement.categories.is_empty() {
            judgement.action = Action::Escalate;
            let message = self.policy.held_back.clone();
            return Verdict { message, ..self.verdict(judgement, String::new(), Vec::new()) };
        }
        judgement.action = if masked == text { Action::Allow } else { Action::Rewrite };
        self.verdict(judgement, masked, redactions)
    }

    /// Screens the slots of a workflow before its effect: allowed or escalated. `risky` workflows admit no
    /// invisible characters at all.
    #[must_use]
    pub fn action<'a>(&self, risky: bool, slots: impl IntoIterator<Item = (&'a str, &'a str)>) -> Verdict {
        let mut scores = Scores::default();
        let mut sound = true;
        for (name, value) in slots {
            let lower = value.to_lowercase();
            sound &= (1..=SLOT_NAME_CHARS).contains(&name.chars().count())
                && value.chars().count() <= self.max_slot_chars
                && !value.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\t') || is_bidi(c))
                && !(risky && value.chars().any(text::is_invisible))
                && !EXPANSIONS.iter().any(|sign| lower.contains(sign));
            let found = only(&self.scores(&self.everywhere, &views(value)), &PLANTED);
            scores.iter_mut().zip(found).for_each(|(score, found)| *score = score.max(found));
        }
        let mut judgement = self.policy.judge(&scores);
        let refused = !sound || !judgement.categories.is_empty();
        judgement.action = if refused { Action::Escalate } else { Action::Allow };
        let message = if refused { self.policy.held_back.clone() } else { String::new() };
        Verdict { message, ..self.verdict(judgement, String::new(), Vec::new()) }
    }

    /// The verdict of a rail that failed or ran out of time: the policy for failures decides.
    #[must_use]
    pub fn failed(&self, status: Status) -> Verdict {
        let (action, message) = self.policy.on_failure();
        let judgement = Judgement { action, categories: Vec::new(), decided_by: None };
        Verdict { status, message: message.to_owned(), ..self.verdict(judgement, String::new(), Vec::new()) }
    }

    /// What a guard of others makes of a verdict: its categories count as certain.
    pub(crate) fn flagged(&self, verdict: Verdict, point: Point, flagged: &[Category]) -> Verdict {
        let mut scores = Scores::default();
        for (category, score) in &verdict.categories {
            scores[*category as usize] = *score;
        }
        let counts = |category: &&Category| point == Point::Input || HELD_BACK.contains(*category);
        flagged.iter().filter(counts).for_each(|category| scores[*category as usize] = 1.0);
        let mut judgement = self.policy.judge(&scores);
        if judgement.action <= verdict.action {
            return verdict;
        }
        let message = match point {
            Point::Input => self.message(&judgement),
            Point::Output => {
                judgement.action = Action::Escalate;
                self.policy.held_back.clone()
            }
        };
        // What is held back is not handed on; the customer's own words are, masked, for the record.
        let text = if point == Point::Input { verdict.text } else { String::new() };
        Verdict { message, ..self.verdict(judgement, text, verdict.redactions) }
    }

    /// A verdict that lacks the opinion of a guard it needs: the policy for failures decides.
    pub(crate) fn doubted(&self, verdict: Verdict, status: Status) -> Verdict {
        let (action, message) = self.policy.on_failure();
        Verdict { action: verdict.action.max(action), status, message: message.to_owned(), ..verdict }
    }

    /// Version and hash of policy and lexicons.
    #[must_use]
    pub fn policy_id(&self) -> &str {
        &self.policy_id
    }

    fn scores(&self, scanner: &Scanner, views: &[View]) -> Scores {
        scanner.score(&scanner.find(views))
    }

    fn message(&self, judgement: &Judgement) -> String {
        let decided = judgement.decided_by.filter(|_| judgement.action > Action::Allow);
        decided.map(|category| self.policy.rule(category).message.clone()).unwrap_or_default()
    }

    fn verdict(&self, judgement: Judgement, text: String, redactions: Vec<Span>) -> Verdict {
        Verdict {
            action: judgement.action,
            status: Status::Ok,
            categories: judgement.categories,
            redactions,
            text,
            policy_id: Arc::clone(&self.policy_id),
            message: String::new(),
        }
    }
}

fn mark_secrets(spans: &[Span], scores: &mut Scores) {
    if spans.iter().any(|span| span.kind == Kind::Secret) {
        scores[Category::Secrets as usize] = 1.0;
    }
}

fn only(scores: &Scores, categories: &[Category]) -> Scores {
    let mut kept = Scores::default();
    for category in categories {
        kept[*category as usize] = scores[*category as usize];
    }
    kept
}

/// Letters and digits only, lowered, so that a number is known however it is spaced.
fn compact(text: &str) -> String {
    text.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

fn is_bidi(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200e}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}
