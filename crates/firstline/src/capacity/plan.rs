//! The plan itself: figures and a load in, replicas and limits out.

use std::collections::BTreeMap;

use kit::config::STAGES;
use serde::{Deserialize, Serialize, Serializer};
use stats::queue::{Time, wait};

/// Hours of a month, a twelfth of a year.
const HOURS: f64 = 730.0;
/// Fewest replicas of a stage: one may go at any time.
const FEWEST: f64 = 2.0;
/// Stages that do their work when the turn has ended, so that nobody waits for it.
const AFTERWARDS: &str = "telemetry";
/// The share of the turns that `--p95-ms` is about.
pub(super) const QUANTILE: f64 = 0.95;

/// What was measured of a machine that runs every stage, the stores and the customers: see `make bench`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Figures {
    /// What it was measured on.
    pub(super) machine: String,
    /// Milliseconds of a turn that is alone: mean and standard deviation.
    turn_ms: f64,
    turn_deviation_ms: f64,
    /// How often a turn waits as long as for all of its work at once: more than once, as its work comes in bursts.
    waits: f64,
    /// Share of the CPU below that a turn takes where cores are never idle: wakings and commits are shared then.
    saturated: f64,
    /// Spans of a turn.
    spans: f64,
    /// Microseconds of a core that the database takes for a turn.
    database_cpu_us: f64,
    /// Bytes by which the database grows with a turn, and that it writes ahead into its log.
    database_bytes: f64,
    log_bytes: f64,
    stages: BTreeMap<String, Stage>,
}

/// What a stage takes for a turn, where half of what the machine can serve comes to it.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stage {
    /// Microseconds of a core.
    cpu_us: f64,
    /// MiB of a process at full load.
    memory_mib: f64,
}

impl Figures {
    /// What is missing or out of range, by its name.
    pub(super) fn wrong(&self) -> Option<String> {
        let whole = [
            ("turn_ms", self.turn_ms),
            ("turn_deviation_ms", self.turn_deviation_ms),
            ("waits", self.waits),
            ("saturated", self.saturated),
            ("spans", self.spans),
            ("database_cpu_us", self.database_cpu_us),
            ("database_bytes", self.database_bytes),
            ("log_bytes", self.log_bytes),
        ];
        let whole = whole.map(|(name, value)| (name.to_owned(), value));
        let stages = self.stages.iter().flat_map(|(name, stage)| {
            let values = [("cpu_us", stage.cpu_us), ("memory_mib", stage.memory_mib)];
            values.map(|(key, value)| (format!("stages.{name}.{key}"), value))
        });
        let mut values = whole.into_iter().chain(stages);
        let missing = STAGES.iter().find(|stage| !self.stages.contains_key(**stage));
        let unknown = self.stages.keys().find(|name| !STAGES.contains(&name.as_str()));
        missing
            .map(|stage| format!("stages.{stage} is missing"))
            .or_else(|| unknown.map(|name| format!("stages.{name} is no stage")))
            .or_else(|| {
                let (name, value) = values.find(|(_, value)| !(*value > 0.0 && value.is_finite()))?;
                Some(format!("{name} is {value}, allowed: more than 0"))
            })
            .or_else(|| {
                let saturated = self.saturated;
                (saturated > 1.0).then(|| format!("saturated is {saturated}, allowed: more than 0 up to 1"))
            })
    }

    fn alone(&self) -> Time {
        Time { mean: self.turn_ms, variance: self.turn_deviation_ms.powi(2) }
    }

    fn stage(&self, name: &str) -> Stage {
        self.stages.get(name).copied().unwrap_or(Stage { cpu_us: 0.0, memory_mib: 0.0 })
    }
}

/// What is planned for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Load {
    /// Turns a second.
    pub(super) rps: f64,
    /// Cores of a replica.
    pub(super) cores: u32,
    /// Largest share of its time that a core may be busy, as the autoscaler is set.
    pub(super) busy: f64,
    /// Milliseconds that 95 % of the turns may take, the time of a model left out.
    pub(super) p95_ms: Option<f64>,
    /// Answers that models write at the same time.
    pub(super) in_flight: f64,
    /// Of them, how many a replica of the generator has.
    pub(super) max_in_flight: f64,
    /// US dollars an hour of a core, and of a GiB of memory.
    pub(super) core_hour: f64,
    pub(super) gib_hour: f64,
}

/// One stage of a plan.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    pub(super) stage: &'static str,
    #[serde(serialize_with = "whole")]
    pub(super) replicas: f64,
    /// Share of the time that its cores are busy.
    pub(super) busy: f64,
    #[serde(serialize_with = "whole")]
    pub(super) cores: f64,
    pub(super) memory_gib: f64,
    pub(super) usd_per_month: f64,
    /// Mean milliseconds that a turn waits for it.
    pub(super) wait_ms: f64,
    #[serde(skip)]
    wait: Time,
}

fn whole<S: Serializer>(number: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(*number as u64)
}

