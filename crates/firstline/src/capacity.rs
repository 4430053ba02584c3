//! `firstline capacity`: replicas, cores, memory and money for so many turns a second, and what breaks first.

mod plan;

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use kit::config::Settings;
use serde_json::json;

use crate::show;
use plan::{Figures, Limit, Load, Plan, Row, limits};

/// What `make bench` measured last for the project.
const FIGURES: &str = include_str!("capacity/figures.toml");
/// Hours of a month, a twelfth of a year.
const HOURS: f64 = 730.0;

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
    let (place, text) = match &args.figures {
        Some(path) => {
            let place = path.display().to_string();
            let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {place}"))?;
            (place, text)
        }
        None => ("figures.toml".to_owned(), FIGURES.to_owned()),
    };
    let figures: Figures = toml::from_str(&text).with_context(|| place.clone())?;
    if let Some(wrong) = figures.wrong() {
        anyhow::bail!("{place}: {wrong}");
    }
    let generator: generator::Config = settings.table("generator")?;
    let own = settings.table::<telemetry::Config>("telemetry")?.self_hosted;
    let load = Load {
        rps: args.rps,
        cores: args.cores,
        busy: args.busy,
        p95_ms: args.p95_ms,
        // Little's law: what comes in a second times how long it stays.
        in_flight: args.rps * args.written * args.answer_seconds,
        max_in_flight: generator.max_in_flight as f64,
    };
    let Some(plan) = Plan::of(&figures, &load) else {
        anyhow::bail!(
            "no number of replicas has 95 % of the turns done in {} ms: on {} they take longer when they are alone",
            args.p95_ms.unwrap_or_default(),
            figures.machine
        );
    };
    let gives = Some(own.output_tokens_per_second * own.utilisation).filter(|gives| *gives > 0.0);
    let limits = limits(&figures, &plan, args.rps, args.written * args.output_tokens, gives);
    let total = |of: &dyn Fn(&Row) -> f64| plan.rows.iter().map(of).sum::<f64>();
    let (cores, memory_gib) = (total(&|row| row.cores), total(&|row| row.memory_gib));
    let usd_per_month = (cores * args.core_hour + memory_gib * args.gib_hour) * HOURS;
    if as_json {
        let whole = json!({
            "rps": args.rps, "machine": figures.machine, "stages": plan.rows, "limits": limits,
            "p95_ms": plan.p95_ms, "alone_p95_ms": plan.alone_p95_ms, "in_flight": load.in_flight,
            "cores": cores, "memory_gib": memory_gib, "usd_per_month": usd_per_month,
        });
        show::line(&whole.to_string());
        return Ok(true);
    }
    show::line(&format!("{} turns a second, as measured on {}", count(args.rps), figures.machine));
    show::line(&format!(
        "\n{:<14}{:>10}{:>10}{:>12}{:>8}{:>10}",
        "stage", "replicas", "cores", "memory GiB", "busy", "wait ms"
    ));
    for Row { stage, replicas, busy, cores, memory_gib, wait_ms, .. } in &plan.rows {
        let (replicas, cores, busy) = (count(*replicas), count(*cores), busy * 100.0);
        show::line(&format!(
            "{stage:<14}{replicas:>10}{cores:>10}{memory_gib:>12.2}{busy:>6.1} %{wait_ms:>10.3}"
        ));
    }
    let (all, p95_ms, alone) = (count(cores), plan.p95_ms, plan.alone_p95_ms);
    show::line(&format!("{:<14}{:>10}{all:>10}{memory_gib:>12.2}", "together", ""));
    show::line(&format!(
        "\n95 % of the turns take at most {p95_ms:.2} ms, {alone:.2} ms when they are alone, and a model's time"
    ));
    show::line(&format!("{} answers are written at the same time", count(load.in_flight.ceil())));
    show::line(&format!("{} USD a month, without stores and models", count(usd_per_month.round())));
    show::line(&format!(
        "\n{:<28}{:>12}{:>12}  {:<13}then",
        "what all replicas share", "needed", "one gives", ""
    ));
    limits.iter().for_each(|limit| show::line(&line(limit)));
    show::line(&first(&limits));
    Ok(true)
}

fn line(limit: &Limit) -> String {
    let Limit { name, unit, needed, gives, then } = limit;
    let (needed, then) = (short(*needed), if limit.share() > 1.0 { then } else { "" });
    let gives = gives.map_or_else(|| "not known".to_owned(), short);
    format!("{name:<28}{needed:>12}{gives:>12}  {unit:<13}{then}").trim_end().to_owned()
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
