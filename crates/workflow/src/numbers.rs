//! Numbers in words.

use crate::words::Word;

/// The number that words begin with, 0..=999999, and how many words it takes: "twenty five", "a hundred and five".
pub(crate) fn read(words: &[Word]) -> Option<(u32, usize)> {
    let word = |at: usize| words.get(at).map_or("", |word| word.text.as_str());
    // The thousands, what stands after them, and the words of both.
    let (mut thousands, mut rest, mut length) = (0, 0, 0);
    loop {
        let joined = length > 0 && word(length) == "and" && rest % 100 == 0;
        let at = length + usize::from(joined);
        let (next, begins) = (word(at), rest == 0 && (length == 0 || thousands > 0));
        if let Some(unit) = text::below_twenty(next)
            && (begins || rest % 100 == 0 || rest % 10 == 0 && rest % 100 >= 20 && (1..10).contains(&unit))
        {
            rest += unit;
        } else if let Some(ten) = text::tens(next)
            && rest % 100 == 0
        {
            rest += ten;
        } else if next == "hundred" && (1..10).contains(&rest) && !joined {
            rest *= 100;
        } else if next == "thousand" && (1..1000).contains(&rest) && thousands == 0 && !joined {
            (thousands, rest) = (rest * 1000, 0);
        } else if next == "a" && length == 0 && matches!(word(1), "hundred" | "thousand") {
            rest = 1;
        } else {
            return (length > 0).then_some((thousands + rest, length));
        }
        length = at + 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words::words;

    #[test]
    fn numbers_are_read_as_far_as_they_go() {
        for (text, number) in [
            ("twenty pounds", Some((20, 1))),
            ("twenty-five", Some((25, 2))),
            ("a hundred and five quid", Some((105, 4))),
            ("two hundred and fifty", Some((250, 4))),
            ("one thousand two hundred", Some((1200, 4))),
            ("a thousand and one", Some((1001, 4))),
            ("seventeen thousand", Some((17_000, 2))),
            ("zero", Some((0, 1))),
            ("twenty and five", Some((20, 1))),
            ("twenty twenty", Some((20, 1))),
            ("five ten", Some((5, 1))),
            ("twenty eleven", Some((20, 1))),
            ("five hundred hundred", Some((500, 2))),
            ("a five", None),
            ("hundred", None),
            ("pounds", None),
            ("", None),
        ] {
            assert_eq!(read(&words(text)), number, "{text}");
        }
    }
}
