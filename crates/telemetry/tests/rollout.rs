//! The controller over its contract and on its store: which customers count, which events, and that everything is read
//! once.
#![expect(clippy::unwrap_used, reason = "a test that fails panics")]

use std::time::{Duration, Instant};

use kit::Link;
use prost_types::Timestamp;
use proto::rollout_service_client::RolloutServiceClient;
use proto::telemetry_service_client::TelemetryServiceClient;
use proto::*;
use telemetry::Config;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

/// Longest time until the controller has seen what it has to.
const PATIENCE: Duration = Duration::from_secs(20);
pub(crate) const PLAN: &str = r#"
[rollout]
id = "r"
categories = ["cards"]
interval_s = 1
min_customers = 1000
[[stage]]
name = "p50"
share = 0.5
[[guard]]
metric = "escalation_unplanned"
window_s = 2
[[guard]]
metric = "dissatisfied"
window_s = 2
[[guard]]
metric = "latency_over_sla"
sla_ms = 1000
window_s = 1
[[guard]]
metric = "ungrounded_delivered"
window_s = 3
"#;

pub(crate) fn context(dir: &tempfile::TempDir) -> kit::Context {
    let mut context = kit::Context::default();
    context.server.data_dir = dir.path().to_owned();
    context.server.database.url = scratch::chosen(dir.path()).map(Into::into);
    context
}

pub(crate) struct Stage {
    telemetry: TelemetryServiceClient<Link>,
    rollout: RolloutServiceClient<Link>,
    context: kit::Context,
}

impl Stage {
    pub(crate) async fn open(context: kit::Context) -> Self {
        let config = Config { rollout_grace_ms: 0, ..Config::default() };
        let stage = telemetry::service(config, context.clone()).await.unwrap();
        let link = Link::local(&stage);
        let rollout = RolloutServiceClient::new(link.clone());
        Self { telemetry: TelemetryServiceClient::new(link), rollout, context }
    }

    pub(crate) async fn apply(&mut self, plan: &str) -> Result<Rollout, Status> {
        let (rollout_toml, by) = (plan.to_owned(), "anna".to_owned());
        let done =
            self.rollout.apply_rollout(ApplyRolloutRequest { rollout_toml, by, dry_run: false }).await?;
        Ok(done.into_inner().rollout.unwrap())
    }

    pub(crate) async fn record(&mut self, records: Vec<TurnRecord>) {
        self.telemetry.record(RecordRequest { records }).await.unwrap();
    }

    async fn rate(&mut self, conversation: &str, rating: u32) {
        let (feedback_id, conversation_id) = (format!("f-{conversation}-{rating}"), conversation.to_owned());
        let feedback = Some(Feedback { feedback_id, conversation_id, rating, ..Feedback::default() });
        let request = TelemetryServiceSubmitFeedbackRequest { feedback };
        self.telemetry.submit_feedback(request).await.unwrap();
    }

    async fn now(&mut self) -> Rollout {
        let found = self.rollout.get_rollout(GetRolloutRequest {}).await.unwrap();
        found.into_inner().rollout.unwrap()
    }

    /// Waits until the controller has looked once more, and then until a guard has seen so many treated customers.
    pub(crate) async fn seen(&mut self, metric: &str, treated: u64) -> GuardReading {
        let start = Instant::now();
        loop {
            let now = self.now().await;
            let reading = now.readings.into_iter().find(|reading| reading.metric == metric);
            if let Some(reading) = reading.filter(|reading| reading.treated.unwrap().n >= treated) {
                return reading;
            }
            assert!(start.elapsed() < PATIENCE, "{metric} has not seen {treated}");
            tokio::task::yield_now().await;
        }
    }

    pub(crate) async fn log(&mut self) -> Vec<RolloutDecision> {
        let page = self.rollout.list_decisions(ListDecisionsRequest { after: 0, page_size: 1000 }).await;
        page.unwrap().into_inner().decisions
    }

    pub(crate) async fn stop(self) {
        self.context.shutdown.cancel();
        drop((self.telemetry, self.rollout));
        self.context.tasks.close();
        self.context.tasks.wait().await;
    }
}

/// A turn of a customer, now and so many seconds on.
pub(crate) fn turn(customer: &str, conversation: &str, later_s: i64, outcome: Outcome) -> TurnRecord {
    let now = jiff::Timestamp::now();
    let turn = Turn {
        turn_id: format!("t-{conversation}-{later_s}-{}", outcome.as_str_name()),
        conversation_id: conversation.to_owned(),
        outcome: outcome.into(),
        arm: Arm::Treatment.into(),
        ..Turn::default()
    };
    TurnRecord {
        turn: Some(turn),
        accepted_at: Some(Timestamp { seconds: now.as_second() + later_s, nanos: now.subsec_nanosecond() }),
        customer_hash: customer.to_owned(),
        ..TurnRecord::default()
    }
}

