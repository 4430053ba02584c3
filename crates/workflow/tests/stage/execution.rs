//! Executions against a receiver that checks every signature and counts what reaches it.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, Uri};
use axum::response::{IntoResponse, Response};
use proto::{CancelRequest, ExecutionState, ListExecutionsRequest, ResolveUnknownRequest, Verdict};
use standardwebhooks::Webhook;
use tokio::net::TcpListener;
use tokio::sync::Notify;

use super::support::{self, Desk, SECRET};

/// What the receiver does with the next request; when nothing is planned it answers 200 with a reference.
#[derive(Clone, Copy)]
pub(crate) enum Act {
    Status(u16),
    Redirect(u16),
    Long,
    Broken,
    /// 200 with this body.
    Body(&'static str),
    /// Answers when released.
    Hold,
}

/// A request that reached the receiver.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Seen {
    pub(crate) method: Method,
    /// With the query.
    pub(crate) path: String,
    pub(crate) key: String,
    /// The header that workflows of the tests set.
    pub(crate) channel: Option<String>,
    pub(crate) body: serde_json::Value,
}

#[derive(Clone)]
pub(crate) struct Receiver {
    address: SocketAddr,
    plan: Arc<Mutex<VecDeque<Act>>>,
    seen: Arc<Mutex<Vec<Seen>>>,
    pub(crate) arrived: Arc<Notify>,
    pub(crate) release: Arc<Notify>,
}

