//! Content words of a text, reduced to light stems: what question, passage and answer are compared by.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

/// The stem that stands for every negation.
pub(crate) const NOT: &str = "not";

/// Words that say nothing about a subject: English function words and the filler of questions.
const STOP_WORDS: &str = "a about after again all also am an and any anybody anyone anything are as ask at away be \
because been before being both but by can could d did do doe does doing done each else ever every exactly few for \
from further get gets getting give go going gone got had happen happens has have having he hello help helped her here \
hers hey hi him his hoping how i if in instead into is it its itself just kind kindly know let lets like ll look \
looking lot m made make makes many may maybe me might more most much must my myself need needed needs now of off \
often ok okay on once only or other our ours out over own per perhaps please possible quite rather re really right s \
same say see seem seems she should show so some someone something soon still stuff such sure t take tell than thank \
thanks that the their theirs them then there these they thing things think this those though through to too try \
trying until up us use used uses using ve very via want wanted wants was way we well were what whatever when where \
whether which while who whom whose why will wish with within wondering would yes yet you your yours yourself";

/// Irregular forms and number words, each with the form it is compared by.
const SAME: &str = "lost=lose stolen=steal stole=steal paid=pay sent=send spent=spend bought=buy sold=sell frozen=freeze \
froze=freeze unfroze=unfreeze withdrew=withdraw withdrawn=withdraw forgot=forget forgotten=forget broke=break \
broken=break chose=choose chosen=choose found=find went=go took=take taken=take gave=give given=give kept=keep \
held=hold left=leave told=tell came=come written=write wrote=write people=person children=child \
zero=0 one=1 two=2 three=3 four=4 five=5 six=6 seven=7 eight=8 nine=9 ten=10 eleven=11 twelve=12 \
£=pound $=dollar €=euro %=percent gbp=pound usd=dollar eur=euro cannot=not no=not never=not without=not neither=not \
nor=not none=not nobody=not nothing=not unable=not";

/// Knows which words to leave out and which to treat as the same.
#[derive(Debug)]
pub(crate) struct Terms {
    stop: HashSet<&'static str>,
    same: HashMap<&'static str, &'static str>,
}

impl Terms {
    pub(crate) fn new() -> Self {
        Self {
            stop: STOP_WORDS.split_whitespace().collect(),
            same: SAME.split_whitespace().filter_map(|pair| pair.split_once('=')).collect(),
        }
    }

    /// The stems of the content words, in their order, with repetitions. Negations are [`NOT`].
    pub(crate) fn of(&self, text: &str) -> Vec<String> {
        let mut found = Vec::new();
        let text = text.to_lowercase().replace(['’', '‘'], "'");
        for word in words(&text) {
            if word.ends_with("n't") {
                found.push(NOT.to_owned());
                continue;
            }
            let word = word.strip_suffix("'s").unwrap_or(word).trim_matches('\'');
            let word = word.split('\'').next().unwrap_or_default();
            if word.is_empty() || self.is_stop(word) {
                continue;
            }
            found.push(self.stem_of(word));
        }
        found
    }

    /// Whether a word, in lower case, says nothing about a subject.
    pub(crate) fn is_stop(&self, word: &str) -> bool {
        self.stop.contains(word)
    }

    /// The stem of a word in lower case.
    pub(crate) fn stem_of(&self, word: &str) -> String {
        stem(self.same.get(word).unwrap_or(&word))
    }
}

/// Whether a stem is a number: numbers must match exactly.
pub(crate) fn is_number(stem: &str) -> bool {
    stem.starts_with(|c: char| c.is_ascii_digit())
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    spans(text).map(|range| &text[range])
}

/// The bytes of the words: letters, digits, inner apostrophes, and the stops and commas inside numbers; a
/// currency or percent sign is a word of its own.
pub(crate) fn spans(text: &str) -> impl Iterator<Item = Range<usize>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let rest = text[at..].trim_start_matches(|c: char| !is_word(c) && !is_sign(c));
        let first = rest.chars().next()?;
        let length = if is_sign(first) { first.len_utf8() } else { word_length(rest) };
        let start = text.len() - rest.len();
        at = start + length;
        Some(start..at)
    })
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric()
}

