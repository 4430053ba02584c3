//! Data for training: what `firstline export` writes, from records that hold what must not get into it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, SystemTime};

use proto::telemetry_service_client::TelemetryServiceClient;
use proto::*;
use serde_json::Value;
use tests::{Finished, Transport, World, altered, firstline, scratch};
use tokio::net::TcpListener;
use tonic::transport::Channel;

/// A telemetry stage behind an address.
struct Stage {
    client: TelemetryServiceClient<Channel>,
    url: String,
    context: kit::Context,
    _data: tempfile::TempDir,
}

impl Stage {
    async fn start() -> Self {
        let data = scratch();
        let mut context = kit::Context::default();
        context.server.data_dir = data.path().to_owned();
        let stage = telemetry::service(telemetry::Config::default(), context.clone()).await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let serving = context.clone();
        context.tasks.spawn(async move { kit::serve::serve(listener, stage, &serving).await.unwrap() });
        let client = TelemetryServiceClient::connect(url.clone()).await.unwrap();
        Self { client, url, context, _data: data }
    }

    async fn record(&self, records: Vec<TurnRecord>) {
        self.client.clone().record(RecordRequest { records }).await.unwrap();
    }

    async fn say(&self, feedback: Feedback) {
        let request = TelemetryServiceSubmitFeedbackRequest { feedback: Some(feedback) };
        self.client.clone().submit_feedback(request).await.unwrap();
    }

