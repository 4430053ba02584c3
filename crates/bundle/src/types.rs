//! The types of a bundle, as its files spell them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::hours::BusinessHours;
use crate::problem::Place;
use crate::request::{Compensation, Precondition, RequestTemplate, Response, Retry};

/// How much harm a wrong decision can do. Left out means high.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Risk {
    /// A wrong answer costs the customer a question more.
    Low,
    /// A wrong answer costs time or trust.
    Medium,
    /// A wrong answer costs money, safety or rights.
    #[default]
    High,
}

/// Who may read a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Audience {
    /// Customers.
    Public,
    /// Staff only.
    Internal,
}

/// `assistant.toml`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Assistant {
    /// Version of the bundle format; 1.
    pub schema: u32,
    /// Id of the bundle, `[a-z0-9-]`.
    pub name: String,
    /// Name shown to customers.
    pub title: String,
    /// BCP 47 languages the bundle has examples for.
    pub locales: Vec<String>,
    /// Said when a chat opens.
    #[serde(default)]
    pub greeting: String,
    /// What a customer reads when a person takes over.
    pub handoff: Handoff,
    /// When people are there; absent means always.
    #[serde(default)]
    pub business_hours: Option<BusinessHours>,
    /// Categories of intents by name.
    pub categories: BTreeMap<String, Category>,
}

/// Texts and keywords of handoffs.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Handoff {
    /// Text for every reason without one of its own.
    pub message: String,
    /// Words besides "agent" that reach a person at once, by locale.
    #[serde(default)]
    pub keywords: BTreeMap<String, Vec<String>>,
    /// Which "agent" reaches a person.
    #[serde(default)]
    pub keyword_mode: KeywordMode,
    /// Text by reason, in snake case.
    #[serde(default)]
    pub messages: BTreeMap<String, String>,
    /// Said after the text while nobody is there; minijinja over `day`, `time`, `zone`, `date`, `weekday` (0 is
    /// Monday); absent means an English one.
    #[serde(default)]
    pub away: Option<String>,
    /// How long people have been there without anybody taking a handoff before it becomes a callback, in minutes,
    /// 1..=10080; absent means never.
    #[serde(default)]
    pub wait_minutes: Option<u32>,
    /// Said then; minijinja over `reference`; absent means an English one.
    #[serde(default)]
    pub callback: Option<String>,
}

/// Which "agent" in a customer's own words reaches a person.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeywordMode {
    /// Every one.
    #[default]
    Strict,
    /// Every one but those of compounds ("travel agent") and quotes, where a person is offered instead.
    Intent,
}

/// What questions of a category are answered with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answers {
    /// Answers of a model where one is configured, else the articles' own sentences.
    #[default]
    Free,
    /// The articles' own sentences only.
    Extractive,
    /// Approved answers only; without one a person takes over.
    ApprovedOnly,
}

/// A group of intents under one policy.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Category {
    /// Words for the customer.
    pub title: String,
    /// Risk of the category's intents.
    #[serde(default)]
    pub risk: Risk,
    /// Confidence from which an intent is accepted, 0..=1; absent means the classifier's fitted one.
    #[serde(default)]
    pub accept_threshold: Option<f64>,
    /// Least distance between the two best intents, 0..=1; absent means the classifier's.
    #[serde(default)]
    pub ambiguity_margin: Option<f64>,
    /// What its questions are answered with; left out means everything there is.
    #[serde(default)]
    pub answers: Answers,
}

/// Something a customer may want.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Intent {
    /// Name, `[a-z][a-z0-9_]*`.
    pub name: String,
    /// Words for the customer.
    pub title: String,
    /// Name of its category.
    pub category: String,
    /// Its own risk, or its category's.
    pub risk: Risk,
    /// What it is about, one sentence.
    pub description: String,
    /// Confidence from which it is accepted, 0..=1.
    pub threshold: Option<f64>,
    /// Whether who means it is given to a person at once.
    pub handoff: bool,
    /// Utterances.
    pub examples: Vec<String>,
    /// Where its table stands.
    pub place: Place,
    /// Where the examples stand, one each.
    pub example_places: Vec<Place>,
}

/// An article of the knowledge base.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Document {
    /// Id, unique.
    pub id: String,
    /// Title.
    pub title: String,
    /// Markdown.
    pub content: String,
    /// Who may read it.
    pub audience: Audience,
    /// Tags.
    pub tags: Vec<String>,
}

impl Document {
    /// Content hash of the title and the content, 16 hexadecimal digits: the version citations name.
    pub fn version(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        hasher.update(self.title.as_bytes()).update(&[0]).update(self.content.as_bytes());
        hasher.finalize().to_hex()[..16].to_owned()
    }
}

/// An approved answer.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Curated {
    /// Id, unique.
    pub id: String,
    /// Questions it answers; compared after normalisation, whole.
    #[serde(default)]
    pub questions: Vec<String>,
    /// Intents it answers, whatever the words.
    #[serde(default)]
    pub intents: Vec<String>,
    /// The answer.
    pub text: String,
    /// Public documents it cites.
    #[serde(default)]
    pub documents: Vec<String>,
    /// Who is responsible for it.
    pub owner: String,
    /// Last day on which it is used.
    #[serde(deserialize_with = "date")]
    pub expires: jiff::civil::Date,
}

