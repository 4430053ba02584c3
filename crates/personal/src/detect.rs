//! Finds personal data and secrets in a text, as byte ranges of the text as written.

use std::collections::BTreeMap;

use regex::Regex;

use crate::digits;
use crate::numbers;
use crate::phones;

/// What a span holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Kind {
    Secret,
    EmailAddress,
    Iban,
    CreditCard,
    UkNino,
    EsNif,
    ItFiscalCode,
    FrNir,
    ChAhv,
    BrCpf,
    UsItin,
    UsSsn,
    UkNhs,
    NlBsn,
    PlPesel,
    DeTaxId,
    InAadhaar,
    SePersonnummer,
    IpAddress,
    BankAccount,
    UkSortCode,
    PhoneNumber,
}

impl Kind {
    /// The name in masks and verdicts, for example `CREDIT_CARD`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Secret => "SECRET",
            Self::EmailAddress => "EMAIL_ADDRESS",
            Self::Iban => "IBAN",
            Self::CreditCard => "CREDIT_CARD",
            Self::UkNino => "UK_NINO",
            Self::EsNif => "ES_NIF",
            Self::ItFiscalCode => "IT_FISCAL_CODE",
            Self::FrNir => "FR_NIR",
            Self::ChAhv => "CH_AHV",
            Self::BrCpf => "BR_CPF",
            Self::UsItin => "US_ITIN",
            Self::UsSsn => "US_SSN",
            Self::UkNhs => "UK_NHS",
            Self::NlBsn => "NL_BSN",
            Self::PlPesel => "PL_PESEL",
            Self::DeTaxId => "DE_TAX_ID",
            Self::InAadhaar => "IN_AADHAAR",
            Self::SePersonnummer => "SE_PERSONNUMMER",
            Self::IpAddress => "IP_ADDRESS",
            Self::BankAccount => "BANK_ACCOUNT",
            Self::UkSortCode => "UK_SORT_CODE",
            Self::PhoneNumber => "PHONE_NUMBER",
        }
    }
}

/// A stretch of personal data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// What it holds.
    pub kind: Kind,
    /// First byte in the text.
    pub start: usize,
    /// One past the last byte.
    pub end: usize,
}

/// Finds personal data and secrets: spans in ascending order that do not overlap. Where findings
/// overlap, the more telling kind stays.
#[must_use]
pub fn detect(text: &str) -> Vec<Span> {
    let plain = Plain::of(text);
    let mut found = Vec::new();
    emails(&plain.text, &mut found);
    secrets(&plain.text, &mut found);
    coded(&plain.text, &mut found);
    addresses(&plain.text, &mut found);
    numbers::find(&plain.text, &mut found);
    phones::find(&plain.text, &mut found);
    let mut spans: Vec<Span> = found.into_iter().map(|span| plain.origin(span)).collect();
    spans.sort_by_key(|span| (span.kind, span.start, std::cmp::Reverse(span.end)));
    let mut taken: BTreeMap<usize, Span> = BTreeMap::new();
    for span in spans {
        let before = taken.range(..span.end).next_back();
        if before.is_none_or(|(_, other)| other.end <= span.start) {
            taken.insert(span.start, span);
        }
    }
    taken.into_values().collect()
}

/// The text with every span replaced by its type, `[EMAIL_ADDRESS]`. Spans that do not lie on character
/// boundaries of the text, or overlap an earlier one, are left out.
#[must_use]
pub fn redact(text: &str, spans: &[Span]) -> String {
    let mut spans = spans.to_vec();
    spans.sort_by_key(|span| span.start);
    let mut masked = String::with_capacity(text.len());
    let mut at = 0;
    for span in spans {
        let Some(before) = text.get(at..span.start).filter(|_| text.get(span.start..span.end).is_some())
        else {
            continue;
        };
        masked.push_str(before);
        masked.push('[');
        masked.push_str(span.kind.name());
        masked.push(']');
        at = span.end;
    }
    masked.push_str(text.get(at..).unwrap_or_default());
    masked
}

/// The text with everything that is found in it replaced by its type.
#[must_use]
pub fn mask(text: &str) -> String {
    redact(text, &detect(text))
}

/// Compiles the patterns, which happens on their first use: that must not be a customer's turn.
pub fn warm_up() {
    let _ =
        detect("order of 0000 0000, call 123 45 6789, a@b.example, 192.0.2.1, iban GB00 0000 0000 0000 0000");
    let _ = detect("card 4111 1111 1111 1112, ssn 000000000, ::1, 12 34 56 78");
}

