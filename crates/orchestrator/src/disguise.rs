//! The word "agent" in every disguise a keyboard makes, found in one pass.

use std::ops::Range;

use text::latin;

/// The letters of the word, its plural last.
const WORD: [char; 6] = ['a', 'g', 'e', 'n', 't', 's'];
const PLURAL: usize = 5;
/// Characters looked at for one word, letters written again and again and what separates them counted once;
/// keeps the search linear.
const REACH: usize = 64;
/// Fewest letters of the five that no digit or sign may stand for, unless "g" and "n" are among them.
const LETTERS: usize = 3;

/// Fewest gaps of four between the letters where one of them is white space.
const SPACED: usize = 3;

/// What a character may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Reading {
    /// The place in `WORD` of the letter it stands for.
    letter: Option<usize>,
    /// Whether it is that letter, or looks like it; a digit or a sign is not.
    real: bool,
    /// What it is beside another character.
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A Latin letter, what looks like one, or a digit: belongs to the word it is glued to.
    Plain,
    /// The same as a symbol, such as the letters of flags: belongs to the word of its likes.
    Symbol,
    /// White space.
    Space,
    /// Punctuation, emoji.
    Sign,
    /// A letter of another script, a number in a circle: ends a word and stands between no letters.
    Stranger,
}

/// A stretch of the message: one reading, however often it is repeated.
#[derive(Debug, Clone, Copy)]
struct Piece {
    reading: Reading,
    /// Bytes of the message.
    start: usize,
    end: usize,
}

/// Where the message says the word, in bytes, in order. A word that is there only once the right-to-left
/// override has turned its letters round counts as the whole message.
pub(crate) fn agents(message: &str) -> Vec<Range<usize>> {
    let mut found = spans(message.char_indices());
    if found.is_empty() && shown(message).is_some_and(|shown| !spans(shown.into_iter()).is_empty()) {
        found.push(0..message.len());
    }
    found
}

/// The message in the order a screen shows it, `None` without an override.
fn shown(message: &str) -> Option<Vec<(usize, char)>> {
    const OVERRIDE: char = '\u{202e}';
    const POP: char = '\u{202c}';
    message.contains(OVERRIDE).then_some(())?;
    let (mut shown, mut turned) = (Vec::new(), None);
    for (at, c) in message.char_indices().chain([(message.len(), '\n')]) {
        if matches!(c, POP | '\n')
            && let Some(from) = turned.take()
        {
            let run: &mut [(usize, char)] = shown.get_mut(from..).unwrap_or_default();
            run.reverse();
        }
        if c == OVERRIDE {
            turned.get_or_insert(shown.len());
        } else {
            shown.push((at, c));
        }
    }
    Some(shown)
}

fn spans(chars: impl Iterator<Item = (usize, char)>) -> Vec<Range<usize>> {
    let pieces = pieces(chars);
    let mut found = Vec::new();
    let mut at = 0;
    while at < pieces.len() {
        match end(&pieces, at) {
            Some(end) => {
                found.push(pieces[at].start..pieces[end].end);
                at = end;
            }
            None => at += 1,
        }
    }
    found
}

/// What a person sees of the message, characters that are seen as one joined.
fn pieces(chars: impl Iterator<Item = (usize, char)>) -> Vec<Piece> {
    const KEYCAP: char = '\u{20e3}';
    let mut pieces: Vec<Piece> = Vec::new();
    for (start, c) in chars {
        let end = start + c.len_utf8();
        let last = pieces.last_mut();
        if c == KEYCAP
            && let Some(digit) = last.filter(|last| !last.reading.real)
        {
            digit.reading = Reading { letter: None, real: false, kind: Kind::Sign };
        } else if let Some(reading) = reading(c) {
            match pieces.last_mut() {
                Some(last) if last.reading == reading && joins(reading) => last.end = end,
                _ => pieces.push(Piece { reading, start, end }),
            }
        }
    }
    pieces
}

/// Whether the same reading twice is one piece: a repeated letter, a longer separator.
fn joins(reading: Reading) -> bool {
    reading.letter.is_some() || matches!(reading.kind, Kind::Space | Kind::Sign)
}

/// `None` for what nobody sees.
fn reading(c: char) -> Option<Reading> {
    let unseen = c.is_control() && !c.is_whitespace() || text::is_invisible(c) || text::is_mark(c);
    if unseen {
        return None;
    }
    let letter = latin(c);
    let place = letter.or_else(|| leet(c)).and_then(|letter| WORD.iter().position(|known| *known == letter));
    let kind = match c {
        _ if c.is_whitespace() => Kind::Space,
        'ℹ' => Kind::Sign,
        '\u{249c}'..='\u{24e9}' | '\u{1f110}'..='\u{1f1ff}' if letter.is_some() => Kind::Symbol,
        _ if is_plain(c, letter) => Kind::Plain,
        _ if c.is_alphanumeric() => Kind::Stranger,
        _ => Kind::Sign,
    };
    Some(Reading { letter: place, real: letter.is_some(), kind })
}

