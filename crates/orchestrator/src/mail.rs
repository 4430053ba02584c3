//! A handoff as a mail.

use std::time::Duration;

use anyhow::Context as _;
use lettre::message::Mailbox;
use lettre::message::header::ContentType;
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Tls as Encryption, TlsParameters};
use lettre::transport::smtp::extension::ClientId;
use lettre::{AsyncSmtpTransport, AsyncTransport as _, Message, Tokio1Executor};
use secrecy::ExposeSecret as _;

use crate::connector::{Connector, Tls};
use crate::helpdesk::Answer;
use crate::outbox::Due;

const TIMEOUT: Duration = Duration::from_secs(15);

/// Mails to one mailbox through one server.
pub(crate) struct Mail {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
    to: Mailbox,
}

impl Mail {
    /// The mails of a valid connector.
    pub(crate) fn new(connector: &Connector) -> anyhow::Result<Self> {
        let (host, port) = connector.host().context("server")?;
        let (from, to) = connector.mailboxes().context("from, to")?;
        let parameters = || TlsParameters::new(host.to_owned()).context("no TLS client for the mail server");
        let encryption = match connector.tls {
            Tls::Implicit => Encryption::Wrapper(parameters()?),
            Tls::Starttls => Encryption::Required(parameters()?),
            Tls::None => Encryption::None,
        };
        // Without a name of its own the client would tell the server the name of this machine.
        let mut transport = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(host)
            .port(port)
            .tls(encryption)
            .hello_name(ClientId::Domain(from.email.domain().to_owned()))
            .timeout(Some(TIMEOUT));
        if let Some(password) = connector.password.as_ref().filter(|_| !connector.user.is_empty()) {
            let password = password.expose_secret().to_owned();
            transport = transport.credentials(Credentials::new(connector.user.clone(), password));
        }
        Ok(Self { transport: transport.build(), from, to })
    }

    /// Sends once. A mail that is sent again has the same Message-ID, so that a mailbox shows it once, or as one
    /// thread.
    pub(crate) async fn send(&self, due: &Due) -> Answer {
        let packet = &due.packet;
        let id = |key: &str| format!("<{key}@{}>", self.from.email.domain());
        let mut message = Message::builder();
        if due.part > 0 {
            message = message.in_reply_to(id(&due.handoff_id));
        }
        let message = message
            .from(self.from.clone())
            .to(self.to.clone())
            .subject(packet.subject.clone())
            .message_id(Some(id(&due.key())))
            .header(ContentType::TEXT_PLAIN)
            .body(packet.note.clone());
        let Ok(message) = message else { return Answer::Refused("REQUEST_MALFORMED".to_owned()) };
        let error = match self.transport.send(message).await {
            Ok(_) => return Answer::Done(None),
            Err(error) => error,
        };
        tracing::debug!(%error, "the mail server did not take a mail");
        match error.status() {
            Some(code) if error.is_permanent() => Answer::Refused(format!("SMTP_{code}")),
            Some(code) => Answer::NotNow(format!("SMTP_{code}")),
            None if error.is_timeout() => Answer::Unclear("TIMEOUT".to_owned()),
            None => Answer::Unclear("UNREACHABLE".to_owned()),
        }
    }
}
