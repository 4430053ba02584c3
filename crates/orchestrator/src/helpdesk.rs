//! One attempt to deliver a handoff to a helpdesk.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context as _;
use jiff::Timestamp;
use serde_json::{Value, json};
use webhook::{Call, Caller, Event, Method, Request, Sender};

use crate::connector::{Connector, Kind};
use crate::mail::Mail;
use crate::outbox::Due;
use crate::payload;

/// What an attempt proved; with the helpdesk's own reference.
pub(crate) type Answer = webhook::Answer<Option<String>>;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const TIMEOUT: Duration = Duration::from_secs(10);
/// Longest attempt: three calls.
pub(crate) const LONGEST: Duration = Duration::from_secs(60);

/// Source and type of the CloudEvents that a webhook may ask for.
const SOURCE: &str = "/firstline/orchestrator";
const EVENT: &str = "dev.firstline.handoff";

/// A helpdesk as it is reached.
pub(crate) struct Helpdesk {
    pub(crate) name: String,
    connector: Connector,
    way: Way,
}

enum Way {
    Webhook(Sender),
    Api(Caller),
    Mail(Mail),
}

impl Helpdesk {
    /// The helpdesk of a valid connector.
    pub(crate) fn new(name: &str, connector: &Connector) -> anyhow::Result<Self> {
        let target = connector.target();
        let way = match connector.kind {
            Kind::Webhook => Way::Webhook(Sender::new(&[(name.to_owned(), target)].into(), CONNECT_TIMEOUT)?),
            Kind::Chatwoot | Kind::Zendesk => {
                let caller =
                    Caller::new(&target, connector.header(), connector.token.as_ref(), CONNECT_TIMEOUT)?;
                Way::Api(caller.context("its URL or token is not allowed")?)
            }
            Kind::Email => Way::Mail(Mail::new(connector)?),
        };
        Ok(Self { name: name.to_owned(), connector: connector.clone(), way })
    }

    /// Delivers once; what it did before is found again by the id of the handoff.
    pub(crate) async fn deliver(&self, due: &Due) -> Answer {
        let Ok(body) = payload::body(&self.connector, &due.packet) else {
            return Answer::Refused("TEMPLATE".to_owned());
        };
        let sent = async {
            match (&self.way, self.connector.kind) {
                (Way::Webhook(sender), _) => self.signed(sender, due, &body).await,
                (Way::Mail(mail), _) => mail.send(due).await,
                (Way::Api(caller), kind) => {
                    let sent = match kind {
                        _ if due.part > 0 => self.noted(caller, due).await,
                        Kind::Chatwoot => self.chatwoot(caller, &due.handoff_id, &body).await,
                        _ => self.zendesk(caller, due, &body).await,
                    };
                    sent.unwrap_or_else(|answer| answer)
                }
            }
        };
        tokio::time::timeout(LONGEST, sent).await.unwrap_or_else(|_| Answer::Unclear("TIMEOUT".to_owned()))
    }

    async fn signed(&self, sender: &Sender, due: &Due, body: &str) -> Answer {
        let at = Timestamp::from_microsecond(due.created_at).unwrap_or_default();
        let request = Request {
            target: &self.name,
            id: &due.key(),
            method: Method::POST,
            path: "",
            headers: &BTreeMap::new(),
            body,
            event: Event { source: SOURCE, kind: EVENT, at },
            timeout: TIMEOUT,
        };
        let reference = |reply: webhook::Reply| {
            let body = serde_json::from_slice(&reply.body.unwrap_or_default()).unwrap_or_default();
            Answer::Done(payload::at(&body, "/reference"))
        };
        sender.send(request).await.and_then(reference)
    }

    /// A contact of the inbox whose source id is the handoff's, which Chatwoot makes once; its conversation, unless
    /// there is one; with it, in one transaction, a private note.
    async fn chatwoot(&self, caller: &Caller, id: &str, body: &str) -> Result<Answer, Answer> {
        let Connector { account, inbox, .. } = &self.connector;
        let contacts = format!("/public/api/v1/inboxes/{inbox}/contacts");
        let contact = json!({ "source_id": id, "name": id }).to_string();
        self.call(caller, id, Method::POST, &contacts, &contact).await?;
        let found = self.call(caller, id, Method::GET, &format!("{contacts}/{id}/conversations"), "").await?;
        if let Some(known) = found.as_array().ok_or_else(unread)?.first() {
            return Ok(Answer::Done(payload::at(known, "/id")));
        }
        let conversations = format!("/api/v1/accounts/{account}/conversations");
        let made = self.call(caller, id, Method::POST, &conversations, body).await?;
        Ok(Answer::Done(payload::at(&made, "/id")))
    }

    /// A ticket whose external id is the handoff's. Zendesk keeps idempotency keys for hours; the external id stays.
    async fn zendesk(&self, caller: &Caller, due: &Due, body: &str) -> Result<Answer, Answer> {
        let id = &due.handoff_id;
        if due.attempt > 1 {
            let tickets = format!("/api/v2/tickets.json?external_id={id}");
            let found = self.call(caller, id, Method::GET, &tickets, "").await?;
            let found = found.pointer("/tickets").and_then(Value::as_array).ok_or_else(unread)?;
            if let Some(known) = found.first() {
                return Ok(Answer::Done(payload::at(known, "/id")));
            }
        }
        let made = self.call(caller, id, Method::POST, "/api/v2/tickets.json", body).await?;
        Ok(Answer::Done(payload::at(&made, "/ticket/id")))
    }

    /// A private note to the conversation or ticket, once: it holds its key.
    async fn noted(&self, caller: &Caller, due: &Due) -> Result<Answer, Answer> {
        let (key, reference) = (due.key(), &due.reference);
        if reference.is_empty() || !reference.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return Err(Answer::Refused("REFERENCE_MISSING".to_owned()));
        }
        let mark = format!("({key})");
        let note = format!("{}\n\n{mark}", due.packet.note);
        let (list, method, path, body) = match self.connector.kind {
            Kind::Chatwoot => {
                let account = &self.connector.account;
                let messages = format!("/api/v1/accounts/{account}/conversations/{reference}/messages");
                let body = json!({ "content": note, "message_type": "outgoing", "private": true });
                (messages.clone(), Method::POST, messages, body)
            }
            _ => {
                let ticket = format!("/api/v2/tickets/{reference}");
                let body = json!({ "ticket": { "comment": { "body": note, "public": false } } });
                (format!("{ticket}/comments.json"), Method::PUT, format!("{ticket}.json"), body)
            }
        };
        let known = match due.attempt {
            1 => Value::Null,
            _ => self.call(caller, &key, Method::GET, &list, "").await?,
        };
        if !known.to_string().contains(&mark) {
            self.call(caller, &key, method, &path, &body.to_string()).await?;
        }
        Ok(Answer::Done(Some(reference.clone())))
    }

    async fn call(
        &self,
        caller: &Caller,
        id: &str,
        method: Method,
        path: &str,
        body: &str,
    ) -> Result<Value, Answer> {
        let call = Call { id, method, path, body, timeout: TIMEOUT };
        match caller.call(&self.name, call).await {
            webhook::Answer::Done(json) => Ok(json),
            // No answer that could be judged by its words.
            failed => Err(failed.and_then(|_| Answer::Done(None))),
        }
    }
}

/// Without the list nobody knows whether it is there.
fn unread() -> Answer {
    Answer::Unclear("ANSWER_MALFORMED".to_owned())
}