/// Whether a character makes one word with the Latin letters beside it.
fn is_plain(c: char, letter: Option<char>) -> bool {
    const LATIN_ENDS: char = '\u{370}';
    match c {
        '０'..='９' | '\u{1d7ce}'..='\u{1d7ff}' => true,
        // Scripts without spaces, or whose letters are glued to foreign words, and are borrowed by toys.
        '\u{e00}'..='\u{e7f}'
        | '\u{2e80}'..='\u{a4cf}'
        | '\u{ac00}'..='\u{d7ff}'
        | '\u{ff66}'..='\u{ffdc}' => false,
        _ => c.is_ascii_alphanumeric() || c.is_alphabetic() && (c < LATIN_ENDS || letter.is_some()),
    }
}

/// The letter that a digit, of any of the Latin alphabets, or a sign stands for.
fn leet(c: char) -> Option<char> {
    let digit = match c {
        '０'..='９' => u32::from(c).checked_sub(0xff10),
        '\u{1d7ce}'..='\u{1d7ff}' => u32::from(c).checked_sub(0x1d7ce).map(|at| at % 10),
        _ => None,
    };
    Some(match digit.and_then(|digit| char::from_digit(digit, 10)).unwrap_or(c) {
        '4' | '@' => 'a',
        '6' | '9' => 'g',
        '3' | '€' | '£' => 'e',
        '7' | '+' => 't',
        '5' | '$' | '§' => 's',
        _ => return None,
    })
}

/// The last piece of the word that begins at a piece, `None` where none does.
fn end(pieces: &[Piece], at: usize) -> Option<usize> {
    if pieces[at].reading.letter != Some(0) || at > 0 && !begins(&pieces[at - 1], &pieces[at]) {
        return None;
    }
    let mut word = Word::default();
    let mut gap = None;
    for (offset, piece) in pieces[at..].iter().take(REACH).enumerate() {
        let Reading { letter, real, kind } = piece.reading;
        let next = letter.filter(|letter| *letter < PLURAL && word.takes(*letter));
        match next {
            Some(letter) => {
                word.put(letter, real, gap.take());
                if word.is_whole()
                    && let Some(end) = word_end(pieces, at + offset)
                {
                    return word.is_meant().then_some(end);
                }
            }
            None if kind == Kind::Space || kind == Kind::Sign => {
                let space = gap == Some(Kind::Space) || kind == Kind::Space;
                gap = Some(if space { Kind::Space } else { Kind::Sign });
            }
            None => return None,
        }
    }
    None
}

/// The last piece of a word whose "t" is at a piece: that, or the plural's; `None` where the word goes on.
fn word_end(pieces: &[Piece], at: usize) -> Option<usize> {
    let ends = |at: usize| pieces.get(at + 1).is_none_or(|next| !glued(&pieces[at], next));
    let plural = || pieces.get(at + 1).is_some_and(|next| next.reading.letter == Some(PLURAL));
    if ends(at) { Some(at) } else { (plural() && ends(at + 1)).then_some(at + 1) }
}

/// The word as far as it has been read.
#[derive(Debug, Default)]
struct Word {
    /// The letter read last.
    last: Option<usize>,
    /// Letters that are no digit or sign.
    real: [bool; PLURAL],
    /// Places between two different letters where something stands, and those with white space.
    gaps: usize,
    spaces: usize,
}

impl Word {
    /// Whether a letter may be next: the first, the one read last once more, or the one behind it.
    fn takes(&self, letter: usize) -> bool {
        self.last.map_or(letter == 0, |last| letter == last || letter == last + 1)
    }

    fn put(&mut self, letter: usize, real: bool, gap: Option<Kind>) {
        // Between a letter and itself, something parts as white space does: "AG Gent", "AG/Gent".
        let again = self.last == Some(letter);
        self.gaps += usize::from(gap.is_some() && !again);
        self.spaces += usize::from(gap == Some(Kind::Space) || gap.is_some() && again);
        self.last = Some(letter);
        self.real[letter] |= real;
    }

    fn is_whole(&self) -> bool {
        self.last == Some(PLURAL - 1)
    }

    /// Whether it can be nothing else: "a gent" and "A. G. Ent" are other words, "493N7" is a number.
    fn is_meant(&self) -> bool {
        let [_, g, _, n, _] = self.real;
        let letters = self.real.iter().filter(|real| **real).count();
        (self.spaces == 0 || self.gaps >= SPACED) && (letters >= LETTERS || g && n)
    }
}

/// Whether a word may begin behind its neighbour; with a sign for a letter not behind another: "info@gent.be".
fn begins(left: &Piece, first: &Piece) -> bool {
    let address = first.reading.kind == Kind::Sign && left.reading.kind == Kind::Plain;
    !address && !glued(left, first)
}

/// Whether two neighbours are of one word.
fn glued(left: &Piece, right: &Piece) -> bool {
    let (left, right) = (left.reading.kind, right.reading.kind);
    left == right && matches!(left, Kind::Plain | Kind::Symbol)
}
