use super::*;

const TWO: Confidence = Confidence::TwoSided95;

fn near(got: Interval, lower: f64, upper: f64, within: f64) {
    assert!((got.lower - lower).abs() <= within, "{got:?} for {lower}");
    assert!((got.upper - upper).abs() <= within, "{got:?} for {upper}");
}

fn share(hits: u64, n: u64) -> Share {
    Share { hits, n }
}

#[test]
fn wilson_gives_the_table_of_newcombe() {
    // Statistics in Medicine 17, 857-872, 1998, table I, method 3.
    for (hits, n, lower, upper) in
        [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)]
    {
        near(share(hits, n).interval(TWO).unwrap(), lower, upper, 5e-5);
    }
    assert_eq!(share(0, 0).interval(TWO), None);
    assert_eq!(share(603, 603).interval(TWO).unwrap().upper, 1.0);
}

#[test]
fn differences_give_the_table_of_newcombe() {
    // Statistics in Medicine 17, 873-890, 1998, table II, method 10.
    for (first, second, lower, upper) in [
        (share(56, 70), share(48, 80), 0.0524, 0.3339),
        (share(9, 10), share(3, 10), 0.1705, 0.8090),
        (share(6, 7), share(2, 7), 0.0582, 0.8062),
        (share(5, 56), share(0, 29), -0.0381, 0.1926),
        (share(0, 10), share(0, 20), -0.1611, 0.2775),
        (share(0, 10), share(0, 10), -0.2775, 0.2775),
        (share(10, 10), share(0, 20), 0.6791, 1.0),
        (share(10, 10), share(0, 10), 0.6075, 1.0),
    ] {
        near(newcombe(first, second, TWO).unwrap(), lower, upper, 5e-5);
    }
    assert_eq!(newcombe(share(1, 2), share(0, 0), TWO), None);
}

#[test]
fn one_side_at_95_percent_is_both_sides_at_90() {
    // scipy: proportion_confint(81, 263, alpha=0.1, method="wilson") as computed from the definition: the ends are
    // where the score test of the share has z = 1.6449.
    let one = share(81, 263).interval(Confidence::OneSided95).unwrap();
    for end in [one.lower, one.upper] {
        let score = (81.0 / 263.0 - end) / (end * (1.0 - end) / 263.0).sqrt();
        assert!((score.abs() - 1.644_853_627).abs() < 1e-6, "{end}: {score}");
    }
}

/// P(count <= most) of a binomial, by multiplication, for a small n.
fn at_most(most: u64, n: u64, p: f64) -> f64 {
    let choose = |k: u64| (0..k).fold(1.0, |all, i| all * (n - i) as f64 / (i + 1) as f64);
    let mass = |k: u64| choose(k) * p.powi(k as i32) * (1.0 - p).powi((n - k) as i32);
    (0..=most).map(mass).sum()
}

#[test]
fn ranks_are_those_of_the_binomial_tables_and_no_narrower_ones_would_do() {
    // The median: Dixon and Massey, "Introduction to Statistical Analysis", table A-25.
    for (n, lower, upper) in [(6, 1, 6), (10, 2, 9), (20, 6, 15), (50, 18, 33), (100, 40, 61)] {
        assert_eq!(quantile_ranks(n, 0.5, TWO), (Some(lower), Some(upper)), "{n}");
    }
    assert_eq!(quantile_ranks(5, 0.5, TWO), (None, None), "five values say 93.75 % at most");
    // 59 values for an upper bound of the 95th percentile are the best-known tolerance limit (Wilks, 1941).
    assert_eq!(quantile_ranks(59, 0.95, Confidence::OneSided95).1, Some(59));
    assert_eq!(quantile_ranks(58, 0.95, Confidence::OneSided95).1, None);
    for (n, q) in [(73, 0.95), (120, 0.95), (200, 0.5)] {
        let (lower, upper) = quantile_ranks(n, q, TWO);
        let (lower, upper) = (lower.unwrap(), upper.unwrap());
        assert!(at_most(lower - 1, n, q) <= 0.025 && at_most(lower, n, q) > 0.025, "{n}: {lower}");
        let above = |rank: u64| 1.0 - at_most(rank - 1, n, q);
        assert!(above(upper) <= 0.025 && above(upper - 1) > 0.025, "{n}: {upper}");
    }
}

