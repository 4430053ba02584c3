//! `firstline rollout`: whom the assistant is switched on for, and why, at a running telemetry stage.

mod print;

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Subcommand;
use kit::config::{Server, Settings};
use proto::rollout_service_client::RolloutServiceClient;
use proto::*;
use serde_json::{Value, json};
use telemetry::rollout::Line;

use self::print::{page, show_share, unseen, unseen_value, value};
use crate::client::bundle_dir;
use crate::desk::{Person, Running, time, told};
use crate::show;

const PAGE: u32 = 1000;

#[derive(Subcommand)]
pub(crate) enum RolloutCommand {
    /// The ladder of stages, what each guard says and what the next stage waits for
    Status {
        #[command(flatten)]
        at: Running,
    },
    /// The same, again at every look of the controller
    Watch {
        #[command(flatten)]
        at: Running,
    },
    /// What applying the bundle's rollout.toml would change; nothing is done
    Plan {
        #[command(flatten)]
        of: Planned,
    },
    /// Begin the rollout of the bundle's rollout.toml, or change the one under way
    Apply {
        #[command(flatten)]
        of: Planned,
        #[command(flatten)]
        by: Person,
    },
    /// Agree to the next stage
    Approve {
        #[command(flatten)]
        how: How,
    },
    /// Keep the share from rising
    Hold {
        /// Let it rise again
        #[arg(long)]
        release: bool,
        #[command(flatten)]
        how: How,
    },
    /// The kill switch: everybody has the menu from their next message on
    Abort {
        #[command(flatten)]
        how: How,
    },
    /// Begin again at the first stage after a rollback
    Rearm {
        #[command(flatten)]
        how: How,
    },
    /// What was decided and from what, oldest first; with --json what `replay` reads
    Decisions {
        /// Only those after this number
        #[arg(long, value_name = "N", default_value_t = 0)]
        after: i64,
        #[command(flatten)]
        at: Running,
    },
    /// What the assistant would have said where the menu answered, newest first
    Unseen {
        /// At most so many, up to 100
        #[arg(long, value_name = "N", default_value_t = 20)]
        limit: u32,
        /// Only those before this place
        #[arg(long, value_name = "PLACE", default_value_t = 0)]
        before: i64,
        #[command(flatten)]
        at: Running,
    },
    /// Make the decisions of an exported log again, offline, and compare every bit
    Replay {
        /// What `firstline rollout decisions --json` printed
        file: PathBuf,
    },
}

/// Whose plan.
#[derive(clap::Args)]
pub(crate) struct Planned {
    /// Folder of the bundle; default: server.bundle
    #[arg(long, value_name = "DIR")]
    bundle: Option<PathBuf>,
    #[command(flatten)]
    at: Running,
}

/// Who orders it, and why.
#[derive(clap::Args)]
pub(crate) struct How {
    #[command(flatten)]
    by: Person,
    /// Why
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
    #[command(flatten)]
    at: Running,
}

fn default(server: &Server) -> String {
    server.endpoints.telemetry.clone()
}

/// Runs a command on the rollout.
pub(crate) async fn rollout(
    settings: &Settings,
    command: RolloutCommand,
    as_json: bool,
) -> anyhow::Result<bool> {
    match command {
        RolloutCommand::Status { at } => {
            let mut there = There::open(settings, &at)?;
            print(there.status().await?, as_json)
        }
        RolloutCommand::Watch { at } => {
            let mut there = There::open(settings, &at)?;
            let told = there.client.watch_plan(WatchPlanRequest {}).await;
            let mut looks = told.map_err(|status| there.told(&status))?.into_inner();
            while looks.message().await.map_err(|status| there.told(&status))?.is_some() {
                print(there.status().await?, as_json)?;
            }
            Ok(true)
        }
        RolloutCommand::Plan { of } => apply(settings, of, String::from("plan"), true, as_json).await,
        RolloutCommand::Apply { of, by } => apply(settings, of, by.person, false, as_json).await,
        RolloutCommand::Approve { how } => order(settings, Order::Approve, how, as_json).await,
        RolloutCommand::Hold { release, how } => order(settings, Order::Hold { release }, how, as_json).await,
        RolloutCommand::Abort { how } => order(settings, Order::Abort, how, as_json).await,
        RolloutCommand::Rearm { how } => order(settings, Order::Rearm, how, as_json).await,
        RolloutCommand::Decisions { after, at } => decisions(settings, after, &at, as_json).await,
        RolloutCommand::Unseen { limit, before, at } => {
            let mut there = There::open(settings, &at)?;
            let request = ListUnseenRequest { before, page_size: limit, ..ListUnseenRequest::default() };
            let found = there.client.list_unseen(request).await.map_err(|status| there.told(&status))?;
            for answer in found.into_inner().answers {
                show::line(&if as_json { unseen_value(&answer).to_string() } else { unseen(&answer) });
            }
            Ok(true)
        }
        RolloutCommand::Replay { file } => replay(&file, as_json),
    }
}

enum Order {
    Approve,
    Hold { release: bool },
    Abort,
    Rearm,
}

struct There {
    client: RolloutServiceClient<kit::Link>,
    url: String,
}

impl There {
    fn open(settings: &Settings, at: &Running) -> anyhow::Result<Self> {
        let (link, url) = at.link(settings, default)?;
        Ok(Self { client: RolloutServiceClient::new(link), url })
    }

