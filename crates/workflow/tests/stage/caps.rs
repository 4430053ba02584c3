//! Caps of a day and of an amount, with many customers at the same time.

use futures::future::join_all;
use proto::ExecutionState;

use super::execution::{Act, Receiver, propose, tamper};
use super::support::{self, Desk};

/// The bundle with caps in one of its workflows.
fn capped(workflow: &str, caps: &str) -> tempfile::TempDir {
    let dir = support::bundle();
    let path = dir.path().join("workflows").join(format!("{workflow}.toml"));
    let text = std::fs::read_to_string(&path).unwrap() + "\n[caps]\n" + caps;
    std::fs::write(path, text).unwrap();
    dir
}

/// How often each pair of state and error occurs when all are confirmed at once: done, and refused by this cap.
async fn confirm_all(desk: &Desk, ids: &[String], cap: &str) -> (usize, usize) {
    let confirmed = join_all(ids.iter().map(|id| desk.confirm(id))).await;
    let statuses: Vec<_> = confirmed.into_iter().map(|confirmed| confirmed.status.unwrap()).collect();
    let count = |state, error: &str| {
        statuses.iter().filter(|status| status.state() == state && status.error == error).count()
    };
    let (done, refused) = (count(ExecutionState::Done, ""), count(ExecutionState::Cancelled, cap));
    assert_eq!(done + refused, ids.len(), "{statuses:?}");
    (done, refused)
}

async fn proposals(desk: &Desk, prefix: &str, number: usize) -> Vec<String> {
    let mut ids = Vec::new();
    for index in 0..number {
        ids.push(propose(desk, &format!("{prefix}{index}"), true).await);
    }
    ids
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_customer_has_so_many_executions_a_day_however_many_are_confirmed_at_once() {
    let cap = "CAP_PER_CUSTOMER_PER_DAY";
    let (dir, receiver) = (capped("block", "per_customer_per_day = 3"), Receiver::start(&[Act::Status(422)]));
    let desk = Desk::open(dir.path(), &receiver.settings()).await;
    // One without an effect does not count.
    let failed = propose(&desk, "failed", true).await;
    assert_eq!(desk.confirm(&failed).await.status.unwrap().state(), ExecutionState::Failed);
    let ids = proposals(&desk, "a", 12).await;
    assert_eq!(confirm_all(&desk, &ids, cap).await, (3, 9));
    assert_eq!(receiver.seen().len(), 1 + 3);
    let refused = propose(&desk, "late", true).await;
    assert_eq!(desk.confirm(&refused).await.status.unwrap().error, cap);
    assert_eq!(desk.get(&refused).await.status.unwrap().error, cap, "an operator sees it");
    desk.customer("other");
    assert_eq!(confirm_all(&desk, &proposals(&desk, "b", 3).await, cap).await, (3, 0));
    // Without a key each conversation is a customer.
    desk.customer("");
    assert_eq!(confirm_all(&desk, &proposals(&desk, "c", 5).await, cap).await, (5, 0));
    assert_eq!(confirm_all(&desk, &proposals(&desk, "c", 5).await, cap).await, (5, 0));
    assert_eq!(confirm_all(&desk, &proposals(&desk, "c", 5).await, cap).await, (5, 0));
    assert_eq!(confirm_all(&desk, &proposals(&desk, "c", 5).await, cap).await, (0, 5));
    desk.context.shutdown.cancel();
    desk.context.tasks.close();
    desk.context.tasks.wait().await;
    drop(desk);

    let desk = Desk::open(dir.path(), &receiver.settings()).await;
    assert_eq!(confirm_all(&desk, &proposals(&desk, "d", 2).await, cap).await, (0, 2), "after a restart");
    tamper(dir.path(), "UPDATE execution SET day = day - 1");
    assert_eq!(confirm_all(&desk, &proposals(&desk, "e", 5).await, cap).await, (3, 2), "on the next day");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn all_customers_together_have_so_many_executions_of_one_workflow_a_day() {
    let (dir, receiver) = (capped("block", "per_day = 3"), Receiver::start(&[]));
    let desk = Desk::open(dir.path(), &receiver.settings()).await;
    let mut ids = Vec::new();
    for customer in ["a", "b", "c", "d", "e", "f", "g"] {
        desk.customer(customer);
        ids.push(propose(&desk, customer, true).await);
    }
    assert_eq!(confirm_all(&desk, &ids, "CAP_PER_DAY").await, (3, 4));
    let other = propose(&desk, "other", false).await;
    assert_eq!(confirm_all(&desk, &[other], "CAP_PER_DAY").await, (1, 0), "other workflows have their own");
    assert_eq!(receiver.seen().len(), 4);
}

#[tokio::test]
async fn an_amount_above_its_cap_is_left_to_a_person() {
    let (dir, receiver) = (capped("pay", "amount = 100.5"), Receiver::start(&[]));
    let desk = Desk::open(dir.path(), &receiver.settings()).await;
    for (conversation, amount, state, error) in [
        ("a", "100.50", ExecutionState::Done, ""),
        ("b", "100.51", ExecutionState::Cancelled, "CAP_AMOUNT"),
        ("c", "500", ExecutionState::Cancelled, "CAP_AMOUNT"),
    ] {
        desk.talk(conversation);
        let asks = format!("£{amount} on 1 Feb 2026, me@x.example, order AB-5512");
        assert_eq!(desk.say(&asks, "refund").await.message, "Which shop?");
        let proposed = desk.say("Tesco", "").await.status.unwrap();
        let status = desk.confirm(&proposed.execution_id).await.status.unwrap();
        assert_eq!((status.state(), status.error.as_str()), (state, error), "{amount}");
    }
    assert_eq!(receiver.seen().len(), 1);
}
