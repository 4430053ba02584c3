//! How well personal data is found: a labelled file.
//!
//! A labelled span is found when detected spans of its type cover at least half of its characters; a detected span is
//! right when labelled spans of its type cover at least half of its own. Everything else that is detected is a false
//! alarm of its type, also where it covers a labelled span of another type: the mask would name the wrong thing.
//! `masked` counts the labelled spans that are covered to a half by spans of whatever type, so that the two can be
//! told apart.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use personal::{Kind, detect};
use serde::{Deserialize, Serialize};

/// Every kind with the names other sets give it, without signs and in capitals; its own name is known too.
const NAMES: [(Kind, &[&str]); 22] = [
    (
        Kind::Secret,
        &["PASSWORD", "PASSCODE", "PIN", "CVV", "CREDITCARDCVV", "APIKEY", "ACCESSTOKEN", "PRIVATEKEY"],
    ),
    (Kind::EmailAddress, &["EMAIL", "MAIL", "EMAILADDR"]),
    (Kind::Iban, &["IBANCODE", "IBANNUMBER"]),
    (Kind::CreditCard, &["CREDITCARDNUMBER", "CREDITDEBITCARD", "DEBITCARD", "CARDNUMBER", "CCNUMBER"]),
    (Kind::UkNino, &["NINO", "GBNINO"]),
    (Kind::EsNif, &["ESNIE", "NIF", "NIE", "DNI"]),
    (Kind::ItFiscalCode, &["CODICEFISCALE", "FISCALCODE"]),
    (Kind::FrNir, &["NIR"]),
    (Kind::ChAhv, &["AHV", "AVS"]),
    (Kind::BrCpf, &["CPF"]),
    (Kind::UsItin, &["ITIN"]),
    (Kind::UsSsn, &["SSN", "SOCIALSECURITYNUMBER", "SSNNUMBER"]),
    (Kind::UkNhs, &["NHS", "NHSNUMBER"]),
    (Kind::NlBsn, &["BSN"]),
    (Kind::PlPesel, &["PESEL"]),
    (Kind::DeTaxId, &["DESTEUERID", "STEUERID"]),
    (Kind::InAadhaar, &["AADHAAR", "AADHAARNUMBER"]),
    (Kind::SePersonnummer, &["PERSONNUMMER"]),
    (Kind::IpAddress, &["IP", "IPV4", "IPV6", "IPV4ADDRESS", "IPV6ADDRESS"]),
    (Kind::BankAccount, &["BANKACCOUNTNUMBER", "ACCOUNTNUMBER", "ACCOUNTNUM", "USBANKNUMBER"]),
    (Kind::UkSortCode, &["SORTCODE"]),
    (
        Kind::PhoneNumber,
        &["PHONE", "TELEPHONE", "TELEPHONENUMBER", "TELEPHONENUM", "PHONENUM", "MOBILE", "FAX", "FAXNUMBER"],
    ),
];

/// A text and what is marked in it.
#[derive(Debug, Clone, Deserialize)]
pub struct PiiExample {
    text: String,
    spans: Vec<Marked>,
}

#[derive(Debug, Clone, Deserialize)]
struct Marked {
    r#type: String,
    /// In characters.
    start: usize,
    end: usize,
}

/// The figures of one type, or of all that have a detector; one without meaning is `None`.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct PiiFigures {
    /// Labelled spans.
    pub n: usize,
    /// Of them, those found under their type.
    pub found: usize,
    /// Of them, those that masking hides, under whatever type.
    pub masked: usize,
    /// Detected spans of the type.
    pub detected: usize,
    /// Of them, those that are right.
    pub right: usize,
    /// Share of the detected spans that are right, 0..=1.
    pub precision: Option<f64>,
    /// Share of the labelled spans that are found, 0..=1.
    pub recall: Option<f64>,
    /// Their harmonic mean with recall counting twice (beta = 2), 0..=1.
    pub f2: Option<f64>,
}

