//! Lexicons: what to look for, by category, built-in and from the bundle.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::error::Error;
use crate::policy::Category;

macro_rules! baseline {
    ($($name:literal),+ $(,)?) => { [$((concat!("safety/src/baseline/", $name), include_str!(concat!("baseline/", $name)))),+] };
}

/// The built-in lexicons, read by every rail.
const BASELINE: [(&str, &str); 15] = baseline!(
    "self_harm.toml",
    "violence.toml",
    "threats.toml",
    "sexual.toml",
    "minors.toml",
    "hate.toml",
    "harassment.toml",
    "illegal.toml",
    "fraud.toml",
    "account_takeover.toml",
    "legal_threat.toml",
    "regulated_advice.toml",
    "prompt_injection.toml",
    "prompt_injection_languages.toml",
    "prompt_extraction.toml",
);
/// What to look for in passages besides: instructions to whoever reads the passage by machine.
const PLANTED: [(&str, &str); 1] = baseline!("planted.toml");
/// Named groups of words that rules of every lexicon may use.
const SETS: (&str, &str) = ("safety/src/baseline/sets.toml", include_str!("baseline/sets.toml"));

/// What to look for in one category.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lexicon {
    /// Where it comes from, for errors.
    #[serde(skip)]
    pub file: String,
    /// Whether a company wrote it: what it finds counts whatever the guard thinks of the text.
    #[serde(skip)]
    pub own: bool,
    /// Name of its category.
    pub category: String,
    /// Phrases found as whole words; a trailing `*` admits any ending.
    #[serde(default)]
    pub terms: Vec<Weighted>,
    /// Rules over words, in the language of `rule`.
    #[serde(default)]
    pub rules: Vec<Weighted>,
    /// Regular expressions over the normal form with its punctuation.
    #[serde(default)]
    pub markup: Vec<Weighted>,
    /// What is ordinary: a term or rule found wholly inside one of these does not count.
    #[serde(default)]
    pub ordinary: Ordinary,
}

/// Patterns with one weight.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Weighted {
    /// How sure a single one is, 0..=1; several combine as independent evidence.
    pub weight: f64,
    /// The patterns.
    pub patterns: Vec<String>,
}

/// Phrases and rules that excuse what they contain.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ordinary {
    /// Phrases, as in [`Lexicon::terms`].
    #[serde(default)]
    pub terms: Vec<String>,
    /// Rules, as in [`Lexicon::rules`].
    #[serde(default)]
    pub rules: Vec<String>,
}

impl Lexicon {
    /// A lexicon of a bundle, which holds phrases only.
    #[must_use]
    pub fn of_bundle(file: &str, own: bundle::Lexicon) -> Self {
        let group = |term: bundle::Term| Weighted { weight: term.weight, patterns: vec![term.phrase] };
        Self {
            file: file.to_owned(),
            own: true,
            category: own.category,
            terms: own.terms.into_iter().map(group).collect(),
            rules: Vec::new(),
            markup: Vec::new(),
            ordinary: Ordinary::default(),
        }
    }

    /// The built-in lexicons: those of every rail, and those of the passage rail only.
    pub fn baseline() -> Result<(Vec<Self>, Vec<Self>), Error> {
        let read = |(file, text): &(&'static str, &str)| -> Result<Self, Error> {
            let lexicon: Self = toml::from_str(text).map_err(|source| Error::Baseline { file, source })?;
            Ok(Self { file: (*file).to_owned(), ..lexicon })
        };
        Ok((
            BASELINE.iter().map(read).collect::<Result<_, _>>()?,
            PLANTED.iter().map(read).collect::<Result<_, _>>()?,
        ))
    }

    /// The category, with an error that names the file and the categories there are.
    pub fn category(&self) -> Result<Category, Error> {
        Category::parse(&self.file, &self.category)
    }
}

/// The named groups of words, as `a|b_c` alternatives.
pub(crate) fn sets() -> Result<BTreeMap<String, String>, Error> {
    toml::from_str(SETS.1).map_err(|source| Error::Baseline { file: SETS.0, source })
}

/// Adds the text of every built-in file, for the hash in the policy id.
pub(crate) fn fingerprint(hasher: &mut blake3::Hasher) {
    for (file, text) in BASELINE.iter().chain(&PLANTED).chain([&SETS]) {
        hasher.update(file.as_bytes()).update(&[0]).update(text.as_bytes()).update(&[0]);
    }
}
