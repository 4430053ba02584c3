//! The words of a message, and the yes, the no and the change of mind among them.

use std::ops::Range;

use jiff::civil::Date;
use unicode_normalization::UnicodeNormalization as _;

use crate::date::Windows;
use crate::english::*;

/// Words of a plain yes with reasons; a longer message says more than yes.
const YES_WORDS: usize = 10;
/// Words of a remark; a shorter message is more likely an answer that was not understood.
const REMARK_WORDS: usize = 4;

/// What ends a clause.
const BREAKS: [char; 6] = [',', '.', ';', '!', '?', ':'];

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
    /// The days that slots take, where not all.
    pub(crate) windows: Windows,
}

/// What a message says to a yes-or-no question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reply {
    /// Says yes in so many words.
    Yes,
    /// Says "ok" and nothing else.
    WeakYes,
    /// Something is wrong, but perhaps not all of it.
    No,
    /// Nothing is to be done.
    Refusal,
    Unclear,
}

impl Message {
    /// Prepares the customer's words; `today` is the date where the company is.
    #[must_use]
    pub(crate) fn new(text: &str, today: Date) -> Self {
        let text = clean(text);
        Self { words: words(&text), text, today, windows: Windows::default() }
    }

    /// The same words to a workflow that takes not all days.
    pub(crate) fn within(&self, windows: &Windows) -> Self {
        Self { windows: windows.clone(), ..self.clone() }
    }

    /// The bytes between the end of one word and the start of another.
    pub(crate) fn between(&self, end: usize, start: usize) -> &str {
        self.text.get(end..start).unwrap_or_default()
    }

    /// Whether it is a question, with its mark or without.
    pub(crate) fn asks(&self) -> bool {
        self.has_mark() || begins(after_leads(&self.plain()), QUESTIONS).is_some()
    }

    /// The same where words may be a name or a sentence: "who" and "what" begin those, too.
    pub(crate) fn inquires(&self) -> bool {
        self.has_mark() || begins(after_leads(&self.plain()), QUESTIONS).is_some_and(|words| words > 1)
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
        if begins(&words, UNSURE).is_some() || begins(rest, UNSURE).is_some() {
            return Reply::Unclear;
        }
        let after_no = begins(rest, NO).map(|no| &rest[no..]);
        if [Some(rest), after_no].into_iter().flatten().any(|rest| begins(rest, REFUSAL).is_some()) {
            return Reply::Refusal;
        }
        if after_no.is_some() { Reply::No } else { Reply::Unclear }
    }

    /// Whether the customer gives up: nothing but words of cancelling. Words of `title` do not count,
    /// because "cancel it" means yes to "Cancel an order".
    pub(crate) fn cancels(&self, title: &[Word]) -> bool {
        plain_cancel(&self.words, title, &[CANCEL])
    }

    /// The same in more words, and with reasons before it or after: "forget it, it has just arrived". After a yes it is
    /// none: "yes, stop it" may be meant for the card.
    pub(crate) fn cancels_somewhere(&self, title: &[Word]) -> bool {
        let joined =
            |word: &Word, next: &Word| !self.between(word.span.end, next.span.start).contains(BREAKS);
        let mut clauses = self.words.chunk_by(joined);
        let turns = self.has_mark() || self.words.iter().any(|word| lists(TURNS, &word.text));
        let agrees = [YES, WEAK_YES].iter().any(|list| begins(&self.plain(), list).is_some());
        let cancels = |clause: &[Word]| plain_cancel(clause, title, &[CANCEL, GIVEN_UP]);
        cancels(&self.words) || !turns && !agrees && clauses.any(cancels)
    }

    /// Whether the customer leaves an optional question out.
    pub(crate) fn skips(&self) -> bool {
        made_of(&self.plain(), &[SKIP])
    }

    /// Whether it is a yes, a no or a thank you, and nothing else.
    pub(crate) fn is_bare(&self) -> bool {
        made_of(&self.plain(), &[YES, WEAK_YES, NO, REFUSAL, THANKS])
    }

    /// Whether it says nothing besides what stands at these bytes and these names; a yes, a no and filler say nothing.
    pub(crate) fn says_only(&self, spans: &[Range<usize>], names: &[&str]) -> bool {
        let inside =
            |word: &Word| spans.iter().any(|span| span.start <= word.span.start && word.span.end <= span.end);
        let rest = self.words.iter().filter(|word| !inside(word)).map(|word| word.text.as_str());
        let rest: Vec<&str> = rest.filter(|word| !names.contains(word)).collect();
        phrases(&rest, &[YES, WEAK_YES, NO, REFUSAL, CANCEL, GIVEN_UP, SKIP, AROUND]).is_some()
    }

    /// Whether it asks to know something, and not for something to be done.
    pub(crate) fn asks_for_facts(&self) -> bool {
        text::asks_for_facts(&self.text)
    }

