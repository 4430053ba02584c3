//! Workflows that call a method of gRPC, against a server that checks every signature.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use prost::Message as _;
use proto::classifier_service_server::{ClassifierService, ClassifierServiceServer};
use proto::{
    ClassifyRequest, ClassifyResponse, ExecutionState, Intent, ListIntentsRequest, ListIntentsResponse, Risk,
};
use standardwebhooks::Webhook;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Code, Request, Response, Status};

use super::support::{self, Desk, SECRET};

const SORT: &str = r#"
name = "sort"
title = "Sort a parcel"
intents = ["sort"]
risk = "low"
effect = "idempotent"
threshold = 0.5
confirmation = "Sort {{ parcel }} with {{ count }} others?"
done = "{{ parcel }} is {{ response.risk }}, {{ reference }}."
retry = { max_attempts = 2 }
[request]
target = "core"
grpc = "firstline.v1.ClassifierService/Classify"
timeout_ms = 700
headers = { X-Channel = "chat" }
body = { text = "parcel {{ parcel }}", alternatives = "{{ count }}" }
unquoted = ["count"]
[response]
reference = "/intent/modelVersion"
success = "status == 0 && body.intent.language == ''"
values = { risk = "/intent/risk" }
messages = { NOT_FOUND = "There is no {{ parcel }}.", failed = "It speaks." }
[[slot]]
name = "parcel"
type = "pattern"
pattern = "[A-Z]{4}"
prompt = "Which?"
[[slot]]
name = "count"
type = "choice"
choices = [{ value = "3", words = ["three"] }, { value = "4", words = ["four"] }]
prompt = "How many?"
"#;

/// What the server answers, in order.
type Plan = Vec<Result<Intent, Code>>;

#[derive(Clone, Default)]
struct Core {
    plan: Arc<Mutex<VecDeque<Result<Intent, Code>>>>,
    seen: Arc<Mutex<Vec<(String, ClassifyRequest)>>>,
}

#[tonic::async_trait]
impl ClassifierService for Core {
    async fn classify(
        &self,
        request: Request<ClassifyRequest>,
    ) -> Result<Response<ClassifyResponse>, Status> {
        let (metadata, _, message) = request.into_parts();
        let headers = metadata.into_headers();
        Webhook::new(SECRET).unwrap().verify(&message.encode_to_vec(), &headers).unwrap();
        let header = |name: &str| headers[name].to_str().unwrap().to_owned();
        assert_eq!(header("idempotency-key"), header("webhook-id"));
        assert_eq!((header("grpc-timeout").as_str(), header("x-channel").as_str()), ("700m", "chat"));
        self.seen.lock().unwrap().push((header("webhook-id"), message));
        match self.plan.lock().unwrap().pop_front().unwrap() {
            Ok(intent) => Ok(Response::new(ClassifyResponse { intent: Some(intent), embedding: None })),
            Err(code) => Err(Status::new(code, "as planned")),
        }
    }

    async fn list_intents(
        &self,
        _: Request<ListIntentsRequest>,
    ) -> Result<Response<ListIntentsResponse>, Status> {
        Err(Status::unimplemented("not asked for"))
    }
}

fn bundle(workflow: &str) -> tempfile::TempDir {
    let dir = support::bundle_with(workflow);
    std::fs::create_dir(dir.path().join("workflows/descriptors")).unwrap();
    std::fs::write(dir.path().join("workflows/descriptors/core.binpb"), proto::DESCRIPTORS).unwrap();
    dir
}

fn settings(address: std::net::SocketAddr) -> String {
    format!(
        "retry_base_ms = 1\nconnect_timeout_ms = 300\ntargets.core = {{ url = \"http://{address}\", secret = \"{SECRET}\" }}\n"
    )
}

async fn sorted(desk: &Desk, conversation: &str) -> (ExecutionState, String, String, u32) {
    desk.talk(conversation);
    let id = desk.say("sort ABCD with three", "sort").await.status.unwrap().execution_id;
    let told = desk.confirm(&id).await.message;
    let execution = desk.get(&id).await;
    let status = execution.status.unwrap();
    (status.state(), status.error, told, execution.attempts)
}

