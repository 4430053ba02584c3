//! The gRPC face of the stage.

use std::pin::Pin;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use futures::{Stream, StreamExt as _, TryStreamExt as _, stream};
use prost::Message as _;
use prost_types::Timestamp;
use proto::telemetry_service_server::{TelemetryService, TelemetryServiceServer};
use proto::{
    Backlog, ExportRequest, ExportResponse, ForgetConversationsRequest, ForgetConversationsResponse,
    GetMetricsRequest, GetMetricsResponse, LabelAuditRequest, LabelAuditResponse, ListFeedbackRequest,
    ListFeedbackResponse, NextAuditRequest, NextAuditResponse, RecordRequest, RecordResponse,
    ReportDeliveriesRequest, ReportDeliveriesResponse, SubmitEvaluationRequest, SubmitEvaluationResponse,
    SubmitLabelRequest, SubmitLabelResponse, TelemetryServiceSubmitFeedbackRequest as SubmitFeedbackRequest,
    TelemetryServiceSubmitFeedbackResponse as SubmitFeedbackResponse, TurnRecord, WatchMetricsRequest,
    WatchMetricsResponse, WatchTurnsRequest, WatchTurnsResponse,
};
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::{Request, Response, Status};

use crate::config::Config;
use crate::counters::Counters;
use crate::evaluations::server::evaluation;
use crate::labels::server::{exported, feedback, given_feedback};
use crate::metrics::gauges::{self, Shown};
use crate::metrics::server::{Asked, interval};
use crate::record::server::{micros, row};
use crate::record::{Error, Label};
use crate::store::Store;
use crate::{audit, costs, expire, export, rollout};

/// Name of the stage.
pub const NAME: &str = "telemetry";

/// Records a slow watcher may be behind before it loses the oldest; at some 2 kB each, 2 MB.
const BACKLOG: usize = 1024;

/// Brings the tables of the stage up to date.
///
/// # Errors
/// The store cannot be opened, or is of a version that this one does not know.
pub async fn migrate(context: &kit::Context) -> anyhow::Result<()> {
    Store::open(context.store(NAME)?).await?;
    Ok(())
}

/// Opens the store and returns the stage.
///
/// # Errors
/// The store cannot be opened.
pub async fn service(config: Config, context: kit::Context) -> anyhow::Result<kit::Stage> {
    let store = Store::open(context.store(NAME)?).await?;
    let (config, shown, meter) = (Arc::new(config), Shown::default(), context.metrics.meter());
    let counters = Arc::new(Counters::new(&meter));
    gauges::export(&shown, &meter);
    let refresh = gauges::run(store.clone(), config.clone(), shown, now_us, context.shutdown.clone());
    context.tasks.spawn(refresh);
    let retention = expire::run(store.clone(), config.retention_days, now_us, context.shutdown.clone());
    context.tasks.spawn(retention);
    let (live, _) = broadcast::channel(BACKLOG);
    let (tasks, shutdown) = (context.tasks.clone(), context.shutdown.clone());
    let controller = rollout::server::start(&store, &config, &context);
    let costs = costs::server::start(&store, &config, &context)?;
    let server = TelemetryServiceServer::new(Server { store, config, counters, live, tasks, shutdown });
    Ok(kit::Stage::new(NAME)
        .with(controller)
        .with(costs)
        .with(server.max_decoding_message_size(context.server.max_message_bytes)))
}

struct Server {
    store: Store,
    config: Arc<Config>,
    counters: Arc<Counters>,
    /// Newly stored records, encoded.
    live: broadcast::Sender<Arc<Vec<u8>>>,
    tasks: TaskTracker,
    shutdown: CancellationToken,
}

impl Server {
    /// Runs a write to its end also when the caller goes: what is stored must be counted.
    async fn finish<T: Send + 'static>(
        &self,
        write: impl Future<Output = Result<T, Error>> + Send + 'static,
    ) -> Result<T, Error> {
        self.tasks.spawn(write).await.unwrap_or(Err(Error::Stopping))
    }
}

