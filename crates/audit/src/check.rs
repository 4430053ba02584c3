//! The promises, each as a comparison of what was seen with what is kept.

use std::collections::{BTreeMap, BTreeSet};

use proto::{HandoffReason, Outcome};

use crate::stores::{Kept, Stores};
use crate::{Error, Event, Finding, Scope, UNDO, rollout};

/// What is left over may wait so long before it counts as stuck, in microseconds.
const PATIENCE: i64 = 30_000_000;
/// Largest write-ahead log of SQLite, in bytes.
const MAX_LOG: u64 = 64 << 20;

pub(crate) fn all(scope: &Scope, stores: &Stores) -> Result<Vec<Finding>, Error> {
    let events = &scope.history.0;
    Ok(vec![
        outcomes(events, stores),
        unaccepted(events, stores),
        effects(scope, stores),
        approvals(scope, stores),
        rollout::rises(&stores.rollout),
        rollout::falls(&stores.rollout),
        handoffs(events, stores),
        feedback(events, stores),
        resources(scope, stores)?,
        liveness(stores),
    ])
}

pub(crate) fn finding(promise: &'static str, says: &'static str) -> Finding {
    Finding { promise, says, looked_at: 0, broken: Vec::new() }
}

impl Finding {
    /// Counts one thing looked at, and notes what is wrong with it.
    pub(crate) fn expect(&mut self, holds: bool, broken: impl FnOnce() -> String) {
        self.looked_at += 1;
        if !holds {
            self.broken.push(broken());
        }
    }
}

fn outcome(kept: &Kept) -> Option<Outcome> {
    kept.outcome.and_then(|number| Outcome::try_from(number).ok()).filter(|o| *o != Outcome::Unspecified)
}

fn name(outcome: Outcome) -> &'static str {
    outcome.as_str_name().trim_start_matches("OUTCOME_")
}

fn outcomes(events: &[Event], stores: &Stores) -> Finding {
    let mut found = finding("I1", "every accepted message has one outcome, the one its caller was told");
    for kept in &stores.turns {
        let (id, under_way) =
            (&kept.turn_id, kept.outcome.is_none() && kept.deadline + PATIENCE > stores.now);
        found.expect(under_way || outcome(kept).is_some(), || format!("turn {id} has no outcome"));
        let told = kept.outcome.is_none() || stores.recorded.contains(id) || stores.spooled.contains(id);
        found.expect(told, || format!("turn {id} is neither in telemetry nor on its way there"));
    }
    let by_request: BTreeMap<&str, &Kept> =
        stores.turns.iter().filter_map(|kept| Some((kept.request_id.as_deref()?, kept))).collect();
    for event in events {
        let Event::Turn { request_id, turn_id, outcome: told, .. } = event else { continue };
        let kept = by_request.get(request_id.as_str());
        let same = kept.is_some_and(|kept| kept.turn_id == *turn_id && outcome(kept).map(name) == Some(told));
        found.expect(same, || {
            let kept = kept.map(|kept| (&kept.turn_id, outcome(kept).map(name)));
            format!("request {request_id} was told {turn_id} {told}, the journal has {kept:?}")
        });
    }
    found
}

fn unaccepted(events: &[Event], stores: &Stores) -> Finding {
    let mut found = finding("I2", "a message that was not accepted has left nothing");
    let kept: BTreeSet<&str> = stores.turns.iter().filter_map(|kept| kept.request_id.as_deref()).collect();
    for event in events {
        let Event::Refused { request_id } = event else { continue };
        found.expect(!kept.contains(request_id.as_str()), || format!("request {request_id} has a turn"));
    }
    found
}

/// Requests at receivers by key: how many came, and how many had an effect.
fn requests(events: &[Event]) -> BTreeMap<&str, (usize, usize)> {
    let mut requests = BTreeMap::<&str, (usize, usize)>::new();
    for event in events {
        let Event::Request { key, effect } = event else { continue };
        let seen = requests.entry(key).or_default();
        *seen = (seen.0 + 1, seen.1 + usize::from(*effect));
    }
    requests
}

