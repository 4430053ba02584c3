//! What was judged of a model's answer, as an event of the GenAI semantic conventions.

/// Target of these events. Traces take them at DEBUG; a log has them only where it is asked for.
pub(crate) const TARGET: &str = "gen_ai";

/// A judgement of how far an answer is supported by its passages.
#[derive(Debug)]
pub struct Evaluation<'a> {
    /// Name and version of the judge.
    pub judge: &'a str,
    /// Sentences that state something, 1 or more, and those of them without support; `None` without a verdict.
    pub score: Option<(u32, u32)>,
    /// Why there is no verdict, as in `error.type`.
    pub failed: Option<&'static str>,
    /// Id of the completion that was judged, where it is known.
    pub response_id: Option<&'a str>,
}

impl Evaluation<'_> {
    /// Tells of it in the current span. What was said stays out of it.
    pub fn tell(&self) {
        let score = self.score.map(|(claims, bad)| 1.0 - f64::from(bad) / f64::from(claims.max(1)));
        let label = self.score.map(|(_, bad)| if bad == 0 { "pass" } else { "fail" });
        tracing::debug!(
            target: TARGET,
            {
                gen_ai.evaluation.name = "groundedness",
                gen_ai.evaluation.score.value = score,
                gen_ai.evaluation.score.label = label,
                gen_ai.response.id = self.response_id,
                error.r#type = self.failed,
                firstline.judge = self.judge,
            },
            "gen_ai.evaluation.result"
        );
    }
}
