//! `firstline bundle lint`: what the owner of a bundle may want to change, as advice.

use std::path::Path;

use bundle::{Place, Reader};
use classifier::{Misread, Overlap, Repeated, Review, Thin};
use kit::config::Settings;
use safety::Planted;
use serde::Serialize;
use serde_json::{Value, json};

use crate::coverage::{self, Article, Asked, Coverage, Lost};
use crate::{bundles, show};

/// Findings of a kind that the terminal shows; the rest are counted.
const SHOWN: usize = 20;
/// Characters of a text in a message.
const EXCERPT: usize = 70;

/// What a finding is about, in the order of printing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    MislabelledExample,
    OverlappingIntents,
    FewExamples,
    DuplicateExample,
    UnansweredQuestion,
    UnansweredIntent,
    UnusedArticle,
    PlantedInstruction,
}

const KINDS: [Kind; 8] = [
    Kind::MislabelledExample,
    Kind::OverlappingIntents,
    Kind::FewExamples,
    Kind::DuplicateExample,
    Kind::UnansweredQuestion,
    Kind::UnansweredIntent,
    Kind::UnusedArticle,
    Kind::PlantedInstruction,
];

/// How much a finding costs: customers a wrong answer, or only the owner a look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Severity {
    Warning,
    Note,
}

impl Kind {
    fn severity(self) -> Severity {
        match self {
            Self::DuplicateExample | Self::UnusedArticle => Severity::Note,
            _ => Severity::Warning,
        }
    }

    fn heading(self) -> &'static str {
        match self {
            Self::MislabelledExample => "examples that look mislabelled",
            Self::OverlappingIntents => "intents taken for one another",
            Self::FewExamples => "intents with few examples",
            Self::DuplicateExample => "examples written twice",
            Self::UnansweredQuestion => "golden questions that no article answers",
            Self::UnansweredIntent => "intents that no article answers",
            Self::UnusedArticle => "articles that answer nothing",
            Self::PlantedInstruction => "articles with something for whoever reads them by machine",
        }
    }

    /// What to do.
    fn advice(self) -> &'static str {
        match self {
            Self::MislabelledExample => {
                "Move it to the intent it reads like; where it is right as it is, add more like it."
            }
            Self::OverlappingIntents => {
                "Merge them where one answer serves both; else give each examples with the words that tell them apart."
            }
            Self::FewExamples => {
                "Add what customers write: with 5 examples an intent 65 and 77 % of unseen messages of two public sets \
                 found theirs, with 10 73 and 84 %, with 20 81 and 88 %."
            }
            Self::DuplicateExample => {
                "Keep it once, under the intent it belongs to: twice it counts double, and the same words cannot mean \
                 two things."
            }
            Self::UnansweredQuestion => {
                "Say it in an article in the customer's words, or name those words in knowledge/synonyms.toml."
            }
            Self::UnansweredIntent => {
                "Write an article or an approved answer for it, or a workflow; until then these customers get a person."
            }
            Self::UnusedArticle => {
                "Put customers' words into its title and headings and examples of its questions into an intent, or \
                 delete it."
            }
            Self::PlantedInstruction => {
                "Find out who wrote it, and take it out: no answer is made from the passage it stands in."
            }
        }
    }
}

/// One piece of advice.
#[derive(Debug, Serialize)]
struct Finding {
    kind: Kind,
    severity: Severity,
    #[serde(flatten)]
    place: Place,
    /// What is the matter.
    message: String,
    /// What to do.
    advice: &'static str,
    details: Value,
}

impl Finding {
    fn new(kind: Kind, place: &Place, message: String, details: Value) -> Self {
        let place = place.clone();
        Self { kind, severity: kind.severity(), place, message, advice: kind.advice(), details }
    }
}

/// `bundle lint`. With `strict` any finding is a failure.
pub(crate) fn lint(dir: &Path, settings: &Settings, strict: bool, as_json: bool) -> anyhow::Result<bool> {
    let server = settings.server()?;
    bundles::build_now(dir, &server.encoder)?;
    let reader = Reader::open(dir)?;
    let tier = encoder::Opened::new(&server.encoder);
    let encoder = tier.encoder().map(AsRef::as_ref);
    let bar = show::Bar::new("reviewing the examples");
    let review = classifier::review(&reader, encoder, &|done, total| bar.set(done, total))?;
    bar.finish();
    let bar = show::Bar::new("asking the articles");
    let today = jiff::Zoned::now().date();
    let set = |done, total| bar.set(done, total);
    let survey = coverage::survey(&reader, tier.encoder(), settings, today, &set);
    let coverage = kit::run::runtime(1)?.block_on(survey)?;
    bar.finish();
    let config = settings.table::<safety::Config>(safety::NAME)?;
    let rails = safety::rails(&reader, encoder, &config, &|_, _| {})?;
    let planted = safety::planted(&rails, &reader)?;
    let found = findings(&review, &coverage, &planted);
    if as_json {
        let out = json!({
            "bundle": reader.hash(), "tier": tier.describe(), "cross_validated_accuracy": review.accuracy,
            "internal_articles": coverage.internal, "findings": found,
        });
        show::line(&out.to_string());
    } else {
        let accuracy = review.accuracy.unwrap_or_default() * 100.0;
        show::line(&format!(
            "{}, bundle {}, tier {}: {} findings\n\
             examples that find their intent in cross-validation: {accuracy:.1} %; internal articles, left out: {}",
            dir.display(),
            reader.hash(),
            tier.describe(),
            found.len(),
            coverage.internal
        ));
        print(&found);
    }
    Ok(found.is_empty() || !strict)
}