pub(crate) fn exposed(record: TurnRecord, treated: bool) -> TurnRecord {
    let (rollout_id, stage) = ("r".to_owned(), "p50".to_owned());
    let exposure = Exposure { rollout_id, epoch: 1, stage, share: 50_000, treated };
    TurnRecord { exposure: Some(exposure), ..record }
}

fn handed(mut record: TurnRecord, reason: HandoffReason) -> TurnRecord {
    let notice = HandoffNotice { reason: reason.into(), ..HandoffNotice::default() };
    record.turn.as_mut().unwrap().handoff = Some(notice);
    record
}

fn counts(reading: &GuardReading) -> [(u64, u64); 2] {
    [reading.treated, reading.control].map(|units| (units.unwrap().n, units.unwrap().events))
}

#[tokio::test]
async fn a_customer_counts_once_with_what_happened_within_the_window_in_whatever_order_it_came() {
    let dir = tempfile::tempdir().unwrap();
    let mut stage = Stage::open(context(&dir)).await;
    // What was stored before the rollout is none of its units.
    stage.record(vec![exposed(turn("old", "old", 0, Outcome::Answered), true)]).await;
    stage.apply(PLAN).await.unwrap();
    // A handoff, an answer without ground and a rating come before the turn that exposed their conversation.
    let mut bare = turn("c2", "b", 1, Outcome::Answered);
    let judge = "support/1 at 0.4".to_owned();
    bare.grounding =
        Some(Grounding { claims: 1, delivered_claims: 1, delivered_unsupported: 1, judge, unsupported: 0 });
    stage.record(vec![bare]).await;
    stage.record(vec![handed(turn("c1", "a", 1, Outcome::Handoff), HandoffReason::NoKnowledge)]).await;
    stage.rate("b", 1).await;
    let mut slow = exposed(turn("c3", "c", 0, Outcome::Answered), true);
    slow.turn.as_mut().unwrap().timings_ms.insert("total".to_owned(), 1500.0);
    stage
        .record(vec![
            exposed(turn("c1", "a", 0, Outcome::Answered), true),
            // The same customer again, in another conversation and arm.
            exposed(turn("c1", "a2", 0, Outcome::Legacy), false),
            exposed(turn("c2", "b", 0, Outcome::Answered), true),
            slow,
            // Planned, and later than the window.
            handed(turn("c3", "c", 1, Outcome::Handoff), HandoffReason::SafetyPolicy),
            handed(turn("c2", "b", 3, Outcome::Handoff), HandoffReason::NoKnowledge),
            // Without a key each conversation counts.
            exposed(turn("", "d", 0, Outcome::Legacy), false),
            exposed(turn("", "e", 0, Outcome::Legacy), false),
            handed(turn("", "e", 1, Outcome::Handoff), HandoffReason::UserRequest),
        ])
        .await;
    let late = exposed(turn("c4", "f", 0, Outcome::Answered), true);
    let escalated = stage.seen("escalation_unplanned", 3).await;
    assert_eq!(counts(&escalated), [(3, 1), (2, 1)]);
    assert_eq!(counts(&stage.seen("dissatisfied", 3).await), [(3, 1), (2, 0)]);
    assert_eq!(counts(&stage.seen("latency_over_sla", 3).await), [(3, 1), (2, 0)]);
    assert_eq!(counts(&stage.seen("ungrounded_delivered", 3).await), [(3, 1), (2, 0)]);
    // What matures later is added; what is read is read once.
    stage.record(vec![late]).await;
    assert_eq!(counts(&stage.seen("escalation_unplanned", 4).await), [(4, 1), (2, 1)]);
    stage.stop().await;
}

#[tokio::test]
async fn a_rollout_goes_on_where_it_was_after_a_restart_and_its_log_leads_to_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut stage = Stage::open(context(&dir)).await;
    stage.apply(PLAN).await.unwrap();
    stage.record(vec![exposed(turn("c1", "a", 0, Outcome::Answered), true)]).await;
    stage.seen("escalation_unplanned", 1).await;
    let (by, reason) = ("anna".to_owned(), "a leak".to_owned());
    stage.rollout.abort_rollout(AbortRolloutRequest { by, reason }).await.unwrap();
    let before = stage.now().await;
    let same = stage.context.server.clone();
    stage.stop().await;
    let mut stage = Stage::open(kit::Context { server: same, ..kit::Context::default() }).await;
    let after = stage.now().await;
    assert_eq!((after.plan, after.entered_at), (before.plan, before.entered_at));
    let refused =
        stage.rollout.approve_rollout(ApproveRolloutRequest { by: "anna".into(), reason: String::new() });
    let refused = refused.await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
    assert_eq!(refused.get_error_details().error_info().unwrap().reason, "ROLLOUT_REFUSED");
    let lines = stage.log().await.into_iter().map(|row| {
        let at = row.at.unwrap();
        let line = telemetry::rollout::Line {
            seq: row.seq,
            at_us: at.seconds * 1_000_000 + i64::from(at.nanos) / 1000,
            entry: serde_json::from_str(&row.entry).unwrap(),
            decision: serde_json::from_str(&row.decision).unwrap(),
        };
        serde_json::to_string(&line).unwrap()
    });
    let lines: Vec<_> = lines.collect();
    let made = telemetry::rollout::replay(lines.iter().map(String::as_str)).unwrap();
    assert_eq!(made.len(), lines.len());
    stage.stop().await;
}

