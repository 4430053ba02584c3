//! The rollout on real processes: what harms is rolled back by itself, what does not goes on, and nothing rises without
//! the controller.
#![expect(clippy::unwrap_used, reason = "a test that fails panics")]

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use proto::assistant_service_client::AssistantServiceClient;
use proto::rollout_service_client::RolloutServiceClient;
use proto::*;
use stats::bucket;
use tempfile::TempDir;
use tests::{Processes, altered, firstline, scrape};
use tonic::transport::{Channel, Endpoint};

/// Longest time until the controller has decided what it has to.
const PATIENCE: Duration = Duration::from_secs(60);
const SALT: &str = "bank-2026";
/// Questions that the demo answers.
const ANSWERED: [&str; 4] = [
    "What is the contactless limit?",
    "How long does a new card take to arrive?",
    "How do I activate my new card?",
    "What is the daily cash machine limit?",
];

/// A look every second, half of the customers, then four of five.
const PLAN: &str = r#"
[rollout]
id = "bank-2026"
categories = ["cards", "payments", "transfers", "accounts", "travel", "branches", "general", "lending"]
max_risk = "medium"
interval_s = 1
min_customers = 20
[[stage]]
name = "p10"
share = 0.1
min_hours = 0.0
min_customers = 0
[[stage]]
name = "p50"
share = 0.5
min_hours = 0.0
min_customers = 20
approval = false
[[stage]]
name = "p80"
share = 0.8
approval = true
[[guard]]
metric = "escalation_unplanned"
alpha = 0.02
window_s = 2
"#;

/// A stage before the others, in which nobody is treated.
const SHADOW: &str = r#"[[stage]]
name = "shadow"
share = 0
mirror = 1
mirror_usd_per_day = 1
min_hours = 0.0
min_customers = 40
approval = false
"#;

/// The demo with a rollout; `first` is the stage that it begins with.
fn candidate(first: &str) -> TempDir {
    let copied = altered(str::to_owned);
    let begin = PLAN.find(&format!("[[stage]]\nname = \"{first}\"")).unwrap();
    let head = PLAN.find("[[stage]]").unwrap();
    std::fs::write(copied.path().join("rollout.toml"), format!("{}{}", &PLAN[..head], &PLAN[begin..]))
        .unwrap();
    copied
}

/// The same after a stage in which everything is answered unseen.
fn shadowed() -> TempDir {
    let copied = candidate("p50");
    let file = copied.path().join("rollout.toml");
    let plan =
        std::fs::read_to_string(&file).unwrap().replacen("[[stage]]", &format!("{SHADOW}[[stage]]"), 1);
    std::fs::write(file, plan).unwrap();
    copied
}

/// Takes away all that answers could be grounded in, but for one article about something else.
fn sabotage(bundle: &Path) {
    let folder = bundle.join("knowledge");
    std::fs::remove_dir_all(&folder).unwrap();
    std::fs::remove_file(bundle.join("curated.toml")).unwrap();
    std::fs::remove_dir_all(bundle.join("eval")).unwrap();
    std::fs::create_dir(&folder).unwrap();
    let article =
        "---\nid: bees\ntitle: Bees on the roof\naudience: public\n---\nThree hives stand on our roof.\n";
    std::fs::write(folder.join("bees.md"), article).unwrap();
    let reader = bundle::Reader::open(bundle).unwrap();
    classifier::build(&reader, None, &|_, _| ()).unwrap();
    safety::build(&reader, None, &|_, _| ()).unwrap();
    retriever::build(&reader, None, &|_, _| ()).unwrap();
}

/// An assistant of real processes with its rollout applied.
struct Under {
    processes: Processes,
    telemetry: String,
    /// Of telemetry, for Prometheus.
    door: SocketAddr,
    assistant: AssistantServiceClient<Channel>,
    rollout: RolloutServiceClient<Channel>,
}

impl Under {
    fn start(bundle: &Path) -> Self {
        let door = scratch::free();
        let grace = ("FIRSTLINE__TELEMETRY__ROLLOUT_GRACE_MS", "0");
        let admin = ("FIRSTLINE__SERVER__ADMIN__TELEMETRY", door.to_string());
        let processes = Processes::start_with(bundle, &[grace, (admin.0, &admin.1)]);
        let telemetry = processes.url_of("telemetry");
        let lazy = |url: &str| Endpoint::from_shared(url.to_owned()).unwrap().connect_lazy();
        let assistant = AssistantServiceClient::new(lazy(&processes.url));
        let rollout = RolloutServiceClient::new(lazy(&telemetry));
        let under = Self { processes, telemetry, door, assistant, rollout };
        let done = under.command(&["apply", "--as", "anna", "--bundle", bundle.to_str().unwrap()]);
        assert!(done.contains("+ stage p50: 50 % of customers"), "{done}");
        under
    }

