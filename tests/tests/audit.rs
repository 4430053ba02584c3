//! The checker finds what is broken: stores of a real assistant, damaged in every way that a promise speaks of.

use std::path::Path;
use std::time::{Duration, Instant};

use audit::{Event, Finding, Scope};
use proto::rollout_service_client::RolloutServiceClient;
use proto::*;
use tests::{Transport, World, scope, scratch};

/// A conversation of everything, and what its customer and the receiver saw.
async fn lived() -> (tempfile::TempDir, Vec<Event>) {
    let world = World::start(Transport::Local).await;
    let mut events = Vec::new();
    let mut say = async |conversation_id: &str, text: &str| {
        let request_id = format!("r{}", events.len());
        let message = Message {
            request_id: request_id.clone(),
            conversation_id: conversation_id.to_owned(),
            text: text.to_owned(),
            ..Message::default()
        };
        let turn = world.ask(message).await;
        let outcome = turn.outcome().as_str_name().trim_start_matches("OUTCOME_").to_owned();
        let handoff_id = turn.handoff.clone().unwrap_or_default().handoff_id;
        events.push(Event::Turn { request_id, turn_id: turn.turn_id.clone(), outcome, handoff_id });
        turn
    };
    say("", "What is the contactless limit?").await;
    say("", "agent").await;
    let card = say("", "I would like to order a new debit card, by standard post").await;
    let done = say(&card.conversation_id, "yes").await;
    assert_eq!(done.outcome(), Outcome::ActionDone, "{done:?}");
    let feedback = Feedback {
        feedback_id: "f1".to_owned(),
        conversation_id: card.conversation_id,
        rating: 5,
        ..Feedback::default()
    };
    let request = SubmitFeedbackRequest { feedback: Some(feedback) };
    world.client.clone().submit_feedback(request).await.unwrap();
    events.push(Event::Feedback { feedback_id: "f1".to_owned() });
    look(&world).await;
    let received = world.receiver.received();
    events.extend(received.into_iter().map(|got| Event::Request { key: got.key, effect: true }));
    (world.stop().await, events)
}

/// A rollout begins, and its controller looks once.
async fn look(world: &World) {
    const PLAN: &str = "[rollout]\nid = \"r\"\ncategories = [\"cards\"]\ninterval_s = 1\n[[stage]]\nname = \"half\"\n\
        share = 0.5\n[[guard]]\nmetric = \"escalation_unplanned\"\n";
    let mut controller = RolloutServiceClient::new(world.links.get("telemetry").unwrap());
    let (rollout_toml, by) = (PLAN.to_owned(), "anna".to_owned());
    controller.apply_rollout(ApplyRolloutRequest { rollout_toml, by, dry_run: false }).await.unwrap();
    let start = Instant::now();
    loop {
        let page = controller.list_decisions(ListDecisionsRequest::default()).await.unwrap().into_inner();
        if page.decisions.len() > 1 {
            return;
        }
        assert!(start.elapsed() < Duration::from_secs(20), "the controller does not look");
    }
}

fn copied(data: &Path) -> tempfile::TempDir {
    let copy = scratch();
    for file in std::fs::read_dir(data).unwrap().map(Result::unwrap).filter(|file| file.path().is_file()) {
        std::fs::copy(file.path(), copy.path().join(file.file_name())).unwrap();
    }
    copy
}

async fn broken(scope: Scope) -> Vec<&'static str> {
    let findings = audit::run(scope).await.unwrap();
    let broken = |finding: &Finding| (!finding.broken.is_empty()).then_some(finding.promise);
    findings.iter().filter_map(broken).collect()
}

