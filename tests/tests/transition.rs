//! The move from a provider's model to one of the company's own on real processes: a threshold crossed, a canary arm, and on
//! where answers stay as good, back where they do not.
#![expect(clippy::unwrap_used, reason = "a test that fails panics")]

use std::time::{Duration, Instant};

use proto::assistant_service_client::AssistantServiceClient;
use proto::cost_service_client::CostServiceClient;
use proto::rollout_service_client::RolloutServiceClient;
use proto::*;
use tempfile::TempDir;
use tests::model::Model;
use tests::{Processes, demo, firstline, scratch};
use tonic::transport::{Channel, Endpoint};

/// Longest time until the controllers have done what they have to.
const PATIENCE: Duration = Duration::from_secs(120);
/// Questions that a model answers from the demo's articles.
const ASKED: [&str; 4] = [
    "How long does a replacement card take to arrive?",
    "How long does a new card take to arrive?",
    "How do I activate my new card?",
    "How do I order a new PIN?",
];

const PLAN: &str = r#"
[rollout]
id = "own-model"
compares = "model"
categories = ["cards", "payments", "transfers", "accounts", "travel", "branches", "general", "lending"]
max_risk = "high"
interval_s = 1
min_customers = 20
holdback = 0.0
cooldown_hours = 24.0
[[stage]]
name = "canary"
share = 0.5
min_hours = 0.0
min_customers = 20
approval = false
[[stage]]
name = "all"
share = 1.0
approval = false
[[guard]]
metric = "ungrounded_generated"
kind = "absolute"
max_rate = 0.2
alpha = 0.05
window_s = 1
"#;

struct Under {
    processes: Processes,
    telemetry: String,
    assistant: AssistantServiceClient<Channel>,
    rollout: RolloutServiceClient<Channel>,
    costs: CostServiceClient<Channel>,
    _files: TempDir,
}

impl Under {
    /// A provider at 10 US dollars for a million tokens, and a model of one's own that behaves like this.
    fn start(model: &Model, own: &str) -> Self {
        let files = scratch();
        let plan = files.path().join("transition.toml");
        std::fs::write(&plan, PLAN).unwrap();
        let price = "{ input_usd_per_million = 10.0, output_usd_per_million = 10.0 }";
        let further = format!("{{ model = {own:?}, base_url = {:?}, self_hosted = true }}", model.url);
        let processes = Processes::start_with(
            &demo(),
            &[
                ("FIRSTLINE__GENERATOR__PROVIDER", "openai"),
                ("FIRSTLINE__GENERATOR__MODEL", "faithful"),
                ("FIRSTLINE__GENERATOR__BASE_URL", &model.url),
                ("FIRSTLINE__GENERATOR__PRICES__FAITHFUL", price),
                ("FIRSTLINE__GENERATOR__FALLBACK", "[\"own\"]"),
                ("FIRSTLINE__GENERATOR__MODELS__OWN", &further),
                // Each question is to be written.
                ("FIRSTLINE__GENERATOR__CACHE__MAX_MB", "0"),
                ("FIRSTLINE__TELEMETRY__ROLLOUT_GRACE_MS", "0"),
                ("FIRSTLINE__TELEMETRY__TRANSITION__USD_PER_DAY", "0.1"),
                ("FIRSTLINE__TELEMETRY__TRANSITION__PERFORM", "apply"),
                ("FIRSTLINE__TELEMETRY__TRANSITION__PLAN", plan.to_str().unwrap()),
            ],
        );
        let telemetry = processes.url_of("telemetry");
        let lazy = |url: &str| Endpoint::from_shared(url.to_owned()).unwrap().connect_lazy();
        let assistant = AssistantServiceClient::new(lazy(&processes.url));
        let (rollout, costs) = (lazy(&telemetry), lazy(&telemetry));
        let (rollout, costs) = (RolloutServiceClient::new(rollout), CostServiceClient::new(costs));
        Self { processes, telemetry, assistant, rollout, costs, _files: files }
    }

    fn command(&self, arguments: &[&str]) -> String {
        let done = firstline(&[arguments, &["--endpoint", &self.telemetry]].concat());
        assert_eq!(done.code, Some(0), "{}", done.stderr);
        done.stdout
    }

