//! Markdown into passages: by headings, then by paragraphs and list items, each a slice of the document.

use std::ops::Range;

use text::{Block, BlockKind};

/// Shorter neighbours are joined: a passage this long can be understood without the ones around it.
const MIN_WORDS: usize = 80;
/// A longer passage dilutes its words for BM25 and the attention of a reader.
const MAX_WORDS: usize = 220;
/// No passage is longer, whatever it holds, so that 100 of them fit into one message.
const MAX_BYTES: usize = 8 * 1024;
/// Languages without spaces count as one word for so many bytes.
const BYTES_A_WORD: usize = 12;

/// Where a passage lies in its document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// The headings above the passage from the outermost, joined by " > "; empty above the first heading.
    /// Headings inside the passage are part of its text instead.
    pub heading: String,
    /// Bytes of the content, trimmed, never empty.
    pub range: Range<usize>,
}

/// The passages of a document in their order: about 80 to 220 words each and at most 8 KiB. A list item or
/// a sentence is split only when it alone is longer than 8 KiB. Empty when the content is blank.
pub fn chunks(content: &str) -> Vec<Chunk> {
    let mut packer = Packer { content, done: Vec::new(), open: None };
    for section in sections(content) {
        packer.take(section);
    }
    packer.close();
    packer.done
}

/// A heading: its first byte tells it from another with the same words.
#[derive(Debug, Clone, PartialEq)]
struct Heading {
    level: usize,
    range: Range<usize>,
}

/// What is never split: a sentence of a long paragraph, a short paragraph, an item with its own items.
#[derive(Debug, Clone)]
struct Unit {
    range: Range<usize>,
    words: usize,
    /// Indent of the list item it began with.
    indent: Option<usize>,
}

/// The units under one heading.
#[derive(Debug)]
struct Section {
    path: Vec<Heading>,
    /// First byte of the heading's line.
    start: usize,
    units: Vec<Unit>,
}

fn sections(content: &str) -> Vec<Section> {
    let mut sections = vec![Section { path: Vec::new(), start: 0, units: Vec::new() }];
    for block in text::blocks(content) {
        if block.kind == BlockKind::Heading {
            let heading = Heading { level: level(content, &block.range), range: block.range };
            let mut path = sections.last().map(|section| section.path.clone()).unwrap_or_default();
            path.retain(|above| above.level < heading.level);
            path.push(heading);
            keep_bare_heading(content, &mut sections, path.len());
            let start = path.last().map_or(0, |heading| line_start(content, heading.range.start));
            sections.push(Section { path, start, units: Vec::new() });
        } else if let Some(section) = sections.last_mut() {
            add(content, &block, &mut section.units);
        }
    }
    keep_bare_heading(content, &mut sections, 0);
    sections.retain(|section| !section.units.is_empty());
    sections
}

/// A heading with nothing below it is content: no passage would hold its words otherwise.
fn keep_bare_heading(content: &str, sections: &mut [Section], next_depth: usize) {
    let Some(section) = sections.last_mut().filter(|section| section.units.is_empty()) else { return };
    if next_depth <= section.path.len()
        && let Some(heading) = section.path.pop()
    {
        section.units.push(unit(content, section.start..heading.range.end, None));
    }
}

/// 1 to 6 by the number of `#`, 1 or 2 by the underline, 7 for a line of bold words.
fn level(content: &str, range: &Range<usize>) -> usize {
    let line = content[line_start(content, range.start)..range.start].trim_start_matches([' ', '\t', '>']);
    let hashes = line.bytes().take_while(|byte| *byte == b'#').count();
    let below = content[range.end..].trim_start_matches([' ', '\t', '\r']).strip_prefix('\n').unwrap_or("");
    match below.trim_start().as_bytes().first() {
        _ if hashes > 0 => hashes,
        Some(b'=') => 1,
        Some(b'-') if !content[range.clone()].starts_with("**") => 2,
        _ => 7,
    }
}

