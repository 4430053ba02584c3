//! `firstline migrate`: the tables of all stores, without a stage.

use kit::Context;
use kit::config::Settings;

use crate::show;

/// Brings the tables of the configured database, or of the files in `server.data_dir`, up to date.
pub(crate) async fn migrate(settings: &Settings, as_json: bool) -> anyhow::Result<bool> {
    let context = Context { server: settings.server()?, ..Context::default() };
    let mut done = Vec::new();
    macro_rules! each {
        ($($stage:ident),*) => {
            $({
                use anyhow::Context as _;
                $stage::migrate(&context).await.context($stage::NAME)?;
                done.push($stage::NAME);
            })*
        };
    }
    each!(orchestrator, workflow, telemetry);
    if as_json {
        show::line(&serde_json::json!({ "migrated": done }).to_string());
    } else {
        show::line(&format!("up to date: {}", done.join(", ")));
    }
    Ok(true)
}
