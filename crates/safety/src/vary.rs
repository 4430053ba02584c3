//! Variations of the examples: harm inside an ordinary message, and ordinary messages one after the other.

use learn::Random;

use crate::examples::{Example, FOLDS, Marks};

/// Variations for each fold: half of them hold harm.
const VARIATIONS: usize = 600;
/// Longest example, in bytes, that becomes part of another.
const SHORT: usize = 400;
/// What stands between two parts.
const JOINTS: [&str; 5] = [" ", ". ", "\n", "\n\n", ", "];

/// Messages made of the examples of one fold each, so that nothing held out is seen in training. The same
/// examples give the same variations.
pub(crate) fn vary(examples: &[Example]) -> Vec<Example> {
    let mut random = Random(0xface);
    (0..FOLDS).flat_map(|fold| of_fold(examples, fold, &mut random)).collect()
}

fn of_fold(examples: &[Example], fold: usize, random: &mut Random) -> Vec<Example> {
    let short = examples.iter().filter(|example| example.fold == fold && example.text.len() <= SHORT);
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
        made.push(Example { text: parts.join(joint), marks, fold });
    }
    made
}
