//! Shares, differences and quantiles with the intervals that say how far to trust them.

/// How sure an interval is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Confidence {
    /// 95 % lie between both ends.
    TwoSided95,
    /// 95 % lie above the lower end, and 95 % below the upper one: only one of them is to be used.
    OneSided95,
}

impl Confidence {
    /// The quantile of the normal distribution that leaves [`Self::tail`] above it.
    pub fn z(self) -> f64 {
        match self {
            Self::TwoSided95 => 1.959_963_984_540_054,
            Self::OneSided95 => 1.644_853_626_951_472_2,
        }
    }

    /// The probability to miss beyond one end.
    pub fn tail(self) -> f64 {
        match self {
            Self::TwoSided95 => 0.025,
            Self::OneSided95 => 0.05,
        }
    }
}

/// Both ends of an interval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    /// The lower end.
    pub lower: f64,
    /// The upper end.
    pub upper: f64,
}

impl Interval {
    fn within(self, least: f64, most: f64) -> Self {
        Self { lower: self.lower.clamp(least, most), upper: self.upper.clamp(least, most) }
    }
}

/// How many of how many.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Share {
    /// Those that count, at most `n`.
    pub hits: u64,
    /// All.
    pub n: u64,
}

impl Share {
    /// Hits by all, 0..=1; `None` of none.
    pub fn value(self) -> Option<f64> {
        (self.n > 0).then(|| self.hits as f64 / self.n as f64)
    }

    /// The interval of [`wilson`]; `None` of none.
    pub fn interval(self, confidence: Confidence) -> Option<Interval> {
        Some(wilson(self.value()?, self.n as f64, confidence))
    }
}

/// The score interval of a share (0..=1) of `n` (above 0; effective ones may be broken). Wilson, Journal of the
/// American Statistical Association 22, 1927.
pub fn wilson(share: f64, n: f64, confidence: Confidence) -> Interval {
    let z = confidence.z();
    let centre = share + z * z / (2.0 * n);
    let half = z * (share * (1.0 - share) / n + z * z / (4.0 * n * n)).sqrt();
    let scale = 1.0 + z * z / n;
    let (lower, upper) = ((centre - half) / scale, (centre + half) / scale);
    // At 0 and 1 an end is the share itself, which rounding must not miss.
    Interval { lower: lower.min(share), upper: upper.max(share) }.within(0.0, 1.0)
}

/// The interval of the difference of two independent shares, first less second, -1..=1; `None` when either is of
/// none. Method 10 of Newcombe, Statistics in Medicine 17, 873-890, 1998.
pub fn newcombe(first: Share, second: Share, confidence: Confidence) -> Option<Interval> {
    let (p, of_p) = (first.value()?, first.interval(confidence)?);
    let (q, of_q) = (second.value()?, second.interval(confidence)?);
    Some(Interval {
        lower: p - q - (p - of_p.lower).hypot(of_q.upper - q),
        upper: p - q + (of_p.upper - p).hypot(q - of_q.lower),
    })
}

/// The ranks, 1 the smallest, of those of `n` values between which the quantile (0..1, exclusive) lies; `None` for
/// an end that no value is far enough out for. By the binomial distribution, without assuming any of the values;
/// David and Nagaraja, "Order Statistics", 3rd edition, section 7.1.
pub fn quantile_ranks(n: u64, quantile: f64, confidence: Confidence) -> (Option<u64>, Option<u64>) {
    let (first, masses) = binomial(n, quantile);
    let tail = confidence.tail();
    // The value of rank r lies above the quantile when fewer than r values lie below it.
    let below = outside(masses.iter(), tail);
    let lower = first + below;
    // It lies below when r values or more do.
    let above = outside(masses.iter().rev(), tail);
    let upper = first + masses.len() as u64 - above;
    (Some(lower).filter(|rank| *rank >= 1), Some(upper).filter(|rank| *rank <= n))
}

/// How many masses from the outside in stay within `tail` together.
fn outside<'a>(masses: impl Iterator<Item = &'a f64>, tail: f64) -> u64 {
    let mut sum = 0.0;
    let within = masses.take_while(|mass| {
        sum += **mass;
        sum <= tail
    });
    within.count() as u64
}

