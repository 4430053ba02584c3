//! Dry runs: the gate and the request, and nothing else.

use proto::{
    ConfirmRequest, ConfirmResponse, ExecutionState, Intent, IntentDecision, ListExecutionsRequest,
    ProposeRequest, ProposeResponse, Rehearsal, SafetyAction, SafetyStatus, Verdict,
};

use super::execution::{Receiver, propose};
use super::support::{self, Desk};

async fn rehearse(desk: &Desk, id: &str, action: SafetyAction) -> Rehearsal {
    let verdict = Verdict { action: action.into(), status: SafetyStatus::Ok.into(), ..Verdict::default() };
    let request = ConfirmRequest {
        execution_id: id.to_owned(),
        verdict: Some(verdict),
        turn_id: "shadow".to_owned(),
        dry_run: true,
        ..ConfirmRequest::default()
    };
    let ConfirmResponse { status, message, rehearsal, .. } =
        desk.client.clone().confirm(request).await.unwrap().into_inner();
    assert_eq!((status.unwrap().execution_id.as_str(), message.as_str()), (id, ""));
    rehearsal.unwrap()
}

#[tokio::test]
async fn a_dry_run_says_what_would_be_sent_and_changes_nothing() {
    let dir = support::bundle();
    let file = dir.path().join("workflows/pay.toml");
    let mailed = std::fs::read_to_string(&file).unwrap().replace(
        "path = \"/pay\"",
        "path = \"/pay\", query = { to = \"{{ email }}\" }, unquoted = [\"amount\"]",
    );
    std::fs::write(&file, mailed.replace("shop = \"{{ shop }}\"", "mail = \"to {{ email }}\"")).unwrap();
    let receiver = Receiver::start(&[]);
    let desk = Desk::open(dir.path(), &receiver.settings()).await;
    desk.say("I want a refund of £12", "refund").await;
    for answer in ["yesterday", "Corner Bakery", "jo.bloggs@mail.example"] {
        desk.say(answer, "").await;
    }
    let id = desk.say("none", "").await.status.unwrap().execution_id;
    let before = desk.get(&id).await;
    let run = rehearse(&desk, &id, SafetyAction::Allow).await;
    assert_eq!((run.refused.as_str(), run.needs_approval), ("", false));
    assert_eq!((run.method.as_str(), run.target.as_str()), ("POST", "bank"));
    assert!(run.path.starts_with("/pay?to=") && run.body.contains("\"amount\":12"), "{run:?}");
    assert!(!format!("{run:?}").contains("bloggs"), "{run:?}");
    let held = rehearse(&desk, &id, SafetyAction::Block).await;
    assert_eq!((held.refused.as_str(), &held.body), ("SAFETY_REFUSED", &run.body));
    assert_eq!((desk.get(&id).await, receiver.seen().len()), (before, 0));

    assert_eq!(desk.confirm(&id).await.status.unwrap().state(), ExecutionState::Done);
    let body = &receiver.seen()[0].body;
    assert_eq!(body["mail"], "to jo.bloggs@mail.example");
    assert_eq!(rehearse(&desk, &id, SafetyAction::Allow).await.refused, "NOT_OPEN");
}

#[tokio::test]
async fn a_dry_run_knows_the_caps_and_does_not_count_against_them() {
    let dir = support::bundle();
    let file = dir.path().join("workflows/block.toml");
    let capped = std::fs::read_to_string(&file)
        .unwrap()
        .replace("[[slot]]\nname = \"last4\"", "[caps]\nper_day = 1\n[[slot]]\nname = \"last4\"");
    std::fs::write(&file, capped).unwrap();
    let receiver = Receiver::start(&[]);
    let desk = Desk::open(dir.path(), &receiver.settings()).await;
    let (one, other) = (propose(&desk, "a", true).await, propose(&desk, "b", true).await);
    for id in [&one, &other] {
        assert_eq!(rehearse(&desk, id, SafetyAction::Allow).await.refused, "");
    }
    assert_eq!(desk.confirm(&one).await.status.unwrap().state(), ExecutionState::Done);
    let refused = rehearse(&desk, &other, SafetyAction::Allow).await;
    assert_eq!(refused.refused, "CAP_PER_DAY");
    assert!(refused.why.contains("caps.per_day, 1"), "{refused:?}");
}

async fn foresee(desk: &Desk, text: &str, intent: &str) -> ProposeResponse {
    let decision = IntentDecision::Accept.into();
    let intent = Intent { name: intent.to_owned(), confidence: 0.9, decision, ..Intent::default() };
    let request = ProposeRequest {
        conversation_id: "unseen".to_owned(),
        turn_id: "u1".to_owned(),
        text: text.to_owned(),
        intent: Some(intent),
        dry_run: true,
        ..ProposeRequest::default()
    };
    desk.client.clone().propose(request).await.unwrap().into_inner()
}

#[tokio::test]
async fn a_dry_run_of_a_proposal_begins_nothing() {
    let dir = support::bundle();
    let receiver = Receiver::start(&[]);
    let desk = Desk::open(dir.path(), &receiver.settings()).await;
    let asks = foresee(&desk, "I lost my card", "lost_card").await;
    let status = asks.status.clone().unwrap();
    assert_eq!((asks.handled, status.awaiting_confirmation, asks.rehearsal.clone()), (true, false, None));
    assert_eq!(status.missing_slots, ["last4"], "{asks:?}");
    let waits = foresee(&desk, "I lost card 1234", "lost_card").await;
    let run = waits.rehearsal.unwrap();
    assert_eq!((waits.confirmed, run.refused.as_str(), run.target.as_str()), (false, "", "bank"), "{run:?}");
    assert!(!foresee(&desk, "What are your hours?", "hours").await.handled);
    let listed = desk.client.clone().list_executions(ListExecutionsRequest::default()).await.unwrap();
    assert_eq!((listed.into_inner().executions, receiver.seen().len()), (Vec::new(), 0));
}

#[tokio::test]
async fn what_the_rollout_no_longer_has_is_not_done() {
    let dir = support::bundle();
    let receiver = Receiver::start(&[]);
    let desk = Desk::open(dir.path(), &receiver.settings()).await;
    let id = propose(&desk, "a", true).await;
    let verdict =
        Verdict { action: SafetyAction::Allow.into(), status: SafetyStatus::Ok.into(), ..Verdict::default() };
    let request = ConfirmRequest {
        execution_id: id,
        verdict: Some(verdict),
        turn_id: "yes".to_owned(),
        outside_rollout: true,
        ..ConfirmRequest::default()
    };
    let refused = desk.client.clone().confirm(request).await.unwrap().into_inner();
    let status = refused.status.unwrap();
    assert_eq!((status.state(), status.error.as_str()), (ExecutionState::Cancelled, "OUTSIDE_ROLLOUT"));
    assert_eq!((refused.explained, receiver.seen().len()), (false, 0));
}
