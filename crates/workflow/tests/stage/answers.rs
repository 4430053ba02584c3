//! What is sent besides a body, what an answer means, and how an effect is undone.

use proto::{CompensateRequest, CompensateResponse, ExecutionState};
use tonic::{Code, Status};

use super::execution::{Act, Receiver};
use super::support::{self, Desk};

const BOOK: &str = r#"
name = "book"
title = "Book"
intents = ["book"]
risk = "medium"
effect = "idempotent"
threshold = 0.5
confirmation = "Book {{ room }}?"
done = "Booked {{ room }} at {{ response.price }}{{ response.gone }}, {{ reference }}."
retry = { max_attempts = 2, base_ms = 1, max_ms = 2 }
[request]
method = "PUT"
target = "bank"
path = "/rooms/{room}/nights/{day}"
headers = { X-Channel = "chat" }
query = { note = "{{ note }}", "a b" = "1+1" }
unquoted = ["price"]
body = { price = "{{ price }}", shown = "{{ price }} GBP", deep = [{ price = "{{price}}" }] }
[response]
reference = "/data/id"
success = "body.state != 'full'"
values = { price = "/data/price", gone = "/gone" }
messages = { "404" = "There is no {{ room }}.", failed = "{{ room }} is full." }
[compensation]
confirmation = "Give {{ room }} back, {{ reference }}, {{ response.price }}?"
request = { method = "DELETE", target = "bank", path = "/bookings/{reference}", query = { day = "{{ day }}" } }
[[slot]]
name = "room"
type = "pattern"
pattern = "[a-z.%/0-9]{2,9}"
prompt = "Which room?"
[[slot]]
name = "day"
type = "date"
prompt = "Which day?"
[[slot]]
name = "price"
type = "amount"
currency = "GBP"
prompt = "At most?"
[[slot]]
name = "note"
type = "text"
prompt = "A note?"
optional = true
"#;

async fn propose(desk: &Desk, conversation: &str, room: &str, note: &str) -> String {
    desk.talk(conversation);
    desk.say("BOOK", "book").await;
    desk.say(room, "").await;
    desk.say("12 March 2026", "").await;
    desk.say("£20", "").await;
    let proposed = desk.say(note, "").await;
    let status = proposed.status.unwrap();
    assert!(status.awaiting_confirmation, "{}", proposed.message);
    status.execution_id
}

#[tokio::test]
async fn a_value_stays_one_segment_and_one_part_of_the_query_and_a_number_only_where_it_may() {
    let done = r#"{"state": "ok", "data": {"id": 17, "price": 12.5}}"#;
    let (dir, receiver) = (support::bundle_with(BOOK), Receiver::start(&[Act::Body(done), Act::Body(done)]));
    let desk = Desk::open(dir.path(), &receiver.settings()).await;
    let id = propose(&desk, "c", "a/..%2f", "x&y=z #1").await;
    assert_eq!(desk.confirm(&id).await.message, "Booked a/..%2f at 12.5, 17.");
    let id = propose(&desk, "d", "red1", "no").await;
    let told = desk.confirm(&id).await;
    assert_eq!(desk.confirm(&id).await, told, "told again from what is stored");
    let seen = receiver.seen();
    let paths: Vec<&str> = seen.iter().map(|seen| seen.path.as_str()).collect();
    let first = "/rooms/a%2F..%252f/nights/2026-03-12?a%20b=1%2B1&note=x%26y%3Dz%20%231";
    assert_eq!(paths, [first, "/rooms/red1/nights/2026-03-12?a%20b=1%2B1"]);
    assert_eq!(seen[0].channel.as_deref(), Some("chat"));
    let body = serde_json::json!({ "price": 20.0, "shown": "20.00 GBP", "deep": [{ "price": 20.0 }] });
    assert_eq!(seen[0].body, body);
    // A segment of dots would be no segment of its own.
    let id = propose(&desk, "e", "..", "no").await;
    assert_eq!(desk.confirm(&id).await.status.unwrap().error, "SLOT_INVALID");
    assert_eq!(receiver.seen().len(), 2);
}

