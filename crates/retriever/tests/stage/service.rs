//! What a caller over gRPC may ask, and what it is told when it asks for something else.

use bundle::Audience::{Internal, Public};
use proto::retriever_service_client::RetrieverServiceClient;
use tempfile::{TempDir, tempdir};
use tonic::{Code, Request, Status};
use tonic_types::StatusExt as _;

use crate::{bundle, document};

type Client = RetrieverServiceClient<kit::Link>;

async fn start() -> (Client, TempDir) {
    let root = tempdir().unwrap();
    let documents = [
        document("lost-card", "Lost card", "Freeze the lost card in the app.", Public),
        document("codes", "Card codes", "Code 41: the card is lost.", Internal),
    ];
    bundle(&root.path().join("bundle"), &documents);
    let mut context = kit::Context::default();
    context.server.bundle = root.path().join("bundle");
    context.server.data_dir = root.path().join("data");
    let stage = retriever::service(retriever::Config::default(), context).await.unwrap();
    (Client::new(kit::Link::local(&stage)), root)
}

fn put(id: &str, content: &str) -> proto::PutDocumentsRequest {
    let (id, title, content) = (id.into(), "Card".into(), content.into());
    proto::PutDocumentsRequest {
        document: Some(proto::Document { id, title, content, ..proto::Document::default() }),
    }
}

fn field(status: &Status) -> String {
    let details = status.get_error_details();
    details.bad_request().unwrap().field_violations[0].field.clone()
}

async fn ids(client: &mut Client, audience: proto::Audience) -> Vec<String> {
    let query = "lost card".to_owned();
    let request =
        proto::RetrieveRequest { query, audience: audience.into(), ..proto::RetrieveRequest::default() };
    let response = client.retrieve(request).await.unwrap().into_inner();
    response.passages.into_iter().map(|passage| passage.document_id).collect()
}

#[tokio::test]
async fn a_request_out_of_range_names_its_field_and_the_range() {
    let (mut client, _root) = start().await;
    let query = |query: &str, k| proto::RetrieveRequest { query: query.into(), k, ..Default::default() };
    let wrong =
        [(query(" ", 1), "query"), (query(&"a".repeat(65_537), 1), "query"), (query("card", 101), "k")];
    for (request, name) in wrong {
        let status = client.retrieve(request).await.unwrap_err();
        assert_eq!((status.code(), field(&status).as_str()), (Code::InvalidArgument, name));
    }
    let status = client.retrieve(query("card", 101)).await.unwrap_err();
    assert!(status.message().contains("1..=100"), "{}", status.message());
    assert_eq!(client.retrieve(query("card", 100)).await.unwrap().into_inner().passages.len(), 1);
    let status =
        client.delete_documents(proto::DeleteDocumentsRequest { ids: vec!["a".into(), String::new()] });
    assert_eq!(field(&status.await.unwrap_err()), "ids");
}

#[tokio::test]
async fn one_bad_document_refuses_the_whole_stream_and_says_which() {
    let (mut client, _root) = start().await;
    let before = client.get_index(proto::GetIndexRequest {}).await.unwrap().into_inner();
    let large = "a ".repeat((1 << 19) + 1);
    let wrong = [
        (put("", "text"), "document.id"),
        (put("x", " \n"), "document.content"),
        (put("x", &large), "document.content"),
        (proto::PutDocumentsRequest { document: None }, "document.id"),
    ];
    for (bad, name) in wrong {
        let stream = tokio_stream::iter([put("good", "A lost card."), bad]);
        let status = client.put_documents(Request::new(stream)).await.unwrap_err();
        assert_eq!((status.code(), field(&status).as_str()), (Code::InvalidArgument, name));
        assert!(status.message().contains("document 1"), "{}", status.message());
    }
    assert_eq!(client.get_index(proto::GetIndexRequest {}).await.unwrap().into_inner(), before);
}

#[tokio::test]
async fn documents_of_no_stated_audience_are_internal_and_questions_public() {
    let (mut client, _root) = start().await;
    let stream = tokio_stream::iter([put("new", "A lost card, twice lost."), put("new", "A lost card.")]);
    let response = client.put_documents(Request::new(stream)).await.unwrap().into_inner();
    assert_eq!(response.documents, 1);
    assert_eq!(ids(&mut client, proto::Audience::Unspecified).await, ["lost-card"]);
    assert_eq!(ids(&mut client, proto::Audience::Internal).await.len(), 3);
    let ids = vec!["new".to_owned(), "unknown".to_owned()];
    let deleted = client.delete_documents(proto::DeleteDocumentsRequest { ids }).await.unwrap().into_inner();
    assert_eq!(deleted.documents, 1);
    let index = client.get_index(proto::GetIndexRequest {}).await.unwrap().into_inner();
    assert_eq!((index.documents, &index.index_version), (2, &deleted.index_version));
    assert_ne!(index.index_version, response.index_version);
}