fn add(content: &str, block: &Block, units: &mut Vec<Unit>) {
    let start = line_start(content, block.range.start);
    let (range, indent) = match block.kind {
        BlockKind::Item { indent, .. } => (start..block.range.end, Some(indent)),
        BlockKind::Code => (with_fences(content, &block.range), None),
        _ => (start..block.range.end, None),
    };
    let next = unit(content, range, indent);
    if let Some(last) = units.last_mut() {
        let joined = unit(content, last.range.start..next.range.end, last.indent.or(next.indent));
        let is_nested = matches!((last.indent, next.indent), (Some(outer), Some(inner)) if inner > outer);
        let is_announced = content[last.range.clone()].ends_with(':');
        if (is_nested || is_announced) && joined.words <= MAX_WORDS {
            *last = joined;
            return;
        }
    }
    let is_long_paragraph = block.kind == BlockKind::Paragraph && next.words > MAX_WORDS;
    if !is_long_paragraph && next.range.len() <= MAX_BYTES {
        return units.push(next);
    }
    let mut start = next.range.start;
    for sentence in block.sentences(content) {
        while sentence.end - start > MAX_BYTES {
            let end = cut(content, start);
            units.push(unit(content, start..end, None));
            start = end;
        }
        units.push(unit(content, start..sentence.end, None));
        start = sentence.end;
    }
}

/// The last white space, or else the last character, that ends within the size of a passage.
fn cut(content: &str, start: usize) -> usize {
    let end = content.floor_char_boundary(start + MAX_BYTES);
    let space = content[start..end].rfind(char::is_whitespace).filter(|at| *at > 0);
    space.map_or(end, |at| start + at)
}

fn unit(content: &str, range: Range<usize>, indent: Option<usize>) -> Unit {
    let slice = &content[range.clone()];
    let start = range.start + slice.len() - slice.trim_start().len();
    let slice = slice.trim();
    let words = slice.split_whitespace().count().max(slice.len() / BYTES_A_WORD);
    Unit { range: start..start + slice.len(), words, indent }
}

fn line_start(content: &str, at: usize) -> usize {
    content[..at].rfind('\n').map_or(0, |newline| newline + 1)
}

/// The content of a code block with the lines that open and close it.
fn with_fences(content: &str, range: &Range<usize>) -> Range<usize> {
    let start = line_start(content, content[..range.start].trim_end().len());
    let rest = content[range.end..].trim_start();
    let is_closed = rest.starts_with("```") || rest.starts_with("~~~");
    let close = rest.find('\n').unwrap_or(rest.len());
    let end = if is_closed { content.len() - rest.len() + close } else { range.end };
    start..end
}

/// A passage that the next section may still join.
struct Open {
    path: Vec<Heading>,
    /// First byte of the line of its heading; none when the section began in an earlier passage.
    start: Option<usize>,
    range: Range<usize>,
    words: usize,
}

struct Packer<'a> {
    content: &'a str,
    done: Vec<Chunk>,
    open: Option<Open>,
}

