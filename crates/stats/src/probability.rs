//! Scores and probabilities against what came true, and percentiles.

/// The probability that a positive scores above a negative, ties counting half, 0..1; `None` when
/// either side is empty. Scores must not be NaN. Mann and Whitney, Annals of Mathematical
/// Statistics 18, 1947; Hanley and McNeil, Radiology 143, 1982.
pub fn auroc(positives: &[f64], negatives: &[f64]) -> Option<f64> {
    if positives.is_empty() || negatives.is_empty() {
        return None;
    }
    let mut scores: Vec<(f64, bool)> = positives.iter().map(|&score| (score, true)).collect();
    scores.extend(negatives.iter().map(|&score| (score, false)));
    scores.sort_by(|left, right| left.0.total_cmp(&right.0));
    let (mut below, mut wins) = (0.0, 0.0);
    for tied in scores.chunk_by(|left, right| left.0 == right.0) {
        let hits = tied.iter().filter(|(_, positive)| *positive).count() as f64;
        let misses = tied.len() as f64 - hits;
        wins += hits * (below + misses / 2.0);
        below += misses;
    }
    Some(wins / (positives.len() as f64 * negatives.len() as f64))
}

/// Bins of [`ece`], the number of Guo et al. 2017.
const ECE_BINS: usize = 15;

/// Expected calibration error of pairs `(confidence 0..1, correct)`: the gap between mean confidence
/// and accuracy over 15 equal-width bins, weighted by their size, 0..1; `None` without pairs.
/// Guo et al., "On Calibration of Modern Neural Networks", ICML 2017.
pub fn ece(pairs: &[(f64, bool)]) -> Option<f64> {
    let mut gaps = [0.0; ECE_BINS];
    for &(confidence, correct) in pairs {
        // Bins are ((m - 1) / M, m / M]; the cast saturates, so every confidence finds a bin.
        let bin = ((confidence * ECE_BINS as f64).ceil() as usize).clamp(1, ECE_BINS) - 1;
        gaps[bin] += confidence - f64::from(u8::from(correct));
    }
    (!pairs.is_empty()).then(|| gaps.iter().map(|gap| gap.abs()).sum::<f64>() / pairs.len() as f64)
}

/// The value at `quantile` (0..1, clamped) of values in any order, interpolated linearly between
/// neighbours; `None` without values. Type 7 of Hyndman and Fan, The American Statistician 50, 1996,
/// the default of NumPy and R.
pub fn percentile(values: &[f64], quantile: f64) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let position = quantile.clamp(0.0, 1.0) * sorted.len().checked_sub(1)? as f64;
    let low = *sorted.get(position.floor() as usize)?;
    let high = *sorted.get(position.ceil() as usize)?;
    Some(low + (high - low) * position.fract())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auroc_counts_every_pair_and_half_of_every_tie() {
        let (positives, negatives) = ([0.9, 0.5, 0.5, 0.1], [0.5, 0.1, 0.0]);
        let mut wins = 0.0;
        for positive in positives {
            for negative in negatives {
                wins +=
                    if positive > negative { 1.0 } else { f64::from(u8::from(positive == negative)) / 2.0 };
            }
        }
        assert!((auroc(&positives, &negatives).unwrap() - wins / 12.0).abs() < 1e-12);
        assert_eq!(auroc(&[1.0, 1.0], &[1.0]), Some(0.5));
        assert_eq!(auroc(&[], &[1.0]), None);
    }

    #[test]
    fn a_bin_at_its_accuracy_has_no_calibration_error() {
        assert!(ece(&[(0.5, true), (0.5, false)]).unwrap() < 1e-12);
        assert!((ece(&[(0.9, true), (0.9, false), (0.2, false), (0.2, false)]).unwrap() - 0.3).abs() < 1e-12);
        assert_eq!(ece(&[(0.0, false), (1.0, true)]), Some(0.0));
        assert_eq!(ece(&[]), None);
    }

    #[test]
    fn percentiles_interpolate_between_neighbours() {
        let values = [4.0, 1.0, 3.0, 2.0];
        assert_eq!(percentile(&values, 0.0), Some(1.0));
        assert_eq!(percentile(&values, 0.5), Some(2.5));
        assert_eq!(percentile(&values, 1.0), Some(4.0));
        assert!((percentile(&values, 0.95).unwrap() - 3.85).abs() < 1e-12);
        assert_eq!(percentile(&[], 0.5), None);
    }
}
