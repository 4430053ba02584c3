//! Files that others exchange while a process runs, as certificates are.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;

use crate::serve::Context;

/// Between two looks. What is exchanged is valid for some time before what was there ends.
const EVERY: Duration = Duration::from_secs(2);

/// What was made of some files, and is made anew when they change.
#[derive(Debug)]
pub(crate) struct Watched<T> {
    paths: Vec<PathBuf>,
    value: ArcSwap<T>,
}

impl<T: Send + Sync + 'static> Watched<T> {
    /// Reads the files and goes on reading them; what cannot be used later is reported, and what was there stays.
    ///
    /// # Errors
    /// A file cannot be read, or `make` refuses them.
    pub(crate) fn open(
        paths: Vec<PathBuf>,
        context: &Context,
        make: impl Fn(&[Vec<u8>]) -> anyhow::Result<T> + Send + 'static,
    ) -> anyhow::Result<Arc<Self>> {
        let contents = read(&paths)?;
        let watched = Arc::new(Self { paths, value: ArcSwap::from_pointee(make(&contents)?) });
        let follow = watched.clone().follow(contents, make);
        context.tasks.spawn(context.shutdown.clone().run_until_cancelled_owned(follow));
        Ok(watched)
    }

    /// What the files hold now.
    pub(crate) fn now(&self) -> Arc<T> {
        self.value.load_full()
    }

    async fn follow(
        self: Arc<Self>,
        mut known: Vec<Vec<u8>>,
        make: impl Fn(&[Vec<u8>]) -> anyhow::Result<T>,
    ) {
        loop {
            tokio::time::sleep(EVERY).await;
            let contents = match read(&self.paths) {
                Ok(contents) if contents == known => continue,
                Ok(contents) => contents,
                Err(error) => {
                    tracing::warn!(error = format!("{error:#}"), "what was read before stays");
                    continue;
                }
            };
            match make(&contents) {
                Ok(value) => {
                    self.value.store(Arc::new(value));
                    tracing::info!(paths = ?self.paths, "read again");
                }
                // Of several files one may be there before the others: the next look sees them all.
                Err(error) => tracing::warn!(error = format!("{error:#}"), "what was read before stays"),
            }
            known = contents;
        }
    }
}

fn read(paths: &[PathBuf]) -> anyhow::Result<Vec<Vec<u8>>> {
    use anyhow::Context as _;
    let read =
        |path: &PathBuf| std::fs::read(path).with_context(|| format!("cannot read {}", path.display()));
    paths.iter().map(read).collect()
}
