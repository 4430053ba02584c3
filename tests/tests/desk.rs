//! The desk and whoever is on call, by the command line against real processes.

use std::time::{Duration, Instant};

use proto::assistant_service_client::AssistantServiceClient;
use proto::*;
use serde_json::{Value, json};
use tests::{Processes, Receiver, SECRET, firstline};

/// The lines that a command prints with `--json`; it must succeed.
fn printed(arguments: &[&str]) -> Vec<Value> {
    let done = firstline(&[arguments, &["--json"]].concat());
    assert_eq!(done.code, Some(0), "{arguments:?}: {} {}", done.stdout, done.stderr);
    done.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_takes_a_conversation_answers_and_gives_it_back() {
    let receiver = Receiver::start().await;
    let processes = Processes::start(&[
        ("FIRSTLINE__WORKFLOW__TARGETS__BANK__URL", &receiver.url),
        ("FIRSTLINE__WORKFLOW__TARGETS__BANK__SECRET", SECRET),
        ("FIRSTLINE__TELEMETRY__AUDIT__RATE", "1.0"),
    ]);
    let mut client = AssistantServiceClient::connect(processes.url.clone()).await.unwrap();
    let mut say = async |conversation: &str, text: &str| {
        let message =
            Message { conversation_id: conversation.to_owned(), text: text.to_owned(), ..Message::default() };
        client.ask(AskRequest { message: Some(message) }).await.unwrap().into_inner().turn.unwrap()
    };
    let turn = say("", "agent, my kettle is on fire").await;
    let at = ["--endpoint", processes.url.as_str()];
    let waiting = printed(&[&["handoff", "list"], &at[..]].concat());
    assert_eq!(waiting.len(), 1, "{waiting:?}");
    let id = waiting[0]["id"].as_str().unwrap();
    assert_eq!((&waiting[0]["state"], &waiting[0]["reason"]), (&"WAITING".into(), &"USER_KEYWORD".into()));
    let drafted = &printed(&[&["handoff", "show", id, "--suggest"], &at[..]].concat())[0]["suggestion"];
    assert!(drafted["text"].is_null() && drafted["missing"].is_string(), "{drafted}");
    say(&turn.conversation_id, "What is the contactless limit?").await;
    let drafted = &printed(&[&["handoff", "show", id, "--suggest"], &at[..]].concat())[0]["suggestion"];
    assert!(drafted["text"].is_string() && drafted["missing"].is_null(), "{drafted}");
    assert!(!drafted["sources"].as_array().unwrap().is_empty(), "{drafted}");
    let claimed = printed(&[&["handoff", "claim", id, "--as", "ann"], &at[..]].concat());
    assert_eq!(claimed[0]["assignee"], "ann");
    let second = firstline(&[&["handoff", "claim", id, "--as", "bob"], &at[..]].concat());
    assert_eq!(second.code, Some(1));
    assert!(second.stderr.contains("CLAIMED by ann") && second.stderr.contains(at[1]), "{}", second.stderr);
    printed(
        &[&["handoff", "note", id, "--as", "ann", "smells of kettle glue, call 0151 496 0000"], &at[..]]
            .concat(),
    );
    let given = printed(&[&["handoff", "assign", id, "bob", "--as", "lead"], &at[..]].concat());
    assert_eq!((&given[0]["assignee"], &given[0]["notes"][1]["author"]), (&"bob".into(), &"lead".into()));
    printed(&[&["handoff", "assign", id, "ann", "--as", "bob"], &at[..]].concat());
    printed(&[&["handoff", "reply", id, "--as", "ann", "Step back, I send help."], &at[..]].concat());
    let shown = firstline(&[&["handoff", "show", id], &at[..]].concat()).stdout;
    assert!(shown.contains("my kettle is on fire") && shown.contains("Step back, I send help."), "{shown}");
    let request = GetConversationRequest { conversation_id: turn.conversation_id.clone() };
    let mut reader = AssistantServiceClient::connect(processes.url.clone()).await.unwrap();
    let conversation = format!("{:?}", reader.get_conversation(request).await.unwrap().into_inner());
    assert!(conversation.contains("I send help") && !conversation.contains("kettle glue"), "{conversation}");
    let resolved = [&["handoff", "resolve", id, "--as", "ann", "--disposition", "called"], &at[..]].concat();
    let ended = printed(&resolved);
    assert_eq!(ended[0]["state"], "RESOLVED");
    // Notes are masked with the rest.
    assert!(!ended[0]["notes"][0]["text"].as_str().unwrap().contains("0151 496"), "{ended:?}");
    let late = firstline(&[&["handoff", "note", id, "--as", "ann", "late"], &at[..]].concat());
    assert!(late.code == Some(1) && late.stderr.contains("RESOLVED"), "{}", late.stderr);
    assert_eq!(printed(&[&["handoff", "list"], &at[..]].concat()), Vec::<Value>::new());
    assert_eq!(printed(&[&["handoff", "list", "--state", "resolved"], &at[..]].concat()).len(), 1);
    let after = say(&turn.conversation_id, "What is the contactless limit?").await;
    assert_eq!(after.outcome(), Outcome::Answered, "{after:?}");

    // What is said of a turn, and of one that was drawn for people to label, as every turn is here.
    let rated = ["feedback", "--turn", &after.turn_id, "--rating", "4", "--resolved", "yes", "--id", "f_1"];
    assert_eq!(printed(&[&rated[..], &at[..]].concat())[0]["feedback_id"], "f_1");
    let telemetry = processes.url_of("telemetry");
    let of = ["--endpoint", telemetry.as_str()];
    let deadline = Instant::now() + Duration::from_secs(30);
    let drawn = loop {
        let next = printed(&[&["audit-queue", "next"], &of[..]].concat()).remove(0);
        if next["waiting"] == 1 {
            break next;
        }
        assert!(Instant::now() < deadline, "{next}");
    };
    assert_eq!(drawn["turn_id"], after.turn_id.as_str());
    assert_eq!(
        (&drawn["question"], &drawn["probability"]),
        (&"What is the contactless limit?".into(), &1.0.into())
    );
    assert_eq!(drawn["answer"], after.answer.as_str());
    let label = ["audit-queue", "label", &after.turn_id, "--correct", "--grounded", "yes"];
    printed(&[&label[..], &of[..]].concat());
    assert_eq!(printed(&[&["audit-queue", "next"], &of[..]].concat()), [json!({ "waiting": 0 })]);

    // What a workflow did is seen at its own stage, and nothing certain can be overruled.
    let asked = say("", "I lost my debit card somewhere yesterday, please block it").await;
    let card = say(&asked.conversation_id, "it ends in 4821").await;
    assert!(card.workflow.as_ref().unwrap().awaiting_confirmation, "{card:?}");
    say(&asked.conversation_id, "yes").await;
    let stage = processes.url_of("workflow");
    let at = ["--endpoint", stage.as_str()];
    let done = printed(&[&["workflow", "list", "--state", "done"], &at[..]].concat());
    assert_eq!((done.len(), &done[0]["attempts"]), (1, &1.into()), "{done:?}");
    let id = done[0]["id"].as_str().unwrap();
    assert_eq!(printed(&[&["workflow", "show", id], &at[..]].concat()), done);
    let finding = ["workflow", "resolve", id, "--as", "ann", "--did-not-happen", "--note", "asked the bank"];
    let refused = firstline(&[&finding, &at[..]].concat());
    assert_eq!(refused.code, Some(1));
    assert!(refused.stderr.contains("DONE") && refused.stderr.contains("UNKNOWN"), "{}", refused.stderr);
    let nobody = firstline(&["workflow", "list", "--endpoint", "127.0.0.1:1"]);
    assert!(nobody.code == Some(1) && nobody.stderr.contains("nobody answers"), "{}", nobody.stderr);
}
