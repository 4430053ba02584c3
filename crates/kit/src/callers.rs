//! Who a process is, and whom it believes: tables `[server.tls]`, `[server.tokens]` and `[server.jwt]`.

use std::path::PathBuf;

use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};

use crate::access::Role;
use crate::config::{Server, Violation};

/// Who this process is towards the others, and whom it believes: table `[server.tls]`. The files are read again when
/// they change.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tls {
    /// Certificate with those between it and its authority, a PEM file; empty means plain text. Its names (SAN) say who
    /// this is: a DNS name that begins with the stage's name, or a URI that ends with it.
    pub cert: PathBuf,
    /// Its private key, a PEM file.
    pub key: PathBuf,
    /// Certificates of the authorities that vouch for the others, a PEM file.
    pub ca: PathBuf,
}

impl Tls {
    /// Whether connections are encrypted and both sides say who they are.
    #[must_use]
    pub fn is_on(&self) -> bool {
        !self.cert.as_os_str().is_empty()
    }

    pub(crate) fn validate(&self, violations: &mut Vec<Violation>) {
        let given = [("cert", &self.cert), ("key", &self.key), ("ca", &self.ca)];
        let (set, missing): (Vec<_>, Vec<_>) =
            given.into_iter().partition(|(_, path)| !path.as_os_str().is_empty());
        // An authority alone is what a client without a certificate needs.
        if set.iter().any(|(name, _)| *name != "ca") {
            for (name, _) in missing {
                let message = "is empty, needed with the others of server.tls".to_owned();
                violations.push(Violation { key: format!("tls.{name}"), message });
            }
        }
    }
}

/// Somebody who calls with a secret instead of a certificate: table `[server.tokens.NAME]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Token {
    /// The secret, 32 bytes at least, sent as `authorization: Bearer ...`.
    #[serde(skip_serializing)]
    pub token: SecretString,
    /// What they may do.
    pub role: Role,
}

/// Whose tokens are believed that are signed (RFC 7519): table `[server.jwt]`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Jwt {
    /// Public keys of the issuer, a file with a JWK set (RFC 7517), read again when it changes; empty means that none is
    /// believed.
    pub keys: PathBuf,
    /// What `iss` has to be.
    pub issuer: String,
    /// What `aud` has to hold.
    pub audience: String,
    /// What the claim `tenant` has to be: tokens of other installations of the same issuer are refused. Empty: not
    /// looked at.
    pub tenant: String,
}

/// Least length of a secret that a caller is known by, in bytes.
const LEAST_TOKEN: usize = 32;

impl Server {
    /// Whether callers have to say who they are.
    #[must_use]
    pub fn asks_callers(&self) -> bool {
        self.tls.is_on() || self.knows_tokens()
    }

    /// Whether callers may bring a token instead of a certificate.
    pub(crate) fn knows_tokens(&self) -> bool {
        !self.tokens.is_empty() || !self.jwt.keys.as_os_str().is_empty()
    }

    /// How the URLs of its stages begin.
    #[must_use]
    pub fn scheme(&self) -> &'static str {
        if self.tls.is_on() { "https" } else { "http" }
    }

    pub(crate) fn validate_callers(&self, violations: &mut Vec<Violation>) {
        let mut refuse = |key: String, message: String| violations.push(Violation { key, message });
        for (name, Token { token, .. }) in &self.tokens {
            let length = token.expose_secret().len();
            if length < LEAST_TOKEN {
                refuse(
                    format!("tokens.{name}.token"),
                    format!("is {length} bytes, allowed {LEAST_TOKEN} and more"),
                );
            }
        }
        let Jwt { keys, issuer, audience, .. } = &self.jwt;
        if !keys.as_os_str().is_empty() {
            // A token that its issuer signed for somebody else must not open anything here.
            for (name, value) in [("issuer", issuer), ("audience", audience)] {
                if value.is_empty() {
                    refuse(format!("jwt.{name}"), "is empty, needed with server.jwt.keys".to_owned());
                }
            }
        }
    }
}
