//! What customers notice of rolling restarts: two processes of each stage with TLS between them, each replaced by a new
//! one. Figures are ratios to a time without restarts in the same run.

use std::sync::Arc;
use std::time::Duration;

use tests::{Cluster, Names, inside};

const DATABASE: &str = "FIRSTLINE_TEST_DATABASE";
const CUSTOMERS: usize = 2;
const QUIET: Duration = Duration::from_secs(30);

fn main() {
    let Some(names) = Names::here() else {
        return inside("rolling", &[], &[(DATABASE, &scratch::database())]);
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(Box::pin(run(names)));
}

async fn run(names: Names) {
    let cluster = Arc::new(Cluster::start(names, &std::env::var(DATABASE).unwrap()).await);
    cluster.while_writing(CUSTOMERS, |_| std::thread::sleep(QUIET / 3)).await;
    let quiet = cluster.while_writing(CUSTOMERS, |_| std::thread::sleep(QUIET)).await;
    let one = cluster.while_writing(CUSTOMERS, |cluster| cluster.roll(false)).await;
    let again = cluster.while_writing(CUSTOMERS, |_| std::thread::sleep(QUIET)).await;
    let all = cluster.while_writing(CUSTOMERS, |cluster| cluster.roll(true)).await;
    println!(
        "two processes of each stage, {CUSTOMERS} customers; no turn failed; ratio: p99 to the first line's"
    );
    println!("{:<28}{:>8}{:>8}{:>9}{:>9}{:>8}", "", "turns", "again", "p50 ms", "p99 ms", "ratio");
    let rows = [
        ("no restart", &quiet),
        ("one stage after the other", &one),
        ("no restart", &again),
        ("all stages at once", &all),
    ];
    for (name, seen) in rows {
        let (p50, p99) = (seen.ms(0.5), seen.ms(0.99));
        let (turns, ratio) = (seen.latencies.len(), p99 / quiet.ms(0.99));
        println!("{name:<28}{turns:>8}{:>8}{p50:>9.2}{p99:>9.2}{ratio:>8.2}", seen.again);
    }
}
