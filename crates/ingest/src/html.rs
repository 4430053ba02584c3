//! HTML as Markdown: one pass over the tokens of the page, without a tree, so that no nesting and no
//! length of it costs more than its bytes.

use html5gum::{DefaultEmitter, StartTag, Token, Tokenizer};

use crate::markup::{Block, MAX_TEXT_BYTES, Markup};
use crate::read::Page;
use crate::refusal::{MAX_DEPTH, Refusal};

/// Elements whose end matters. Others, such as `span`, are transparent.
const STRUCTURE: [&str; 74] = [
    "address",
    "article",
    "aside",
    "audio",
    "blockquote",
    "body",
    "button",
    "canvas",
    "caption",
    "center",
    "colgroup",
    "datalist",
    "dd",
    "details",
    "dialog",
    "dir",
    "div",
    "dl",
    "dt",
    "fieldset",
    "figcaption",
    "figure",
    "footer",
    "form",
    "frameset",
    "h1",
    "h2",
    "h3",
    "h4",
    "h5",
    "h6",
    "head",
    "header",
    "hgroup",
    "iframe",
    "li",
    "main",
    "map",
    "math",
    "menu",
    "nav",
    "noframes",
    "noscript",
    "object",
    "ol",
    "optgroup",
    "option",
    "p",
    "pre",
    "rp",
    "script",
    "search",
    "section",
    "select",
    "style",
    "summary",
    "svg",
    "table",
    "tbody",
    "td",
    "template",
    "textarea",
    "tfoot",
    "th",
    "thead",
    "title",
    "tr",
    "ul",
    "video",
    "xmp",
    "listing",
    "plaintext",
    "noembed",
    "applet",
];
/// Elements that hold no words of the article.
const DROPPED: [&str; 26] = [
    "audio", "button", "canvas", "datalist", "dialog", "footer", "head", "iframe", "map", "math", "nav",
    "noembed", "noframes", "noscript", "object", "optgroup", "option", "rp", "script", "search", "select",
    "style", "svg", "template", "textarea", "video",
];

/// What part of a page is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scope {
    /// Inside `main`.
    Main,
    /// Inside `article`.
    Article,
    /// Everything but navigation, headers and forms.
    Body,
    /// Forms and headers too: some sites wrap the whole page in one.
    Whole,
}

/// Reads a page; its title is its only `h1`, else `title`.
pub(crate) fn read(html: &str) -> Result<Page, Refusal> {
    for scope in [Scope::Main, Scope::Article, Scope::Body, Scope::Whole] {
        let reader = Reader::run(html, scope)?;
        let title = (reader.headlines == 1).then_some(reader.headline).or(reader.title);
        let (heading, text) = reader.markup.finish();
        if !text.trim().is_empty() {
            let title = title.filter(|title| !title.trim().is_empty()).or(heading);
            return Ok(Page { title, text, notes: Vec::new() });
        }
    }
    Err(Refusal::NoText)
}

/// An open element.
struct Open {
    name: &'static str,
    dropped: bool,
    content: bool,
}

struct Reader {
    scope: Scope,
    markup: Markup,
    stack: Vec<Open>,
    /// How many of the open elements drop their words, hold the content, and are bold.
    dropped: usize,
    content: usize,
    bold: usize,
    /// The open lists: the number of the next item of an ordered one.
    lists: Vec<Option<usize>>,
    /// Text of the open `pre`.
    verbatim: Option<String>,
    title: Option<String>,
    headline: String,
    headlines: usize,
}

