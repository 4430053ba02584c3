//! Nothing personal where it does not belong: planted words, and every byte that a run left.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use proto::assistant_service_client::AssistantServiceClient;
use proto::telemetry_service_client::TelemetryServiceClient;
use proto::*;
use tests::{Collector, Processes, Receiver, SECRET, scrape};
use tonic::transport::Channel;

/// Numbers that look random and are the same in every run (xorshift).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }

    /// A text with `#` replaced by digits and `?` by small letters.
    fn fill(&mut self, pattern: &str) -> String {
        let fill = |c| match c {
            '#' => char::from(b'0' + self.roll(10) as u8),
            '?' => char::from(b'a' + self.roll(26) as u8),
            other => other,
        };
        pattern.chars().map(fill).collect()
    }

    /// One with a right check digit: drawn until the stage that checks it agrees.
    fn valid(&mut self, kind: safety::Kind, before: &str, pattern: &str) -> String {
        loop {
            let value = self.fill(pattern);
            let found = safety::detect(&format!("{before} {value}"));
            if found.iter().any(|span| span.kind == kind && span.end - span.start == value.len()) {
                return value;
            }
        }
    }
}

/// Words before a value, and the value.
fn plant(dice: &mut Dice, number: usize) -> (String, String) {
    use safety::Kind;
    let (before, value) = match number % 20 {
        0 => ("my e-mail is", dice.fill("????.?????@????????.com")),
        1 => ("call me on", dice.fill("+44 7### ######")),
        2 => ("my phone is", dice.fill("(415) 5##-####")),
        3 => ("my card is", dice.valid(Kind::CreditCard, "my card is", "4### #### #### ####")),
        4 => ("my card is", dice.valid(Kind::CreditCard, "my card is", "55##############")),
        5 => ("my IBAN is", dice.valid(Kind::Iban, "", "GB##NWBK##############")),
        6 => (
            "I came from",
            format!(
                "{}.{}",
                dice.fill("1##.1##").replace(['8', '9'], "2"),
                dice.fill("1##.1##").replace(['6', '7', '8', '9'], "3")
            ),
        ),
        7 => ("I came from", dice.fill("2001:db8:1###:2###::3###")),
        8 => ("my SSN is", dice.valid(Kind::UsSsn, "my SSN is", "4##-##-####")),
        9 => ("my password is", dice.fill("??????##!??")),
        10 => ("my key is", dice.fill("sk-????????????????????????")),
        11 => ("NI number", dice.valid(Kind::UkNino, "", "AB ## ## ## C")),
        12 => ("NHS", dice.valid(Kind::UkNhs, "NHS", "### ### ####")),
        13 => ("DNI", dice.valid(Kind::EsNif, "", "########?")),
        14 => ("CPF", dice.valid(Kind::BrCpf, "", "###.###.###-##")),
        15 => ("PESEL", dice.valid(Kind::PlPesel, "PESEL", "###########")),
        16 => ("BSN", dice.valid(Kind::NlBsn, "BSN", "#########")),
        17 => ("my Aadhaar is", dice.valid(Kind::InAadhaar, "", "2### #### ####")),
        18 => ("my Steuer-ID is", dice.valid(Kind::DeTaxId, "Steuer", "4##########")),
        _ => ("my AHV number is", dice.valid(Kind::ChAhv, "", "756.####.####.##")),
    };
    (format!("{before} {value}"), value)
}

/// A key of the configuration.
const KEY: &str = "sk-privacy-3f9a0c5e77d1";

/// What was planted: value to the place it was said in.
type Planted = BTreeMap<String, &'static str>;

struct Customer {
    client: AssistantServiceClient<Channel>,
    dice: Dice,
    planted: Planted,
}

impl Customer {
    fn words(&mut self, place: &'static str) -> String {
        let (words, value) = plant(&mut self.dice, self.planted.len());
        assert!(self.planted.insert(value, place).is_none());
        words
    }

