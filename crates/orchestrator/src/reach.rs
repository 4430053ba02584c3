//! Whether the stages are there, as the orchestrator reaches them.

use std::time::{Duration, Instant};

use proto::StageHealth;

const PATIENCE: Duration = Duration::from_secs(1);

/// Asks a stage for its health.
pub(crate) async fn reach(name: &str, link: &kit::Link) -> StageHealth {
    let start = Instant::now();
    let asked = link.health(PATIENCE).await;
    let ms = start.elapsed().as_secs_f64() * 1e3;
    let serving = asked.is_ok();
    let reason = asked.err().map(|status| status.message().to_owned()).unwrap_or_default();
    StageHealth { name: name.to_owned(), serving, reason, ms }
}
