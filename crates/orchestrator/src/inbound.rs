//! What people say in a helpdesk, taken once.

use proto::Role;
use serde_json::Value;
use sql::{Connection, Result, values};

use crate::connector::Kind;
use crate::desk::{self, End};
use crate::feedback;
use crate::payload::at;
use crate::store::Journal;

/// What came in; see [`MIGRATIONS`](crate::store::MIGRATIONS).
pub(crate) const TABLES: &str = "
CREATE TABLE inbound (
    connector TEXT NOT NULL, id TEXT NOT NULL, received_at INTEGER NOT NULL,
    PRIMARY KEY (connector, id)) STRICT, WITHOUT ROWID;
CREATE INDEX inbound_by_time ON inbound (received_at);
";

/// How long it is known what came in, in microseconds: thirty days.
const KEPT: i64 = 30 * 24 * 3600 * 1_000_000;
const MAX_TEXT_BYTES: usize = 64 * 1024;
const MAX_NAME_CHARS: usize = 100;

/// What a person did in a helpdesk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Act {
    /// What the helpdesk knows it by; empty where only the request's own signature tells it from others.
    pub(crate) id: String,
    pub(crate) handoff_id: String,
    /// Who did it.
    pub(crate) person: String,
    pub(crate) what: What,
}

/// What it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum What {
    /// Wrote to the customer.
    Reply(String),
    /// Ended the handoff.
    Resolve { disposition: String, intent: String },
}

/// What of a request says what, by JSON pointer.
struct Pointers {
    /// Where it is the handoff's id, the first that is there.
    handoff: &'static [&'static str],
    event: &'static str,
    id: &'static str,
    text: &'static str,
    person: &'static str,
    disposition: &'static str,
    intent: &'static str,
}

/// As Firstline defines it, and as a trigger of Zendesk is set up to write it.
const OWN: Pointers = Pointers {
    handoff: &["/handoff_id"],
    event: "/event",
    id: "/id",
    text: "/text",
    person: "/author",
    disposition: "/disposition",
    intent: "/intent",
};

/// A message has its conversation in it, a change of state is one. The source id of the contact is the handoff's.
const CHATWOOT: Pointers = Pointers {
    handoff: &["/conversation/contact_inbox/source_id", "/contact_inbox/source_id"],
    event: "/event",
    id: "/id",
    text: "/content",
    person: "/sender/name",
    disposition: "/custom_attributes/disposition",
    intent: "/custom_attributes/intent",
};

impl Act {
    /// What a request of a helpdesk says; `None` when it says nothing that a person does to a handoff.
    pub(crate) fn read(kind: Kind, json: &Value) -> Option<Self> {
        let pointers = if kind == Kind::Chatwoot { CHATWOOT } else { OWN };
        let text = |pointer: &str| at(json, pointer).unwrap_or_default();
        let handoff_id = pointers.handoff.iter().find_map(|pointer| at(json, pointer))?;
        let event = at(json, pointers.event)?;
        let (is_reply, is_end, id) = match kind {
            Kind::Chatwoot => {
                let outgoing =
                    at(json, "/message_type").is_some_and(|kind| kind == "outgoing" || kind == "1");
                // A note has no customer, and what the bot writes no person.
                let said = outgoing && json.pointer("/private") == Some(&Value::Bool(false));
                let by_person = at(json, "/sender/type").is_none_or(|kind| kind == "user");
                let reply = event == "message_created" && said && by_person;
                let ended = text("/status") == "resolved";
                let id = if reply { format!("message {}", text(pointers.id)) } else { String::new() };
                (reply, event == "conversation_status_changed" && ended, id)
            }
            _ => (event == "reply", event == "resolved", text(pointers.id)),
        };
        let what = match at(json, pointers.text) {
            Some(said) if is_reply && said.len() <= MAX_TEXT_BYTES => What::Reply(said),
            _ if is_end => {
                let plain = |pointer| {
                    text(pointer).chars().filter(|one| !one.is_control()).take(MAX_NAME_CHARS).collect()
                };
                What::Resolve { disposition: plain(pointers.disposition), intent: plain(pointers.intent) }
            }
            _ => return None,
        };
        let person = text(pointers.person).chars().take(MAX_NAME_CHARS).collect();
        Some(Self { id, handoff_id, person, what })
    }
}

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Taken {
    /// It is stored.
    Now,
    /// It was before.
    Before,
    /// There is no such handoff, or it has ended.
    Ended,
}

