//! All stages in one process, joined by local links.

use anyhow::Context as _;
use kit::config::Settings;
use kit::{Context, Link, Links, Stage};

/// The stages of one process.
#[derive(Debug)]
pub struct Mesh {
    /// The orchestrator, to be served or asked.
    pub assistant: Stage,
    /// The stages behind it, by name; for health.
    pub stages: Vec<(&'static str, Stage)>,
    /// Their context: cancel `shutdown` to end them.
    pub context: Context,
}

impl Mesh {
    /// Starts all stages from their tables.
    ///
    /// # Errors
    /// A table with a wrong value, or a stage that cannot start, with its name.
    pub async fn start(settings: &Settings) -> anyhow::Result<Self> {
        let context = Context { server: settings.server()?, ..Context::default() };
        let mut stages = Vec::new();
        macro_rules! start {
            ($stage:ident) => {{
                let service = $stage::service(settings.table($stage::NAME)?, context.clone());
                stages.push(($stage::NAME, Box::pin(service).await.context($stage::NAME)?));
            }};
        }
        start!(telemetry);
        start!(workflow);
        start!(generator);
        start!(retriever);
        start!(safety);
        start!(classifier);
        let links = Links::new(stages.iter().map(|(name, stage)| (*name, Link::local(stage))));
        let context = Context { links, ..context };
        let service = orchestrator::service(settings.table(orchestrator::NAME)?, context.clone());
        let assistant = Box::pin(service).await.context(orchestrator::NAME)?;
        Ok(Self { assistant, stages, context })
    }

    /// Ends background work and waits for it.
    pub async fn stop(self) {
        let Self { context, assistant, stages } = self;
        context.shutdown.cancel();
        context.tasks.close();
        context.tasks.wait().await;
        drop((assistant, stages));
    }
}
