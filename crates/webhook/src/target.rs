//! A target as the configuration names it.

use std::net::IpAddr;

use reqwest::Url;
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize, Serializer};
use standardwebhooks::Webhook;

/// Sizes of a secret in bytes, of the Standard Webhooks specification.
const SECRET_BYTES: std::ops::RangeInclusive<usize> = 24..=64;
const SECRET_PREFIX: &str = "whsec_";

/// A receiver of requests.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Target {
    /// Base URL: https, or http to a loopback host; the path of a request is appended.
    pub url: String,
    /// Signing secret: "whsec_" and 24 to 64 bytes in base64.
    #[serde(serialize_with = "hide")]
    pub secret: SecretString,
}

impl Target {
    /// What is wrong with it: the key, and what it is and may be.
    pub fn faults(&self) -> Vec<(&'static str, String)> {
        let mut faults = Vec::new();
        if self.base().is_none() {
            let allowed =
                "allowed an https URL, or an http URL of a loopback host, without user, query and fragment";
            faults.push(("url", format!("is {:?}, {allowed}", self.url)));
        }
        if self.webhook().is_none() {
            faults.push(("secret", "is no secret, allowed whsec_ and 24 to 64 bytes in base64".to_owned()));
        }
        faults
    }

    /// The base URL without a slash at its end; `None` when it is not allowed.
    pub(crate) fn base(&self) -> Option<String> {
        let url = Url::parse(&self.url).ok()?;
        let host = url.host_str()?;
        let local = host
            .trim_matches(['[', ']'])
            .parse::<IpAddr>()
            .map_or(host == "localhost", |ip| ip.is_loopback());
        let scheme = url.scheme() == "https" || url.scheme() == "http" && local;
        let bare = url.username().is_empty() && url.password().is_none();
        let bare = bare && url.query().is_none() && url.fragment().is_none();
        (scheme && bare).then(|| url.as_str().trim_end_matches('/').to_owned())
    }

    /// The signer; `None` when the secret is not allowed.
    pub(crate) fn webhook(&self) -> Option<Webhook> {
        let secret = self.secret.expose_secret();
        let encoded = secret.strip_prefix(SECRET_PREFIX)?;
        // Four characters of base64 hold three bytes.
        let bytes = encoded.trim_end_matches('=').len() * 3 / 4;
        SECRET_BYTES.contains(&bytes).then(|| Webhook::new(secret).ok()).flatten()
    }
}

fn hide<S: Serializer>(_: &SecretString, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str("(hidden)")
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    fn faults(url: &str, secret: &str) -> Vec<&'static str> {
        let target = Target { url: url.to_owned(), secret: secret.into() };
        target.faults().into_iter().map(|(key, _)| key).collect()
    }

    #[test]
    fn only_https_or_loopback_targets_with_a_full_secret_are_allowed() {
        for url in
            ["https://bank.example/api/", "http://127.0.0.1:7790", "http://localhost:1", "http://[::1]:1"]
        {
            assert_eq!(faults(url, SECRET), [""; 0], "{url}");
        }
        for url in [
            "",
            "bank.example",
            "http://bank.example",
            "http://127.0.0.1.example",
            "http://10.0.0.1",
            "ftp://127.0.0.1",
            "https://user@bank.example",
            "https://bank.example/?a=b",
        ] {
            assert_eq!(faults(url, SECRET), ["url"], "{url}");
        }
        for secret in [
            "",
            "whsec_",
            "whsec_c2hvcnQ=",
            "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            "whsec_!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!",
        ] {
            assert_eq!(faults("https://bank.example", secret), ["secret"], "{secret}");
        }
    }

    #[test]
    fn the_secret_is_in_no_output() {
        let target = Target { url: "https://bank.example".to_owned(), secret: SECRET.into() };
        let shown = format!("{target:?} {}", serde_json::to_string(&target).unwrap());
        assert!(!shown.contains("MfKQ9r8G"), "{shown}");
    }
}