/// Replicas for a load.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) rows: Vec<Row>,
    /// Milliseconds that 95 % of the turns take, and take when they are alone.
    pub(super) p95_ms: f64,
    pub(super) alone_p95_ms: f64,
}

impl Plan {
    /// Replicas for each stage: as many as keep it below the largest busy share, and more where turns wait longest, until
    /// they are fast enough. `None` where no number of replicas is.
    ///
    /// A stage's replicas are queues of their own, M/M/c with a core a server, and share what comes at random; the balancer
    /// asks the less busy of two, which waits for less. A busy core does the same with less: its work and its busy share are
    /// `saturated` times what half load shows. A turn waits for a stage `waits` times, each time as for all of its work
    /// there; waits add up, mean and variance, on top of the time of a turn that is alone.
    pub(super) fn of(figures: &Figures, load: &Load) -> Option<Self> {
        let alone_p95_ms = figures.alone().at(QUANTILE);
        if load.p95_ms.is_some_and(|p95_ms| p95_ms <= alone_p95_ms) {
            return None;
        }
        let mut rows: Vec<Row> = STAGES.into_iter().map(|stage| Self::row(figures, load, stage)).collect();
        loop {
            let turn = rows.iter().fold(figures.alone(), |turn, row| turn + row.wait);
            let p95_ms = turn.at(QUANTILE);
            let slowest = rows.iter_mut().max_by(|a, b| a.wait.mean.total_cmp(&b.wait.mean))?;
            if load.p95_ms.is_none_or(|most| p95_ms <= most) {
                return Some(Self { rows, p95_ms, alone_p95_ms });
            }
            let more = (slowest.replicas * 1.02 + 1.0).floor();
            *slowest = Self::with(figures, load, slowest.stage, more);
        }
    }

    fn row(figures: &Figures, load: &Load, stage: &'static str) -> Row {
        let mut least = load.rps * figures.stage(stage).cpu_us / 1e6 / (f64::from(load.cores) * load.busy);
        if stage == "generator" {
            least = least.max(load.in_flight / (load.max_in_flight * load.busy));
        }
        Self::with(figures, load, stage, least.ceil().max(FEWEST))
    }

    fn with(figures: &Figures, load: &Load, stage: &'static str, replicas: f64) -> Row {
        let taken = figures.stage(stage);
        let cores = replicas * f64::from(load.cores);
        let busy = load.rps * taken.cpu_us / 1e6 / cores;
        let once = wait(load.cores, taken.cpu_us * figures.saturated / 1e3, busy * figures.saturated);
        let wait = once.unwrap_or_default().times(if stage == AFTERWARDS { 0.0 } else { figures.waits });
        let memory_gib = replicas * taken.memory_mib / 1024.0;
        let usd_per_month = (cores * load.core_hour + memory_gib * load.gib_hour) * HOURS;
        Row { stage, replicas, busy, cores, memory_gib, usd_per_month, wait_ms: wait.mean, wait }
    }
}

/// Something that one engine does for all replicas.
#[derive(Debug, Serialize)]
pub(super) struct Limit {
    pub(super) name: &'static str,
    pub(super) unit: &'static str,
    /// What the load takes of it.
    pub(super) needed: f64,
    /// What one of it gives; `None` where nothing is known.
    pub(super) gives: Option<f64>,
    /// Who takes over beyond that.
    pub(super) then: &'static str,
}

impl Limit {
    /// What is needed as a share of what one gives.
    pub(super) fn share(&self) -> f64 {
        self.gives.map_or(0.0, |gives| self.needed / gives)
    }
}

/// Cores of a large PostgreSQL primary of the cloud providers.
const PRIMARY_CORES: f64 = 64.0;
/// Bytes of a volume of a database: the largest gp3 of AWS.
const VOLUME: f64 = 16.0 * (1_u64 << 40) as f64;
/// Bytes a second into such a volume.
const VOLUME_RATE: f64 = 1e9;
/// Seconds of a day.
const DAY: f64 = 86_400.0;
/// Spans a second of a collector of four cores: the recommended 10,000 a core of its own performance document.
const COLLECTOR: f64 = 40_000.0;
/// Commands a second of one Redis, by its own benchmark without pipelining.
const REDIS: f64 = 100_000.0;
/// Commands of an answer that the cache is asked for: one to look it up, and one to keep a new one.
const COMMANDS: f64 = 2.0;
/// Connections that a process keeps without noticing: one to each replica of who calls it.
const CONNECTIONS: f64 = 1_000.0;

/// What is asked of the stores and the model.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shared {
    /// Tokens that models write for a turn, those without a model among them.
    pub(super) output: f64,
    /// Tokens that one replica of a model writes in a second.
    pub(super) gives: Option<f64>,
    /// Days that turns are kept.
    pub(super) kept_days: f64,
}

