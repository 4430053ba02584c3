//! Table `[orchestrator.connectors.NAME]`: helpdesks that get the handoffs.

use std::net::IpAddr;

use kit::Violation;
use lettre::Address;
use lettre::message::Mailbox;
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};
use webhook::{Format, HeaderName, Secrets, Target, Verifier};

use crate::payload;

const MAX_INBOX_BYTES: usize = 128;

/// What a helpdesk understands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A signed request.
    #[default]
    Webhook,
    /// The API of Chatwoot.
    Chatwoot,
    /// The API of Zendesk.
    Zendesk,
    /// A mail.
    Email,
}

/// How a mail server is spoken to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tls {
    /// Encrypted from the first byte, as on port 465.
    #[default]
    Implicit,
    /// Encrypted before anything is said, as on port 587; never without.
    Starttls,
    /// Not encrypted; to a loopback address only.
    None,
}

/// A helpdesk that gets the handoffs.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Connector {
    /// What it understands.
    pub kind: Kind,
    /// Base URL, under the rules of a target; not of an email.
    pub url: String,
    /// Signs requests of a webhook ("whsec_..."), and is what requests that come in from it are verified by; of
    /// Chatwoot and Zendesk, which sign by it only, 16 to 256 bytes, or empty when nothing comes in.
    pub secret: Secrets,
    /// How a webhook wants bodies.
    pub format: Format,
    /// Whether its host may have a private address.
    pub allow_private: bool,
    /// Of Chatwoot its access token, of Zendesk the value of the header Authorization, "Basic ..." or "Bearer ...".
    #[serde(skip_serializing)]
    pub token: Option<SecretString>,
    /// Of Chatwoot: id of the account, from 1.
    pub account: u32,
    /// Of Chatwoot: identifier of the inbox, one of the kind API.
    pub inbox: String,
    /// Body of what creates the handoff, a minijinja template of JSON; empty: the one of its kind.
    pub template: String,
    /// Of an email: host and port of the server, such as "smtp.example.com:465".
    pub server: String,
    /// Of an email: how the server is spoken to.
    pub tls: Tls,
    /// Of an email: its sender, such as "Firstline <bot@example.com>".
    pub from: String,
    /// Of an email: who gets it.
    pub to: String,
    /// Of an email: name at the server; empty: nobody logs in.
    pub user: String,
    /// Of an email: the password of that name.
    #[serde(skip_serializing)]
    pub password: Option<SecretString>,
}

impl Connector {
    /// Where its requests go.
    pub(crate) fn target(&self) -> Target {
        Target {
            url: self.url.clone(),
            secret: self.secret.clone(),
            format: self.format,
            allow_private: self.allow_private,
        }
    }

    /// The header that carries its token.
    pub(crate) fn header(&self) -> HeaderName {
        match self.kind {
            Kind::Chatwoot => HeaderName::from_static("api_access_token"),
            _ => HeaderName::from_static("authorization"),
        }
    }

    /// What verifies its requests; `None` where none come in.
    pub(crate) fn verifier(&self) -> Option<Verifier> {
        match self.kind {
            Kind::Webhook => Verifier::standard(&self.secret),
            Kind::Chatwoot => Verifier::chatwoot(&self.secret),
            Kind::Zendesk => Verifier::zendesk(&self.secret),
            Kind::Email => None,
        }
    }

    /// Host and port of the mail server.
    pub(crate) fn host(&self) -> Option<(&str, u16)> {
        let (host, port) = self.server.rsplit_once(':')?;
        Some((host.trim_matches(['[', ']']), port.parse().ok()?)).filter(|(host, _)| !host.is_empty())
    }

    /// Its mailboxes: from whom, to whom.
    pub(crate) fn mailboxes(&self) -> Option<(Mailbox, Mailbox)> {
        Some((self.from.parse().ok()?, self.to.parse().ok()?))
    }

    /// Adds what is wrong with it.
    pub(crate) fn validate(&self, name: &str, violations: &mut Vec<Violation>) {
        let mut wrong = |key: &str, message: String| {
            let key = if key.is_empty() {
                format!("connectors.{name}")
            } else {
                format!("connectors.{name}.{key}")
            };
            violations.push(Violation { key, message });
        };
        if name.is_empty()
            || !name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
        {
            wrong("", "has a name beyond a-z, 0-9 and _".to_owned());
        }
        match self.kind {
            Kind::Webhook => {
                self.target().faults().into_iter().for_each(|(key, message)| wrong(key, message))
            }
            Kind::Chatwoot | Kind::Zendesk => self.check_api(&mut wrong),
            Kind::Email => self.check_email(&mut wrong),
        }
        if let Err(message) = payload::check(self) {
            wrong("template", message);
        }
    }

