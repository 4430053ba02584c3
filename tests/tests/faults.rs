//! The seven processes under fire.

use std::time::{Duration, Instant};

use proto::assistant_service_client::AssistantServiceClient;
use proto::*;
use tests::{Collector, Processes, command, demo, firstline};

fn batch(n: usize) -> tempfile::NamedTempFile {
    let reader = bundle::Reader::open(&demo()).unwrap();
    let examples = reader.intents().unwrap().into_iter().flat_map(|intent| intent.examples);
    let lines: String = examples
        .step_by(3)
        .cycle()
        .take(n)
        .map(|text| serde_json::json!({ "text": text }).to_string() + "\n")
        .collect();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), lines).unwrap();
    file
}

fn ask(url: &str, file: &tempfile::NamedTempFile) -> std::process::Command {
    let mut ask = command("firstline");
    ask.args(["ask", "--json", "--endpoint", url, "--batch"]).arg(file.path());
    ask
}

async fn connect(url: &str) -> AssistantServiceClient<tonic::transport::Channel> {
    AssistantServiceClient::connect(url.to_owned()).await.unwrap()
}

fn message(text: &str) -> AskRequest {
    AskRequest { message: Some(Message { text: text.to_owned(), ..Message::default() }) }
}

/// Waits until a question is answered again: the supervisor has put the stage back.
async fn recovered(client: &mut AssistantServiceClient<tonic::transport::Channel>) {
    let start = Instant::now();
    loop {
        let turn = client.ask(message("What is the contactless limit?")).await;
        if turn.is_ok_and(|turn| turn.into_inner().turn.unwrap().outcome() == Outcome::Answered) {
            return;
        }
        assert!(start.elapsed() < Duration::from_secs(30), "the stage did not come back");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn killing_each_stage_under_a_batch_loses_no_turn_and_doubles_no_outcome() {
    let processes = Processes::start(&[]);
    let file = batch(400);
    for stage in kit::config::STAGES {
        let child = ask(&processes.url, &file).stdout(std::process::Stdio::piped()).spawn().unwrap();
        processes.kill(stage);
        let output = tokio::task::spawn_blocking(move || child.wait_with_output()).await.unwrap().unwrap();
        assert!(output.status.success(), "{stage}: {}", String::from_utf8_lossy(&output.stderr));
        let turns: Vec<serde_json::Value> = output
            .stdout
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
            .map(|line| serde_json::from_slice(line).unwrap())
            .collect();
        assert_eq!(turns.len(), 400, "{stage}");
        let ids: std::collections::BTreeSet<_> =
            turns.iter().map(|turn| turn["turn_id"].as_str().unwrap()).collect();
        assert_eq!(ids.len(), 400, "{stage}: every line is a turn of its own");
        for turn in &turns {
            assert!(turn["outcome"].is_string(), "{stage}: {turn}");
            if turn["outcome"] == "ANSWERED" {
                assert_eq!(turn["safety"]["status"], "OK", "{stage}: no answer without a verdict: {turn}");
            }
        }
        let mut client = connect(&processes.url).await;
        recovered(&mut client).await;
    }
    // Every turn has reached telemetry once, also those of the time when telemetry was down.
    let mut telemetry =
        telemetry_service_client::TelemetryServiceClient::connect(processes.url_of("telemetry"))
            .await
            .unwrap();
    let start = Instant::now();
    let mut seen = 0;
    while seen < 7 * 400 && start.elapsed() < Duration::from_secs(30) {
        let metrics =
            telemetry.get_metrics(GetMetricsRequest::default()).await.unwrap().into_inner().metrics.unwrap();
        seen = metrics.turns;
    }
    assert!(seen >= 7 * 400, "{seen} records");
    assert_eq!(processes.stop(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn with_every_other_stage_dead_the_keyword_reaches_a_person_and_nothing_is_answered() {
    let processes = Processes::start(&[]);
    let mut client = connect(&processes.url).await;
    // Frozen stages neither answer nor come back.
    let stages = kit::config::STAGES.into_iter().filter(|stage| *stage != "orchestrator");
    stages.clone().for_each(|stage| processes.freeze(stage));
    let mut times = Vec::new();
    for text in ["agent", "AGENT!", "an agent, please", "a g e n t", "Agent?"] {
        let start = Instant::now();
        let turn = client.ask(message(text)).await.unwrap().into_inner().turn.unwrap();
        times.push(start.elapsed());
        assert_eq!(turn.handoff.as_ref().unwrap().reason(), HandoffReason::UserKeyword);
        let id = turn.handoff.unwrap().handoff_id;
        let list = client.list_handoffs(ListHandoffsRequest::default()).await.unwrap().into_inner().handoffs;
        assert!(list.iter().any(|handoff| handoff.handoff_id == id), "the receipt is in the journal");
    }
    times.sort();
    println!("keyword with all stages frozen: median {:?}, slowest {:?}", times[2], times[4]);
    let turn =
        client.ask(message("What is the contactless limit?")).await.unwrap().into_inner().turn.unwrap();
    assert_eq!(turn.handoff.unwrap().reason(), HandoffReason::GuardError);
    stages.for_each(|stage| processes.thaw(stage));
    recovered(&mut client).await;
    assert_eq!(processes.stop(), Some(0));
}

#[test]
fn doctor_learns_from_the_orchestrator_which_stages_it_reaches() {
    let processes = Processes::start(&[]);
    let doctor = || firstline(&["doctor", "--endpoint", &processes.url]);
    let well = doctor();
    assert_eq!((well.code, well.stdout.matches("from the orchestrator").count()), (Some(0), 6), "{well:?}");
    processes.freeze("retriever");
    let ill = doctor();
    let failed: Vec<_> = ill.stdout.lines().filter(|line| line.starts_with("FAIL")).collect();
    assert_eq!((ill.code, failed.len()), (Some(1), 1), "{ill:?}");
    assert!(failed[0].contains("retriever") && failed[0].contains("deadline"), "{ill:?}");
    processes.thaw("retriever");
    assert_eq!(processes.stop(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_turn_is_one_trace_over_all_processes() {
    let collector = Collector::start().await;
    let variables =
        [("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url.as_str()), ("OTEL_BSP_SCHEDULE_DELAY", "100")];
    let processes = Processes::start(&variables);
    let mut client = connect(&processes.url).await;
    let turn = client
        .ask(message("Which documents do I need to open an account?"))
        .await
        .unwrap()
        .into_inner()
        .turn
        .unwrap();
    assert_eq!(turn.outcome(), Outcome::Answered, "{turn:?}");
    let asked = command("firstline")
        .args(["ask", "--json", "--endpoint", &processes.url, "Where is my new card?"])
        .output();
    let other: serde_json::Value = serde_json::from_slice(&asked.unwrap().stdout).unwrap();
    let other = other["trace_id"].as_str().unwrap();
    assert_ne!(other, turn.trace_id);
    assert_eq!(processes.stop(), Some(0));
    let traces = collector.traces();
    assert!(traces.contains_key(other), "a turn asked from the command line is traced too");
    let services: std::collections::BTreeSet<_> =
        traces[&turn.trace_id].iter().map(|(service, _)| service.as_str()).collect();
    assert_eq!(
        Vec::from_iter(services),
        ["classifier", "generator", "orchestrator", "retriever", "safety", "telemetry"]
    );
    let spans: Vec<_> = traces[&turn.trace_id].iter().map(|(_, span)| span.as_str()).collect();
    assert_eq!(spans.iter().filter(|span| **span == "orchestrator/Ask").count(), 1, "{spans:?}");
}

#[test]
fn commands_at_the_same_time_wait_for_each_others_stores() {
    let (dir, data) = (demo(), tests::scratch());
    let ask = |_| {
        let mut ask = command("firstline");
        ask.args(["ask", "--json", "--bundle"]).arg(&dir).arg("What are your opening hours?");
        ask.env("FIRSTLINE__SERVER__DATA_DIR", data.path()).stdout(std::process::Stdio::null());
        ask.spawn().unwrap()
    };
    let asking: Vec<_> = (0..4).map(ask).collect();
    for mut one in asking {
        assert!(one.wait().unwrap().success());
    }
}
