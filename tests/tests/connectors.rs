//! Handoffs on their way to helpdesks, over real sockets.

use std::time::{Duration, Instant};

use proto::*;
use tests::{Helpdesk, MailServer, Receiver, SECRET, Transport, World};

/// The handoff of a turn as soon as it is as wanted.
async fn until(world: &World, id: &str, wanted: impl Fn(&Handoff) -> bool) -> Handoff {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let request = GetHandoffRequest { handoff_id: id.to_owned() };
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
