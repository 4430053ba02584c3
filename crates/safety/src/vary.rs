//! Variations of the examples: harm inside an ordinary message, ordinary messages one after the other, and
//! instructions inside a document.

use learn::Random;

use crate::examples::{Example, FOLDS, Marks};
use crate::policy::Category;

/// Variations for each fold: half of them hold harm.
const VARIATIONS: usize = 600;
/// Variations of documents for each fold: a quarter of them hold an instruction.
const DOCUMENTS: usize = 400;
/// Most documents that become one.
const PAGE: usize = 5;
/// Longest example, in bytes, that becomes part of another.
const SHORT: usize = 400;
/// What stands between two parts.
const JOINTS: [&str; 5] = [" ", ". ", "\n", "\n\n", ", "];

/// Texts made of the examples of one fold each, so that nothing held out is seen in training. The same
/// examples give the same variations.
pub(crate) fn vary(examples: &[Example]) -> Vec<Example> {
    let mut random = Random(0xface);
    let mut made: Vec<Example> = (0..FOLDS).flat_map(|fold| messages(examples, fold, &mut random)).collect();
    made.extend((0..FOLDS).flat_map(|fold| documents(examples, fold, &mut random)));
    made
}

fn messages(examples: &[Example], fold: usize, random: &mut Random) -> Vec<Example> {
    let own = examples.iter().filter(|example| example.fold == fold && example.message);
    let short = own.filter(|example| example.text.len() <= SHORT);
    let (harmful, harmless): (Vec<_>, Vec<_>) = short.partition(|example| example.marks.contains(&true));
    if harmful.is_empty() || harmless.is_empty() {
        return Vec::new();
    }
    let mut made = Vec::with_capacity(VARIATIONS);
    for index in 0..VARIATIONS {
        let joint = JOINTS[random.below(JOINTS.len())];
        let [before, after, other] = [(); 3].map(|()| harmless[random.below(harmless.len())].text.as_str());
        let core = if index % 2 == 0 { Some(harmful[random.below(harmful.len())]) } else { None };
        let (middle, marks) = core.map_or((other, Marks::default()), |core| (core.text.as_str(), core.marks));
        let parts: &[&str] = match random.below(3) {
            0 => &[before, middle],
            1 => &[middle, after],
            _ => &[before, middle, after],
        };
        made.push(Example { text: parts.join(joint), marks, message: true, document: false, fold });
    }
    made
}

/// Harmless documents, several in a row or a part of them, with an instruction or a harmless message after one
/// of their sentences.
fn documents(examples: &[Example], fold: usize, random: &mut Random) -> Vec<Example> {
    let (mut hosts, mut attacks, mut messages) = (Vec::new(), Vec::new(), Vec::new());
    for example in examples.iter().filter(|example| example.fold == fold) {
        let (harmless, short) = (!example.marks.contains(&true), example.text.len() <= SHORT);
        if harmless && !example.message {
            hosts.push(example);
        } else if harmless && short {
            messages.push(example);
        } else if short && example.message && example.marks[Category::PromptInjection as usize] {
            attacks.push(example);
        }
    }
    if hosts.is_empty() || attacks.is_empty() || messages.is_empty() {
        return Vec::new();
    }
    let mut made = Vec::with_capacity(DOCUMENTS);
    for index in 0..DOCUMENTS {
        let page = (0..=random.below(PAGE)).map(|_| hosts[random.below(hosts.len())].text.as_str());
        let page = page.collect::<Vec<_>>().join(JOINTS[2 + random.below(2)]);
        let (before, after) = cut(&page, random);
        let attack = attacks[random.below(attacks.len())];
        let (middle, marks) = match index % 4 {
            0 => (attack.text.as_str(), attack.marks),
            1 => (messages[random.below(messages.len())].text.as_str(), Marks::default()),
            _ => ("", Marks::default()),
        };
        let joint = JOINTS[random.below(4)];
        let text = if middle.is_empty() { after.to_owned() } else { [before, middle, after].join(joint) };
        if !text.trim().is_empty() {
            let text = text.trim().to_owned();
            made.push(Example { text, marks, message: false, document: true, fold });
        }
    }
    made
}

/// A text in two at the end of one of its sentences, or at its beginning or end.
fn cut<'t>(text: &'t str, random: &mut Random) -> (&'t str, &'t str) {
    let ends = text.match_indices([' ', '\n']).map(|(at, _)| at);
    let ends = ends.filter(|at| text[..*at].ends_with(['.', '!', '?', ':']));
    let ends: Vec<usize> = [0, text.len()].into_iter().chain(ends).collect();
    text.split_at(ends[random.below(ends.len())])
}
