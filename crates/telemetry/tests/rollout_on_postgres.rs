//! The same tests with the stores on a real PostgreSQL, see `scratch::chosen`; and what only a shared store can show.

#[path = "rollout.rs"]
mod rollout;

use rollout::{PLAN, Stage, context, exposed, turn};

/// Two processes look at the clock of one store: whoever is first decides, in one line of decisions.
#[tokio::test(flavor = "multi_thread")]
async fn two_controllers_on_one_store_decide_once_an_interval() {
    let dir = tempfile::tempdir().unwrap();
    let mut one = Stage::open(context(&dir)).await;
    let mut other = Stage::open(context(&dir)).await;
    one.apply(PLAN).await.unwrap();
    let records = (0..10).map(|n| {
        let customer = format!("c{n}");
        exposed(turn(&customer, &customer, 0, proto::Outcome::Answered), n < 5)
    });
    other.record(records.collect()).await;
    let seen = one.seen("escalation_unplanned", 5).await;
    assert_eq!(seen.treated.unwrap().n, 5, "each customer is read once");
    other.seen("escalation_unplanned", 5).await;
    let log = one.log().await;
    let times =
        log.iter().map(|row| row.at.unwrap()).map(|at| at.seconds * 1_000_000_000 + i64::from(at.nanos));
    let times: Vec<_> = times.collect();
    assert!(log.iter().zip(1..).all(|(row, seq)| row.seq == seq), "no gap and nothing twice");
    assert!(times.windows(2).all(|pair| pair[1] - pair[0] >= 1_000_000_000), "{times:?}");
    one.stop().await;
    other.stop().await;
}
