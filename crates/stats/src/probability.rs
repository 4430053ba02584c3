//! Scores and probabilities against what came true, and percentiles.

/// The probability that a positive scores above a negative, ties counting half, 0..1; `None` when
/// either side is empty. Scores must not be NaN. Mann and Whitney, Annals of Mathematical
/// Statistics 18, 1947; Hanley and McNeil, Radiology 143, 1982.
pub fn auroc(positives: &[f64], negatives: &[f64]) -> Option<f64> {
    if positives.is_empty() || negatives.is_empty() {
        return None;
    }
    let (mut above, mut wins) = (0.0, 0.0);
    for tied in ranked(positives, negatives).chunk_by(|left, right| left.0 == right.0) {
        let hits = tied.iter().filter(|(_, positive)| *positive).count() as f64;
        let misses = tied.len() as f64 - hits;
        wins += misses * (above + hits / 2.0);
        above += hits;
    }
    Some(wins / (positives.len() as f64 * negatives.len() as f64))
}

/// The mean of the precision at each positive, best score first, 0..1; `None` without positives. Equal scores
/// come as one group. The area under the precision-recall curve without interpolation, the
/// `average_precision_score` of scikit-learn.
pub fn average_precision(positives: &[f64], negatives: &[f64]) -> Option<f64> {
    let (mut hits, mut seen, mut sum) = (0.0, 0.0, 0.0);
    for tied in ranked(positives, negatives).chunk_by(|left, right| left.0 == right.0) {
        let new = tied.iter().filter(|(_, positive)| *positive).count() as f64;
        hits += new;
        seen += tied.len() as f64;
        sum += new * hits / seen;
    }
    (!positives.is_empty()).then(|| sum / positives.len() as f64)
}

/// The share of positives above the threshold at which at most the share `fpr` of the negatives is above it,
/// 0..1; `None` when either side is empty.
pub fn recall_at_fpr(fpr: f64, positives: &[f64], negatives: &[f64]) -> Option<f64> {
    if positives.is_empty() || negatives.is_empty() {
        return None;
    }
    let (mut hits, mut alarms, mut best) = (0.0, 0.0, 0.0);
    for tied in ranked(positives, negatives).chunk_by(|left, right| left.0 == right.0) {
        let new = tied.iter().filter(|(_, positive)| *positive).count();
        hits += new as f64;
        alarms += (tied.len() - new) as f64;
        if alarms <= fpr * negatives.len() as f64 {
            best = hits;
        }
    }
    Some(best / positives.len() as f64)
}

/// Scores with whether they are a positive's, highest first.
fn ranked(positives: &[f64], negatives: &[f64]) -> Vec<(f64, bool)> {
    let mut scores: Vec<(f64, bool)> = positives.iter().map(|&score| (score, true)).collect();
    scores.extend(negatives.iter().map(|&score| (score, false)));
    scores.sort_by(|left, right| right.0.total_cmp(&left.0));
    scores
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
    fn precision_and_recall_treat_equal_scores_as_one_step() {
        // sklearn.metrics.average_precision_score([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8]) documents 0.83...
        let score = average_precision(&[0.35, 0.8], &[0.1, 0.4]).unwrap();
        assert!((score - 5.0 / 6.0).abs() < 1e-12);
        assert_eq!(average_precision(&[0.5], &[0.5]), Some(0.5));
        assert_eq!(average_precision(&[], &[0.5]), None);
        assert_eq!(recall_at_fpr(0.5, &[0.35, 0.8], &[0.1, 0.4]), Some(1.0));
        assert_eq!(recall_at_fpr(0.4, &[0.35, 0.8], &[0.1, 0.4]), Some(0.5));
        assert_eq!(recall_at_fpr(0.0, &[0.5], &[0.5]), Some(0.0));
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
