//! `firstline capacity`: replicas, cores, memory and money for so many turns a second, and what breaks first.

mod plan;

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use kit::config::Settings;
use serde_json::json;

use crate::show;
use plan::{Figures, Limit, Load, Plan, Row, Shared, limits};

/// What `make bench` measured last for the project.
const FIGURES: &str = include_str!("capacity/figures.toml");

#[derive(Args)]
pub(crate) struct CapacityArgs {
    /// Turns a second, 0.01 to 100000000
    #[arg(long, value_name = "N", value_parser = between::<1, 10_000_000_000>)]
    rps: f64,
    /// What 95 % of the turns may take, in milliseconds, the time of a model left out
    #[arg(long, value_name = "M", value_parser = between::<1, 6_000_000>)]
    p95_ms: Option<f64>,
    /// Cores of a replica
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=256))]
    cores: u32,
    /// Largest share of their time that cores may be busy, as the autoscaler is set
    #[arg(long, value_name = "SHARE", default_value_t = 0.7, value_parser = between::<1, 99>)]
    busy: f64,
    /// Share of the turns whose answer a model writes: not by workflows, people, or the cache
    #[arg(long, value_name = "SHARE", default_value_t = 0.3, value_parser = between::<0, 100>)]
    written: f64,
    /// Tokens of a written answer
    #[arg(long, value_name = "N", default_value_t = 80.0, value_parser = between::<1, 10_000_000>)]
    output_tokens: f64,
    /// Seconds that a model writes it
    #[arg(long, value_name = "S", default_value_t = 2.5, value_parser = between::<1, 60_000>)]
    answer_seconds: f64,
    /// Price of a core, in US dollars an hour; default: that of AWS Fargate
    #[arg(long, value_name = "USD", default_value_t = 0.04048, value_parser = between::<0, 10_000>)]
    core_hour: f64,
    /// Price of a GiB of memory, in US dollars an hour; default: that of AWS Fargate
    #[arg(long, value_name = "USD", default_value_t = 0.004445, value_parser = between::<0, 10_000>)]
    gib_hour: f64,
    /// Figures of another machine, as `make bench` writes them to target/capacity.toml; default: the program's own
    #[arg(long, value_name = "FILE.toml")]
    figures: Option<PathBuf>,
}

/// A number between two others, which are in hundredths.
fn between<const LEAST: u64, const MOST: u64>(text: &str) -> Result<f64, String> {
    let (least, most) = (LEAST as f64 / 100.0, MOST as f64 / 100.0);
    let number = text.parse().ok().filter(|number| (least..=most).contains(number));
    number.ok_or_else(|| format!("allowed {least} to {most}"))
}

/// Prints a plan.
pub(crate) fn run(settings: &Settings, args: &CapacityArgs, as_json: bool) -> anyhow::Result<bool> {
    let figures = figures(args.figures.as_deref())?;
    let generator: generator::Config = settings.table("generator")?;
    let telemetry: telemetry::Config = settings.table("telemetry")?;
    let load = Load {
        rps: args.rps,
        cores: args.cores,
        busy: args.busy,
        p95_ms: args.p95_ms,
        // Little's law: what comes in a second times how long it stays.
        in_flight: args.rps * args.written * args.answer_seconds,
        max_in_flight: generator.max_in_flight as f64,
        core_hour: args.core_hour,
        gib_hour: args.gib_hour,
    };
    let Some(plan) = Plan::of(&figures, &load) else {
        anyhow::bail!(
            "no number of replicas has 95 % of the turns done in {} ms: on {} they take longer when they are alone",
            args.p95_ms.unwrap_or_default(),
            figures.machine
        );
    };
    let own = telemetry.self_hosted;
    let asked = Shared {
        output: args.written * args.output_tokens,
        gives: Some(own.output_tokens_per_second * own.utilisation).filter(|gives| *gives > 0.0),
        kept_days: f64::from(telemetry.retention_days),
    };
    let limits = limits(&figures, &plan, args.rps, &asked);
    if as_json {
        let whole = json!({
            "rps": args.rps, "machine": figures.machine, "stages": plan.rows, "limits": limits,
            "p95_ms": plan.p95_ms, "alone_p95_ms": plan.alone_p95_ms, "in_flight": load.in_flight,
        });
        show::line(&whole.to_string());
    } else {
        show::line(&format!("{} turns a second, as measured on {}", count(args.rps), figures.machine));
        table(&plan, &load, &limits).iter().for_each(|line| show::line(line));
    }
    Ok(true)
}

