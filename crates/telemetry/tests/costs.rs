//! What turns cost and saved, added up by day.
#![expect(clippy::unwrap_used, reason = "a test that fails panics")]

use std::time::SystemTime;

use kit::Link;
use proto::cost_service_client::CostServiceClient;
use proto::telemetry_service_client::TelemetryServiceClient;
use proto::*;
use telemetry::Config;
use telemetry::costs::plan::SelfHosted;
use tonic::Code;

struct Stage {
    telemetry: TelemetryServiceClient<Link>,
    costs: CostServiceClient<Link>,
}

async fn stage(dir: &tempfile::TempDir) -> Stage {
    let mut context = kit::Context::default();
    context.server.data_dir = dir.path().to_owned();
    context.server.database.url = scratch::chosen(dir.path()).map(Into::into);
    // As many seconds as a written answer has thousands of tokens.
    let self_hosted = SelfHosted {
        gpu_usd_per_hour: 0.1,
        input_tokens_per_second: 1000.0,
        output_tokens_per_second: 100.0,
        ..SelfHosted::default()
    };
    let config = Config { self_hosted, ..Config::default() };
    let stage = telemetry::service(config, context.clone()).await.unwrap();
    let link = Link::local(&stage);
    Stage { telemetry: TelemetryServiceClient::new(link.clone()), costs: CostServiceClient::new(link) }
}

fn call(purpose: ModelPurpose, model: &str, input: u64, cost_usd: f64) -> ModelCall {
    let usage = Some(Usage { input_tokens: input, output_tokens: 100, cached_input_tokens: input / 2 });
    let price_version = format!("{model} 1/1/1");
    ModelCall { purpose: purpose.into(), model: model.to_owned(), usage, cost_usd, price_version }
}

fn record(turn_id: &str, calls: Vec<ModelCall>, savings: Savings) -> TurnRecord {
    let intent = Intent { category: "cards".to_owned(), ..Intent::default() };
    let turn = Turn {
        turn_id: turn_id.to_owned(),
        conversation_id: format!("c{turn_id}"),
        outcome: Outcome::Answered.into(),
        intent: Some(intent),
        ..Turn::default()
    };
    let (turn, accepted_at) = (Some(turn), Some(SystemTime::now().into()));
    TurnRecord { turn, accepted_at, calls, savings: Some(savings), ..TurnRecord::default() }
}

fn window(days: i64) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds: days * 86_400, nanos: 0 })
}

