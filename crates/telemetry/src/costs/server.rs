//! Costs over gRPC.

use std::sync::Arc;

use proto::cost_service_server::{CostService, CostServiceServer};
use proto::*;
use tonic::{Request, Response, Status};

use super::forecast::{self, Forecast};
use super::plan::{Measured, SelfHosted, Way, break_even, own_usd, ways};
use super::run::{Said, plan, run};
use super::transition::Expected;
use super::{Call, Costs, Day, HOUR, HOURS, Line, Saved, Spent};
use crate::config::Config;
use crate::record::{Error, MAX_COST_USD, scaled};
use crate::server::{now_us, status};
use crate::store::Store;

const NANOS: f64 = 1e9;
const DAY_S: i64 = 86_400;
/// Longest window, in days.
const MAX_DAYS: i64 = 3650;
const MAX_REQUESTS: u64 = 1_000_000_000;
/// Most calls of models in a turn; a turn has less than ten.
const MAX_CALLS: usize = 100;
/// Longest name of a model, in bytes.
const MAX_NAME: usize = 256;

/// Starts to look whether another model is worth it, and returns how the costs are spoken to.
///
/// # Errors
/// The plan of the transition cannot be used.
pub(crate) fn start(
    store: &Store,
    config: &Arc<Config>,
    context: &kit::Context,
) -> anyhow::Result<CostServiceServer<impl CostService>> {
    let (store, config, said) = (store.clone(), config.clone(), Said::default());
    if let Some(plan) = plan(&config)? {
        let looks = run(store.clone(), config.clone(), plan, said.clone(), context.shutdown.clone());
        context.tasks.spawn(looks);
    }
    Ok(CostServiceServer::new(Server { store, config, said }))
}

/// The calls of a record or an evaluation, checked.
///
/// # Errors
/// `Invalid` with the field.
pub(crate) fn calls(calls: &[ModelCall]) -> Result<Vec<Call>, Error> {
    if calls.len() > MAX_CALLS {
        let message = format!("has {}, allowed 0..={MAX_CALLS}", calls.len());
        return Err(Error::invalid("calls", message));
    }
    calls.iter().map(call).collect()
}

fn call(call: &ModelCall) -> Result<Call, Error> {
    let tokens = |field, tokens: u64| {
        i64::try_from(tokens)
            .map_err(|_| Error::invalid(field, format!("is {tokens}, allowed 0..={}", i64::MAX)))
    };
    if call.model.len() > MAX_NAME {
        let message = format!("is {} bytes, allowed 0..={MAX_NAME}", call.model.len());
        return Err(Error::invalid("calls.model", message));
    }
    let usage = call.usage.unwrap_or_default();
    let spent = Spent {
        calls: 1,
        input: tokens("calls.usage.input_tokens", usage.input_tokens)?,
        cached: tokens("calls.usage.cached_input_tokens", usage.cached_input_tokens)?,
        output: tokens("calls.usage.output_tokens", usage.output_tokens)?,
        // 10^13 at most.
        nanos: scaled("calls.cost_usd", call.cost_usd, MAX_COST_USD, NANOS)? as i64,
    };
    let purpose = u8::try_from(i32::from(call.purpose())).unwrap_or_default();
    Ok(Call { purpose, model: call.model.clone(), spent })
}

/// What measures saved in a record, checked.
///
/// # Errors
/// `Invalid` with the field.
pub(crate) fn saved(savings: Option<&Savings>) -> Result<Vec<(&'static str, Saved)>, Error> {
    let Some(Savings { cache_usd, packing_tokens, packing_usd, routing_usd, cache_tier }) = savings else {
        return Ok(Vec::new());
    };
    let cache = match cache_tier.as_str() {
        "" => None,
        "exact" => Some("cache_exact"),
        "semantic" => Some("cache_semantic"),
        other => {
            let message = format!("is {other:?}, allowed \"exact\", \"semantic\" or \"\"");
            return Err(Error::invalid("savings.cache_tier", message));
        }
    };
    let nanos = |field, usd: f64| {
        let sign = if usd < 0.0 { -1 } else { 1 };
        scaled(field, usd.abs(), MAX_COST_USD, NANOS).map(|nanos| sign * nanos as i64)
    };
    let saved = |tokens, nanos| Saved { turns: 1, tokens, nanos };
    let mut all = Vec::new();
    if let Some(tier) = cache {
        all.push((tier, saved(0, nanos("savings.cache_usd", *cache_usd)?)));
    }
    if *packing_tokens > 0 {
        let tokens = i64::try_from(*packing_tokens).unwrap_or(i64::MAX);
        all.push(("packing", saved(tokens, nanos("savings.packing_usd", *packing_usd)?)));
    }
    if *routing_usd != 0.0 {
        all.push(("routing", saved(0, nanos("savings.routing_usd", *routing_usd)?)));
    }
    Ok(all)
}