impl Reader {
    fn run(html: &str, scope: Scope) -> Result<Self, Refusal> {
        let mut reader = Self {
            scope,
            markup: Markup::new(),
            stack: Vec::new(),
            dropped: 0,
            content: 0,
            bold: 0,
            lists: Vec::new(),
            verbatim: None,
            title: None,
            headline: String::new(),
            headlines: 0,
        };
        let mut emitter = DefaultEmitter::default();
        emitter.naively_switch_states(true);
        for token in Tokenizer::new_with_emitter(html, emitter) {
            match token {
                Ok(Token::StartTag(tag)) => reader.start(&tag)?,
                Ok(Token::EndTag(tag)) => reader.end(&String::from_utf8_lossy(&tag.name)),
                Ok(Token::String(text)) => reader.text(&String::from_utf8_lossy(&text.value)),
                _ => {}
            }
            if reader.markup.bytes() > MAX_TEXT_BYTES {
                return Err(Refusal::TooMuchText);
            }
        }
        while !reader.stack.is_empty() {
            reader.pop();
        }
        Ok(reader)
    }

    /// Whether words here belong to the article.
    fn shown(&self) -> bool {
        let inside = self.content > 0 || matches!(self.scope, Scope::Body | Scope::Whole);
        inside && self.dropped == 0
    }

    fn text(&mut self, text: &str) {
        if self.stack.last().is_some_and(|open| open.name == "title") {
            let in_head = self.stack.iter().all(|open| matches!(open.name, "title" | "head"));
            if in_head {
                self.title.get_or_insert_default().push_str(text);
            }
            return;
        }
        if !self.shown() {
            return;
        }
        if self.stack.last().is_some_and(|open| open.name == "h1") {
            self.headline.push_str(text);
        }
        match &mut self.verbatim {
            Some(verbatim) => verbatim.push_str(text),
            None => self.markup.text(text, self.bold > 0),
        }
    }

    fn start(&mut self, tag: &StartTag<()>) -> Result<(), Refusal> {
        let name = String::from_utf8_lossy(&tag.name);
        match name.as_ref() {
            "br" if self.shown() => match &mut self.verbatim {
                Some(verbatim) => verbatim.push('\n'),
                None => self.markup.line_break(),
            },
            "hr" if self.shown() => self.markup.open(Block::Paragraph),
            "b" | "strong" => self.bold += 1,
            _ => {}
        }
        let Some(name) = STRUCTURE.iter().find(|known| **known == name) else { return Ok(()) };
        // Only foreign elements end themselves.
        if tag.self_closing && matches!(*name, "svg" | "math") {
            return Ok(());
        }
        self.close_implied(name);
        if self.stack.len() == MAX_DEPTH {
            return Err(Refusal::TooDeep);
        }
        let role = tag.attributes.get(b"role".as_slice()).map(|role| role.value.0.as_slice());
        let content = match self.scope {
            Scope::Main => *name == "main" || role == Some(b"main"),
            Scope::Article => *name == "article",
            Scope::Body | Scope::Whole => false,
        };
        let dropped = match *name {
            // The header of an article holds its headline.
            "header" => self.scope != Scope::Whole && self.content == 0 && !self.is_open("article"),
            "form" => self.scope != Scope::Whole,
            name => {
                DROPPED.contains(&name) || role.is_some_and(|role| role == b"navigation" || role == b"search")
            }
        };
        self.dropped += usize::from(dropped);
        self.content += usize::from(content);
        self.stack.push(Open { name, dropped, content });
        if self.shown() {
            self.open(name);
        }
        Ok(())
    }

    fn open(&mut self, name: &str) {
        match name {
            "ul" | "menu" | "dir" => {
                self.markup.close();
                self.lists.push(None);
            }
            "ol" => {
                self.markup.close();
                self.lists.push(Some(1));
            }
            "li" => {
                let depth = self.lists.len().saturating_sub(1);
                let number = self.lists.last_mut().and_then(|list| {
                    let number = *list;
                    *list = list.map(|number| number + 1);
                    number
                });
                self.markup.open(Block::Item(depth, number));
            }
            "pre" | "xmp" | "listing" => {
                self.markup.close();
                self.verbatim = Some(String::new());
            }
            "table" => self.markup.open_table(),
            "td" | "th" | "tr" | "thead" | "tbody" | "tfoot" => {}
            "dt" | "summary" => self.markup.open(Block::Lead),
            "h1" => {
                self.headlines += 1;
                self.markup.open(Block::Heading(1));
            }
            _ => match name.strip_prefix('h').and_then(|level| level.parse().ok()) {
                Some(level) => self.markup.open(Block::Heading(level)),
                None => self.markup.open(Block::Paragraph),
            },
        }
    }

