//! `firstline eval assistant`: golden questions through the whole pipeline.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use bundle::{Document, Question, Reader};
use kit::config::Settings;
use proto::{ExplainTurnRequest, Message};
use serde_json::Value;

use crate::cli::GoldenArgs;
use crate::client::{Assistant, bundle_dir, plain};
use crate::judge::{Asked, Count, Figures};
use crate::receive::StandIn;
use crate::report;
use crate::show;

/// Failures the terminal shows; the rest are counted.
const SHOWN: usize = 20;
/// Characters of a question on the terminal.
const EXCERPT: usize = 70;

/// `eval assistant`. `false` when fewer questions are correct than the floor demands.
pub(crate) async fn assistant(settings: Settings, args: GoldenArgs, as_json: bool) -> anyhow::Result<bool> {
    let dir = bundle_dir(&settings.server()?.bundle, args.bundle.as_deref())?;
    let reader = Reader::open(&dir)?;
    let questions = reader.questions(args.questions.as_deref())?;
    let floor = args.floor.as_deref().map(read_floor).transpose()?;
    let from = args.questions.unwrap_or_else(|| dir.join(bundle::QUESTIONS));
    let file = args.report.map(|file| file.unwrap_or_else(|| beside(&from)));
    if let Some(file) = &file {
        check_writable(file)?;
    }
    let asked = Box::pin(ask_all(settings, &reader, questions, file.is_some())).await?;
    let figures = Figures::of(&asked);
    if let Some(file) = &file {
        let page = report::page(&reader, &from, &asked, &figures)?;
        std::fs::write(file, page).with_context(|| format!("--report: cannot write {}", file.display()))?;
    }
    if as_json {
        show::line(&serde_json::to_string(&figures)?);
    } else {
        print(&from, &asked, &figures);
    }
    if let (Some(file), false) = (&file, as_json) {
        show::line(&format!("\nreport: {}", file.display()));
    }
    let share = figures.correct as f64 / figures.n as f64;
    let below = floor.filter(|floor| share < *floor);
    if let Some(floor) = below {
        eprintln!("firstline: {share:.4} of the questions are correct, below the floor of {floor}");
    }
    Ok(below.is_none())
}

/// The report of a file of questions, in the working directory.
fn beside(questions: &Path) -> PathBuf {
    let stem = questions.file_stem().unwrap_or_default().to_string_lossy();
    PathBuf::from(format!("{stem}-report.html"))
}

/// A report that cannot be written is told before the questions are asked, not after.
fn check_writable(file: &Path) -> anyhow::Result<()> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    anyhow::ensure!(folder.is_dir(), "--report: {} is no folder", folder.display());
    anyhow::ensure!(!file.is_dir(), "--report: {} is a folder, allowed a file", file.display());
    Ok(())
}

/// A share, or a file that holds one or the JSON of an earlier run.
fn read_floor(written: &str) -> anyhow::Result<f64> {
    let allowed = "allowed a share of 0 to 1, or a file of what --json printed";
    let share = match written.parse::<f64>() {
        Ok(share) => Some(share),
        Err(_) => {
            let text = std::fs::read_to_string(written)
                .with_context(|| format!("--floor: cannot read {written}, {allowed}"))?;
            let value: Value = serde_json::from_str(&text)
                .map_err(|error| anyhow::anyhow!("--floor: {written}: {}", bundle::plain_json(&error)))?;
            let count = |key: &str| value.get(key).and_then(Value::as_f64);
            value.as_f64().or_else(|| Some(count("correct")? / count("n")?))
        }
    };
    let share = share.filter(|share| (0.0..=1.0).contains(share));
    share.with_context(|| format!("--floor: {written} is no share, {allowed}"))
}

/// Asks one question after the other: together they would take time from each other.
pub(crate) async fn ask_all(
    mut settings: Settings,
    reader: &Reader,
    questions: Vec<Question>,
    explain: bool,
) -> anyhow::Result<Vec<Asked>> {
    let documents = reader.knowledge()?.into_iter().map(|document| (document.id.clone(), document));
    let library: BTreeMap<String, Document> = documents.collect();
    let workflows = reader.workflows()?;
    let targets: BTreeSet<_> = workflows.iter().map(|workflow| workflow.request.target.as_str()).collect();
    let targets: Vec<_> = targets.into_iter().collect();
    // A measurement blocks nobody's card: the targets of the configuration are not asked.
    let stand_in = StandIn::of(&targets, &mut settings).await?;
    // A folder of its own: what waits to be sent elsewhere must not be sent here.
    let assistant = Assistant::start(settings, reader.root(), "eval").await?;
    let asked = tokio::select! {
        asked = run(&assistant, questions, &library, explain) => Ok(asked),
        served = stand_in.serve() => {
            Err(served.err().unwrap_or_else(|| anyhow::anyhow!("the receiver of the workflows ended")))
        }
    };
    assistant.close().await;
    asked
}

