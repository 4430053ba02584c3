//! The side of the reader: a process of its own, which reads one untrusted document from its standard
//! input under limits and answers on its standard output.

use std::io::{Read as _, Write as _};

use serde::{Deserialize, Serialize};

use crate::refusal::{MAX_FILE_BYTES, Refusal};
use crate::{decode, docx, html, pdf, sitemap};

/// Memory a reader may take beyond what its program has mapped at its start, in MiB.
pub(crate) const MEMORY_MIB: u64 = 512;
/// Time a reader may take, in seconds.
pub(crate) const SECONDS: u64 = 20;

/// What a reader reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Html,
    Pdf,
    Docx,
    Sitemap,
}

impl Format {
    const ALL: [Self; 4] = [Self::Html, Self::Pdf, Self::Docx, Self::Sitemap];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Html => "html",
            Self::Pdf => "pdf",
            Self::Docx => "docx",
            Self::Sitemap => "sitemap",
        }
    }
}

/// The text of a document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Page {
    pub(crate) title: Option<String>,
    /// Markdown.
    pub(crate) text: String,
    /// What was left out, or read by guess.
    pub(crate) notes: Vec<String>,
}

/// What a sitemap lists, as URLs in its order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Sitemap {
    pub(crate) pages: Vec<String>,
    /// Other sitemaps.
    pub(crate) maps: Vec<String>,
}

/// The answer of a reader, the last line of its output.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Answer {
    Page(Page),
    Sitemap(Sitemap),
    Refused(String),
}

/// Reads the document on standard input under the limits of a reader and answers on standard output.
/// `format` is `html`, `pdf`, `docx` or `sitemap`.
///
/// # Errors
/// An unknown format, a limit that cannot be set, or an output that is closed.
pub fn serve(format: &str) -> std::io::Result<()> {
    let format = Format::ALL.into_iter().find(|known| known.name() == format);
    let format =
        format.ok_or_else(|| std::io::Error::other("unknown format, allowed html, pdf, docx, sitemap"))?;
    confine()?;
    let answer = answer(format).unwrap_or_else(|refusal| Answer::Refused(refusal.to_string()));
    let mut out = std::io::stdout().lock();
    // What a library may have printed ends before the answer begins.
    writeln!(out)?;
    serde_json::to_writer(&mut out, &answer)?;
    out.flush()
}

fn answer(format: Format) -> Result<Answer, Refusal> {
    let mut bytes = Vec::new();
    let read = std::io::stdin().take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes);
    read.map_err(|error| Refusal::Unreadable(error.to_string()))?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(Refusal::TooLarge(bytes.len() as u64, MAX_FILE_BYTES));
    }
    match format {
        Format::Html => {
            let (text, guess) = decode::text(&bytes, decode::declared(&bytes))?;
            let mut page = html::read(&text)?;
            page.notes.extend(guess);
            Ok(Answer::Page(page))
        }
        Format::Pdf => pdf::read(&bytes).map(Answer::Page),
        Format::Docx => docx::read(&bytes).map(Answer::Page),
        Format::Sitemap => sitemap::read(&decode::text(&bytes, None)?.0).map(Answer::Sitemap),
    }
}

/// Limits memory and processor time of this process and forbids it to write files. Linux alone enforces a
/// limit of memory: see [`limits_memory`].
#[cfg(unix)]
fn confine() -> std::io::Result<()> {
    use nix::sys::resource::{Resource, setrlimit};
    setrlimit(Resource::RLIMIT_CPU, SECONDS + 5, SECONDS + 5)?;
    setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
    setrlimit(Resource::RLIMIT_FSIZE, 0, 0)?;
    #[cfg(target_os = "linux")]
    {
        // The first number is the pages that are mapped now: the program, its allocator's reserve.
        let sizes = std::fs::read_to_string("/proc/self/statm")?;
        let pages: u64 = sizes.split(' ').next().and_then(|size| size.parse().ok()).unwrap_or(0);
        let limit = pages * 4096 + (MEMORY_MIB << 20);
        setrlimit(Resource::RLIMIT_AS, limit, limit)?;
    }
    Ok(())
}

#[cfg(not(unix))]
fn confine() -> std::io::Result<()> {
    Ok(())
}

/// Whether the memory of a reader is limited on this system.
#[must_use]
pub const fn limits_memory() -> bool {
    cfg!(target_os = "linux")
}
