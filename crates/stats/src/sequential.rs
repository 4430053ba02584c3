//! Evidence that may be looked at as often as one likes.
//!
//! Each function is the logarithm of an e-value: under its hypothesis the chance that it ever reaches `ln(1/alpha)`,
//! over all looks there will ever be, is at most `alpha` (Ville, "Étude critique de la notion de collectif", 1939;
//! Ramdas and others, "Game-theoretic statistics and safe anytime-valid inference", Statistical Science 38, 2023). All
//! of them depend on counts alone, and use `libm`, so that the same counts give the same bits on every machine.

/// What is compared at one share: of customers seen while the share was `share`, how many of each arm had the event.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Arms {
    /// Share of the customers that was treated, 0..=1. At 0 and 1 nothing can be compared, and nothing counts.
    pub share: f64,
    /// Treated customers with the event.
    pub treated: u64,
    /// Customers of the control with the event.
    pub control: u64,
}

/// How many alternatives are mixed.
const POINTS: usize = 24;
/// Risk ratios, beyond the tolerated one, that an alternative may have.
const LEAST: f64 = 1.1;
const MOST: f64 = 6.0;
/// Risk ratios that an interval may hold.
const WIDEST: f64 = 1e4;

/// Evidence that the risk ratio of treated to control is over `r0`: the arm of an event is treatment with probability
/// `share r0 / (share r0 + 1 - share)` at most when it is not, whatever the rate of events is and however it drifts.
/// The mean over 24 ratios between 1.1 and 6 times `r0`, spaced by their logarithms.
pub fn excess(arms: &[Arms], r0: f64) -> f64 {
    mixture(ratios().map(|ratio| log_likelihood(arms, r0 * ratio))) - log_likelihood(arms, r0)
}

/// Evidence that the risk ratio is below `r0`; as [`excess`] with the ratios turned over.
pub fn deficit(arms: &[Arms], r0: f64) -> f64 {
    mixture(ratios().map(|ratio| log_likelihood(arms, r0 / ratio))) - log_likelihood(arms, r0)
}

/// Evidence that the ratio is not 1, in either direction: of exposures, that customers are not assigned as the share
/// says (sample-ratio mismatch).
pub fn mismatch(arms: &[Arms]) -> f64 {
    mixture([excess(arms, 1.0), deficit(arms, 1.0)].into_iter())
}

/// The risk ratios that the evidence leaves, lower and upper end, at a confidence of `1 - alpha` over all looks
/// together: those whose likelihood is at least `alpha` times the mean over 97 ratios from 1/100 to 100. `None` without
/// an event that can be compared; an end without limit is 0 or infinity.
pub fn interval(arms: &[Arms], alpha: f64) -> Option<(f64, f64)> {
    const PRIOR: usize = 97;
    let counted = |arms: &&Arms| is_split(arms) && arms.treated + arms.control > 0;
    arms.iter().find(counted)?;
    let spread = |point: usize| libm::pow(100.0, point as f64 / ((PRIOR / 2) as f64) - 1.0);
    let mean = mixture((0..PRIOR).map(|point| log_likelihood(arms, spread(point))));
    let least = mean + libm::log(alpha);
    let fits = |ratio: f64| log_likelihood(arms, ratio) >= least;
    let best = likeliest(arms);
    // The likelihood falls on both sides of its greatest value, so that each end is where it crosses.
    let lower = if fits(1.0 / WIDEST) { 0.0 } else { crossing(1.0 / WIDEST, best, |at| !fits(at)) };
    let upper = if fits(WIDEST) { f64::INFINITY } else { crossing(best, WIDEST, fits) };
    Some((lower, upper))
}

/// The likeliest risk ratio, 1/10000..=10000; 1 without an event that can be compared.
pub fn likeliest(arms: &[Arms]) -> f64 {
    let (mut treated, mut control) = (0, 0);
    for arms in arms.iter().filter(|arms| is_split(arms)) {
        treated += arms.treated;
        control += arms.control;
    }
    match (treated, control) {
        (0, 0) => 1.0,
        (0, _) => 1.0 / WIDEST,
        (_, 0) => WIDEST,
        // Where as many treated events are expected as there are.
        _ => crossing(1.0 / WIDEST, WIDEST, |ratio| expected(arms, ratio) < treated as f64),
    }
}

/// Evidence that more than `p0` of treated customers have the event, of `n` of whom `k` have it: the mean over 24 rates
/// between 1.2 and 8 times `p0`, less than 1.
pub fn exceedance(n: u64, k: u64, p0: f64) -> f64 {
    const FROM: f64 = 1.2;
    const TO: f64 = 8.0;
    let log_likelihood = |p: f64| weighed(k, p) + weighed(n - k.min(n), 1.0 - p);
    let rates = spaced(FROM, TO).map(|factor| (p0 * factor).min(0.999));
    mixture(rates.map(log_likelihood)) - log_likelihood(p0)
}

fn ratios() -> impl Iterator<Item = f64> {
    spaced(LEAST, MOST)
}

fn spaced(from: f64, to: f64) -> impl Iterator<Item = f64> {
    (0..POINTS).map(move |point| from * libm::pow(to / from, point as f64 / (POINTS - 1) as f64))
}

fn is_split(arms: &Arms) -> bool {
    arms.share > 0.0 && arms.share < 1.0
}

/// The probability that an event at this share is one of treatment.
fn treatment(share: f64, ratio: f64) -> f64 {
    share * ratio / (share * ratio + 1.0 - share)
}

fn expected(arms: &[Arms], ratio: f64) -> f64 {
    let of = |arms: &Arms| (arms.treated + arms.control) as f64 * treatment(arms.share, ratio);
    arms.iter().filter(|arms| is_split(arms)).map(of).sum()
}

