//! What the owner of a bundle should know of its examples, by models that were trained without them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use bundle::{Intent, Place, Reader};
use encoder::{Encoder, Vectors};
use rayon::prelude::*;
use serde::Serialize;

use crate::build;
use crate::classify::{Model, View};
use crate::folds::{Held, Set};
use crate::train::Error;

/// Examples an intent should have. Unseen messages whose intent words alone find, BANKING77 / CLINC150: with 5
/// examples an intent 0.65 / 0.77, 10 0.73 / 0.84, 20 0.81 / 0.88, 50 0.88 / 0.92.
pub const ENOUGH_EXAMPLES: usize = 10;
/// Fewest examples of two intents taken for one another, and their least share, that make an overlap: one is
/// chance, and a few of hundreds are the usual error.
const MIN_CONFUSED: usize = 2;
const MIN_CONFUSED_SHARE: f64 = 0.05;
/// An example looks mislabelled when a model that has not seen it gives its own intent at most this many times
/// what chance would, and another at least that probability. Of 3 % labels changed at random in sets of 1,500 to
/// 10,000 examples words alone find 70 to 81 %, words and encoder 86 to 91 %; 76 to 89 % and 88 to 98 % of what
/// they find was changed. With 0.05 and 0.8 for the probabilities words alone find no more, and 40 to 74 % was.
const OWN_AT_MOST: f64 = 0.1;
const OTHER_AT_LEAST: f64 = 0.5;

/// An example that a model trained without it takes for another intent.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Misread {
    /// The example, or the title of its intent.
    pub text: String,
    /// Where it stands; a title with its intent.
    #[serde(skip)]
    pub place: Place,
    /// The intent it is an example of.
    pub intent: String,
    /// The intent it is taken for.
    pub taken_for: String,
    /// Probability of its own intent, 0..=1.
    pub own: f64,
    /// Probability of the other, 0..=1.
    pub other: f64,
}

/// Two intents whose examples are taken for one another.
#[derive(Debug, Clone, PartialEq)]
pub struct Overlap {
    /// The intents; the first is the one that loses more examples to the other.
    pub intents: [String; 2],
    /// Where the first stands.
    pub place: Place,
    /// Examples of both.
    pub examples: usize,
    /// Those of them that are taken for the other intent, the surest first.
    pub misread: Vec<Misread>,
}

/// An intent with fewer examples than [`ENOUGH_EXAMPLES`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Thin {
    /// Its name.
    pub intent: String,
    /// Where it stands.
    pub place: Place,
    /// Examples it has.
    pub examples: usize,
}

/// An example that says the same words as one before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repeated {
    /// The later one.
    pub text: String,
    /// Where it stands.
    pub place: Place,
    /// Its intent.
    pub intent: String,
    /// Where the earlier one stands, and its intent.
    pub first: (Place, String),
}

/// What there is to say of the examples of a bundle.
#[derive(Debug, Clone, PartialEq)]
pub struct Review {
    /// Share of the examples whose intent a model trained without them finds, 0..=1.
    pub accuracy: Option<f64>,
    /// Most examples confused first.
    pub overlaps: Vec<Overlap>,
    /// The surest first.
    pub mislabelled: Vec<Misread>,
    /// Fewest examples first.
    pub thin: Vec<Thin>,
    /// In the order of the bundle.
    pub repeated: Vec<Repeated>,
}

/// Reviews the examples of a bundle with its built model, by cross-validation; with an encoder in the dense
/// tier. `progress` is told how many of how many steps are done.
///
/// # Errors
/// Intents that do not validate, no model of them or one of another encoder, an encoder that fails.
pub fn review(
    reader: &Reader,
    encoder: Option<&Encoder>,
    progress: &(dyn Fn(u64, u64) + Sync),
) -> Result<Review, Error> {
    let intents = reader.intents()?;
    let model = build::open(reader, encoder)?;
    let said: Vec<Said<'_>> = intents.iter().flat_map(said).collect();
    let seen = out_of_fold(reader, &model, encoder, progress)?;
    let right = seen.iter().filter(|seen| seen.best == seen.label).count();
    let misread: Vec<Misread> = seen.iter().filter_map(|seen| misread(seen, &said, &model)).collect();
    let own_at_most = OWN_AT_MOST / intents.len() as f64;
    let mut mislabelled: Vec<_> = misread
        .iter()
        .filter(|misread| misread.own <= own_at_most && misread.other >= OTHER_AT_LEAST)
        .cloned()
        .collect();
    mislabelled.sort_by(|left, right| left.own.total_cmp(&right.own));
    Ok(Review {
        accuracy: (!seen.is_empty()).then(|| right as f64 / seen.len() as f64),
        overlaps: overlaps(misread, &intents),
        mislabelled,
        thin: thin(&intents),
        repeated: repeated(&said),
    })
}