impl Packer<'_> {
    fn take(&mut self, section: Section) {
        let words = section.units.iter().map(|unit| unit.words).sum::<usize>();
        let end = section.units.last().map_or(section.start, |unit| unit.range.end);
        if let Some(open) = &mut self.open
            && let Some(start) = open.start
        {
            let is_short = open.words < MIN_WORDS || words < MIN_WORDS;
            if is_short && open.words + words <= MAX_WORDS && end - start <= MAX_BYTES {
                // From here on the headings are in the text, but for those above all of it.
                let shared = open.path.iter().zip(&section.path).take_while(|(a, b)| a == b).count();
                open.path.truncate(shared);
                open.range = start..end;
                open.words += words;
                return;
            }
        }
        self.close();
        let mut start = Some(section.start);
        // Passages of about the same length, rather than full ones and a short rest.
        let target = words / words.div_ceil(MAX_WORDS).max(1);
        for unit in section.units {
            if let Some(open) = &mut self.open {
                let fits =
                    open.words + unit.words <= MAX_WORDS && unit.range.end - open.range.start <= MAX_BYTES;
                if fits && open.words < target {
                    open.range.end = unit.range.end;
                    open.words += unit.words;
                    continue;
                }
                self.close();
            }
            let path = section.path.clone();
            self.open = Some(Open { path, start: start.take(), range: unit.range, words: unit.words });
        }
    }

    fn close(&mut self) {
        let Some(open) = self.open.take() else { return };
        let titles: Vec<&str> =
            open.path.iter().map(|heading| self.content[heading.range.clone()].trim_matches('*')).collect();
        let range = unit(self.content, open.range, None).range;
        self.done.push(Chunk { heading: titles.join(" > "), range });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(count: usize, word: &str) -> String {
        vec![word; count].join(" ")
    }

    fn shown<'a>(content: &'a str, found: &'a [Chunk]) -> Vec<(&'a str, &'a str)> {
        found.iter().map(|chunk| (chunk.heading.as_str(), &content[chunk.range.clone()])).collect()
    }

    #[test]
    fn short_sections_share_a_passage_and_long_ones_keep_their_heading_path() {
        let (fee, limit) = (words(90, "fee"), words(120, "limit"));
        let content = format!(
            "Intro.\n\n# Card\n## Fees\n{fee}\n## Limits\n{limit}\n## See\nApp.\n### More\nWeb.\n# End"
        );
        let found = chunks(&content);
        let expected = [
            ("", format!("Intro.\n\n# Card\n## Fees\n{fee}")),
            ("Card", format!("## Limits\n{limit}\n## See\nApp.\n### More\nWeb.")),
        ];
        let found = shown(&content, &found);
        assert_eq!(found[0], (expected[0].0, expected[0].1.as_str()));
        assert!(found[1].1.starts_with("## Limits") && found[1].1.ends_with("# End"), "{found:?}");
        let alone = format!("# Card\n## Fees\n{fee}\n## Limits\n{limit}");
        assert_eq!(
            shown(&alone, &chunks(&alone)),
            [("Card > Fees", fee.as_str()), ("Card > Limits", &limit)]
        );
    }

    #[test]
    fn a_list_item_stays_whole_with_its_own_items_and_its_announcement() {
        let item = |n: usize| format!("{n}. {}\n   - {}", words(60, "step"), words(20, "note"));
        let content = format!("## Do this\nPlease:\n\n{}", (1..=6).map(item).collect::<Vec<_>>().join("\n"));
        let found = chunks(&content);
        assert_eq!(found.len(), 3);
        assert!(content[found[0].range.clone()].starts_with("Please:\n\n1. step"));
        for chunk in &found {
            assert_eq!(chunk.heading, "Do this");
            let text = &content[chunk.range.clone()];
            assert!(text.starts_with(|c: char| c.is_ascii_digit()) || text.starts_with("Please"));
            assert!(text.ends_with("note"), "{text}");
        }
    }

    #[test]
    fn a_long_paragraph_is_cut_between_sentences_and_a_giant_word_anywhere() {
        let sentence = format!("S{}.", words(30, "o"));
        let content = vec![sentence.as_str(); 20].join(" ");
        let found = chunks(&content);
        assert!(found.len() >= 3);
        assert!(found.iter().all(|chunk| content[chunk.range.clone()].starts_with("So ")));
        assert!(found.iter().all(|chunk| content[chunk.range.clone()].ends_with('.')));
        let giant = "é".repeat(20_000);
        let found = chunks(&giant);
        assert_eq!(shown(&giant, &found).into_iter().map(|(_, text)| text).collect::<String>(), giant);
        assert!(found.iter().all(|chunk| chunk.range.len() <= MAX_BYTES));
    }

    #[test]
    fn a_code_block_keeps_its_fences_and_blank_content_has_no_passage() {
        let content = "Run:\n\n```sh\n\nls\n```\nDone.";
        assert_eq!(shown(content, &chunks(content)), [("", content)]);
        assert!(chunks(" \n\t\n").is_empty());
        assert_eq!(shown("# Only", &chunks("# Only")), [("", "# Only")]);
    }

    proptest::proptest! {
        #[test]
        fn passages_are_ordered_trimmed_slices_that_hold_every_letter(
            content in "([#>|*`~=. \\-\n\t]|1\\.|- |```|## |[a-zé]{1,5}|\n\n){0,200}"
        ) {
            let found = chunks(&content);
            assert!(found.windows(2).all(|pair| pair[0].range.end <= pair[1].range.start));
            let mut lost: Vec<bool> = content.bytes().map(|byte| byte.is_ascii_alphabetic()).collect();
            for chunk in &found {
                let slice = &content[chunk.range.clone()];
                assert!(!slice.is_empty() && slice.trim() == slice && slice.len() <= MAX_BYTES);
                lost[chunk.range.clone()].fill(false);
            }
            let headings = found.iter().map(|chunk| chunk.heading.as_str()).collect::<String>();
            let lost: String = content.bytes().zip(lost).filter(|(_, lost)| *lost).map(|(byte, _)| byte as char).collect();
            assert!(lost.chars().all(|c| headings.contains(c) || content.contains("```")), "{lost:?}");
        }
    }
}
