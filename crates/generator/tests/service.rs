//! The generator as its callers see it: over gRPC, with a bundle.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, and so do its helpers")]

use futures::TryStreamExt as _;
use generator::Config;
use proto::generate_response::Event;
use proto::generator_service_client::GeneratorServiceClient;

const ASSISTANT: &str = r#"
schema = 1
name = "test"
title = "Test assistant"
locales = ["en"]
[handoff]
message = "A colleague takes over."
[categories.cards]
title = "Cards"
risk = "low"
"#;

fn context(prompt: Option<&str>) -> (tempfile::TempDir, kit::Context) {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("assistant.toml"), ASSISTANT).unwrap();
    if let Some(prompt) = prompt {
        std::fs::create_dir(dir.path().join("prompts")).unwrap();
        std::fs::write(dir.path().join("prompts/answer.j2"), prompt).unwrap();
    }
    let mut context = kit::Context::default();
    context.server.bundle = dir.path().to_owned();
    (dir, context)
}

fn request(question: &str) -> proto::GenerateRequest {
    let passage = proto::Passage {
        document_id: "cards".to_owned(),
        document_version: "v1".to_owned(),
        title: "Replacement cards".to_owned(),
        text: "A replacement card costs 5 pounds. It arrives within 3 to 5 working days.".to_owned(),
        ..proto::Passage::default()
    };
    proto::GenerateRequest { question: question.to_owned(), passages: vec![passage], ..Default::default() }
}

#[tokio::test]
async fn deltas_add_up_to_the_final_text_and_citations_name_their_document() {
    let (_dir, context) = context(None);
    let stage = generator::service(Config::default(), context).await.unwrap();
    let mut client = GeneratorServiceClient::new(stage.service());
    let question = "How much does a replacement card cost, and do you insure pets?";
    let stream = client.generate(request(question)).await.unwrap().into_inner();
    let mut events: Vec<Event> =
        stream.try_filter_map(|sent| async { Ok(sent.event) }).try_collect().await.unwrap();
    let Some(Event::Final(last)) = events.pop() else { panic!("no final event") };
    let text: String = events
        .into_iter()
        .map(|event| match event {
            Event::Delta(delta) => delta.text,
            Event::Final(_) => panic!("two final events"),
        })
        .collect();
    assert_eq!(text, last.text);
    let quoted = "A replacement card costs 5 pounds. It arrives within 3 to 5 working days.";
    assert_eq!(last.text, format!("{quoted}\n\n{}insure pets.", generator::NOTHING_ABOUT));
    assert_eq!((last.model.as_str(), last.abstained, last.cost_usd), ("extractive", false, 0.0));
    let citation = &last.citations[0];
    assert_eq!((citation.document_id.as_str(), citation.document_version.as_str()), ("cards", "v1"));
    let sources: Vec<u32> = last.sentences.iter().map(|sentence| sentence.citation).collect();
    assert_eq!(sources, [1, 1], "what was not found is no sentence of the passages");
    assert!(last.support > 0.3, "{}", last.support);
}

#[tokio::test]
async fn an_empty_question_is_refused_and_a_foreign_one_abstained_from() {
    let (_dir, context) = context(None);
    let stage = generator::service(Config::default(), context).await.unwrap();
    let mut client = GeneratorServiceClient::new(stage.service());
    let refused = client.generate(request("  ")).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::InvalidArgument);
    assert!(refused.message().starts_with("question:"), "{}", refused.message());
    let stream = client.generate(request("Who painted the ceiling?")).await.unwrap().into_inner();
    let events: Vec<_> = stream.try_collect().await.unwrap();
    let Some(Event::Final(last)) = &events[0].event else { panic!("no final event") };
    assert!(last.abstained && last.text.is_empty() && last.citations.is_empty());
    let stream =
        client.generate(request("Is there a card for my cat to collect cinema points?")).await.unwrap();
    let events: Vec<_> = stream.into_inner().try_collect().await.unwrap();
    let Some(Event::Final(last)) = &events[0].event else { panic!("no final event") };
    assert!(last.abstained && last.support > 0.0, "support is told when it is too weak: {}", last.support);
}

#[tokio::test]
async fn a_prompt_of_the_bundle_that_cannot_work_stops_the_start() {
    let (_dir, context) = context(Some("---\nversion: 3\n---\n{{ question }} {{ pasages }}"));
    let error = generator::service(Config::default(), context).await.unwrap_err();
    assert!(format!("{error:#}").contains("undefined"), "{error:#}");
}
