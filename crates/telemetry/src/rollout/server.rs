//! The rollout over gRPC.

use std::pin::Pin;
use std::time::Duration;

use bundle::Risk;
use bundle::rollout::{Compares, Metric};
use futures::{Stream, StreamExt as _};
use proto::rollout_service_server::{RolloutService, RolloutServiceServer};
use proto::*;
use stats::buckets;
use stats::sequential::{interval, likeliest};
use tokio_stream::wrappers::WatchStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use super::change::changes;
use super::look::name;
use super::run::{Standing, run};
use super::{Known, Order, Phase, Reading, Seen, State, Verdict};
use crate::config::Config;
use crate::record::{self, Error, check_id};
use crate::server::{decode, status, timestamp};
use crate::store::Store;

/// Chance at which an interval that is shown does not hold the ratio.
const SHOWN_ALPHA: f64 = 0.05;
const PAGE: u32 = 100;
const MAX_PAGE: u32 = 1000;
const UNSEEN_PAGE: u32 = 20;
const MAX_UNSEEN_PAGE: u32 = 100;

/// Starts the controller, and returns how it is spoken to.
pub(crate) fn start(
    store: &Store,
    config: &Config,
    context: &kit::Context,
) -> RolloutServiceServer<impl RolloutService> {
    let (store, shutdown) = (store.clone(), context.shutdown.clone());
    let grace = Duration::from_millis(config.rollout_grace_ms);
    let standing = Standing::default();
    standing.export(&context.metrics.meter());
    context.tasks.spawn(run(store.clone(), standing, grace, shutdown.clone()));
    RolloutServiceServer::new(Server { store, shutdown })
}

/// What is said of a turn that put a customer into an arm.
pub(crate) fn exposure(exposure: &proto::Exposure) -> Result<record::Exposure, Error> {
    let proto::Exposure { rollout_id, epoch, stage, share, treated } = exposure.clone();
    check_id("exposure.rollout_id", &rollout_id)?;
    check_id("exposure.stage", &stage)?;
    if share > stats::BUCKETS {
        return Err(Error::invalid("exposure.share", format!("is {share}, allowed 0..={}", stats::BUCKETS)));
    }
    Ok(record::Exposure { rollout_id, epoch, stage, share, treated })
}

struct Server {
    store: Store,
    shutdown: CancellationToken,
}

impl Server {
    async fn order(&self, order: Order, by: String, reason: String) -> Result<Option<Rollout>, Status> {
        check_id("by", &by).map_err(status)?;
        if !reason.is_empty() {
            check_id("reason", &reason).map_err(status)?;
        }
        let known = self.store.order(order, by, reason).await.map_err(status)?;
        Ok(Some(rollout(&known)))
    }

    async fn known(&self) -> Result<Option<Known>, Status> {
        self.store.rollout().await.map_err(|error| status(error.into()))
    }
}

#[tonic::async_trait]
impl RolloutService for Server {
    async fn get_plan(&self, _: Request<GetPlanRequest>) -> Result<Response<GetPlanResponse>, Status> {
        let known = self.known().await?;
        Ok(Response::new(GetPlanResponse { plan: known.map(|known| plan(&known.state)) }))
    }

    type WatchPlanStream = Pin<Box<dyn Stream<Item = Result<WatchPlanResponse, Status>> + Send>>;

    async fn watch_plan(
        &self,
        _: Request<WatchPlanRequest>,
    ) -> Result<Response<Self::WatchPlanStream>, Status> {
        self.known().await?;
        let told = WatchStream::new(self.store.1.watch())
            .map(|known| Ok(WatchPlanResponse { plan: known.as_ref().map(|known| plan(&known.state)) }));
        Ok(Response::new(told.take_until(self.shutdown.clone().cancelled_owned()).boxed()))
    }

    async fn get_rollout(
        &self,
        _: Request<GetRolloutRequest>,
    ) -> Result<Response<GetRolloutResponse>, Status> {
        let known = self.known().await?;
        Ok(Response::new(GetRolloutResponse { rollout: known.as_ref().map(rollout) }))
    }

