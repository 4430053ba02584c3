//! `firstline eval tokens`: what each measure that saves tokens does to the cost of golden questions, and to how many of them
//! are answered right.

use std::path::PathBuf;

use bundle::Reader;
use clap::Args;
use generator::config::Provider;
use generator::route::Routing;
use kit::config::Settings;
use serde::Serialize;

use crate::client::bundle_dir;
use crate::golden::ask_all;
use crate::judge::{Asked, Figures};
use crate::show;

/// More than any model may write.
const NO_LIMIT: &str = "32768";

#[derive(Args)]
pub(crate) struct TokensArgs {
    /// Folder of the bundle; default: server.bundle, which is the demo
    #[arg(long, value_name = "DIR")]
    bundle: Option<PathBuf>,
    /// JSONL of {"text", "kind", "outcome", "intent"?, "documents"?, ..}; default: the bundle's eval/questions.jsonl
    #[arg(long, value_name = "FILE")]
    questions: Option<PathBuf>,
}

/// The figures of the questions with some measures on.
#[derive(Debug, Serialize)]
struct Row {
    /// The measure that was added last.
    measure: &'static str,
    turns: usize,
    /// Tokens a turn.
    input_tokens: f64,
    output_tokens: f64,
    usd_per_turn: f64,
    /// Of the cost without any measure, 0..=1; `None` where nothing cost anything.
    saved: Option<f64>,
    /// Share of the questions that are answered right.
    correct: f64,
    /// Share of the answers whose every sentence is supported.
    grounded: Option<f64>,
}

/// A measure: its name, whether the configuration has it, and what turns it off.
type Measure = (&'static str, bool, Vec<(String, String)>);

/// `eval tokens`.
pub(crate) async fn tokens(settings: Settings, args: TokensArgs, as_json: bool) -> anyhow::Result<bool> {
    let config = settings.table::<generator::Config>(generator::NAME)?;
    anyhow::ensure!(
        config.provider == Provider::Openai,
        "generator.provider is \"extractive\": no tokens are spent, and there is nothing to compare; set a model"
    );
    let dir = bundle_dir(&settings.server()?.bundle, args.bundle.as_deref())?;
    let reader = Reader::open(&dir)?;
    let questions = reader.questions(args.questions.as_deref())?;
    let measures = measures(&config);
    let on: Vec<_> = measures.iter().filter(|(_, is_on, _)| *is_on).collect();
    let mut rows: Vec<Row> = Vec::new();
    // Without any first, then one more each time.
    for added in 0..=on.len() {
        let mut settings = settings.clone();
        for (key, value) in on[added..].iter().flat_map(|(_, _, off)| off) {
            settings.set(generator::NAME, key, value);
        }
        let asked = Box::pin(ask_all(settings, &reader, questions.clone(), false)).await?;
        let measure = added.checked_sub(1).map_or("without any", |last| on[last].0);
        let whole = rows.first().map(|first| first.usd_per_turn);
        rows.push(row(measure, &asked, whole));
    }
    if as_json {
        show::line(&serde_json::to_string(&rows)?);
    } else {
        print(&rows);
    }
    Ok(true)
}

fn measures(config: &generator::Config) -> Vec<Measure> {
    let off = |settings: &[(&str, &str)]| -> Vec<(String, String)> {
        settings.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    };
    let limits = config.categories.iter().filter(|(_, category)| category.max_tokens.is_some());
    let limits: Vec<_> =
        limits.map(|(name, _)| (format!("categories.{name}.max_tokens"), NO_LIMIT.to_owned())).collect();
    let generator::pack::Settings { passage_tokens, floor, history_tokens } = config.packing;
    vec![
        (
            "passages",
            passage_tokens > 0 || floor > 0.0,
            off(&[("packing.passage_tokens", "0"), ("packing.floor", "0.0")]),
        ),
        ("conversation", history_tokens > 0, off(&[("packing.history_tokens", "0")])),
        ("max_tokens", !limits.is_empty(), limits),
        ("routing", config.routing != Routing::Listed, off(&[("routing", "listed")])),
        ("cache", config.cache.max_mb > 0, off(&[("cache.max_mb", "0")])),
    ]
}

fn row(measure: &'static str, asked: &[Asked], whole: Option<f64>) -> Row {
    let figures = Figures::of(asked);
    let turns = asked.len();
    let a_turn = |sum: u64| sum as f64 / turns.max(1) as f64;
    let usage = || asked.iter().filter_map(|one| one.turn.usage);
    let usd_per_turn = figures.cost_usd / turns.max(1) as f64;
    Row {
        measure,
        turns,
        input_tokens: a_turn(usage().map(|usage| usage.input_tokens).sum()),
        output_tokens: a_turn(usage().map(|usage| usage.output_tokens).sum()),
        usd_per_turn,
        saved: whole
            .or(Some(usd_per_turn))
            .filter(|whole| *whole > 0.0)
            .map(|whole| 1.0 - usd_per_turn / whole),
        correct: figures.correct as f64 / figures.n.max(1) as f64,
        grounded: figures.grounded_rate,
    }
}

fn print(rows: &[Row]) {
    show::line(&format!(
        "{:<14}{:>8}{:>12}{:>12}{:>14}{:>10}{:>11}{:>11}",
        "with", "turns", "tokens in", "tokens out", "USD a turn", "saved", "correct", "grounded"
    ));
    let percent =
        |share: Option<f64>| share.map_or("-".to_owned(), |share| format!("{:.1} %", share * 100.0));
    for (place, row) in rows.iter().enumerate() {
        let name = if place > 1 { format!("+ {}", row.measure) } else { row.measure.to_owned() };
        show::line(&format!(
            "{name:<14}{:>8}{:>12.1}{:>12.1}{:>14.7}{:>10}{:>11}{:>11}",
            row.turns,
            row.input_tokens,
            row.output_tokens,
            row.usd_per_turn,
            percent(row.saved),
            percent(Some(row.correct)),
            percent(row.grounded)
        ));
    }
}
