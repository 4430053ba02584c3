//! The figures of a group of turns.

use stats::{Confidence, Share, newcombe};

use super::conversations::Standing;
use super::figure::Figure;
use super::tally::{Support, TOTAL, Tally};
use crate::config::Config;
use crate::record::Reason;

/// Every figure of a group, of all turns when its name is empty.
pub(super) fn of(group: &str, tally: &Tally, to_us: i64, config: &Config) -> Vec<Figure> {
    let least = config.min_n;
    let standing = tally.conversations.standing(to_us);
    let mut figures = vec![Figure::share("csat", tally.ratings, least)];
    figures.extend(conversations(&standing, least));
    figures.push(accuracy(tally, least));
    figures.push(Figure::share("correction_rate", tally.corrections(), least));
    figures.extend(support(tally, config));
    figures.push(judged(tally, least));
    let mut stages: Vec<_> = tally.stages.iter().collect();
    stages.sort_by_key(|(stage, _)| (stage == TOTAL, stage));
    for (stage, times) in stages {
        figures.push(Figure::quantile("latency_p50", times, 0.5, least).part(stage));
        figures.push(Figure::quantile("latency_p95", times, 0.95, least).part(stage));
    }
    figures.extend(costs(tally, &standing, least));
    figures.into_iter().map(|figure| Figure { group: group.to_owned(), ..figure }).collect()
}

fn conversations(standing: &Standing, least: u64) -> Vec<Figure> {
    let of = |n: u64| move |name: &'static str, hits: u64| Figure::share(name, Share { hits, n }, least);
    let attempted = of(standing.attempted);
    let mut figures = vec![
        attempted("response_rate", standing.rated),
        of(standing.all)("person_first", standing.person_first),
        attempted("escalation", standing.escalated),
    ];
    for (reason, count) in Reason::ALL.into_iter().zip(standing.by_reason) {
        if count > 0 {
            figures.push(attempted("escalation", count).part(reason.name()));
        }
    }
    let Standing { confirmed, confirmed_reversed, assumed, reversed, .. } = *standing;
    figures.extend([
        attempted("escalation_planned", standing.planned),
        attempted("escalation_unplanned", standing.unplanned),
        of(standing.closed)("containment", standing.contained),
        attempted("resolution_confirmed", confirmed),
        of(standing.ripe)("resolution_assumed", assumed),
        attempted("resolution_verified", confirmed - confirmed_reversed)
            .noted("by the customer's word alone: nobody judges silence"),
        of(confirmed + assumed)("resolution_reversed", reversed),
        of(standing.routed)("misrouting", standing.misrouted),
    ]);
    figures
}

/// By turns that were drawn with known probabilities, so that it speaks of all of them.
fn accuracy(tally: &Tally, least: u64) -> Figure {
    let drawn = &tally.audited;
    let share = drawn.share();
    let figure = Figure::empty("intent_accuracy", share.unwrap_or_default() * drawn.n() as f64, drawn.n());
    let alike = format!("weighs as much as {:.0} turns drawn alike", drawn.effective_n());
    let told = figure.told(least, share, drawn.interval(Confidence::TwoSided95));
    if told.value.is_some() { told.noted(&alike) } else { told }
}

fn support(tally: &Tally, config: &Config) -> Vec<Figure> {
    let judge = tally.judges.told();
    let pair = |claims, ungrounded, Support { claims: sentences, ungrounded: answers }: Support| {
        [
            Figure::share(claims, sentences, config.min_n).noted("uncorrected"),
            corrected(ungrounded, answers, config),
        ]
    };
    let written = pair("groundedness_generated", "ungrounded_generated", tally.written);
    let delivered = pair("groundedness_delivered", "ungrounded_delivered", tally.delivered);
    let by = |figure| Figure { judge: judge.clone(), ..figure };
    written.into_iter().chain(delivered).map(by).collect()
}

/// By another judge than the one that holds sentences back, on the answers that were brought before it.
fn judged(tally: &Tally, least: u64) -> Figure {
    let figure = Figure::share("groundedness_judged", tally.judged, least).noted("uncorrected");
    Figure { judge: tally.second_judges.told(), ..figure }
}

/// A share of judged answers, corrected for the judge's error where that is known.
fn corrected(name: &'static str, judged: Share, config: &Config) -> Figure {
    let Some(judge) = config.judge.measured() else {
        return Figure::share(name, judged, config.min_n).noted("uncorrected");
    };
    let figure = Figure::empty(name, judged.hits as f64, judged.n);
    if judge.sensitivity + judge.specificity <= stats::WEAK_JUDGE {
        let sum = judge.sensitivity + judge.specificity;
        let refused = format!("refused: the judge's sensitivity and specificity are {sum:.2} together, ");
        return figure.noted(&format!("{refused}more than {} needed", stats::WEAK_JUDGE));
    }
    let (value, interval) = judge.corrected(judged, Confidence::TwoSided95).unzip();
    let raw = judged.value().map_or(String::new(), |raw| format!(", {raw:.3} before"));
    figure.told(config.min_n, value, interval).noted(&format!("corrected for the judge's error{raw}"))
}

fn costs(tally: &Tally, standing: &Standing, least: u64) -> Vec<Figure> {
    let usd = tally.cost_nanos as f64 / 1e9;
    let verified = standing.confirmed - standing.confirmed_reversed;
    let unpriced = match tally.unpriced {
        0 => String::new(),
        turns => format!("{turns} turns of a model without a price count as 0"),
    };
    [
        ("cost_per_request", tally.turns),
        ("cost_per_conversation", tally.conversations.len()),
        ("cost_per_verified_resolution", verified),
    ]
    .into_iter()
    .map(|(name, n)| Figure {
        prices: tally.prices.told(),
        ..Figure::mean(name, usd, n, least).noted(&unpriced)
    })
    .collect()
}

/// The difference of both arms in satisfaction; said to be biased where they answer at different rates.
pub(super) fn csat_delta(
    treatment: Option<&Tally>,
    control: Option<&Tally>,
    to_us: i64,
    config: &Config,
) -> Option<Figure> {
    let (treatment, control) = (treatment?, control?);
    let (of, less) = (treatment.ratings, control.ratings);
    let delta = of.value().zip(less.value()).map(|(of, less)| of - less);
    let figure = Figure::empty("csat_delta", delta.unwrap_or_default(), of.n + less.n);
    let figure = Figure { group: "treatment - control".to_owned(), ..figure };
    let (few, least) = (of.n.min(less.n), config.min_n.max(1));
    if few < least {
        return Some(figure.noted(&format!("insufficient: {few} ratings of one arm, at least {least}")));
    }
    let figure = figure.told(least, delta, newcombe(of, less, Confidence::TwoSided95));
    let responses = |tally: &Tally| {
        let standing = tally.conversations.standing(to_us);
        Share { hits: standing.rated, n: standing.attempted }
    };
    let (of, less) = (responses(treatment), responses(control));
    let figure = figure
        .noted(&format!("rated: {} of {} and {} of {} conversations", of.hits, of.n, less.hits, less.n));
    let apart = newcombe(of, less, Confidence::TwoSided95);
    let biased = apart.is_some_and(|apart| apart.lower > 0.0 || apart.upper < 0.0);
    Some(if biased { figure.noted("biased: the arms answer at different rates") } else { figure })
}