struct Server {
    store: Store,
    config: Arc<Config>,
    said: Said,
}

impl Server {
    async fn costs(&self, window: Option<prost_types::Duration>) -> Result<Costs, Status> {
        let seconds = window.map_or(0, |window| window.seconds);
        let days = (seconds + DAY_S - 1).div_euclid(DAY_S);
        if !(1..=MAX_DAYS).contains(&days) {
            let message = format!("is {seconds} s, allowed 1 to {MAX_DAYS} days");
            return Err(status(Error::invalid("window", message)));
        }
        let today = super::day(now_us());
        self.store.costs(today - days + 1, today).await.map_err(status)
    }
}

#[tonic::async_trait]
impl CostService for Server {
    async fn get_costs(
        &self,
        request: Request<GetCostsRequest>,
    ) -> Result<Response<GetCostsResponse>, Status> {
        let costs = self.costs(request.into_inner().window).await?;
        let now = Now::of(&self.store, now_us()).await.map_err(status)?;
        let expected = now.expected(&self.config.self_hosted);
        Ok(Response::new(GetCostsResponse {
            comparison: Some(comparison(&costs, &self.config.self_hosted)),
            day: Some(told(now.day(&now.costs.days))),
            month: Some(told(now.month(&now.costs.days))),
            transition: Some(Transition {
                provider_day_usd: expected.day,
                provider_month_usd: expected.month,
                words: self.said.words(),
            }),
            lines: costs.lines.into_iter().map(line).collect(),
            savings: costs.savings.into_iter().map(saving).collect(),
            days: costs.days.into_iter().map(day).collect(),
        }))
    }

    async fn plan_costs(
        &self,
        request: Request<PlanCostsRequest>,
    ) -> Result<Response<PlanCostsResponse>, Status> {
        let PlanCostsRequest { requests_per_day, window } = request.into_inner();
        if !(1..=MAX_REQUESTS).contains(&requests_per_day) {
            let message = format!("is {requests_per_day}, allowed 1..={MAX_REQUESTS}");
            return Err(status(Error::invalid("requests_per_day", message)));
        }
        let costs = self.costs(window).await?;
        let own = &self.config.self_hosted;
        let Some(measured) = Measured::of(&costs) else {
            let missing = NO_ANSWER.to_owned();
            return Ok(Response::new(PlanCostsResponse { missing, ..PlanCostsResponse::default() }));
        };
        let option = |way: Way| PlanOption {
            name: way.name.to_owned(),
            replicas: way.replicas,
            gpus: way.replicas.saturating_mul(own.gpus),
            provider_share: way.provider_share,
            usd_per_day: way.usd_per_day,
        };
        let (input, output) = measured.tokens;
        Ok(Response::new(PlanCostsResponse {
            options: ways(&measured, own, requests_per_day as f64).into_iter().map(option).collect(),
            written_share: measured.share,
            usage: Some(Usage {
                input_tokens: input.round() as u64,
                output_tokens: output.round() as u64,
                cached_input_tokens: 0,
            }),
            peak: measured.peak(),
            measured: measured.written.unsigned_abs(),
            missing: missing(&measured, own),
        }))
    }
}

/// Days before today that a forecast reads: a whole month.
const FORECAST_DAYS: i64 = 31;
const NO_ANSWER: &str = "no model has written an answer in the window";
const NO_MACHINES: &str = "telemetry.self_hosted says nothing of machines of one's own";
const NO_PRICE: &str = "no answer in the window cost anything, so that nothing is known of a provider";

fn missing(measured: &Measured, own: &SelfHosted) -> String {
    let missing = [(own_usd(measured, own).is_none(), NO_MACHINES), (measured.usd <= 0.0, NO_PRICE)];
    let missing: Vec<&str> = missing.into_iter().filter_map(|(is, what)| is.then_some(what)).collect();
    missing.join("; ")
}

