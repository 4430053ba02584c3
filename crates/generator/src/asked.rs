//! What a message asks: its content words, the kind of answer it waits for, and its separate questions.

use text::BlockKind;

use crate::lexicon::Lexicon;
use crate::terms::{NOT, Terms, is_number};

/// Most different words of a question that count; the first ones.
const MAX_TERMS: usize = 64;
/// What a word that says little counts for.
const LIGHT: f64 = 0.5;
/// What a word of the rest of the message counts for beside those of one of its questions.
const BESIDE: f64 = 0.4;
/// How well a sentence with a word of a rule, a place or a contact answers: the words are common.
const LOOSELY: f64 = 0.5;

/// A kind of answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// What to do, step by step.
    Steps,
    /// A number or a price.
    Amount,
    /// A time or a duration.
    Time,
    /// Yes or no.
    Rule,
    /// A place.
    Place,
    /// A person or a number to call.
    Contact,
    /// A reason.
    Reason,
    /// Whether there is something: often there is not.
    Offer,
}

/// What in a question shows the kind of answer: phrases, with a space where a word has to begin or end.
const CUES: [(Kind, &str); 8] = [
    (
        Kind::Steps,
        " how do | how can | how to | how should | how would | hows it | how on earth | how am i | how are we | how is it done|\
         what do i do | what do i need | what should i | what must i | what to do| what can i do| next step| steps | the process|\
         way to | way of | way back | where do i | where can i | walk me | tell me how",
    ),
    (
        Kind::Amount,
        " how much| how many| how big| how large| how high| how old| how far back| cost| fee | fees | charge | charges | price|\
         limit | limits | the most | maximum| biggest | highest | largest | the least | minimum | lowest | longest | rate |\
         set me back| sets me back| sting me| stung for| skim off| pay for ",
    ),
    (
        Kind::Time,
        " how long| how soon| how fast| how quick| how late| how early| how often| how many days| how many weeks| how many months|\
         how many hours| when do| when did | when will | when is | when are | when can | when should| when must| when would|\
         when s | whens | what time| what day| by when| until when| till when| hours ",
    ),
    (
        Kind::Rule,
        " can i| can we| can you| can my| can someone| could i| could my| could you| may i| may we| am i | do i | do we | do you |\
         does | is it | is there| is that | is the | is my | are there| are you | are my | will i | will my | will you | will the |\
         will it| would i | would you| should i| must i| have i | has my ",
    ),
    (Kind::Place, " where | wheres | address | which branch"),
    (Kind::Contact, " who | whom | anyone | someone | somebody | number do i call| phone number| email"),
    (
        Kind::Offer,
        " do you have| do you do | do you offer| do you sell| do you lend| do you give| do you provide| do you finance|\
         do you take | do you write| do you sponsor| do you buy| does the | does your | do i get | do your | is there | are there |\
         can i buy| can i get | can i have| can i hold | can i link| can i pay | can you give| can you lend| you sell| you offer|\
         how do i buy| how do i trade| will you | is your | have you got| do they ",
    ),
    (Kind::Reason, " why | how come | reason "),
];
/// Words of answers that state an amount without a figure.
const AMOUNTS: &str = " free no half double ";
/// Words of answers that state a time.
const TIMES: &str = " second seconds minute minutes hour hours day days week weeks month months year years once immediately \
                     instantly midnight overnight monday tuesday wednesday thursday friday saturday sunday daily weekly monthly \
                     yearly ";
/// Words of answers that state a rule.
const RULES: &str =
    " can cannot may must need needs not no only never always allowed accepted refused possible free ";
/// Words of answers that say where.
const PLACES: &str = " under in at app branch branches counter website www page screen address ";
/// Words of answers that say who.
const CONTACTS: &str =
    " call team line anyone colleague colleagues holder holders person customers write email ";
/// Words of answers that give a reason.
const REASONS: &str = " because so law protect protection reason reasons due since ";

/// A question, read.
#[derive(Debug)]
pub(crate) struct Asked {
    /// Its content words without negations, each stem once, with what each says, 0..=1.
    pub(crate) terms: Vec<(String, f64)>,
    kinds: Vec<Kind>,
}

impl Asked {
    pub(crate) fn new(terms: &Terms, lexicon: &Lexicon, question: &str) -> Self {
        let mut found: Vec<(String, f64)> = Vec::new();
        for stem in terms.of(question) {
            let is_new = stem != NOT && found.iter().all(|(known, _)| *known != stem);
            if is_new && found.len() < MAX_TERMS {
                let weight = if lexicon.is_light(&stem) { LIGHT } else { 1.0 };
                found.push((stem, weight));
            }
        }
        let plain = plain(question);
        let shows = |cues: &str| cues.split('|').any(|cue| plain.contains(cue));
        let kinds = CUES.into_iter().filter(|(_, cues)| shows(cues)).map(|(kind, _)| kind).collect();
        Self { terms: found, kinds }
    }

