//! A bundle is rolled and rolled back: every process is replaced, with TLS between them, while customers write.

use std::path::Path;
use std::sync::Arc;

use tests::{Cluster, Names, altered, demo, inside};

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
    let dearer = dearer();
    let (mut turns, mut again) = (0, 0);
    for (bundle, price) in [(dearer.path().to_owned(), "7 pounds"), (demo(), "5 pounds")] {
        let hash = bundle::Reader::open(&bundle).unwrap().hash().to_owned();
        let seen = cluster.while_writing(CUSTOMERS, move |cluster| cluster.roll_to(&bundle)).await;
        turns += seen.latencies.len();
        again += seen.again;
        // A conversation is four turns, one of which does something, once.
        assert_eq!((turns % 4, cluster.done()), (0, turns / 4));
        let turn = cluster.ask("How much is a replacement card?").await;
        assert!(turn.bundle == hash && turn.answer.contains(price), "{turn:?}");
    }
    println!("{turns} turns, none failed; {again} calls were made again");
    cluster.recorded(turns as u64 + 2).await;
    // What the network policies are made from is what the processes do.
    let listed = include_str!("../../k8s/edges.txt").lines().filter(|line| !line.starts_with('#'));
    let mut edges = cluster.edges();
    // The target of the workflow, while the connection lasts.
    edges.remove("workflow elsewhere");
    assert_eq!(edges, listed.map(str::to_owned).collect());
    assert!(again <= turns / 20, "{again} of {turns} calls were made again");
}

/// The demo with another price, built.
fn dearer() -> tempfile::TempDir {
    let copied = altered(str::to_owned);
    let reprice = |file: &&str| {
        let file: &Path = &copied.path().join(file);
        let text = std::fs::read_to_string(file).unwrap();
        assert!(text.contains("5 pounds"));
        std::fs::write(file, text.replace("5 pounds", "7 pounds")).unwrap();
    };
    ["curated.toml", "knowledge/replacement-card-fee.md", "knowledge/damaged-card.md"]
        .iter()
        .for_each(reprice);
    retriever::build(&bundle::Reader::open(copied.path()).unwrap(), None, &|_, _| ()).unwrap();
    copied
}