    /// Runs a command of the rollout and returns what it printed.
    fn command(&self, arguments: &[&str]) -> String {
        let endpoint = ["--endpoint", &self.telemetry];
        let done = firstline(&[&["rollout"], arguments, &endpoint].concat());
        assert_eq!(done.code, Some(0), "{}", done.stderr);
        done.stdout
    }

    /// Where the rollout stands, as soon as the controller is there.
    async fn now(&self) -> Rollout {
        let start = Instant::now();
        loop {
            match self.rollout.clone().get_rollout(GetRolloutRequest {}).await {
                Ok(found) => return found.into_inner().rollout.unwrap(),
                Err(status) => assert!(start.elapsed() < PATIENCE, "{status}"),
            }
        }
    }

    async fn ask(&self, customer: &str, text: &str) -> Turn {
        let message =
            Message { customer_key: customer.to_owned(), text: text.to_owned(), ..Message::default() };
        let asked = self.assistant.clone().ask(AskRequest { message: Some(message) }).await.unwrap();
        asked.into_inner().turn.unwrap()
    }

    async fn wants_a_person(&self, customer: &str, turn: &Turn) {
        let (conversation_id, customer_key) = (turn.conversation_id.clone(), customer.to_owned());
        let request =
            RequestHandoffRequest { conversation_id, customer_key, ..RequestHandoffRequest::default() };
        self.assistant.clone().request_handoff(request).await.unwrap();
    }

    /// New customers, numbered on from `next`, each with a question, until the rollout is as wanted; every fifth of either
    /// arm wants a person then.
    async fn until(
        &self,
        next: &mut usize,
        questions: &[String],
        wanted: impl Fn(&Rollout) -> bool,
    ) -> Rollout {
        let start = Instant::now();
        loop {
            let now = self.now().await;
            if wanted(&now) {
                return now;
            }
            assert!(start.elapsed() < PATIENCE, "{now:#?}");
            for _ in 0..20 {
                let customer = format!("customer-{next}");
                let turn = self.ask(&customer, &questions[*next % questions.len()]).await;
                if next.is_multiple_of(5) && turn.outcome() != Outcome::Handoff {
                    self.wants_a_person(&customer, &turn).await;
                }
                *next += 1;
            }
        }
    }

    /// Whether a new customer of a bucket in this range is treated.
    async fn treats(&self, buckets: std::ops::Range<u32>, tag: &str) -> bool {
        let key =
            (0..).map(|n| format!("{tag}-{n}")).find(|key| buckets.contains(&bucket(SALT, key))).unwrap();
        self.ask(&key, ANSWERED[0]).await.outcome() != Outcome::Legacy
    }
}

fn owned(questions: &[&str]) -> Vec<String> {
    questions.iter().map(|text| (*text).to_owned()).collect()
}

/// Questions of BANKING77 where a file of them is given, of the demo else.
fn questions() -> Vec<String> {
    let Ok(file) = std::env::var("FIRSTLINE_QUESTIONS") else { return owned(&ANSWERED) };
    let text = std::fs::read_to_string(file).unwrap();
    let question = |line: &str| {
        let value: serde_json::Value = serde_json::from_str(line).unwrap();
        value["text"].as_str().unwrap().to_owned()
    };
    text.lines().map(question).collect()
}

#[tokio::test]
async fn a_candidate_without_ground_is_rolled_back_by_itself_and_the_decisions_can_be_made_again() {
    let bundle = candidate("p50");
    sabotage(bundle.path());
    let under = Under::start(bundle.path());
    let mut next = 0;
    let rolled = under
        .until(&mut next, &questions(), |now| now.plan.as_ref().unwrap().phase() == RolloutPhase::RolledBack)
        .await;
    let decided = Instant::now();
    assert!(rolled.reasons[0].starts_with("escalation_unplanned: FAIL"), "{:?}", rolled.reasons);
    // The orchestrator follows within an interval and a second: from the next message on.
    while under.treats(0..50_000, &format!("late-{next}")).await {
        assert!(decided.elapsed() < Duration::from_secs(2), "the orchestrator does not follow");
        next += 1;
    }
    let status = under.command(&["status"]);
    assert!(status.contains("rolled back, 0 % of customers"), "{status}");
    let shown = scrape(under.door);
    let share = shown.lines().find(|line| line.starts_with("firstline_rollout_share_ratio{")).unwrap();
    assert!(share.contains("{phase=\"rolled_back\",rollout=\"bank-2026\",stage=\"p50\"} 0"), "{share}");
    let log = under.command(&["decisions", "--json"]);
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &log).unwrap();
    let replayed = firstline(&["rollout", "replay", file.path().to_str().unwrap()]);
    assert_eq!(replayed.code, Some(0), "{}", replayed.stderr);
    // A hundred customers more in the evidence, and it does not lead to the same decision.
    let forged = log.replacen("\"n\":", "\"n\":1", 1);
    assert_ne!(forged, log);
    std::fs::write(file.path(), &forged).unwrap();
    let replayed = firstline(&["rollout", "replay", file.path().to_str().unwrap()]);
    assert!(replayed.stderr.contains("follows"), "{}", replayed.stderr);
    assert_eq!(under.processes.stop(), Some(0));
}

