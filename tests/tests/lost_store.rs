//! The controller of the rollout loses its store while the assistant goes on: nothing is decided, and the orchestrator
//! goes down by itself.
#![expect(clippy::unwrap_used, reason = "a test that fails panics")]

use std::ops::Range;
use std::time::{Duration, Instant};

use proto::rollout_service_client::RolloutServiceClient;
use proto::*;
use scratch::Postgres;
use stats::bucket;
use tests::{Transport, World, altered};

const PATIENCE: Duration = Duration::from_secs(60);
/// Buckets of those who are treated in the first stage, and of those whom the second adds.
const FIRST: Range<u32> = 0..10_000;
const SECOND: Range<u32> = 10_000..50_000;
const PLAN: &str = r#"
[rollout]
id = "bank-2026"
categories = ["cards"]
max_risk = "medium"
interval_s = 1
min_customers = 1
[[stage]]
name = "p10"
share = 0.1
min_hours = 0
approval = false
[[stage]]
name = "p50"
share = 0.5
min_hours = 0
min_customers = 1000000
approval = false
[[stage]]
name = "all"
share = 1
[[guard]]
metric = "escalation_unplanned"
window_s = 1
"#;

/// A new customer asks; their bucket, and whether they are treated.
async fn ask(world: &World, next: &mut u32) -> (u32, bool) {
    *next += 1;
    let customer_key = format!("customer-{next}");
    let bucket = bucket("bank-2026", &customer_key);
    let text = "What is the contactless limit?".to_owned();
    let turn = world.ask(Message { customer_key, text, ..Message::default() }).await;
    (bucket, turn.outcome() != Outcome::Legacy)
}

/// New customers ask, until one in these buckets is treated, or is not.
async fn until(world: &World, buckets: Range<u32>, wanted: bool, next: &mut u32) -> Duration {
    let start = Instant::now();
    loop {
        let (bucket, treated) = ask(world, next).await;
        if buckets.contains(&bucket) && treated == wanted {
            return start.elapsed();
        }
        if start.elapsed() > PATIENCE {
            let mut rollout = RolloutServiceClient::new(world.links.get(telemetry::NAME).unwrap());
            let now = rollout.get_rollout(GetRolloutRequest {}).await;
            panic!("customers in {buckets:?} are to be {wanted}: {now:#?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_controller_without_its_store_decides_nothing_and_the_share_goes_down() {
    let mut database = Postgres::start();
    let bundle = altered(str::to_owned);
    std::fs::write(bundle.path().join("rollout.toml"), PLAN).unwrap();
    let values = [("telemetry", "rollout_grace_ms", "0"), ("safety", "budget_ms", "30000")];
    let world = World::split(Transport::Local, bundle.path(), &values, Some(database.database())).await;
    let mut rollout = RolloutServiceClient::new(world.links.get(telemetry::NAME).unwrap());
    let (rollout_toml, by) = (PLAN.to_owned(), "anna".to_owned());
    rollout.apply_rollout(ApplyRolloutRequest { rollout_toml, by, dry_run: false }).await.unwrap();
    let mut next = 0;
    until(&world, SECOND, true, &mut next).await;
    let before = rollout.get_rollout(GetRolloutRequest {}).await.unwrap().into_inner().rollout.unwrap();

    database.kill();
    // Four intervals of silence and the way of a word.
    let fell = until(&world, SECOND, false, &mut next).await;
    assert!(fell > Duration::from_secs(2), "it was lowered after {fell:?}");
    until(&world, FIRST, true, &mut next).await;
    rollout.get_rollout(GetRolloutRequest {}).await.unwrap_err();

    database.restart();
    until(&world, SECOND, true, &mut next).await;
    let after = rollout.get_rollout(GetRolloutRequest {}).await.unwrap().into_inner().rollout.unwrap();
    let (before, after) = (before.plan.unwrap(), after.plan.unwrap());
    assert_eq!((after.stage, after.share), (before.stage, before.share));
    until(&world, 50_000..100_000, false, &mut next).await;
    drop(rollout);
    world.stop().await;
}
