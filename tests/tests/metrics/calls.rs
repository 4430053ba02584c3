//! Calls of models by the GenAI semantic conventions.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use proto::generator_service_client::GeneratorServiceClient;
use proto::{GenerateRequest, Passage};
use tests::Collector;
use tests::model::{Model, Script, finish, usage, words};

use crate::stage::Stage;

/// Count and sum of each histogram of model calls, by its name and the type of the tokens.
fn told(collector: &Collector) -> BTreeMap<(String, String), (u64, f64)> {
    let mut told = BTreeMap::new();
    let scopes = collector.metrics().resource_metrics.into_iter().flat_map(|resource| resource.scope_metrics);
    for metric in scopes.flat_map(|scope| scope.metrics) {
        let Some(Data::Histogram(histogram)) = metric.data else { continue };
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
    let collector = Collector::start().await;
    let said = "A replacement card costs 5 pounds [1].";
    let script = Script::Events(vec![words(said), finish("stop"), usage(100, 20)]);
    let model = Model::scripted(vec![script]).await;
    let settings = [("PROVIDER", "openai"), ("MODEL", "tiny"), ("BASE_URL", model.url.as_str())];
    let stage = Stage::start("generator", &settings, &collector.url);
    let link = kit::Link::remote(&stage.url, kit::config::Balance::Single, &kit::Context::default()).unwrap();
    let text = "A replacement card costs 5 pounds.".to_owned();
    let request = GenerateRequest {
        question: "How much does a replacement card cost?".to_owned(),
        passages: vec![Passage { document_id: "cards".to_owned(), text, ..Passage::default() }],
        ..GenerateRequest::default()
    };
    let mut stream = GeneratorServiceClient::new(link).generate(request).await.unwrap().into_inner();
    while stream.message().await.unwrap().is_some() {}
    let deadline = Instant::now() + Duration::from_secs(60);
    let told = loop {
        let told = told(&collector);
        if !told.is_empty() {
            break told;
        }
        assert!(Instant::now() < deadline, "nothing came");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    let tokens = |kind: &str| told[&("gen_ai.client.token.usage".to_owned(), kind.to_owned())];
    assert_eq!((tokens("input"), tokens("output")), ((1, 100.0), (1, 20.0)));
    let (calls, seconds) = told[&("gen_ai.client.operation.duration".to_owned(), String::new())];
    assert!(calls == 1 && seconds > 0.0 && seconds < 60.0, "{calls} calls of {seconds} s");
}
