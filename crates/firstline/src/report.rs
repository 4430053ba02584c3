//! The page of a run of golden questions: one file without scripts, its charts drawn here.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::Context as _;
use bundle::Reader;
use minijinja::value::Serde;
use minijinja::{Environment, UndefinedBehavior, Value, context};
use serde::Serialize;

use crate::judge::{Asked, ERROR, Figures};

/// Its name turns the escaping of HTML on.
const NAME: &str = "report.html";
const TEMPLATE: &str = include_str!("report.html");
const STYLE: &str = include_str!("page.css");
/// Length of a bar in the units of the charts.
const BAR: f64 = 300.0;
/// Characters of a kind that fit beside its bar.
const NAME_CHARS: usize = 16;
/// Height of the highest column of the latencies.
const COLUMN: f64 = 150.0;
/// Steps of the latencies within a power of ten.
const STEPS: [f64; 3] = [1.0, 2.0, 5.0];

/// The page as HTML.
///
/// # Errors
/// The bundle's title cannot be read, or the template has a mistake.
pub(crate) fn page(
    reader: &Reader,
    file: &Path,
    asked: &[Asked],
    figures: &Figures,
) -> anyhow::Result<String> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.add_template(NAME, TEMPLATE)?;
    environment.add_template("page.css", STYLE)?;
    let mut rows: Vec<Row> = asked.iter().map(Row::of).collect();
    rows.sort_by_key(|row| (row.correct, row.line));
    let models: BTreeSet<_> = asked.iter().map(|one| one.turn.model.as_str()).collect();
    let models: Vec<_> = models.into_iter().filter(|model| !model.is_empty()).collect();
    let page = environment.get_template(NAME)?.render(context! {
        title => reader.assistant()?.title,
        bundle => reader.hash(),
        questions => file.display().to_string(),
        version => env!("CARGO_PKG_VERSION"),
        at => jiff::Timestamp::now().strftime("%Y-%m-%d %H:%M UTC").to_string(),
        models => models.join(", "),
        n => figures.n,
        correct => figures.correct,
        wrong => figures.n - figures.correct,
        share => percent(Some(figures.correct as f64 / figures.n as f64)),
        tiles => tiles(figures),
        kinds => kinds(figures),
        latencies => latencies(asked),
        matrix => matrix(asked),
        rows => Serde(&rows),
    });
    page.context("the template of the report")
}

fn percent(share: Option<f64>) -> String {
    share.map_or_else(|| "–".to_owned(), |share| format!("{:.1} %", share * 100.0))
}

fn ms(value: Option<f64>) -> String {
    value.map_or_else(|| "–".to_owned(), |ms| format!("{ms:.1} ms"))
}

/// The figures beside the main one: name, value, what it counts.
fn tiles(figures: &Figures) -> Value {
    Value::from(Serde([
        ("Outcome right", percent(figures.outcome_accuracy), "of all questions"),
        ("Intent right", percent(figures.intent_accuracy), "where one is expected"),
        ("Document cited", percent(figures.document_hit_rate), "where one is expected"),
        ("Answers grounded", percent(figures.grounded_rate), "quotes stand in their documents"),
        ("Answered", percent(figures.answered_rate), "of all questions"),
        ("Answered wrongly", percent(figures.false_answer_rate), "of those without an answer"),
        ("Median", ms(figures.p50_ms), "of a turn"),
        ("95th percentile", ms(figures.p95_ms), "of a turn"),
        ("Cost", format!("{:.4} USD", figures.cost_usd), "of all model calls"),
    ]))
}

/// Shares of right and wrong by kind.
fn kinds(figures: &Figures) -> Value {
    let bars = figures.by_kind.iter().enumerate().map(|(index, (kind, count))| {
        let right = count.share().unwrap_or_default() * BAR;
        context! {
            kind, right,
            short => short(kind),
            wrong => BAR - right,
            y => index * 30,
            label => format!("{} of {}, {}", count.correct, count.n, percent(count.share())),
        }
    });
    let bars: Vec<_> = bars.collect();
    context! { height => bars.len() * 30 + 6, bars }
}

/// A name as far as there is room for it.
fn short(name: &str) -> String {
    let fits = name.chars().count() <= NAME_CHARS;
    if fits { name.to_owned() } else { name.chars().take(NAME_CHARS - 1).chain(['…']).collect() }
}