fn is_sign(c: char) -> bool {
    matches!(c, '£' | '$' | '€' | '%')
}

fn word_length(text: &str) -> usize {
    let mut characters = text.char_indices().peekable();
    let mut before = ' ';
    while let Some((at, c)) = characters.next() {
        let next = characters.peek().map_or(' ', |(_, next)| *next);
        let joins = match c {
            '\'' => next.is_alphabetic(),
            '.' | ',' | ':' => before.is_ascii_digit() && next.is_ascii_digit(),
            _ => is_word(c),
        };
        if !joins {
            return at;
        }
        before = c;
    }
    text.len()
}

/// Strips plural, tense and the commonest endings, so that "replaced", "replacing" and "replacement"
/// meet. Light on purpose: a wrong match in support is worse than a missed one.
fn stem(word: &str) -> String {
    if word.starts_with(|c: char| c.is_ascii_digit()) {
        let plain = word.replace(',', "");
        return match plain.split_once('.') {
            Some((whole, cents)) if cents.bytes().all(|b| b == b'0') => whole.to_owned(),
            _ => plain,
        };
    }
    if !word.is_ascii() || word.len() <= 3 {
        return word.to_owned();
    }
    let mut stem = word.to_owned();
    if let Some(head) =
        stem.strip_suffix("ies").or_else(|| stem.strip_suffix("ied")).filter(|head| head.len() > 1)
    {
        stem = format!("{head}y");
    } else if ["sses", "xes", "ches", "shes", "zes"].iter().any(|end| stem.ends_with(end)) {
        stem.truncate(stem.len() - 2);
    } else if stem.ends_with('s') && !["ss", "us", "is"].iter().any(|end| stem.ends_with(end)) {
        stem.pop();
    }
    for (end, least) in [("ing", 3), ("ed", 3), ("ment", 3), ("ly", 4)] {
        let Some(head) = stem.strip_suffix(end) else { continue };
        if head.len() >= least && head.contains(['a', 'e', 'i', 'o', 'u', 'y']) {
            stem = head.to_owned();
            if end.len() < 4 && stem.len() > 3 && is_doubled(&stem) {
                stem.pop();
            }
            break;
        }
    }
    if stem.len() > 6 && (stem.ends_with("tion") || stem.ends_with("sion")) {
        stem.truncate(stem.len() - 3);
    }
    if stem.len() > 3 && stem.ends_with('e') {
        stem.pop();
    }
    stem
}

/// Whether a consonant was doubled before "ing" or "ed", as in "stopped" but not in "called".
fn is_doubled(stem: &str) -> bool {
    let mut last = stem.bytes().rev();
    let one = last.next();
    one == last.next() && !matches!(one, Some(b'l' | b's' | b'z' | b'e'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_of_a_word_meet_and_fillers_go() {
        let terms = Terms::new();
        for group in [
            "replace replaced replaces replacing replacement",
            "activate activating activated activation",
            "transfer transfers transferred transferring",
            "verify verifies verified verifying",
            "fee fees",
            "stop stopped stopping",
            "lose lost losing",
            "2 two 2.00",
            "1,000 1000",
            "£ pound pounds",
        ] {
            let stems: HashSet<_> = group.split(' ').flat_map(|word| terms.of(word)).collect();
            assert_eq!(stems.len(), 1, "{group}: {stems:?}");
        }
        assert_eq!(terms.of("How do I get it, please? I can't."), [NOT]);
        assert_eq!(
            terms.of("It costs £2.50 (or 3%) a card's day"),
            ["cost", "pound", "2.50", "3", "percent", "card", "day"]
        );
        assert_ne!(terms.of("card"), terms.of("care"));
    }
}
