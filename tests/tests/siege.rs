//! Under load and under fire, again and again: nothing is lost, nothing happens twice. Each short here;
//! `FIRSTLINE_CYCLES` sets how often.

use audit::Finding;
use tests::{Fault, Siege, small_disk};

fn cycles(few: u32) -> u32 {
    std::env::var("FIRSTLINE_CYCLES")
        .map_or(few, |cycles| cycles.parse().expect("FIRSTLINE_CYCLES is a number"))
}

/// Every promise was looked at and holds.
async fn holds(siege: Siege) {
    let findings = siege.run().await;
    for Finding { promise, says, looked_at, broken } in &findings {
        println!("{promise:<4} {looked_at:>7} looked at, {} broken  {says}", broken.len());
        broken.iter().take(20).for_each(|line| println!("     {line}"));
    }
    assert!(findings.iter().all(|finding| finding.broken.is_empty()), "{siege:?}: see above");
    let looked_at = |promise| findings.iter().find(|finding| finding.promise == promise).unwrap().looked_at;
    assert!(["I1", "I3", "I4", "I7", "I8"].into_iter().all(|promise| looked_at(promise) > 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_process_with_its_own_files() {
    holds(Siege { processes: false, postgres: false, replicas: 1, fault: Fault::Kill, cycles: cycles(4) })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_process_on_postgres() {
    holds(Siege { processes: false, postgres: true, replicas: 1, fault: Fault::Kill, cycles: cycles(4) })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn seven_processes_with_their_own_files() {
    holds(Siege { processes: true, postgres: false, replicas: 1, fault: Fault::Kill, cycles: cycles(4) })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn seven_processes_on_postgres() {
    holds(Siege { processes: true, postgres: true, replicas: 1, fault: Fault::Kill, cycles: cycles(4) })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_assistants_on_one_postgres() {
    holds(Siege { processes: false, postgres: true, replicas: 2, fault: Fault::Kill, cycles: cycles(4) })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_assistants_that_are_started_again_in_turn() {
    holds(Siege { processes: false, postgres: true, replicas: 2, fault: Fault::Restart, cycles: cycles(6) })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fourteen_processes_that_are_started_again_seven_by_seven() {
    holds(Siege { processes: true, postgres: true, replicas: 2, fault: Fault::Restart, cycles: cycles(2) })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_assistants_of_which_one_stands_still() {
    holds(Siege { processes: false, postgres: true, replicas: 2, fault: Fault::Freeze, cycles: cycles(2) })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_assistants_whose_database_is_killed() {
    holds(Siege { processes: false, postgres: true, replicas: 2, fault: Fault::Database, cycles: cycles(4) })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_process_whose_disk_fills_up() {
    let Some(disk) = small_disk("one_process_whose_disk_fills_up") else { return };
    let fault = Fault::Disk(disk);
    holds(Siege { processes: false, postgres: false, replicas: 1, fault, cycles: cycles(4) }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn seven_processes_whose_disk_fills_up() {
    let Some(disk) = small_disk("seven_processes_whose_disk_fills_up") else { return };
    let fault = Fault::Disk(disk);
    holds(Siege { processes: true, postgres: false, replicas: 1, fault, cycles: cycles(4) }).await;
}
