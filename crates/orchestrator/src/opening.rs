//! What an orchestrator is made of, read and opened.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Context as _;
use bundle::rollout::Compares;
use tokio::sync::{Notify, Semaphore, mpsc};

use crate::budget::Ledger;
use crate::config::Config;
use crate::curated::Curated;
use crate::keyword::Keywords;
use crate::later::{self, Later};
use crate::lifeboat::Lifeboat;
use crate::locks::Locks;
use crate::presence::Presence;
use crate::rollout::Rollout;
use crate::screen::Screened;
use crate::server::NAME;
use crate::stages::Stages;
use crate::store::Journal;
use crate::turn::{Known, Orchestrator, now};

impl Orchestrator {
    /// The orchestrator of a bundle with its journal, and what is to be done after turns.
    ///
    /// # Errors
    /// A bundle with problems, a journal that cannot be opened, a missing link.
    pub(crate) async fn open(
        config: Config,
        context: &kit::Context,
    ) -> anyhow::Result<(Self, mpsc::Receiver<Later>)> {
        let reader = bundle::Reader::open(&context.server.bundle)?;
        let assistant = reader.assistant()?;
        let keywords = Keywords::of(&assistant)?;
        let journal = Journal::open(context.store(NAME)?).await.context("the journal")?;
        personal::warm_up();
        let spent = journal.spent(now()).await.context("the journal")?;
        let stages = Stages::new(&config, &context.links, context.server.max_message_bytes)?;
        let plan = journal.plan().await.context("the journal")?;
        let workflows = reader.workflows()?.into_iter().map(|one| (one.name, one.intents));
        let workflows: BTreeMap<_, _> = workflows.collect();
        let (later, waiting) = later::queue();
        let orchestrator = Self {
            menu: reader.menu()?,
            rollout: Rollout::new(
                plan,
                reader.rollout()?.is_some_and(|plan| plan.compares == Compares::Assistant),
                config.max_treated_share,
            ),
            intents: Known::all(&reader)?,
            curated: Curated::read(&reader)?,
            actionable: workflows.values().flatten().cloned().collect(),
            workflows,
            later,
            bundle: reader.hash().to_owned(),
            presence: Presence::of(&assistant)?,
            assistant,
            keywords,
            stages,
            screened: Screened::default(),
            journal,
            lifeboat: Lifeboat::open(&context.data_dir()?.join("lifeboat")).context("the lifeboat")?,
            spooled: Arc::new(Notify::new()),
            turns: Semaphore::new(config.max_turns),
            ledger: Ledger::new(config.budget.clone(), &spent, now()),
            requests: Locks::default(),
            conversations: Locks::default(),
            running: kit::Running::default(),
            config,
        };
        Ok((orchestrator, waiting))
    }
}
