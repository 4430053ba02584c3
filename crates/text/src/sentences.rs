//! Sentences and Markdown blocks as byte ranges into the original text.

use std::ops::Range;

use unicode_segmentation::UnicodeSegmentation;

/// A run of lines that Markdown shows as one thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// What it is.
    pub kind: BlockKind,
    /// Its bytes in the original, without the marker of a heading or list item, trimmed, never empty.
    pub range: Range<usize>,
}

/// What a block is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlockKind {
    /// A heading, or a line that is nothing but bold words.
    Heading,
    /// Lines of running text.
    Paragraph,
    /// An item of a list.
    Item {
        /// The number of an ordered item, `None` for a bullet.
        number: Option<u32>,
        /// Bytes of white space before the marker: deeper is nested.
        indent: usize,
    },
    /// One row of a table.
    Row,
    /// The content of a fenced code block.
    Code,
}

/// Words that never end a sentence by their full stop.
const NEVER_LAST: [&str; 30] = [
    "mr", "mrs", "ms", "dr", "prof", "st", "sr", "messrs", "vs", "e.g", "eg", "i.e", "ie", "cf", "approx",
    "ca", "fig", "incl", "excl", "resp", "dept", "est", "min", "max", "z.b", "d.h", "bzw", "u.a", "evtl",
    "ggf",
];
/// Words that are not last before a number.
const BEFORE_NUMBER: [&str; 14] =
    ["no", "nos", "nr", "art", "sec", "abs", "ch", "p", "pp", "vol", "ext", "tel", "para", "sect"];
/// Words that end a sentence only before a word that begins one.
const SOMETIMES_LAST: [&str; 16] = [
    "etc", "inc", "ltd", "co", "corp", "llc", "plc", "a.m", "p.m", "jr", "usw", "ave", "blvd", "rd", "dept",
    "govt",
];
/// Words that begin a sentence far more often than they are capitalised inside one.
const BEGINNERS: [&str; 60] = [
    "a", "after", "all", "also", "an", "and", "any", "as", "ask", "at", "because", "before", "both", "but",
    "by", "call", "check", "choose", "contact", "do", "each", "every", "for", "from", "he", "how", "however",
    "if", "in", "it", "no", "not", "on", "once", "only", "open", "or", "our", "please", "she", "since", "so",
    "some", "the", "then", "there", "these", "they", "this", "those", "to", "use", "we", "what", "when",
    "where", "while", "with", "you", "your",
];

/// The Markdown blocks of a text in their order. Blank lines, rules and fences belong to none.
#[must_use]
pub fn blocks(text: &str) -> Vec<Block> {
    let mut reader = Reader { text, blocks: Vec::new(), open: None };
    let mut start = 0;
    let mut fence: Option<(&str, usize)> = None;
    for line in text.split_inclusive('\n') {
        let range = start..start + line.len();
        start = range.end;
        let words = line.trim();
        match fence {
            Some((mark, from)) if words.starts_with(mark) => {
                reader.push(BlockKind::Code, from..range.start);
                fence = None;
            }
            Some(_) => {}
            None if words.starts_with("```") || words.starts_with("~~~") => {
                reader.close();
                fence = Some((&words[..3], range.end));
            }
            None => reader.line(range),
        }
    }
    reader.close();
    if let Some((_, from)) = fence {
        reader.push(BlockKind::Code, from..text.len());
    }
    reader.blocks
}

/// The sentences of a text in their order: UAX 29, corrected for Markdown lines, list markers, closing
/// emphasis, abbreviations, initials and numbers. Trimmed, never empty, never overlapping; a heading, a
/// row of a table or a code block is one sentence.
#[must_use]
pub fn sentences(text: &str) -> Vec<Range<usize>> {
    blocks(text).iter().flat_map(|block| block.sentences(text)).collect()
}

impl Block {
    /// The sentences of this block; `text` is the text the block was read from.
    #[must_use]
    pub fn sentences(&self, text: &str) -> Vec<Range<usize>> {
        match self.kind {
            BlockKind::Paragraph | BlockKind::Item { .. } => split(text, self.range.clone()),
            BlockKind::Heading | BlockKind::Row | BlockKind::Code => vec![self.range.clone()],
        }
    }
}

