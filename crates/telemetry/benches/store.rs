//! Time of metrics over 100,000 turns, of storing them, and of what the rollout adds: `cargo bench -p telemetry`.
#![expect(clippy::print_stdout, reason = "the figures are its output")]

use std::time::Instant;

use telemetry::metrics::{By, Grounding, Step};
use telemetry::record::{Arm, Exposure, Outcome, Reason, Row};
use telemetry::store::Store;

const STAGES: [&str; 8] = [
    "classifier",
    "generator",
    "retriever",
    "safety_input",
    "safety_output",
    "telemetry",
    "total",
    "workflow",
];

/// A turn with eight timings and a record of 1.5 kB, the third of its conversation at most.
fn row(index: usize) -> Row {
    let handoff = index.is_multiple_of(7);
    Row {
        turn_id: format!("0199f3c2-7a10-7000-8000-{index:012x}"),
        conversation_id: format!("0199f3c2-7a10-7000-9000-{:012x}", index / 3),
        accepted_us: index as i64 * 1000,
        outcome: if handoff { Outcome::Handoff } else { Outcome::Answered },
        reason: if handoff { Reason::LowConfidence } else { Reason::Unspecified },
        arm: Arm::Treatment,
        intent: "lost_card".to_owned(),
        category: "cards".to_owned(),
        confidence: 0.9,
        bundle: "b".repeat(16),
        model: "extractive".to_owned(),
        input_tokens: 900,
        output_tokens: 60,
        cost_nanos: 123_456,
        calls: Vec::new(),
        saved: Vec::new(),
        drawn: None,
        timings_us: (0..)
            .zip(STAGES)
            .map(|(n, stage)| (stage.to_owned(), 700 + (index as u64 * 7919 + n) % 90_000))
            .collect(),
        muted: false,
        unseen: false,
        step: Step::Nothing,
        grounding: Grounding { claims: 4, unsupported: 0, delivered_claims: 4, delivered_unsupported: 0 },
        judge: "support/1 at 0.4".to_owned(),
        prices: String::new(),
        customer_hash: format!("{index:016x}"),
        exposure: None,
        encoded: vec![7; 1500],
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let store = Store::open(sql::Source::File(dir.path().join("telemetry.db"))).await?;
    let mut stored = 0;
    for (batch, turns) in [(1, 2_000), (50, 18_000), (200, 80_000)] {
        let rows: Vec<Row> = (stored..stored + turns).map(row).collect();
        let begin = Instant::now();
        for rows in rows.chunks(batch) {
            store.record(rows.to_vec()).await?;
        }
        let rate = turns as f64 / begin.elapsed().as_secs_f64();
        println!("record, batches of {batch}, one after another: {rate:.0} turns/s");
        stored += turns;
    }
    let config = std::sync::Arc::new(telemetry::Config::default());
    for _ in 0..7 {
        let begin = Instant::now();
        let figures = store.metrics(0, i64::MAX, By::Nothing, &config).await?.metrics;
        println!("metrics over {} turns: {:.1} ms", figures.turns, begin.elapsed().as_secs_f64() * 1e3);
    }
    exposures(&store, stored).await?;
    evaluation().await
}

/// What an exposure adds to storing a turn: the same number of turns with and without one, in turn.
async fn exposures(store: &Store, mut stored: usize) -> anyhow::Result<()> {
    const TURNS: usize = 4_000;
    let mut took = [0.0; 2];
    for round in 0..10 {
        let with = round % 2;
        let exposure = |index: usize| (with == 1).then(|| exposed(index));
        let rows: Vec<Row> = (stored..stored + TURNS)
            .map(|index| Row { exposure: exposure(index), ..row(index * 3) })
            .collect();
        let begin = Instant::now();
        for rows in rows.chunks(50) {
            store.record(rows.to_vec()).await?;
        }
        took[with] += begin.elapsed().as_secs_f64();
        stored += TURNS;
    }
    let micros = |seconds: f64| seconds * 1e6 / (5 * TURNS) as f64;
    let [without, with] = took.map(micros);
    println!("record, batches of 50: {without:.1} us a turn, {with:.1} us with an exposure");
    Ok(())
}

fn exposed(index: usize) -> Exposure {
    let (rollout_id, stage) = ("bench".to_owned(), "p5".to_owned());
    Exposure { rollout_id, epoch: 1, stage, share: 5000, treated: index.is_multiple_of(20) }
}

/// One look of the controller at a million units that have all just matured.
async fn evaluation() -> anyhow::Result<()> {
    const UNITS: usize = 1_000_000;
    let dir = tempfile::tempdir()?;
    let store = Store::open(sql::Source::File(dir.path().join("telemetry.db"))).await?;
    let plan = "[rollout]\nid = \"bench\"\ncategories = [\"cards\"]\ninterval_s = 1\n\
        [[stage]]\nname = \"p5\"\nshare = 0.05\n\
        [[guard]]\nmetric = \"escalation_unplanned\"\nwindow_s = 1\n";
    store.apply(bundle::rollout::parse(plan)?, "bench".to_owned()).await?;
    let lean = |index| Row {
        exposure: Some(exposed(index)),
        encoded: Vec::new(),
        timings_us: Vec::new(),
        ..row(index * 3)
    };
    for from in (0..UNITS).step_by(1000) {
        store.record((from..from + 1000).map(lean).collect()).await?;
    }
    // So that the window of the guard is over for the last of them.
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    let begin = Instant::now();
    let known = store.look(0).await?.ok_or_else(|| anyhow::anyhow!("the controller did not look"))?;
    let took = begin.elapsed().as_secs_f64() * 1e3;
    let seen = known.looked.readings.first().map(|reading| reading.treated.n + reading.control.n);
    println!("a look at {seen:?} matured units: {took:.0} ms");
    Ok(())
}