    /// Whether it is long enough, or a question, to be about something else than what was asked.
    pub(crate) fn remarks(&self) -> bool {
        self.asks() || self.is_long()
    }

    /// Whether it has the words of a remark.
    pub(crate) fn is_long(&self) -> bool {
        self.words.len() >= REMARK_WORDS
    }

    /// The place of a list that it names, from 0, and nothing else: "the second one", "3".
    pub(crate) fn place(&self, length: usize) -> Option<usize> {
        let words = self.words.iter().map(|word| word.text.as_str());
        let mut words = words.filter(|word| !lists(FILLER, word) && !lists(AROUND_PLACES, word));
        let word = words.next().filter(|_| words.next().is_none())?;
        let place = PLACES.iter().take(length).position(|place| lists(place, word));
        place.or_else(|| length.checked_sub(1).filter(|_| lists(LAST, word)))
    }

    /// Whether it says that something is wrong, in few words.
    pub(crate) fn finds_wrong(&self) -> bool {
        self.words.len() <= YES_WORDS && self.words.iter().any(|word| lists(WRONG, &word.text))
    }

    /// Whether one of its words is the same as `name`, or its plural or genitive.
    pub(crate) fn names(&self, name: &str) -> bool {
        let same = |word: &Word| word.text == name || word.text.strip_suffix('s') == Some(name);
        ![FILLER, WRONG].iter().any(|list| lists(list, name)) && self.words.iter().any(same)
    }

    /// Whether the customer takes something back.
    pub(crate) fn corrects(&self) -> bool {
        self.words.iter().any(|word| lists(CORRECTIONS, &word.text))
    }

    /// Whether the customer takes something back and means by it what follows: "oops, I mean £20".
    pub(crate) fn takes_back(&self) -> bool {
        self.words.len() <= YES_WORDS && self.words.iter().any(|word| lists(TAKEN_BACK, &word.text))
    }

    /// Where a phrase of words occurs and is not negated.
    pub(crate) fn find(&self, phrase: &[Word]) -> impl Iterator<Item = Range<usize>> {
        let same = |(word, wanted): (&Word, &Word)| word.text == wanted.text;
        (0..self.words.len()).filter_map(move |at| {
            let found = self.words.get(at..at + phrase.len()).filter(|found| !found.is_empty())?;
            (found.iter().zip(phrase).all(same) && !self.is_negated(at))
                .then(|| found[0].span.start..found[found.len() - 1].span.end)
        })
    }

    /// Whether a negation stands before a word, with nothing but bridges between them.
    fn is_negated(&self, at: usize) -> bool {
        let mut at = at;
        while let Some(before) = at.checked_sub(1) {
            let (word, next) = (&self.words[before], &self.words[at]);
            if self.between(word.span.end, next.span.start).contains(BREAKS) {
                return false;
            }
            if !lists(BRIDGES, &word.text) {
                return lists(NEGATIONS, &word.text);
            }
            at = before;
        }
        false
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
            c if c.is_whitespace() => ' ',
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

fn plain_cancel(words: &[Word], title: &[Word], phrases: &[&str]) -> bool {
    let words = words.iter().map(|word| word.text.as_str());
    let words: Vec<&str> = words.filter(|word| !lists(BESIDE_CANCEL, word)).collect();
    let titled = words.iter().any(|word| lists(CANCEL, word) && named(title, word));
    // "no, cancel that" is a cancel, too.
    let after_no = words.first().filter(|word| lists(NO, word)).map(|_| &words[1..]);
    !titled && made_of(after_no.unwrap_or(&words), phrases)
}

fn after_leads<'w>(words: &'w [&'w str]) -> &'w [&'w str] {
    let mut rest = words;
    while let Some(lead) = begins(rest, LEADS) {
        rest = &rest[lead..];
    }
    rest
}

/// Whether the words are phrases of these lists, at least one, and filler, and nothing else.
fn made_of(words: &[&str], lists: &[&str]) -> bool {
    phrases(words, lists).is_some_and(|phrases| phrases > 0)
}

/// How many phrases of these lists the words are; `None` when they are something besides them and filler.
fn phrases(words: &[&str], lists: &[&str]) -> Option<usize> {
    let (mut at, mut found) = (0, 0);
    while at < words.len() {
        let phrase = lists.iter().filter_map(|list| begins(&words[at..], list)).max();
        found += usize::from(phrase.is_some());
        at += phrase.or_else(|| begins(&words[at..], FILLER))?;
    }
    Some(found)
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
            ("ok no", Reply::No),
            ("no that's not right", Reply::No),
            ("No thanks", Reply::Refusal),
            ("please don't", Reply::Refusal),
            ("no, don't", Reply::Refusal),
            ("not yet", Reply::Refusal),
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
