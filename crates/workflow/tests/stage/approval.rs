//! High risk: what waits for a person after the customer's yes, and what comes of it.

use proto::{
    AcknowledgeNoticeRequest, ApproveRequest, Execution, ExecutionState, ListExecutionsRequest,
    ListNoticesRequest, Notice,
};

use super::execution::{Receiver, tamper};
use super::support::{self, Desk};

const WIPE: &str = r#"
name = "wipe"
title = "Wipe a device"
intents = ["wipe"]
risk = "high"
effect = "idempotent"
threshold = 0.5
confirmation = "Wipe {{ device }}?"
done = "Wiped {{ device }}, {{ reference }}."
request = { method = "POST", target = "bank", path = "/wipe", body = { device = "{{ device }}" } }
caps = { per_day = 2 }
[[precondition]]
when = "customer.owner == 'yes'"
reason = "NOT_OWNER"
message = "Only its owner may."
[[precondition]]
when = "slots.device != '0000'"
reason = "NO_DEVICE"
message = "There is no {{ device }}."
[[slot]]
name = "device"
type = "pattern"
pattern = "[0-9]{4}"
prompt = "Which?"
"#;

/// Brings a conversation to where a person is waited for.
async fn waiting(desk: &Desk, conversation: &str) -> String {
    desk.talk(conversation);
    desk.knows(&[("owner", "yes")]);
    let id = desk.say("wipe 1234", "wipe").await.status.unwrap().execution_id;
    let confirmed = desk.confirm(&id).await;
    assert_eq!(confirmed.status.unwrap().state(), ExecutionState::AwaitingApproval);
    assert!(confirmed.message.starts_with("A colleague has to approve this"), "{}", confirmed.message);
    id
}

async fn decide(
    desk: &Desk,
    id: &str,
    approved: bool,
    actor: &str,
) -> Result<(Execution, String), tonic::Status> {
    let (execution_id, actor, note) = (id.to_owned(), actor.to_owned(), "called her".to_owned());
    let request = ApproveRequest { execution_id, approved, actor, note };
    let response = desk.client.clone().approve(request).await?.into_inner();
    Ok((response.execution.unwrap(), response.message))
}

async fn notices(desk: &Desk) -> Vec<Notice> {
    desk.client.clone().list_notices(ListNoticesRequest::default()).await.unwrap().into_inner().notices
}

fn end(execution: &Execution) -> (ExecutionState, &str) {
    let status = execution.status.as_ref().unwrap();
    (status.state(), status.error.as_str())
}

#[tokio::test]
async fn a_high_risk_is_sent_when_a_person_approves_and_its_customer_is_told_the_end() {
    let (dir, receiver) = (support::bundle_with(WIPE), Receiver::start(&[]));
    let desk = Desk::open(dir.path(), &receiver.settings()).await;
    let id = waiting(&desk, "c").await;
    assert_eq!(desk.confirm(&id).await.status.unwrap().state(), ExecutionState::AwaitingApproval);
    assert!(receiver.seen().is_empty() && notices(&desk).await.is_empty());
    let list = ListExecutionsRequest {
        state: ExecutionState::AwaitingApproval.into(),
        ..ListExecutionsRequest::default()
    };
    let listed = desk.client.clone().list_executions(list).await.unwrap().into_inner().executions;
    assert_eq!(listed, [desk.get(&id).await]);
    let nobody = decide(&desk, &id, true, "").await.unwrap_err();
    assert_eq!(nobody.code(), tonic::Code::InvalidArgument);

    let (done, told) = decide(&desk, &id, true, "ann").await.unwrap();
    assert_eq!((end(&done), told.as_str()), ((ExecutionState::Done, ""), "Wiped 1234, R-1."));
    assert_eq!((done.approved_by.as_str(), done.approval_note.as_str()), ("ann", "called her"));
    assert_eq!(decide(&desk, &id, true, "ann").await.unwrap().0, done);
    for (approved, actor) in [(true, "bob"), (false, "ann")] {
        let late = decide(&desk, &id, approved, actor).await.unwrap_err();
        assert_eq!(late.code(), tonic::Code::FailedPrecondition);
    }
    assert_eq!(receiver.seen().len(), 1);
    let told = notices(&desk).await;
    assert_eq!((told.len(), told[0].message.as_str(), told[0].explained), (1, "Wiped 1234, R-1.", false));
    desk.client.clone().acknowledge_notice(AcknowledgeNoticeRequest { execution_id: id }).await.unwrap();
    assert!(notices(&desk).await.is_empty());
}

#[tokio::test]
async fn what_a_person_rejects_is_not_done_and_its_customer_is_told_so() {
    let (dir, receiver) = (support::bundle_with(WIPE), Receiver::start(&[]));
    let desk = Desk::open(dir.path(), &receiver.settings()).await;
    let id = waiting(&desk, "c").await;
    let (rejected, told) = decide(&desk, &id, false, "ann").await.unwrap();
    assert_eq!(end(&rejected), (ExecutionState::Cancelled, "REJECTED"));
    assert!(told.contains("did not approve"), "{told}");
    assert_eq!(decide(&desk, &id, false, "ann").await.unwrap().0, rejected);
    assert_eq!(decide(&desk, &id, true, "ann").await.unwrap_err().code(), tonic::Code::FailedPrecondition);
    let notices = notices(&desk).await;
    assert_eq!((notices.len(), &notices[0].message, notices[0].explained), (1, &told, true));
    assert!(receiver.seen().is_empty());
}

