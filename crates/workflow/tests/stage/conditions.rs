//! Preconditions: before the first question, before the confirmation, and in the gate.

use proto::{CategoryScore, ExecutionState, SafetyAction, SafetyStatus, Verdict};

use super::execution::{Act, Receiver};
use super::support::{self, Desk};

const PRECONDITIONS: &str = r#"
[[precondition]]
when = "!has(customer.blocked) || customer.blocked != 'yes'"
reason = "CUSTOMER_BLOCKED"
message = "Your account is blocked."
[[precondition]]
when = "slots.amount <= double(customer.limit)"
reason = "ABOVE_LIMIT"
message = "{{ amount }} is too much."
[[precondition]]
when = "intent.name == 'refund' && intent.confidence > 0.8 && (!has(slots.order) || slots.order != 'HB-000')"
reason = "WRONG_ORDER"
message = "Not {{ order }}."
"#;

/// The bundle with preconditions in one of its workflows.
fn conditional() -> tempfile::TempDir {
    let dir = support::bundle();
    let path = dir.path().join("workflows/pay.toml");
    let text = std::fs::read_to_string(&path).unwrap() + PRECONDITIONS;
    std::fs::write(path, text).unwrap();
    dir
}

async fn answer_all(desk: &Desk, amount: &str) -> proto::ProposeResponse {
    desk.say("money back", "refund").await;
    desk.say(amount, "").await;
    desk.say("yesterday", "").await;
    desk.say("Corner Shop", "").await;
    desk.say("a@example.com", "").await;
    desk.say("no", "").await
}

#[tokio::test]
async fn what_cannot_be_is_said_before_it_is_asked_for_and_not_after() {
    let (dir, receiver) = (conditional(), Receiver::start(&[Act::Status(500)]));
    let desk = Desk::open(dir.path(), &receiver.settings()).await;
    desk.knows(&[("limit", "50"), ("blocked", "yes")]);
    let refused = desk.send("t", "money back", "refund", 0.9).await.unwrap();
    let status = refused.status.clone().unwrap();
    assert_eq!(refused.message, "Your account is blocked.");
    assert_eq!((status.state(), status.error.as_str()), (ExecutionState::Cancelled, "CUSTOMER_BLOCKED"));
    assert_eq!(desk.send("t", "money back", "refund", 0.9).await.unwrap(), refused, "the same turn again");

    desk.talk("c2");
    desk.knows(&[("limit", "50")]);
    assert_eq!(desk.say("money back", "refund").await.message, "How much?");
    let refused = desk.say("£60", "").await;
    let status = refused.status.unwrap();
    assert_eq!((refused.message.as_str(), status.error.as_str()), ("60.00 is too much.", "ABOVE_LIMIT"));
    assert!(!desk.say("yes", "").await.handled, "nothing is open");

    // An optional slot is waited for; the intent is that of the proposal.
    desk.talk("c3");
    let asked = answer_all(&desk, "£20").await;
    assert!(asked.message.starts_with("Pay 20.00 of"), "{asked:?}");
    assert_eq!(receiver.seen(), []);
}

#[tokio::test]
async fn the_gate_looks_again_and_refuses_what_it_cannot_evaluate() {
    let (dir, receiver) = (conditional(), Receiver::start(&[]));
    let desk = Desk::open(dir.path(), &receiver.settings()).await;
    for (conversation, known, error, message) in [
        ("a", &[("limit", "10")][..], "ABOVE_LIMIT", "20.00 is too much."),
        ("b", &[], "PRECONDITION_ERROR", "I am sorry, I cannot do this here. Nothing was changed."),
        (
            "c",
            &[("limit", "much")],
            "PRECONDITION_ERROR",
            "I am sorry, I cannot do this here. Nothing was changed.",
        ),
        ("d", &[("limit", "20"), ("blocked", "yes")], "CUSTOMER_BLOCKED", "Your account is blocked."),
    ] {
        desk.talk(conversation);
        desk.knows(&[("limit", "50")]);
        let id = answer_all(&desk, "£20").await.status.unwrap().execution_id;
        desk.knows(known);
        for _ in 0..2 {
            let refused = desk.confirm(&id).await;
            let status = refused.status.unwrap();
            assert_eq!((status.state(), status.error.as_str()), (ExecutionState::Cancelled, error));
            assert_eq!(refused.message, message);
            assert_eq!(refused.explained, error != "PRECONDITION_ERROR");
        }
    }
    assert_eq!(receiver.seen(), []);
    desk.talk("e");
    desk.knows(&[("limit", "20.00")]);
    let id = answer_all(&desk, "£20").await.status.unwrap().execution_id;
    assert_eq!(desk.confirm(&id).await.message, "Paid 20.00, R-1.");
}

#[tokio::test]
async fn what_the_rail_found_counts_once_it_has_looked() {
    let (dir, receiver) = (conditional(), Receiver::start(&[]));
    let path = dir.path().join("workflows/pay.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let about = "\n[[precondition]]\nwhen = \"!has(verdict.legal_threat) || verdict.legal_threat < 0.5\"\n\
        reason = \"LEGAL\"\nmessage = \"Let a person look.\"\n";
    std::fs::write(path, text + about).unwrap();
    let desk = Desk::open(dir.path(), &receiver.settings()).await;
    desk.knows(&[("limit", "50")]);
    for (conversation, score, error) in [("a", 0.9, "LEGAL"), ("b", 0.4, "")] {
        desk.talk(conversation);
        let id = answer_all(&desk, "£20").await.status.unwrap().execution_id;
        let verdict = Verdict {
            action: SafetyAction::Allow.into(),
            status: SafetyStatus::Ok.into(),
            categories: vec![CategoryScore { name: "legal_threat".to_owned(), score }],
            ..Verdict::default()
        };
        let confirmed = desk.confirm_with(&id, Some(verdict)).await;
        assert_eq!(confirmed.status.unwrap().error, error);
    }
    assert_eq!(receiver.seen().len(), 1);
}
