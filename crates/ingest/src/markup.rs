//! Writing Markdown block by block, whatever the text comes from.

/// Largest text one file may hold, in bytes: sixteen documents of a bundle.
pub(crate) const MAX_TEXT_BYTES: usize = 16 * bundle::MAX_DOCUMENT_BYTES;
/// A bold paragraph up to this many bytes stays bold: it is a heading in all but name.
const MAX_BOLD_BYTES: usize = 200;
/// A row with more bytes is layout, not data: its cells become paragraphs.
const MAX_ROW_BYTES: usize = 2000;

/// What the words of a block are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Block {
    Paragraph,
    /// Level 1 to 6.
    Heading(usize),
    /// A bold line of its own, such as the question of a folded answer.
    Lead,
    /// An item of a list, by its depth from 0; a number when the list is ordered.
    Item(usize, Option<usize>),
}

/// A Markdown text in the making. White space is folded; blocks are one line each but for hard breaks.
#[derive(Debug)]
pub(crate) struct Markup {
    out: String,
    block: Block,
    words: String,
    /// Letters of `words` that are bold.
    bold: usize,
    /// The rows of the open table, each its cells; nested tables are part of their cell.
    table: Option<Table>,
    first_heading: Option<String>,
}

#[derive(Debug, Default)]
struct Table {
    columns: usize,
    rows: usize,
    cells: Vec<String>,
}

impl Markup {
    pub(crate) fn new() -> Self {
        Self {
            out: String::new(),
            block: Block::Paragraph,
            words: String::new(),
            bold: 0,
            table: None,
            first_heading: None,
        }
    }

    /// Begins a block; inside a table it is only a space. The first paragraph of an item is its text.
    pub(crate) fn open(&mut self, block: Block) {
        if matches!(self.block, Block::Item(..)) && block == Block::Paragraph && self.words.trim().is_empty()
        {
            return;
        }
        self.close();
        self.block = block;
    }

    /// Adds words to the open block; any run of white space counts as one space.
    pub(crate) fn text(&mut self, text: &str, bold: bool) {
        for c in text.chars() {
            if c.is_whitespace() || c.is_control() {
                if !self.words.is_empty() && !self.words.ends_with([' ', '\n']) {
                    self.words.push(' ');
                }
            } else if c != '\u{ad}' && c != '\u{200b}' && c != '\u{feff}' {
                self.words.push(c);
                self.bold += if bold { c.len_utf8() } else { 0 };
            }
        }
    }

    /// A hard break: a line of its own in a paragraph, a space elsewhere.
    pub(crate) fn line_break(&mut self) {
        self.words.truncate(self.words.trim_end().len());
        match (self.block, &self.table) {
            _ if self.words.is_empty() => {}
            (Block::Paragraph, None) => self.words.push('\n'),
            _ => self.words.push(' '),
        }
    }

    /// Ends the open block.
    pub(crate) fn close(&mut self) {
        if self.table.is_some() {
            return self.text(" ", false);
        }
        let words = std::mem::take(&mut self.words);
        let words = words.trim().trim_end_matches('¶').trim_end();
        let bold = std::mem::take(&mut self.bold);
        let block = std::mem::replace(&mut self.block, Block::Paragraph);
        if words.is_empty() {
            return;
        }
        let letters = words.chars().filter(|c| !c.is_whitespace()).map(char::len_utf8).sum::<usize>();
        let all_bold = bold >= letters && words.len() <= MAX_BOLD_BYTES && !words.contains('\n');
        match block {
            Block::Heading(level) => {
                self.first_heading.get_or_insert_with(|| words.to_owned());
                self.separate("\n\n");
                self.out.push_str(&"#".repeat(level.clamp(1, 6)));
                self.out.push(' ');
                self.out.push_str(words);
            }
            Block::Item(depth, number) => {
                self.separate(if self.last_is_item() { "\n" } else { "\n\n" });
                self.out.push_str(&"   ".repeat(depth.min(8)));
                match number {
                    Some(number) => self.out.push_str(&format!("{number}. ")),
                    None => self.out.push_str("- "),
                }
                self.out.push_str(words);
            }
            Block::Lead | Block::Paragraph if all_bold || block == Block::Lead => {
                self.separate("\n\n");
                self.out.push_str(&format!("**{words}**"));
            }
            Block::Lead | Block::Paragraph => {
                self.separate("\n\n");
                if words.starts_with(['#', '>', '|', '`', '~']) {
                    self.out.push('\\');
                }
                self.out.push_str(words);
            }
        }
    }

    /// Code or other text whose lines stay as they are.
    pub(crate) fn verbatim(&mut self, text: &str) {
        if self.table.is_some() {
            return self.text(text, false);
        }
        self.close();
        let text = text.trim_matches('\n').trim_end();
        if !text.trim().is_empty() {
            self.separate("\n\n");
            // A fence inside would end this one.
            self.out.push_str(&format!("```\n{}\n```", text.replace("```", "'''")));
        }
    }

    pub(crate) fn open_table(&mut self) {
        self.close();
        self.table.get_or_insert_default();
    }

    pub(crate) fn close_cell(&mut self) {
        let cell = std::mem::take(&mut self.words);
        self.bold = 0;
        if let Some(table) = &mut self.table {
            table.cells.push(cell.split_whitespace().collect::<Vec<_>>().join(" "));
        }
    }

    pub(crate) fn close_row(&mut self) {
        let Some(table) = &mut self.table else { return };
        let cells = std::mem::take(&mut table.cells);
        let filled = cells.iter().filter(|cell| !cell.is_empty()).count();
        if filled == 0 {
            return;
        }
        let bytes = cells.iter().map(String::len).sum::<usize>();
        if bytes > MAX_ROW_BYTES || cells.len() == 1 {
            table.rows = 0;
            for cell in cells.iter().filter(|cell| !cell.is_empty()) {
                self.separate("\n\n");
                self.out.push_str(cell);
            }
            return;
        }
        table.rows += 1;
        let (first, width) = (table.rows == 1, cells.len());
        table.columns = if first { width } else { table.columns };
        let columns = table.columns.max(width);
        self.separate(if first { "\n\n" } else { "\n" });
        let cells: Vec<_> = cells.iter().map(|cell| cell.replace('|', "\\|")).collect();
        let padding = " |".repeat(columns - width);
        self.out.push_str(&format!("| {} |{padding}", cells.join(" | ")));
        if first {
            self.out.push_str(&format!("\n|{}", "---|".repeat(columns)));
        }
    }

    pub(crate) fn close_table(&mut self) {
        if !self.words.trim().is_empty() {
            self.close_cell();
        }
        self.close_row();
        self.words.clear();
        self.table = None;
        self.block = Block::Paragraph;
    }

    /// Bytes written so far.
    pub(crate) fn bytes(&self) -> usize {
        self.out.len() + self.words.len()
    }

    /// The first heading, if any, and the text.
    pub(crate) fn finish(mut self) -> (Option<String>, String) {
        self.close_table();
        self.close();
        (self.first_heading, self.out)
    }

    fn last_is_item(&self) -> bool {
        let line = self.out.rsplit('\n').next().unwrap_or_default().trim_start();
        let after_number = line.trim_start_matches(|c: char| c.is_ascii_digit());
        line.starts_with("- ") || (after_number.len() < line.len() && after_number.starts_with(". "))
    }

    fn separate(&mut self, between: &str) {
        if !self.out.is_empty() {
            self.out.push_str(between);
        }
    }
}
