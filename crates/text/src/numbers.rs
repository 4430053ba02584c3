//! Numbers in English words.

const UNITS: [&str; 20] = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
];
const TENS: [&str; 8] = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"];

/// The value of a word from "zero" to "nineteen", in lower case.
pub fn below_twenty(word: &str) -> Option<u32> {
    at(&UNITS, word)
}

/// The value of "twenty", "thirty" and so on up to "ninety", in lower case.
pub fn tens(word: &str) -> Option<u32> {
    at(&TENS, word).map(|tens| 20 + 10 * tens)
}

fn at(names: &[&str], word: &str) -> Option<u32> {
    names.iter().position(|name| *name == word).and_then(|at| u32::try_from(at).ok())
}
