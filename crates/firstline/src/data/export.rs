//! `firstline export`: all that is held of a customer, or examples for training.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use kit::config::Settings;
use proto::telemetry_service_client::TelemetryServiceClient;
use proto::{Consent, ExportRequest, ExportResponse};
use serde_json::{Value, json};
use tonic::Streaming;

use super::conversation::{Conversation, Open, customer};
use super::example::{Kind, example};
use super::filter::Filter;
use super::telemetry_at;
use super::window::Window;
use super::write::Files;
use crate::client::MAX_RESPONSE;
use crate::customer::{self, CustomerArgs};
use crate::desk::{Running, told, written};
use crate::show;

/// Fewest examples that fine-tuning APIs take.
const FEWEST: u64 = 10;

#[derive(Args)]
pub(crate) struct ExportArgs {
    /// records: all that is held of a customer, one conversation a line. sft: conversations that end with the answer to
    /// learn. preference: a better and a worse answer. intents: examples as a bundle reads them
    #[arg(long, value_enum, default_value_t = KindArg::Records)]
    kind: KindArg,
    /// Key of the customer whose records are asked for
    #[arg(long, value_name = "KEY")]
    customer: Option<String>,
    /// Examples go to FILE.train.jsonl and FILE.valid.jsonl, what they are to FILE.manifest.json
    #[arg(long, value_name = "FILE", conflicts_with = "customer")]
    out: Option<PathBuf>,
    /// Only turns for which this holds, such as "rating >= 4 && confidence > 0.8". Names: rating resolved outcome reason
    /// intent category arm model confidence bundle
    #[arg(long = "where", value_name = "EXPRESSION", conflicts_with = "customer")]
    filter: Option<String>,
    /// Only turns of so long ago and later, such as 30d or 12h; default: all that are kept
    #[arg(long, value_name = "TIME", conflicts_with = "customer")]
    window: Option<Window>,
    /// Share of the customers whose examples are for validation, 0 to 0.5
    #[arg(long, value_name = "SHARE", default_value_t = 0.1, value_parser = share)]
    valid: f64,
    /// File with the prompt that begins every example of sft and preference
    #[arg(long, value_name = "FILE", conflicts_with = "customer")]
    system: Option<PathBuf>,
    #[command(flatten)]
    at: Running,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum KindArg {
    Records,
    Sft,
    Preference,
    Intents,
}

fn share(given: &str) -> Result<f64, String> {
    let share = given.parse().ok().filter(|share| (0.0..=0.5).contains(share));
    share.ok_or_else(|| "allowed 0 to 0.5".to_owned())
}

/// Runs the command.
pub(crate) async fn export(settings: &Settings, args: ExportArgs, as_json: bool) -> anyhow::Result<bool> {
    let kind = match args.kind {
        KindArg::Records => {
            let customer = args.customer.context("--customer: needed for records; else choose a --kind")?;
            return customer::export(settings, CustomerArgs { customer, at: args.at }).await;
        }
        KindArg::Sft => Kind::Sft,
        KindArg::Preference => Kind::Preference,
        KindArg::Intents => Kind::Intents,
    };
    let out = args.out.context("--out: needed, where the examples go")?;
    let filter = args.filter.as_deref().map(Filter::of).transpose()?;
    let read = |file: &PathBuf| {
        std::fs::read_to_string(file).with_context(|| format!("--system: {}", file.display()))
    };
    let system = args.system.as_ref().map(read).transpose()?.unwrap_or_default();
    let source = Source::at(&args.at, settings)?;
    let now = jiff::Timestamp::now();
    let from = args.window.as_ref().map(|window| window.before(now)).transpose()?;
    // All that is kept, whatever the window: a no stands longer than that.
    let denied = source.denied(now).await?;
    let mut work = Work {
        kind,
        system: system.trim().to_owned(),
        denied,
        seen: HashMap::new(),
        counts: Counts::default(),
        files: Files::create(&out, args.valid)?,
    };
    source.read(from, now, filter.as_ref(), &mut work).await?;
    let manifest = json!({
        "kind": format!("{kind:?}").to_lowercase(),
        "where": args.filter,
        "from": from.map(|from| format!("{from:.0}")),
        "to": format!("{now:.0}"),
        "version": env!("CARGO_PKG_VERSION"),
        "counts": work.counts.told(),
    });
    let manifest = work.files.finish(manifest)?;
    if manifest["files"][0]["examples"].as_u64() < Some(FEWEST) {
        eprintln!("fewer than {FEWEST} examples to train with: fine-tuning APIs take no fewer");
    }
    show::line(&written(&manifest, as_json));
    Ok(true)
}

/// A telemetry stage.
pub(super) struct Source {
    client: TelemetryServiceClient<kit::Link>,
    url: String,
}

impl Source {
    pub(super) fn at(at: &Running, settings: &Settings) -> anyhow::Result<Self> {
        let (link, url) = at.link(settings, telemetry_at)?;
        let client = TelemetryServiceClient::new(link).max_decoding_message_size(MAX_RESPONSE);
        Ok(Self { client, url })
    }

