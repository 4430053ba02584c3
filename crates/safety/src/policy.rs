//! The policy: what each category of harm leads to.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use crate::error::Error;

const BASELINE: &str = include_str!("baseline/policy.toml");

/// A kind of harm a rail looks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the names say it; the built-in policy describes them")]
pub enum Category {
    SelfHarm,
    Violence,
    Threats,
    Sexual,
    Minors,
    Hate,
    Harassment,
    Illegal,
    Fraud,
    AccountTakeover,
    LegalThreat,
    RegulatedAdvice,
    PromptInjection,
    PromptExtraction,
    Secrets,
}

impl Category {
    /// All categories with their names in policies, lexicons and verdicts, in the order of their numbers.
    pub const ALL: [(Self, &'static str); 15] = [
        (Self::SelfHarm, "self_harm"),
        (Self::Violence, "violence"),
        (Self::Threats, "threats"),
        (Self::Sexual, "sexual"),
        (Self::Minors, "minors"),
        (Self::Hate, "hate"),
        (Self::Harassment, "harassment"),
        (Self::Illegal, "illegal"),
        (Self::Fraud, "fraud"),
        (Self::AccountTakeover, "account_takeover"),
        (Self::LegalThreat, "legal_threat"),
        (Self::RegulatedAdvice, "regulated_advice"),
        (Self::PromptInjection, "prompt_injection"),
        (Self::PromptExtraction, "prompt_extraction"),
        (Self::Secrets, "secrets"),
    ];

    /// The name in policies, lexicons and verdicts.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::ALL[self as usize].1
    }

    /// The category a name stands for, ours or of a well-known data set or guard (OpenAI's moderation, the hazards
    /// of MLCommons that Llama Guard 3 numbers S1 to S14).
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        let plain = name.trim().to_ascii_lowercase().replace(['/', '-', ' '], "_");
        if let Some((category, _)) = Self::ALL.iter().find(|(_, known)| *known == plain) {
            return Some(*category);
        }
        Some(match plain.as_str() {
            "self_harm_intent" | "self_harm_instructions" | "s11" => Self::SelfHarm,
            "violence_graphic" | "violent_crimes" | "s1" => Self::Violence,
            "hate_threatening" | "s10" => Self::Hate,
            "harassment_threatening" => Self::Threats,
            "sexual_minors" | "child_exploitation" | "s4" => Self::Minors,
            "sexual_content" | "sex_crimes" | "s3" | "s12" => Self::Sexual,
            "illicit" | "illicit_violent" | "non_violent_crimes" | "s2" | "s7" | "s8" | "s9" | "s13"
            | "s14" => Self::Illegal,
            "specialized_advice" | "s6" => Self::RegulatedAdvice,
            "defamation" | "s5" => Self::Harassment,
            "injection" | "jailbreak" => Self::PromptInjection,
            _ => return None,
        })
    }

    /// The category of a name; the error lists the names there are.
    pub(crate) fn parse(file: &str, name: &str) -> Result<Self, Error> {
        let found = Self::ALL.iter().find(|(_, known)| *known == name);
        found.map(|(category, _)| *category).ok_or_else(|| Error::UnknownCategory {
            file: file.to_owned(),
            name: name.to_owned(),
            allowed: Self::ALL.map(|(_, known)| known).join(", "),
        })
    }
}

/// What a rail demands, from least to most severe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Go on unchanged.
    Allow,
    /// Go on with the rewritten text.
    Rewrite,
    /// Hand over to a person.
    Escalate,
    /// Refuse.
    Block,
}

impl From<bundle::Action> for Action {
    fn from(action: bundle::Action) -> Self {
        match action {
            bundle::Action::Allow => Self::Allow,
            bundle::Action::Rewrite => Self::Rewrite,
            bundle::Action::Escalate => Self::Escalate,
            bundle::Action::Block => Self::Block,
        }
    }
}

/// What one category leads to.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// What the rail demands when the score reaches the threshold.
    pub action: Action,
    /// Lowest score that counts, 0..=1.
    pub threshold: f64,
    /// What the customer reads.
    pub message: String,
    /// What the rail demands when it failed: escalate or block.
    pub on_failure: Action,
    /// Whether its action wins over more severe ones: a person in danger is heard, not refused.
    #[serde(default)]
    pub prevails: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    version: String,
    held_back: String,
    failed: String,
    refused: String,
    categories: BTreeMap<String, Rule>,
}

/// The policy in force.
#[derive(Debug, Clone)]
pub struct Policy {
    /// Version as its writer names it.
    pub version: String,
    /// What the customer reads when an answer was held back.
    pub held_back: String,
    failed: String,
    refused: String,
    /// Hosts an answer may link to, in lower case; `None` means those that its passages name.
    pub link_hosts: Option<BTreeSet<String>>,
    rules: Vec<Rule>,
}

/// What a policy makes of scores.
#[derive(Debug, Clone, PartialEq)]
pub struct Judgement {
    /// What is demanded.
    pub action: Action,
    /// Categories that reached their threshold with their score, highest first.
    pub categories: Vec<(Category, f64)>,
    /// The category that decided.
    pub decided_by: Option<Category>,
}

/// Scores, 0..=1, by number of the category.
pub type Scores = [f64; Category::ALL.len()];

