//! Handoffs on their way to helpdesks, over real sockets.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use proto::*;
use serde_json::{Value, json};
use tests::{Helpdesk, MailServer, Receiver, SECRET, Transport, World};
use webhook::{Answer, Event, Method, Request, Sender, Target};

/// The handoff of a turn as soon as it is as wanted.
async fn until(world: &World, id: &str, wanted: impl Fn(&Handoff) -> bool) -> Handoff {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let request = GetHandoffRequest { handoff_id: id.to_owned(), suggest: false };
        let found = world.client.clone().get_handoff(request).await.unwrap().into_inner().handoff.unwrap();
        if wanted(&found) {
            return found;
        }
        assert!(Instant::now() < deadline, "{found:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn handed_over(world: &World, customer: &str, text: &str) -> String {
    let (customer_key, text) = (customer.to_owned(), text.to_owned());
    let turn = world.ask(Message { customer_key, text, ..Message::default() }).await;
    turn.handoff.unwrap().handoff_id
}

fn state(handoff: &Handoff, connector: &str) -> DeliveryState {
    handoff.deliveries.iter().find(|delivery| delivery.connector == connector).unwrap().state()
}

fn all_delivered(handoff: &Handoff) -> bool {
    handoff.deliveries.iter().all(|delivery| delivery.state() == DeliveryState::Delivered)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_helpdesk_gets_a_handoff_once_whatever_it_answered_before() {
    let (chatwoot, zendesk) = (Helpdesk::start(&[503]).await, Helpdesk::start(&[500, 429]).await);
    let (plain, mail) = (Receiver::start().await, MailServer::start(1).await);
    let world = World::with(
        Transport::Local,
        &[
            ("orchestrator", "connectors.plain.url", &plain.url),
            ("orchestrator", "connectors.plain.secret", SECRET),
            ("orchestrator", "connectors.chat.kind", "chatwoot"),
            ("orchestrator", "connectors.chat.url", &chatwoot.url),
            ("orchestrator", "connectors.chat.token", "tok-en"),
            ("orchestrator", "connectors.chat.account", "7"),
            ("orchestrator", "connectors.chat.inbox", "in-1"),
            ("orchestrator", "connectors.zen.kind", "zendesk"),
            ("orchestrator", "connectors.zen.url", &zendesk.url),
            ("orchestrator", "connectors.zen.token", "tok-en"),
            ("orchestrator", "connectors.mail.kind", "email"),
            ("orchestrator", "connectors.mail.server", &mail.address),
            ("orchestrator", "connectors.mail.tls", "none"),
            ("orchestrator", "connectors.mail.from", "bot@example.com"),
            ("orchestrator", "connectors.mail.to", "Desk <desk@example.com>"),
        ],
    )
    .await;
    let id = handed_over(&world, "ann@example.com", "agent, my kettle is on fire").await;
    let handoff = until(&world, &id, all_delivered).await;
    assert_eq!(handoff.deliveries.len(), 4, "{handoff:?}");
    let attempts = |name: &str| handoff.deliveries.iter().find(|one| one.connector == name).unwrap().attempts;
    assert_eq!(["chat", "mail", "plain", "zen"].map(attempts), [2, 2, 1, 2]);

    // Both made it before their answer was lost, and neither made it twice.
    let conversations = chatwoot.made();
    assert_eq!(conversations.len(), 1, "{conversations:?}");
    assert_eq!(
        (&conversations[0]["source_id"], &conversations[0]["message"]["private"]),
        (&id.as_str().into(), &true.into())
    );
    assert!(conversations[0]["message"]["content"].as_str().unwrap().contains("my kettle is on fire"));
    let tickets = zendesk.made();
    assert_eq!(tickets.len(), 1, "{tickets:?}");
    assert_eq!(tickets[0]["ticket"]["requester"]["email"], "ann@example.com");
    let signed = plain.received();
    assert_eq!((signed.len(), signed[0].key.as_str()), (1, id.as_str()));
    assert_eq!(signed[0].body["utterances"][0]["text"], "agent, my kettle is on fire");
    let mails = mail.mails();
    assert_eq!(mails.len(), 1, "{mails:?}");
    let message_id = format!("Message-ID: <{id}@example.com>");
    assert!(mails[0].contains(&message_id) && mails[0].contains("my kettle is on fire"), "{}", mails[0]);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_helpdesk_refuses_waits_for_a_person_and_is_sent_again_by_one() {
    let zendesk = Helpdesk::start(&[422]).await;
    let world = World::with(
        Transport::Local,
        &[
            ("orchestrator", "connectors.zen.kind", "zendesk"),
            ("orchestrator", "connectors.zen.url", &zendesk.url),
            ("orchestrator", "connectors.zen.token", "tok-en"),
        ],
    )
    .await;
    let id = handed_over(&world, "", "agent").await;
    let refused = until(&world, &id, |handoff| state(handoff, "zen") == DeliveryState::Failed).await;
    assert_eq!(refused.deliveries[0].error, "HTTP_422");
    let redeliver = || RedeliverHandoffRequest { handoff_id: id.clone() };
    world.client.clone().redeliver_handoff(redeliver()).await.unwrap();
    let delivered = until(&world, &id, all_delivered).await;
    assert_eq!((delivered.deliveries[0].reference.as_str(), zendesk.made().len()), ("1", 1));
    let again = world.client.clone().redeliver_handoff(redeliver()).await.unwrap_err();
    assert_eq!(again.code(), tonic::Code::FailedPrecondition);
    world.stop().await;
}

/// Reports to the assistant as a helpdesk that holds a secret does.
async fn reports(url: &str, secret: &str, path: &str, id: &str, body: &Value) -> Answer<()> {
    let target = Target { url: url.to_owned(), secret: secret.into(), ..Target::default() };
    let sender = Sender::new(&[("door".to_owned(), target)].into(), Duration::from_secs(5)).unwrap();
    let at = jiff::Timestamp::now();
    let request = Request {
        target: "door",
        id,
        method: Method::POST,
        path,
        headers: &BTreeMap::new(),
        body: &body.to_string(),
        event: Event { source: "/desk", kind: "desk", at },
        timeout: Duration::from_secs(5),
    };
    sender.send(request).await.and_then(|_| Answer::Done(()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_person_says_in_a_helpdesk_reaches_the_customer_once_and_an_end_gives_the_bot_back() {
    let plain = Receiver::start().await;
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let world = World::with(
        Transport::Local,
        &[
            ("orchestrator", "connectors.plain.url", &plain.url),
            ("orchestrator", "connectors.plain.secret", SECRET),
            ("orchestrator", "inbound_listen", &format!("{:?}", free.to_string())),
        ],
    )
    .await;
    let turn = world.say("", "agent").await;
    let id = turn.handoff.unwrap().handoff_id;
    until(&world, &id, all_delivered).await;
    let url = format!("http://{free}/v1/connectors");
    let reply = json!({ "event": "reply", "handoff_id": id, "author": "Ann", "text": "I send help." });
    let refused = |status: &str| Answer::Refused(format!("HTTP_{status}"));
    let stranger = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
    assert_eq!(reports(&url, stranger, "/plain", "m0", &reply).await, refused("401"));
    assert_eq!(reports(&url, SECRET, "/nobody", "m0", &reply).await, refused("404"));
    let long = json!({ "event": "reply", "handoff_id": id, "text": "x".repeat(300_000) });
    assert_eq!(reports(&url, SECRET, "/plain", "m0", &long).await, refused("413"));
    for _ in 0..2 {
        assert_eq!(reports(&url, SECRET, "/plain", "m1", &reply).await, Answer::Done(()));
    }
    let found = until(&world, &id, |_| true).await;
    assert_eq!((found.state(), found.assignee.as_str()), (HandoffState::Claimed, "plain Ann"));
    let said = found.utterances.iter().filter(|one| one.role() == Role::Agent).map(|one| one.text.as_str());
    assert_eq!(said.collect::<Vec<_>>(), ["I send help."]);

    let foreign = json!({ "event": "resolved", "handoff_id": "h_other", "author": "Ann" });
    assert_eq!(reports(&url, SECRET, "/plain", "m2", &foreign).await, Answer::Done(()));
    assert_eq!(until(&world, &id, |_| true).await.state(), HandoffState::Claimed);
    let end = json!({ "event": "resolved", "handoff_id": id, "author": "Ann", "disposition": "solved" });
    assert_eq!(reports(&url, SECRET, "/plain", "m3", &end).await, Answer::Done(()));
    assert_eq!(until(&world, &id, |_| true).await.state(), HandoffState::Resolved);
    let after = world.say(&turn.conversation_id, "What is the contactless limit?").await;
    assert_eq!(after.outcome(), Outcome::Answered, "{after:?}");
    world.stop().await;
}
