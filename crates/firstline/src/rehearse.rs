//! `firstline workflow try`: what the gate would say and what would be sent, from the bundle alone.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use bundle::Reader;
use clap::Args;
use kit::config::Settings;
use serde_json::{Value, json};
use workflow::{Rehearsal, Trial};

use crate::desk::written;
use crate::show;

#[derive(Args)]
pub(crate) struct TryArgs {
    /// Name of a workflow, or its file in a bundle
    workflow: String,
    /// Folder of the bundle; default: that of the file, else server.bundle
    #[arg(long, value_name = "DIR")]
    bundle: Option<PathBuf>,
    /// A value as it is stored: a date as 2026-03-14, an amount as 12.50
    #[arg(long = "slot", value_name = "NAME=VALUE", value_parser = pair)]
    slots: Vec<(String, String)>,
    /// What the caller knows of the customer, for preconditions
    #[arg(long = "attribute", value_name = "NAME=VALUE", value_parser = pair)]
    attributes: Vec<(String, String)>,
    /// Confidence of the intent, 0 to 1
    #[arg(long, value_name = "SHARE", default_value_t = 1.0)]
    confidence: f64,
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("allowed NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

/// Prints the verdict and the request. `false` when the gate refuses.
pub(crate) fn run(settings: &Settings, args: TryArgs, as_json: bool) -> anyhow::Result<bool> {
    let (passes, shown) = rehearse(settings, args)?;
    show::line(&written(&shown, as_json));
    Ok(passes)
}

fn rehearse(settings: &Settings, args: TryArgs) -> anyhow::Result<(bool, Value)> {
    let file = Path::new(&args.workflow);
    let (name, own) = if file.is_file() { named(file)? } else { (args.workflow.clone(), None) };
    let dir = match args.bundle.or(own) {
        Some(dir) => dir,
        None => settings.server()?.bundle,
    };
    let config = settings.table(workflow::NAME)?;
    let trial = Trial {
        workflow: name.clone(),
        slots: args.slots.into_iter().collect(),
        attributes: args.attributes.into_iter().collect::<BTreeMap<_, _>>(),
        confidence: args.confidence,
    };
    if let Some(wrong) = kit::attributes::wrong(trial.attributes.iter()) {
        anyhow::bail!("--attribute: {wrong}");
    }
    let Rehearsal { refused, needs_approval, request } =
        workflow::rehearse(&Reader::open(&dir)?, &config, trial)?;
    let passes = refused.is_none();
    let (reason, why) = refused.unzip();
    let mut shown = json!({
        "workflow": name,
        "gate": if passes { "passes" } else { "refuses" },
        "reason": reason,
        "why": why,
        "needs_approval": needs_approval,
    });
    if let Some(request) = request {
        shown["method"] = json!(request.method);
        shown["target"] = json!(request.target);
        shown["path"] = json!(request.path);
        shown["body"] = serde_json::from_str(&request.body).unwrap_or(json!(request.body));
    }
    Ok((passes, shown))
}

/// The name that a file of a bundle gives its workflow, and the folder of the bundle.
fn named(file: &Path) -> anyhow::Result<(String, Option<PathBuf>)> {
    let text = std::fs::read_to_string(file).with_context(|| format!("{}", file.display()))?;
    let table: toml::Table = toml::from_str(&text).with_context(|| format!("{}", file.display()))?;
    let name = table.get("name").and_then(toml::Value::as_str);
    let name = name.with_context(|| format!("{}: has no name, is it a workflow?", file.display()))?;
    let file = file.canonicalize()?;
    let bundle = file.ancestors().find(|dir| dir.join("assistant.toml").is_file());
    Ok((name.to_owned(), bundle.map(Path::to_owned)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tried(workflow: &str, slots: &[(&str, &str)], attributes: &[(&str, &str)]) -> (bool, Value) {
        let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/demo");
        let mut settings = Settings::default();
        settings.set("workflow", "targets.bank.url", "https://bank.example");
        settings.set("workflow", "targets.bank.secret", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
        settings.set("server", "bundle", &format!("{:?}", demo.display().to_string()));
        let owned = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
        };
        let file = demo.join("workflows").join(workflow);
        let workflow = if file.is_file() { file.display().to_string() } else { workflow.to_owned() };
        let (slots, attributes) = (owned(slots), owned(attributes));
        let args = TryArgs { workflow, bundle: None, slots, attributes, confidence: 0.9 };
        rehearse(&settings, args).unwrap()
    }

    #[test]
    fn the_request_of_a_workflow_and_the_verdict_on_it_are_shown_without_a_stage() {
        kit::run::install_tls();
        let slots = [("card_last4", "1234"), ("reason", "lost")];
        let (passes, shown) = tried("block_card", &slots, &[]);
        assert!(passes, "{shown}");
        assert_eq!((&shown["method"], &shown["path"]), (&json!("POST"), &json!("/cards/block")));
        assert_eq!(shown["body"], json!({ "last4": "1234", "reason": "lost" }));
        assert_eq!(tried("block_card.toml", &slots, &[]), (true, shown));
        for (slots, attributes, reason) in [
            (
                &[("account_last4", "1234"), ("email", "jo@mail.example")][..],
                &[("overdrawn", "yes")][..],
                "OVERDRAWN",
            ),
            (&[("account_last4", "12345"), ("email", "jo@mail.example")], &[], "SLOT_INVALID"),
            (&[("account_last4", "1234")], &[], "SLOT_MISSING"),
        ] {
            let (passes, shown) = tried("close_account", slots, attributes);
            assert_eq!((passes, shown["reason"].as_str()), (false, Some(reason)), "{shown}");
            assert_eq!(shown["needs_approval"], true);
        }
    }
}