/// What a forecast is computed from: the weeks before, however short the window is that somebody asks for.
struct Now {
    costs: Costs,
    /// Share of this day that has passed.
    passed: f64,
    /// First day of this month.
    first: i64,
    /// Whole days of this month after this one.
    left: u32,
}

impl Now {
    async fn of(store: &Store, now_us: i64) -> Result<Self, Error> {
        let today = super::day(now_us);
        let date = date(today);
        let costs = store.costs(today - FORECAST_DAYS, today).await?;
        Ok(Self {
            passed: now_us.rem_euclid(HOUR * HOURS) as f64 / (HOUR * HOURS) as f64,
            first: today - i64::from(date.day()) + 1,
            left: u32::try_from(date.days_in_month() - date.day()).unwrap_or_default(),
            costs,
        })
    }

    fn day(&self, days: &[Day]) -> Forecast {
        forecast::of_day(days, self.passed)
    }

    fn month(&self, days: &[Day]) -> Forecast {
        let spent = days.iter().filter(|day| day.day >= self.first).map(|day| day.nanos).sum::<i64>();
        forecast::of_month(days, self.passed, spent as f64 / NANOS, self.left)
    }

    /// What is expected of providers alone: a cheaper model is counted as the one it stood for.
    fn expected(&self, own: &SelfHosted) -> Expected {
        let as_first = |day: &Day| Day { nanos: day.nanos.saturating_add(day.routing), ..*day };
        let days: Vec<Day> = self.costs.days.iter().map(as_first).collect();
        let measured = Measured::of(&self.costs).filter(|measured| measured.usd > 0.0);
        let is_cheaper = measured.and_then(|measured| Some(own_usd(&measured, own)? < measured.usd));
        Expected { day: self.day(&days).expected, month: self.month(&days).expected, is_cheaper }
    }
}

/// What is expected of providers alone.
pub(super) async fn expected(store: &Store, own: &SelfHosted, now_us: i64) -> Result<Expected, Error> {
    Ok(Now::of(store, now_us).await?.expected(own))
}

/// The date of a day since 1970.
fn date(day: i64) -> jiff::civil::Date {
    let moment = jiff::Timestamp::from_second(day.saturating_mul(DAY_S)).unwrap_or_default();
    moment.to_zoned(jiff::tz::TimeZone::UTC).date()
}

fn comparison(costs: &Costs, own: &SelfHosted) -> Comparison {
    let Some(measured) = Measured::of(costs) else {
        return Comparison { missing: NO_ANSWER.to_owned(), ..Comparison::default() };
    };
    Comparison {
        provider_usd: Some(measured.usd).filter(|usd| *usd > 0.0),
        self_hosted_usd: own_usd(&measured, own),
        break_even_per_day: break_even(&measured, own),
        missing: missing(&measured, own),
    }
}

fn told(forecast: Forecast) -> proto::Forecast {
    let (lower, upper) = forecast.interval.unzip();
    proto::Forecast {
        spent_usd: forecast.spent,
        expected_usd: forecast.expected,
        lower_usd: lower,
        upper_usd: upper,
        days: u32::try_from(forecast.days).unwrap_or(u32::MAX),
    }
}

fn line(Line { purpose, unseen, model, category, spent }: Line) -> CostLine {
    CostLine {
        purpose: purpose.into(),
        model,
        category,
        calls: spent.calls.unsigned_abs(),
        usage: Some(Usage {
            input_tokens: spent.input.unsigned_abs(),
            output_tokens: spent.output.unsigned_abs(),
            cached_input_tokens: spent.cached.unsigned_abs(),
        }),
        cost_usd: spent.nanos as f64 / NANOS,
        unseen,
    }
}

fn saving((measure, saved): (String, Saved)) -> SavingLine {
    let (turns, tokens) = (saved.turns.unsigned_abs(), saved.tokens.unsigned_abs());
    SavingLine { measure, turns, tokens, usd: saved.nanos as f64 / NANOS }
}

fn day(Day { day, nanos, turns, written, routing: _ }: Day) -> DayCost {
    DayCost {
        date: date(day).to_string(),
        cost_usd: nanos as f64 / NANOS,
        turns: turns.unsigned_abs(),
        written: written.unsigned_abs(),
    }
}