type Streamed<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl TelemetryService for Server {
    async fn report_deliveries(
        &self,
        request: Request<ReportDeliveriesRequest>,
    ) -> Result<Response<ReportDeliveriesResponse>, Status> {
        let backlogs = request.into_inner().backlogs.into_iter();
        let waiting = |Backlog { connector, undelivered, oldest }| {
            (connector, undelivered, oldest.map(|at: Timestamp| at.seconds))
        };
        self.counters.wait_for_helpdesks(backlogs.map(waiting), Instant::now());
        Ok(Response::new(ReportDeliveriesResponse {}))
    }

    async fn record(&self, request: Request<RecordRequest>) -> Result<Response<RecordResponse>, Status> {
        let records = request.into_inner().records;
        let numbered =
            |(index, record)| row(record, &self.config.audit).map_err(|error| in_record(index, error));
        let rows = records.iter().enumerate().map(numbered).collect::<Result<Vec<_>, _>>().map_err(status)?;
        let stored = u32::try_from(rows.len()).unwrap_or(u32::MAX);
        let (store, counters, live) = (self.store.clone(), self.counters.clone(), self.live.clone());
        let write = async move {
            for row in store.record(rows).await? {
                counters.count_turn(&row);
                // An error means that nobody watches.
                let _ = live.send(Arc::new(row.encoded));
            }
            Ok(())
        };
        self.finish(write).await.map_err(status)?;
        Ok(Response::new(RecordResponse { stored }))
    }

    async fn submit_feedback(
        &self,
        request: Request<SubmitFeedbackRequest>,
    ) -> Result<Response<SubmitFeedbackResponse>, Status> {
        let feedback = feedback(request.into_inner().feedback.unwrap_or_default()).map_err(status)?;
        let (store, counters, rating) = (self.store.clone(), self.counters.clone(), feedback.rating);
        let reply = feedback.reply;
        let write = async move {
            if store.add_feedback(feedback, now_us()).await? && !reply {
                counters.count_feedback(rating);
            }
            Ok(())
        };
        self.finish(write).await.map_err(status)?;
        Ok(Response::new(SubmitFeedbackResponse {}))
    }

    async fn submit_label(
        &self,
        request: Request<SubmitLabelRequest>,
    ) -> Result<Response<SubmitLabelResponse>, Status> {
        let SubmitLabelRequest { turn_id, intent, source, disposition } = request.into_inner();
        let label = Label { turn_id, source, intent, disposition };
        label.check().map_err(status)?;
        self.store.add_label(label, now_us()).await.map_err(status)?;
        Ok(Response::new(SubmitLabelResponse {}))
    }

    async fn submit_evaluation(
        &self,
        request: Request<SubmitEvaluationRequest>,
    ) -> Result<Response<SubmitEvaluationResponse>, Status> {
        let given = evaluation(request.into_inner().evaluation.unwrap_or_default()).map_err(status)?;
        let (store, counters, cost_nanos) = (self.store.clone(), self.counters.clone(), given.cost_nanos());
        let write = async move {
            if store.add_evaluation(given, now_us()).await? {
                counters.count_cost(cost_nanos);
            }
            Ok(())
        };
        self.finish(write).await.map_err(status)?;
        Ok(Response::new(SubmitEvaluationResponse {}))
    }

    async fn get_metrics(
        &self,
        request: Request<GetMetricsRequest>,
    ) -> Result<Response<GetMetricsResponse>, Status> {
        let GetMetricsRequest { window, by } = request.into_inner();
        let asked = Asked::new(window, by).map_err(status)?;
        let metrics = Some(asked.metrics(&self.store, &self.config).await.map_err(status)?);
        Ok(Response::new(GetMetricsResponse { metrics }))
    }

    type WatchMetricsStream = Streamed<WatchMetricsResponse>;

    async fn watch_metrics(
        &self,
        request: Request<WatchMetricsRequest>,
    ) -> Result<Response<Self::WatchMetricsStream>, Status> {
        let WatchMetricsRequest { window, interval: every, by } = request.into_inner();
        let asked = Asked::new(window, by).map_err(status)?;
        let mut ticks = tokio::time::interval(interval(every).map_err(status)?);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (store, config) = (self.store.clone(), self.config.clone());
        let watched = stream::unfold((ticks, store, config), move |(mut ticks, store, config)| async move {
            ticks.tick().await;
            let metrics = asked.metrics(&store, &config).await.map_err(status);
            let response = metrics.map(|metrics| WatchMetricsResponse { metrics: Some(metrics) });
            Some((response, (ticks, store, config)))
        });
        Ok(Response::new(watched.take_until(self.shutdown.clone().cancelled_owned()).boxed()))
    }

    type WatchTurnsStream = Streamed<WatchTurnsResponse>;

    async fn watch_turns(
        &self,
        _: Request<WatchTurnsRequest>,
    ) -> Result<Response<Self::WatchTurnsStream>, Status> {
        let watched = stream::unfold(self.live.subscribe(), |mut live| async {
            loop {
                match live.recv().await {
                    Ok(encoded) => {
                        let record = decode(&encoded).map_err(status);
                        return Some((
                            record.map(|record| WatchTurnsResponse { record: Some(record) }),
                            live,
                        ));
                    }
                    Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => return None,
                }
            }
        });
        Ok(Response::new(watched.take_until(self.shutdown.clone().cancelled_owned()).boxed()))
    }

    type ExportStream = Streamed<ExportResponse>;

    async fn export(&self, request: Request<ExportRequest>) -> Result<Response<Self::ExportStream>, Status> {
        let ExportRequest { from, to, with_said } = request.into_inner();
        let from_us = from.map_or(Ok(0), |from| micros("from", &from)).map_err(status)?;
        let to_us = to.map_or(Ok(now_us()), |to| micros("to", &to)).map_err(status)?;
        if from_us > to_us {
            return Err(status(Error::invalid("from", "is after to, allowed up to to")));
        }
        let records = export::records(self.store.clone(), from_us, to_us, with_said, self.shutdown.clone());
        let responses = records.and_then(|said| std::future::ready(exported(said))).map_err(status);
        Ok(Response::new(responses.boxed()))
    }

    async fn list_feedback(
        &self,
        request: Request<ListFeedbackRequest>,
    ) -> Result<Response<ListFeedbackResponse>, Status> {
        let given = self.store.feedback(request.into_inner().conversation_id).await.map_err(status)?;
        Ok(Response::new(ListFeedbackResponse { feedback: given.into_iter().map(given_feedback).collect() }))
    }

    async fn next_audit(
        &self,
        request: Request<NextAuditRequest>,
    ) -> Result<Response<NextAuditResponse>, Status> {
        let next = audit::server::next(&self.store, request.into_inner()).await;
        next.map(Response::new).map_err(status)
    }

    async fn label_audit(
        &self,
        request: Request<LabelAuditRequest>,
    ) -> Result<Response<LabelAuditResponse>, Status> {
        audit::server::label(&self.store, request.into_inner()).await.map_err(status)?;
        Ok(Response::new(LabelAuditResponse {}))
    }

    async fn forget_conversations(
        &self,
        request: Request<ForgetConversationsRequest>,
    ) -> Result<Response<ForgetConversationsResponse>, Status> {
        let (store, ids) = (self.store.clone(), request.into_inner().conversation_ids);
        let deleted = self.finish(async move { store.forget(ids).await }).await.map_err(status)?;
        Ok(Response::new(ForgetConversationsResponse { deleted }))
    }
}

pub(crate) fn status(error: Error) -> Status {
    kit::fault::status(NAME, &error)
}

/// Says which record of a batch is wrong, so that its sender can set it aside.
fn in_record(index: usize, error: Error) -> Error {
    match error {
        Error::Invalid { field, message } => Error::invalid(field, format!("records[{index}] {message}")),
        other => other,
    }
}

pub(crate) fn decode(encoded: &[u8]) -> Result<TurnRecord, Error> {
    TurnRecord::decode(encoded).map_err(|_| Error::Malformed)
}

pub(crate) fn timestamp(us: i64) -> Timestamp {
    let (seconds, micros) = (us.div_euclid(1_000_000), us.rem_euclid(1_000_000));
    Timestamp { seconds, nanos: micros as i32 * 1000 }
}

pub(crate) fn now_us() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros() as i64
}
