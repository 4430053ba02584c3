//! Signing secrets, as the configuration holds them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Sizes of a secret in bytes, of the Standard Webhooks specification.
const SECRET_BYTES: std::ops::RangeInclusive<usize> = 24..=64;
/// Sizes of a secret that others chose, as it is written.
const TEXT_BYTES: std::ops::RangeInclusive<usize> = 16..=256;
const SECRET_PREFIX: &str = "whsec_";
/// The one in use, and the one that comes or goes.
const MAX_SECRETS: usize = 2;

/// One secret, or two while a key is exchanged: a list, or one text with white space between them, as the lines of a
/// file have it. Shown nowhere.
#[derive(Debug, Clone, Default)]
pub struct Secrets(Vec<SecretString>);

impl Secrets {
    /// Whether none is set.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The secrets as keys, each a text of 16 to 256 bytes; `None` when one is not, or when there is none or more than
    /// two.
    pub(crate) fn texts(&self) -> Option<Vec<Vec<u8>>> {
        self.each(|secret| Some(secret.as_bytes().to_vec()).filter(|text| TEXT_BYTES.contains(&text.len())))
    }

    /// The keys of secrets of the form "whsec_" and base64 of 24 to 64 bytes; `None` when one is not of that form, or
    /// when there is none or more than two.
    pub(crate) fn keys(&self) -> Option<Vec<Vec<u8>>> {
        self.each(|secret| {
            let key = STANDARD.decode(secret.strip_prefix(SECRET_PREFIX)?).ok()?;
            SECRET_BYTES.contains(&key.len()).then_some(key)
        })
    }

    fn each(&self, key: impl Fn(&str) -> Option<Vec<u8>>) -> Option<Vec<Vec<u8>>> {
        let keys: Vec<_> = self.0.iter().map(|secret| key(secret.expose_secret())).collect::<Option<_>>()?;
        (1..=MAX_SECRETS).contains(&keys.len()).then_some(keys)
    }
}

impl From<&str> for Secrets {
    fn from(text: &str) -> Self {
        Self(text.split_whitespace().map(SecretString::from).collect())
    }
}

impl<'de> Deserialize<'de> for Secrets {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "invalid type, expected a secret or a list of two")]
        enum Written {
            Text(String),
            List(Vec<SecretString>),
        }
        Ok(match Written::deserialize(deserializer)? {
            Written::Text(text) => Self::from(text.as_str()),
            Written::List(list) => Self(list),
        })
    }
}

impl Serialize for Secrets {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("(hidden)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const NEW: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";

    fn read(json: serde_json::Value) -> Option<usize> {
        serde_json::from_value::<Secrets>(json).unwrap().keys().map(|keys| keys.len())
    }

    #[test]
    fn one_secret_or_two_are_read_from_a_text_a_file_and_a_list() {
        assert_eq!(read(OLD.into()), Some(1));
        assert_eq!(read(format!("{OLD}\n{NEW}").into()), Some(2));
        assert_eq!(read(vec![OLD, NEW].into()), Some(2));
    }

    #[test]
    fn anything_but_one_or_two_full_secrets_is_refused() {
        for text in [
            "",
            "whsec_",
            "whsec_c2hvcnQ=",
            "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            "whsec_!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!",
            &format!("{OLD} short"),
            &format!("{OLD} {NEW} {OLD}"),
        ] {
            assert_eq!(read(text.into()), None, "{text}");
        }
        let long = |bytes: usize| format!("whsec_{}", STANDARD.encode(vec![7; bytes]));
        assert_eq!([23, 24, 64, 65].map(|bytes| read(long(bytes).into())), [None, Some(1), Some(1), None]);
        assert_eq!(read(vec![""; 0].into()), None);
    }

    #[test]
    fn a_secret_is_in_no_output() {
        let secrets = Secrets::from(format!("{OLD} {NEW}").as_str());
        let shown = format!("{secrets:?} {}", serde_json::to_string(&secrets).unwrap());
        assert!(!shown.contains("MfKQ9r8G") && !shown.contains("C2FVsBQI"), "{shown}");
    }
}
