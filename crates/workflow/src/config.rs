//! Table `[workflow]` of the configuration.

use std::collections::BTreeMap;
use std::net::IpAddr;

use kit::config::{Violation, within};
use reqwest::Url;
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize, Serializer};
use standardwebhooks::Webhook;

/// Sizes of a secret in bytes, of the Standard Webhooks specification.
const SECRET_BYTES: std::ops::RangeInclusive<usize> = 24..=64;
const SECRET_PREFIX: &str = "whsec_";

/// How workflows wait, retry and reach their targets.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where requests go, by the name a workflow uses.
    pub targets: BTreeMap<String, Target>,
    /// Silence after which an open proposal is void, in milliseconds, 1000..=86400000.
    pub open_ttl_ms: u64,
    /// Longest wait for a connection to a target, TLS included, in milliseconds, 10..=10000. The timeout
    /// of a workflow counts from there.
    pub connect_timeout_ms: u64,
    /// Longest wait before the second attempt, in milliseconds, 1..=60000; doubles with every attempt.
    pub retry_base_ms: u64,
    /// Longest wait between two attempts, in milliseconds, 1..=3600000.
    pub retry_max_ms: u64,
    /// How long Confirm waits for the result when its caller sets no deadline, in milliseconds, 0..=60000.
    pub confirm_wait_ms: u64,
    /// How long ended executions are kept, in days, 1..=3650; unknown ones stay until resolved.
    pub retain_days: u32,
}

/// A receiver of requests.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Target {
    /// Base URL: https, or http to a loopback host; the path of a workflow is appended.
    pub url: String,
    /// Signing secret: "whsec_" and 24 to 64 bytes in base64.
    #[serde(serialize_with = "hide")]
    pub secret: SecretString,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            targets: BTreeMap::new(),
            open_ttl_ms: 30 * 60 * 1000,
            connect_timeout_ms: 2_000,
            retry_base_ms: 1_000,
            retry_max_ms: 600_000,
            confirm_wait_ms: 10_000,
            retain_days: 30,
        }
    }
}

impl kit::Config for Config {
    fn validate(&self) -> Vec<Violation> {
        let mut violations = Vec::new();
        within("open_ttl_ms", self.open_ttl_ms, 1_000..=86_400_000, &mut violations);
        within("connect_timeout_ms", self.connect_timeout_ms, 10..=10_000, &mut violations);
        within("retry_base_ms", self.retry_base_ms, 1..=60_000, &mut violations);
        within("retry_max_ms", self.retry_max_ms, 1..=3_600_000, &mut violations);
        within("confirm_wait_ms", self.confirm_wait_ms, 0..=60_000, &mut violations);
        within("retain_days", self.retain_days, 1..=3_650, &mut violations);
        for (name, target) in &self.targets {
            let mut refuse = |key: &str, message: String| {
                violations.push(Violation { key: format!("targets.{name}.{key}"), message });
            };
            if target.base().is_none() {
                let allowed = "allowed an https URL, or an http URL of a loopback host, without user, query and fragment";
                refuse("url", format!("is {:?}, {allowed}", target.url));
            }
            if target.webhook().is_none() {
                refuse("secret", "is no secret, allowed whsec_ and 24 to 64 bytes in base64".to_owned());
            }
        }
        violations
    }
}

impl Target {
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
    use kit::Config as _;

    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    fn violations(url: &str, secret: &str) -> Vec<String> {
        let target = Target { url: url.to_owned(), secret: secret.into() };
        let config = Config { targets: [("bank".to_owned(), target)].into(), ..Config::default() };
        config.validate().into_iter().map(|violation| violation.key).collect()
    }

    #[test]
    fn only_https_or_loopback_targets_with_a_full_secret_are_allowed() {
        for url in
            ["https://bank.example/api/", "http://127.0.0.1:7790", "http://localhost:1", "http://[::1]:1"]
        {
            assert_eq!(violations(url, SECRET), [""; 0], "{url}");
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
            assert_eq!(violations(url, SECRET), ["targets.bank.url"], "{url}");
        }
        for secret in [
            "",
            "whsec_",
            "whsec_c2hvcnQ=",
            "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            "whsec_!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!",
        ] {
            assert_eq!(violations("https://bank.example", secret), ["targets.bank.secret"], "{secret}");
        }
    }

    #[test]
    fn the_secret_is_in_no_output() {
        let target = Target { url: "https://bank.example".to_owned(), secret: SECRET.into() };
        let shown = format!("{target:?} {}", serde_json::to_string(&target).unwrap());
        assert!(!shown.contains("MfKQ9r8G"), "{shown}");
    }
}
