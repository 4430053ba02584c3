//! Finds in a model's words what only its prompt holds: the canary of the request and the prompt's own
//! instructions, also disguised.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::atomic::{AtomicU64, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// Letters of a canary: without vowels no word of a passage looks like a piece of one.
const LETTERS: &[u8; 20] = b"bcdfghjklmnpqrstvwxz";
const CANARY_CHARS: usize = 24;
/// Letters and digits in a row that give a canary away: as they are, in base64, in hexadecimal.
const OF_CANARY: [usize; 3] = [8, 12, 16];
/// Letters and digits in a row that give instructions away, in every form: some eight words.
const OF_INSTRUCTIONS: [usize; 3] = [40; 3];

/// Letters and digits in a row from which on words may be the beginning of what gives a canary, or instructions, away:
/// one or two words of instructions say nothing.
const BEGINS: [usize; 2] = [4, 12];

/// Makes canaries nobody can guess: a random key of the process and a number of the request.
#[derive(Debug)]
pub(crate) struct Canaries {
    key: [u8; 32],
    made: AtomicU64,
}

impl Canaries {
    pub(crate) fn new() -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(uuid::Uuid::new_v4().as_bytes()).update(uuid::Uuid::new_v4().as_bytes());
        Self { key: *hasher.finalize().as_bytes(), made: AtomicU64::new(0) }
    }

    /// 24 small letters.
    pub(crate) fn fresh(&self) -> String {
        let number = self.made.fetch_add(1, Ordering::Relaxed);
        let mut bytes = [0; CANARY_CHARS];
        blake3::Hasher::new_keyed(&self.key).update(&number.to_le_bytes()).finalize_xof().fill(&mut bytes);
        bytes.iter().map(|byte| char::from(LETTERS[usize::from(*byte) % LETTERS.len()])).collect()
    }
}

/// Pieces of texts in the forms a model may be made to write them in, by their length in letters and digits.
#[derive(Debug)]
pub(crate) struct Pieces {
    by_length: Vec<(usize, HashSet<u64>)>,
    /// Short ones, in plain words only, that may be the beginning of a longer one.
    begins: HashSet<u64>,
    begin: usize,
}

impl Pieces {
    /// The parts of a prompt that are ours.
    pub(crate) fn of_instructions<'t>(texts: impl IntoIterator<Item = &'t str>) -> Self {
        Self::of(texts, OF_INSTRUCTIONS, BEGINS[1])
    }

    fn of<'t>(
        texts: impl IntoIterator<Item = &'t str>,
        [plain, base64, hex]: [usize; 3],
        begin: usize,
    ) -> Self {
        let mut pieces = Self { by_length: Vec::new(), begins: HashSet::new(), begin };
        for text in texts {
            pieces.may_begin([text]);
            let folded = fold(text);
            let reversed: Vec<char> = folded.iter().rev().copied().collect();
            let turned: Vec<char> = folded.iter().copied().map(text::rot13).collect();
            for form in [&folded, &reversed, &turned] {
                pieces.add(plain, form);
            }
            let digits: String = text.bytes().map(|byte| format!("{byte:02x}")).collect();
            pieces.add(hex, &fold(&digits));
            for before in 0..3 {
                let shifted = [&vec![0; before], text.as_bytes()].concat();
                // What the bytes before it take part in depends on them.
                let encoded = STANDARD.encode(shifted).split_off((before * 8).div_ceil(6));
                pieces.add(base64, &fold(&encoded));
            }
        }
        pieces
    }

    fn add(&mut self, length: usize, form: &[char]) {
        let known = self.by_length.iter().position(|(other, _)| *other == length);
        let place = known.unwrap_or(self.by_length.len());
        if known.is_none() {
            self.by_length.push((length, HashSet::new()));
        }
        self.by_length[place].1.extend(form.windows(length).map(hash));
    }

    /// Adds texts that are known as the beginning of a piece only.
    pub(crate) fn may_begin<'t>(&mut self, texts: impl IntoIterator<Item = &'t str>) {
        for text in texts {
            self.begins.extend(fold(text).windows(self.begin).map(hash));
        }
    }

    /// Whether a longer piece may have begun at the end of a text.
    fn may_go_on(&self, text: &[char]) -> bool {
        text.windows(self.begin).next_back().is_some_and(|end| self.begins.contains(&hash(end)))
    }

    /// The pieces that end in the last `new` characters.
    fn found<'t>(&self, text: &'t [char], new: usize) -> impl Iterator<Item = &'t [char]> {
        self.by_length.iter().flat_map(move |(length, hashes)| {
            let from = (text.len() - new).saturating_sub(length - 1);
            text[from..].windows(*length).filter(|piece| hashes.contains(&hash(piece)))
        })
    }
}

/// Watches the words of a model as they come, however they are cut.
#[derive(Debug)]
pub(crate) struct Watch<'a> {
    canary: Pieces,
    instructions: &'a Pieces,
    /// What the prompt holds of others: repeating that gives nothing away.
    data: Vec<&'a str>,
    /// `data` as one text, once it is needed.
    folded: Option<String>,
    text: Vec<char>,
}

impl<'a> Watch<'a> {
    pub(crate) fn new(canary: &str, instructions: &'a Pieces, data: Vec<&'a str>) -> Self {
        let canary = Pieces::of([canary], OF_CANARY, BEGINS[0]);
        Self { canary, instructions, data, folded: None, text: Vec::new() }
    }

