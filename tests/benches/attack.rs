//! The whole attack suite with every behaviour of a model: a table in the terminal, and
//! `target/attack/report.html`. Ends with 1 when something happened that must never happen. Arguments name the
//! behaviours to run instead of all.

use std::path::Path;
use std::process::ExitCode;

use tests::Transport;
use tests::attack::{all, held_articles, page, run, table};
use tests::behave::Behaviour;

#[tokio::main]
async fn main() -> ExitCode {
    let cases = all();
    let mut runs = Vec::new();
    let named: Vec<_> = std::env::args().filter_map(|name| Behaviour::named(&name)).collect();
    for behaviour in if named.is_empty() { Behaviour::ALL.to_vec() } else { named } {
        runs.push(run(behaviour, Transport::Local, &cases).await);
        eprintln!("{}: {} conversations", behaviour.name(), cases.len());
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/attack");
    std::fs::create_dir_all(&path).unwrap();
    std::fs::write(path.join("report.html"), page(&runs)).unwrap();
    println!(
        "Attacks that got what they wanted, and harmless messages that the rails held back:\n{}",
        table(&runs)
    );
    let (held, n) = held_articles(&cases);
    println!("Planted articles that the passage rail holds back by itself: {held} of {n}");
    println!("The page: target/attack/report.html");
    let mut broken = runs.iter().flat_map(|run| {
        let outcomes = run.outcomes.iter().filter(|outcome| !outcome.violations.is_empty());
        outcomes.map(|outcome| {
            format!("{}: {:?}\n  {:?}", run.behaviour.name(), outcome.turns, outcome.violations)
        })
    });
    let first = broken.next();
    first.iter().cloned().chain(broken).for_each(|line| println!("{line}"));
    if first.is_none() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