fn findings(review: &Review, coverage: &Coverage, planted: &[Planted]) -> Vec<Finding> {
    let mislabelled = review.mislabelled.iter().map(mislabelled);
    let overlaps = review.overlaps.iter().map(overlap);
    let thin = review.thin.iter().map(thin);
    let repeated = review.repeated.iter().map(repeated);
    let lost = coverage.questions.iter().map(lost);
    let unanswered = coverage.intents.iter().filter(|asked| asked.unanswered.len() * 2 > asked.examples);
    let unused = coverage.articles.iter().filter(|article| article.cited == 0);
    let examples = mislabelled.chain(overlaps).chain(thin).chain(repeated);
    let articles = unanswered.map(unanswered_intent).chain(unused.map(unused_article));
    examples.chain(lost).chain(articles).chain(planted.iter().map(planted_instruction)).collect()
}

fn mislabelled(misread: &Misread) -> Finding {
    let Misread { text, place, intent, taken_for, other, .. } = misread;
    let message =
        format!("{:?} of {intent:?} reads like {taken_for:?} ({other:.2})", show::excerpt(text, EXCERPT));
    Finding::new(Kind::MislabelledExample, place, message, json!(misread))
}

fn overlap(overlap: &Overlap) -> Finding {
    let Overlap { intents: [one, other], place, examples, misread } = overlap;
    // One from each side, where both lose some.
    let shown = [one, other].map(|name| misread.iter().find(|misread| misread.intent == *name));
    let shown = shown.into_iter().flatten().map(|Misread { text, place, taken_for, .. }| {
        format!("{:?} ({place}) for {taken_for:?}", show::excerpt(text, EXCERPT))
    });
    let message = format!(
        "{one:?} and {other:?}: {} of {examples} examples taken for the other, such as {}",
        misread.len(),
        shown.collect::<Vec<_>>().join(", ")
    );
    let each =
        misread.iter().map(|misread| json!({ "place": misread.place.to_string(), "misread": misread }));
    let details =
        json!({ "intents": [one, other], "examples": examples, "confused": each.collect::<Vec<_>>() });
    Finding::new(Kind::OverlappingIntents, place, message, details)
}

fn thin(thin: &Thin) -> Finding {
    let Thin { intent, place, examples } = thin;
    let recommended = classifier::ENOUGH_EXAMPLES;
    let message = format!("{intent:?} has {examples}, recommended are at least {recommended}");
    let details = json!({ "intent": intent, "examples": examples, "recommended": recommended });
    Finding::new(Kind::FewExamples, place, message, details)
}

fn repeated(repeated: &Repeated) -> Finding {
    let Repeated { text, place, intent, first: (first, other) } = repeated;
    let message =
        format!("{:?} of {intent:?} stands at {first} under {other:?} already", show::excerpt(text, EXCERPT));
    let details = json!({ "text": text, "intents": [intent, other], "first": first });
    Finding::new(Kind::DuplicateExample, place, message, details)
}

fn lost(lost: &Lost) -> Finding {
    let Lost { question, found } = lost;
    let documents = question.documents.join(", ");
    let why = match (documents.as_str(), found.as_slice()) {
        ("", _) => String::new(),
        (_, []) => format!("; {documents} is not among the passages found"),
        _ => format!("; {} is found and says too little of it", found.join(", ")),
    };
    let message = format!("{:?}{why}", show::excerpt(&question.text, EXCERPT));
    let place = Place { file: bundle::QUESTIONS.into(), line: question.line };
    let details = json!({ "text": question.text, "documents": question.documents, "found": found });
    Finding::new(Kind::UnansweredQuestion, &place, message, details)
}

fn unanswered_intent(asked: &Asked) -> Finding {
    let Asked { intent, place, examples, unanswered } = asked;
    let such_as: Vec<_> =
        unanswered.iter().take(2).map(|text| format!("{:?}", show::excerpt(text, EXCERPT))).collect();
    let (n, such_as) = (unanswered.len(), such_as.join(", "));
    let message = format!("{intent:?}: {n} of {examples} examples find no answer, such as {such_as}");
    let details = json!({ "intent": intent, "examples": examples, "unanswered": unanswered });
    Finding::new(Kind::UnansweredIntent, place, message, details)
}

fn unused_article(article: &Article) -> Finding {
    let Article { id, place, found, .. } = article;
    let message = match found {
        0 => format!("{id:?} is found for no example and no golden question"),
        _ => format!("{id:?} is found for {found} examples and golden questions and answers none of them"),
    };
    Finding::new(Kind::UnusedArticle, place, message, json!({ "document": id, "found": found }))
}

fn planted_instruction(planted: &Planted) -> Finding {
    let Planted { document, place, part } = planted;
    let message = match part {
        Some(part) => format!("{document:?} holds {:?}", show::excerpt(part, EXCERPT)),
        None => format!("{document:?} holds characters that nobody sees"),
    };
    Finding::new(Kind::PlantedInstruction, place, message, json!(planted))
}

fn print(found: &[Finding]) {
    for kind in KINDS {
        let of_kind: Vec<_> = found.iter().filter(|finding| finding.kind == kind).collect();
        if of_kind.is_empty() {
            continue;
        }
        show::line(&format!("\n{}: {}\n  {}", kind.heading(), of_kind.len(), kind.advice()));
        for finding in of_kind.iter().take(SHOWN) {
            show::line(&format!("  {} {}", finding.place, finding.message));
        }
        if of_kind.len() > SHOWN {
            show::line(&format!("  and {} more, see --json", of_kind.len() - SHOWN));
        }
    }
}
