//! `firstline cost`: what is spent and saved, what it will come to, and what another model would cost, at a running
//! telemetry stage.

use std::time::Duration;

use clap::{Args, Subcommand};
use kit::config::{Server, Settings};
use proto::cost_service_client::CostServiceClient;
use proto::{
    Comparison, CostLine, Forecast, GetCostsRequest, GetCostsResponse, PlanCostsRequest, PlanCostsResponse,
    SavingLine,
};
use serde_json::{Value, json};

use crate::desk::{Running, told};
use crate::metrics::span;
use crate::show;

#[derive(Args)]
pub(crate) struct CostArgs {
    #[command(subcommand)]
    command: Option<CostCommand>,
    /// Length of the window up to now, in whole days by UTC, such as 1d or 30d
    #[arg(long, value_name = "TIME", default_value = "30d", value_parser = span, global = true)]
    window: Duration,
    /// URL of the running telemetry stage; default: server.endpoints.telemetry
    #[arg(long, value_name = "URL", global = true)]
    endpoint: Option<String>,
}

#[derive(Subcommand)]
enum CostCommand {
    /// What so many requests a day cost with a provider, with machines of one's own, and with both, from measured figures
    Plan {
        /// Requests a day
        #[arg(long, value_name = "N")]
        requests_per_day: u64,
    },
}

/// Prints the costs of a window, or a plan.
pub(crate) async fn run(settings: &Settings, args: CostArgs, as_json: bool) -> anyhow::Result<bool> {
    let at = Running { endpoint: args.endpoint };
    let (link, url) = at.link(settings, |server: &Server| server.endpoints.telemetry.clone())?;
    let mut client = CostServiceClient::new(link).max_decoding_message_size(crate::client::MAX_RESPONSE);
    let window = Some(prost_types::Duration::try_from(args.window)?);
    let (whole, table) = match args.command {
        None => {
            let costs = client.get_costs(GetCostsRequest { window }).await;
            let costs = costs.map_err(|status| told(&status, &url))?.into_inner();
            (whole(&costs), table(&costs))
        }
        Some(CostCommand::Plan { requests_per_day }) => {
            let plan = client.plan_costs(PlanCostsRequest { requests_per_day, window }).await;
            let plan = plan.map_err(|status| told(&status, &url))?.into_inner();
            (plan_whole(&plan), plan_table(&plan, requests_per_day))
        }
    };
    if as_json {
        show::line(&whole.to_string());
    } else {
        table.iter().for_each(|line| show::line(line));
    }
    Ok(true)
}

fn purpose(line: &CostLine) -> String {
    let name = line.purpose().as_str_name().trim_start_matches("MODEL_PURPOSE_").to_lowercase();
    if line.unseen { format!("{name} (unseen)") } else { name }
}

fn whole(costs: &GetCostsResponse) -> Value {
    let line = |line: &CostLine| {
        let usage = line.usage.unwrap_or_default();
        json!({
            "purpose": show::name(line.purpose().as_str_name(), "MODEL_PURPOSE_"),
            "unseen": line.unseen,
            "model": line.model,
            "category": show::text(&line.category),
            "calls": line.calls,
            "input_tokens": usage.input_tokens,
            "cached_input_tokens": usage.cached_input_tokens,
            "output_tokens": usage.output_tokens,
            "cost_usd": line.cost_usd,
        })
    };
    let saving = |line: &SavingLine| json!({ "measure": line.measure, "turns": line.turns, "tokens": line.tokens, "usd": line.usd });
    let forecast = |forecast: &Option<Forecast>| {
        let forecast = forecast.unwrap_or_default();
        json!({
            "spent_usd": forecast.spent_usd,
            "expected_usd": forecast.expected_usd,
            "lower_usd": forecast.lower_usd,
            "upper_usd": forecast.upper_usd,
            "days": forecast.days,
        })
    };
    let Comparison { provider_usd, self_hosted_usd, break_even_per_day, missing } =
        costs.comparison.clone().unwrap_or_default();
    let transition = costs.transition.clone().unwrap_or_default();
    json!({
        "lines": costs.lines.iter().map(line).collect::<Vec<_>>(),
        "savings": costs.savings.iter().map(saving).collect::<Vec<_>>(),
        "days": costs.days.iter().map(|day| json!({
            "date": day.date, "cost_usd": day.cost_usd, "turns": day.turns, "written": day.written,
        })).collect::<Vec<_>>(),
        "day": forecast(&costs.day),
        "month": forecast(&costs.month),
        "comparison": {
            "provider_usd": provider_usd,
            "self_hosted_usd": self_hosted_usd,
            "break_even_per_day": break_even_per_day,
            "missing": show::text(&missing),
        },
        "transition": {
            "provider_day_usd": transition.provider_day_usd,
            "provider_month_usd": transition.provider_month_usd,
            "words": show::text(&transition.words),
        },
    })
}

