//! `firstline doctor`: what is configured, what is there, what is wrong, in plain words.

use std::time::{Duration, Instant};

use kit::config::{Balance, Endpoints, Settings};
use kit::{Link, Links};
use proto::assistant_service_client::AssistantServiceClient;
use proto::classifier_service_client::ClassifierServiceClient;
use proto::retriever_service_client::RetrieverServiceClient;
use proto::*;
use serde_json::json;
use tonic::Request;

use crate::cli::Target;
use crate::show;

const PATIENCE: Duration = Duration::from_secs(2);

struct Finding {
    what: String,
    ok: bool,
    detail: String,
}

/// Checks everything; `false` when something is wrong.
pub(crate) async fn doctor(settings: Settings, target: Target, as_json: bool) -> anyhow::Result<bool> {
    let mut findings = Vec::new();
    let server = settings.server()?;
    let mut find = |what: &str, result: anyhow::Result<String>| {
        let ok = result.is_ok();
        let detail = result.unwrap_or_else(|error| format!("{error:#}"));
        findings.push(Finding { what: what.to_owned(), ok, detail });
    };
    find("configuration", tables(&settings).map(|()| "every table is valid".to_owned()));
    // A remote assistant has a bundle and a model of its own.
    if target.endpoint.is_none() {
        let dir = crate::client::bundle_dir(&server.bundle, target.bundle.as_deref());
        let config = server.encoder.clone();
        let opened = tokio::task::spawn_blocking(move || encoder::Opened::new(&config)).await?;
        find("bundle", dir.and_then(|dir| bundle(&dir, &opened)));
        let tier = match &opened {
            encoder::Opened::Fallback(_) => Err(anyhow::anyhow!(opened.describe())),
            _ => Ok(opened.describe()),
        };
        find("tier", tier);
        find("model", model(&settings).await);
    }
    let context = kit::Context { server: server.clone(), ..kit::Context::default() };
    if target.bundle.is_none() {
        let default = format!("http://{}", server.listen.orchestrator);
        let assistant =
            Link::remote(target.endpoint.as_deref().unwrap_or(&default), Balance::Single, &context)?;
        find("orchestrator", health(assistant.clone()).await);
        let links = Links::remote(&server, &context)?;
        // The stages of an assistant elsewhere are not on this machine: it says itself how it reaches them.
        let is_said = target.endpoint.is_none() || !server.endpoints.iter().eq(Endpoints::default().iter());
        if !is_said {
            match stages(assistant).await {
                Ok(stages) => stages.into_iter().for_each(|stage| find(&stage.name.clone(), told(stage))),
                Err(error) => find("stages", Err(error)),
            }
        }
        for (stage, url) in server.endpoints.iter().filter(|_| is_said) {
            let healthy = health(links.get(stage)?).await;
            let healthy = match (healthy, stage) {
                (Ok(health), "classifier") => {
                    about_classifier(links.get(stage)?).await.map(|about| format!("{health}, {about}"))
                }
                (Ok(health), "retriever") => {
                    about_index(links.get(stage)?).await.map(|about| format!("{health}, {about}"))
                }
                (health, _) => health,
            };
            find(stage, healthy.map(|health| format!("{url}: {health}")));
        }
    }
    context.shutdown.cancel();
    let all_ok = findings.iter().all(|finding| finding.ok);
    if as_json {
        let list: Vec<_> =
            findings.iter().map(|f| json!({ "what": f.what, "ok": f.ok, "detail": f.detail })).collect();
        show::line(&json!({ "ok": all_ok, "findings": list }).to_string());
    } else {
        for Finding { what, ok, detail } in &findings {
            show::line(&format!("{} {what:<14}{detail}", if *ok { "ok  " } else { "FAIL" }));
        }
    }
    Ok(all_ok)
}

fn tables(settings: &Settings) -> anyhow::Result<()> {
    settings.table::<classifier::Config>(classifier::NAME)?;
    settings.table::<safety::Config>(safety::NAME)?;
    settings.table::<retriever::Config>(retriever::NAME)?;
    let generator = settings.table::<generator::Config>(generator::NAME)?;
    settings.table::<workflow::Config>(workflow::NAME)?;
    settings.table::<telemetry::Config>(telemetry::NAME)?;
    let charged = settings.table::<orchestrator::Config>(orchestrator::NAME)?.budget.answer_tokens;
    let most = generator.max_tokens.max(generator.choice_max_tokens);
    anyhow::ensure!(
        most <= charged,
        "orchestrator.budget.answer_tokens is {charged}, but the generator allows answers of {most}: calls under way \
         may pass a budget; raise it"
    );
    Ok(())
}

fn bundle(dir: &std::path::Path, opened: &encoder::Opened) -> anyhow::Result<String> {
    let reader = bundle::Reader::open(dir)?;
    crate::bundles::validate(&reader)?;
    let encoder = opened.encoder().map(AsRef::as_ref);
    let built = classifier::open(&reader, encoder).is_ok() && retriever::is_built(&reader, encoder)?;
    anyhow::ensure!(built, "{} is valid but not built; run `firstline bundle build {0}`", dir.display());
    Ok(format!("{} is valid and built, {}", dir.display(), reader.hash()))
}

async fn model(settings: &Settings) -> anyhow::Result<String> {
    let config = settings.table::<generator::Config>(generator::NAME)?;
    generator::probe(&config).await
}

async fn health(link: Link) -> anyhow::Result<String> {
    let start = Instant::now();
    link.health(PATIENCE).await.map_err(|status| {
        anyhow::anyhow!("not running ({}); `firstline up` starts it", crate::client::plain(&status))
    })?;
    Ok(format!("serving, {:.1} ms", start.elapsed().as_secs_f64() * 1e3))
}

async fn stages(assistant: Link) -> anyhow::Result<Vec<StageHealth>> {
    let mut client = AssistantServiceClient::new(assistant);
    let response = client.list_stages(limited(ListStagesRequest {})).await;
    let response =
        response.map_err(|status| anyhow::anyhow!("not told: {}", crate::client::plain(&status)))?;
    Ok(response.into_inner().stages)
}

fn told(stage: StageHealth) -> anyhow::Result<String> {
    let StageHealth { serving, reason, ms, .. } = stage;
    anyhow::ensure!(serving, "the orchestrator cannot reach it: {reason}");
    Ok(format!("serving, {ms:.1} ms from the orchestrator"))
}

async fn about_classifier(link: Link) -> anyhow::Result<String> {
    let response =
        ClassifierServiceClient::new(link).list_intents(limited(ListIntentsRequest {})).await?.into_inner();
    Ok(format!("{} intents, {}, model {}", response.intents.len(), response.tier, response.model_version))
}

async fn about_index(link: Link) -> anyhow::Result<String> {
    let index = RetrieverServiceClient::new(link).get_index(limited(GetIndexRequest {})).await?.into_inner();
    Ok(format!("{} documents, {} passages, index {}", index.documents, index.passages, index.index_version))
}

fn limited<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(PATIENCE);
    request
}
