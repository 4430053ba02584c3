//! Turns a second that one process accepts into files of SQLite, against the bare syncs a second of the same disk, in
//! rounds of one run; and how many turns share a sync.

use tests::{Processes, bare_syncs_a_second, can_trace, count_syncs, send};

const ROUNDS: usize = 5;
const BARE: u64 = 500;
const AT_ONCE: usize = 128;
/// What is asked, and how often in a round: a message that the journal alone decides, and one that is answered.
const ASKED: [(&str, usize); 2] =
    [("agent", 40 * AT_ONCE), ("What does it cost to withdraw cash at a cash machine abroad?", 8 * AT_ONCE)];

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(Box::pin(run()));
}

async fn run() {
    for (text, turns) in ASKED {
        let processes = Processes::start_as_one(&[]);
        let mut rounds = Vec::new();
        for _ in 0..ROUNDS {
            let bare = bare_syncs_a_second(processes.data.path(), BARE);
            let took = send(&processes.url, text, turns, AT_ONCE).await;
            rounds.push((turns as f64 / took.as_secs_f64(), bare));
        }
        let of = |figure: &dyn Fn(&(f64, f64)) -> f64| median(rounds.iter().map(figure).collect());
        println!("{text:?}, {AT_ONCE} at once, median of {ROUNDS} rounds of {turns} turns");
        println!("  accepted turns a second {:>9.0}", of(&|(turns, _)| *turns));
        println!("  bare syncs a second     {:>9.0}", of(&|(_, bare)| *bare));
        println!("  ratio of the same round {:>9.2}", of(&|(turns, bare)| turns / bare));
        processes.stop();
        if let Err(why) = can_trace() {
            println!("  syncs are not counted: {why}");
            continue;
        }
        let counted = count_syncs(text, turns, AT_ONCE).await;
        println!("  of {turns} turns under strace: {counted:?}");
        println!("  turns a commit          {:>9.2}", turns as f64 / counted.groups as f64);
    }
}