#[tokio::test]
async fn a_refusal_the_bundle_has_words_for_is_told_in_them() {
    for (plan, state, error, message, explained) in [
        (&[Act::Status(404)][..], ExecutionState::Failed, "HTTP_404", "There is no red1.", true),
        (
            &[Act::Body(r#"{"state": "full"}"#)],
            ExecutionState::Failed,
            "RESPONSE_FAILED",
            "red1 is full.",
            true,
        ),
        (
            &[Act::Status(422)],
            ExecutionState::Failed,
            "HTTP_422",
            "I am sorry, this did not work. Nothing was changed.",
            false,
        ),
        // Once nobody knows, a refusal proves nothing, and neither do two answers without a state.
        (
            &[Act::Status(500), Act::Status(404)],
            ExecutionState::Unknown,
            "HTTP_404",
            "I cannot tell whether this went through. A colleague will check and tell you.",
            false,
        ),
        (
            &[Act::Broken, Act::Broken],
            ExecutionState::Unknown,
            "RESPONSE_UNCLEAR",
            "I cannot tell whether this went through. A colleague will check and tell you.",
            false,
        ),
    ] {
        let (dir, receiver) = (support::bundle_with(BOOK), Receiver::start(plan));
        let desk = Desk::open(dir.path(), &receiver.settings()).await;
        let id = propose(&desk, "c", "red1", "no").await;
        let told = desk.confirm(&id).await;
        let status = told.status.clone().unwrap();
        assert_eq!((status.state(), status.error.as_str()), (state, error));
        assert_eq!((told.message.as_str(), told.explained), (message, explained));
        assert_eq!(desk.confirm(&id).await, told);
        assert_eq!(receiver.seen().len(), plan.len());
    }
}

async fn undo(desk: &Desk, id: &str, confirmed: bool) -> Result<CompensateResponse, Status> {
    let (actor, note) = ("ann".to_owned(), "booked by mistake".to_owned());
    let request = CompensateRequest { execution_id: id.to_owned(), actor, note, confirmed };
    Ok(desk.client.clone().compensate(request).await?.into_inner())
}

#[tokio::test]
async fn an_effect_is_undone_once_by_a_person_who_agreed() {
    let done = r#"{"state": "ok", "data": {"id": "R/1", "price": "9"}}"#;
    let (dir, receiver) = (support::bundle_with(BOOK), Receiver::start(&[Act::Body(done)]));
    let desk = Desk::open(dir.path(), &receiver.settings()).await;
    let id = propose(&desk, "c", "red1", "no").await;
    let refused = undo(&desk, &id, true).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "not done yet");
    desk.confirm(&id).await;
    let asked = undo(&desk, &id, false).await.unwrap();
    assert_eq!(asked.message, "Give red1 back, R/1, 9?");
    assert_eq!(receiver.seen().len(), 1, "asking does nothing");
    let (first, second) = tokio::join!(undo(&desk, &id, true), undo(&desk, &id, true));
    assert_eq!([first.err(), second.err()].map(|error| error.map(|status| status.to_string())), [None, None]);
    let undone = desk.get(&format!("{id}/undo")).await;
    assert_eq!(undone.status.as_ref().unwrap().state(), ExecutionState::Done);
    assert_eq!((undone.resolved_by.as_str(), undone.note.as_str()), ("ann", "booked by mistake"));
    let again = undo(&desk, &id, false).await.unwrap();
    assert_eq!((again.execution, again.message.as_str()), (Some(undone), "Done. Your reference is R-1."));
    let seen = receiver.seen();
    assert_eq!(seen.len(), 2);
    assert_eq!(
        (seen[1].path.as_str(), seen[1].key.as_str()),
        ("/bookings/R%2F1?day=2026-03-12", &*format!("{id}/undo"))
    );
    assert_eq!(desk.get(&id).await.status.unwrap().state(), ExecutionState::Done, "what was done was done");

    // What was masked at the end is not there to be undone with, and what has no [compensation] stays.
    let masked = BOOK.replace(
        "type = \"pattern\"\npattern = \"[a-z.%/0-9]{2,9}\"",
        "type = \"order_id\"\npattern = \"[0-9]{16}\"",
    );
    let masked = masked.replace("/bookings/{reference}", "/bookings/{room}");
    let (dir, receiver) = (support::bundle_with(&masked), Receiver::start(&[Act::Body(done)]));
    let desk = Desk::open(dir.path(), &receiver.settings()).await;
    let id = propose(&desk, "c", "4111111111111111", "no").await;
    desk.confirm(&id).await;
    let refused = undo(&desk, &id, true).await.unwrap_err();
    assert!(refused.message().contains("was masked"), "{refused}");
    let id = super::execution::propose(&desk, "d", true).await;
    desk.confirm(&id).await;
    let refused = undo(&desk, &id, true).await.unwrap_err();
    assert!(refused.message().contains("has no [compensation]"), "{refused}");
}
