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
    /// Starts all stages from their tables; what they measure goes into `metrics`.
    ///
    /// # Errors
    /// A table with a wrong value, or a stage that cannot start, with its name.
    pub async fn start(settings: &Settings, metrics: kit::Metrics) -> anyhow::Result<Self> {
        let context = Context { server: settings.server()?, metrics, ..Context::default() };
        let mut stages = Vec::new();
        // Every table is read before any stage starts: a wrong value leaves nothing half done.
        macro_rules! start {
            ($($stage:ident),*) => {
                let configs = ($(settings.table::<$stage::Config>($stage::NAME)?,)*);
                let ($($stage,)*) = configs;
                $({
                    let service = $stage::service($stage, context.clone());
                    stages.push(($stage::NAME, Box::pin(service).await.context($stage::NAME)?));
                })*
            };
        }
        let front = settings.table::<orchestrator::Config>(orchestrator::NAME)?;
        start!(telemetry, workflow, generator, retriever, safety, classifier);
        let links = Links::new(stages.iter().map(|(name, stage)| (*name, Link::local(stage))));
        let context = Context { links, ..context };
        let service = orchestrator::service(front, context.clone());
        let assistant = Box::pin(service).await.context(orchestrator::NAME)?;
        Ok(Self { assistant, stages, context })
    }

    /// The orchestrator with what people on call ask of other stages, at one address.
    pub fn front(&self) -> Stage {
        let asked = self.stages.iter().filter(|(name, _)| [telemetry::NAME, workflow::NAME].contains(name));
        asked.fold(self.assistant.clone(), |front, (_, stage)| front.beside(stage))
    }

    /// Ends background work and waits for it.
    pub async fn stop(self) {
        self.context.finish().await;
    }
}
