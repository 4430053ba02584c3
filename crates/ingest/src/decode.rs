//! Bytes as text: UTF-8, UTF-16, and by guess the older encodings of Windows and the web.

use std::borrow::Cow;

use chardetng::{EncodingDetector, Iso2022JpDetection, Utf8Detection};
use encoding_rs::{Encoding, UTF_8, UTF_16BE, UTF_16LE};

use crate::refusal::Refusal;

/// So many bytes from the start tell what a file is.
const WINDOW: usize = 1024;

/// The text of a file, and a note when its encoding was guessed. `declared` is what the file itself says.
pub(crate) fn text<'b>(
    bytes: &'b [u8],
    declared: Option<&'static Encoding>,
) -> Result<(Cow<'b, str>, Option<String>), Refusal> {
    if bytes.starts_with(b"%PDF-") {
        return Err(Refusal::Misnamed("a .pdf"));
    }
    if bytes.starts_with(b"PK\x03\x04") {
        return Err(Refusal::Misnamed("a ZIP archive, perhaps a .docx,"));
    }
    let marked = Encoding::for_bom(bytes).map(|(encoding, _)| encoding).or_else(|| utf16(bytes));
    let (encoding, guessed) = match marked.or_else(|| std::str::from_utf8(bytes).ok().map(|_| UTF_8)) {
        Some(encoding) => (encoding, false),
        None if bytes.contains(&0) => return Err(Refusal::Binary),
        None => declared
            .filter(|declared| *declared != UTF_8)
            .map_or_else(|| (guess(bytes), true), |is| (is, false)),
    };
    let (text, _, broken) = encoding.decode(bytes);
    // Control characters, or bytes that mean nothing, in more than one of a hundred: no text.
    let odd = text.chars().filter(|c| is_odd(*c)).count();
    if text.contains('\0') || odd * 100 > text.len() || (broken && !guessed && marked == Some(UTF_16LE)) {
        return Err(Refusal::Binary);
    }
    let note = (guessed || broken).then(|| {
        format!("is not UTF-8 and was read as {}: save it as UTF-8 if letters look wrong", encoding.name())
    });
    Ok((text, note))
}

fn is_odd(c: char) -> bool {
    c == '\u{fffd}' || (c.is_control() && !c.is_whitespace() && c != '\u{1b}')
}

fn guess(bytes: &[u8]) -> &'static Encoding {
    let mut detector = EncodingDetector::new(Iso2022JpDetection::Deny);
    detector.feed(bytes, true);
    detector.guess(None, Utf8Detection::Allow)
}

/// UTF-16 without a mark: every other byte of a text in a Latin script is zero.
fn utf16(bytes: &[u8]) -> Option<&'static Encoding> {
    let window = &bytes[..bytes.len().min(WINDOW) & !1];
    let zeros = |from: usize| window.iter().skip(from).step_by(2).filter(|byte| **byte == 0).count();
    let (even, odd) = (zeros(0), zeros(1));
    let most = window.len() * 2 / 5;
    match (even, odd) {
        (0, odd) if odd > 0 && odd >= most => Some(UTF_16LE),
        (even, 0) if even > 0 && even >= most => Some(UTF_16BE),
        _ => None,
    }
}

/// The encoding that a page names in its first bytes: `<meta charset="x">` or `charset=x`.
pub(crate) fn declared(bytes: &[u8]) -> Option<&'static Encoding> {
    let window = String::from_utf8_lossy(&bytes[..bytes.len().min(WINDOW)]).to_ascii_lowercase();
    let (_, rest) = window.split_once("charset=")?;
    let label = rest.trim_start_matches(['"', '\'', ' ']);
    let end = label.find(|c: char| !c.is_ascii_alphanumeric() && !"-_:.".contains(c)).unwrap_or(label.len());
    Encoding::for_label(&label.as_bytes()[..end])
}
