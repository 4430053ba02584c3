//! Makes text safe to show: no markup that acts, no links to strangers, nothing invisible.

use std::collections::BTreeSet;

use personal::pattern;
use regex::{Captures, Regex};

/// What stands where a link was taken out and no words of its own remain.
const NO_LINK: &str = "[link removed]";
/// How often cleaning is repeated at most, because taking one thing out can join the halves of another.
const ROUNDS: usize = 4;

/// Hosts a text links to or names, in lower case without a leading "www.".
pub(crate) fn hosts<'a>(texts: impl IntoIterator<Item = &'a str>) -> BTreeSet<String> {
    texts.into_iter().flat_map(|text| LINK.find_iter(text)).filter_map(|link| host(link.as_str())).collect()
}

/// The text without anything that could act on a screen: terminal codes, control and invisible
/// characters, HTML, images, and links other than those to `allowed` hosts, whose words stay.
pub(crate) fn sanitise(text: &str, allowed: &BTreeSet<String>) -> String {
    let mut clean = text.to_owned();
    for _ in 0..ROUNDS {
        let next = strip_links(&strip_markup(&strip_codes(&clean)), allowed);
        if next == clean {
            return clean;
        }
        clean = next;
    }
    // Still not at rest: someone nested on purpose. What markup needs goes altogether.
    clean.replace(['<', '>', '[', ']', '\u{1b}'], "")
}

pattern!(
    TERMINAL,
    r"(?:\x1b\[|\x{9b})[0-?]*[ -/]*[@-~]|(?:\x1b\]|\x{9d})[^\x07\x1b\x{9c}]*(?:\x07|\x1b\\|\x{9c})?|\x1b[ -/]*[0-~]?"
);
pattern!(COMMENT, r"(?s)<!--.*?(?:-->|\z)|<!\[CDATA\[.*?(?:\]\]>|\z)");
pattern!(
    ACTIVE,
    r"(?is)<(?:script|style|iframe|object|embed|svg|math|template|noscript)(?-u:\b).*?(?:</(?:script|style|iframe|object|embed|svg|math|template|noscript)[^>]*>|\z)"
);
pattern!(TAG, r"</?[A-Za-z!?](?:[^<>\x22']|\x22[^\x22<]*\x22|'[^'<]*')*>");
pattern!(OPENING, r"<([A-Za-z/!?])");

fn strip_codes(text: &str) -> String {
    let shown = replace(text, &TERMINAL, "");
    let acts = |c: char| c.is_control() && !matches!(c, '\n' | '\t');
    let mut clean = String::with_capacity(shown.len());
    for c in shown.chars().filter(|c| !acts(*c)) {
        // A joiner inside an emoji and the selector behind one are what the sign is made of.
        let behind_sign = clean.chars().next_back().is_some_and(|last| matches!(u32::from(last), 0x2190..));
        let part_of_sign = behind_sign && matches!(c, '\u{200d}' | '\u{fe0f}');
        if part_of_sign || !text::is_invisible(c) {
            clean.push(c);
        }
    }
    clean
}

fn strip_markup(text: &str) -> String {
    if !text.contains('<') {
        return text.to_owned();
    }
    // An address in angle brackets is a link and is judged as one.
    let mut clean = replace(text, &ANGLE_LINK, "$1");
    for _ in 0..ROUNDS {
        for pattern in [&COMMENT, &ACTIVE, &TAG] {
            clean = replace(&clean, pattern, "");
        }
    }
    replace(&clean, &OPENING, "$1")
}

pattern!(ANGLE_LINK, r"<((?i:https?|mailto|tel)[^<>\s]*)>");
pattern!(IMAGE, r"!\[([^\]]*)\] ?(?:\([^)]*\)|\[[^\]]*\])?");
pattern!(INLINE, r"\[([^\[\]]*)\]\(\s*<?([^)>\s]*)[^)]*\)");
pattern!(REFERENCE, r"\[([^\[\]]+)\] ?\[([^\[\]]*)\]");
pattern!(DEFINITION, r"(?m)^ {0,3}\[[^\[\]]+\]:[ \t]*\S.*$");
pattern!(
    LINK,
    r"(?i)(?:[a-z0-9._%+-]+@[a-z0-9.-]+|(?:(?-u:\b)[a-z][a-z0-9+.-]{1,20}:)?[/\\]{2}[^\s<>\x22'`|{}]+|",
    r"(?-u:\b)(?:javascript|vbscript|data|file|blob|intent|ftp):[^\s<>\x22'`]+|",
    r"(?-u:\b)(?:www\.)?(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.){1,6}[a-z]{2,24}(?::[0-9]{1,5})?/[^\s<>\x22'`|{}]*|",
    r"(?-u:\b)www\.[^\s<>\x22'`|{}]+|",
    r"(?-u:\b)(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.){1,6}",
    r"(?:com|net|org|info|biz|io|co|uk|de|fr|es|it|nl|eu|us|ru|cn|xyz|top|site|online|shop|app|dev|me|tv|cc|to|ly|gg|tk|ml|ga|cf|gq|link|click|live|page|web|cloud|example|test|evil)(?-u:\b))"
);

