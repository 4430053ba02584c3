//! The words of a message, and the yes, the no and the change of mind among them.

use std::ops::Range;

use jiff::civil::Date;
use unicode_normalization::UnicodeNormalization as _;

// Phrases in English, in the form of `Word::text`: lower case, without apostrophes.
const YES: &str = "yes, yeah, yep, yup, aye, confirm, confirmed, i confirm, go ahead, do it, proceed, \
    absolutely, definitely, certainly, of course, please do, yes please";
/// A yes only when nothing else is said: "ok, how long does it take" is none.
const WEAK_YES: &str = "y, ok, okay, k, sure, fine, right, correct, alright, all right, great, good, perfect, \
    agreed, thats right, that is right, thats correct, that is correct, sounds good, no problem, no worries";
const NO: &str = "no, nope, nah, n, not now, not yet, dont, do not, never, negative, rather not, id rather not, \
    i dont want, i do not want, please dont, please do not";
/// Begins like a no and is none.
const UNSURE: &str = "no idea, no problem, no worries, dont know, do not know, dont understand, i dont know, \
    i dont understand, do not understand, dont mind";
const CANCEL: &str = "cancel, cancel that, stop, stop it, abort, quit, exit, never mind, nevermind, forget it, \
    forget about it, leave it, changed my mind, i changed my mind, ive changed my mind, \
    i have changed my mind, drop it, scrap that";
/// Takes an answer, and answers nothing.
const THANKS: &str = "thanks, thank you, thanks a lot, thanks very much, thank you very much, many thanks, \
    cheers, ta, got it, i see, good to know";
const SKIP: &str = "no, nope, nah, n, not now, skip, none, nothing, no thanks, no thank you, rather not, \
    id rather not, not really, dont want to";
const FILLER: &str = "please, pls, just, oh, um, uh, hmm, well, so, then, it, this, that, thanks, thank, you, \
    i, id, like, want, to, would, lets, let, us, can, could, we, now, the, a, and, actually, sorry, whole, \
    thing, everything, request, all, of, for, me, am, im, will, be, is, do, go, ahead";
/// What stands around a value that is all the customer says: "it was on 12 March 2026".
const AROUND: &str = "on, from, was, its, my, at, by";
/// How a question begins that may lack its mark.
const QUESTIONS: &str = "what, whats, when, whens, where, wheres, why, whys, how, hows, who, whos, whom, whose, \
    which, can i, can you, can we, could i, could you, could we, do i, do you, do we, does, did i, did you, \
    is there, is it, is that, is this, is my, are there, are you, are my, am i, will i, will you, will it, \
    will my, would you, would it, should i, may i, have i, have you, has my, tell me";
/// What may stand before a question.
const LEADS: &str = "oh, um, uh, hmm, well, so, then, and, but, also, actually, sorry, please, just, ok, okay, \
    wait, hi, hello, hey, thanks, thank you, by the way, btw, quick question, first, before that";
/// After a yes these make it something else than a yes.
const HEDGES: &str = "no, not, never, dont, doesnt, wont, but, except, wait, hold, however, instead, unless, if, \
    actually, before, first, only, what, how, why, when, where, who, which, maybe, perhaps, later, wrong, \
    change, cancel, stop";
const NEGATIONS: &str = "not, isnt, wasnt, arent, werent, never, dont, didnt, nor";
const CORRECTIONS: &str =
    "no, actually, sorry, wait, meant, mean, instead, correction, rather, change, wrong, not";
/// Words of a plain yes with reasons; a longer message says more than yes.
const YES_WORDS: usize = 10;

/// One word of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Word {
    /// Normalised, without apostrophes.
    pub(crate) text: String,
    /// Bytes in the cleaned text.
    pub(crate) span: Range<usize>,
}

/// A message of the customer, prepared for reading.
#[derive(Debug, Clone)]
pub(crate) struct Message {
    /// NFKC, invisible characters removed, typographic dashes and quotes plain, case kept.
    pub(crate) text: String,
    pub(crate) words: Vec<Word>,
    /// What "today" means to the customer.
    pub(crate) today: Date,
}

/// What a message says to a yes-or-no question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reply {
    /// Says yes in so many words.
    Yes,
    /// Says "ok" and nothing else.
    WeakYes,
    No,
    Unclear,
}

impl Message {
    /// Prepares the customer's words; `today` is the date where the company is.
    #[must_use]
    pub(crate) fn new(text: &str, today: Date) -> Self {
        let text = clean(text);
        Self { words: words(&text), text, today }
    }

    /// The bytes between the end of one word and the start of another.
    pub(crate) fn between(&self, end: usize, start: usize) -> &str {
        self.text.get(end..start).unwrap_or_default()
    }