    /// Records of a span of time, oldest first.
    pub(super) async fn records(
        &self,
        from: Option<jiff::Timestamp>,
        to: jiff::Timestamp,
        with_said: bool,
    ) -> anyhow::Result<Streaming<ExportResponse>> {
        let moment = |at: jiff::Timestamp| prost_types::Timestamp {
            seconds: at.as_second(),
            nanos: at.subsec_nanosecond(),
        };
        let request = ExportRequest { from: from.map(moment), to: Some(moment(to)), with_said };
        let records = self.client.clone().export(request).await;
        Ok(records.map_err(|status| told(&status, &self.url))?.into_inner())
    }

    /// The next record; `None` at the end.
    pub(super) async fn next(
        &self,
        records: &mut Streaming<ExportResponse>,
    ) -> anyhow::Result<Option<ExportResponse>> {
        records.message().await.map_err(|status| told(&status, &self.url))
    }

    /// Customers who have said no.
    async fn denied(&self, to: jiff::Timestamp) -> anyhow::Result<HashSet<String>> {
        let (mut records, mut denied) = (self.records(None, to, false).await?, HashSet::new());
        while let Some(exported) = self.next(&mut records).await? {
            if exported.record.as_ref().is_some_and(|record| record.consent() == Consent::Denied) {
                denied.insert(customer(&exported));
            }
        }
        Ok(denied)
    }

    async fn read(
        &self,
        from: Option<jiff::Timestamp>,
        to: jiff::Timestamp,
        filter: Option<&Filter>,
        work: &mut Work,
    ) -> anyhow::Result<()> {
        let (mut records, mut open) = (self.records(from, to, true).await?, Open::default());
        while let Some(exported) = self.next(&mut records).await? {
            open.add(&exported, filter).iter().try_for_each(|complete| work.take(complete))?;
        }
        open.end().iter().try_for_each(|complete| work.take(complete))
    }
}

/// What became of the turns.
#[derive(Default)]
struct Counts {
    turns: u64,
    conversations: u64,
    denied: u64,
    without_consent: u64,
    filtered: u64,
    unsaid: u64,
    without_example: u64,
    repeated: u64,
    contradicted: u64,
}

impl Counts {
    fn told(&self) -> Value {
        json!({
            "turns": self.turns,
            "conversations": self.conversations,
            "customer_said_no": self.denied,
            "without_consent": self.without_consent,
            "filtered": self.filtered,
            "filter_hangs_on_what_was_not_said": self.unsaid,
            "without_example": self.without_example,
            "repeated": self.repeated,
            "contradicted": self.contradicted,
        })
    }
}

/// An export under way.
struct Work {
    kind: Kind,
    system: String,
    denied: HashSet<String>,
    /// Intents of texts that are written, by the hash of their normal form.
    seen: HashMap<[u8; 16], Value>,
    counts: Counts,
    files: Files,
}

impl Work {
    /// Writes the examples of a conversation.
    fn take(&mut self, conversation: &Conversation) -> anyhow::Result<()> {
        self.counts.conversations += 1;
        let denied = self.denied.contains(&conversation.customer);
        for (at, said) in conversation.turns.iter().enumerate() {
            self.counts.turns += 1;
            let left_out = match said.taken {
                _ if denied => &mut self.counts.denied,
                _ if !said.consents => &mut self.counts.without_consent,
                Some(false) => &mut self.counts.filtered,
                None => &mut self.counts.unsaid,
                Some(true) => {
                    let example = example(conversation, at, self.kind, &self.system);
                    match example {
                        None => &mut self.counts.without_example,
                        Some(example) => match self.before(&example) {
                            Some(same) if same == example["intent"] => &mut self.counts.repeated,
                            Some(_) => &mut self.counts.contradicted,
                            None => {
                                let turn = (said.turn_id.as_str(), said.bundle.as_str());
                                self.files.add(&conversation.customer, turn, &example)?;
                                continue;
                            }
                        },
                    }
                }
            };
            *left_out += 1;
        }
        Ok(())
    }

    /// The intent that the text of an example has already, which a bundle takes once; `None` for a new text.
    fn before(&mut self, example: &Value) -> Option<Value> {
        if self.kind != Kind::Intents {
            return None;
        }
        let normal = text::normalise(example["text"].as_str().unwrap_or_default());
        let mut key = [0; 16];
        blake3::Hasher::new().update(normal.as_bytes()).finalize_xof().fill(&mut key);
        let intent = example["intent"].clone();
        match self.seen.entry(key) {
            std::collections::hash_map::Entry::Occupied(seen) => Some(seen.get().clone()),
            std::collections::hash_map::Entry::Vacant(free) => {
                free.insert(intent);
                None
            }
        }
    }
}