#[tokio::test]
async fn every_call_and_every_saving_is_counted_once_by_purpose_model_and_category() {
    let dir = tempfile::tempdir().unwrap();
    let Stage { mut telemetry, mut costs } = stage(&dir).await;
    let written = vec![
        call(ModelPurpose::Intent, "small", 200, 0.001),
        call(ModelPurpose::Answer, "small", 900, 0.0),
        call(ModelPurpose::Answer, "large", 1000, 0.02),
    ];
    let packed =
        Savings { packing_tokens: 300, packing_usd: 0.003, routing_usd: -0.001, ..Savings::default() };
    let known = Savings { cache_usd: 0.02, cache_tier: "exact".to_owned(), ..Savings::default() };
    let alike = Savings { cache_tier: "semantic".to_owned(), ..known.clone() };
    let mut unseen = record("u1", vec![call(ModelPurpose::Answer, "large", 1000, 0.02)], Savings::default());
    let exposure = Exposure { rollout_id: "r".to_owned(), stage: "shadow".to_owned(), ..Exposure::default() };
    (unseen.unseen, unseen.exposure) = (true, Some(exposure));
    let records = vec![
        record("t1", written.clone(), packed),
        record("t2", written, Savings::default()),
        record("t3", Vec::new(), known.clone()),
        record("t4", Vec::new(), known),
        record("t5", Vec::new(), alike),
        unseen,
    ];
    // The same once more changes nothing.
    for _ in 0..2 {
        telemetry.record(RecordRequest { records: records.clone() }).await.unwrap();
        for (name, judge, purpose) in [
            ("groundedness", "llm/1 large", ModelPurpose::Judge),
            ("cache_agreement", "recheck/1", ModelPurpose::Recheck),
        ] {
            let evaluation = Some(Evaluation {
                turn_id: "t5".to_owned(),
                conversation_id: "ct5".to_owned(),
                name: name.to_owned(),
                judge: judge.to_owned(),
                claims: 1,
                unsupported: 0,
                calls: vec![call(purpose, "large", 1000, 0.005)],
                category: "cards".to_owned(),
            });
            telemetry.submit_evaluation(SubmitEvaluationRequest { evaluation }).await.unwrap();
        }
    }
    let told = costs.get_costs(GetCostsRequest { window: window(2) }).await.unwrap().into_inner();
    let line = |line: &CostLine| {
        let usage = line.usage.unwrap();
        let tokens = (usage.input_tokens, usage.cached_input_tokens, usage.output_tokens);
        let micros = (line.cost_usd * 1e6).round() as i64;
        (line.purpose(), line.unseen, line.model.clone(), line.category.clone(), line.calls, tokens, micros)
    };
    let expected = |purpose, unseen, model: &str, calls, tokens, micros| {
        (purpose, unseen, model.to_owned(), "cards".to_owned(), calls, tokens, micros)
    };
    use ModelPurpose::{Answer, Intent, Judge, Recheck};
    let mut lines: Vec<_> = told.lines.iter().map(line).collect();
    assert_eq!(lines[0], expected(Answer, false, "large", 2, (2000, 1000, 200), 40_000), "the dearest first");
    lines.sort();
    assert_eq!(
        lines,
        [
            expected(Answer, false, "large", 2, (2000, 1000, 200), 40_000),
            expected(Answer, false, "small", 2, (1800, 900, 200), 0),
            expected(Answer, true, "large", 1, (1000, 500, 100), 20_000),
            expected(Intent, false, "small", 2, (400, 200, 200), 2_000),
            expected(Judge, false, "large", 1, (1000, 500, 100), 5_000),
            expected(Recheck, false, "large", 1, (1000, 500, 100), 5_000),
        ]
    );
    let saving =
        |line: &SavingLine| (line.measure.clone(), line.turns, line.tokens, (line.usd * 1e6).round() as i64);
    let savings: Vec<_> = told.savings.iter().map(saving).collect();
    let saved = |measure: &str, turns, tokens, micros| (measure.to_owned(), turns, tokens, micros);
    assert_eq!(
        savings,
        [
            saved("cache_exact", 2, 0, 40_000),
            saved("cache_semantic", 1, 0, 20_000),
            saved("packing", 1, 300, 3_000),
            saved("routing", 1, 0, -1_000),
        ]
    );
    // Midnight may have passed meanwhile.
    let (turns, written) = told.days.iter().fold((0, 0), |sum, day| (sum.0 + day.turns, sum.1 + day.written));
    assert_eq!((turns, written), (5, 2));
    let (day, month) = (told.day.unwrap(), told.month.unwrap());
    assert!(day.lower_usd.is_none() && day.days < 3 && month.spent_usd > 0.07, "{day:?} {month:?}");
}

#[tokio::test]
async fn a_plan_follows_from_what_was_measured_and_says_what_is_missing() {
    let dir = tempfile::tempdir().unwrap();
    let Stage { mut telemetry, mut costs } = stage(&dir).await;
    let plan = |requests_per_day, days| PlanCostsRequest { requests_per_day, window: window(days) };
    let nothing = costs.plan_costs(plan(1000, 1)).await.unwrap().into_inner();
    assert_eq!((nothing.options.len(), nothing.missing.is_empty()), (0, false));
    for (request, field) in
        [(plan(0, 1), "requests_per_day"), (plan(1, 0), "window"), (plan(1, 3651), "window")]
    {
        let refused = costs.plan_costs(request).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument);
        assert!(refused.message().starts_with(field), "{refused:?}");
    }
    let written =
        |id: &str| record(id, vec![call(ModelPurpose::Answer, "large", 1000, 0.01)], Savings::default());
    let mut records: Vec<_> = ["t1", "t2"].map(written).into();
    records.extend(["t3", "t4"].map(|id| record(id, Vec::new(), Savings::default())));
    telemetry.record(RecordRequest { records }).await.unwrap();
    let told = costs.plan_costs(plan(100_000, 2)).await.unwrap().into_inner();
    assert_eq!((told.written_share, told.measured, told.missing.as_str()), (0.5, 2, ""));
    assert_eq!(told.usage.map(|usage| (usage.input_tokens, usage.output_tokens)), Some((1000, 100)));
    let option = |name: &str| told.options.iter().find(|option| option.name == name).cloned().unwrap();
    assert_eq!(option("provider").usd_per_day, 500.0);
    // All of a day's turns came in one hour: 50,000 answers of two seconds, at 60 % of a replica's time.
    let own = option("self_hosted");
    assert_eq!((own.replicas, own.gpus, told.peak), (47, 47, 24.0));
    assert!((own.usd_per_day - 47.0 * 2.4).abs() < 1e-9, "{own:?}");
    // One replica less leaves 320 of them to the provider.
    let mixed = option("mixed");
    assert_eq!((mixed.replicas, mixed.provider_share), (46, 320.0 / 50_000.0));
}