struct Reader<'a> {
    text: &'a str,
    blocks: Vec<Block>,
    /// The paragraph or item that the next line may continue.
    open: Option<Block>,
}

impl Reader<'_> {
    fn push(&mut self, kind: BlockKind, range: Range<usize>) {
        let range = trim(self.text, range);
        if !range.is_empty() {
            self.blocks.push(Block { kind, range });
        }
    }

    fn close(&mut self) {
        let Some(mut block) = self.open.take() else { return };
        let words = self.text[block.range.clone()].trim();
        if block.kind == BlockKind::Paragraph && is_bold_line(words) {
            block.kind = BlockKind::Heading;
        }
        self.push(block.kind, block.range);
    }

    fn line(&mut self, range: Range<usize>) {
        let line = &self.text[range.clone()];
        let quote = line.trim_start_matches([' ', '\t', '>']);
        let quoted = line.trim_start().starts_with('>');
        let content = if quoted { quote } else { line.trim_start() };
        let start = range.end - content.len();
        let words = content.trim_end();
        if matches!(words, "" | "-" | "*" | "+" | "•") {
            return self.close();
        }
        if is_underline(words) {
            if let Some(block) = self.open.as_mut().filter(|block| block.kind == BlockKind::Paragraph) {
                block.kind = BlockKind::Heading;
            }
            return self.close();
        }
        if is_rule(words) {
            return self.close();
        }
        let hashes = words.len() - words.trim_start_matches('#').len();
        if (1..=6).contains(&hashes) && words[hashes..].starts_with([' ', '\t']) {
            self.close();
            let end = start + words.trim_end_matches('#').len().max(hashes);
            return self.push(BlockKind::Heading, start + hashes..end);
        }
        if words.starts_with('|') {
            self.close();
            let is_delimiter = words.chars().all(|c| matches!(c, '|' | '-' | ':' | ' '));
            if !is_delimiter {
                self.push(BlockKind::Row, start..range.end);
            }
            return;
        }
        if let Some((number, marker)) = list_marker(words) {
            // Only a list that begins with 1 may interrupt a paragraph (CommonMark 5.3): "in the year\n1984."
            let in_paragraph = self.open.as_ref().is_some_and(|block| block.kind == BlockKind::Paragraph);
            if !in_paragraph || number.is_none_or(|number| number == 1) {
                self.close();
                let indent = line.len() - line.trim_start().len();
                let kind = BlockKind::Item { number, indent };
                self.open = Some(Block { kind, range: start + marker..range.end });
                return;
            }
        }
        let hard_break = |block: &Block| {
            let before = self.text[block.range.clone()].trim_end_matches(['\n', '\r']);
            before.ends_with("  ") || before.ends_with('\\')
        };
        match self.open.as_mut() {
            Some(block) if !quoted && !hard_break(block) => block.range.end = range.end,
            _ => {
                self.close();
                self.open = Some(Block { kind: BlockKind::Paragraph, range: start..range.end });
            }
        }
    }
}

/// The number of an ordered item, and the bytes of the marker with the space after it.
fn list_marker(words: &str) -> Option<(Option<u32>, usize)> {
    let first = words.chars().next()?;
    let (number, rest) = if matches!(first, '-' | '*' | '+' | '•') {
        (None, &words[first.len_utf8()..])
    } else {
        let digits = words.bytes().take_while(u8::is_ascii_digit).count();
        let number = words[..digits].parse().ok().filter(|_| digits <= 9)?;
        (Some(number), words[digits..].strip_prefix(['.', ')'])?)
    };
    let content = rest.trim_start();
    (content.len() < rest.len() && !content.is_empty()).then(|| (number, words.len() - content.len()))
}

fn is_underline(words: &str) -> bool {
    words.len() >= 2 && (words.bytes().all(|b| b == b'=') || words.bytes().all(|b| b == b'-'))
}

