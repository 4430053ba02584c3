//! What will have been spent at the end of a day or a month, from the whole days before.

use super::Day;

/// Most whole days that count, the newest ones: four weeks, so that every weekday weighs the same.
const DAYS: usize = 28;
/// Whole days below which there is no interval.
const LEAST: usize = 3;
const NANOS: f64 = 1e9;
/// The quantile of the normal distribution with 2.5 % above it.
const Z: f64 = 1.959_963_984_540_054;

/// A forecast in US dollars.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Forecast {
    /// Spent so far.
    pub spent: f64,
    /// Expected in all.
    pub expected: f64,
    /// 95 % interval of that; `None` with too few whole days.
    pub interval: Option<(f64, f64)>,
    /// Whole days that it was computed from.
    pub days: usize,
}

/// Of the last of these days, of which a share has passed, 0..=1; the others are whole.
#[must_use]
pub fn of_day(days: &[Day], passed: f64) -> Forecast {
    let (today, before) = split(days);
    let today = today.map_or(0.0, |day| day.nanos as f64 / NANOS);
    of(before, today, 1.0 - passed.clamp(0.0, 1.0))
}

/// Of the month of the last of these days, of which a share has passed, with `left` whole days after it; `month` is what
/// was spent in the month so far.
#[must_use]
pub fn of_month(days: &[Day], passed: f64, month: f64, left: u32) -> Forecast {
    let (_, before) = split(days);
    of(before, month, 1.0 - passed.clamp(0.0, 1.0) + f64::from(left))
}

fn split(days: &[Day]) -> (Option<&Day>, &[Day]) {
    match days.split_last() {
        Some((today, before)) => (Some(today), &before[before.len().saturating_sub(DAYS)..]),
        None => (None, &[]),
    }
}

/// What is added by so many more days like those before.
fn of(before: &[Day], spent: f64, left: f64) -> Forecast {
    let n = before.len();
    let usd: Vec<f64> = before.iter().map(|day| day.nanos as f64 / NANOS).collect();
    let mean = usd.iter().sum::<f64>() / n.max(1) as f64;
    let expected = spent + left * mean;
    let interval = (n >= LEAST).then(|| {
        let variance = usd.iter().map(|usd| (usd - mean).powi(2)).sum::<f64>() / (n - 1) as f64;
        // The days that come vary, and so does the mean of those that were (prediction interval of a sum).
        let deviation = (variance * left * (1.0 + left / n as f64)).sqrt();
        let most = student(n - 1) * deviation;
        ((expected - most).max(spent), expected + most)
    });
    Forecast { spent, expected, interval, days: n }
}

/// The quantile of Student's distribution with 2.5 % above it, for 2 degrees of freedom or more within 1 % (Cornish-Fisher
/// expansion: Abramowitz and Stegun, 26.7.5).
fn student(degrees: usize) -> f64 {
    let v = degrees as f64;
    let g = [
        (Z.powi(3) + Z) / 4.0,
        (5.0 * Z.powi(5) + 16.0 * Z.powi(3) + 3.0 * Z) / 96.0,
        (3.0 * Z.powi(7) + 19.0 * Z.powi(5) + 17.0 * Z.powi(3) - 15.0 * Z) / 384.0,
        (79.0 * Z.powi(9) + 776.0 * Z.powi(7) + 1482.0 * Z.powi(5) - 1920.0 * Z.powi(3) - 945.0 * Z)
            / 92_160.0,
    ];
    Z + g[0] / v + g[1] / v.powi(2) + g[2] / v.powi(3) + g[3] / v.powi(4)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn days(usd: &[f64]) -> Vec<Day> {
        let day = |(day, usd): (i64, &f64)| Day { day, nanos: (usd * NANOS) as i64, ..Day::default() };
        (0..).zip(usd).map(day).collect()
    }

    #[test]
    fn the_quantiles_are_those_of_the_tables() {
        for (degrees, expected) in [(2, 4.303), (3, 3.182), (5, 2.571), (10, 2.228), (27, 2.052)] {
            assert!((student(degrees) / expected - 1.0).abs() < 0.01, "{degrees}: {}", student(degrees));
        }
    }

    #[test]
    fn a_day_and_a_month_go_on_as_the_days_before() {
        let days = days(&[10.0, 12.0, 8.0, 10.0, 4.0]);
        let day = of_day(&days, 0.5);
        assert_eq!((day.spent, day.expected, day.days), (4.0, 9.0, 4));
        let month = of_month(&days, 0.5, 44.0, 10);
        assert_eq!((month.spent, month.expected), (44.0, 149.0));
        let (lower, upper) = month.interval.unwrap();
        // By hand: s = 1.633, t = 3.182, 10.5 days: 3.182 * 1.633 * sqrt(10.5 * 3.625) = 32.06.
        assert!((lower - 116.9).abs() < 0.3 && (upper - 181.1).abs() < 0.3, "{lower} {upper}");
    }

    #[test]
    fn too_few_days_have_no_interval_and_nothing_spent_is_never_less_than_that() {
        assert_eq!(of_day(&days(&[3.0, 5.0, 1.0]), 0.0).interval, None);
        assert_eq!(of_day(&[], 0.3), Forecast::default());
        let (lower, _) = of_day(&days(&[0.0, 90.0, 0.0, 0.0, 50.0]), 0.9).interval.unwrap();
        assert_eq!(lower, 50.0);
    }

    #[test]
    fn nineteen_of_twenty_months_end_within_the_interval() {
        let mut random = fastrand::Rng::with_seed(7);
        let mut within = 0;
        for _ in 0..2_000 {
            let usd: Vec<f64> =
                (0..15).map(|_| 50.0 + 20.0 * (random.f64() + random.f64() + random.f64())).collect();
            let rest: f64 = (0..16).map(|_| 50.0 + 20.0 * (random.f64() + random.f64() + random.f64())).sum();
            let spent: f64 = usd[..14].iter().sum();
            let mut all = days(&usd);
            all[14].nanos = 0;
            let (lower, upper) = of_month(&all, 0.0, spent, 15).interval.unwrap();
            within += usize::from((lower..=upper).contains(&(spent + rest)));
        }
        assert!((1_860..1_940).contains(&within), "{within} of 2000");
    }
}
