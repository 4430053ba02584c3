//! The gRPC face of the stage.

use std::pin::Pin;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use futures::{Stream, StreamExt as _, TryStreamExt as _, stream};
use prost::Message as _;
use prost_types::Timestamp;
use proto::telemetry_service_server::{TelemetryService, TelemetryServiceServer};
use proto::{
    Backlog, ExportRequest, ExportResponse, ForgetConversationsRequest, ForgetConversationsResponse,
    GetMetricsRequest, GetMetricsResponse, ListFeedbackRequest, ListFeedbackResponse, RecordRequest,
    RecordResponse, ReportDeliveriesRequest, ReportDeliveriesResponse, SubmitLabelRequest,
    SubmitLabelResponse, TelemetryServiceSubmitFeedbackRequest as SubmitFeedbackRequest,
    TelemetryServiceSubmitFeedbackResponse as SubmitFeedbackResponse, TurnRecord, WatchMetricsRequest,
    WatchMetricsResponse, WatchTurnsRequest, WatchTurnsResponse,
};
use tokio::net::TcpListener;
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::{Request, Response, Status};

use crate::config::Config;
use crate::metrics::gauges::{self, Shown};
use crate::metrics::server::{Asked, interval};
use crate::metrics::{Grounding, Step};
use crate::record::{
    Arm, Error, Feedback, Label, MAX_COST_USD, MAX_TIMING_MS, MAX_TIMINGS, Outcome, Reason, Row, check_id,
    check_stage, scaled,
};
use crate::scrape::{self, Counters};
use crate::store::Store;
use crate::{expire, export};

/// Name of the stage.
pub const NAME: &str = "telemetry";

/// Records a slow watcher may be behind before it loses the oldest; at some 2 kB each, 2 MB.
const BACKLOG: usize = 1024;

/// Opens the store and the Prometheus endpoint and returns the stage.
///
/// # Errors
/// The store cannot be opened, or `telemetry.metrics_listen` is taken.
pub async fn service(config: Config, context: kit::Context) -> anyhow::Result<kit::Stage> {
    let listener = match config.metrics_listen.as_str() {
        "" => None,
        address => {
            let listener = TcpListener::bind(address).await;
            Some(listener.with_context(|| format!("cannot listen on {address} (telemetry.metrics_listen)"))?)
        }
    };
    open(&config, &context, listener).await
}