#[tokio::test]
async fn an_equal_candidate_reaches_the_next_stage_and_stays() {
    let bundle = candidate("p50");
    let under = Under::start(bundle.path());
    assert!(!under.treats(50_000..100_000, "control").await);
    let (mut next, asked) = (0, owned(&ANSWERED));
    let share = |now: &Rollout| now.plan.as_ref().unwrap().share;
    let risen = under.until(&mut next, &asked, |now| share(now) == 80_000).await;
    let version = risen.plan.unwrap().version;
    // It waits for a person there, however much it sees.
    let now = under.until(&mut next, &asked, |now| now.customers >= 100).await;
    assert_eq!((share(&now), now.plan.unwrap().version), (80_000, version));
    assert!(under.treats(50_000..80_000, "risen").await);
    assert!(!under.treats(80_000..100_000, "back").await);
    assert_eq!(under.processes.stop(), Some(0));
}

#[tokio::test]
async fn without_its_controller_the_orchestrator_lowers_the_share_and_never_raises_it() {
    let bundle = candidate("p10");
    let under = Under::start(bundle.path());
    let approved = under.command(&["approve", "--as", "anna"]);
    assert!(approved.contains("noted"), "{approved}");
    let (mut next, asked) = (0, owned(&ANSWERED));
    let share = |now: &Rollout| now.plan.as_ref().unwrap().share;
    under.until(&mut next, &asked, |now| share(now) >= 50_000).await;
    under.command(&["hold", "--as", "anna", "--reason", "a look at the desk"]);
    let version = under.now().await.plan.unwrap().version;
    under.processes.freeze("telemetry");
    let frozen = Instant::now();
    let mut tag = 0;
    while under.treats(10_000..50_000, &format!("frozen-{tag}")).await {
        assert!(frozen.elapsed() < Duration::from_secs(10), "the share is not lowered");
        tag += 1;
    }
    assert!(frozen.elapsed() > Duration::from_secs(2), "it was lowered too soon");
    assert!(under.treats(0..10_000, "still").await, "the stage before counts");
    under.processes.thaw("telemetry");
    under.processes.kill("telemetry");
    under.until(&mut next, &asked, |now| now.plan.as_ref().unwrap().version >= version).await;
    let log = under.command(&["decisions"]);
    assert!(!log.contains("p80"), "held is held: {log}");
    assert_eq!(under.processes.stop(), Some(0));
}

#[tokio::test]
async fn a_candidate_that_would_not_help_is_seen_before_anybody_meets_it() {
    let bundle = shadowed();
    sabotage(bundle.path());
    let under = Under::start(bundle.path());
    let mut next = 0;
    let now = under.until(&mut next, &owned(&ANSWERED), |now| now.unseen.unwrap().n >= 40).await;
    assert_eq!(now.plan.unwrap().share, 0);
    let units = now.unseen.unwrap();
    assert!(units.events * 2 > units.n, "{units:?}");
    assert!(!under.treats(0..100_000, "shadow").await);
    let status = under.command(&["status"]);
    assert!(status.contains("the next stage waits for unseen answers that help"), "{status}");
    let answers = under.command(&["unseen", "--limit", "1"]);
    assert!(answers.contains("HANDOFF") && answers.contains("asked"), "{answers}");
    assert_eq!(under.processes.stop(), Some(0));
}

#[tokio::test]
async fn a_candidate_that_helps_unseen_is_switched_on_for_the_next_stage() {
    let bundle = shadowed();
    let under = Under::start(bundle.path());
    let mut next = 0;
    let share = |now: &Rollout| now.plan.as_ref().unwrap().share;
    let now = under.until(&mut next, &owned(&ANSWERED), |now| share(now) >= 50_000).await;
    assert!(now.unseen.unwrap().n >= 40, "{now:?}");
    assert!(under.treats(0..50_000, "risen").await);
    assert_eq!(under.processes.stop(), Some(0));
}
