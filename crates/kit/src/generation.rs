//! Answers that models write, as metrics that an autoscaler can go by: how many are under way, how many wait and how long
//! they waited. What is written in a second is the rate of `gen_ai.client.token.usage`.

use std::sync::LazyLock;
use std::time::Instant;

use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Histogram, UpDownCounter};

struct Instruments {
    active: UpDownCounter<i64>,
    queued: UpDownCounter<i64>,
    waited: Histogram<f64>,
    known: Counter<u64>,
}

static INSTRUMENTS: LazyLock<Instruments> = LazyLock::new(|| {
    let meter = opentelemetry::global::meter("firstline");
    let count = |name: &'static str| meter.i64_up_down_counter(name).with_unit("{generation}").build();
    let waited = meter.f64_histogram("firstline.generator.queue.duration").with_unit("s");
    Instruments {
        active: count("firstline.generator.active"),
        queued: count("firstline.generator.queued"),
        waited: waited.with_boundaries((0..14).map(|power| 0.001 * 2_f64.powi(power)).collect()).build(),
        known: meter.u64_counter("firstline.generator.cache").with_unit("{answer}").build(),
    }
});

/// Counts an answer by where it comes from: the tier of the cache, or "miss".
pub fn count_answer(tier: &'static str) {
    INSTRUMENTS.known.add(1, &[KeyValue::new("firstline.cache.tier", tier)]);
}

/// An answer that waits to be written.
#[derive(Debug)]
pub struct Queued(Instant);

impl Queued {
    /// It waits from now on, until it is dropped or begun.
    #[must_use]
    pub fn now() -> Self {
        INSTRUMENTS.queued.add(1, &[]);
        Self(Instant::now())
    }

    /// It is written from now on, until what this returns is dropped.
    #[must_use]
    pub fn begin(self) -> Active {
        INSTRUMENTS.active.add(1, &[]);
        Active(())
    }
}

impl Drop for Queued {
    fn drop(&mut self) {
        INSTRUMENTS.queued.add(-1, &[]);
        INSTRUMENTS.waited.record(self.0.elapsed().as_secs_f64(), &[]);
    }
}

/// An answer that is being written.
#[derive(Debug)]
pub struct Active(());

impl Drop for Active {
    fn drop(&mut self) {
        INSTRUMENTS.active.add(-1, &[]);
    }
}