/// A text with disguised digits and signs made plain, and where each of its bytes came from.
struct Plain {
    text: String,
    /// By byte of `text`: first byte of its character in the original, and one past the last; empty when
    /// the original is plain already.
    origins: Vec<(usize, usize)>,
}

impl Plain {
    fn of(original: &str) -> Self {
        if original.is_ascii() {
            return Self { text: original.to_owned(), origins: Vec::new() };
        }
        let mut text = String::with_capacity(original.len());
        let mut origins = Vec::with_capacity(original.len());
        for (start, c) in original.char_indices() {
            if text::is_invisible(c) {
                continue;
            }
            text.push(plain(c));
            origins.resize(text.len(), (start, start + c.len_utf8()));
        }
        Self { text, origins }
    }

    fn origin(&self, span: Span) -> Span {
        match (self.origins.get(span.start), span.end.checked_sub(1).and_then(|last| self.origins.get(last)))
        {
            (Some(first), Some(last)) => Span { start: first.0, end: last.1, ..span },
            _ => span,
        }
    }
}

/// The ASCII character a character stands for: full-width forms, digits of other scripts, dashes, spaces.
fn plain(c: char) -> char {
    /// Zeros of the decimal digits people type (Unicode general category Nd).
    const ZEROS: [u32; 10] = [0x660, 0x6f0, 0x966, 0x9e6, 0xe50, 0x1d7ce, 0x1d7d8, 0x1d7e2, 0x1d7ec, 0x1d7f6];
    let code = u32::from(c);
    let digit = ZEROS.iter().find_map(|zero| code.checked_sub(*zero).filter(|digit| *digit < 10));
    match c {
        '\u{ff01}'..='\u{ff5e}' => char::from_u32(code - 0xfee0).unwrap_or(c),
        '\u{2010}'..='\u{2015}' | '\u{2212}' | '\u{fe63}' => '-',
        '\u{fe6b}' => '@',
        '\u{b7}' | '\u{2022}' | '\u{2024}' | '\u{3002}' => '.',
        _ if c.is_whitespace() && c != '\n' => ' ',
        _ => digit.and_then(|digit| char::from_digit(digit, 10)).unwrap_or(c),
    }
}

/// A regular expression of this crate's own, compiled once. A broken one must stop the rail, not blind it.
#[macro_export]
macro_rules! pattern {
    ($name:ident, $($part:expr),+ $(,)?) => {
        static $name: std::sync::LazyLock<regex::Regex> =
            std::sync::LazyLock::new(|| regex::Regex::new(concat!($($part),+)).expect("a valid pattern"));
    };
}
pub(crate) use pattern;

/// Adds the first group, or else the whole, of every match that passes the test.
pub(crate) fn matches(
    text: &str,
    pattern: &Regex,
    kind: Kind,
    found: &mut Vec<Span>,
    test: impl Fn(&str) -> bool,
) {
    for groups in pattern.captures_iter(text) {
        if let Some(group) = groups.get(1).or_else(|| groups.get(0)).filter(|group| test(group.as_str())) {
            found.push(Span { kind, start: group.start(), end: group.end() });
        }
    }
}

pattern!(
    EMAIL,
    r"[\pL\pN](?:[\pL\pN._%+'&=~-]*[\pL\pN_+-])? ?@ ?[\pL\pN][\pL\pN-]*(?:(?:\.| \. )[\pL\pN-]+)*(?:\.| \. )(?:xn--[a-z0-9-]+|\pL{2,})"
);
pattern!(
    SPELLED_EMAIL,
    r"(?i)(?-u:\b)[a-z0-9][a-z0-9._+-]*(?: (?:dot|punkt|punto|point) [a-z0-9_-]+)* ?(?:[(\[{<] ?(?:at|@) ?[)\]}>]| (?:at|chez|arobase|arroba|chiocciola) ) ?",
    r"[a-z0-9][a-z0-9-]*(?: ?(?:[(\[{<] ?(?:dot|\.) ?[)\]}>]| (?:dot|punkt|punto|point) ) ?[a-z0-9-]+)+"
);
pattern!(
    BRACKETED_EMAIL,
    r"(?i)(?-u:\b)[a-z0-9][a-z0-9._+-]* ?[(\[{<] ?(?:at|@) ?[)\]}>] ?[a-z0-9-]+(?:\.[a-z0-9-]+)+"
);