#[test]
fn ranks_of_many_values_are_those_of_the_normal_distribution() {
    let (n, q) = (4_000_000_u64, 0.95);
    let (lower, upper) = quantile_ranks(n, q, TWO);
    let (mean, deviation) = (n as f64 * q, (n as f64 * q * (1.0 - q)).sqrt());
    assert!((lower.unwrap() as f64 - (mean - TWO.z() * deviation)).abs() < 3.0);
    assert!((upper.unwrap() as f64 - (mean + TWO.z() * deviation)).abs() < 3.0);
    assert_eq!(quantile_ranks(0, 0.5, TWO), (None, None));
}

#[test]
fn a_judge_is_corrected_by_the_formula_and_refused_when_it_is_weak() {
    let judge = Judge { sensitivity: 0.8, specificity: 0.9, positives: 100, negatives: 300 };
    let (p, interval) = judge.corrected(share(240, 1000), TWO).unwrap();
    assert!((p - 0.2).abs() < 1e-12, "0.2 * 0.8 + 0.8 * 0.1 = 0.24, so {p} is behind it");
    // The plain delta method: sqrt(0.24 * 0.76 / 1000 + 0.04 * 0.16 / 100 + 0.64 * 0.09 / 300) / 0.7.
    let half = 1.96 * (0.0001824 + 0.000064 + 0.000192_f64).sqrt() / 0.7;
    near(interval, p - half, p + half, 0.015);
    for (sensitivity, specificity) in [(0.6, 0.6), (0.2, 1.0), (0.5, 0.5), (0.1, 0.2)] {
        let weak = Judge { sensitivity, specificity, ..judge };
        assert_eq!(weak.corrected(share(1, 10), TWO), None);
    }
    assert_eq!(judge.corrected(share(0, 0), TWO), None);
    // Fewer hits than its false alarms alone would be: none is left, and that is no proof of none.
    let (p, interval) = judge.corrected(share(50, 1000), TWO).unwrap();
    assert!(p == 0.0 && interval.lower == 0.0);
}

#[test]
fn a_judge_without_fault_on_endless_labels_leaves_the_interval_of_agresti_and_coull() {
    let many = 1_000_000_000;
    let judge = Judge { sensitivity: 1.0, specificity: 1.0, positives: many, negatives: many };
    // 0 of 20, The American Statistician 52, 1998: two hits and two misses added, about; z² / 2 to the digit.
    let z = TWO.z();
    let (n, p) = (20.0 + z * z, (z * z / 2.0) / (20.0 + z * z));
    let half = z * (p * (1.0 - p) / n).sqrt();
    let (share, interval) = judge.corrected(share(0, 20), TWO).unwrap();
    assert_eq!(share, 0.0);
    near(interval, 0.0, p + half, 1e-6);
}

#[test]
fn few_labels_widen_what_a_judge_says() {
    let width = |labels| {
        let judge = Judge { sensitivity: 0.8, specificity: 0.9, positives: labels, negatives: labels };
        let (_, interval) = judge.corrected(share(240, 1000), TWO).unwrap();
        interval.upper - interval.lower
    };
    assert!(width(50) > 1.5 * width(5000), "{} and {}", width(50), width(5000));
}

#[test]
fn an_audit_that_looks_more_often_where_it_is_unsure_is_weighted_back() {
    // 900 sure turns, 90 % right, one in ten looked at; 100 unsure ones, 50 % right, every second looked at.
    let mut audit = Weighted::default();
    (0..90).for_each(|index| audit.add(index < 81, 0.1));
    (0..50).for_each(|index| audit.add(index < 25, 0.5));
    assert!((audit.share().unwrap() - (810.0 + 50.0) / 1000.0).abs() < 1e-12);
    // (900 + 100)² / (90 * 100 + 50 * 4)
    assert!((audit.effective_n() - 1_000_000.0 / 9_200.0).abs() < 1e-9);
    assert_eq!(audit.n(), 140);
    let interval = audit.interval(TWO).unwrap();
    assert!(interval.upper - interval.lower > 0.12, "wider than that of 140 equal ones: {interval:?}");
    let mut equal = Weighted::default();
    (0..20).for_each(|_| equal.add(false, 0.25));
    near(equal.interval(TWO).unwrap(), 0.0, 0.1611, 5e-5);
    equal.add(true, 0.0);
    equal.add(true, f64::NAN);
    assert_eq!((equal.n(), equal.share()), (20, Some(0.0)), "what cannot have been drawn does not count");
    assert_eq!(Weighted::default().share(), None);
}