impl Receiver {
    /// Lives in its own runtime, because it outlives the stage in tests of restarts.
    pub(crate) fn start(plan: &[Act]) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let receiver = Self {
            address: listener.local_addr().unwrap(),
            plan: Arc::new(Mutex::new(plan.iter().copied().collect())),
            seen: Arc::default(),
            arrived: Arc::default(),
            release: Arc::default(),
        };
        let router = Router::new().fallback(receive).with_state(receiver.clone());
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                axum::serve(TcpListener::from_std(listener).unwrap(), router).await.unwrap()
            });
        });
        receiver
    }

    pub(crate) fn settings(&self) -> String {
        settings(self.address)
    }

    /// The same with bodies as CloudEvents.
    fn event_settings(&self) -> String {
        self.settings().replace("secret =", "format = \"cloudevents\", secret =")
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

fn settings(address: SocketAddr) -> String {
    let target = format!("targets.bank = {{ url = \"http://{address}\", secret = \"{SECRET}\" }}");
    format!("retry_base_ms = 1\nconnect_timeout_ms = 200\n{target}")
}

async fn receive(
    State(receiver): State<Receiver>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    Webhook::new(SECRET).unwrap().verify(&body, &headers).unwrap();
    let header = |name: &str| headers[name].to_str().unwrap().to_owned();
    assert_eq!(header("idempotency-key"), header("webhook-id"));
    assert!(["application/json", "application/cloudevents+json"].contains(&header("content-type").as_str()));
    let seen = Seen {
        method,
        path: uri.to_string(),
        channel: headers.get("x-channel").map(|value| value.to_str().unwrap().to_owned()),
        key: header("idempotency-key"),
        body: serde_json::from_slice(&body).unwrap(),
    };
    receiver.seen.lock().unwrap().push(seen);
    let act = receiver.plan.lock().unwrap().pop_front();
    receiver.arrived.notify_one();
    let reference = axum::Json(serde_json::json!({ "reference": "R-1" }));
    let status = |code: u16| axum::http::StatusCode::from_u16(code).unwrap();
    match act {
        None => reference.into_response(),
        Some(Act::Status(code)) => status(code).into_response(),
        Some(Act::Redirect(code)) => (status(code), [("location", "/elsewhere")]).into_response(),
        Some(Act::Long) => {
            format!("{{\"reference\":\"R\",\"x\":\"{}\"}}", "x".repeat(65 * 1024)).into_response()
        }
        Some(Act::Body(body)) => body.into_response(),
        Some(Act::Broken) => "{\"reference\":".into_response(),
        Some(Act::Hold) => {
            receiver.release.notified().await;
            reference.into_response()
        }
    }
}

/// Brings a conversation to the confirmation and returns the execution: idempotent for a lost card,
/// non-idempotent for a move of money.
pub(crate) async fn propose(desk: &Desk, conversation: &str, idempotent: bool) -> String {
    desk.talk(conversation);
    let proposed = if idempotent {
        desk.say("I lost card 5678", "lost_card").await
    } else {
        desk.say("move money", "move").await;
        desk.say("1111", "").await;
        desk.say("2222", "").await
    };
    let status = proposed.status.unwrap();
    assert!(status.awaiting_confirmation, "{}", proposed.message);
    status.execution_id
}

/// Changes a row behind the back of the stage.
pub(crate) fn tamper(dir: &Path, change: &str) {
    scratch::tamper(&dir.join("data"), "workflow", change);
}

#[tokio::test]
async fn a_confirmed_request_arrives_once_signed_and_its_reference_is_told() {
    let (dir, receiver) = (support::bundle(), Receiver::start(&[]));
    let desk = Desk::open(dir.path(), &receiver.settings()).await;
    let id = propose(&desk, "c", true).await;
    let (first, second) = tokio::join!(desk.confirm(&id), desk.confirm(&id));
    let state = first.status.as_ref().unwrap().state();
    assert!(matches!(state, ExecutionState::Done | ExecutionState::Approved | ExecutionState::Dispatching));
    assert!(second.status.unwrap().error.is_empty());
    let again = desk.confirm(&id).await;
    let done = desk.get(&id).await;
    assert_eq!(done.status.as_ref().unwrap().state(), ExecutionState::Done);
    assert_eq!((again.message.as_str(), done.attempts), ("Blocked 5678, R-1.", 1));
    assert_eq!((done.reference.as_str(), done.confidence, done.threshold), ("R-1", 0.9, 0.6));
    let body = serde_json::json!({ "last4": "5678", "why": ["lost"] });
    let wanted = Seen { method: Method::POST, path: "/cards/block".to_owned(), key: id, channel: None, body };
    assert_eq!(receiver.seen(), [wanted]);
}

/// What the receiver does, idempotent or not, and what follows: state, error, requests.
const ANSWERS: &[(&[Act], bool, ExecutionState, &str, usize)] = &[
    (&[Act::Status(500)], true, ExecutionState::Done, "", 2),
    (&[Act::Status(429), Act::Status(409)], true, ExecutionState::Done, "", 3),
    (&[Act::Hold], true, ExecutionState::Done, "", 2),
    (&[Act::Status(500), Act::Status(503), Act::Status(500)], true, ExecutionState::Unknown, "HTTP_500", 3),
    (&[Act::Status(500), Act::Status(401)], true, ExecutionState::Unknown, "HTTP_401", 2),
    (&[Act::Status(429), Act::Status(429), Act::Status(429)], true, ExecutionState::Failed, "HTTP_429", 3),
    (&[Act::Status(422)], true, ExecutionState::Failed, "HTTP_422", 1),
    (&[Act::Redirect(307)], true, ExecutionState::Failed, "HTTP_307", 1),
    (&[Act::Long], true, ExecutionState::Done, "", 1),
    (&[Act::Broken], false, ExecutionState::Done, "", 1),
    (&[Act::Status(204)], false, ExecutionState::Done, "", 1),
    (&[Act::Status(500)], false, ExecutionState::Unknown, "HTTP_500", 1),
    (&[Act::Hold], false, ExecutionState::Unknown, "TIMEOUT", 1),
    (&[Act::Redirect(303)], false, ExecutionState::Unknown, "HTTP_303", 1),
    (&[Act::Status(404)], false, ExecutionState::Failed, "HTTP_404", 1),
    (&[Act::Status(429)], false, ExecutionState::Failed, "HTTP_429", 1),
];

#[tokio::test]
async fn every_answer_leads_to_the_state_it_proves() {
    for (index, (plan, idempotent, state, error, requests)) in ANSWERS.iter().enumerate() {
        let (dir, receiver) = (support::bundle(), Receiver::start(plan));
        let desk = Desk::open(dir.path(), &receiver.settings()).await;
        let id = propose(&desk, "c", *idempotent).await;
        let status = desk.confirm(&id).await.status.unwrap();
        assert_eq!((status.state(), status.error.as_str()), (*state, *error), "case {index}");
        let seen = receiver.seen();
        assert_eq!(seen.len(), *requests, "case {index}");
        assert!(seen.iter().all(|seen| seen.key == id && seen.path != "/elsewhere"), "case {index}");
        let reference = desk.get(&id).await.reference;
        let told = plan.len() < *requests;
        let wanted = if *state != ExecutionState::Done {
            ""
        } else if told {
            "R-1"
        } else {
            &id
        };
        assert_eq!(reference, wanted, "case {index}");
    }
}

#[tokio::test]
async fn nobody_there_is_a_failure_and_a_lost_connection_is_unknown() {
    let dir = support::bundle();
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let desk = Desk::open(dir.path(), &settings(free)).await;
    let id = propose(&desk, "c", false).await;
    let status = desk.confirm(&id).await.status.unwrap();
    assert_eq!((status.state(), status.error.as_str()), (ExecutionState::Failed, "UNREACHABLE"));

    let (dir, rude) = (support::bundle(), TcpListener::bind("127.0.0.1:0").await.unwrap());
    let desk = Desk::open(dir.path(), &settings(rude.local_addr().unwrap())).await;
    let id = propose(&desk, "c", false).await;
    let hang_up = async {
        let mut caller = rude.accept().await.unwrap().0;
        tokio::io::AsyncReadExt::read(&mut caller, &mut [0; 64]).await.unwrap();
    };
    let (confirmed, ()) = tokio::join!(desk.confirm(&id), hang_up);
    let status = confirmed.status.unwrap();
    assert_eq!((status.state(), status.error.as_str()), (ExecutionState::Unknown, "CONNECTION_LOST"));
    assert_eq!(desk.get(&id).await.attempts, 1);
}

#[tokio::test]
async fn an_execution_outlives_the_call_that_confirmed_it() {
    for expire in [false, true] {
        let (dir, receiver) = (support::bundle(), Receiver::start(&[Act::Hold]));
        let desk = Desk::open(dir.path(), &receiver.settings()).await;
        let id = propose(&desk, "c", false).await;
        if expire {
            let call = kit::Call::root().within(std::time::Duration::from_millis(250));
            let status = call.scope(desk.confirm(&id)).await.status.unwrap();
            assert_eq!(status.state(), ExecutionState::Dispatching);
        } else {
            tokio::select! {
                _ = desk.confirm(&id) => panic!("the receiver has not answered"),
                () = receiver.arrived.notified() => (),
            }
        }
        receiver.release.notify_one();
        desk.context.shutdown.cancel();
        desk.context.tasks.close();
        desk.context.tasks.wait().await;
        assert_eq!(desk.get(&id).await.status.unwrap().state(), ExecutionState::Done);
        assert_eq!(receiver.seen().len(), 1);
    }
}

#[tokio::test]
async fn the_gate_says_which_condition_failed() {
    let (dir, receiver) = (support::bundle(), Receiver::start(&[]));
    let desk = Desk::open(dir.path(), &receiver.settings()).await;
    let refused = async |conversation: &str, verdict: Option<Verdict>| {
        let id = propose(&desk, conversation, true).await;
        let status = desk.confirm_with(&id, verdict).await.status.unwrap();
        (status.state(), status.error)
    };
    let cancelled = |reason: &str| (ExecutionState::Cancelled, reason.to_owned());
    assert_eq!(refused("1", None).await, cancelled("SAFETY_UNAVAILABLE"));
    let verdict = |action, status| Some(Verdict { action, status, ..Verdict::default() });
    assert_eq!(refused("2", verdict(1, 3)).await, cancelled("SAFETY_UNAVAILABLE"));
    assert_eq!(refused("3", verdict(2, 1)).await, cancelled("SAFETY_REFUSED"));
    assert_eq!(refused("4", verdict(0, 1)).await, cancelled("SAFETY_REFUSED"));

    desk.talk("5");
    let open = desk.say("card lost", "lost_card").await.status.unwrap();
    let status = desk.confirm(&open.execution_id).await.status.unwrap();
    assert_eq!(
        (status.state(), status.error.as_str()),
        (ExecutionState::Proposed, "NOT_AWAITING_CONFIRMATION")
    );
    assert!(desk.say("5678", "").await.handled, "the dialogue goes on");
    desk.client.clone().cancel(CancelRequest { execution_id: open.execution_id.clone() }).await.unwrap();
    assert_eq!(desk.confirm(&open.execution_id).await.status.unwrap().error, "NOT_OPEN");

    let id = propose(&desk, "6", true).await;
    let other = r#"UPDATE execution SET workflow = 'cancel_order', progress = '{"slots":{"order":"HB-123456"}}' WHERE conversation_id = '6'"#;
    tamper(dir.path(), other);
    let status = desk.confirm(&id).await.status.unwrap();
    assert_eq!((status.state(), status.error.as_str()), (ExecutionState::Cancelled, "TARGET_NOT_CONFIGURED"));

    let id = propose(&desk, "7", true).await;
    tamper(dir.path(), "UPDATE execution SET confidence = 0.59 WHERE conversation_id = '7'");
    assert_eq!(desk.confirm(&id).await.status.unwrap().error, "CONFIDENCE_TOO_LOW");
    let id = propose(&desk, "8", true).await;
    tamper(
        dir.path(),
        "UPDATE execution SET progress = replace(progress, '5678', '56789') WHERE conversation_id = '8'",
    );
    assert_eq!(desk.confirm(&id).await.status.unwrap().error, "SLOT_INVALID");
    let id = propose(&desk, "9", true).await;
    tamper(dir.path(), "UPDATE execution SET updated_at = 0 WHERE conversation_id = '9'");
    assert_eq!(desk.confirm(&id).await.status.unwrap().error, "EXPIRED");
    propose(&desk, "10", true).await;
    tamper(dir.path(), "UPDATE execution SET updated_at = 0 WHERE conversation_id = '10'");
    assert!(!desk.say("yes", "").await.handled, "nobody remembers the question");
    assert_eq!(receiver.seen(), []);
}

/// Runs the stage in a runtime of its own and kills it while the receiver holds the request.
fn crash_while_sending(dir: &Path, receiver: &Receiver, idempotent: bool) -> String {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let id = runtime.block_on(async {
        let desk = Desk::open(dir, &receiver.event_settings()).await;
        let id = propose(&desk, "c", idempotent).await;
        tokio::select! {
            _ = desk.confirm(&id) => panic!("the receiver has not answered"),
            () = receiver.arrived.notified() => id,
        }
    });
    drop(runtime);
    id
}

#[test]
fn a_restart_repeats_what_may_be_repeated_and_nothing_else() {
    let restarted = |idempotent: bool, change: &str| {
        let (dir, receiver) = (support::bundle(), Receiver::start(&[Act::Hold]));
        let id = crash_while_sending(dir.path(), &receiver, idempotent);
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let execution = runtime.block_on(async {
            // Where others share the store, a process counts as dead when its lease is over.
            tamper(dir.path(), &format!("UPDATE execution SET lease = 0{change}"));
            let desk = Desk::open(dir.path(), &receiver.event_settings()).await;
            desk.context.shutdown.cancel();
            desk.context.tasks.close();
            desk.context.tasks.wait().await;
            desk.get(&id).await
        });
        let seen = receiver.seen();
        assert!(seen.iter().all(|again| again.key == id && again.body == seen[0].body), "{seen:?}");
        let kind = if idempotent {
            "dev.firstline.workflow.block_card"
        } else {
            "dev.firstline.workflow.move_money"
        };
        assert_eq!((&seen[0].body["type"], &seen[0].body["id"]), (&kind.into(), &id.as_str().into()));
        let status = execution.status.unwrap();
        (status.state(), status.error, seen.len())
    };
    let (done, unknown) = (ExecutionState::Done, (ExecutionState::Unknown, "INTERRUPTED".to_owned(), 1));
    assert_eq!(restarted(false, ""), unknown);
    assert_eq!(restarted(true, ""), (done, String::new(), 2));
    let old = r#", delivery = replace(delivery, '"approved_at":"20', '"approved_at":"10')"#;
    assert_eq!(restarted(true, old), unknown);
    let approved = ", state = 'APPROVED', attempts = 0";
    assert_eq!(restarted(false, approved), (done, String::new(), 2));
    let late = restarted(false, &format!("{old}{approved}"));
    assert_eq!(late, (ExecutionState::Failed, "EXPIRED".to_owned(), 1));
}

#[tokio::test]
async fn only_a_person_resolves_an_unknown_effect() {
    let (dir, receiver) = (support::bundle(), Receiver::start(&[Act::Status(500)]));
    let desk = Desk::open(dir.path(), &receiver.settings()).await;
    let id = propose(&desk, "c", false).await;
    desk.confirm(&id).await;
    let list =
        ListExecutionsRequest { state: ExecutionState::Unknown.into(), ..ListExecutionsRequest::default() };
    let listed = desk.client.clone().list_executions(list).await.unwrap().into_inner().executions;
    assert_eq!(
        listed.iter().map(|found| found.status.as_ref().unwrap().execution_id.as_str()).collect::<Vec<_>>(),
        [&id]
    );
    let resolve = async |actor: &str, happened| {
        let (actor, note) = (actor.to_owned(), "called the bank".to_owned());
        let request = ResolveUnknownRequest { execution_id: id.clone(), happened, actor, note };
        desk.client
            .clone()
            .resolve_unknown(request)
            .await
            .map(|response| response.into_inner().execution.unwrap())
    };
    assert_eq!(resolve("", true).await.unwrap_err().code(), tonic::Code::InvalidArgument);
    let resolved = resolve("ann", true).await.unwrap();
    assert_eq!(resolved.status.as_ref().unwrap().state(), ExecutionState::Done);
    assert_eq!((resolved.resolved_by.as_str(), resolved.note.as_str()), ("ann", "called the bank"));
    assert_eq!(resolve("ann", true).await.unwrap(), resolved);
    assert_eq!(resolve("bob", false).await.unwrap_err().code(), tonic::Code::FailedPrecondition);
    assert_eq!(receiver.seen().len(), 1);
}