/// Verbs that stand before the "at" of a place.
const VERBS: [&str; 8] =
    ["look at ", "looking at ", "looked at ", "be at ", "shop at ", "bought at ", "ordered at ", "is at "];

fn emails(text: &str, found: &mut Vec<Span>) {
    if text.contains('@') {
        matches(text, &EMAIL, Kind::EmailAddress, found, |_| true);
    }
    // "Look at example dot com" names a site, and "at some point in" a time: "point" is said where "at" is not.
    let spelled = |value: &str| {
        let value = value.to_ascii_lowercase();
        let time = value.contains(" at ") && value.contains(" point ");
        !time && !VERBS.iter().any(|verb| value.starts_with(verb))
    };
    matches(text, &SPELLED_EMAIL, Kind::EmailAddress, found, spelled);
    matches(text, &BRACKETED_EMAIL, Kind::EmailAddress, found, |_| true);
}

pattern!(
    TOLD_SECRET,
    r"(?i)(?-u:\b)(?:pass ?(?:word|code|phrase)|pwd|pin(?: ?(?:code|number))?|cvv2?|cvc|security code|(?:one[ -]time|verification|authentication|login|sms|otp|2fa) ?(?:code|password|pin|passcode)|otp|memorable word|secret answer|api[ _-]?key|access[ _-]?token|client[ _-]?secret)",
    r"(?: (?:i (?:got|received)|for (?:it|the app|my account|online banking)))? ?(?:is|was|=|:|->|are) ?(?:now |set to |still )?[\x22'`]?([^\s\x22'`]+)"
);
pattern!(
    KEY,
    r"(?-u:\b)(?:sk-(?:[a-zA-Z]{2,6}-)?[A-Za-z0-9_-]{20,}|(?:AKIA|ASIA)[0-9A-Z]{16}|gh[pousr]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{22,}|xox[abprs]-[A-Za-z0-9-]{10,}|AIza[0-9A-Za-z_-]{35}|(?:sk|rk|pk)_(?:live|test)_[0-9a-zA-Z]{16,}|eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{5,}|glpat-[A-Za-z0-9_-]{20,})"
);
pattern!(
    PRIVATE_KEY,
    r"-----BEGIN (?:[A-Z]{2,10} ){0,3}PRIVATE KEY(?: BLOCK)?-----[^-]*(?:-----END [A-Z ]{0,30}-----)?"
);

fn secrets(text: &str, found: &mut Vec<Span>) {
    matches(text, &TOLD_SECRET, Kind::Secret, found, tells);
    matches(text, &KEY, Kind::Secret, found, |_| true);
    if text.contains("-----BEGIN") {
        matches(text, &PRIVATE_KEY, Kind::Secret, found, |_| true);
    }
}

/// Whether what stands behind "my password is" is one: "my PIN is blocked" tells nothing.
fn tells(value: &str) -> bool {
    let value = value.trim_end_matches(['.', ',', '!', '?', ';', ')']);
    let digits = value.bytes().filter(u8::is_ascii_digit).count();
    let odd = value.chars().any(|c| matches!(c, '!' | '@' | '#' | '$' | '%' | '^' | '&' | '*' | '_' | '='));
    let cases = value.chars().skip(1).any(char::is_uppercase) && value.chars().any(char::is_lowercase);
    value.chars().count() >= 3
        && (digits >= 3 || (digits > 0 && value.contains(char::is_alphabetic)) || odd || cases)
}

pattern!(IBAN, r"(?i)(?-u:\b)[a-z]{2}[0-9]{2}(?:[ -]?[a-z0-9]){11,30}");
pattern!(
    UK_NINO,
    r"(?i)(?-u:\b)([a-ceghj-prtw-z][a-ceghj-nprtw-z][ -]?[0-9]{2}[ -]?[0-9]{2}[ -]?[0-9]{2}[ -]?[a-d])(?-u:\b)"
);
pattern!(ES_NIF, r"(?i)(?-u:\b)((?:[0-9]{8}|[xyz]-?[0-9]{7})-?[a-z])(?-u:\b)");
pattern!(IT_FISCAL_CODE, r"(?i)(?-u:\b)([a-z]{6}[0-9]{2}[abcdehlmprst][0-9]{2}[a-z][0-9]{3}[a-z])(?-u:\b)");

