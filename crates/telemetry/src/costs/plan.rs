//! What so many requests a day cost with a provider, with machines of one's own, and with both.

use kit::Violation;
use kit::config::within;
use serde::{Deserialize, Serialize};

use super::{ANSWER, Costs, HOURS, Spent};

/// Table `[telemetry.self_hosted]`: a replica of a model server on machines of one's own, as it was measured.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SelfHosted {
    /// Price of a GPU, or of the machine where it has none, in US dollars an hour, 0..=1000; 0 says that nothing is
    /// known.
    pub gpu_usd_per_hour: f64,
    /// GPUs of a replica, 1..=1024.
    pub gpus: u32,
    /// Tokens of prompts that a replica reads in a second under full load, 0..=10000000.
    pub input_tokens_per_second: f64,
    /// Tokens of answers that it writes in a second under full load, 0..=10000000.
    pub output_tokens_per_second: f64,
    /// Share of its time that may be planned for, above 0..=1: the rest is for what comes at once.
    pub utilisation: f64,
    /// Replicas that run at least, 0..=1000.
    pub min_replicas: u32,
}

impl Default for SelfHosted {
    fn default() -> Self {
        Self {
            gpu_usd_per_hour: 0.0,
            gpus: 1,
            input_tokens_per_second: 0.0,
            output_tokens_per_second: 0.0,
            utilisation: 0.6,
            min_replicas: 1,
        }
    }
}

impl SelfHosted {
    pub(crate) fn validate(&self, found: &mut Vec<Violation>) {
        within("self_hosted.gpu_usd_per_hour", self.gpu_usd_per_hour, 0.0..=1000.0, found);
        within("self_hosted.gpus", self.gpus, 1..=1024, found);
        within("self_hosted.input_tokens_per_second", self.input_tokens_per_second, 0.0..=1e7, found);
        within("self_hosted.output_tokens_per_second", self.output_tokens_per_second, 0.0..=1e7, found);
        within("self_hosted.utilisation", self.utilisation, 0.01..=1.0, found);
        within("self_hosted.min_replicas", self.min_replicas, 0..=1000, found);
    }

    /// Whether everything is known that a plan needs.
    fn is_known(&self) -> bool {
        self.gpu_usd_per_hour > 0.0
            && self.input_tokens_per_second > 0.0
            && self.output_tokens_per_second > 0.0
    }

    /// Seconds of a replica for an answer of these tokens.
    fn seconds(&self, (input, output): (f64, f64)) -> f64 {
        input / self.input_tokens_per_second + output / self.output_tokens_per_second
    }

    /// Answers of these tokens that a replica can be planned to write in an hour.
    fn an_hour(&self, tokens: (f64, f64)) -> f64 {
        3600.0 * self.utilisation / self.seconds(tokens)
    }

    fn usd_per_day(&self, replicas: u32) -> f64 {
        f64::from(replicas) * f64::from(self.gpus) * self.gpu_usd_per_hour * HOURS as f64
    }
}

/// What was measured of answers that models wrote.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Measured {
    /// Written answers.
    pub written: i64,
    /// Share of turns for which a model was called to write.
    pub share: f64,
    /// Tokens of prompt and answer of one, with all its calls.
    pub tokens: (f64, f64),
    /// Cost of one in US dollars, of calls that cost something.
    pub usd: f64,
    /// By hour of the day: its share of the turns.
    pub hours: [f64; HOURS as usize],
}

impl Measured {
    /// What costs say; `None` where no answer was written.
    #[must_use]
    pub fn of(costs: &Costs) -> Option<Self> {
        let (turns, written) =
            costs.days.iter().fold((0, 0), |sum, day| (sum.0 + day.turns, sum.1 + day.written));
        let answers = || costs.lines.iter().filter(|line| line.purpose == ANSWER && !line.unseen);
        let (mut all, mut paid) = (Spent::default(), Spent::default());
        answers().for_each(|line| all.add(line.spent));
        answers().filter(|line| line.spent.nanos > 0).for_each(|line| paid.add(line.spent));
        if written == 0 || all.calls == 0 {
            return None;
        }
        let each = |sum: i64| sum as f64 / written as f64;
        let day: i64 = costs.hours.iter().sum();
        Some(Self {
            written,
            share: written as f64 / turns.max(1) as f64,
            tokens: (each(all.input), each(all.output)),
            // Calls per answer are alike with both: what was asked in vain is in the price of an answer.
            usd: paid.nanos as f64 / 1e9 / paid.calls.max(1) as f64 * each(all.calls),
            hours: costs.hours.map(|turns| turns as f64 / day.max(1) as f64),
        })
    }

    /// Turns of the busiest hour against the mean.
    #[must_use]
    pub fn peak(&self) -> f64 {
        self.hours.iter().copied().fold(0.0, f64::max) * HOURS as f64
    }
}

/// One way to have answers written.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Way {
    /// "provider", "mixed" or "self_hosted".
    pub name: &'static str,
    /// Replicas of the model server.
    pub replicas: u32,
    /// Share of the answers that a provider writes, 0..=1.
    pub provider_share: f64,
    /// US dollars a day.
    pub usd_per_day: f64,
}