    /// The questions of a message that asks several, in its own words, each read with what the rest of the
    /// message says; empty when it asks one.
    pub(crate) fn parts<'m>(terms: &Terms, lexicon: &Lexicon, message: &'m str) -> Vec<(&'m str, Self)> {
        let whole = Self::new(terms, lexicon, message);
        let mut parts: Vec<(&str, Self)> = Vec::new();
        for piece in text::questions(message) {
            let part = Self::new(terms, lexicon, piece);
            // "How do I do each?" asks nothing of its own.
            let is_own = part.terms.iter().any(|(stem, weight)| {
                *weight >= 1.0 && parts.iter().all(|(_, before)| before.weight(stem) < 1.0)
            });
            if is_own {
                parts.push((piece, part.beside(&whole)));
            }
        }
        if parts.len() < 2 { Vec::new() } else { parts }
    }

    /// As it is read beside something else that was said: what that asks counts a little.
    pub(crate) fn beside(self, other: &Self) -> Self {
        let rest = other.terms.iter().filter(|(stem, _)| self.weight(stem) == 0.0);
        let rest: Vec<_> = rest.map(|(stem, weight)| (stem.clone(), weight * BESIDE)).collect();
        Self { terms: [self.terms, rest].concat(), ..self }
    }

    fn weight(&self, stem: &str) -> f64 {
        self.terms.iter().find(|(own, _)| own == stem).map_or(0.0, |(_, weight)| *weight)
    }

    pub(crate) fn wants(&self, kind: Kind) -> bool {
        self.kinds.contains(&kind)
    }

    /// How well a sentence is of a kind that answers, 0..=1: a step for "how", a time for "how soon".
    pub(crate) fn fit(&self, block: BlockKind, sentence: &str) -> f64 {
        let plain = plain(sentence);
        let has = |list: &str| plain.split_whitespace().any(|word| contains(list, word));
        let figure = || plain.split_whitespace().any(is_number);
        let weigh = |kind: &Kind| match kind {
            Kind::Steps if matches!(block, BlockKind::Item { number: Some(_), .. }) => 1.0,
            Kind::Amount if figure() || has(AMOUNTS) => 1.0,
            Kind::Time if has(TIMES) => 1.0,
            Kind::Reason if has(REASONS) => 1.0,
            Kind::Rule if has(RULES) => LOOSELY,
            Kind::Place if has(PLACES) => LOOSELY,
            Kind::Contact if has(CONTACTS) => LOOSELY,
            _ => 0.0,
        };
        self.kinds.iter().map(weigh).fold(0.0, f64::max)
    }
}

/// Whether a list of words between spaces has a word.
fn contains(list: &str, word: &str) -> bool {
    list.match_indices(word)
        .any(|(at, _)| list[..at].ends_with(' ') && list[at + word.len()..].starts_with(' '))
}

/// Words in lower case between single spaces, without marks; one space at each end.
fn plain(text: &str) -> String {
    let mut plain = String::from(" ");
    for c in text.chars().chain([' ']) {
        match c {
            '\'' | '’' => {}
            c if c.is_alphanumeric() => plain.extend(c.to_lowercase()),
            _ if !plain.ends_with(' ') => plain.push(' '),
            _ => {}
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(question: &str) -> Asked {
        let terms = Terms::new();
        Asked::new(&terms, &Lexicon::new(&terms), question)
    }

    #[test]
    fn a_question_waits_for_its_kind_of_answer() {
        let step = BlockKind::Item { number: Some(2), indent: 0 };
        for (question, block, right, wrong) in [
            ("How do I freeze my card?", step, "Tap Freeze card.", ""),
            ("How fast is a transfer?", BlockKind::Paragraph, "It arrives within 2 hours.", "It is safe."),
            ("what's the fee", BlockKind::Paragraph, "It costs 5 pounds.", "Ask us."),
            ("Why was I asked?", BlockKind::Paragraph, "The law requires it.", "Tap Yes."),
            ("Can I keep it?", BlockKind::Paragraph, "You cannot keep it.", "Harbour Bank is here."),
            ("Where is my code?", BlockKind::Paragraph, "It is under Account details.", "Codes expire."),
        ] {
            let asked = asked(question);
            let wrong = asked.fit(BlockKind::Paragraph, wrong);
            assert!(asked.fit(block, right) > wrong, "{question}");
        }
        assert!(!asked("How quickly does it arrive?").wants(Kind::Steps));
        assert!(!asked("I'll tell you when it arrives").wants(Kind::Time));
    }

    #[test]
    fn several_questions_are_told_apart_and_one_stays_whole() {
        let terms = Terms::new();
        let lexicon = Lexicon::new(&terms);
        let parts = |message| -> Vec<&str> {
            Asked::parts(&terms, &lexicon, message).into_iter().map(|(words, _)| words).collect()
        };
        assert_eq!(
            parts("how do i set a new pin and whats the daily limit?"),
            ["how do i set a new pin", "whats the daily limit?"]
        );
        assert_eq!(
            parts("I am moving. When does Hull open? And do you insure pets?"),
            ["When does Hull open?", "And do you insure pets?"]
        );
        for one in [
            "Can I pay with my phone and my watch?",
            "I lost my card and my keys, what should I do?",
            "What about films and stuff that's on the old card?",
            "Pay the landlord, and stop the gym. How do I do each?",
            "",
        ] {
            assert!(parts(one).is_empty(), "{one}");
        }
    }
}