    async fn say(&mut self, conversation_id: &str, text: &str) -> Turn {
        let (conversation_id, text) = (conversation_id.to_owned(), text.to_owned());
        let message = Some(Message { conversation_id, text, ..Message::default() });
        self.client.ask(AskRequest { message }).await.unwrap().into_inner().turn.unwrap()
    }

    async fn plant(&mut self, place: &'static str, conversation_id: &str, before: &str) -> Turn {
        let words = self.words(place);
        self.say(conversation_id, &format!("{before} {words}")).await
    }

    /// A workflow to its effect, with something planted in a slot.
    async fn act(&mut self, place: &'static str) -> Turn {
        let first = self.say("", "I have moved house, please change my address").await;
        let id = first.conversation_id.clone();
        assert!(first.workflow.is_some(), "{first:?}");
        self.plant(place, &id, "12 Mill Road, Leeds,").await;
        self.say(&id, "LS1 4AP").await;
        self.say(&id, "14 March 2027").await
    }

    async fn resolve(&mut self, handoff_id: &str) {
        let (handoff_id, assignee) = (handoff_id.to_owned(), "ann".to_owned());
        let claim = ClaimHandoffRequest { handoff_id: handoff_id.clone(), assignee: assignee.clone() };
        self.client.claim_handoff(claim).await.unwrap();
        let resolve = ResolveHandoffRequest { handoff_id, assignee, ..Default::default() };
        self.client.resolve_handoff(resolve).await.unwrap();
    }
}

/// All bytes of a file; what is planted is ASCII, and stays.
fn read(path: &Path) -> String {
    String::from_utf8_lossy(&std::fs::read(path).unwrap()).into_owned()
}

/// Every file below a folder, by its path.
fn files(dir: &Path, found: &mut BTreeMap<String, String>) {
    for entry in std::fs::read_dir(dir).unwrap().map(Result::unwrap) {
        match entry.file_type().unwrap().is_dir() {
            true => files(&entry.path(), found),
            false => drop(found.insert(entry.path().display().to_string(), read(&entry.path()))),
        }
    }
}

/// Before the name of a file that was read while the processes ran.
const RUNNING: &str = "running ";

