//! The same tests with the stores on a real PostgreSQL, see `scratch::chosen`; and what only a shared store can show.

#![expect(clippy::unwrap_used, reason = "these are tests, also outside of #[test] functions")]

#[path = "stage/main.rs"]
mod stage;

use std::time::{Duration, Instant};

use proto::ExecutionState;
use stage::execution::{Act, Receiver, propose, tamper};
use stage::support::{self, Desk};

/// Waits until an execution has ended.
async fn ended(desk: &Desk, id: &str) -> ExecutionState {
    let start = Instant::now();
    loop {
        let state = desk.get(id).await.status.unwrap().state();
        if !matches!(state, ExecutionState::Approved | ExecutionState::Dispatching) {
            return state;
        }
        assert!(start.elapsed() < Duration::from_secs(30), "{id} is still {state:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_was_taken_for_dead_neither_sends_nor_changes_anything_any_more() {
    for (idempotent, end, requests) in [(true, ExecutionState::Done, 2), (false, ExecutionState::Unknown, 1)]
    {
        let (dir, receiver) = (support::bundle(), Receiver::start(&[Act::Hold]));
        let zombie = Desk::open(dir.path(), &receiver.settings()).await;
        let heir = Desk::open(dir.path(), &receiver.settings()).await;
        let id = propose(&zombie, "c", idempotent).await;
        let confirmed = async {
            let confirmed = zombie.confirm(&id).await;
            zombie.context.tasks.close();
            zombie.context.shutdown.cancel();
            zombie.context.tasks.wait().await;
            confirmed
        };
        let heir = async {
            receiver.arrived.notified().await;
            tamper(dir.path(), "UPDATE execution SET lease = 0");
            assert_eq!(ended(&heir, &id).await, end);
            receiver.release.notify_one();
            heir
        };
        let (_, heir) = tokio::join!(confirmed, heir);
        assert_eq!(heir.get(&id).await.status.unwrap().state(), end);
        assert_eq!(receiver.seen().len(), requests);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_that_confirm_the_same_execution_send_it_once() {
    let (dir, receiver) = (support::bundle(), Receiver::start(&[]));
    let one = Desk::open(dir.path(), &receiver.settings()).await;
    let other = Desk::open(dir.path(), &receiver.settings()).await;
    for index in 0..20 {
        let id = propose(&one, &format!("c{index}"), index % 2 == 0).await;
        tokio::join!(one.confirm(&id), other.confirm(&id));
        assert_eq!(ended(&one, &id).await, ExecutionState::Done);
    }
    assert_eq!(receiver.seen().len(), 20);
}