/// Codes of letters and digits that carry a check.
fn coded(text: &str, found: &mut Vec<Span>) {
    ibans(text, found);
    let bare = |value: &str| value.bytes().filter(u8::is_ascii_alphanumeric).collect::<Vec<_>>();
    matches(text, &UK_NINO, Kind::UkNino, found, |value| {
        !["BG", "GB", "NK", "KN", "TN", "NT", "ZZ"].contains(&value[..2].to_ascii_uppercase().as_str())
    });
    matches(text, &ES_NIF, Kind::EsNif, found, |value| digits::es_nif(&bare(value)));
    matches(text, &IT_FISCAL_CODE, Kind::ItFiscalCode, found, |value| digits::it_fiscal(value.as_bytes()));
}

fn ibans(text: &str, found: &mut Vec<Span>) {
    let mut from = 0;
    while let Some(candidate) = IBAN.find_at(text, from) {
        let bytes = candidate.as_str().as_bytes();
        let length = digits::iban_length(&bytes[..2]).unwrap_or(usize::MAX);
        // The pattern may have run on into the next word; the country knows where the number ends.
        let mut places = bytes.iter().enumerate().filter(|(_, byte)| byte.is_ascii_alphanumeric());
        let last = places.nth(length.saturating_sub(1)).map(|(at, _)| at);
        let number =
            last.map(|last| bytes[..=last].iter().copied().filter(u8::is_ascii_alphanumeric).collect());
        let valid = number.is_some_and(|number: Vec<u8>| digits::iban(&number));
        // A mistyped one is still somebody's.
        let told = || behind(text, candidate.start()).contains("iban");
        let whole = |last: usize| bytes.get(last + 1).is_none_or(|byte| !byte.is_ascii_alphanumeric());
        if let Some(last) = last.filter(|last| valid || whole(*last) && told()) {
            let end = candidate.start() + last + 1;
            found.push(Span { kind: Kind::Iban, start: candidate.start(), end });
            from = end;
        } else {
            from = candidate.start() + 4;
        }
    }
}

pattern!(IPV4, r"(?-u:\b)(?:[0-9]{1,3}\.){3}[0-9]{1,3}(?-u:\b)");
pattern!(IPV6, r"(?i)[0-9a-f]{0,4}(?::[0-9a-f]{0,4}){2,8}(?:(?:\.[0-9]{1,3}){3})?(?:%[0-9a-z]{1,16})?");
// Words behind which four numbers name a release or a paragraph.
pattern!(
    RELEASE,
    r"\b(?:version|build|release|firmware|update|app|ios|android|section|clause|chapter)[ .:#]*\z|\bv\z|[a-z]/\z|[.§]\z"
);

fn addresses(text: &str, found: &mut Vec<Span>) {
    let mut v4 = Vec::new();
    let fits = |value: &str| value.split('.').all(|part| part.parse::<u8>().is_ok());
    matches(text, &IPV4, Kind::IpAddress, &mut v4, fits);
    found.extend(v4.into_iter().filter(|span| {
        let goes_on = text[span.end..]
            .strip_prefix('.')
            .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
        !goes_on && !RELEASE.is_match(&behind(text, span.start))
    }));
    for candidate in IPV6.find_iter(text) {
        // The pattern takes the sign of a sentence with it: "is it fe80::1:".
        let value = candidate.as_str();
        let value = value.strip_suffix(':').filter(|rest| !rest.ends_with(':')).unwrap_or(value);
        let (start, end) = (candidate.start(), candidate.start() + value.len());
        let lone = !text[..start].ends_with(|c: char| c.is_alphanumeric() || c == ':')
            && !text[end..].starts_with(char::is_alphanumeric);
        if lone && is_v6(value) {
            found.push(Span { kind: Kind::IpAddress, start, end });
        }
    }
}

/// Whether it is an address with something of a number in it: neither `a::b` of a program nor `10::30`.
fn is_v6(value: &str) -> bool {
    let groups = value.split(':').filter(|group| !group.is_empty()).count();
    let hex = value.contains(|c: char| c.is_ascii_alphabetic());
    value.contains(|c: char| c.is_ascii_digit())
        && (groups > 2 || hex || value.starts_with("::"))
        && value.split('%').next().is_some_and(|address| address.parse::<std::net::Ipv6Addr>().is_ok())
}

/// The last few characters of what stands before a span, lowered.
fn behind(text: &str, start: usize) -> String {
    text[text.ceil_char_boundary(start.saturating_sub(16))..start].to_lowercase()
}