    async fn apply_rollout(
        &self,
        request: Request<ApplyRolloutRequest>,
    ) -> Result<Response<ApplyRolloutResponse>, Status> {
        let ApplyRolloutRequest { rollout_toml, by, dry_run } = request.into_inner();
        check_id("by", &by).map_err(status)?;
        let plan = bundle::rollout::parse(&rollout_toml).map_err(|problems| status(problems.into()))?;
        let before = self.known().await?;
        let changes = changes(before.as_ref().map(|known| known.state.plan()), &plan);
        let after = if dry_run {
            before.map(|known| known.preview(&plan)).transpose().map_err(|refused| status(refused.into()))?
        } else {
            Some(self.store.apply(plan, by).await.map_err(status)?)
        };
        Ok(Response::new(ApplyRolloutResponse { rollout: after.as_ref().map(rollout), changes }))
    }

    async fn approve_rollout(
        &self,
        request: Request<ApproveRolloutRequest>,
    ) -> Result<Response<ApproveRolloutResponse>, Status> {
        let ApproveRolloutRequest { by, reason } = request.into_inner();
        let rollout = self.order(Order::Approve, by, reason).await?;
        Ok(Response::new(ApproveRolloutResponse { rollout }))
    }

    async fn hold_rollout(
        &self,
        request: Request<HoldRolloutRequest>,
    ) -> Result<Response<HoldRolloutResponse>, Status> {
        let HoldRolloutRequest { by, reason, release } = request.into_inner();
        let order = if release { Order::Release } else { Order::Hold };
        let rollout = self.order(order, by, reason).await?;
        Ok(Response::new(HoldRolloutResponse { rollout }))
    }

    async fn abort_rollout(
        &self,
        request: Request<AbortRolloutRequest>,
    ) -> Result<Response<AbortRolloutResponse>, Status> {
        let AbortRolloutRequest { by, reason } = request.into_inner();
        let rollout = self.order(Order::Abort, by, reason).await?;
        Ok(Response::new(AbortRolloutResponse { rollout }))
    }

    async fn rearm_rollout(
        &self,
        request: Request<RearmRolloutRequest>,
    ) -> Result<Response<RearmRolloutResponse>, Status> {
        let RearmRolloutRequest { by, reason } = request.into_inner();
        let rollout = self.order(Order::Rearm, by, reason).await?;
        Ok(Response::new(RearmRolloutResponse { rollout }))
    }

    async fn list_decisions(
        &self,
        request: Request<ListDecisionsRequest>,
    ) -> Result<Response<ListDecisionsResponse>, Status> {
        let ListDecisionsRequest { after, page_size } = request.into_inner();
        let limit = limit(page_size, PAGE, MAX_PAGE)?;
        let rows = self.store.rollout_log(after, limit).await.map_err(|error| status(error.into()))?;
        let decisions = rows.into_iter().map(|row| {
            let (entry, decision) = (serde_json::to_string(&row.entry), serde_json::to_string(&row.decision));
            RolloutDecision {
                seq: row.seq,
                at: Some(timestamp(row.at_us)),
                entry: entry.unwrap_or_default(),
                decision: decision.unwrap_or_default(),
            }
        });
        Ok(Response::new(ListDecisionsResponse { decisions: decisions.collect() }))
    }

    async fn list_unseen(
        &self,
        request: Request<ListUnseenRequest>,
    ) -> Result<Response<ListUnseenResponse>, Status> {
        let ListUnseenRequest { before, page_size, conversation_id } = request.into_inner();
        let limit = limit(page_size, UNSEEN_PAGE, MAX_UNSEEN_PAGE)?;
        let before = if before > 0 { before } else { i64::MAX };
        let found = self.store.unseen(conversation_id, before, limit).await;
        let answer = |(place, encoded): (i64, Vec<u8>)| {
            Ok(UnseenAnswer { place, record: Some(decode(&encoded).map_err(status)?) })
        };
        let answers = found.map_err(status)?.into_iter().map(answer).collect::<Result<_, Status>>()?;
        Ok(Response::new(ListUnseenResponse { answers }))
    }
}

