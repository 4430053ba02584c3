//! A rolling restart of everything, with TLS between all processes, while customers write.

use std::sync::Arc;

use tests::{Cluster, Names, inside};

const DATABASE: &str = "FIRSTLINE_TEST_DATABASE";
const CUSTOMERS: usize = 3;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_process_is_replaced_while_customers_write_and_no_turn_is_lost() {
    let test = "every_process_is_replaced_while_customers_write_and_no_turn_is_lost";
    let Some(names) = Names::here() else {
        let database = scratch::database();
        return inside(test, &["--exact", test, "--nocapture"], &[(DATABASE, &database)]);
    };
    let cluster = Arc::new(Cluster::start(names, &std::env::var(DATABASE).unwrap()).await);
    let seen = cluster.while_writing(CUSTOMERS, |cluster| cluster.roll(true)).await;
    let turns = seen.latencies.len();
    println!("{turns} turns, none failed; {} calls were made again", seen.again);
    // A conversation is four turns, one of which does something, once.
    assert_eq!((turns % 4, cluster.done()), (0, turns / 4));
    cluster.recorded(turns as u64).await;
    // What the network policies are made from is what the processes do.
    let listed = include_str!("../../k8s/edges.txt").lines().filter(|line| !line.starts_with('#'));
    let mut edges = cluster.edges();
    // The target of the workflow, while the connection lasts.
    edges.remove("workflow elsewhere");
    assert_eq!(edges, listed.map(str::to_owned).collect());
    assert!(seen.again <= turns / 20, "{} of {turns} calls were made again", seen.again);
}