/// The logarithm of the probability of the arms of all events.
fn log_likelihood(arms: &[Arms], ratio: f64) -> f64 {
    let of = |arms: &Arms| {
        let theta = treatment(arms.share, ratio);
        weighed(arms.treated, theta) + weighed(arms.control, 1.0 - theta)
    };
    arms.iter().filter(|arms| is_split(arms)).map(of).sum()
}

fn weighed(count: u64, probability: f64) -> f64 {
    if count == 0 { 0.0 } else { count as f64 * libm::log(probability) }
}

/// The logarithm of the mean of numbers given by their logarithms.
fn mixture(logs: impl Iterator<Item = f64>) -> f64 {
    let logs: Vec<f64> = logs.collect();
    let most = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = logs.iter().map(|log| libm::exp(log - most)).sum();
    most + libm::log(sum / logs.len() as f64)
}

/// Where `before` turns from true to false between two positive numbers, to one part in 10^9.
fn crossing(low: f64, high: f64, before: impl Fn(f64) -> bool) -> f64 {
    let (mut low, mut high) = (libm::log(low), libm::log(high));
    while high - low > 1e-9 {
        let middle = low.midpoint(high);
        *if before(libm::exp(middle)) { &mut low } else { &mut high } = middle;
    }
    libm::exp(low.midpoint(high))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arms(share: f64, treated: u64, control: u64) -> [Arms; 1] {
        [Arms { share, treated, control }]
    }

    /// Multiplies event by event, as the design writes it down.
    fn one_by_one(events: &[bool], share: f64, r0: f64) -> f64 {
        let theta = |ratio: f64| share * ratio / (share * ratio + 1.0 - share);
        let chance = |theta: f64, treated: bool| if treated { theta } else { 1.0 - theta };
        let product = |point: i32| -> f64 {
            let ratio = 1.1 * (6.0_f64 / 1.1).powf(f64::from(point) / 23.0);
            let factor = |treated: &bool| chance(theta(r0 * ratio), *treated) / chance(theta(r0), *treated);
            events.iter().map(factor).product()
        };
        ((0..24).map(product).sum::<f64>() / 24.0).ln()
    }

    #[test]
    fn evidence_is_the_product_over_events_in_whatever_order() {
        let events: Vec<bool> = (0..60).map(|n| n % 4 == 0).collect();
        for (share, r0) in [(0.05, 1.0), (0.25, 1.25), (0.5, 1.0)] {
            let got = excess(&arms(share, 15, 45), r0);
            assert!((got - one_by_one(&events, share, r0)).abs() < 1e-9, "{got}");
        }
    }

    /// Ville's inequality from its ground: the mean of the e-value over all outcomes of n events is 1 at the edge of the
    /// hypothesis, and at most 1 within.
    #[test]
    fn the_mean_evidence_under_the_hypothesis_is_one_at_most() {
        let mean = |share: f64, ratio: f64, evidence: &dyn Fn(&[Arms]) -> f64| -> f64 {
            const N: u64 = 30;
            let theta = treatment(share, ratio);
            let choose = |k: u64| (0..k).fold(1.0, |product, i| product * (N - i) as f64 / (i + 1) as f64);
            let of = |k: u64| {
                let chance = choose(k) * theta.powi(k as i32) * (1.0 - theta).powi((N - k) as i32);
                chance * evidence(&arms(share, k, N - k)).exp()
            };
            (0..=N).map(of).sum()
        };
        for share in [0.01, 0.2, 0.5] {
            for r0 in [1.0, 1.25] {
                assert!((mean(share, r0, &|arms| excess(arms, r0)) - 1.0).abs() < 1e-9);
                assert!((mean(share, r0, &|arms| deficit(arms, r0)) - 1.0).abs() < 1e-9);
                assert!(mean(share, r0 * 0.7, &|arms| excess(arms, r0)) < 1.0);
                assert!(mean(share, r0 * 1.4, &|arms| deficit(arms, r0)) < 1.0);
            }
            assert!((mean(share, 1.0, &mismatch) - 1.0).abs() < 1e-9);
        }
        let of = |k: u64| exceedance(1, k, 0.05).exp();
        assert!((0.95 * of(0) + 0.05 * of(1) - 1.0).abs() < 1e-12);
    }

    #[test]
    fn where_nothing_can_be_compared_there_is_no_evidence() {
        for share in [0.0, 1.0] {
            let arms = arms(share, 40, 3);
            assert_eq!((excess(&arms, 1.0), deficit(&arms, 1.0), mismatch(&arms)), (0.0, 0.0, 0.0));
            assert_eq!(interval(&arms, 0.05), None);
        }
        assert_eq!(excess(&[], 1.0), 0.0);
    }

    #[test]
    fn an_interval_holds_the_likeliest_ratio_and_narrows_with_events() {
        let few = interval(&arms(0.5, 20, 10), 0.05).unwrap();
        let many = interval(&arms(0.5, 2000, 1000), 0.05).unwrap();
        assert!((likeliest(&arms(0.5, 20, 10)) - 2.0).abs() < 1e-6);
        assert!(few.0 < many.0 && many.0 < 2.0 && 2.0 < many.1 && many.1 < few.1, "{few:?} {many:?}");
        // Two shares with the same ratio of 3 at different shares.
        let ramp = [
            Arms { share: 0.25, treated: 300, control: 300 },
            Arms { share: 0.5, treated: 300, control: 100 },
        ];
        assert!((likeliest(&ramp) - 3.0).abs() < 1e-6);
        assert_eq!(interval(&arms(0.5, 3, 0), 0.05).unwrap().1, f64::INFINITY);
        assert_eq!(interval(&arms(0.5, 0, 3), 0.05).unwrap().0, 0.0);
    }
}