/// Whose table, what happens to it, and which promises it breaks.
const DAMAGE: &[(&str, &str, &[&str])] = &[
    ("orchestrator", "UPDATE turn SET outcome = NULL, deadline = 0 WHERE request_id = 'r0'", &["I1", "I14"]),
    ("orchestrator", "DELETE FROM turn WHERE request_id = 'r0'", &["I1"]),
    ("telemetry", "DELETE FROM turns WHERE outcome = 1", &["I1"]),
    ("orchestrator", "DELETE FROM handoff", &["I7"]),
    ("telemetry", "DELETE FROM feedback", &["I8"]),
    ("telemetry", "DELETE FROM rollout_log WHERE seq = 1", &["I5"]),
    (
        "telemetry",
        "UPDATE rollout_log SET decision = replace(decision, '\"share\":50000', '\"share\":60000') WHERE seq = 2",
        &["I5"],
    ),
    (
        "telemetry",
        "UPDATE rollout_log SET decision = replace(decision, '\"version\":1', '\"version\":0') WHERE seq = 2",
        &["I5"],
    ),
    (
        "telemetry",
        "UPDATE rollout_log SET decision = replace(decision, '\"verdict\":\"INCONCLUSIVE\"', '\"verdict\":\"FAIL\"')
            WHERE seq = 2",
        &["I6"],
    ),
    ("workflow", "UPDATE execution SET confidence = 0.1", &["I4"]),
    ("workflow", "UPDATE execution SET confirmed_in = 't_other'", &["I4"]),
    ("workflow", "UPDATE execution SET attempts = 2", &["I3"]),
    ("workflow", "UPDATE execution SET state = 'FAILED'", &["I3"]),
    ("workflow", "UPDATE execution SET workflow = 'close_account'", &["I4"]),
    ("workflow", "DELETE FROM execution", &["I4"]),
    ("workflow", "UPDATE execution SET state = 'DISPATCHING'", &["I14"]),
    ("workflow", "UPDATE execution SET notice = 1, updated_at = 0", &["I14"]),
];

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_damage_breaks_its_promise_and_no_other() {
    let (data, events) = lived().await;
    assert_eq!(broken(scope(data.path(), None, &events)).await, [""; 0]);
    for (stage, change, promises) in DAMAGE {
        let copy = copied(data.path());
        scratch::tamper(copy.path(), stage, change);
        assert_eq!(broken(scope(copy.path(), None, &events)).await, *promises, "{change}");
    }
    let and =
        async |event: Event| broken(scope(data.path(), None, &[events.clone(), vec![event]].concat())).await;
    assert_eq!(and(Event::Refused { request_id: "r0".to_owned() }).await, ["I2"]);
    let Some(Event::Request { key, .. }) = events.last() else { panic!("the receiver got nothing") };
    assert_eq!(and(Event::Request { key: key.clone(), effect: false }).await, ["I3"], "not idempotent");
    let Event::Turn { turn_id, .. } = events[0].clone() else { panic!("the first event is a turn") };
    let other = |request_id: &str, outcome: &str| Event::Turn {
        request_id: request_id.to_owned(),
        turn_id: turn_id.clone(),
        outcome: outcome.to_owned(),
        handoff_id: String::new(),
    };
    assert_eq!(and(other("r0", "HANDOFF")).await, ["I1"]);
    assert_eq!(and(other("r1", "ANSWERED")).await, ["I1"], "the turn of another request");
    let log = data.path().join("log");
    std::fs::write(&log, "thread 'main' panicked at src/main.rs:1:1\n").unwrap();
    assert_eq!(broken(Scope { logs: vec![log], ..scope(data.path(), None, &events) }).await, ["I13"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_fails_when_a_promise_is_broken_and_says_which() {
    let (data, events) = lived().await;
    let history = data.path().join("history.jsonl");
    let lines: String = events.iter().map(|event| serde_json::to_string(event).unwrap() + "\n").collect();
    std::fs::write(&history, lines).unwrap();
    let audit = || {
        let mut audit = tests::command("firstline");
        audit.args(["audit", "--history"]).arg(&history).current_dir(data.path());
        audit.env("FIRSTLINE__SERVER__DATA_DIR", data.path()).env("FIRSTLINE__SERVER__BUNDLE", tests::demo());
        let output = audit.output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let (code, said) = audit();
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(said.matches(" holds ").count(), 10, "{said}");
    scratch::tamper(data.path(), "orchestrator", "DELETE FROM handoff");
    let (code, said) = audit();
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains("BROKEN") && said.contains("is told and is lost")
            || said.contains("was told and is lost"),
        "{said}"
    );
}