/// An example of an intent, or its title, in the order of [`build::locate`].
struct Said<'a> {
    text: &'a str,
    place: &'a Place,
    intent: &'a str,
    is_title: bool,
}

fn said(intent: &Intent) -> impl Iterator<Item = Said<'_>> {
    let examples = intent.examples.iter().zip(&intent.example_places).map(|pair| (pair, false));
    examples.chain([((&intent.title, &intent.place), true)]).map(|((text, place), is_title)| Said {
        text,
        place,
        intent: &intent.name,
        is_title,
    })
}

/// An example as a model trained without it sees it.
struct Seen {
    index: usize,
    label: usize,
    best: usize,
    own: f64,
    other: f64,
}

fn out_of_fold(
    reader: &Reader,
    model: &Model,
    encoder: Option<&Encoder>,
    progress: &(dyn Fn(u64, u64) + Sync),
) -> Result<Vec<Seen>, Error> {
    let (_, examples) = build::locate(reader)?;
    let mut set = Set::of(&examples)?;
    if let Some(encoder) = encoder {
        set.encode(&examples, &mut Vectors::open(&reader.build_dir(), "intents", encoder), progress)?;
    }
    let folds = set.folds(false);
    let done = AtomicU64::new(0);
    let see = |fold| {
        let held = set.see(fold);
        progress(done.fetch_add(1, Ordering::Relaxed) + 1, folds.len() as u64);
        held
    };
    let mut seen: Vec<Seen> =
        folds.par_iter().map(see).flatten_iter().filter_map(|held| judge(&held, model)).collect();
    seen.sort_by_key(|seen| seen.index);
    Ok(seen)
}

/// With the weights of the whole model: they were fitted on such folds.
fn judge(held: &Held, model: &Model) -> Option<Seen> {
    let label = held.label?;
    let (fitted, glance) = match (&model.meaning, &held.glance) {
        (Some(meaning), Some(glance)) => (&meaning.fitted, Some(glance)),
        _ => (&model.words, None),
    };
    let View { probabilities, best, .. } = View::new(&held.sight, glance, &fitted.weights);
    // A fold that lacks an intent numbers the others anew.
    let same = probabilities.len() == model.intents.len();
    let (own, other) = (*probabilities.get(label)?, probabilities[best]);
    same.then_some(Seen { index: held.index, label, best, own, other })
}