#[tokio::test]
async fn a_method_is_called_with_the_message_and_its_status_says_what_happened() {
    let (core, listener) = (Core::default(), TcpListener::bind("127.0.0.1:0").await.unwrap());
    let address = listener.local_addr().unwrap();
    let server = tonic::transport::Server::builder().add_service(ClassifierServiceServer::new(core.clone()));
    let mut serving = JoinSet::new();
    serving.spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    let dir = bundle(SORT);
    let desk = Desk::open(dir.path(), &settings(address)).await;
    let fine = || Intent { model_version: "R-7".into(), risk: Risk::High.into(), ..Intent::default() };
    let foreign = || Intent { language: "fr".into(), ..fine() };
    let (done, failed, unknown) = (ExecutionState::Done, ExecutionState::Failed, ExecutionState::Unknown);
    let plans: [(Plan, ExecutionState, &str, &str); 7] = [
        (vec![Ok(fine())], done, "", "ABCD is RISK_HIGH, R-7."),
        (vec![Ok(foreign())], failed, "RESPONSE_FAILED", "It speaks."),
        (vec![Err(Code::NotFound)], failed, "GRPC_NOT_FOUND", "There is no ABCD."),
        (vec![Err(Code::Aborted), Ok(fine())], done, "", "ABCD is RISK_HIGH, R-7."),
        (vec![Err(Code::Aborted), Err(Code::ResourceExhausted)], failed, "GRPC_RESOURCE_EXHAUSTED", ""),
        (vec![Err(Code::Internal), Err(Code::NotFound)], unknown, "GRPC_NOT_FOUND", ""),
        (vec![Err(Code::Unavailable), Ok(fine())], done, "", "ABCD is RISK_HIGH, R-7."),
    ];
    for (index, (plan, state, error, told)) in plans.into_iter().enumerate() {
        core.plan.lock().unwrap().extend(plan.iter().cloned());
        let (is, why, said, attempts) = sorted(&desk, &format!("c{index}")).await;
        assert_eq!((is, why.as_str(), attempts as usize), (state, error, plan.len()), "{said}");
        assert!(said.contains(told), "{said}");
    }
    let seen = core.seen.lock().unwrap().clone();
    assert_eq!(seen[0].1, ClassifyRequest { text: "parcel ABCD".into(), alternatives: 3 });
    assert_eq!((seen.len(), &seen[3]), (11, &seen[4]), "the same key and message again");

    serving.shutdown().await;
    let (is, why, _, attempts) = sorted(&desk, "gone").await;
    assert_eq!((is, why.as_str(), attempts), (failed, "UNREACHABLE", 2));
}

#[test]
fn a_method_that_cannot_be_called_is_refused_with_its_place() {
    let check = |from: &str, to: &str| {
        let dir = bundle(&SORT.replace(from, to));
        workflow::check(&bundle::Reader::open(dir.path()).unwrap()).map_err(|error| error.to_string())
    };
    assert_eq!(check("x", "x"), Ok(()));
    for (from, to, expected) in [
        ("Classify\"", "Sort\"", "grpc is \"/firstline.v1.ClassifierService/Sort\", allowed a method"),
        ("ClassifierService/Classify", "GeneratorService/Generate", "is a method with streams"),
        ("text = ", "txt = ", "is no firstline.v1.ClassifyRequest with values such as"),
        ("value = \"4\"", "value = \"-4\"", "is no firstline.v1.ClassifyRequest with values such as"),
        ("NOT_FOUND", "INTERNAL", "response.messages.INTERNAL"),
        ("target = \"core\"", "target = \"bank\"", "workflows/descriptors/bank.binpb"),
        ("grpc = ", "path = \"/x\"\ngrpc = ", "has grpc beside method, path or query"),
        ("ClassifierService/Classify", "ClassifierService", "allowed package.Service/Method"),
    ] {
        let refused = check(from, to).unwrap_err();
        assert!(refused.contains(expected) && refused.contains("workflows/more.toml:"), "{refused}");
    }
    let dir = bundle(SORT);
    std::fs::write(dir.path().join("workflows/descriptors/core.binpb"), "no descriptors").unwrap();
    let refused = workflow::check(&bundle::Reader::open(dir.path()).unwrap()).unwrap_err().to_string();
    assert!(refused.starts_with("workflows/descriptors/core.binpb: "), "{refused}");
}