    fn told(&self, status: &tonic::Status) -> anyhow::Error {
        told(status, &self.url)
    }

    async fn status(&mut self) -> anyhow::Result<Option<Rollout>> {
        let found = self.client.get_rollout(GetRolloutRequest {}).await;
        Ok(found.map_err(|status| self.told(&status))?.into_inner().rollout)
    }
}

async fn apply(
    settings: &Settings,
    Planned { bundle, at }: Planned,
    by: String,
    dry_run: bool,
    as_json: bool,
) -> anyhow::Result<bool> {
    let dir = bundle_dir(&settings.server()?.bundle, bundle.as_deref())?;
    let file = dir.join("rollout.toml");
    // Against the bundle here, and by itself there.
    bundle::Reader::open(&dir)?.rollout()?.with_context(|| format!("{}: no such file", file.display()))?;
    let rollout_toml = std::fs::read_to_string(&file).with_context(|| file.display().to_string())?;
    let mut there = There::open(settings, &at)?;
    let request = ApplyRolloutRequest { rollout_toml, by, dry_run };
    let done = there.client.apply_rollout(request).await.map_err(|status| there.told(&status))?.into_inner();
    if as_json {
        let value = json!({ "changes": done.changes, "rollout": done.rollout.as_ref().map(value) });
        show::line(&value.to_string());
        return Ok(true);
    }
    if done.changes.is_empty() {
        show::line("nothing changes");
    }
    done.changes.iter().for_each(|change| show::line(change));
    if dry_run { Ok(true) } else { print(done.rollout, as_json) }
}

async fn order(
    settings: &Settings,
    order: Order,
    How { by, reason, at }: How,
    as_json: bool,
) -> anyhow::Result<bool> {
    let mut there = There::open(settings, &at)?;
    let (by, client) = (by.person, &mut there.client);
    let done = match order {
        Order::Approve => client
            .approve_rollout(ApproveRolloutRequest { by, reason })
            .await
            .map(|done| done.into_inner().rollout),
        Order::Hold { release } => {
            let request = HoldRolloutRequest { by, reason, release };
            client.hold_rollout(request).await.map(|done| done.into_inner().rollout)
        }
        Order::Abort => client
            .abort_rollout(AbortRolloutRequest { by, reason })
            .await
            .map(|done| done.into_inner().rollout),
        Order::Rearm => client
            .rearm_rollout(RearmRolloutRequest { by, reason })
            .await
            .map(|done| done.into_inner().rollout),
    };
    print(done.map_err(|status| there.told(&status))?, as_json)
}

async fn decisions(settings: &Settings, mut after: i64, at: &Running, as_json: bool) -> anyhow::Result<bool> {
    let mut there = There::open(settings, at)?;
    loop {
        let page = there.client.list_decisions(ListDecisionsRequest { after, page_size: PAGE }).await;
        let page = page.map_err(|status| there.told(&status))?.into_inner().decisions;
        for row in &page {
            after = row.seq;
            show::line(&if as_json { logged(row)? } else { in_words(row)? });
        }
        if page.len() < PAGE as usize {
            return Ok(true);
        }
    }
}

fn logged(row: &RolloutDecision) -> anyhow::Result<String> {
    let at = row.at.unwrap_or_default();
    let line = Line {
        seq: row.seq,
        at_us: at.seconds * 1_000_000 + i64::from(at.nanos) / 1000,
        entry: serde_json::from_str(&row.entry)?,
        decision: serde_json::from_str(&row.decision)?,
    };
    Ok(serde_json::to_string(&line)?)
}

fn in_words(row: &RolloutDecision) -> anyhow::Result<String> {
    let decision: Value = serde_json::from_str(&row.decision)?;
    let text = |key: &str| decision[key].as_str().unwrap_or("-").to_owned();
    let list = |key: &str| {
        let said = decision[key].as_array().into_iter().flatten().filter_map(Value::as_str);
        said.collect::<Vec<_>>().join("; ")
    };
    let at = time(row.at.as_ref());
    let share = show_share(decision["share"].as_u64().unwrap_or_default());
    let why =
        [list("reasons"), list("missing")].into_iter().filter(|why| !why.is_empty()).collect::<Vec<_>>();
    let (action, stage, verdict) = (text("action"), text("stage"), text("verdict"));
    let (seq, at) = (row.seq, at.as_str().unwrap_or("-"));
    Ok(format!("{seq:>6}  {at}  {action:<13}{stage:<12}{share:>8}  {verdict:<13}{}", why.join("; ")))
}

fn replay(file: &std::path::Path, as_json: bool) -> anyhow::Result<bool> {
    let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    let made = telemetry::rollout::replay(lines).with_context(|| file.display().to_string())?;
    if as_json {
        show::line(&json!({ "decisions": made.len(), "same": true }).to_string());
    } else {
        show::line(&format!("{} decisions made again, all the same", made.len()));
    }
    Ok(true)
}

fn print(rollout: Option<Rollout>, as_json: bool) -> anyhow::Result<bool> {
    let Some(rollout) = rollout else {
        show::line(if as_json { "null" } else { "no rollout; firstline rollout apply begins one" });
        return Ok(true);
    };
    show::line(&if as_json { value(&rollout).to_string() } else { page(&rollout) });
    Ok(true)
}