fn table(costs: &GetCostsResponse) -> Vec<String> {
    let (turns, written) =
        costs.days.iter().fold((0, 0), |sum, day| (sum.0 + day.turns, sum.1 + day.written));
    // The sum of nothing would be -0.
    let cost = costs.lines.iter().fold(0.0, |sum, line| sum + line.cost_usd);
    let a_turn = if turns > 0 { cost / turns as f64 } else { 0.0 };
    let first = costs.days.first().map_or("-", |day| &day.date);
    let last = costs.days.last().map_or("-", |day| &day.date);
    let mut lines = vec![
        format!("{first} to {last}: {turns} turns, {written} of them written by models"),
        format!("{cost:.4} USD, {a_turn:.6} USD a turn"),
        String::new(),
        format!(
            "{:<18}{:<26}{:<18}{:>9}{:>12}{:>11}{:>11}{:>12}",
            "for", "model", "category", "calls", "in", "cached", "out", "USD"
        ),
    ];
    lines.extend(costs.lines.iter().map(|line| {
        let usage = line.usage.unwrap_or_default();
        let category = if line.category.is_empty() { "-" } else { &line.category };
        format!(
            "{:<18}{:<26}{:<18}{:>9}{:>12}{:>11}{:>11}{:>12.4}",
            purpose(line),
            line.model,
            category,
            line.calls,
            usage.input_tokens,
            usage.cached_input_tokens,
            usage.output_tokens,
            line.cost_usd
        )
    }));
    lines.push(format!("\n{:<18}{:>9}{:>12}{:>12}", "saved by", "turns", "tokens", "USD"));
    lines.extend(costs.savings.iter().map(|line| {
        let measure = line.measure.replace('_', ", ");
        format!("{measure:<18}{:>9}{:>12}{:>12.4}", line.turns, line.tokens, line.usd)
    }));
    lines.push(format!("\n{:<18}{:>12}{:>12}   {}", "forecast", "so far", "in all", "95 % between"));
    for (name, forecast) in [("this day", costs.day), ("this month", costs.month)] {
        let forecast = forecast.unwrap_or_default();
        let between = match (forecast.lower_usd, forecast.upper_usd) {
            (Some(lower), Some(upper)) => {
                format!("{lower:.4} and {upper:.4}, from {} whole days", forecast.days)
            }
            _ => format!("insufficient: {} whole days, at least 3", forecast.days),
        };
        let (spent, expected) = (forecast.spent_usd, forecast.expected_usd);
        lines.push(format!("{name:<18}{spent:>12.4}{expected:>12.4}   {between}"));
    }
    let comparison = costs.comparison.clone().unwrap_or_default();
    lines.push(String::new());
    let usd = |usd: Option<f64>| usd.map_or_else(|| "-".to_owned(), |usd| format!("{usd:.6} USD"));
    lines.push(format!("a written answer: {} with a provider, ", usd(comparison.provider_usd)));
    let own = usd(comparison.self_hosted_usd);
    if let Some(last) = lines.last_mut() {
        last.push_str(&format!("{own} on full machines of one's own"));
    }
    if let Some(written) = comparison.break_even_per_day {
        lines.push(format!("machines of one's own cost less from {written} written answers a day on"));
    }
    if !comparison.missing.is_empty() {
        lines.push(comparison.missing);
    }
    let transition = costs.transition.clone().unwrap_or_default();
    let (day, month) = (transition.provider_day_usd, transition.provider_month_usd);
    lines.push(format!("with providers alone {day:.4} USD this day and {month:.4} USD this month"));
    if !transition.words.is_empty() {
        lines.push(format!("the move to machines of one's own: {}", transition.words));
    }
    lines
}

fn plan_whole(plan: &PlanCostsResponse) -> Value {
    let usage = plan.usage.unwrap_or_default();
    json!({
        "options": plan.options.iter().map(|option| json!({
            "name": option.name,
            "replicas": option.replicas,
            "gpus": option.gpus,
            "provider_share": option.provider_share,
            "usd_per_day": option.usd_per_day,
        })).collect::<Vec<_>>(),
        "written_share": plan.written_share,
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "peak": plan.peak,
        "measured": plan.measured,
        "missing": show::text(&plan.missing),
    })
}

fn plan_table(plan: &PlanCostsResponse, requests: u64) -> Vec<String> {
    let usage = plan.usage.unwrap_or_default();
    let mut lines = vec![
        format!("{requests} requests a day, as measured on {} written answers:", plan.measured),
        format!(
            "{:.1} % written by models, {} tokens in and {} out each, {:.1} times the mean in the busiest hour",
            plan.written_share * 100.0,
            usage.input_tokens,
            usage.output_tokens,
            plan.peak
        ),
        String::new(),
        format!(
            "{:<16}{:>10}{:>7}{:>16}{:>14}{:>14}",
            "", "replicas", "GPUs", "by a provider", "USD a day", "a month"
        ),
    ];
    lines.extend(plan.options.iter().map(|option| {
        format!(
            "{:<16}{:>10}{:>7}{:>14.1} %{:>14.2}{:>14.2}",
            option.name.replace('_', " "),
            option.replicas,
            option.gpus,
            option.provider_share * 100.0,
            option.usd_per_day,
            option.usd_per_day * 30.0
        )
    }));
    if !plan.missing.is_empty() {
        lines.extend([String::new(), plan.missing.clone()]);
    }
    lines
}