    async fn run(&self, arguments: &[&str]) -> Finished {
        let arguments: Vec<String> =
            arguments.iter().chain(&["--endpoint", &self.url]).map(ToString::to_string).collect();
        let run = move || firstline(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
        tokio::task::spawn_blocking(run).await.unwrap()
    }

    async fn stop(self) {
        self.context.shutdown.cancel();
        self.context.tasks.close();
        drop(self.client);
        self.context.tasks.wait().await;
    }
}

/// Personal data, as if nobody had masked it before.
const PLANTED: [&str; 3] = ["ann.kettle@example.com", "+44 7700 900123", "4111 1111 1111 1111"];

/// A turn of a customer, `age_s` ago.
fn turn(
    customer: &str,
    conversation: &str,
    id: &str,
    age_s: u64,
    question: &str,
    answer: &str,
) -> TurnRecord {
    let mut turn = Turn {
        turn_id: id.to_owned(),
        conversation_id: conversation.to_owned(),
        answer: answer.to_owned(),
        bundle: "b1".to_owned(),
        ..Turn::default()
    };
    turn.set_outcome(Outcome::Answered);
    let at = SystemTime::now() - Duration::from_secs(age_s);
    TurnRecord {
        turn: Some(turn),
        question: question.to_owned(),
        accepted_at: Some(at.into()),
        customer_hash: customer.to_owned(),
        consent: Consent::Granted.into(),
        ..TurnRecord::default()
    }
}

fn handed_over(mut record: TurnRecord, reason: HandoffReason) -> TurnRecord {
    let turn = record.turn.as_mut().unwrap();
    turn.set_outcome(Outcome::Handoff);
    turn.handoff = Some(HandoffNotice { reason: reason.into(), ..HandoffNotice::default() });
    record
}

fn answers(turn_id: &str, conversation: &str, demonstration: &str, reply: bool) -> Feedback {
    Feedback {
        feedback_id: format!("f {turn_id} {demonstration}"),
        conversation_id: conversation.to_owned(),
        turn_id: turn_id.to_owned(),
        demonstration: demonstration.to_owned(),
        reply,
        ..Feedback::default()
    }
}

/// Forty customers with two conversations each, of which every tenth says no in one and every seventh says nothing.
async fn fill(stage: &Stage) {
    let mut records = Vec::new();
    for n in 0..40_u64 {
        let customer = format!("customer{n}");
        for part in 0..2 {
            let conversation = format!("c{n}.{part}");
            let id = |turn: u64| format!("t{n}.{part}.{turn}");
            let planted = PLANTED[n as usize % 3];
            let question = format!("Does plan number {part} of shop {n} cover kettles? I am {planted}");
            let first = turn(&customer, &conversation, &id(0), 500, &question, &format!("Yes, {planted}."));
            let second =
                turn(&customer, &conversation, &id(1), 400, "Are toasters covered too?", "They are.");
            let third = turn(&customer, &conversation, &id(2), 300, "And ovens?", "A colleague will answer.");
            let third = handed_over(third, HandoffReason::NoKnowledge);
            let consent = match n {
                n if n % 10 == 0 && part == 0 => Consent::Denied,
                n if n % 7 == 1 => Consent::Unspecified,
                _ => Consent::Granted,
            };
            records.extend(
                [first, second, third].map(|record| TurnRecord { consent: consent.into(), ..record }),
            );
        }
    }
    stage.record(records).await;
    for n in 0..40 {
        let conversation = format!("c{n}.0");
        let planted = PLANTED[n % 3];
        let id = |turn: u64| format!("t{n}.0.{turn}");
        stage.say(answers(&id(2), &conversation, &format!("No ovens, write to {planted}."), true)).await;
        stage.say(answers(&id(1), &conversation, &format!("Toasters are not. Call {planted}."), false)).await;
        let rating = Feedback {
            feedback_id: format!("r{n}"),
            conversation_id: conversation.clone(),
            ..Feedback::default()
        };
        stage.say(Feedback { rating: if n < 30 { 5 } else { 1 }, ..rating }).await;
        let intent = if n % 2 == 0 { "lost_card" } else { "out_of_scope" };
        let label = Feedback { intent: intent.to_owned(), ..answers(&id(0), &conversation, "", false) };
        stage.say(label).await;
    }
}

/// The lines of a part, after what holds for every kind: nothing planted, nobody who did not agree.
fn lines(out: &Path, part: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(out.with_added_extension(format!("{part}.jsonl"))).unwrap();
    for planted in PLANTED {
        assert!(!text.contains(planted), "{planted}");
    }
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for shop in lines.iter().filter_map(shop) {
        assert!(shop % 10 != 0 && shop % 7 != 1, "shop {shop} did not agree");
    }
    lines
}

/// The number in the first question of an example, which is its customer's.
fn shop(example: &Value) -> Option<u64> {
    let text = example.to_string();
    let number = text.split_once("of shop ")?.1.split_whitespace().next()?;
    number.parse().ok()
}

/// What a message of OpenAI's fine-tuning files may hold, by the cookbook's "Data preparation and analysis for chat
/// model fine-tuning" and the reference of the file formats.
fn check_messages(messages: &Value, input: bool) {
    let messages = messages.as_array().unwrap();
    assert!(!messages.is_empty());
    let mut roles = Vec::new();
    for message in messages {
        let message = message.as_object().unwrap();
        let role = message["role"].as_str().unwrap();
        assert!(["system", "user", "assistant"].contains(&role), "{role}");
        assert!(!message["content"].as_str().unwrap().trim().is_empty());
        for (key, value) in message {
            match key.as_str() {
                "role" | "content" => {}
                "weight" => assert!(role == "assistant" && [0, 1].contains(&value.as_u64().unwrap())),
                other => panic!("{other} is no key of a message"),
            }
        }
        roles.push(role);
    }
    assert!(!roles[1..].contains(&"system"), "{roles:?}");
    let talk = if roles[0] == "system" { &roles[1..] } else { &roles[..] };
    assert!(talk.iter().step_by(2).all(|role| *role == "user"), "{roles:?}");
    assert!(talk.iter().skip(1).step_by(2).all(|role| *role == "assistant"), "{roles:?}");
    assert_eq!(talk.last(), Some(if input { &"user" } else { &"assistant" }), "{roles:?}");
}

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

fn check_manifest(out: &Path, parts: &BTreeMap<&str, Vec<Value>>) -> Value {
    let text = std::fs::read_to_string(out.with_added_extension("manifest.json")).unwrap();
    let manifest: Value = serde_json::from_str(&text).unwrap();
    for (file, part) in manifest["files"].as_array().unwrap().iter().zip(["train", "valid"]) {
        assert_eq!(file["examples"], parts[part].len());
        let bytes = std::fs::read(out.with_added_extension(format!("{part}.jsonl"))).unwrap();
        assert_eq!(file["blake3"], blake3::hash(&bytes).to_hex().as_str());
    }
    let left_out: u64 =
        manifest["counts"].as_object().unwrap().iter().map(|(_, n)| n.as_u64().unwrap()).sum();
    let [turns, conversations] =
        ["turns", "conversations"].map(|key| manifest["counts"][key].as_u64().unwrap());
    let written: usize = parts.values().map(Vec::len).sum();
    assert_eq!(left_out - turns - conversations + written as u64, turns, "{manifest}");
    manifest
}

#[tokio::test(flavor = "multi_thread")]
async fn examples_fit_the_fine_tuning_format_and_hold_nobody_who_did_not_agree() {
    let stage = Stage::start().await;
    fill(&stage).await;
    let folder = scratch();
    let system = folder.path().join("system.txt");
    std::fs::write(&system, "You are the assistant of a shop.\n").unwrap();
    let (mut seen, mut manifests) = (BTreeMap::new(), Vec::new());
    for kind in ["sft", "preference", "intents"] {
        let out = folder.path().join(kind);
        let paths = [out.to_str().unwrap(), system.to_str().unwrap()];
        let arguments = ["export", "--kind", kind, "--out", paths[0], "--system", paths[1], "--valid", "0.3"];
        let done = stage.run(&arguments).await;
        assert_eq!(done.code, Some(0), "{}", done.stderr);
        let parts: BTreeMap<_, _> = ["train", "valid"].map(|part| (part, lines(&out, part))).into();
        assert!(parts["train"].len() >= 10 && !parts["valid"].is_empty(), "{kind}");
        for (part, example) in
            parts.iter().flat_map(|(part, lines)| lines.iter().map(move |line| (*part, line)))
        {
            match kind {
                "sft" => {
                    assert_eq!(keys(example), ["messages"]);
                    check_messages(&example["messages"], false);
                    assert_eq!(example["messages"][0]["content"], "You are the assistant of a shop.");
                }
                "preference" => {
                    assert_eq!(keys(example), ["input", "non_preferred_output", "preferred_output"]);
                    check_messages(&example["input"]["messages"], true);
                    let [worse, better] =
                        ["non_preferred_output", "preferred_output"].map(|key| &example[key]);
                    assert!(worse[0]["content"] == "They are." && worse[1].is_null(), "{example}");
                    let said = better[0]["content"].as_str().unwrap();
                    assert!(said.starts_with("Toasters are not. Call [") && better[1].is_null(), "{example}");
                    assert!(better[0]["role"] == "assistant" && worse[0]["role"] == "assistant", "{example}");
                }
                _ => assert_eq!(keys(example), ["intent", "text"]),
            }
            // A customer is always on the same side.
            let shop = shop(example).unwrap();
            assert_eq!(*seen.entry(shop).or_insert(part), part, "shop {shop}");
        }
        manifests.push(check_manifest(&out, &parts));
    }
    let agreed = (0..40).filter(|n| n % 10 != 0 && n % 7 != 1).count();
    assert_eq!(seen.keys().collect::<BTreeSet<_>>().len(), agreed);
    // Three turns of the first conversation and two of the second, where nobody answered about ovens; a preference a
    // customer, and a label.
    let wanted = [5 * agreed, agreed, agreed];
    for (manifest, wanted) in manifests.iter().zip(wanted) {
        assert_eq!(manifest["bundles"]["b1"], wanted, "{manifest}");
    }
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_takes_what_it_holds_for_and_a_bundle_takes_the_intents() {
    let stage = Stage::start().await;
    fill(&stage).await;
    let bundle = altered(str::to_owned);
    let out = bundle.path().join("intents/labelled");
    let intents = ["export", "--kind", "intents", "--out", out.to_str().unwrap(), "--where", "rating >= 4"];
    let done = stage.run(&intents).await;
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let shops: BTreeSet<u64> =
        ["train", "valid"].iter().flat_map(|part| lines(&out, part)).filter_map(|one| shop(&one)).collect();
    let rated_well = (0..30).filter(|n| n % 10 != 0 && n % 7 != 1).collect::<BTreeSet<u64>>();
    assert_eq!(shops, rated_well);
    std::fs::remove_file(out.with_added_extension("manifest.json")).unwrap();
    let checked = firstline(&["bundle", "check", bundle.path().to_str().unwrap()]);
    assert_eq!(checked.code, Some(0), "{}{}", checked.stdout, checked.stderr);

    // Ovens were asked for by everybody, twice, and answered by people in the first conversation.
    let gaps = stage.run(&["gaps", "--window", "1h", "--json"]).await;
    let gaps: Vec<Value> = gaps.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((&gaps[0]["count"], &gaps[0]["customers"]), (&80.into(), &40.into()), "{gaps:?}");
    assert_eq!(
        (&gaps[0]["examples"][0], &gaps[0]["reasons"]["no_knowledge"]),
        (&"And ovens?".into(), &80.into())
    );
    assert!(gaps[0]["replies"][2].as_str().unwrap().starts_with("No ovens, write to ["), "{gaps:?}");

    let kept = bundle.path().join("other");
    let wrong = ["export", "--kind", "sft", "--out", kept.to_str().unwrap(), "--where", "ratin >= 4"];
    let refused = stage.run(&wrong).await;
    assert!(refused.code == Some(1) && refused.stderr.contains("ratin does not exist"), "{}", refused.stderr);
    assert!(!kept.with_added_extension("train.jsonl").exists());
    for usage in [
        "feedback --turn t",
        "feedback --rating 5",
        "feedback --conversation c --intent refund",
        "audit-queue label t",
        "audit-queue label t --correct --intent refund",
        "export --customer c --where true",
        "gaps --window 7",
    ] {
        assert_eq!(firstline(&usage.split(' ').collect::<Vec<_>>()).code, Some(2), "{usage}");
    }
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_person_replies_and_whether_the_customer_agreed_reach_telemetry_with_the_turn() {
    let world = World::start(Transport::Local).await;
    let mut telemetry = TelemetryServiceClient::new(world.links.get("telemetry").unwrap());
    let ask = async |text: &str, consent: Consent| {
        let message = Message { text: text.to_owned(), consent: consent.into(), ..Message::default() };
        world.ask(message).await
    };
    let agreed = ask("agent", Consent::Granted).await;
    let silent = ask("What are your opening hours?", Consent::Unspecified).await;
    let mut desk = world.client.clone();
    let (handoff_id, assignee) = (agreed.handoff.clone().unwrap().handoff_id, "ann".to_owned());
    desk.claim_handoff(ClaimHandoffRequest { handoff_id: handoff_id.clone(), assignee: assignee.clone() })
        .await
        .unwrap();
    let text = format!("Hello, write to {}.", PLANTED[0]);
    desk.reply_as_agent(ReplyAsAgentRequest { handoff_id, assignee, text }).await.unwrap();
    // It counts for the conversation of its turn, and nobody but the assistant says that it is a reply.
    let rated = Feedback { rating: 4, ..answers(&silent.turn_id, "", "We open at nine.", true) };
    desk.submit_feedback(SubmitFeedbackRequest { feedback: Some(rated.clone()) }).await.unwrap();
    let foreign =
        Feedback { conversation_id: agreed.conversation_id.clone(), feedback_id: "x".to_owned(), ..rated };
    let refused = desk.submit_feedback(SubmitFeedbackRequest { feedback: Some(foreign) }).await.unwrap_err();
    assert!(refused.message().starts_with("feedback.turn_id: is a turn of another"), "{}", refused.message());
    let mut read = async || {
        let request = ExportRequest { with_said: true, ..ExportRequest::default() };
        let mut records = telemetry.export(request).await.unwrap().into_inner();
        let mut read = Vec::new();
        while let Some(one) = records.message().await.unwrap() {
            let record = one.record.unwrap();
            read.extend(one.feedback.into_iter().map(|said| (record.consent(), said)));
        }
        read
    };
    let told = tokio::time::timeout(Duration::from_secs(20), async {
        loop {
            let told = read().await;
            if told.len() == 2 {
                return told;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    let told = told.await.unwrap();
    let told: Vec<_> = told
        .iter()
        .map(|(consent, said)| (*consent, said.turn_id.as_str(), said.demonstration.as_str(), said.reply))
        .collect();
    let replied = (Consent::Granted, agreed.turn_id.as_str(), "Hello, write to [EMAIL_ADDRESS].", true);
    assert_eq!(told, [replied, (Consent::Unspecified, &silent.turn_id, "We open at nine.", false)]);
    world.stop().await;
}