/// How well personal data is found in a file.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PiiReport {
    /// Texts.
    pub n: usize,
    /// By type, those that the file has or that were detected in it.
    pub types: BTreeMap<String, PiiFigures>,
    /// Over all these types, every span counting once.
    pub micro: PiiFigures,
    /// Labelled spans by types, named as in the file, that have no detector; they count nowhere.
    pub without_detector: BTreeMap<String, usize>,
}

/// Why a file cannot be measured on.
#[derive(Debug, thiserror::Error)]
pub enum PiiError {
    /// The file cannot be read.
    #[error("cannot read {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A line is no example.
    #[error("{}:{line}: is no {{\"text\", \"spans\": [{{\"type\", \"start\", \"end\"}}]}}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// Why.
        source: serde_json::Error,
    },
    /// A span lies outside its text.
    #[error("{}:{line}: span {start}..{end} is empty or not inside 0..{chars}, the text's characters", path.display())]
    Span {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// First character of the span.
        start: usize,
        /// One past its last.
        end: usize,
        /// Characters of the text.
        chars: usize,
    },
}

/// Reads JSONL of `{"text", "spans": [{"type", "start", "end"}]}` with offsets in characters; blank lines are skipped.
///
/// # Errors
/// The file cannot be read, or a line of it is no example, with its number.
pub fn read_pii_examples(path: &Path) -> Result<Vec<PiiExample>, PiiError> {
    let text =
        std::fs::read_to_string(path).map_err(|source| PiiError::File { path: path.to_owned(), source })?;
    let lines = (1..).zip(text.lines()).filter(|(_, text)| !text.trim().is_empty());
    lines.map(|(line, text)| example(path, line, text)).collect()
}

fn example(path: &Path, line: usize, text: &str) -> Result<PiiExample, PiiError> {
    let parsed = serde_json::from_str(text);
    let example: PiiExample =
        parsed.map_err(|source| PiiError::Line { path: path.to_owned(), line, source })?;
    let chars = example.text.chars().count();
    match example.spans.iter().find(|span| span.start >= span.end || span.end > chars) {
        Some(&Marked { start, end, .. }) => {
            Err(PiiError::Span { path: path.to_owned(), line, start, end, chars })
        }
        None => Ok(example),
    }
}

/// The figures of the detectors on `test`.
#[must_use]
pub fn evaluate_pii(test: &[PiiExample]) -> PiiReport {
    let mut by_kind = BTreeMap::<Kind, PiiFigures>::new();
    let mut without_detector = BTreeMap::new();
    for example in test {
        let (mut marked, detected) = (Vec::new(), detected(&example.text));
        for span in &example.spans {
            match kind(&span.r#type) {
                Some(kind) => marked.push((kind, span.start..span.end)),
                None => *without_detector.entry(span.r#type.clone()).or_default() += 1,
            }
        }
        for (kind, range) in &marked {
            let figures = by_kind.entry(*kind).or_default();
            figures.n += 1;
            figures.found += usize::from(is_covered(range, of(*kind, &detected)));
            figures.masked += usize::from(is_covered(range, detected.iter().map(|(_, range)| range)));
        }
        for (kind, range) in &detected {
            let figures = by_kind.entry(*kind).or_default();
            figures.detected += 1;
            figures.right += usize::from(is_covered(range, of(*kind, &marked)));
        }
    }
    let mut micro = PiiFigures::default();
    for figures in by_kind.values_mut() {
        micro.add(figures);
        figures.rate();
    }
    micro.rate();
    let types = by_kind.into_iter().map(|(kind, figures)| (kind.name().to_owned(), figures)).collect();
    PiiReport { n: test.len(), types, micro, without_detector }
}

impl PiiFigures {
    fn add(&mut self, other: &Self) {
        self.n += other.n;
        self.found += other.found;
        self.masked += other.masked;
        self.detected += other.detected;
        self.right += other.right;
    }

    fn rate(&mut self) {
        let share = |part: usize, whole: usize| (whole > 0).then(|| part as f64 / whole as f64);
        self.precision = share(self.right, self.detected);
        self.recall = share(self.found, self.n);
        let rates = self.precision.zip(self.recall).filter(|(precision, recall)| precision + recall > 0.0);
        self.f2 = rates.map(|(precision, recall)| 5.0 * precision * recall / (4.0 * precision + recall));
    }
}

/// The kind a name of another set stands for.
fn kind(name: &str) -> Option<Kind> {
    let compact = |name: &str| -> String {
        name.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_uppercase()).collect()
    };
    let name = compact(name);
    let fits =
        |(kind, others): &&(Kind, &[&str])| compact(kind.name()) == name || others.contains(&name.as_str());
    NAMES.iter().find(fits).map(|(kind, _)| *kind)
}