    /// Whether it is a question, with its mark or without.
    pub(crate) fn asks(&self) -> bool {
        let words = self.plain();
        let mut rest = words.as_slice();
        while let Some(lead) = begins(rest, LEADS) {
            rest = &rest[lead..];
        }
        self.has_mark() || begins(rest, QUESTIONS).is_some()
    }

    fn has_mark(&self) -> bool {
        self.text.contains('?')
    }

    /// Words of `title` take nothing back: "yes, cancel it" means yes to "Cancel an order".
    pub(crate) fn reply(&self, title: &[Word]) -> Reply {
        let words = self.plain();
        if !self.has_mark() && made_of(&words, &[YES, WEAK_YES]) {
            let strong = (0..words.len()).any(|at| begins(&words[at..], YES).is_some());
            return if strong { Reply::Yes } else { Reply::WeakYes };
        }
        let start = (0..words.len())
            .find(|at| begins(&words[*at..], FILLER).is_none() && begins(&words[*at..], WEAK_YES).is_none());
        let rest = words.get(start.unwrap_or(0)..).unwrap_or_default();
        let plain = words.len() <= YES_WORDS && !self.has_mark();
        if let Some(yes) = begins(rest, YES)
            && plain
            && !rest[yes..].iter().any(|word| lists(HEDGES, word) && !named(title, word))
        {
            return Reply::Yes;
        }
        if begins(&words, UNSURE).is_none() && begins(rest, UNSURE).is_none() && begins(rest, NO).is_some() {
            return Reply::No;
        }
        Reply::Unclear
    }

    /// Whether the customer gives up: nothing but words of cancelling. Words of `title` do not count,
    /// because "cancel it" means yes to "Cancel an order".
    pub(crate) fn cancels(&self, title: &[Word]) -> bool {
        let words = self.plain();
        let titled = words.iter().any(|word| lists(CANCEL, word) && named(title, word));
        // "no, cancel that" is a cancel, too.
        let words = words.strip_prefix(&["no"]).unwrap_or(&words);
        !titled && made_of(words, &[CANCEL])
    }

    /// Whether the customer leaves an optional question out.
    pub(crate) fn skips(&self) -> bool {
        made_of(&self.plain(), &[SKIP])
    }

    /// Whether it is a yes, a no or a thank you, and nothing else.
    pub(crate) fn is_bare(&self) -> bool {
        made_of(&self.plain(), &[YES, WEAK_YES, NO, THANKS])
    }

    /// Whether it says nothing besides what stands at these bytes; a yes, a no and filler say nothing.
    pub(crate) fn says_only(&self, spans: &[Range<usize>]) -> bool {
        let inside = |word: &&Word| {
            spans.iter().any(|span| span.start <= word.span.start && word.span.end <= span.end)
        };
        let rest = self.words.iter().filter(|word| !inside(word)).map(|word| word.text.as_str());
        let rest: Vec<&str> = rest.collect();
        rest.is_empty() || made_of(&rest, &[YES, WEAK_YES, NO, CANCEL, SKIP, FILLER, AROUND])
    }

    /// Whether the customer takes something back.
    pub(crate) fn corrects(&self) -> bool {
        self.words.iter().any(|word| lists(CORRECTIONS, &word.text))
    }

    /// Where a phrase of words occurs and is not negated.
    pub(crate) fn find(&self, phrase: &[Word]) -> impl Iterator<Item = Range<usize>> {
        let same = |(word, wanted): (&Word, &Word)| word.text == wanted.text;
        (0..self.words.len()).filter_map(move |at| {
            let found = self.words.get(at..at + phrase.len()).filter(|found| !found.is_empty())?;
            let negated = at.checked_sub(1).and_then(|before| self.words.get(before));
            let negated = negated.is_some_and(|word| lists(NEGATIONS, &word.text));
            (!negated && found.iter().zip(phrase).all(same))
                .then(|| found[0].span.start..found[found.len() - 1].span.end)
        })
    }

    fn plain(&self) -> Vec<&str> {
        self.words.iter().map(|word| word.text.as_str()).collect()
    }
}

/// Cuts a cleaned text at everything that is neither letter, digit nor apostrophe.
pub(crate) fn words(text: &str) -> Vec<Word> {
    let inside = |c: char| c.is_alphanumeric() || c == '\'';
    let mut words = Vec::new();
    let mut at = 0;
    while let Some(found) = text[at..].find(inside) {
        let start = at + found;
        let end = text[start..].find(|c| !inside(c)).map_or(text.len(), |length| start + length);
        let normal = text::normalise(&text[start..end]).replace('\'', "");
        if !normal.is_empty() {
            words.push(Word { text: normal, span: start..end });
        }
        at = end;
    }
    words
}