/// A template of a prompt.
#[derive(Debug, Clone)]
pub struct Prompt {
    /// File name without extension.
    pub name: String,
    /// Version, as its front matter says.
    pub version: String,
    /// Names of the values it uses.
    pub inputs: Vec<String>,
    /// The line of its file on which the body begins.
    pub line: usize,
    /// minijinja template.
    pub body: String,
}

/// Whether a repeated request repeats the effect. Left out means non-idempotent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// The target takes the same key only once: may be retried.
    Idempotent,
    /// Never sent twice.
    #[default]
    NonIdempotent,
}

/// `workflows/*.toml`: something the assistant can do.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Workflow {
    /// Name, `[a-z][a-z0-9_]*`.
    pub name: String,
    /// Words for the customer.
    pub title: String,
    /// Intents that propose it.
    pub intents: Vec<String>,
    /// Risk of its effect; at high risk a person has to approve it after the customer's yes.
    #[serde(default)]
    pub risk: Risk,
    /// Whether it drops an open workflow of its own risk, as one of higher risk does, and is itself dropped for none.
    #[serde(default)]
    pub urgent: bool,
    /// Class of its effect.
    #[serde(default)]
    pub effect: Effect,
    /// Confidence of the intent it needs, 0..=1.
    pub threshold: f64,
    /// Question before the effect; minijinja over the slots.
    pub confirmation: String,
    /// Message after the effect; minijinja over the slots, `reference` and `response.NAME`.
    pub done: String,
    /// What has to be true besides; checked in order, as soon as their slots are filled and before the effect.
    #[serde(default, rename = "precondition")]
    pub preconditions: Vec<Precondition>,
    /// The request that has the effect.
    pub request: RequestTemplate,
    /// How it is sent again; for an idempotent effect only.
    #[serde(default)]
    pub retry: Option<Retry>,
    /// What the answer means.
    #[serde(default)]
    pub response: Response,
    /// What undoes the effect; absent means that nothing does.
    #[serde(default)]
    pub compensation: Option<Compensation>,
    /// How often and how much.
    #[serde(default)]
    pub caps: Caps,
    /// What it needs to know.
    #[serde(default, rename = "slot")]
    pub slots: Vec<Slot>,
}

/// What a workflow may do at most; what is left out has no cap. Above it a person takes over. Days are by UTC.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Caps {
    /// Executions of a customer a day, 1..=1000000; without a customer's key, of a conversation.
    pub per_customer_per_day: Option<u32>,
    /// Executions of all customers a day, 1..=1000000.
    pub per_day: Option<u32>,
    /// Most of every amount of one execution, above 0, in the currency of its slot.
    pub amount: Option<f64>,
}

/// A value a workflow needs.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Slot {
    /// Name, `[a-z][a-z0-9_]*`.
    pub name: String,
    /// Type and its limits.
    #[serde(flatten)]
    pub kind: SlotKind,
    /// The question for it.
    pub prompt: String,
    /// Said when an answer does not fit.
    #[serde(default)]
    pub invalid: Option<String>,
    /// Whether the workflow runs without it.
    #[serde(default)]
    pub optional: bool,
}

/// Type of a slot.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum SlotKind {
    /// Any words.
    Text,
    /// Words that match a regular expression as a whole.
    Pattern {
        /// The expression.
        pattern: String,
    },
    /// An identifier with digits.
    OrderId {
        /// The expression; absent means letters and digits with at least one digit.
        #[serde(default)]
        pattern: Option<String>,
    },
    /// One of a list.
    Choice {
        /// The list.
        choices: Vec<Choice>,
    },
    /// A day, counted from today where the company is. A limit left out is none.
    Date {
        /// Most days before today, 0..=36500; 0 takes none.
        #[serde(default)]
        past_days: Option<u32>,
        /// Most days after today, 0..=36500; 0 takes none.
        #[serde(default)]
        future_days: Option<u32>,
    },
    /// An amount of money.
    Amount {
        /// Least.
        #[serde(default)]
        min: Option<f64>,
        /// Most.
        #[serde(default)]
        max: Option<f64>,
        /// ISO 4217.
        #[serde(default)]
        currency: Option<String>,
    },
    /// An e-mail address.
    Email,
}

/// Words of `knowledge/synonyms.toml` that a search takes for one another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Synonym {
    /// Words or phrases of a question.
    pub from: Vec<String>,
    /// What each of them also finds; the same as `from` when all mean one thing.
    pub to: Vec<String>,
}

/// One value of a choice.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Choice {
    /// The value.
    pub value: String,
    /// Words that mean it.
    #[serde(default)]
    pub words: Vec<String>,
}

/// TOML has its own dates, which serde shows as a private struct: read them through `toml`.
fn date<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<jiff::civil::Date, D::Error> {
    let datetime = toml::value::Datetime::deserialize(deserializer)?;
    datetime
        .to_string()
        .parse()
        .map_err(|_| serde::de::Error::custom("is no date, allowed such as 2028-12-31"))
}
