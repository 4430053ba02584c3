//! Characters one by one: which Latin letter each is, or is made to look like.

use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;
use unicode_security::skeleton;

use crate::normalise::{small_capital, unify};

/// Look-alikes that UTS 39 does not name, each after its letter: other scripts' letters as generators of
/// "fancy text" use them, turned letters, signs.
const FURTHER: [(char, &str); 6] = [
    ('a', "αλΛ∀∂Δ∆ค卂ﾑꍏᗩᏗɐɒǟąååªⱥ⍺₳ꪖꋬᗋ"),
    ('g', "ɠǥԍցງﻮᎶᏀᏳꁅ⅁ƃɢҩقǫ₲ᧁᘜ"),
    ('e', "εξєэəǝƎΣ∑℮ɇɛԑҽ乇ꍟᏋЄꫀꏂᘿΞ∊∈ϵ"),
    ('n', "ηпийլղռภ几ꈤᑎᏁɲɳŋƞИПΠ∩ռՌ₦ꪀꋊᘉ"),
    ('t', "τтŧȶ†‡⊥ʇㄒ꓄ՇէᏖɬŦʈ₮ꪻᖶ"),
    ('s', "ѕƨ§丂ꌗʂᏕȿ₴"),
];

/// The ASCII letter, in small, that a character is, is a form of, or looks like; `None` where there is none
/// or there are several. Wider than [`crate::normalise`], which has to leave honest words of other scripts
/// alone: a match on it proves nothing but together with the letters beside it.
#[must_use]
pub fn latin(c: char) -> Option<char> {
    if c.is_ascii() {
        return c.is_ascii_alphabetic().then(|| c.to_ascii_lowercase());
    }
    if let Some((letter, _)) = FURTHER.iter().find(|(_, looks)| looks.contains(c)) {
        return Some(*letter);
    }
    // Ideographs and syllables resemble no letter but those above, and text full of them should cost nothing.
    if matches!(c, '\u{2e80}'..='\u{a4cf}' | '\u{ac00}'..='\u{d7ff}') {
        return None;
    }
    let bare = one_letter(unify(c)?.nfkd())?;
    if bare.is_ascii() {
        return Some(bare.to_ascii_lowercase());
    }
    let forms = [Some(bare), lone(bare.to_lowercase()), lone(bare.to_uppercase())];
    small_capital(bare).or_else(|| forms.into_iter().flatten().find_map(prototype))
}

/// Whether a character is a mark on the one before it.
#[must_use]
pub fn is_mark(c: char) -> bool {
    is_combining_mark(c)
}

/// ROT13 of a small ASCII letter; everything else stays.
#[must_use]
pub fn rot13(c: char) -> char {
    match c {
        'a'..='m' => char::from(c as u8 + 13),
        'n'..='z' => char::from(c as u8 - 13),
        _ => c,
    }
}

/// The ASCII letter of a character's UTS 39 skeleton, strokes and marks aside.
fn prototype(form: char) -> Option<char> {
    let letter = one_letter(skeleton(form.encode_utf8(&mut [0; 4])))?;
    letter.is_ascii_alphabetic().then(|| letter.to_ascii_lowercase())
}

/// The only letter among marks and punctuation, as in a letter between brackets.
fn one_letter(chars: impl Iterator<Item = char>) -> Option<char> {
    lone(chars.filter(|c| c.is_alphanumeric() && !is_combining_mark(*c))).filter(|c| c.is_alphabetic())
}

pub(crate) fn lone(mut chars: impl Iterator<Item = char>) -> Option<char> {
    chars.next().filter(|_| chars.next().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_alphabet_of_a_keyboard_toy_is_latin() {
        for fancy in [
            "ᴀɢᴇɴᴛ",
            "αgεητ",
            "αɢєпт",
            "ⓐⓖⓔⓝⓣ",
            "⒜⒢⒠⒩⒯",
            "🅐🅖🅔🅝🅣",
            "🅰🅶🅴🅽🆃",
            "🄰🄶🄴🄽🅃",
            "🇦🇬🇪🇳🇹",
            "ａｇｅｎｔ",
            "ᵃᵍᵉⁿᵗ",
            "卂Ꮆ乇几ㄒ",
            "ąɠɛŋɬ",
            "áğêñţ",
            "ⱥǥɇnŧ",
            "ᗩGEᑎT",
            "ᏗᎶᏋᏁᏖ",
            "ꍏꁅꍟꈤ꓄",
            "ค ﻮ є ภ Շ",
            "ǟɢɛռȶ",
            "₳₲Ɇ₦₮",
            "ꪖᧁꫀꪀꪻ",
            "ꋬꁅꏂꋊ꓄",
            "ᗋᘜᘿᘉᖶ",
            "ΛGΞИ†",
            "åցҽղէ",
            "ɐƃǝnʇ",
            "АԌЕΝТ",
            "ΑԌΕΝΤ",
            "𝒶ℊℯ𝓃𝓉",
        ] {
            assert_eq!(fancy.chars().filter_map(latin).collect::<String>(), "agent", "{fancy}");
        }
        for c in ('\u{1d400}'..='\u{1d6a3}').chain('Ａ'..='Ｚ').filter(|c| c.is_alphabetic()) {
            let plain = c.nfkc().collect::<String>().to_ascii_lowercase();
            assert_eq!(latin(c).map(String::from), Some(plain), "{c}");
        }
        for honest in "жд한語가我のあहע12€ßæ™℡".chars() {
            assert_eq!(latin(honest), None, "{honest}");
        }
    }
}