impl Policy {
    /// The built-in policy.
    pub fn baseline() -> Result<Self, Error> {
        let name = "safety/src/baseline/policy.toml";
        let file: File = toml::from_str(BASELINE).map_err(|source| Error::Baseline { file: name, source })?;
        for category in file.categories.keys() {
            Category::parse(name, category)?;
        }
        let rules = Category::ALL.iter().map(|(category, known)| {
            let rule = file.categories.get(*known).ok_or(Error::Missing(known))?;
            check(name, *category, rule).map(|()| rule.clone())
        });
        let rules = rules.collect::<Result<_, _>>()?;
        let File { version, held_back, failed, refused, .. } = file;
        Ok(Self { version, held_back, failed, refused, link_hosts: None, rules })
    }

    /// Adjusts the policy by what a bundle's `file` says; an empty version keeps the present one.
    ///
    /// # Errors
    /// A category nobody knows, or a value out of range.
    pub fn adjust(&mut self, file: &str, by: &bundle::Policy) -> Result<(), Error> {
        if !by.version.is_empty() {
            self.version.clone_from(&by.version);
        }
        if let Some(hosts) = &by.link_hosts {
            self.link_hosts = Some(hosts.iter().map(|host| host.to_lowercase()).collect());
        }
        for (name, changes) in &by.categories {
            let category = Category::parse(file, name)?;
            let rule = &mut self.rules[category as usize];
            rule.action = changes.action.map_or(rule.action, Action::from);
            rule.threshold = changes.threshold.unwrap_or(rule.threshold);
            rule.on_failure = changes.on_failure.map_or(rule.on_failure, Action::from);
            if let Some(message) = &changes.message {
                rule.message.clone_from(message);
            }
            check(file, category, rule)?;
        }
        Ok(())
    }

    /// The rule of a category.
    #[must_use]
    pub fn rule(&self, category: Category) -> &Rule {
        &self.rules[category as usize]
    }

    /// Judges scores: the most severe action of the categories that reached their threshold, unless one
    /// of them prevails.
    #[must_use]
    pub fn judge(&self, scores: &Scores) -> Judgement {
        let mut categories: Vec<_> = Category::ALL
            .iter()
            .map(|(category, _)| (*category, scores[*category as usize]))
            .filter(|(category, score)| *score > 0.0 && *score >= self.rule(*category).threshold)
            .collect();
        categories.sort_by(|a, b| b.1.total_cmp(&a.1));
        let weight = |category: Category| {
            let rule = self.rule(category);
            (rule.prevails && rule.action >= Action::Escalate, rule.action)
        };
        // Of equals `max_by_key` takes the last, so the reversed order gives the highest score.
        let decided_by = categories.iter().rev().map(|(category, _)| *category).max_by_key(|c| weight(*c));
        let action = decided_by.map_or(Action::Allow, |category| self.rule(category).action);
        Judgement { action, categories, decided_by }
    }

    /// What is demanded when a rail failed, the most severe of the actions on failure, and what the customer then
    /// reads: a person is promised only where one is called.
    #[must_use]
    pub fn on_failure(&self) -> (Action, &str) {
        let action = self.rules.iter().map(|rule| rule.on_failure).max().unwrap_or(Action::Block);
        (action, if action == Action::Block { &self.refused } else { &self.failed })
    }
}

fn check(file: &str, category: Category, rule: &Rule) -> Result<(), Error> {
    if !(0.0..=1.0).contains(&rule.threshold) {
        let key = format!("threshold of \"{}\"", category.name());
        return Err(Error::OutOfRange {
            file: file.to_owned(),
            key,
            value: rule.threshold,
            allowed: "0..=1",
        });
    }
    if rule.on_failure < Action::Escalate {
        return Err(Error::OpenFailure { file: file.to_owned(), category: category.name() });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changes(category: &str, changes: bundle::CategoryPolicy) -> bundle::Policy {
        let categories = BTreeMap::from([(category.into(), changes)]);
        bundle::Policy { version: "1".into(), categories, ..bundle::Policy::default() }
    }

    #[test]
    fn a_bundle_with_an_unknown_category_is_told_the_file_and_the_names() {
        let mut policy = Policy::baseline().unwrap();
        let error =
            policy.adjust("safety/policy.toml", &changes("selfharm", Default::default())).unwrap_err();
        let text = error.to_string();
        assert!(text.starts_with("safety/policy.toml: category \"selfharm\""), "{text}");
        assert!(text.contains("self_harm, violence") && text.contains("secrets"), "{text}");
    }

    #[test]
    fn a_failure_may_never_let_text_pass_and_thresholds_stay_in_range() {
        let mut policy = Policy::baseline().unwrap();
        let open = bundle::CategoryPolicy { on_failure: Some(bundle::Action::Allow), ..Default::default() };
        assert!(matches!(policy.adjust("p", &changes("hate", open)), Err(Error::OpenFailure { .. })));
        let wide = bundle::CategoryPolicy { threshold: Some(f64::NAN), ..Default::default() };
        assert!(matches!(policy.adjust("p", &changes("hate", wide)), Err(Error::OutOfRange { .. })));
    }

    #[test]
    fn a_person_in_danger_is_heard_even_when_the_message_would_be_refused() {
        let policy = Policy::baseline().unwrap();
        let mut scores = Scores::default();
        scores[Category::PromptInjection as usize] = 1.0;
        assert_eq!(policy.judge(&scores).action, Action::Block);
        scores[Category::SelfHarm as usize] = 0.9;
        let judgement = policy.judge(&scores);
        assert_eq!((judgement.action, judgement.decided_by), (Action::Escalate, Some(Category::SelfHarm)));
    }
}
