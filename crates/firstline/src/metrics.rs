//! `firstline metrics`: the figures of a window, at a running telemetry stage.

use std::time::Duration;

use clap::{Args, ValueEnum};
use jiff::{Span, SpanRelativeTo};
use kit::config::{Server, Settings};
use proto::telemetry_service_client::TelemetryServiceClient;
use proto::{Figure, GetMetricsRequest, Grouping, Metrics};
use serde_json::{Value, json};

use crate::client::MAX_RESPONSE;
use crate::desk::{Running, time, told};
use crate::show;

#[derive(Args)]
pub(crate) struct MetricsArgs {
    /// Length of the window up to now, such as 1h, 24h or 7d; at most 90d
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = span)]
    window: Duration,
    /// Also for each arm, category, intent or model
    #[arg(long, value_enum)]
    by: Option<ByArg>,
    /// URL of the running telemetry stage; default: server.endpoints.telemetry
    #[arg(long, value_name = "URL")]
    endpoint: Option<String>,
}

#[derive(Clone, Copy, ValueEnum)]
enum ByArg {
    Arm,
    Category,
    Intent,
    Model,
}

/// A time such as 24h or 7d, days of 24 hours.
pub(crate) fn span(text: &str) -> Result<Duration, String> {
    let span = text.parse::<Span>().map_err(|error| error.to_string())?;
    let length = span.to_duration(SpanRelativeTo::days_are_24_hours()).map_err(|error| error.to_string())?;
    let length = Duration::try_from(length).ok().filter(|length| !length.is_zero());
    length.ok_or_else(|| "is no time, such as 24h or 7d".to_owned())
}

/// Prints the figures of a window.
pub(crate) async fn run(settings: &Settings, args: MetricsArgs, as_json: bool) -> anyhow::Result<bool> {
    let at = Running { endpoint: args.endpoint };
    let (link, url) = at.link(settings, |server: &Server| server.endpoints.telemetry.clone())?;
    let by = match args.by {
        None => Grouping::Unspecified,
        Some(ByArg::Arm) => Grouping::Arm,
        Some(ByArg::Category) => Grouping::Category,
        Some(ByArg::Intent) => Grouping::Intent,
        Some(ByArg::Model) => Grouping::Model,
    };
    let window = prost_types::Duration::try_from(args.window)?;
    let request = GetMetricsRequest { window: Some(window), by: by.into() };
    let mut client = TelemetryServiceClient::new(link).max_decoding_message_size(MAX_RESPONSE);
    let metrics = client.get_metrics(request).await.map_err(|status| told(&status, &url))?.into_inner();
    let metrics = metrics.metrics.unwrap_or_default();
    if as_json {
        show::line(&whole(&metrics).to_string());
    } else {
        table(&metrics).iter().for_each(|line| show::line(line));
    }
    Ok(true)
}

fn whole(metrics: &Metrics) -> Value {
    json!({
        "from": time(metrics.from.as_ref()),
        "to": time(metrics.to.as_ref()),
        "turns": metrics.turns,
        "conversations": metrics.conversations,
        "by": show::name(metrics.by().as_str_name(), "GROUPING_"),
        "figures": metrics.figures.iter().map(figure).collect::<Vec<_>>(),
    })
}

fn figure(figure: &Figure) -> Value {
    json!({
        "name": figure.name,
        "part": show::text(&figure.part),
        "group": show::text(&figure.group),
        "unit": figure.unit,
        "value": figure.value,
        "lower": figure.lower,
        "upper": figure.upper,
        "numerator": figure.numerator,
        "n": figure.n,
        "note": show::text(&figure.note),
        "judge": show::text(&figure.judge),
        "price_version": show::text(&figure.price_version),
    })
}

/// A line a figure, groups one below the other, with what is to be known of it at its end.
fn table(metrics: &Metrics) -> Vec<String> {
    let moment = |at: Option<&prost_types::Timestamp>| time(at).as_str().unwrap_or("?").to_owned();
    let (from, to) = (moment(metrics.from.as_ref()), moment(metrics.to.as_ref()));
    let mut lines =
        vec![format!("{from} to {to}: {} turns, {} conversations", metrics.turns, metrics.conversations)];
    for group in metrics.figures.chunk_by(|one, next| one.group == next.group) {
        let name = group.first().map_or("", |figure| figure.group.as_str());
        lines.push(if name.is_empty() { String::new() } else { format!("\n{name}") });
        lines.push(
            format!("  {:<38}{:>10}   {:<21}{:>17}  ", "", "", "95 % between", "out of")
                .trim_end()
                .to_owned(),
        );
        lines.extend(group.iter().map(line));
    }
    lines
}

fn line(figure: &Figure) -> String {
    let name = match figure.part.as_str() {
        "" => figure.name.replace('_', " "),
        part => format!("{} {part}", figure.name.replace('_', " ")),
    };
    let value = figure.value.map_or_else(|| "-".to_owned(), |value| written(value, &figure.unit));
    let end = |end: Option<f64>| end.map_or_else(|| "?".to_owned(), |end| written(end, &figure.unit));
    let interval = match (figure.lower, figure.upper) {
        (None, None) => String::new(),
        (lower, upper) => format!("{} to {}", end(lower), end(upper)),
    };
    let out_of = match figure.unit.as_str() {
        "share" => format!("{} of {}", figure.numerator, figure.n),
        "usd" => format!("{} by {}", written(figure.numerator, "usd"), figure.n),
        _ => figure.n.to_string(),
    };
    let known = [&figure.note, &figure.judge, &figure.price_version].map(String::as_str);
    let known: Vec<_> = known.into_iter().filter(|text| !text.is_empty()).collect();
    let line = format!("  {name:<38}{value:>10}   {interval:<21}{out_of:>17}  {}", known.join("; "));
    line.trim_end().to_owned()
}

fn written(value: f64, unit: &str) -> String {
    match unit {
        "share" | "difference" => format!("{:.1} %", value * 100.0),
        "ms" if value >= 100.0 => format!("{value:.0} ms"),
        "ms" => format!("{value:.2} ms"),
        _ => format!("${value:.4}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_is_a_time_and_days_have_24_hours() {
        let seconds = |text| span(text).map(|span| span.as_secs());
        assert_eq!([seconds("24h"), seconds("7d"), seconds("1h 30m")], [Ok(86_400), Ok(604_800), Ok(5400)]);
        for wrong in ["", "24", "-1h", "0s", "1 month", "soon"] {
            assert!(span(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_line_tells_the_value_its_interval_and_what_it_is_out_of_or_why_there_is_none() {
        let figure = Figure {
            name: "escalation".to_owned(),
            unit: "share".to_owned(),
            value: Some(0.125),
            lower: Some(0.07),
            upper: Some(0.2145),
            numerator: 10.0,
            n: 80,
            part: "loop".to_owned(),
            ..Figure::default()
        };
        let words = |line: String| line.split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(words(line(&figure)), "escalation loop 12.5 % 7.0 % to 21.4 % 10 of 80");
        let figure = Figure {
            value: None,
            lower: None,
            upper: None,
            numerator: 0.0,
            n: 2,
            note: "insufficient: 2 of at least 30".to_owned(),
            ..figure
        };
        assert_eq!(words(line(&figure)), "escalation loop - 0 of 2 insufficient: 2 of at least 30");
    }
}