    /// A turn of a new customer.
    async fn ask(&self, n: usize) -> Turn {
        let message = Message {
            customer_key: format!("customer-{n}"),
            text: ASKED[n % ASKED.len()].to_owned(),
            ..Message::default()
        };
        let asked = self.assistant.clone().ask(AskRequest { message: Some(message) }).await.unwrap();
        asked.into_inner().turn.unwrap()
    }

    async fn plan(&self) -> Option<RolloutPlan> {
        let found = self.rollout.clone().get_rollout(GetRolloutRequest {}).await.unwrap();
        found.into_inner().rollout.and_then(|rollout| rollout.plan)
    }

    /// New customers ask until the plan is as wanted; returns their turns.
    async fn until(&self, wanted: impl Fn(Option<&RolloutPlan>) -> bool) -> Vec<Turn> {
        let (start, mut turns) = (Instant::now(), Vec::new());
        while !wanted(self.plan().await.as_ref()) {
            assert!(start.elapsed() < PATIENCE, "{:?}", self.plan().await);
            for _ in 0..10 {
                turns.push(self.ask(turns.len()).await);
            }
        }
        turns
    }
}

/// Whether customers of both arms were answered, each by the model of the arm.
fn compared(turns: &[Turn], own: &str) -> bool {
    let by = |arm: Arm, model: &str| turns.iter().any(|turn| turn.arm() == arm && turn.model == model);
    turns.iter().all(|turn| turn.outcome() != Outcome::Legacy)
        && by(Arm::Treatment, own)
        && by(Arm::Control, "faithful")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_the_own_model_is_as_good_the_move_goes_on_to_its_end() {
    let model = Model::behaving().await;
    let under = Under::start(&model, "faithful:small");
    let before = under.ask(0).await;
    assert_eq!((before.model.as_str(), before.cost_usd > 0.0), ("faithful", true));
    let turns = under.until(|plan| plan.is_some_and(|plan| plan.share == 100_000)).await;
    assert!(compared(&turns, "faithful:small"), "{turns:#?}");
    let after = under.ask(turns.len()).await;
    assert_eq!((after.model.as_str(), after.cost_usd), ("faithful:small", 0.0));
    let decisions = under.command(&["rollout", "decisions"]);
    assert!(
        decisions.contains("the cost controller") && decisions.contains("USD this day by providers"),
        "{decisions}"
    );
    // It is looked at every few seconds.
    let start = Instant::now();
    let cost = loop {
        let cost = under.command(&["cost"]);
        if cost.contains("rollout own-model, stage all") {
            break cost;
        }
        assert!(start.elapsed() < PATIENCE, "{cost}");
    };
    assert!(cost.contains("routing"), "{cost}");
    // What it costs now says nothing against the move: what counts is what providers would cost.
    let window = Some(prost_types::Duration { seconds: 86_400, nanos: 0 });
    let costs = under.costs.clone().get_costs(GetCostsRequest { window }).await.unwrap().into_inner();
    let (day, transition) = (costs.day.unwrap(), costs.transition.unwrap());
    assert!(transition.provider_day_usd > day.expected_usd, "{day:?} {transition:?}");
    assert_eq!(under.processes.stop(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_the_own_model_is_worse_everybody_has_the_provider_again() {
    let model = Model::behaving().await;
    let under = Under::start(&model, "hallucinator");
    let turns = under.until(|plan| plan.is_some_and(|plan| plan.phase() == RolloutPhase::RolledBack)).await;
    assert!(turns.iter().all(|turn| turn.outcome() != Outcome::Legacy));
    let decisions = under.command(&["rollout", "decisions"]);
    assert!(decisions.contains("ungrounded_generated: FAIL"), "{decisions}");
    // The orchestrator follows within an interval and a second; it is not tried again while it cools down.
    let (start, mut next) = (Instant::now(), turns.len());
    while under.ask(next).await.model != "faithful" || under.ask(next + 1).await.model != "faithful" {
        assert!(start.elapsed() < Duration::from_secs(10), "the orchestrator does not follow");
        next += 2;
    }
    let cost = under.command(&["cost"]);
    assert!(cost.contains("with providers alone"), "{cost}");
    assert_eq!(under.processes.stop(), Some(0));
}
