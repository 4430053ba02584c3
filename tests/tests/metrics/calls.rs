//! Calls of models, and what is judged of their answers, by the GenAI semantic conventions.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value};
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use proto::generator_service_client::GeneratorServiceClient;
use proto::{GenerateRequest, JudgeRequest, JudgeResponse, ModelCall, ModelPurpose, Passage, Usage};
use tests::model::{Model, Script, finish, usage, words};
use tests::{Collector, Stage};

/// A generator with a model that replies this in turn.
struct Generator {
    client: GeneratorServiceClient<kit::Link>,
    collector: Collector,
    _kept: (Stage, Model),
}

impl Generator {
    async fn start(replies: &[&str]) -> Self {
        let collector = Collector::start().await;
        let whole = |said: &&str| Script::Events(vec![words(said), finish("stop"), usage(100, 20)]);
        let model = Model::scripted(replies.iter().map(whole).collect()).await;
        let settings = format!(
            r#"
provider = "openai"
model = "tiny"
judge_model = "strict"
base_url = "{}"
[generator.prices]
strict = {{ input_usd_per_million = 1, output_usd_per_million = 10 }}
"#,
            model.url
        );
        let stage = Stage::start("generator", &settings, &collector.url);
        let link =
            kit::Link::remote(&stage.url(), kit::config::Balance::Single, &kit::Context::default()).unwrap();
        Self { client: GeneratorServiceClient::new(link), collector, _kept: (stage, model) }
    }

    async fn generate(&mut self) {
        let (question, passages) = (QUESTION.to_owned(), passages());
        let request = GenerateRequest { question, passages, ..GenerateRequest::default() };
        let mut stream = self.client.generate(request).await.unwrap().into_inner();
        while stream.message().await.unwrap().is_some() {}
    }
}

const QUESTION: &str = "How much does a replacement card cost?";

fn passages() -> Vec<Passage> {
    let text = "A replacement card costs 5 pounds.".to_owned();
    vec![Passage { document_id: "cards".to_owned(), text, ..Passage::default() }]
}

