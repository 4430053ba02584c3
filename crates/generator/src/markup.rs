//! Markdown as plain text, for display.

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
    use super::plain;

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