fn is_rule(words: &str) -> bool {
    let marks = words.bytes().filter(|b| *b != b' ').count();
    marks >= 3 && ["*", "_", "-"].iter().any(|mark| words.replace(' ', "").replace(mark, "").is_empty())
}

fn is_bold_line(words: &str) -> bool {
    let inner = words.strip_prefix("**").and_then(|rest| rest.strip_suffix("**"));
    inner.is_some_and(|inner| {
        !inner.contains("**") && !inner.contains('\n') && !inner.ends_with(['.', '!', ':'])
    })
}

fn trim(text: &str, range: Range<usize>) -> Range<usize> {
    let slice = &text[range.clone()];
    let start = range.start + (slice.len() - slice.trim_start().len());
    start..start + slice.trim().len()
}

/// Splits running text. A boundary of UAX 29 stands unless the words around it say otherwise.
fn split(text: &str, range: Range<usize>) -> Vec<Range<usize>> {
    let slice = &text[range.clone()];
    let mut found = Vec::new();
    let mut start = 0;
    for (bound, _) in slice.split_sentence_bound_indices().skip(1) {
        let bound = bound + closing_markup(&slice[bound..], slice[..bound].chars().next_back());
        if bound > start && is_boundary(&slice[start..bound], &slice[bound..]) {
            found.push(trim(text, range.start + start..range.start + bound));
            start = bound;
        }
    }
    found.push(trim(text, range.start + start..range.end));
    found.retain(|sentence| !sentence.is_empty());
    found
}

/// Bytes of emphasis that close before a boundary: UAX 29 puts the `**` of "**Note.** Then" after it.
fn closing_markup(right: &str, before: Option<char>) -> usize {
    let marks = right.len() - right.trim_start_matches(['*', '_', '~', '`']).len();
    let closes = right[marks..].chars().next().is_none_or(char::is_whitespace);
    if before.is_some_and(|c| !c.is_whitespace()) && closes { marks } else { 0 }
}

fn is_boundary(left: &str, right: &str) -> bool {
    let left = left.trim_end();
    let bare = left.trim_end_matches(['*', '_', '~', '`', '"', '\'', '”', '’', '»', ')', ']', '}']);
    let Some(mark) = bare.chars().next_back() else { return false };
    let right = right.trim_start();
    let next = right.trim_start_matches(|c: char| !c.is_alphanumeric());
    let next_is_lower = next.chars().next().is_some_and(char::is_lowercase);
    match mark {
        '.' | '…' => !next_is_lower && !is_abbreviated(bare.trim_end_matches(['.', '…']), next),
        // A quoted question goes on after its quote: "Lost?" she asked.
        '!' | '?' => !(next_is_lower && bare.len() < left.len()),
        '‼' | '‽' | '⁇' | '⁈' | '⁉' | '。' | '！' | '？' | '．' | '।' | '։' | '؟' => true,
        _ => false,
    }
}