#[tokio::test]
async fn a_wrong_plan_is_refused_with_its_line_and_nothing_begins() {
    let dir = tempfile::tempdir().unwrap();
    let mut stage = Stage::open(context(&dir)).await;
    let wrong = stage.apply(&PLAN.replace("share = 0.5", "share = 5.0")).await.unwrap_err();
    assert_eq!(wrong.code(), Code::InvalidArgument);
    assert!(
        wrong.message().contains("rollout.toml:9: stage \"p50\": share is 5.0, allowed 0..=1"),
        "{wrong}"
    );
    let none = stage.rollout.get_rollout(GetRolloutRequest {}).await.unwrap();
    assert_eq!(none.into_inner().rollout, None);
    let held = HoldRolloutRequest { by: "anna".into(), ..HoldRolloutRequest::default() };
    assert_eq!(stage.rollout.hold_rollout(held).await.unwrap_err().code(), Code::FailedPrecondition);
    stage.stop().await;
}

#[tokio::test]
async fn what_nobody_read_counts_once_a_conversation_and_in_no_figure_of_turns() {
    let dir = tempfile::tempdir().unwrap();
    let mut stage = Stage::open(context(&dir)).await;
    let shadow =
        "[[stage]]\nname = \"shadow\"\nshare = 0\nmirror = 1\nmirror_usd_per_day = 1\nmin_customers = 2
        [[stage]]";
    stage.apply(&PLAN.replacen("[[stage]]", shadow, 1)).await.unwrap();
    let unseen = |conversation: &str, reason| {
        let asked = exposed(turn("c1", conversation, 0, Outcome::Handoff), true);
        TurnRecord { unseen: true, question: "Why?".to_owned(), ..handed(asked, reason) }
    };
    let mut again = unseen("u1", HandoffReason::NoKnowledge);
    again.turn.as_mut().unwrap().turn_id = "another".to_owned();
    let records =
        vec![unseen("u1", HandoffReason::NoKnowledge), again, unseen("u2", HandoffReason::SafetyPolicy)];
    stage.record(records.clone()).await;
    stage.record(records).await;
    let start = Instant::now();
    let units = loop {
        let units = stage.now().await.unseen.unwrap();
        if units.n > 0 {
            break units;
        }
        assert!(start.elapsed() < PATIENCE, "unseen answers are not seen");
        tokio::task::yield_now().await;
    };
    assert_eq!((units.n, units.events), (2, 1));
    let asked = stage.telemetry.get_metrics(GetMetricsRequest::default()).await.unwrap();
    assert_eq!(asked.into_inner().metrics.unwrap().turns, 0);
    let listed = stage.rollout.list_unseen(ListUnseenRequest::default()).await.unwrap().into_inner().answers;
    let of = |answer: &UnseenAnswer| {
        let turn = answer.record.as_ref().and_then(|record| record.turn.as_ref());
        turn.unwrap().conversation_id.clone()
    };
    assert_eq!(listed.iter().map(of).collect::<Vec<_>>(), ["u2", "u1"]);
    let one = ListUnseenRequest { page_size: 1, ..ListUnseenRequest::default() };
    let older = ListUnseenRequest { before: listed[0].place, ..one.clone() };
    let named = ListUnseenRequest { conversation_id: "u1".to_owned(), ..one };
    for asked in [older, named] {
        let found = stage.rollout.list_unseen(asked).await.unwrap().into_inner().answers;
        assert_eq!(found.iter().map(of).collect::<Vec<_>>(), ["u1"]);
    }
    let conversation_ids = vec!["u1".to_owned()];
    stage.telemetry.forget_conversations(ForgetConversationsRequest { conversation_ids }).await.unwrap();
    let left = stage.rollout.list_unseen(ListUnseenRequest::default()).await.unwrap().into_inner().answers;
    assert_eq!(left.iter().map(of).collect::<Vec<_>>(), ["u2"]);
    let bare = TurnRecord { exposure: None, ..unseen("u3", HandoffReason::Loop) };
    let refused = stage.telemetry.record(RecordRequest { records: vec![bare] }).await.unwrap_err();
    assert!(refused.message().contains("exposure"), "{refused}");
    stage.stop().await;
}