/// What is detected, in characters.
fn detected(text: &str) -> Vec<(Kind, Range<usize>)> {
    let chars = |bytes: usize| text[..bytes].chars().count();
    detect(text).into_iter().map(|span| (span.kind, chars(span.start)..chars(span.end))).collect()
}

fn of(kind: Kind, spans: &[(Kind, Range<usize>)]) -> impl Iterator<Item = &Range<usize>> {
    spans.iter().filter(move |(other, _)| *other == kind).map(|(_, range)| range)
}

/// Whether the others cover at least half of a range.
fn is_covered<'a>(range: &Range<usize>, others: impl Iterator<Item = &'a Range<usize>>) -> bool {
    let covers = |other: &Range<usize>| other.end.min(range.end).saturating_sub(other.start.max(range.start));
    2 * others.map(covers).sum::<usize>() >= range.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_counts_by_type_and_half_of_its_characters_and_a_foreign_type_apart() {
        let mut lines = String::new();
        for (text, spans) in [
            // Characters, not bytes, and another set's name.
            ("é: ann@example.com", r#"{"type": "e-mail address", "start": 3, "end": 18}"#),
            // Found under another type: masked, a miss of the one and a false alarm of the other.
            ("4111 1111 1111 1111", r#"{"type": "Phone Number", "start": 0, "end": 19}"#),
            // Less than half of the true span.
            ("me, ann@example.com", r#"{"type": "IBAN_CODE", "start": 0, "end": 4}"#),
            ("Ann", r#"{"type": "PERSON", "start": 0, "end": 3}"#),
        ] {
            lines += &format!("{{\"text\": \"{text}\", \"spans\": [{spans}]}}\n\n");
        }
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("test.jsonl");
        std::fs::write(&file, &lines).unwrap();
        let report = evaluate_pii(&read_pii_examples(&file).unwrap());
        let counts = |name: &str| {
            let figures = report.types[name].clone();
            [figures.n, figures.found, figures.masked, figures.detected, figures.right]
        };
        assert_eq!(counts("EMAIL_ADDRESS"), [1, 1, 1, 2, 1]);
        assert_eq!(counts("PHONE_NUMBER"), [1, 0, 1, 0, 0]);
        assert_eq!(counts("CREDIT_CARD"), [0, 0, 0, 1, 0]);
        assert_eq!(counts("IBAN"), [1, 0, 0, 0, 0]);
        assert_eq!((report.n, report.without_detector["PERSON"]), (4, 1));
        assert_eq!((report.micro.n, report.micro.found, report.micro.detected), (3, 1, 3));
        let f2 = report.types["EMAIL_ADDRESS"].f2.unwrap();
        assert!((f2 - 5.0 / 6.0).abs() < 1e-12, "precision 0.5 and recall 1 give {f2}");
        for (line, wrong) in [
            ("{\"text\": \"a\"}", ":3: is no {\"text\""),
            (
                "{\"text\": \"é\", \"spans\": [{\"type\": \"IP\", \"start\": 0, \"end\": 2}]}",
                ":3: span 0..2 is empty or not inside 0..1",
            ),
        ] {
            std::fs::write(&file, format!("{{\"text\": \"a\", \"spans\": []}}\n\n{line}\n")).unwrap();
            let error = read_pii_examples(&file).unwrap_err().to_string();
            assert!(error.contains(wrong), "{error}");
        }
    }
}