/// Whether the full stop after `left` belongs to its last word.
fn is_abbreviated(left: &str, next: &str) -> bool {
    let last = left.rsplit(|c: char| c.is_whitespace() || matches!(c, '(' | '[' | '"' | '“' | '*' | '_'));
    let last = last.into_iter().next().unwrap_or_default();
    let word = last.to_lowercase();
    // "1." or "(b." alone is the number of what follows.
    let alone = left.trim_start().len() == last.len() && !word.is_empty();
    if alone && (word.len() <= 3 && word.bytes().all(|b| b.is_ascii_digit()) || word.len() == 1) {
        return true;
    }
    if NEVER_LAST.contains(&word.as_str()) {
        return true;
    }
    let is_initial = last.chars().count() == 1 && last.chars().all(char::is_uppercase) && last != "I";
    if BEFORE_NUMBER.contains(&word.as_str()) && !is_initial {
        return next.starts_with(|c: char| c.is_ascii_digit());
    }
    let is_dotted = last.contains('.') && last.split('.').all(|part| part.chars().count() == 1);
    if SOMETIMES_LAST.contains(&word.as_str()) || is_initial || is_dotted {
        let next_word: String = next.chars().take_while(|c| c.is_alphanumeric()).collect();
        return !next_word.is_empty() && !BEGINNERS.contains(&next_word.to_lowercase().as_str());
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split_all(text: &str) -> Vec<&str> {
        sentences(text).into_iter().map(|range| &text[range]).collect()
    }

    #[test]
    fn abbreviations_numbers_and_initials_do_not_end_a_sentence() {
        let kept = [
            "Dr. Miller charges 3.50 pounds, e.g. for cheques.",
            "Call ext. 12 or see No. 5 of the list.",
            "Use J. P. Smith Ltd. Leeds as the name.",
            "We close at 5 p.m. Monday to Friday, i.e. on weekdays.",
            "Visit www.bank.example/a.html today.",
            "\"Lost?\" she asked.",
            "Das gilt z.B. Montags.",
        ];
        for sentence in kept {
            assert_eq!(split_all(sentence), [sentence]);
        }
        assert_eq!(
            split_all("We close at 5 p.m. The line is open."),
            ["We close at 5 p.m.", "The line is open."]
        );
        assert_eq!(split_all("Can I? No. You cannot."), ["Can I?", "No.", "You cannot."]);
        assert_eq!(
            split_all("It costs $5. Version 2.0 is new! Ok"),
            ["It costs $5.", "Version 2.0 is new!", "Ok"]
        );
        assert_eq!(split_all("一つ目。二つ目！"), ["一つ目。", "二つ目！"]);
    }

    #[test]
    fn lines_of_markdown_end_sentences_but_soft_wraps_do_not() {
        let text = "# Lost card #\nFreeze it\nat once. **Then call.** Do it now.\n\n1. Open the app.\n2. Tap *Freeze*\n   - Wait\n\nFees\n----\n| a | b |\n|---|---|\n| 1. x | 2 |\n```\nlet a. B\n```\n> Quoted. Text\n***\n**Bold title**\nend";
        let expected = [
            "Lost card",
            "Freeze it\nat once.",
            "**Then call.**",
            "Do it now.",
            "Open the app.",
            "Tap *Freeze*",
            "Wait",
            "Fees",
            "| a | b |",
            "| 1. x | 2 |",
            "let a. B",
            "Quoted.",
            "Text",
            "**Bold title**\nend",
        ];
        assert_eq!(split_all(text), expected);
        let kinds: Vec<_> = blocks(text).into_iter().map(|block| block.kind).collect();
        assert_eq!(kinds[0], BlockKind::Heading);
        assert_eq!(
            kinds[2..5],
            [
                BlockKind::Item { number: Some(1), indent: 0 },
                BlockKind::Item { number: Some(2), indent: 0 },
                BlockKind::Item { number: None, indent: 3 },
            ]
        );
        assert_eq!(kinds[5], BlockKind::Heading);
    }

    #[test]
    fn inline_numbering_stays_with_its_step_and_a_year_is_no_list() {
        assert_eq!(split_all("1) Ask. 2. Wait."), ["Ask.", "2. Wait."]);
        assert_eq!(
            split_all("It opened in the year\n1984. It is old."),
            ["It opened in the year\n1984.", "It is old."]
        );
        assert_eq!(split_all("- \n-\n\n  \n"), Vec::<&str>::new().as_slice());
    }

    #[test]
    fn ranges_are_ordered_disjoint_trimmed_and_cover_every_letter() {
        let text = "Ünï. **a.** b\r\n\r\n* c.\u{a0}D?)\u{2028}e… F.\n~~~\nx\n1. y. Z";
        let found = sentences(text);
        assert!(found.windows(2).all(|pair| pair[0].end <= pair[1].start));
        assert!(
            found.iter().all(|range| !range.is_empty() && text[range.clone()].trim() == &text[range.clone()])
        );
        let covered = |at: usize| found.iter().any(|range| range.contains(&at));
        let lost: Vec<_> = text.char_indices().filter(|(at, c)| c.is_alphabetic() && !covered(*at)).collect();
        assert!(lost.is_empty(), "{lost:?}");
    }
}
