//! What telemetry is told, and what it is asked of a conversation.

use proto::*;

use crate::stages::{Failure, Stages, Telemetry};

impl Stages {
    /// The feedback that telemetry has on a conversation.
    pub(crate) async fn feedback_on(&self, conversation_id: String) -> Result<Vec<Feedback>, Failure> {
        let request = ListFeedbackRequest { conversation_id };
        let listed =
            self.telemetry(request, |mut to, request| async move { to.list_feedback(request).await });
        Ok(listed.await?.feedback)
    }

    /// Deletes what telemetry has of conversations; returns how much.
    pub(crate) async fn forget_conversations(&self, conversation_ids: Vec<String>) -> Result<u64, Failure> {
        let request = ForgetConversationsRequest { conversation_ids };
        let forget = |mut to: Telemetry, request| async move { to.forget_conversations(request).await };
        Ok(self.telemetry(request, forget).await?.deleted)
    }

    pub(crate) async fn record(&self, records: Vec<TurnRecord>) -> Result<(), Failure> {
        let request = RecordRequest { records };
        self.telemetry(request, |mut to, request| async move { to.record(request).await }).await.map(|_| ())
    }

    pub(crate) async fn feedback(&self, feedback: Feedback) -> Result<(), Failure> {
        let request = TelemetryServiceSubmitFeedbackRequest { feedback: Some(feedback) };
        let submit = |mut to: Telemetry, request| async move { to.submit_feedback(request).await };
        self.telemetry(request, submit).await.map(|_| ())
    }

    pub(crate) async fn deliveries(&self, backlogs: Vec<Backlog>) -> Result<(), Failure> {
        let request = ReportDeliveriesRequest { backlogs };
        let report = |mut to: Telemetry, request| async move { to.report_deliveries(request).await };
        self.telemetry(request, report).await.map(|_| ())
    }

    pub(crate) async fn label(&self, label: SubmitLabelRequest) -> Result<(), Failure> {
        self.telemetry(label, |mut to, request| async move { to.submit_label(request).await })
            .await
            .map(|_| ())
    }

    pub(crate) async fn evaluation(&self, evaluation: Evaluation) -> Result<(), Failure> {
        let request = SubmitEvaluationRequest { evaluation: Some(evaluation) };
        let submit = |mut to: Telemetry, request| async move { to.submit_evaluation(request).await };
        self.telemetry(request, submit).await.map(|_| ())
    }
}