    fn check_api(&self, wrong: &mut impl FnMut(&str, String)) {
        if let Some(message) = self.target().misplaced() {
            wrong("url", message);
        }
        if !self.secret.is_empty() && self.verifier().is_none() {
            wrong("secret", "is none, allowed one or two of 16 to 256 bytes".to_owned());
        }
        let printable = |token: &SecretString| {
            let token = token.expose_secret();
            !token.is_empty() && token.bytes().all(|byte| (b' '..=b'~').contains(&byte))
        };
        if !self.token.as_ref().is_some_and(printable) {
            wrong("token", "is missing or not printable".to_owned());
        }
        if self.kind == Kind::Zendesk {
            return;
        }
        if self.account == 0 {
            wrong("account", "is 0, allowed the id of the account, from 1".to_owned());
        }
        let plain = self.inbox.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
        if !plain || !(1..=MAX_INBOX_BYTES).contains(&self.inbox.len()) {
            wrong("inbox", format!("is {:?}, allowed the identifier of the inbox", self.inbox));
        }
    }

    fn check_email(&self, wrong: &mut impl FnMut(&str, String)) {
        let local = |host: &str| host == "localhost" || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback());
        match self.host() {
            None => wrong("server", format!("is {:?}, allowed HOST:PORT", self.server)),
            Some((host, _)) if self.tls == Tls::None && !local(host) => {
                wrong("tls", "is \"none\", allowed to a loopback address only".to_owned());
            }
            Some(_) => {}
        }
        for (key, value) in [("from", &self.from), ("to", &self.to)] {
            if value.parse::<Mailbox>().is_err() {
                wrong(key, format!("is {value:?}, allowed a mail address"));
            }
        }
        if self.user.is_empty() != self.password.is_none() {
            wrong("password", "belongs to user: allowed both or none".to_owned());
        }
    }
}

/// Whether a text is a mail address.
pub(crate) fn is_address(text: &str) -> bool {
    text.parse::<Address>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(connector: &Connector) -> Vec<String> {
        let mut violations = Vec::new();
        connector.validate("desk", &mut violations);
        violations.into_iter().map(|violation| violation.key.replace("connectors.desk.", "")).collect()
    }

    #[test]
    fn what_a_kind_needs_is_asked_for_by_its_key() {
        assert_eq!(faults(&Connector::default()), ["url", "secret"]);
        let bare = |kind| Connector { kind, ..Connector::default() };
        assert_eq!(faults(&bare(Kind::Chatwoot)), ["url", "token", "account", "inbox"]);
        assert_eq!(faults(&bare(Kind::Zendesk)), ["url", "token"]);
        assert_eq!(faults(&bare(Kind::Email)), ["server", "from", "to"]);
        let mail = Connector {
            server: "mail.example:25".to_owned(),
            tls: Tls::None,
            from: "bot@example.com".to_owned(),
            to: "Desk <desk@example.com>".to_owned(),
            user: "bot".to_owned(),
            ..bare(Kind::Email)
        };
        assert_eq!(faults(&mail), ["tls", "password"]);
        assert_eq!(
            faults(&Connector { server: "[::1]:25".to_owned(), user: String::new(), ..mail }),
            [""; 0]
        );
    }

    #[test]
    fn a_template_that_does_not_render_json_is_refused_before_the_start() {
        let connector = |template: &str| Connector {
            url: "https://desk.example".to_owned(),
            secret: "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".into(),
            template: template.to_owned(),
            ..Connector::default()
        };
        assert_eq!(faults(&connector(r#"{"text": {{ summary }}, "id": {{ handoff_id }}}"#)), [""; 0]);
        for template in ["{{ summary", r#"{"text": {{ summry }}}"#, r#"{"text": "{{ summary }}"}"#, "hello"] {
            assert_eq!(faults(&connector(template)), ["template"], "{template}");
        }
    }
}
