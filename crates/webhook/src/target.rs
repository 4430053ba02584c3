//! A target as the configuration names it.

use std::net::IpAddr;

use reqwest::Url;
use serde::{Deserialize, Serialize};

use crate::event::Format;
use crate::guard::Reach;
use crate::secret::Secrets;

const ALLOWED_URL: &str =
    "allowed an https URL, or an http URL of 127.0.0.1, [::1] or localhost, without user, query and fragment";
const ALLOWED_ADDRESS: &str = "allowed a public address; a private one with allow_private = true";

/// A receiver of requests.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Target {
    /// Base URL: https, or http to a loopback host written plainly (127.0.0.1, \[::1\], localhost); the path of a
    /// request is appended.
    pub url: String,
    /// Signing secret: "whsec_" and 24 to 64 bytes in base64. Two while a key is exchanged: both sign.
    pub secret: Secrets,
    /// How it wants bodies.
    pub format: Format,
    /// Whether its host may have a private address: the receiver is the company's own. Who answers for the name
    /// then chooses which machine of the network gets the requests.
    pub allow_private: bool,
}

/// Where a target is.
pub(crate) struct Place {
    /// The base URL without a slash at its end.
    pub(crate) base: String,
    /// Where its addresses may be.
    pub(crate) reach: Reach,
}

impl Target {
    /// What is wrong with it: the key, and what it is and may be.
    pub fn faults(&self) -> Vec<(&'static str, String)> {
        let mut faults: Vec<_> = self.misplaced().map(|message| ("url", message)).into_iter().collect();
        if self.secret.keys().is_none() {
            let allowed = "allowed one or two secrets, each whsec_ and 24 to 64 bytes in base64";
            faults.push(("secret", format!("is no secret, {allowed}")));
        }
        faults
    }

    /// What is wrong with its URL: what it is and may be.
    pub fn misplaced(&self) -> Option<String> {
        let message = self.place().err()?;
        // What stands before an @ may be a password.
        let shown = self.url.rsplit_once('@').map_or(self.url.as_str(), |(_, host)| host);
        Some(format!("is {shown:?}, {message}"))
    }

    /// Where it is, or what is allowed instead.
    pub(crate) fn place(&self) -> Result<Place, &'static str> {
        let url = Url::parse(&self.url).map_err(|_| ALLOWED_URL)?;
        let host = url.host_str().ok_or(ALLOWED_URL)?;
        let reach = match url.scheme() {
            "https" if self.allow_private => Reach::Private,
            "https" => Reach::Public,
            "http" if self.is_plain_loopback(host) => Reach::Loopback,
            _ => return Err(ALLOWED_URL),
        };
        let bare = url.username().is_empty() && url.password().is_none();
        if !bare || url.query().is_some() || url.fragment().is_some() {
            return Err(ALLOWED_URL);
        }
        // A literal address is connected to without being resolved, so it is checked here.
        if address(host).is_some_and(|ip| !reach.allows(ip)) {
            return Err(ALLOWED_ADDRESS);
        }
        Ok(Place { base: url.as_str().trim_end_matches('/').to_owned(), reach })
    }

    /// Whether the operator wrote a loopback host, and not something that only turns out to be one.
    fn is_plain_loopback(&self, host: &str) -> bool {
        let written = self.url.strip_prefix("http://").and_then(|rest| rest.strip_prefix(host));
        let written = written.is_some_and(|rest| rest.is_empty() || rest.starts_with([':', '/']));
        written && address(host).map_or(host == "localhost", |ip| ip.is_loopback())
    }
}

fn address(host: &str) -> Option<IpAddr> {
    host.trim_matches(['[', ']']).parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    fn faults(url: &str, secret: &str) -> Vec<&'static str> {
        let target = Target { url: url.to_owned(), secret: secret.into(), ..Target::default() };
        target.faults().into_iter().map(|(key, _)| key).collect()
    }

    #[test]
    fn only_https_or_loopback_targets_with_a_secret_are_allowed() {
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
        assert_eq!(faults("https://bank.example", "whsec_"), ["secret"]);
    }

    #[test]
    fn a_password_in_a_url_is_refused_and_not_repeated() {
        let target = Target { url: "https://ann:p@ss@bank.example".to_owned(), ..Target::default() };
        let (key, message) = target.faults().remove(0);
        assert_eq!(key, "url");
        assert!(
            message.contains("bank.example") && !message.contains("ann") && !message.contains("p@"),
            "{message}"
        );
    }
}