/// The probabilities of a binomial count, and the count that the first is of. Those beyond twelve deviations are
/// left out: together they are below 1e-30.
fn binomial(n: u64, p: f64) -> (u64, Vec<f64>) {
    let (mean, reach) = (n as f64 * p, 12.0 * (n as f64 * p * (1.0 - p)).sqrt() + 12.0);
    // In 0..=n by the clamps, so the casts lose nothing but the fraction.
    let first = (mean - reach).clamp(0.0, n as f64) as u64;
    let last = (mean + reach).clamp(0.0, n as f64).ceil() as u64;
    let mode = (((n + 1) as f64 * p) as u64).clamp(first, last);
    let odds = p / (1.0 - p);
    let mut masses = vec![1.0; (last - first + 1) as usize];
    for count in mode..last {
        let index = (count - first) as usize;
        masses[index + 1] = masses[index] * odds * (n - count) as f64 / (count + 1) as f64;
    }
    for count in (first..mode).rev() {
        let index = (count - first) as usize;
        masses[index] = masses[index + 1] * (count + 1) as f64 / ((n - count) as f64 * odds);
    }
    let sum: f64 = masses.iter().sum();
    masses.iter_mut().for_each(|mass| *mass /= sum);
    (first, masses)
}

/// How well a judge finds what it looks for, on items that people labelled.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Judge {
    /// The share it finds of what it looks for, 0..=1.
    pub sensitivity: f64,
    /// The share it leaves alone of the rest, 0..=1.
    pub specificity: f64,
    /// Labelled items that are what it looks for.
    pub positives: u64,
    /// Labelled items that are not.
    pub negatives: u64,
}

/// Sensitivity and specificity together, at or below which a judge says too little to correct it.
pub const WEAK_JUDGE: f64 = 1.2;

impl Judge {
    /// The true share behind a judged one, 0..=1, with its interval; `None` of none, and when the judge is too weak.
    /// Rogan and Gladen, American Journal of Epidemiology 107, 1978; the interval by the delta method over all three
    /// samples, of Lang and Reiczigel, Preventive Veterinary Medicine 113, 2014, as Lee et al. apply it to language
    /// models that judge (arXiv 2511.21140).
    pub fn corrected(&self, judged: Share, confidence: Confidence) -> Option<(f64, Interval)> {
        let youden = self.sensitivity + self.specificity - 1.0;
        let share = judged.value().filter(|_| youden + 1.0 > WEAK_JUDGE)?;
        let z = confidence.z();
        let n = judged.n as f64 + z * z;
        let q = (judged.hits as f64 + z * z / 2.0) / n;
        let (se, of_se) = pulled(self.sensitivity, self.positives);
        let (sp, of_sp) = pulled(self.specificity, self.negatives);
        let scale = se + sp - 1.0;
        let p = (q + sp - 1.0) / scale;
        let centre = p + 2.0 * z * z * (p * of_se - (1.0 - p) * of_sp);
        let variance = q * (1.0 - q) / n + (1.0 - p).powi(2) * of_sp + p.powi(2) * of_se;
        let half = z * variance.sqrt() / scale;
        let interval = Interval { lower: centre - half, upper: centre + half };
        Some((((share + self.specificity - 1.0) / youden).clamp(0.0, 1.0), interval.within(0.0, 1.0)))
    }
}

/// A share with one hit and one miss added, and the variance of that.
fn pulled(share: f64, n: u64) -> (f64, f64) {
    let all = n as f64 + 2.0;
    let share = (share * n as f64 + 1.0) / all;
    (share, share * (1.0 - share) / all)
}

/// Adds up a sample whose items were drawn with known, unequal probabilities.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Weighted {
    n: u64,
    hits: f64,
    weights: f64,
    squares: f64,
}

impl Weighted {
    /// Adds an item that was drawn with this probability; one outside 0..=1, or 0, counts for nothing.
    pub fn add(&mut self, hit: bool, probability: f64) {
        if !(probability > 0.0 && probability <= 1.0) {
            return;
        }
        let weight = 1.0 / probability;
        self.n += 1;
        self.hits += if hit { weight } else { 0.0 };
        self.weights += weight;
        self.squares += weight * weight;
    }

    /// Items added.
    pub fn n(&self) -> u64 {
        self.n
    }

    /// The share of hits in all that the items were drawn from, 0..=1; `None` without items. Horvitz and Thompson,
    /// Journal of the American Statistical Association 47, 1952, by the sum of the weights (Hájek 1971).
    pub fn share(&self) -> Option<f64> {
        (self.n > 0).then(|| self.hits / self.weights)
    }

    /// As many items of equal probability would say as much; Kish, "Survey Sampling", 1965. 0 without items.
    pub fn effective_n(&self) -> f64 {
        if self.n == 0 { 0.0 } else { self.weights * self.weights / self.squares }
    }

    /// The interval of [`wilson`] with the effective number of items; `None` without items.
    pub fn interval(&self, confidence: Confidence) -> Option<Interval> {
        Some(wilson(self.share()?, self.effective_n(), confidence))
    }
}

#[cfg(test)]
mod tests;