/// Where each place of the conversation may still be read, by the name of the file.
fn allowed(place: &str, sink: &str) -> bool {
    match place {
        // For the person who has the conversation.
        "override" | "muted" => sink.contains("orchestrator.db"),
        // Until it is delivered.
        "open slot" => sink.contains("workflow.db"),
        // While it runs, the write-ahead log has the frames of what was replaced since.
        "resolved" => sink.starts_with(RUNNING) && sink.contains("orchestrator.db"),
        "delivered slot" => sink.starts_with(RUNNING) && sink.contains("workflow.db"),
        _ => false,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_customer_says_is_found_in_no_sink() {
    let (collector, receiver) = (Collector::start().await, Receiver::start().await);
    let metrics = scratch::free();
    let listen = metrics.to_string();
    let key = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(key.path(), KEY).unwrap();
    let mut processes = Processes::start(&[
        ("FIRSTLINE__GENERATOR__API_KEY_FILE", key.path().to_str().unwrap()),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url.as_str()),
        ("OTEL_BSP_SCHEDULE_DELAY", "100"),
        ("RUST_LOG", "debug"),
        ("FIRSTLINE__SERVER__ADMIN__TELEMETRY", &listen),
        ("FIRSTLINE__WORKFLOW__TARGETS__BANK__URL", &receiver.url),
        ("FIRSTLINE__WORKFLOW__TARGETS__BANK__SECRET", SECRET),
    ]);
    let client = AssistantServiceClient::connect(processes.url.clone()).await.unwrap();
    let mut customer = Customer { client, dice: Dice(20_261_127), planted: Planted::new() };
    let mut turns = 0;
    for (question, n) in [
        ("What is the contactless limit? By the way,", 65),
        ("Which documents do I need to open an account?", 40),
        ("Could one of your colleagues take over,", 20),
        ("zxqv glorp", 20),
    ] {
        let mut id = String::new();
        for turn in 0..n {
            // Some conversations are long; who was given to a person starts another.
            let said = customer.plant("message", &id, question).await;
            let goes_on = turn % 5 != 4 && said.outcome() != Outcome::Handoff;
            id = if goes_on { said.conversation_id } else { String::new() };
            turns += 1;
        }
    }
    for _ in 0..10 {
        let handed = customer.plant("override", "", "agent,").await;
        customer.plant("muted", &handed.conversation_id, "are you there?").await;
        let handed = customer.plant("resolved", "", "agent,").await;
        customer.plant("resolved", &handed.conversation_id, "are you there?").await;
        customer.resolve(&handed.handoff.unwrap().handoff_id).await;
        turns += 4;
    }
    for _ in 0..5 {
        let asked = customer.act("delivered slot").await;
        assert!(asked.workflow.as_ref().unwrap().awaiting_confirmation, "{asked:?}");
        let done = customer.say(&asked.conversation_id, "yes").await;
        assert_eq!(done.outcome(), Outcome::ActionDone, "{done:?}");
        customer.act("open slot").await;
        turns += 9;
        let words = customer.words("comment");
        let feedback =
            Some(Feedback { conversation_id: done.conversation_id, comment: words, ..Feedback::default() });
        customer.client.submit_feedback(SubmitFeedbackRequest { feedback }).await.unwrap();
    }
    for stage in ["classifier", "safety", "retriever", "workflow"] {
        processes.freeze(stage);
        customer.plant("failing stage", "", "What is the contactless limit? Well,").await;
        processes.thaw(stage);
        turns += 1;
    }
    let telemetry = processes.url_of("telemetry");
    let mut telemetry = TelemetryServiceClient::connect(telemetry).await.unwrap();
    let start = std::time::Instant::now();
    loop {
        let metrics = telemetry.get_metrics(GetMetricsRequest::default()).await.unwrap().into_inner();
        if metrics.metrics.unwrap().turns >= turns {
            break;
        }
        assert!(start.elapsed().as_secs() < 30, "not all records have reached telemetry");
    }
    let mut export = telemetry.export(ExportRequest::default()).await.unwrap().into_inner();
    let mut records = String::new();
    while let Some(record) = export.message().await.unwrap() {
        records += &format!("{record:?}\n");
    }
    let page = scrape(metrics);
    let mut sinks = BTreeMap::new();
    files(processes.data.path(), &mut sinks);
    let mut sinks: BTreeMap<String, String> =
        sinks.into_iter().map(|(file, bytes)| (format!("{RUNNING}{file}"), bytes)).collect();
    assert!(sinks.keys().any(|file| file.ends_with("orchestrator.db-wal")), "{:?}", sinks.keys());
    let (code, log) = processes.end();
    assert_eq!(code, Some(0));
    files(processes.data.path(), &mut sinks);
    for (name, text) in [("log", log), ("traces", collector.whole()), ("metrics", page), ("export", records)]
    {
        assert!(text.len() > 1_000, "{name} is not what a run leaves: {text}");
        sinks.insert(name.to_owned(), text);
    }
    assert!(customer.planted.len() >= 200, "{}", customer.planted.len());
    customer.planted.extend([KEY, SECRET].map(|secret| (secret.to_owned(), "configuration")));
    // What may be there is there, or nothing else of this test would show a leak.
    let mut kept = BTreeSet::new();
    let mut leaks = Vec::new();
    for (value, place) in &customer.planted {
        for (sink, _) in sinks.iter().filter(|(_, text)| text.contains(value)) {
            match allowed(place, sink) {
                true if sink.starts_with(RUNNING) => (),
                true => drop(kept.insert(*place)),
                false => leaks.push(format!("{place}: {value} in {sink}")),
            }
        }
    }
    assert!(leaks.is_empty(), "{} leaks\n{}", leaks.len(), leaks.join("\n"));
    assert_eq!(Vec::from_iter(kept), ["muted", "open slot", "override"]);
}
