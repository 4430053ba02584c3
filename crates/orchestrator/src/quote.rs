//! What a message quotes and does not say: lines behind ">", fenced and inline code.

/// What stands for a quote; ends a sentence, so that what is around it does not grow together.
const MARK: &str = " | ";
const TICK: char = '`';

/// The message without its quotes. Code whose end is missing is no quote: it could hold all the rest.
pub(crate) fn unquoted(message: &str) -> String {
    let mut own = String::with_capacity(message.len());
    let mut rest = message;
    // Once a kind of fence has no end, no later one of that kind has.
    let mut endless = [false; 2];
    while let Some((line, tail)) = next_line(rest) {
        rest = tail;
        match fence(line) {
            Some(kind) if !endless[kind] => match behind_fence(tail, kind) {
                Some(behind) => {
                    own.push_str(MARK);
                    rest = behind;
                }
                None => {
                    endless[kind] = true;
                    own.push_str(line);
                }
            },
            _ if line.trim_start().starts_with('>') => own.push_str(MARK),
            _ => push_line(line, &mut own),
        }
    }
    own
}

fn next_line(text: &str) -> Option<(&str, &str)> {
    let end = text.find('\n').map_or(text.len(), |at| at + 1);
    (!text.is_empty()).then(|| text.split_at(end))
}

/// Which fence a line is: of backticks, of tildes.
fn fence(line: &str) -> Option<usize> {
    ["```", "~~~"].iter().position(|fence| line.trim_start().starts_with(fence))
}

/// What follows the line that closes a fence.
fn behind_fence(mut text: &str, kind: usize) -> Option<&str> {
    while let Some((line, tail)) = next_line(text) {
        if fence(line) == Some(kind) {
            return Some(tail);
        }
        text = tail;
    }
    None
}

/// A line without what stands between two runs of backticks.
fn push_line(line: &str, own: &mut String) {
    let mut rest = line;
    while let Some((before, ticked)) = rest.split_once(TICK) {
        own.push_str(before);
        let Some((_, behind)) = ticked.trim_start_matches(TICK).split_once(TICK) else {
            rest = ticked;
            break;
        };
        own.push_str(MARK);
        rest = behind.trim_start_matches(TICK);
    }
    own.push_str(rest);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_go_and_code_without_an_end_stays() {
        for (message, own) in [
            ("a\n> b\n c", "a\n |  c"),
            ("a\n```rust\nb\n```\nc", "a\n | c"),
            ("a\n~~~\n```\n~~~\nc", "a\n | c"),
            ("a ``b`` c `d`", "a  |  c  | "),
            ("```\nno end\n> b\nc", "```\nno end\n | c"),
            ("it`s an agent", "its an agent"),
            ("1 > 0", "1 > 0"),
        ] {
            assert_eq!(unquoted(message), own, "{message:?}");
        }
    }
}