    fn is_open(&self, name: &str) -> bool {
        self.stack.iter().any(|open| open.name == name)
    }

    /// Ends what a browser would end before an element of this name.
    fn close_implied(&mut self, name: &str) {
        let (ended, until): (&[&str], &[&str]) = match name {
            "li" => (&["li"], &["ul", "ol", "menu", "dir", "td", "th"]),
            "dt" | "dd" => (&["dt", "dd"], &["dl", "td", "th"]),
            "tr" => (&["tr", "caption", "colgroup"], &["table"]),
            "td" | "th" => (&["td", "th", "caption"], &["tr", "table"]),
            "thead" | "tbody" | "tfoot" => (&["thead", "tbody", "tfoot", "caption", "colgroup"], &["table"]),
            "option" | "optgroup" => (&["option"], &["select"]),
            "body" => (&["head"], &[]),
            "h1" | "h2" | "h3" | "h4" | "h5" | "h6" => (
                &["p", "h1", "h2", "h3", "h4", "h5", "h6"],
                &["div", "section", "li", "td", "main", "article"],
            ),
            // Whatever may stand in the head leaves it open.
            "title" | "script" | "style" | "noscript" | "template" | "head" | "svg" | "math" | "button"
            | "select" | "textarea" => return,
            _ => (&["p"], &["div", "section", "li", "td", "th", "main", "article", "button", "object"]),
        };
        self.pop_to(ended, until);
        if self.stack.last().is_some_and(|open| open.name == "head") {
            self.pop();
        }
    }

    /// Pops up to and with the nearest of `ended`, unless one of `until` stands before it.
    fn pop_to(&mut self, ended: &[&str], until: &[&str]) {
        let found =
            self.stack.iter().rposition(|open| ended.contains(&open.name) || until.contains(&open.name));
        let Some(at) = found.filter(|at| ended.contains(&self.stack[*at].name)) else { return };
        while self.stack.len() > at {
            self.pop();
        }
    }

    fn end(&mut self, name: &str) {
        match name {
            "b" | "strong" => self.bold = self.bold.saturating_sub(1),
            // What is outside of a cell is not ended from within.
            "table" | "thead" | "tbody" | "tfoot" | "tr" | "body" | "html" => self.pop_to(&[name], &[]),
            "td" | "th" => self.pop_to(&[name], &["table"]),
            "li" => self.pop_to(&["li"], &["ul", "ol", "menu", "dir", "td", "th"]),
            _ => self.pop_to(&[name], &["td", "th"]),
        }
    }

    fn pop(&mut self) {
        let shown = self.shown();
        let Some(open) = self.stack.pop() else { return };
        self.dropped -= usize::from(open.dropped);
        self.content -= usize::from(open.content);
        // An element that ends ends the bold that was never closed inside it.
        if self.stack.is_empty() || matches!(open.name, "p" | "li" | "td" | "th" | "h1" | "h2" | "h3") {
            self.bold = 0;
        }
        if !shown {
            return;
        }
        match open.name {
            "ul" | "ol" | "menu" | "dir" => {
                self.markup.close();
                self.lists.pop();
            }
            "pre" | "xmp" | "listing" => {
                let text = self.verbatim.take().unwrap_or_default();
                self.markup.verbatim(&text);
            }
            "td" | "th" if self.tables() == 1 => self.markup.close_cell(),
            "tr" if self.tables() == 1 => self.markup.close_row(),
            "table" if self.tables() == 0 => self.markup.close_table(),
            _ => self.markup.close(),
        }
    }

    fn tables(&self) -> usize {
        self.stack.iter().filter(|open| open.name == "table").count()
    }
}