fn effects(scope: &Scope, stores: &Stores) -> Finding {
    let mut found = finding(
        "I3",
        "an execution has its effect at most once, and is sent twice only where that is harmless",
    );
    let requests = requests(&scope.history.0);
    for (id, execution) in &stores.executions {
        let (came, effects) = requests.get(id.as_str()).copied().unwrap_or_default();
        let (workflow, state) = (&execution.workflow, execution.state.as_str());
        found.expect(effects <= 1, || format!("{id} ({workflow}) had its effect {effects} times"));
        let again = scope.idempotent.contains(workflow);
        found.expect(again || came <= 1, || format!("{id} ({workflow}) was received {came} times"));
        let attempts = execution.attempts;
        found.expect(again || attempts <= 1, || format!("{id} ({workflow}) was sent {attempts} times"));
        if requests.is_empty() || !execution.resolved_by.is_empty() {
            continue;
        }
        let fits = match state {
            "DONE" => effects == 1,
            "FAILED" | "PROPOSED" | "AWAITING_APPROVAL" | "CANCELLED" => effects == 0,
            _ => true,
        };
        found.expect(fits, || format!("{id} ({workflow}) is {state} and had its effect {effects} times"));
    }
    found
}

fn approvals(scope: &Scope, stores: &Stores) -> Finding {
    let mut found = finding(
        "I4",
        "every effect was approved: known, confident enough, confirmed by its customer, at high risk by a person",
    );
    let turns: BTreeSet<&str> = stores.turns.iter().map(|kept| kept.turn_id.as_str()).collect();
    let requests = requests(&scope.history.0);
    for key in requests.keys().filter(|key| key.starts_with("ex_")) {
        found.expect(stores.executions.contains_key(*key), || {
            format!("{key} was received and never proposed")
        });
    }
    for (id, execution) in &stores.executions {
        if matches!(execution.state.as_str(), "PROPOSED" | "CANCELLED") {
            continue;
        }
        let (confidence, threshold) = (execution.confidence, execution.threshold);
        let sure = (threshold..=1.0).contains(&confidence);
        found.expect(sure, || format!("{id} was approved with confidence {confidence} below {threshold}"));
        if id.ends_with(UNDO) {
            let by = &execution.resolved_by;
            found.expect(!by.is_empty(), || format!("{id} undoes an effect, and nobody said so"));
            continue;
        }
        let turn = &execution.confirmed_in;
        found.expect(turns.contains(turn.as_str()), || {
            format!("{id} was confirmed in {turn:?}, which is no turn")
        });
        let (workflow, state) = (&execution.workflow, execution.state.as_str());
        let needs = scope.risky.contains(workflow) && state != "AWAITING_APPROVAL";
        found.expect(!needs || !execution.approved_by.is_empty(), || {
            format!("{id} ({workflow}) is {state}, and no person approved it")
        });
    }
    found
}

fn handoffs(events: &[Event], stores: &Stores) -> Finding {
    const RESOLVED: i32 = 3;
    let mut found = finding("I7", "no handoff is lost and none is doubled, on its way to the helpdesks too");
    let mut open = BTreeSet::new();
    for (id, queued) in &stores.handoffs {
        let known = stores.conversations.contains(&queued.conversation_id);
        found.expect(known, || format!("handoff {id} of turn {} has no conversation", queued.turn_id));
        let first = queued.state == RESOLVED || open.insert(&queued.conversation_id);
        found.expect(first, || format!("conversation {} has two open handoffs", queued.conversation_id));
    }
    for kept in stores.turns.iter().filter(|kept| outcome(kept) == Some(Outcome::Handoff)) {
        let notice = kept.turn.as_ref().and_then(|turn| turn.handoff.as_ref());
        let id = notice.map(|notice| notice.handoff_id.as_str()).unwrap_or_default();
        let reason = notice.map(|notice| notice.reason()).unwrap_or_default();
        let queued = stores.handoffs.get(id).filter(|queued| queued.conversation_id == kept.conversation_id);
        found.expect(queued.is_some() && reason != HandoffReason::Unspecified, || {
            format!("turn {} was handed over as {id:?}, which is not in the queue", kept.turn_id)
        });
    }
    deliveries(&mut found, events, stores);
    for event in events {
        let Event::Turn { turn_id, handoff_id: id, .. } = event else { continue };
        if !id.is_empty() {
            found.expect(stores.handoffs.contains_key(id), || {
                format!("turn {turn_id}: handoff {id} was told and is lost")
            });
        }
    }
    found
}