fn figures(path: Option<&Path>) -> anyhow::Result<Figures> {
    let place = path.map_or_else(|| "figures.toml".to_owned(), |path| path.display().to_string());
    let text = match path {
        Some(path) => std::fs::read_to_string(path).with_context(|| format!("cannot read {place}"))?,
        None => FIGURES.to_owned(),
    };
    let figures: Figures = toml::from_str(&text).with_context(|| place.clone())?;
    match figures.wrong() {
        Some(wrong) => anyhow::bail!("{place}: {wrong}"),
        None => Ok(figures),
    }
}

fn table(plan: &Plan, load: &Load, limits: &[Limit]) -> Vec<String> {
    let mut lines = vec![format!(
        "\n{:<14}{:>10}{:>10}{:>12}{:>8}{:>10}{:>14}",
        "stage", "replicas", "cores", "memory GiB", "busy", "wait ms", "USD a month"
    )];
    lines.extend(plan.rows.iter().map(|row| {
        let Row { stage, replicas, busy, cores, memory_gib, usd_per_month, wait_ms, .. } = row;
        let (replicas, cores, busy, usd) =
            (count(*replicas), count(*cores), busy * 100.0, count(usd_per_month.round()));
        format!("{stage:<14}{replicas:>10}{cores:>10}{memory_gib:>12.2}{busy:>6.1} %{wait_ms:>10.3}{usd:>14}")
    }));
    let total = |of: &dyn Fn(&Row) -> f64| plan.rows.iter().map(of).sum::<f64>();
    let (replicas, cores) = (count(total(&|row| row.replicas)), count(total(&|row| row.cores)));
    let (memory_gib, wait_ms) = (total(&|row| row.memory_gib), total(&|row| row.wait_ms));
    let usd = count(total(&|row| row.usd_per_month).round());
    lines.push(format!(
        "{:<14}{replicas:>10}{cores:>10}{memory_gib:>12.2}{:>8}{wait_ms:>10.3}{usd:>14}",
        "together", ""
    ));
    let Plan { p95_ms, alone_p95_ms, .. } = plan;
    lines.push(format!(
        "\n95 % of the turns take at most {p95_ms:.2} ms and a model's time; {alone_p95_ms:.2} ms when they are alone"
    ));
    lines.push(format!("{} answers are written at the same time", count(load.in_flight.ceil())));
    lines.push(format!("\n{:<28}{:>12}{:>12}  then", "what all replicas share", "needed", "one gives"));
    lines.extend(limits.iter().map(line));
    lines.push(first(limits));
    lines
}

fn line(limit: &Limit) -> String {
    let Limit { name, unit, needed, gives, then } = limit;
    let (needed, then) = (short(*needed), if limit.share() > 1.0 { then } else { "" });
    let gives = gives.map_or_else(|| "not known".to_owned(), short);
    format!("{:<28}{needed:>12}{gives:>12}  {then}", format!("{name}, {unit}")).trim_end().to_owned()
}

fn first(limits: &[Limit]) -> String {
    match limits.first() {
        Some(limit) if limit.share() > 1.0 => {
            format!("\nbreaks first: {}, {:.1} times what one gives", limit.name, limit.share())
        }
        _ => "\none of each is enough".to_owned(),
    }
}

/// A number with a letter for thousands, and so on.
fn short(number: f64) -> String {
    let units = [(1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")];
    let unit = units.into_iter().find(|(least, _)| number >= *least);
    unit.map_or_else(|| format!("{number:.1}"), |(least, unit)| format!("{:.1} {unit}", number / least))
}

/// A number with its thousands apart.
fn count(number: f64) -> String {
    if number.fract() != 0.0 {
        return number.to_string();
    }
    let digits = format!("{number:.0}");
    let groups = digits.as_bytes().rchunks(3).rev();
    groups.map(|group| String::from_utf8_lossy(group)).collect::<Vec<_>>().join(",")
}
