//! Handoffs on their way to helpdesks, over real sockets.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use proto::*;
use serde_json::{Value, json};
use tests::{Helpdesk, MailServer, Receiver, SECRET, Transport, World, altered, scope};
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

/// Lets a handoff have waited for long enough.
fn has_waited(world: &World, id: &str) {
    let change = format!("UPDATE handoff SET waiting_since = 1 WHERE handoff_id = '{id}'");
    scratch::tamper(world.data.path(), "orchestrator", &change);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whom_nobody_takes_in_time_has_the_bot_back_and_people_a_ticket() {
    let (chatwoot, zendesk) = (Helpdesk::start(&[]).await, Helpdesk::start(&[]).await);
    let (plain, mail) = (Receiver::start().await, MailServer::start(0).await);
    let always = altered(|text| {
        let text = text.replace("[handoff]\n", "[handoff]\nwait_minutes = 600\n");
        text.lines().filter(|line| !line.contains("day = \"")).collect::<Vec<_>>().join("\n")
    });
    let settings = [
        ("orchestrator", "reap_every_ms", "100"),
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
    ];
    let world = World::over(Transport::Local, always.path(), &settings).await;
    let turn = world.say("", "agent").await;
    let (id, conversation_id) = (turn.handoff.unwrap().handoff_id, turn.conversation_id);
    until(&world, &id, all_delivered).await;
    has_waited(&world, &id);
    let called_back = |handoff: &Handoff| handoff.state() == HandoffState::Callback && all_delivered(handoff);
    let ticket = until(&world, &id, called_back).await;
    let told = ticket.utterances.last().unwrap();
    assert!(
        told.role() == Role::Assistant && told.text.contains(&format!("your reference is {id}")),
        "{told:?}"
    );
    let key = format!("{id}_1");
    let received = plain.received();
    assert_eq!(received.iter().map(|one| one.key.as_str()).collect::<Vec<_>>(), [&id, &key]);
    assert_eq!([&received[0].body["state"], &received[1].body["state"]], ["waiting", "callback"]);
    let noted = [&chatwoot.made()[1]["content"], &zendesk.made()[1]["ticket"]["comment"]["body"]];
    assert!(noted.iter().all(|note| note.as_str().unwrap().contains(&format!("({key})"))), "{noted:?}");
    let reply = format!("In-Reply-To: <{id}@example.com>");
    assert!(
        mail.mails()[1].contains(&reply) && mail.mails()[1].contains("Subject: callback: "),
        "{:?}",
        mail.mails()
    );

    // The bot is not mute until somebody takes the ticket, and a second wish for a person is the same one.
    let answered = world.say(&conversation_id, "What is the contactless limit?").await;
    assert_eq!(answered.outcome(), Outcome::Answered, "{answered:?}");
    let again = world.say(&conversation_id, "I insist, agent!").await.handoff.unwrap();
    assert_eq!(again.handoff_id, id);
    let waiting = until(&world, &id, all_delivered).await;
    assert_eq!((waiting.state(), waiting.deliveries.len()), (HandoffState::Waiting, 12));
    assert!(waiting.summary.contains("I insist"), "{waiting:?}");
    has_waited(&world, &id);
    until(&world, &id, called_back).await;
    let mut client = world.client.clone();
    let listed = client.list_handoffs(ListHandoffsRequest::default()).await.unwrap().into_inner().handoffs;
    assert_eq!(listed.iter().map(Handoff::state).collect::<Vec<_>>(), [HandoffState::Callback]);
    let (handoff_id, assignee) = (id.clone(), "ann".to_owned());
    client.claim_handoff(ClaimHandoffRequest { handoff_id, assignee }).await.unwrap();
    let muted = world.say(&conversation_id, "What is the contactless limit?").await;
    assert_eq!((muted.outcome(), muted.answer.as_str()), (Outcome::Handoff, ""));
    let (handoff_id, assignee, text) = (id.clone(), "ann".to_owned(), "I am here now.".to_owned());
    client.reply_as_agent(ReplyAsAgentRequest { handoff_id, assignee, text }).await.unwrap();
    let (handoff_id, assignee) = (id.clone(), "ann".to_owned());
    let end = ResolveHandoffRequest { handoff_id, assignee, ..ResolveHandoffRequest::default() };
    client.resolve_handoff(end).await.unwrap();
    let request = GetConversationRequest { conversation_id };
    let read = client.get_conversation(request).await.unwrap().into_inner();
    assert!(read.handoff.is_none() && read.utterances.last().unwrap().text == "I am here now.", "{read:?}");
    let keys = plain.received().into_iter().map(|one| one.key).collect::<Vec<_>>();
    assert_eq!(keys, [id.clone(), key, format!("{id}_2"), format!("{id}_3")]);
    drop(client);
    let data = world.stop().await;
    let broken = async || {
        let findings = audit::run(scope(data.path(), scratch::chosen(data.path()), &[])).await.unwrap();
        findings.into_iter().flat_map(|finding| finding.broken).collect::<Vec<_>>()
    };
    assert_eq!(broken().await, [""; 0]);
    scratch::tamper(
        data.path(),
        "orchestrator",
        "DELETE FROM delivery WHERE part = 2 AND connector = 'mail'",
    );
    assert_eq!(broken().await.len(), 1);
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
    let free = scratch::free();
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