/// What the load takes of everything that is not scaled by replicas, the scarcest first.
pub(super) fn limits(figures: &Figures, plan: &Plan, rps: f64, asked: &Shared) -> Vec<Limit> {
    let Shared { output, gives, kept_days } = *asked;
    let callers = plan.rows.iter().find(|row| row.stage == "orchestrator").map_or(0.0, |row| row.replicas);
    let limit = |name, unit, needed, gives: f64, then| Limit { name, unit, needed, gives: Some(gives), then };
    let mut limits = vec![
        limit(
            "store, primary",
            "cores",
            rps * figures.database_cpu_us / 1e6,
            PRIMARY_CORES,
            "Citus: conversations are independent of each other, their id is the shard",
        ),
        limit("store, log", "bytes/s", rps * figures.log_bytes, VOLUME_RATE, "Citus: a log for each shard"),
        limit(
            "store, turns kept",
            "bytes",
            rps * figures.database_bytes * kept_days * DAY,
            VOLUME,
            "partitions by day, old ones exported to object storage",
        ),
        limit(
            "telemetry",
            "spans/s",
            rps * figures.spans,
            COLLECTOR,
            "a tier of collectors behind one that balances by trace, with tail sampling",
        ),
        limit("cache", "commands/s", rps * COMMANDS, REDIS, "Redis Cluster: keys are hashes, spread evenly"),
        limit(
            "a stage",
            "connections",
            callers,
            CONNECTIONS,
            "a mesh, or an Envoy in front: replicas are found in subsets",
        ),
        Limit {
            name: "model",
            unit: "tokens/s",
            needed: rps * output,
            gives,
            then: "vLLM replicas behind an inference gateway that knows their queues",
        },
    ];
    limits.sort_by(|a, b| b.share().total_cmp(&a.share()));
    limits
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures() -> Figures {
        toml::from_str(super::super::FIGURES).unwrap()
    }

    fn load(rps: f64, p95_ms: Option<f64>) -> Load {
        let (in_flight, max_in_flight, core_hour, gib_hour) = (0.0, 256.0, 0.04, 0.004);
        Load { rps, cores: 2, busy: 0.7, p95_ms, in_flight, max_in_flight, core_hour, gib_hour }
    }

    #[test]
    fn the_figures_of_the_program_are_whole() {
        assert_eq!(figures().wrong(), None);
        let broken = super::super::FIGURES.replace("[stages.safety]", "[stages.safty]");
        let broken: Figures = toml::from_str(&broken).unwrap();
        assert_eq!(broken.wrong().as_deref(), Some("stages.safety is missing"));
    }

    #[test]
    fn no_stage_is_busier_than_it_may_be_and_none_has_one_replica_too_many() {
        for rps in [1.0, 100.0, 10_000.0, 1e6] {
            let plan = Plan::of(&figures(), &load(rps, None)).unwrap();
            for row in &plan.rows {
                assert!(row.busy <= 0.7 && row.replicas >= 2.0, "{row:?}");
                assert!(
                    row.replicas == 2.0 || row.busy * row.replicas / (row.replicas - 1.0) > 0.7,
                    "{row:?}"
                );
            }
        }
    }

    #[test]
    fn a_faster_turn_takes_more_replicas_where_it_waits_and_none_is_faster_than_alone() {
        let slow = Plan::of(&figures(), &load(10_000.0, None)).unwrap();
        let wanted = (slow.alone_p95_ms + slow.p95_ms) / 2.0;
        let fast = Plan::of(&figures(), &load(10_000.0, Some(wanted))).unwrap();
        assert!(fast.p95_ms <= wanted && wanted < slow.p95_ms, "{} {}", fast.p95_ms, slow.p95_ms);
        let all = |plan: &Plan| plan.rows.iter().map(|row| row.replicas).sum::<f64>();
        assert!(all(&fast) > all(&slow));
        let after = |plan: &Plan| plan.rows.iter().find(|row| row.stage == AFTERWARDS).unwrap().replicas;
        assert_eq!(after(&fast), after(&slow), "nobody waits for telemetry");
        assert!(Plan::of(&figures(), &load(1.0, Some(slow.alone_p95_ms))).is_none());
    }

    #[test]
    fn answers_in_flight_need_generators_whatever_their_cpu() {
        let load = Load { in_flight: 10_000.0, ..load(100.0, None) };
        let plan = Plan::of(&figures(), &load).unwrap();
        let generators = plan.rows.iter().find(|row| row.stage == "generator").unwrap().replicas;
        assert_eq!(generators, (10_000.0_f64 / (256.0 * 0.7)).ceil());
    }

    #[test]
    fn what_is_scarcest_comes_first() {
        let plan = Plan::of(&figures(), &load(10_000.0, None)).unwrap();
        let asked = Shared { output: 30.0, gives: None, kept_days: 90.0 };
        let limits = limits(&figures(), &plan, 10_000.0, &asked);
        assert!(limits.is_sorted_by(|a, b| a.share() >= b.share()));
        assert_eq!(limits.last().unwrap().name, "model", "nothing is known of it");
    }
}