async fn run(
    assistant: &Assistant,
    questions: Vec<Question>,
    library: &BTreeMap<String, Document>,
    explain: bool,
) -> Vec<Asked> {
    let total = questions.len() as u64;
    let bar = show::Bar::new("asking");
    // Ids of this run by the names of the file: a second run starts anew.
    let mut conversations: HashMap<String, String> = HashMap::new();
    let mut asked = Vec::new();
    for question in questions {
        let known = question.conversation.as_ref().and_then(|name| conversations.get(name));
        let message = Message {
            text: question.text.clone(),
            conversation_id: known.cloned().unwrap_or_default(),
            ..Message::default()
        };
        let turn = assistant.ask(message).await.map_err(|status| plain(&status).to_owned());
        if let (Some(name), Ok(turn)) = (&question.conversation, &turn) {
            conversations.insert(name.clone(), turn.conversation_id.clone());
        }
        let mut one = Asked::new(question, turn, library);
        if explain && one.error.is_none() {
            one.decisions = decisions(assistant, &one.turn.turn_id).await;
        }
        asked.push(one);
        bar.set(asked.len() as u64, total);
    }
    bar.finish();
    asked
}

/// What was decided in a turn; nothing when it cannot be told, the turn itself is there.
async fn decisions(assistant: &Assistant, turn_id: &str) -> Vec<String> {
    let request = ExplainTurnRequest { turn_id: turn_id.to_owned(), ..Default::default() };
    let response = assistant.client.clone().explain_turn(request).await;
    response.ok().and_then(|response| response.into_inner().record).unwrap_or_default().decisions
}

fn print(file: &Path, asked: &[Asked], figures: &Figures) {
    let row = |name: &str, Count { n, correct }: Count| {
        let share = Count { n, correct }.share().unwrap_or_default() * 100.0;
        show::line(&format!("{name:<24}{n:>6}{correct:>10}{share:>8.1} %"));
    };
    show::line(&format!("{:<24}{:>6}{:>10}{:>10}", "kind", "n", "correct", "share"));
    for (kind, count) in &figures.by_kind {
        row(kind, *count);
    }
    row("total", Count { n: figures.n, correct: figures.correct });
    show::line("");
    let share = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{:.1} %", value * 100.0));
    let ms = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.1} ms"));
    for (name, value) in [
        ("outcome right", share(figures.outcome_accuracy)),
        ("intent right", share(figures.intent_accuracy)),
        ("document cited", share(figures.document_hit_rate)),
        ("answers grounded", share(figures.grounded_rate)),
        ("answered", share(figures.answered_rate)),
        ("answered wrongly", share(figures.false_answer_rate)),
        ("median", ms(figures.p50_ms)),
        ("95th percentile", ms(figures.p95_ms)),
        ("cost", format!("{:.6} USD", figures.cost_usd)),
    ] {
        show::line(&format!("{name:<24}{value:>16}"));
    }
    let wrong: Vec<_> = asked.iter().filter(|one| !one.correct()).collect();
    if !wrong.is_empty() {
        show::line("");
    }
    for one in wrong.iter().take(SHOWN) {
        show::line(&failure(file, one));
    }
    if wrong.len() > SHOWN {
        show::line(&format!("and {} more", wrong.len() - SHOWN));
    }
}

/// One line: where the question stands, its beginning, and what is wrong.
fn failure(file: &Path, asked: &Asked) -> String {
    let question = &asked.question;
    let excerpt = show::excerpt(&question.text, EXCERPT);
    let wrong = asked.wrong().into_iter().map(|what| match what {
        "intent" => format!("intent {}, not {}", none(asked.got_intent()), question.intents.join(" or ")),
        "documents" => {
            let joined = question.documents.join(if question.all_documents { " and " } else { " or " });
            format!("cites {}, not {joined}", none(&asked.cited().join(", ")))
        }
        _ => format!("{}, not {}", asked.got(), question.outcomes.join(" or ")),
    });
    let wrong = wrong.collect::<Vec<_>>().join("; ");
    let error = asked.error.as_ref().map(|error| format!(" ({error})")).unwrap_or_default();
    format!("{}:{} {excerpt:?} {wrong}{error}", file.display(), question.line)
}

fn none(name: &str) -> &str {
    if name.is_empty() { "none" } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_floor_is_a_share_or_an_earlier_run() {
        let file = std::env::temp_dir().join(format!("floor-{}", std::process::id()));
        std::fs::write(&file, "{\"n\":4,\"correct\":3,\"cost_usd\":0.0}").unwrap();
        assert_eq!(read_floor("0.8").unwrap(), 0.8);
        assert_eq!(read_floor(&file.display().to_string()).unwrap(), 0.75);
        std::fs::write(&file, "{\"n\":0,\"correct\":0}").unwrap();
        for wrong in ["80", "-1", "NaN", "/nonexistent", &file.display().to_string()] {
            let error = format!("{:#}", read_floor(wrong).unwrap_err());
            assert!(error.contains("--floor: ") && error.contains("allowed a share"), "{error}");
        }
        std::fs::remove_file(file).unwrap();
    }
}
