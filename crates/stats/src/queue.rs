//! How long work waits for servers that are busy: the queueing model of a capacity plan.

use statrs::distribution::{ContinuousCDF as _, Gamma};

/// Mean and variance of a time; of times that do not depend on each other both add up.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Time {
    /// Mean, in any unit.
    pub mean: f64,
    /// Variance, in that unit squared.
    pub variance: f64,
}

impl Time {
    /// The sum of `n` (0 and up) such times, each with this one's distribution.
    #[must_use]
    pub fn times(self, n: f64) -> Self {
        Self { mean: self.mean * n, variance: self.variance * n }
    }

    /// The value that the share `quantile` (0..1) of the times does not exceed, for the gamma distribution of this mean
    /// and variance: positive, skewed, and exact for one exponential wait. The mean itself where there is no variance.
    #[must_use]
    pub fn at(self, quantile: f64) -> f64 {
        let gamma = Gamma::new(self.mean * self.mean / self.variance, self.mean / self.variance);
        gamma.map_or(self.mean, |gamma| gamma.inverse_cdf(quantile))
    }
}

impl std::ops::Add for Time {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { mean: self.mean + other.mean, variance: self.variance + other.variance }
    }
}

/// The share of work that has to wait, 0..1, where it comes at random to `servers` (1 and up) that are busy for the share
/// `busy` (0..1) of their time. Erlang's second formula (Erlang, Post Office Electrical Engineers' Journal 10, 1917), by
/// the recursion of his first one.
#[must_use]
pub fn waits(servers: u32, busy: f64) -> f64 {
    let offered = busy * f64::from(servers);
    let blocked = (1..=servers)
        .fold(1.0, |blocked, server| offered * blocked / (f64::from(server) + offered * blocked));
    blocked / (1.0 - busy * (1.0 - blocked))
}

/// The wait of one piece of work that takes `service` (any unit of time) of one of `servers`, busy for the share `busy` of
/// their time: M/M/c, where who waits at all waits for an exponential time (Kleinrock, Queueing Systems I, 1975, 3.5).
/// `None` where they cannot keep up, from `busy` 1 on.
#[must_use]
pub fn wait(servers: u32, service: f64, busy: f64) -> Option<Time> {
    if !(0.0..1.0).contains(&busy) {
        return None;
    }
    let (share, once) = (waits(servers, busy), service / (f64::from(servers) * (1.0 - busy)));
    Some(Time { mean: share * once, variance: share * (2.0 - share) * once * once })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_server_is_waited_for_by_the_share_of_its_busy_time() {
        for busy in [0.1, 0.5, 0.9] {
            assert!((waits(1, busy) - busy).abs() < 1e-12);
            // Pollaczek and Khinchine for exponential service: busy / (1 - busy) times the service.
            assert!((wait(1, 2.0, busy).unwrap().mean - 2.0 * busy / (1.0 - busy)).abs() < 1e-12);
        }
        assert_eq!(wait(4, 1.0, 1.0), None);
    }

    #[test]
    fn two_servers_wait_as_their_closed_formula_says() {
        // For two servers Erlang's formula is 2 busy^2 / (1 + busy).
        for busy in [0.2, 0.5, 0.8] {
            assert!((waits(2, busy) - 2.0 * busy * busy / (1.0 + busy)).abs() < 1e-12);
        }
    }

    /// A queue is played with random numbers: first come, first served, by several servers.
    #[test]
    fn waits_of_a_played_queue_are_those_of_the_model() {
        let mut state = 7_u64;
        let mut exponential = |mean: f64| {
            // Knuth's MMIX generator.
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            -mean * (1.0 - (state >> 11) as f64 / (1_u64 << 53) as f64).ln()
        };
        let (servers, busy) = (3, 0.8);
        let (mut free, mut now, mut waited) = ([0.0_f64; 3], 0.0, Vec::new());
        for _ in 0..400_000 {
            now += exponential(1.0 / (f64::from(servers) * busy));
            let first = free.iter_mut().min_by(|a, b| a.total_cmp(b)).unwrap();
            let begin = now.max(*first);
            *first = begin + exponential(1.0);
            waited.push(begin - now);
        }
        let expected = wait(servers, 1.0, busy).unwrap();
        let mean = waited.iter().sum::<f64>() / waited.len() as f64;
        let variance = waited.iter().map(|wait| (wait - mean).powi(2)).sum::<f64>() / waited.len() as f64;
        assert!((mean / expected.mean - 1.0).abs() < 0.05, "{mean} {expected:?}");
        assert!((variance / expected.variance - 1.0).abs() < 0.1, "{variance} {expected:?}");
    }

    #[test]
    fn quantiles_are_those_of_the_gamma_distribution() {
        // An exponential time, and one that does not vary.
        let exponential = Time { mean: 2.0, variance: 4.0 };
        assert!((exponential.at(0.95) + 2.0 * 0.05_f64.ln()).abs() < 1e-6);
        assert_eq!(Time { mean: 3.0, variance: 0.0 }.at(0.95), 3.0);
        // The sum of four exponential times of mean 1: half of the chi-squared quantile 15.507 of 8 degrees.
        let four = Time { mean: 1.0, variance: 1.0 }.times(4.0);
        assert!((four.at(0.95) - 15.507 / 2.0).abs() < 1e-3);
    }
}