/// Each helpdesk that gets a handoff has an entry for each word of it; what is there has been sent, and had its effect
/// once.
fn deliveries(found: &mut Finding, events: &[Event], stores: &Stores) {
    const DELIVERED: i32 = 2;
    let entries: BTreeSet<(&str, &str, i64)> =
        stores.deliveries.iter().map(|one| (&*one.handoff_id, &*one.connector, one.part)).collect();
    for (id, queued) in &stores.handoffs {
        for (connector, part) in
            queued.sent_to.iter().flat_map(|to| (0..=queued.step).map(move |part| (to, part)))
        {
            found.expect(entries.contains(&(id, connector, part)), || {
                format!("handoff {id}: its word {part} to {connector} is not on its way and was not")
            });
        }
    }
    for one in &stores.deliveries {
        let (id, connector) = (&one.handoff_id, &one.connector);
        found
            .expect(one.queued, || format!("{connector} is told of handoff {id}, which is not in the queue"));
        found.expect(one.state != DELIVERED || one.attempt > 0, || {
            format!("handoff {id} is delivered to {connector} and was never sent")
        });
    }
    for (key, (_, effects)) in requests(events).into_iter().filter(|(key, _)| key.starts_with("h_")) {
        found.expect(effects <= 1, || format!("{key} had its effect at a helpdesk {effects} times"));
    }
}

fn feedback(events: &[Event], stores: &Stores) -> Finding {
    let mut found = finding("I8", "acknowledged feedback is kept");
    for event in events {
        let Event::Feedback { feedback_id: id } = event else { continue };
        let kept = stores.feedback.contains(id) || stores.feedback_spooled.contains(id);
        found.expect(kept, || format!("feedback {id} was acknowledged and is lost"));
    }
    found
}

fn resources(scope: &Scope, stores: &Stores) -> Result<Finding, Error> {
    let mut found = finding("I13", "no process panicked, no log of a store grows without end");
    for path in &scope.logs {
        let log = std::fs::read_to_string(path).map_err(|error| Error::File(path.clone(), error))?;
        let panic = log.lines().find(|line| line.contains("panicked at"));
        found.expect(panic.is_none(), || format!("{}: {}", path.display(), panic.unwrap_or_default()));
    }
    for path in &stores.files {
        let log = path.with_extension("db-wal");
        let size = std::fs::metadata(&log).map_or(0, |log| log.len());
        found.expect(size <= MAX_LOG, || format!("{} has {size} bytes", log.display()));
    }
    Ok(found)
}

fn liveness(stores: &Stores) -> Finding {
    let mut found = finding("I14", "nothing waits for longer than half a minute that could go on");
    let stuck = |since: i64| stores.now - since > PATIENCE;
    for kept in stores.turns.iter().filter(|kept| kept.outcome.is_none()) {
        found.expect(!stuck(kept.deadline), || format!("turn {} waits for its outcome", kept.turn_id));
    }
    for (id, execution) in &stores.executions {
        let sending = matches!(execution.state.as_str(), "APPROVED" | "DISPATCHING");
        found.expect(!(sending && stuck(execution.lease)), || {
            format!("{id} is {} by nobody", execution.state)
        });
        let untold = execution.untold.is_some_and(|since| stuck(since * 1000));
        found.expect(!untold, || format!("{id} has ended and its conversation was not told"));
    }
    let waiting = stores.waiting_since.iter().filter(|since| stuck(**since)).count();
    found.expect(waiting == 0, || format!("{waiting} entries wait for telemetry"));
    found
}