/// The size of a page, which is `usual` when nothing is said of it.
fn limit(size: u32, usual: u32, most: u32) -> Result<u32, Status> {
    match size {
        0 => Ok(usual),
        size if size <= most => Ok(size),
        size => Err(status(Error::invalid("page_size", format!("is {size}, allowed 0..={most}")))),
    }
}

/// What orchestrators are told of a state.
pub fn plan(state: &State) -> RolloutPlan {
    let (plan, stage) = (state.plan(), state.serving());
    let audiences = state.audiences().into_iter();
    let audiences = audiences.map(|(name, share)| RolloutAudience { name: name.to_owned(), share });
    let interval = prost_types::Duration { seconds: plan.interval_s.into(), nanos: 0 };
    let running = state.phase() == Phase::Running;
    let risk = match stage.max_risk {
        Risk::Low => proto::Risk::Low,
        Risk::Medium => proto::Risk::Medium,
        Risk::High => proto::Risk::High,
    };
    let phase = if running { RolloutPhase::Running } else { RolloutPhase::RolledBack };
    RolloutPlan {
        rollout_id: plan.id.clone(),
        version: state.version(),
        epoch: state.epoch(),
        salt: plan.salt.clone(),
        stage: stage.name.clone(),
        share: state.share(),
        fallback_share: state.fallback(),
        audiences: audiences.filter(|_| running).collect(),
        categories: stage.categories.clone(),
        max_risk: risk.into(),
        mirror_share: if running { buckets(stage.mirror) } else { 0 },
        mirror_usd_per_day: stage.mirror_usd_per_day,
        candidate: plan.candidate.clone(),
        interval: Some(interval),
        phase: phase.into(),
        compares: match plan.compares {
            Compares::Assistant => RolloutCompares::Assistant,
            Compares::Model => RolloutCompares::Model,
        }
        .into(),
    }
}

fn rollout(known: &Known) -> Rollout {
    let (state, decision) = (&known.state, &known.last.decision);
    let stages = state.ladder().into_iter().map(|(stage, share, current, serving)| RolloutStage {
        name: stage.name.clone(),
        share,
        audience: stage.audience.clone(),
        current,
        serving,
    });
    let looked = &known.looked;
    Rollout {
        plan: Some(plan(state)),
        stages: stages.collect(),
        readings: looked.readings.iter().map(|read| reading(state, read)).collect(),
        verdict: verdict(looked.verdict).into(),
        action: decision.action.name().to_owned(),
        reasons: decision.reasons.clone(),
        missing: looked.missing.clone(),
        customers: state.customers(),
        entered_at: Some(timestamp(state.entered_us())),
        looked_at: Some(timestamp(state.looked_us())),
        unseen: units(&state.unseen().treated(Metric::EscalationUnplanned)),
    }
}

fn reading(state: &State, reading: &Reading) -> GuardReading {
    let arms = state.evidence().arms(reading.metric);
    let left = interval(&arms, SHOWN_ALPHA).filter(|_| reading.metric != Metric::CostPerRequest);
    GuardReading {
        metric: name(reading.metric).to_owned(),
        verdict: verdict(reading.verdict).into(),
        words: reading.words.clone(),
        action: if reading.action == bundle::rollout::Action::Hold { "hold" } else { "rollback" }.to_owned(),
        dry_run: reading.dry_run,
        treated: units(&reading.treated),
        control: units(&reading.control),
        ratio: left.map(|_| likeliest(&arms)),
        lower: left.map(|(lower, _)| lower),
        upper: left.map(|(_, upper)| upper).filter(|upper| upper.is_finite()),
        evidence: reading.evidence,
        limit: reading.limit,
    }
}

fn units(seen: &Seen) -> Option<RolloutUnits> {
    Some(RolloutUnits { n: seen.n, events: seen.events })
}

fn verdict(verdict: Verdict) -> RolloutVerdict {
    match verdict {
        Verdict::Pass => RolloutVerdict::Pass,
        Verdict::Inconclusive => RolloutVerdict::Inconclusive,
        Verdict::Error => RolloutVerdict::Error,
        Verdict::Fail => RolloutVerdict::Fail,
    }
}