/// Waits until there is something to tell.
async fn until<T>(told: impl Fn() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(told) = told() {
            return told;
        }
        assert!(Instant::now() < deadline, "nothing came");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Count and sum of each histogram of model calls, by its name and the type of the tokens.
fn told(collector: &Collector) -> BTreeMap<(String, String), (u64, f64)> {
    let mut told = BTreeMap::new();
    let scopes = collector.metrics().resource_metrics.into_iter().flat_map(|resource| resource.scope_metrics);
    for metric in scopes.flat_map(|scope| scope.metrics) {
        let Some(Data::Histogram(histogram)) = metric.data else { continue };
        if !metric.name.starts_with("gen_ai.") {
            continue;
        }
        for point in histogram.data_points {
            let known = format!("{:?}", point.attributes);
            assert!(known.contains("gen_ai.request.model") && known.contains("\"tiny\""), "{known}");
            let kind = ["input", "output"].into_iter().find(|kind| known.contains(&format!("\"{kind}\"")));
            told.insert(
                (metric.name.clone(), kind.unwrap_or_default().to_owned()),
                (point.count, point.sum.unwrap()),
            );
        }
    }
    told
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_of_a_model_leaves_with_its_tokens_and_its_time() {
    let mut generator = Generator::start(&["A replacement card costs 5 pounds [1]."]).await;
    generator.generate().await;
    let told = until(|| Some(told(&generator.collector)).filter(|told| !told.is_empty())).await;
    let tokens = |kind: &str| told[&("gen_ai.client.token.usage".to_owned(), kind.to_owned())];
    assert_eq!((tokens("input"), tokens("output")), ((1, 100.0), (1, 20.0)));
    let (calls, seconds) = told[&("gen_ai.client.operation.duration".to_owned(), String::new())];
    assert!(calls == 1 && seconds > 0.0 && seconds < 60.0, "{calls} calls of {seconds} s");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_autoscaler_goes_by_leaves_too() {
    let mut generator = Generator::start(&["A replacement card costs 5 pounds [1]."]).await;
    generator.generate().await;
    generator.generate().await;
    let sums = || {
        let metrics = generator.collector.metrics();
        let scopes = metrics.resource_metrics.into_iter().flat_map(|resource| resource.scope_metrics);
        let mut sums = BTreeMap::new();
        for metric in scopes.flat_map(|scope| scope.metrics) {
            let name = metric.name.trim_start_matches("firstline.generator.").to_owned();
            match metric.data {
                Some(Data::Sum(sum)) => sum.data_points.iter().for_each(|point| {
                    let tier = point.attributes.first().map(|tier| format!("{:?}", tier.value));
                    sums.insert(
                        (name.clone(), tier.unwrap_or_default()),
                        format!("{:?}", point.value.unwrap()),
                    );
                }),
                Some(Data::Histogram(histogram)) => histogram.data_points.iter().for_each(|point| {
                    sums.insert((name.clone(), String::new()), point.count.to_string());
                }),
                _ => {}
            }
        }
        sums
    };
    let told = until(|| {
        Some(sums()).filter(|sums| sums.keys().any(|(name, tier)| name == "cache" && tier.contains("exact")))
    })
    .await;
    let of = |name: &str, tier: &str| {
        told.iter().find(|((n, t), _)| n == name && t.contains(tier)).map(|(_, value)| value.as_str())
    };
    // One was written, and given once more; nothing waits or is under way any more.
    assert_eq!((of("cache", "miss"), of("cache", "exact")), (Some("AsInt(1)"), Some("AsInt(1)")), "{told:?}");
    assert_eq!((of("active", ""), of("queued", "")), (Some("AsInt(0)"), Some("AsInt(0)")), "{told:?}");
    assert_eq!(of("queue.duration", ""), Some("1"), "{told:?}");
}

/// The attributes that do not tell where the code stands, as one line.
fn line(attributes: &[KeyValue]) -> String {
    let told = attributes.iter().filter(|one| !one.key.starts_with("code.") && one.key.contains('.'));
    let shown = told.map(|attribute| {
        let value = match attribute.value.as_ref().unwrap().value.as_ref().unwrap() {
            Value::StringValue(text) => text.clone(),
            Value::DoubleValue(number) => number.to_string(),
            other => panic!("{other:?}"),
        };
        format!("{}={value}", attribute.key.trim_start_matches("gen_ai."))
    });
    shown.collect::<Vec<_>>().join(" ")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_judged_of_an_answer_is_an_event_of_its_span_and_holds_no_words() {
    let written = "A replacement card costs 5 pounds [1]. A replacement card costs 7 pounds [1].";
    let mut generator = Generator::start(&[written, r#"{"unsupported": []}"#, "Fine."]).await;
    generator.generate().await;
    let answer = "A replacement card costs 5 pounds.".to_owned();
    let (question, turn_id) = (QUESTION.to_owned(), "t1".to_owned());
    let request = JudgeRequest { question, answer, passages: passages(), turn_id };
    let verdict = generator.client.judge(request.clone()).await.unwrap().into_inner();
    let call = ModelCall {
        purpose: ModelPurpose::Judge.into(),
        model: "strict".to_owned(),
        usage: Some(Usage { input_tokens: 100, output_tokens: 20, cached_input_tokens: 40 }),
        cost_usd: 300e-6,
        price_version: "strict 1/1/10".to_owned(),
    };
    let judge = "llm/1 strict".to_owned();
    let expected = JudgeResponse { claims: 1, judge, calls: vec![call], ..JudgeResponse::default() };
    assert_eq!(verdict, expected);
    let refused = generator.client.judge(request.clone()).await.unwrap().into_inner();
    assert_eq!((refused.claims, refused.skipped.as_str()), (0, ""));
    assert!(refused.failure.contains("schema") && refused.calls[0].cost_usd > 0.0, "{refused:?}");
    let blank = JudgeRequest { answer: " ".to_owned(), ..request };
    assert!(generator.client.judge(blank).await.unwrap_err().message().starts_with("answer: "));
    let named = || {
        let events = generator.collector.events().into_iter();
        events.filter(|(_, event)| event.name == "gen_ai.evaluation.result").collect::<Vec<_>>()
    };
    let mut events = until(|| Some(named()).filter(|events| events.len() == 3)).await;
    events.sort_by_key(|(_, event)| event.time_unix_nano);
    let told: Vec<_> = events.iter().map(|(span, event)| (span.as_str(), line(&event.attributes))).collect();
    let by = |judge: &str, rest: &str| format!("evaluation.name=groundedness {rest} firstline.judge={judge}");
    let bad = "evaluation.score.value=0.5 evaluation.score.label=fail response.id=x";
    let good = "evaluation.score.value=1 evaluation.score.label=pass";
    assert_eq!(
        told,
        [
            ("chat tiny", by("support/1 at 0.4, overlap 0", bad)),
            ("generator/Judge", by("llm/1 strict", good)),
            ("generator/Judge", by("llm/1 strict", "error.type=GARBAGE")),
        ]
    );
}