    /// Takes the next words; `true` when they give the prompt away.
    pub(crate) fn push(&mut self, words: &str) -> bool {
        let before = self.text.len();
        self.text.extend(fold(words));
        let new = self.text.len() - before;
        let Self { canary, instructions, data, folded, text } = self;
        let mut is_ours = |piece: &[char]| {
            let folded = folded.get_or_insert_with(|| {
                data.iter().flat_map(|text| fold(text).into_iter().chain(['\n'])).collect()
            });
            !folded.contains(&piece.iter().collect::<String>())
        };
        canary.found(text, new).next().is_some() || instructions.found(text, new).any(&mut is_ours)
    }

    /// Letters and digits taken so far.
    pub(crate) fn taken(&self) -> usize {
        self.text.len()
    }

    /// Whether words that ended when `taken` letters and digits were taken can be no part of what gives the
    /// prompt away in plain words; whatever is encoded, no passage supports.
    pub(crate) fn is_past(&self, taken: usize) -> bool {
        let so_far = self.text.get(..taken).unwrap_or(&self.text);
        let goes_on = self.canary.may_go_on(so_far) || self.instructions.may_go_on(so_far);
        !goes_on || self.text.len() >= taken + OF_INSTRUCTIONS[0]
    }
}

/// The letters and digits of a text, lowered, look-alikes folded; each by itself, so that no cut of the text
/// changes them.
fn fold(text: &str) -> Vec<char> {
    let mut folded = Vec::with_capacity(text.len());
    let mut buffer = [0; 4];
    for c in text.chars() {
        if c.is_ascii_alphanumeric() {
            folded.push(c.to_ascii_lowercase());
        } else if !c.is_ascii() {
            folded
                .extend(text::normalise(c.encode_utf8(&mut buffer)).chars().filter(|c| c.is_alphanumeric()));
        }
    }
    folded
}

fn hash(piece: &[char]) -> u64 {
    let mut hasher = DefaultHasher::new();
    piece.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: &str =
        "Use only facts that stand in the passages below, and never guess what they do not say.";

    /// Whether the words give the prompt away when they come in pieces of `size` characters.
    fn leaks(canary: &str, data: &str, words: &str, size: usize) -> bool {
        let instructions = Pieces::of_instructions([RULES]);
        let mut watch = Watch::new(canary, &instructions, vec![data]);
        let words: Vec<char> = words.chars().collect();
        words.chunks(size).any(|piece| watch.push(&piece.iter().collect::<String>()))
    }

    #[test]
    fn a_prompt_is_known_in_every_disguise_and_any_cut_of_the_stream() {
        let canary = Canaries::new().fresh();
        let between = |text: &str, mark: &str| text.chars().map(|c| format!("{c}{mark}")).collect::<String>();
        let wide = |text: &str| {
            let wide =
                |c: char| if c.is_ascii_graphic() { char::from_u32(c as u32 + 0xfee0) } else { Some(c) };
            text.chars().filter_map(wide).collect::<String>()
        };
        let hex = |text: &str| text.bytes().map(|byte| format!("{byte:02X} ")).collect::<String>();
        for secret in [canary.as_str(), RULES, &RULES[7..60], &canary[5..19]] {
            for disguised in [
                secret.to_owned(),
                secret.to_uppercase(),
                between(secret, " "),
                between(secret, "\u{200b}"),
                between(secret, "-"),
                wide(secret),
                secret.chars().rev().collect(),
                fold(secret).into_iter().map(text::rot13).collect(),
                hex(secret),
                STANDARD.encode(secret),
                STANDARD.encode(format!("a{secret}")),
                STANDARD.encode(format!("ab{secret}")),
            ] {
                for size in [1, 5, 1000] {
                    let words = format!("It costs 5 pounds. {disguised}");
                    assert!(leaks(&canary, "", &words, size), "{words} in pieces of {size}");
                }
            }
        }
    }

    #[test]
    fn words_of_the_passages_and_short_echoes_give_nothing_away() {
        let canary = Canaries::new().fresh();
        assert!(!leaks(&canary, "", "It costs 5 pounds, and we never guess what they do not say [1].", 3));
        assert!(!leaks(&canary, &format!("Rule 7: {RULES} Thank you."), RULES, 3), "it stands in a passage");
        assert!(!leaks(&canary, "", "6263 6466 6768 7071 7273 is the strengths of twelfths", 3));
        assert!(leaks(&canary, &canary, &canary, 3), "a canary in a passage would be no accident");
    }

    #[test]
    fn words_are_waited_for_only_where_a_leak_may_have_begun() {
        let instructions = Pieces::of_instructions([RULES]);
        let mut watch = Watch::new("bcdfghjklmnpqrstvwxzbcdf", &instructions, Vec::new());
        for (words, is_past) in [
            ("It costs 5 pounds [1]. The", true),
            (" Use only facts that stand in", false),
            (" a shop, as we have said. And", true),
            (" the mark bcdf", false),
        ] {
            assert!(!watch.push(words));
            assert_eq!(watch.is_past(watch.taken()), is_past, "{words}");
        }
        let taken = watch.taken();
        watch.push(" is no more than that, whatever one may think of it, and");
        assert!(watch.is_past(taken), "what followed was no leak");
    }

    #[test]
    fn no_two_requests_and_no_two_processes_share_a_canary() {
        let (one, other) = (Canaries::new(), Canaries::new());
        let made: HashSet<String> = (0..100).flat_map(|_| [one.fresh(), other.fresh()]).collect();
        assert_eq!(made.len(), 200);
    }
}