/// The ways for so many requests a day: those for which everything is known.
#[must_use]
pub fn ways(measured: &Measured, own: &SelfHosted, requests_per_day: f64) -> Vec<Way> {
    let written = requests_per_day * measured.share;
    let mut ways = Vec::new();
    if measured.usd > 0.0 {
        let usd_per_day = written * measured.usd;
        ways.push(Way { name: "provider", replicas: 0, provider_share: 1.0, usd_per_day });
    }
    if !own.is_known() {
        return ways;
    }
    let an_hour = own.an_hour(measured.tokens);
    let most =
        (written * measured.peak() / HOURS as f64 / an_hour).ceil().clamp(1.0, f64::from(u32::MAX)) as u32;
    let enough = most.max(own.min_replicas);
    if measured.usd > 0.0 {
        // What so many replicas cannot write in an hour, a provider does.
        let mixed = |replicas: u32| {
            let beyond = |share: &f64| (written * share - f64::from(replicas) * an_hour).max(0.0);
            let over: f64 = measured.hours.iter().map(beyond).sum();
            let usd_per_day = own.usd_per_day(replicas) + over * measured.usd;
            Way { name: "mixed", replicas, provider_share: over / written.max(1.0), usd_per_day }
        };
        let ways_between =
            (own.min_replicas.max(1)..enough.min(own.min_replicas.saturating_add(10_000))).map(mixed);
        ways.extend(ways_between.min_by(|a, b| a.usd_per_day.total_cmp(&b.usd_per_day)));
    }
    let usd_per_day = own.usd_per_day(enough);
    ways.push(Way { name: "self_hosted", replicas: enough, provider_share: 0.0, usd_per_day });
    ways
}

/// Cost in US dollars of an answer on a full replica of one's own; `None` where too little is known of it.
#[must_use]
pub fn own_usd(measured: &Measured, own: &SelfHosted) -> Option<f64> {
    let a_day = own.usd_per_day(1) / (own.an_hour(measured.tokens) * HOURS as f64);
    own.is_known().then_some(a_day)
}

/// Written answers a day from which on machines of one's own cost less than a provider, at this profile of the day; `None`
/// when they never do, or too little is known.
#[must_use]
pub fn break_even(measured: &Measured, own: &SelfHosted) -> Option<u64> {
    own_usd(measured, own).filter(|usd| *usd * measured.peak() < measured.usd)?;
    // Replicas come one by one: the first number of them whose cost is made up for by what they can write.
    let an_hour = own.an_hour(measured.tokens);
    let fits = |replicas: u32| f64::from(replicas) * an_hour * HOURS as f64 / measured.peak();
    let needed = |replicas: u32| own.usd_per_day(replicas) / measured.usd;
    let first = (own.min_replicas.max(1)..=10_000).find(|replicas| needed(*replicas) <= fits(*replicas))?;
    Some(needed(first).ceil() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 1000 tokens in and 100 out for a cent, all day alike but for one busy hour.
    fn measured() -> Measured {
        let mut hours = [1.0 / 25.0; 24];
        hours[12] = 2.0 / 25.0;
        Measured { written: 500, share: 0.5, tokens: (1000.0, 100.0), usd: 0.01, hours }
    }

    fn own() -> SelfHosted {
        SelfHosted {
            gpu_usd_per_hour: 1.0,
            input_tokens_per_second: 2000.0,
            output_tokens_per_second: 200.0,
            utilisation: 0.5,
            ..SelfHosted::default()
        }
    }

    #[test]
    fn a_replica_writes_what_its_seconds_and_its_utilisation_allow() {
        assert_eq!((own().seconds((1000.0, 100.0)), own().an_hour((1000.0, 100.0))), (1.0, 1800.0));
        assert!((measured().peak() - 1.92).abs() < 1e-9);
    }

    #[test]
    fn the_three_ways_add_up() {
        let [provider, mixed, alone] = ways(&measured(), &own(), 200_000.0)[..] else { panic!("three ways") };
        // 100,000 written: 8,000 in the busy hour and 4,000 in the others.
        assert_eq!((provider.usd_per_day, provider.replicas), (1000.0, 0));
        assert_eq!((alone.replicas, alone.usd_per_day), (5, 120.0));
        // Three write 5,400 an hour: only 2,600 of the busy hour are beyond.
        assert_eq!((mixed.replicas, mixed.provider_share), (3, 0.026));
        assert!((mixed.usd_per_day - 98.0).abs() < 1e-9, "{mixed:?}");
    }

    #[test]
    fn below_the_break_even_a_provider_is_cheaper_and_above_it_is_not() {
        let at = break_even(&measured(), &own()).unwrap();
        assert_eq!(at, 2_400, "24 dollars a day");
        let usd = |written: u64| {
            let ways = ways(&measured(), &own(), 2.0 * written as f64);
            (ways[0].usd_per_day, ways.last().unwrap().usd_per_day)
        };
        let ((below, own_below), (above, own_above)) = (usd(at - 1), usd(at + 1));
        assert!(below < own_below && above > own_above);
        let dear = SelfHosted { gpu_usd_per_hour: 100.0, ..own() };
        assert_eq!(break_even(&measured(), &dear), None, "an answer costs more than a provider's");
    }

    #[test]
    fn what_is_not_known_is_left_out() {
        let nothing = SelfHosted::default();
        assert_eq!(ways(&measured(), &nothing, 10.0).len(), 1);
        assert_eq!((own_usd(&measured(), &nothing), break_even(&measured(), &nothing)), (None, None));
        let free = Measured { usd: 0.0, ..measured() };
        assert_eq!(ways(&free, &own(), 10.0).iter().map(|way| way.name).collect::<Vec<_>>(), ["self_hosted"]);
        assert_eq!(Measured::of(&Costs::default()), None);
    }
}
