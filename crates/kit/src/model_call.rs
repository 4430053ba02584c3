//! Calls of models as metrics of the GenAI semantic conventions.

use std::sync::LazyLock;
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::metrics::Histogram;

/// One finished call of a model.
#[derive(Debug)]
pub struct ModelCall<'a> {
    /// Name of the model that was asked for.
    pub asked: &'a str,
    /// Name of the model that answered; empty when none did.
    pub answered: &'a str,
    /// Tokens of the prompt.
    pub input: u64,
    /// Tokens of the completion.
    pub output: u64,
    /// What it took.
    pub time: Duration,
    /// Why it failed, as in `error.type`.
    pub failed: Option<&'static str>,
}

/// `gen_ai.client.token.usage` and `gen_ai.client.operation.duration`, with the buckets that the conventions ask for:
/// powers of four from 1, and of two from 10 ms.
static INSTRUMENTS: LazyLock<(Histogram<u64>, Histogram<f64>)> = LazyLock::new(|| {
    let meter = opentelemetry::global::meter("firstline");
    let tokens = meter.u64_histogram("gen_ai.client.token.usage").with_unit("{token}");
    let tokens = tokens.with_boundaries((0..14).map(|power| 4_f64.powi(power)).collect());
    let time = meter.f64_histogram("gen_ai.client.operation.duration").with_unit("s");
    let time = time.with_boundaries((0..14).map(|power| 0.01 * 2_f64.powi(power)).collect());
    (tokens.build(), time.build())
});

impl ModelCall<'_> {
    /// Adds it to the metrics of this process; nothing leaves where no exporter is configured.
    pub fn measure(&self) {
        let (tokens, time) = &*INSTRUMENTS;
        let mut known = vec![
            KeyValue::new("gen_ai.operation.name", "chat"),
            KeyValue::new("gen_ai.provider.name", "openai"),
            KeyValue::new("gen_ai.request.model", self.asked.to_owned()),
        ];
        if !self.answered.is_empty() {
            known.push(KeyValue::new("gen_ai.response.model", self.answered.to_owned()));
        }
        for (kind, count) in [("input", self.input), ("output", self.output)] {
            if count > 0 {
                let kind = KeyValue::new("gen_ai.token.type", kind);
                tokens.record(count, &[known.as_slice(), &[kind]].concat());
            }
        }
        known.extend(self.failed.map(|reason| KeyValue::new("error.type", reason)));
        time.record(self.time.as_secs_f64(), &known);
    }
}