/// The stage with its Prometheus endpoint on a listener bound already, or without one.
///
/// # Errors
/// The store cannot be opened.
pub async fn open(
    config: &Config,
    context: &kit::Context,
    metrics: Option<TcpListener>,
) -> anyhow::Result<kit::Stage> {
    let store = Store::open(context.store(NAME)?).await?;
    let (config, shown) = (Arc::new(config.clone()), Shown::default());
    let counters = Arc::new(Counters::new(shown.clone())?);
    if let Some(listener) = metrics {
        context.tasks.spawn(scrape::serve(listener, counters.clone(), context.shutdown.clone()));
    }
    gauges::export(&shown);
    let refresh = gauges::run(store.clone(), config.clone(), shown, now_us, context.shutdown.clone());
    context.tasks.spawn(refresh);
    let retention = expire::run(store.clone(), config.retention_days, now_us, context.shutdown.clone());
    context.tasks.spawn(retention);
    let (live, _) = broadcast::channel(BACKLOG);
    let (tasks, shutdown) = (context.tasks.clone(), context.shutdown.clone());
    let server = TelemetryServiceServer::new(Server { store, config, counters, live, tasks, shutdown });
    Ok(kit::Stage::new(NAME).with(server.max_decoding_message_size(context.server.max_message_bytes)))
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
        for Backlog { connector, undelivered, oldest } in request.into_inner().backlogs {
            self.counters.wait_for_helpdesk(&connector, undelivered, oldest.map(|at| at.seconds));
        }
        Ok(Response::new(ReportDeliveriesResponse {}))
    }

    async fn record(&self, request: Request<RecordRequest>) -> Result<Response<RecordResponse>, Status> {
        let records = request.into_inner().records;
        let numbered = |(index, record)| row(record).map_err(|error| in_record(index, error));
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
        let write = async move {
            if store.add_feedback(feedback, now_us()).await? {
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
        let ExportRequest { from, to } = request.into_inner();
        let from_us = from.map_or(Ok(0), |from| micros("from", &from)).map_err(status)?;
        let to_us = to.map_or(Ok(now_us()), |to| micros("to", &to)).map_err(status)?;
        if from_us > to_us {
            return Err(status(Error::invalid("from", "is after to, allowed up to to")));
        }
        let records = export::records(self.store.clone(), from_us, to_us, self.shutdown.clone());
        let decoded = records.and_then(|encoded| std::future::ready(decode(&encoded)));
        let responses = decoded.map_ok(|record| ExportResponse { record: Some(record) }).map_err(status);
        Ok(Response::new(responses.boxed()))
    }

    async fn list_feedback(
        &self,
        request: Request<ListFeedbackRequest>,
    ) -> Result<Response<ListFeedbackResponse>, Status> {
        let given = self.store.feedback(request.into_inner().conversation_id).await.map_err(status)?;
        let feedback = given.into_iter().map(|given| proto::Feedback {
            feedback_id: given.feedback_id,
            conversation_id: given.conversation_id,
            turn_id: given.turn_id,
            rating: given.rating.into(),
            resolved: given.resolved,
            comment: given.comment,
        });
        Ok(Response::new(ListFeedbackResponse { feedback: feedback.collect() }))
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

fn status(error: Error) -> Status {
    kit::fault::status(NAME, &error)
}

/// Says which record of a batch is wrong, so that its sender can set it aside.
fn in_record(index: usize, error: Error) -> Error {
    match error {
        Error::Invalid { field, message } => Error::invalid(field, format!("records[{index}] {message}")),
        other => other,
    }
}

fn row(record: &TurnRecord) -> Result<Row, Error> {
    let turn = record.turn.as_ref().ok_or_else(|| Error::invalid("turn", "is missing"))?;
    check_id("turn.turn_id", &turn.turn_id)?;
    check_id("turn.conversation_id", &turn.conversation_id)?;
    let accepted = record.accepted_at.as_ref();
    let accepted = accepted.ok_or_else(|| Error::invalid("accepted_at", "is missing"))?;
    let outcome = Outcome::from_number(turn.outcome.into())
        .ok_or_else(|| Error::invalid("turn.outcome", format!("is {}, allowed 1..=7", turn.outcome)))?;
    let reason = match (&turn.handoff, outcome) {
        (Some(handoff), Outcome::Handoff) => Reason::from_number(handoff.reason.into()).ok_or_else(|| {
            Error::invalid("turn.handoff.reason", format!("is {}, allowed 0..=15", handoff.reason))
        })?,
        _ => Reason::Unspecified,
    };
    if turn.timings_ms.len() > MAX_TIMINGS {
        let message = format!("has {} stages, allowed 0..={MAX_TIMINGS}", turn.timings_ms.len());
        return Err(Error::invalid("turn.timings_ms", message));
    }
    let timing = |(stage, millis): (&String, &f64)| {
        check_stage("turn.timings_ms", stage)?;
        Ok((stage.clone(), scaled("turn.timings_ms", *millis, MAX_TIMING_MS, 1e3)?))
    };
    let mut timings_us = turn.timings_ms.iter().map(timing).collect::<Result<Vec<_>, Error>>()?;
    timings_us.sort();
    let intent = turn.intent.clone().unwrap_or_default();
    scaled("turn.intent.confidence", intent.confidence, 1.0, 1.0)?;
    let usage = turn.usage.unwrap_or_default();
    let grounding = record.grounding.clone().unwrap_or_default();
    for (field, name) in [
        ("customer_hash", &record.customer_hash),
        ("grounding.judge", &grounding.judge),
        ("price_version", &record.price_version),
    ] {
        if !name.is_empty() {
            check_id(field, name)?;
        }
    }
    Ok(Row {
        turn_id: turn.turn_id.clone(),
        conversation_id: turn.conversation_id.clone(),
        accepted_us: micros("accepted_at", accepted)?,
        outcome,
        reason,
        arm: if turn.arm() == proto::Arm::Treatment { Arm::Treatment } else { Arm::Control },
        intent: intent.name,
        category: intent.category,
        confidence: intent.confidence,
        bundle: turn.bundle.clone(),
        model: turn.model.clone(),
        input_tokens: whole("turn.usage.input_tokens", usage.input_tokens)?,
        output_tokens: whole("turn.usage.output_tokens", usage.output_tokens)?,
        cost_nanos: whole("turn.cost_usd", scaled("turn.cost_usd", turn.cost_usd, MAX_COST_USD, 1e9)?)?,
        timings_us,
        muted: record.muted,
        step: step(turn.workflow.as_ref()),
        customer: record.customer_hash.clone(),
        grounding: Grounding {
            claims: grounding.claims,
            unsupported: grounding.unsupported,
            delivered_claims: grounding.delivered_claims,
            delivered_unsupported: grounding.delivered_unsupported,
        },
        judge: grounding.judge,
        prices: record.price_version.clone(),
        encoded: record.encode_to_vec(),
    })
}

/// Where a workflow stands: given up by its customer is what ended without an error.
fn step(workflow: Option<&proto::WorkflowStatus>) -> Step {
    match workflow {
        None => Step::Nothing,
        Some(status) if status.awaiting_confirmation => Step::Confirmation,
        Some(status) if status.state() == proto::ExecutionState::Cancelled && status.error.is_empty() => {
            Step::GivenUp
        }
        Some(_) => Step::Other,
    }
}

fn whole(field: &'static str, value: u64) -> Result<i64, Error> {
    i64::try_from(value).map_err(|_| Error::invalid(field, format!("is {value}, allowed 0..={}", i64::MAX)))
}

fn feedback(feedback: proto::Feedback) -> Result<Feedback, Error> {
    let proto::Feedback { feedback_id, conversation_id, turn_id, rating, resolved, comment } = feedback;
    check_id("feedback.feedback_id", &feedback_id)?;
    check_id("feedback.conversation_id", &conversation_id)?;
    if !turn_id.is_empty() {
        check_id("feedback.turn_id", &turn_id)?;
    }
    let rating = u8::try_from(rating).ok().filter(|rating| *rating <= 5).ok_or_else(|| {
        Error::invalid("feedback.rating", format!("is {rating}, allowed 1..=5, or 0 for none"))
    })?;
    Ok(Feedback { feedback_id, conversation_id, turn_id, rating, resolved, comment })
}

fn decode(encoded: &[u8]) -> Result<TurnRecord, Error> {
    TurnRecord::decode(encoded).map_err(|_| Error::Malformed)
}

/// Microseconds since 1970 of a moment of the years 1970 to 9999, which the Timestamp type ends with.
fn micros(field: &'static str, moment: &Timestamp) -> Result<i64, Error> {
    const LAST: i64 = 253_402_300_799;
    let (0..=LAST, 0..=999_999_999) = (moment.seconds, moment.nanos) else {
        let message = format!("is {} s and {} ns, allowed 0..={LAST} s", moment.seconds, moment.nanos);
        return Err(Error::invalid(field, message));
    };
    Ok(moment.seconds * 1_000_000 + i64::from(moment.nanos) / 1000)
}

pub(crate) fn timestamp(us: i64) -> Timestamp {
    let (seconds, micros) = (us.div_euclid(1_000_000), us.rem_euclid(1_000_000));
    Timestamp { seconds, nanos: micros as i32 * 1000 }
}

pub(crate) fn now_us() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros() as i64
}