fn strip_links(text: &str, allowed: &BTreeSet<String>) -> String {
    let mut clean = text.to_owned();
    if clean.contains(']') {
        clean = replace(&clean, &IMAGE, "$1");
        clean = replace(&clean, &DEFINITION, "");
        clean = replace(&clean, &REFERENCE, "$1");
        clean = replace_with(&clean, &INLINE, |groups| {
            let (words, target) = (&groups[1], &groups[2]);
            if permits(target, allowed) { groups[0].to_owned() } else { words.to_owned() }
        });
    }
    replace_with(&clean, &LINK, |groups| {
        let found = &groups[0];
        // Personal data is judged elsewhere.
        if is_address(found) {
            return found.to_owned();
        }
        // Closing punctuation belongs to the sentence.
        let link = found.trim_end_matches(['.', ',', ';', ':', '!', '?', ')', ']', '*', '_']);
        let rest = &found[link.len()..];
        if permits(link, allowed) { found.to_owned() } else { format!("{NO_LINK}{rest}") }
    })
}

/// Whether an e-mail address was found, not a link with a name before its host.
fn is_address(found: &str) -> bool {
    found.contains('@') && !found.contains(['/', '\\', ':'])
}

/// Whether a link leads to an allowed host by https or http, an e-mail address or a telephone.
fn permits(link: &str, allowed: &BTreeSet<String>) -> bool {
    let lower = link.to_ascii_lowercase();
    if lower.starts_with('#') || lower.starts_with("tel:") {
        return true;
    }
    if let Some(address) = lower.strip_prefix("mailto:") {
        // Whose address it is, the redaction of personal data decides; headers and bodies go nowhere.
        return !address.contains('?');
    }
    host(&lower).is_some_and(|host| allowed.contains(&host))
}

/// The host of a plain web link, `None` for one that is disguised or of another scheme.
fn host(link: &str) -> Option<String> {
    let lower = link.to_ascii_lowercase();
    let bare = lower.strip_prefix("https://").or_else(|| lower.strip_prefix("http://")).unwrap_or(&lower);
    let bare = bare.strip_prefix("//").unwrap_or(bare);
    let end = bare.find(['/', '?', '#']).unwrap_or(bare.len());
    let (authority, path) = bare.split_at(end);
    let name = authority.split_once(':').map_or(authority, |(name, port)| {
        if port.bytes().all(|byte| byte.is_ascii_digit()) { name } else { "" }
    });
    let name = name.trim_end_matches(['.', ',', ';', '!', ')', ']', '*', '_']);
    let plain = name.contains('.')
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-'));
    (plain && !path.contains('\\')).then(|| name.strip_prefix("www.").unwrap_or(name).to_owned())
}

fn replace(text: &str, pattern: &Regex, with: &str) -> String {
    replace_with(text, pattern, |groups| {
        let mut replaced = String::new();
        groups.expand(with, &mut replaced);
        replaced
    })
}

fn replace_with(text: &str, pattern: &Regex, with: impl Fn(&Captures<'_>) -> String) -> String {
    pattern.replace_all(text, with).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_acts_survives_and_ordinary_text_stays() {
        let allowed = hosts(["See https://www.harbour.example/help or call us."]);
        for (text, shown) in [
            ("Freeze it in the app. It costs < £5 & takes 2 > 1 minutes.", None),
            ("See [our help](https://harbour.example/help?x=1) or https://www.harbour.example/a.", None),
            ("**Bold**, `code`, 1. lists\n- and\ttabs, e.g. 3.50 or node.js 👩‍💻", None),
            ("![x](https://evil.example/p.png?q=secret)", Some("x")),
            ("![x](https://harbour.example/p.png)", Some("x")),
            ("[click](https://evil.example/?q=1)", Some("click")),
            ("[click](javascript:alert(1))", Some("click)")),
            ("[click][1]\n\n[1]: https://evil.example", Some("click\n\n")),
            ("go to https://evil.example/x.", Some("go to [link removed].")),
            ("go to evil.com/x now", Some("go to [link removed] now")),
            ("go to //evil.com now", Some("go to [link removed] now")),
            ("go to https://harbour.example@evil.com/", Some("go to [link removed]")),
            ("go to https:\\\\evil.com\\harbour.example", Some("go to [link removed]")),
            ("go to https://harbour.example.evil.com/", Some("go to [link removed]")),
            ("<https://evil.example/x>", Some("[link removed]")),
            ("<b>bold</b><img src=x onerror=alert(1)>", Some("bold")),
            ("a<script>alert('x')</script>b", Some("ab")),
            ("a<scr<b>ipt>alert(1)</scr</b>ipt>b", Some("ab")),
            ("a <!-- hidden --> b", Some("a  b")),
            ("a<svg onload=alert(1)", Some("a")),
            ("data:text/html;base64,PHNjcmlwdD4=", Some(NO_LINK)),
            ("\u{1b}[31mred\u{1b}[0m \u{1b}]8;;http://evil.com\u{7}link\u{1b}]8;;\u{7}", Some("red link")),
            ("bi\u{202e}di ze\u{200b}ro\0 t\u{e0041}ag", Some("bidi zero tag")),
        ] {
            let clean = sanitise(text, &allowed);
            assert_eq!(clean, shown.unwrap_or(text), "{text:?}");
            assert_eq!(sanitise(&clean, &allowed), clean, "not at rest: {text:?}");
        }
    }
}
