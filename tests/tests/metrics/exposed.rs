//! What the processes show to Prometheus is what `deploy/metrics.txt` lists, by which rules and dashboards are checked.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use kit::config::STAGES;
use proto::assistant_service_client::AssistantServiceClient;
use proto::{AskRequest, Feedback, Message, SubmitFeedbackRequest};
use tests::{Processes, scrape};

/// Labels by name of a metric.
type Shown = BTreeMap<String, BTreeSet<String>>;

/// The list: by name the stage, or "all", and the labels.
fn listed() -> BTreeMap<String, (String, BTreeSet<String>)> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/metrics.txt");
    let text = std::fs::read_to_string(file).unwrap();
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let line = |line: &str| {
        let [name, _, stage, labels] = line.split_whitespace().collect::<Vec<_>>()[..] else {
            panic!("{line}")
        };
        let labels = labels.split(',').filter(|label| *label != "-").map(str::to_owned);
        (name.to_owned(), (stage.to_owned(), labels.collect()))
    };
    lines.map(line).collect()
}

fn shown(text: &str) -> Shown {
    let mut shown = Shown::new();
    let mut histograms = BTreeSet::new();
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("# TYPE ").and_then(|rest| rest.strip_suffix(" histogram")) {
            histograms.insert(name.to_owned());
        }
        let Some((series, _)) = line.rsplit_once(' ').filter(|_| !line.starts_with('#')) else { continue };
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        let base = ["_bucket", "_sum", "_count"].iter().find_map(|ending| name.strip_suffix(ending));
        let name = base.filter(|base| histograms.contains(*base)).unwrap_or(name);
        let labels = labels.trim_end_matches('}').split("\",").filter_map(|label| label.split_once('='));
        // An empty label is none to Prometheus, and "le" is every histogram's.
        let labels = labels.filter(|(name, value)| value.len() > 1 && *name != "le");
        shown.entry(name.to_owned()).or_default().extend(labels.map(|(name, _)| name.to_owned()));
    }
    shown
}

#[tokio::test(flavor = "multi_thread")]
async fn what_processes_show_to_prometheus_is_listed() {
    let doors = STAGES.map(|_| scratch::free());
    let variables: Vec<_> = STAGES
        .iter()
        .zip(&doors)
        .map(|(stage, door)| {
            (format!("FIRSTLINE__SERVER__ADMIN__{}", stage.to_uppercase()), door.to_string())
        })
        .chain([("FIRSTLINE__TELEMETRY__METRICS_EVERY_S".to_owned(), "1".to_owned())])
        .collect();
    let variables: Vec<_> = variables.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let processes = Processes::start(&variables);
    let mut client = AssistantServiceClient::connect(processes.url.clone()).await.unwrap();
    let message = Message { text: "How much is a replacement card?".to_owned(), ..Message::default() };
    let turn = client.ask(AskRequest { message: Some(message) }).await.unwrap().into_inner().turn.unwrap();
    let feedback = Feedback {
        conversation_id: turn.conversation_id,
        turn_id: turn.turn_id,
        rating: 5,
        ..Feedback::default()
    };
    client.submit_feedback(SubmitFeedbackRequest { feedback: Some(feedback) }).await.unwrap();
    let listed = listed();
    for (stage, door) in STAGES.iter().zip(&doors) {
        let page = scrape(*door);
        let shown = shown(page.split_once("\r\n\r\n").unwrap().1);
        assert!(shown.contains_key("process_resident_memory_bytes"), "{stage}: {shown:?}");
        for (name, labels) in shown {
            let (of, known) =
                listed.get(&name).unwrap_or_else(|| panic!("{stage} shows {name}, which is not listed"));
            assert!(of == "all" || of == stage, "{stage} shows {name}, which is listed for {of}");
            assert!(labels.is_subset(known), "{stage} shows {name} with {labels:?}, listed are {known:?}");
        }
    }
    assert_eq!(processes.stop(), Some(0));
}
