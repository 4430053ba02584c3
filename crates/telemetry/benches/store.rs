//! Time of metrics over 100,000 turns, and of storing them: `cargo bench -p telemetry`.
#![expect(clippy::print_stdout, reason = "the figures are its output")]

use std::time::Instant;

use telemetry::metrics::{By, Grounding, Step};
use telemetry::record::{Arm, Outcome, Reason, Row};
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
        bundle: "b".repeat(64),
        model: "extractive".to_owned(),
        input_tokens: 900,
        output_tokens: 60,
        cost_nanos: 123_456,
        timings_us: (0..)
            .zip(STAGES)
            .map(|(n, stage)| (stage.to_owned(), 700 + (index as u64 * 7919 + n) % 90_000))
            .collect(),
        muted: false,
        step: Step::Nothing,
        customer: format!("{:016x}", index / 9),
        grounding: Grounding { claims: 4, unsupported: 0, delivered_claims: 4, delivered_unsupported: 0 },
        judge: "support/1 at 0.4".to_owned(),
        prices: String::new(),
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
    Ok(())
}