impl Journal {
    /// Takes what a person did in a helpdesk, once by its id. The desk is the helpdesk's: who acts there has the
    /// handoff, under the name of the connector and their own.
    pub(crate) async fn take(&self, connector: &str, act: Act) -> Result<Taken> {
        let connector = connector.to_owned();
        let (traceparent, owner) = (kit::Call::current().traceparent(), self.owner.clone());
        let write = move |connection: &mut Connection<'_>| {
            let now = connection.now()?;
            let insert =
                "INSERT INTO inbound (connector, id, received_at) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING";
            if connection.execute(insert, values![&connector, &act.id, now])? == 0 {
                return Ok(Taken::Before);
            }
            connection.execute("DELETE FROM inbound WHERE received_at < $1", values![now - KEPT])?;
            let sent = "SELECT conversation_id, turn_id FROM handoff JOIN delivery USING (handoff_id)
                WHERE handoff_id = $1 AND connector = $2 AND handoff.state <> 3";
            let find = |connection: &mut Connection<'_>| {
                connection.first(sent, values![&act.handoff_id, &connector], |row| {
                    Ok((row.get::<String, _>(0)?, row.get::<String, _>(1)?))
                })
            };
            let Some((conversation_id, _)) = find(connection)? else { return Ok(Taken::Ended) };
            connection.lock(&conversation_id)?;
            // Whoever held it before may have ended the handoff.
            let Some((_, turn_id)) = find(connection)? else { return Ok(Taken::Ended) };
            let person = [connector.as_str(), act.person.as_str()].join(" ");
            let update = "UPDATE handoff SET state = 2, assignee = $1 WHERE handoff_id = $2";
            connection.execute(update, values![person.trim_end(), &act.handoff_id])?;
            match &act.what {
                What::Reply(text) => {
                    let name = format!("r_{}", uuid::Uuid::now_v7().simple());
                    feedback::demonstrate(
                        connection,
                        (&act.handoff_id, &name),
                        text,
                        (&owner, &traceparent),
                    )?;
                    let insert = "INSERT INTO utterance (conversation_id, turn_id, role, text) VALUES ($1, '', $2, $3)";
                    connection.execute(insert, values![&conversation_id, Role::Agent as i32, text])?;
                }
                What::Resolve { disposition, intent } => {
                    let how = End::of(turn_id, intent.clone(), disposition.clone());
                    desk::end(connection, &act.handoff_id, &conversation_id, &how, (&owner, &traceparent))?;
                }
            }
            Ok(Taken::Now)
        };
        self.sql.write(write).await
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_what_a_person_tells_a_customer_is_a_reply() {
        let message = |kind: &str, private: bool, sender: &str| {
            json!({
                "event": "message_created", "id": 31, "content": "On its way.", "message_type": kind, "private": private,
                "sender": { "name": "Ann", "type": sender },
                "conversation": { "contact_inbox": { "source_id": "h_1" } },
            })
        };
        let act = Act::read(Kind::Chatwoot, &message("outgoing", false, "user")).unwrap();
        let reply = What::Reply("On its way.".to_owned());
        assert_eq!(
            (act.id.as_str(), act.handoff_id.as_str(), act.person.as_str(), act.what),
            ("message 31", "h_1", "Ann", reply)
        );
        for other in [
            message("incoming", false, "contact"),
            message("outgoing", true, "user"),
            message("outgoing", false, "agent_bot"),
        ] {
            assert_eq!(Act::read(Kind::Chatwoot, &other), None, "{other}");
        }
    }

    #[test]
    fn an_end_is_one_in_the_words_of_its_helpdesk() {
        let changed = |status: &str| json!({ "event": "conversation_status_changed", "id": 4, "status": status, "contact_inbox": { "source_id": "h_1" } });
        assert!(matches!(
            Act::read(Kind::Chatwoot, &changed("resolved")).unwrap().what,
            What::Resolve { .. }
        ));
        assert_eq!(Act::read(Kind::Chatwoot, &changed("open")), None);
        let own = json!({ "event": "resolved", "handoff_id": "h_1", "disposition": "refund", "intent": "card_arrival" });
        let end = What::Resolve { disposition: "refund".to_owned(), intent: "card_arrival".to_owned() };
        assert_eq!(Act::read(Kind::Zendesk, &own).unwrap().what, end);
    }
}