/// Columns of how many turns took how long; a step is 1, 2 or 5 times a power of ten of milliseconds.
fn latencies(asked: &[Asked]) -> Value {
    let steps: Vec<f64> = (-1..=5)
        .flat_map(|power| STEPS.map(|step| step * 10f64.powi(power)))
        .chain([f64::INFINITY])
        .collect();
    let mut counts = vec![0usize; steps.len()];
    for ms in asked.iter().filter_map(Asked::ms) {
        let at = steps.partition_point(|step| *step < ms).min(steps.len() - 1);
        counts[at] += 1;
    }
    let first = counts.iter().position(|count| *count > 0).unwrap_or(0);
    let last = counts.iter().rposition(|count| *count > 0).unwrap_or(0);
    let most = counts.iter().copied().max().unwrap_or(0).max(1) as f64;
    let width = (1120.0 / (last + 1 - first) as f64).min(120.0);
    let columns = (first..=last).map(|at| {
        let height = counts[at] as f64 / most * COLUMN;
        let x = (at - first) as f64 * width;
        let to = steps[at];
        let label =
            if to.is_finite() { format!("≤ {to}") } else { format!("> {}", steps[steps.len() - 2]) };
        context! {
            x, height, label,
            y => COLUMN - height,
            count => counts[at],
            width => width - 8.0,
            middle => x + (width - 8.0) / 2.0,
        }
    });
    context! { columns => columns.collect::<Vec<_>>() }
}

/// What was expected against what came. A question with more than one right outcome counts in the row of the
/// one it got, or of the first when it got none of them.
fn matrix(asked: &[Asked]) -> Value {
    let expected = |one: &Asked| match one.outcome {
        true => one.got().to_owned(),
        false => one.question.outcomes.first().cloned().unwrap_or_default(),
    };
    let names: Vec<&str> = bundle::OUTCOMES.into_iter().chain([ERROR]).collect();
    let rows: Vec<_> = names.iter().filter(|name| asked.iter().any(|one| expected(one) == **name)).collect();
    let columns: Vec<_> = names
        .iter()
        .filter(|name| rows.contains(name) || asked.iter().any(|one| one.got() == **name))
        .collect();
    let mut cells = Vec::new();
    for (y, row) in rows.iter().enumerate() {
        let of_row: Vec<_> = asked.iter().filter(|one| expected(one) == ***row).collect();
        for (x, column) in columns.iter().enumerate() {
            let count = of_row.iter().filter(|one| one.got() == **column).count();
            let depth = if count == 0 { 0.0 } else { 0.2 + 0.8 * count as f64 / of_row.len() as f64 };
            cells.push(context! { x => x * 74, y => y * 38, count, depth, right => row == column });
        }
    }
    let heads = |names: &[&&str], step: usize| -> Vec<Value> {
        let head = |(index, name): (usize, &&&str)| {
            let words = name.to_lowercase().replace('_', " ");
            context! { at => index * step, words }
        };
        names.iter().enumerate().map(head).collect()
    };
    context! {
        width => columns.len() * 74 + 124,
        height => rows.len() * 38 + 30,
        rows => heads(&rows, 38),
        columns => heads(&columns, 74),
        cells,
    }
}

/// A line of the table.
#[derive(Serialize)]
struct Row {
    line: usize,
    correct: bool,
    wrong: Vec<&'static str>,
    kind: String,
    text: String,
    conversation: Option<String>,
    expected: String,
    intents: String,
    documents: String,
    got: String,
    intent: String,
    cited: String,
    answer: String,
    error: Option<String>,
    ungrounded: bool,
    citations: Vec<Source>,
    decisions: Vec<String>,
    ms: String,
}

#[derive(Serialize)]
struct Source {
    document: String,
    title: String,
    quote: String,
}

impl Row {
    fn of(asked: &Asked) -> Self {
        let question = &asked.question;
        let words = |outcome: &str| outcome.to_lowercase().replace('_', " ");
        let outcomes: Vec<_> = question.outcomes.iter().map(|outcome| words(outcome)).collect();
        let sources = asked.turn.citations.iter().map(|citation| Source {
            document: citation.document_id.clone(),
            title: citation.title.clone(),
            quote: citation.quote.clone(),
        });
        Self {
            line: question.line,
            correct: asked.correct(),
            wrong: asked.wrong(),
            kind: question.kind.clone(),
            text: question.text.clone(),
            conversation: question.conversation.clone(),
            expected: outcomes.join(" or "),
            intents: question.intents.join(" or "),
            documents: question.documents.join(if question.all_documents { " and " } else { " or " }),
            got: words(asked.got()),
            intent: asked.got_intent().to_owned(),
            cited: asked.cited().join(", "),
            answer: asked.turn.answer.clone(),
            error: asked.error.clone(),
            ungrounded: asked.grounded == Some(false),
            citations: sources.collect(),
            decisions: asked.decisions.clone(),
            ms: asked.ms().map(|ms| format!("{ms:.1}")).unwrap_or_default(),
        }
    }
}
