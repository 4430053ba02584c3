//! Markdown as plain text, for display, and what in it is not for display.

use std::ops::Range;

/// The words of a sentence without emphasis, code marks, links, table bars and line breaks. Link text
/// stays, its address goes.
pub(crate) fn plain(markdown: &str) -> String {
    let mut shown = String::with_capacity(markdown.len());
    let mut rest = markdown.trim().trim_matches('|');
    while let Some(c) = rest.chars().next() {
        if let Some((label, tail)) = link(rest) {
            shown.push_str(&plain(label));
            rest = tail;
            continue;
        }
        let mut tail = &rest[c.len_utf8()..];
        match c {
            '\\' if tail.starts_with(|next: char| next.is_ascii_punctuation()) => {
                shown.extend(tail.chars().next());
                tail = &tail[1..];
            }
            '`' => {}
            '*' | '~' | '_' if is_emphasis(c, &shown, tail) => {}
            '|' => {
                shown.truncate(shown.trim_end().len());
                shown.push_str(" –");
            }
            '<' if tail.starts_with("http") && tail.contains('>') => {}
            '>' if shown.rsplit(' ').next().is_some_and(|word| word.starts_with("http")) => {}
            _ if c.is_whitespace() => {
                if !shown.ends_with(' ') {
                    shown.push(' ');
                }
            }
            _ => shown.push(c),
        }
        rest = tail;
    }
    shown.trim().to_owned()
}

/// The HTML comments of a text, to its end when one is not closed.
pub(crate) fn comments(text: &str) -> Vec<Range<usize>> {
    let (mut found, mut from) = (Vec::new(), 0);
    while let Some(start) = text[from..].find("<!--").map(|at| from + at) {
        from = text[start..].find("-->").map_or(text.len(), |at| start + at + 3);
        found.push(start..from);
    }
    found
}

/// Whether a text holds HTML, half of an image, or characters that control or hide. Those that writing systems and signs need
/// stay: soft hyphen, joiners, selectors.
pub(crate) fn acts(text: &str) -> bool {
    let hides = |c: char| {
        c.is_control() && !matches!(c, '\n' | '\r' | '\t')
            || text::is_invisible(c)
                && !matches!(c, '\u{ad}' | '\u{34f}' | '\u{200c}' | '\u{200d}' | '\u{fe00}'..='\u{fe0f}')
    };
    let opens = |rest: &str| {
        let link = ["http", "mailto:", "tel:"].iter().any(|scheme| rest.starts_with(scheme));
        !link && rest.starts_with(|c: char| c.is_ascii_alphabetic() || matches!(c, '/' | '!'))
    };
    let whole = plain(text);
    let halved = whole.contains("![") || whole.contains("](");
    halved || text.chars().any(hides) || text.match_indices('<').any(|(at, _)| opens(&text[at + 1..]))
}

/// A mark is emphasis when it touches a word on one side only: "2 * 3" and "snake_case" keep theirs.
fn is_emphasis(mark: char, before: &str, after: &str) -> bool {
    let touches = |c: Option<char>| c.is_some_and(|c| !c.is_whitespace());
    let left = before.chars().next_back();
    let right = after.trim_start_matches(mark).chars().next();
    let inside_word = left.is_some_and(char::is_alphanumeric) && right.is_some_and(char::is_alphanumeric);
    match mark {
        '_' => !inside_word && (touches(left) || touches(right)),
        '~' => after.starts_with(mark) || before.is_empty() || after.is_empty(),
        _ => touches(left) || touches(right),
    }
}

/// The label of the link or image a text begins with, and what follows it.
fn link(text: &str) -> Option<(&str, &str)> {
    let body = text.strip_prefix("![").or_else(|| text.strip_prefix('['))?;
    let (label, rest) = body.split_once("](")?;
    let (_, tail) = rest.split_once(')')?;
    (!label.contains('\n') && !label.contains('[')).then_some((label, tail))
}

#[cfg(test)]
mod tests {
    use super::{acts, comments, plain};

    #[test]
    fn what_hides_or_acts_is_known_and_ordinary_signs_are_not() {
        assert_eq!(comments("a <!-- b. c --> d <!-- e"), [2..15, 18..24]);
        assert!(
            [
                "![see. ",
                "more](card.png)",
                "<b>x</b>",
                "x</p>",
                "<img src=x>",
                "ze\u{200b}ro",
                "\u{e0041}",
                "\u{202e}x",
                "\u{1b}[1m"
            ]
            .into_iter()
            .all(acts)
        );
        assert!(
            [
                "2 < 3 > 1",
                "<https://a.example/x>",
                "co\u{ad}op",
                "نمی\u{200c}خواهم",
                "👩\u{200d}💻\u{fe0f}",
                "a\n\tb"
            ]
            .into_iter()
            .all(|text| !acts(text))
        );
    }

    #[test]
    fn marks_go_and_words_stay() {
        assert_eq!(
            plain("**Freeze** it in _the_ [app](https://a.example/x), `now`."),
            "Freeze it in the app, now."
        );
        assert_eq!(plain("2 * 3 = 6, snake_case\nand 5\\* [1]"), "2 * 3 = 6, snake_case and 5* [1]");
        assert_eq!(plain("| Plus | 12 pounds |"), "Plus – 12 pounds");
        assert_eq!(plain("***Note*** see <https://a.example>"), "Note see https://a.example");
    }
}