fn misread(seen: &Seen, said: &[Said<'_>], model: &Model) -> Option<Misread> {
    let Said { text, place, intent, .. } = said.get(seen.index).filter(|_| seen.best != seen.label)?;
    Some(Misread {
        text: (*text).to_owned(),
        place: (*place).clone(),
        intent: (*intent).to_owned(),
        taken_for: model.intents[seen.best].clone(),
        own: seen.own,
        other: seen.other,
    })
}

fn overlaps(misread: Vec<Misread>, intents: &[Intent]) -> Vec<Overlap> {
    let mut pairs: BTreeMap<[String; 2], Vec<Misread>> = BTreeMap::new();
    for one in misread {
        let mut pair = [one.intent.clone(), one.taken_for.clone()];
        pair.sort_unstable();
        pairs.entry(pair).or_default().push(one);
    }
    let find = |name: &String| intents.iter().find(|intent| intent.name == *name);
    let overlap = |(mut pair, mut misread): ([String; 2], Vec<Misread>)| {
        let lost = misread.iter().filter(|one| one.intent == pair[0]).count();
        if lost * 2 < misread.len() {
            pair.swap(0, 1);
        }
        misread.sort_by(|left, right| right.other.total_cmp(&left.other));
        let [one, other] = [find(&pair[0])?, find(&pair[1])?];
        let (place, examples) = (one.place.clone(), one.examples.len() + other.examples.len());
        let share = misread.len() as f64 / examples as f64;
        let is_overlap = misread.len() >= MIN_CONFUSED && share >= MIN_CONFUSED_SHARE;
        is_overlap.then_some(Overlap { intents: pair, place, examples, misread })
    };
    let mut overlaps: Vec<_> = pairs.into_iter().filter_map(overlap).collect();
    overlaps.sort_by_key(|overlap| std::cmp::Reverse(overlap.misread.len()));
    overlaps
}

fn thin(intents: &[Intent]) -> Vec<Thin> {
    let few = intents.iter().filter(|intent| intent.examples.len() < ENOUGH_EXAMPLES);
    let mut thin: Vec<_> = few
        .map(|intent| Thin {
            intent: intent.name.clone(),
            place: intent.place.clone(),
            examples: intent.examples.len(),
        })
        .collect();
    thin.sort_by_key(|thin| thin.examples);
    thin
}

/// The same words, whatever stands between them: the bundle itself refuses equal texts under two intents only.
fn repeated(said: &[Said<'_>]) -> Vec<Repeated> {
    let mut first: BTreeMap<String, &Said<'_>> = BTreeMap::new();
    let mut repeated = Vec::new();
    for one in said {
        let words = text::plain(one.text);
        let before = *first.entry(words.clone()).or_insert(one);
        // A title may well be one of its intent's examples.
        let is_own_title = before.intent == one.intent && (before.is_title || one.is_title);
        if std::ptr::eq(before, one) || words.is_empty() || is_own_title {
            continue;
        }
        repeated.push(Repeated {
            text: one.text.to_owned(),
            place: one.place.clone(),
            intent: one.intent.to_owned(),
            first: (before.place.clone(), before.intent.to_owned()),
        });
    }
    repeated
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASSISTANT: &str = "schema = 1\nname = \"shop\"\ntitle = \"Shop\"\nlocales = [\"en\"]\n\
        [handoff]\nmessage = \"One moment.\"\n[categories.orders]\ntitle = \"Orders\"\n";

    /// Intents with twelve ways to ask each.
    const INTENTS: [(&str, &str, [&str; 3]); 5] = [
        ("refund", "Money back", ["a refund", "my money back", "the refund of my money"]),
        ("parcel", "Parcel", ["my parcel", "the parcel from the courier", "parcel tracking"]),
        ("password", "Password", ["a new password", "the password reset", "my forgotten password"]),
        ("invoice", "Invoice", ["an invoice with tax", "the tax invoice", "a printed invoice"]),
        ("size", "Shoe size", ["a larger shoe size", "shoes one size up", "the shoe size chart"]),
    ];
    const FRAMES: [&str; 4] = ["I want {}", "please tell me about {}", "where is {}", "hello, {} today"];

    fn review_of(extra: &str) -> (Vec<String>, Review) {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("intents")).unwrap();
        std::fs::write(folder.path().join("assistant.toml"), ASSISTANT).unwrap();
        let mut toml = String::new();
        for (name, title, things) in INTENTS {
            toml += &format!(
                "[[intent]]\nname = {name:?}\ntitle = {title:?}\ncategory = \"orders\"\nexamples = [\n"
            );
            for thing in things {
                FRAMES.iter().for_each(|frame| toml += &format!("  {:?},\n", frame.replace("{}", thing)));
            }
            toml += "]\n";
        }
        std::fs::write(folder.path().join("intents/all.toml"), toml).unwrap();
        std::fs::write(folder.path().join("intents/extra.jsonl"), extra).unwrap();
        let reader = Reader::open(folder.path()).unwrap();
        crate::build(&reader, None, &|_, _| {}).unwrap();
        let review = review(&reader, None, &|_, _| {}).unwrap();
        let places = review.mislabelled.iter().map(|misread| misread.place.to_string());
        (places.collect(), review)
    }

    #[test]
    fn a_mislabelled_example_is_found_where_it_stands_and_good_ones_are_left_alone() {
        let (places, review) = review_of("");
        assert_eq!(
            (places.len(), review.overlaps, review.thin, review.repeated),
            (0, vec![], vec![], vec![])
        );
        assert!(review.accuracy.unwrap() > 0.9);

        let (places, review) = review_of(
            "\n{\"text\": \"please tell me about the tracking of my parcel\", \"intent\": \"size\"}\n\
             {\"text\": \"Where is... a REFUND?\", \"intent\": \"refund\"}\n",
        );
        assert_eq!(places, ["intents/extra.jsonl:2"], "{review:?}");
        assert_eq!(review.mislabelled[0].taken_for, "parcel");
        let repeated = &review.repeated[0];
        assert_eq!(
            (repeated.place.to_string().as_str(), repeated.first.0.line),
            ("intents/extra.jsonl:3", 8)
        );
    }
}