#[tokio::test]
async fn a_customer_gives_up_what_waits_or_does_other_things_meanwhile() {
    let (dir, receiver) = (support::bundle_with(WIPE), Receiver::start(&[]));
    let desk = Desk::open(dir.path(), &receiver.settings()).await;
    let (kept, id) = (waiting(&desk, "other").await, waiting(&desk, "c").await);
    assert!(!desk.say("thanks, how long does that take?", "").await.handled);
    let card = desk.say("I lost card 5678", "lost_card").await.status.unwrap();
    assert!(card.awaiting_confirmation);
    let dropped = desk.say("cancel that", "").await.status.unwrap();
    assert_eq!(dropped.execution_id, card.execution_id, "what is asked for comes first");
    let dropped = desk.send("t", "cancel that", "?lost_card", 0.4).await.unwrap();
    assert_eq!(dropped, desk.send("t", "cancel that", "?lost_card", 0.4).await.unwrap());
    let status = dropped.status.unwrap();
    assert_eq!((status.execution_id, status.error.as_str()), (id.clone(), ""));
    assert!(dropped.handled && dropped.message.contains("not done anything"), "{}", dropped.message);
    assert!(!desk.say("cancel that", "").await.handled);
    assert_eq!(decide(&desk, &id, true, "ann").await.unwrap_err().code(), tonic::Code::FailedPrecondition);
    assert!(notices(&desk).await.is_empty(), "he knows");
    assert_eq!(end(&desk.get(&kept).await), (ExecutionState::AwaitingApproval, ""));
    assert!(receiver.seen().is_empty());
}

#[tokio::test]
async fn the_gate_looks_once_more_when_a_person_approves() {
    let receiver = Receiver::start(&[]);
    for (change, workflow, state, error) in [
        ("UPDATE execution SET attempts = 0", WIPE.to_owned(), ExecutionState::Done, ""),
        (
            "UPDATE execution SET attempts = 0",
            WIPE.replace("threshold = 0.5", "threshold = 0.95"),
            ExecutionState::Cancelled,
            "CONFIDENCE_TOO_LOW",
        ),
        (
            "UPDATE execution SET attempts = 0",
            WIPE.replace("'0000'", "'1234'"),
            ExecutionState::Cancelled,
            "NO_DEVICE",
        ),
        ("UPDATE execution SET updated_at = 0", WIPE.to_owned(), ExecutionState::Cancelled, "EXPIRED"),
    ] {
        let dir = support::bundle_with(WIPE);
        let desk = Desk::open(dir.path(), &receiver.settings()).await;
        let id = waiting(&desk, "c").await;
        desk.context.tasks.close();
        desk.context.shutdown.cancel();
        desk.context.tasks.wait().await;
        drop(desk);
        tamper(dir.path(), change);
        std::fs::write(dir.path().join("workflows/more.toml"), workflow).unwrap();
        let desk = Desk::open(dir.path(), &receiver.settings()).await;
        match decide(&desk, &id, true, "ann").await {
            Ok((decided, _)) => assert_eq!(end(&decided), (state, error)),
            Err(status) => assert_eq!((status.code(), error), (tonic::Code::FailedPrecondition, "EXPIRED")),
        }
        assert_eq!(end(&desk.get(&id).await), (state, error));
        let told = notices(&desk).await;
        assert_eq!(told.len(), 1, "{error}");
        let expected = match error {
            "" => "Wiped 1234",
            "NO_DEVICE" => "There is no 1234.",
            "EXPIRED" => "no colleague could approve your request in time",
            _ => "I cannot do this here",
        };
        assert!(told[0].message.contains(expected), "{}", told[0].message);
        assert_eq!(told[0].explained, ["NO_DEVICE", "EXPIRED"].contains(&error), "{error}");
    }
    assert_eq!(receiver.seen().len(), 1);
}

#[tokio::test]
async fn the_caps_of_a_day_count_what_is_approved_and_not_what_waits() {
    let (dir, receiver) = (support::bundle_with(WIPE), Receiver::start(&[]));
    let desk = Desk::open(dir.path(), &receiver.settings()).await;
    let mut ends = Vec::new();
    let ids = [waiting(&desk, "a").await, waiting(&desk, "b").await, waiting(&desk, "c").await];
    for id in &ids {
        ends.push(decide(&desk, id, true, "ann").await.unwrap().0);
    }
    let ends: Vec<_> = ends.iter().map(end).collect();
    let done = (ExecutionState::Done, "");
    assert_eq!(ends, [done, done, (ExecutionState::Cancelled, "CAP_PER_DAY")]);
    assert_eq!((receiver.seen().len(), notices(&desk).await.len()), (2, 3));
}