/// What a keyboard or a paste adds is taken away, so that patterns see plain characters.
pub(crate) fn clean(text: &str) -> String {
    text.nfkc()
        .filter(|c| !text::is_invisible(*c))
        .map(|c| match c {
            '\u{2010}'..='\u{2015}' | '\u{2212}' => '-',
            '\u{2018}' | '\u{2019}' | '\u{02BC}' | '`' | '´' => '\'',
            c if c.is_control() || c.is_whitespace() => ' ',
            c => c,
        })
        .collect()
}

fn named(title: &[Word], word: &str) -> bool {
    title.iter().any(|titled| titled.text == word)
}

fn lists(phrases: &str, word: &str) -> bool {
    phrases.split(", ").any(|phrase| phrase == word)
}

/// The number of words of the longest phrase that `words` begins with.
fn begins(words: &[&str], phrases: &str) -> Option<usize> {
    let length = |phrase: &str| {
        let n = phrase.split(' ').count();
        (words.len() >= n && phrase.split(' ').eq(words[..n].iter().copied())).then_some(n)
    };
    phrases.split(", ").filter_map(length).max()
}

/// Whether the words are phrases of these lists and filler, and nothing else.
fn made_of(words: &[&str], lists: &[&str]) -> bool {
    let (mut at, mut found) = (0, false);
    while at < words.len() {
        let phrase = lists.iter().filter_map(|list| begins(&words[at..], list)).max();
        found |= phrase.is_some();
        match phrase.or_else(|| begins(&words[at..], FILLER)) {
            Some(length) => at += length,
            None => return false,
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(text: &str) -> Message {
        Message::new(text, jiff::civil::date(2026, 11, 22))
    }

    #[test]
    fn yes_and_no_are_read_and_doubt_is_neither() {
        for (text, reply) in [
            ("yes", Reply::Yes),
            ("Yes please!", Reply::Yes),
            ("yes, block it", Reply::Yes),
            ("ok yes do it", Reply::Yes),
            ("please go ahead", Reply::Yes),
            ("that’s correct", Reply::WeakYes),
            ("OK", Reply::WeakYes),
            ("ok thanks", Reply::WeakYes),
            ("no problem", Reply::WeakYes),
            ("no", Reply::No),
            ("No thanks", Reply::No),
            ("please don't", Reply::No),
            ("ok no", Reply::No),
            ("not yet", Reply::No),
            ("thanks", Reply::Unclear),
            ("yes but not today", Reply::Unclear),
            ("yes, how long does it take", Reply::Unclear),
            ("yes?", Reply::Unclear),
            ("ok how long does it take", Reply::Unclear),
            ("I don't know", Reply::Unclear),
            ("no idea", Reply::Unclear),
            ("yesterday", Reply::Unclear),
            ("", Reply::Unclear),
            ("🙂", Reply::Unclear),
        ] {
            assert_eq!(message(text).reply(&[]), reply, "{text}");
        }
    }

    #[test]
    fn only_words_of_cancelling_cancel_and_not_when_the_workflow_is_named_so() {
        let title = words("Cancel an order");
        for text in ["cancel", "Stop!", "never mind", "forget it please", "no, cancel that", "I want to stop"]
        {
            assert!(message(text).cancels(&[]), "{text}");
        }
        for text in ["cancel my direct debit", "they cancelled it", "Never Mind Records Ltd", "please", "no"]
        {
            assert!(!message(text).cancels(&[]), "{text}");
        }
        assert!(!message("cancel it").cancels(&title));
        assert!(message("forget it").cancels(&title));
    }

    #[test]
    fn a_question_is_known_by_its_beginning_or_its_mark() {
        for text in
            ["open?", "What are your hours", "ok thanks, and how much is it", "can I pay", "is there a fee"]
        {
            assert!(message(text).asks(), "{text}");
        }
        for text in ["12 High Street", "can opener shop", "the fees, that is what", "Whatever Ltd", "ok", ""]
        {
            assert!(!message(text).asks(), "{text}");
        }
    }

    #[test]
    fn a_phrase_is_found_as_whole_words_and_not_when_negated() {
        let cannot_find = words("can't find");
        assert_eq!(message("I can’t find it").find(&cannot_find).count(), 1);
        assert_eq!(message("I cant find it").find(&cannot_find).count(), 1);
        assert_eq!(message("it was not stolen").find(&words("stolen")).count(), 0);
        assert_eq!(message("stolenish").find(&words("stolen")).count(), 0);
    }
}
