//! From scores to probabilities: temperature, out-of-scope score and thresholds, all fitted on scores of
//! examples the scoring model was not trained on.

/// What is fitted on the scores of one tier.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Fitted {
    /// Factor on the scores before the softmax.
    pub(crate) temperature: f64,
    /// Weights of the evidence for being out of scope.
    pub(crate) outlier: Evidence,
    /// Out-of-scope score from which a text is out of scope.
    pub(crate) threshold: f64,
    /// Confidence from which an intent is accepted.
    pub(crate) acceptance: f64,
}

/// The temperature typical of the benchmark sets, and how strongly few examples are drawn to it.
pub(crate) const PRIOR_TEMPERATURE: f64 = 6.0;
const PRIOR_WEIGHT: f64 = 4.0;

/// The probabilities of classes with the given scores, summing to 1.
pub(crate) fn probabilities(scores: &[f32], temperature: f64) -> Vec<f64> {
    let highest = scores.iter().fold(f32::NEG_INFINITY, |highest, &score| highest.max(score));
    let mut odds: Vec<f64> =
        scores.iter().map(|&score| (f64::from(score - highest) * temperature).exp()).collect();
    let sum: f64 = odds.iter().sum();
    odds.iter_mut().for_each(|odd| *odd /= sum);
    odds
}

/// The factor on the scores that makes held-out examples `(scores, label)` most likely (Guo et al., "On
/// Calibration of Modern Neural Networks", ICML 2017), with a log-normal prior for small sets.
pub(crate) fn temperature(examples: &[(&[f32], usize)], prior: f64) -> f64 {
    let loss = |log: f64| {
        let nll =
            |&(scores, label): &(&[f32], usize)| -probabilities(scores, log.exp())[label].max(1e-12).ln();
        examples.iter().map(nll).sum::<f64>() + PRIOR_WEIGHT * (log - prior.ln()).powi(2)
    };
    // The loss is convex in the factor, so unimodal in its logarithm: golden-section search.
    let (mut low, mut high) = (0.1_f64.ln(), 64.0_f64.ln());
    let ratio = (5.0_f64.sqrt() - 1.0) / 2.0;
    let (mut left, mut right) = (high - ratio * (high - low), low + ratio * (high - low));
    let (mut at_left, mut at_right) = (loss(left), loss(right));
    while high - low > 1e-3 {
        if at_left < at_right {
            (high, right, at_right) = (right, left, at_left);
            left = high - ratio * (high - low);
            at_left = loss(left);
        } else {
            (low, left, at_left) = (left, right, at_right);
            right = low + ratio * (high - low);
            at_right = loss(right);
        }
    }
    f64::midpoint(low, high).exp()
}

/// What speaks for and against a text being out of scope: a constant, log-odds of the best class, best score
/// by words, likeness by words, known words, known parts, likeness to the best class and to the nearest by
/// meaning.
pub(crate) type Evidence = [f64; 8];

/// The evidence of a probability of the best class, what the words say, and what the meaning says.
pub(crate) fn evidence(best: f64, words: [f32; 4], likeness: [f32; 2]) -> Evidence {
    let best = best.clamp(0.001, 0.999);
    let [score, likeness_by_words, known_words, known_parts] = words.map(f64::from);
    let [likeness, nearest] = likeness.map(f64::from);
    let odds = (best / (1.0 - best)).ln() / 4.0;
    [1.0, odds, score, likeness_by_words, known_words, known_parts, likeness, nearest]
}

/// Weights of the evidence near the mean of those fitted on the benchmark training sets (BANKING77, CLINC150,
/// HINT3); where a bundle starts from.
pub(crate) const PRIOR_WORDS: Evidence = [4.5, -2.0, -0.5, -2.5, -2.0, -0.8, 0.0, 0.0];
pub(crate) const PRIOR_BOTH: Evidence = [4.5, -2.0, -0.3, -1.0, -0.8, -0.4, -2.0, -2.0];

/// The out-of-scope score of evidence, 0..1; 0.5 where in and out of scope were equally likely.
pub(crate) fn outlier(weights: &Evidence, evidence: &Evidence) -> f64 {
    let sum: f64 = weights.iter().zip(evidence).map(|(weight, value)| weight * value).sum();
    1.0 / (1.0 + (-sum).exp())
}

/// Steps and rate of the descent; the evidence is bounded, so the rate is below the stability limit.
const STEPS: usize = 1500;
const RATE: f64 = 1.0;

/// The weights that tell evidence in scope from evidence out of scope: logistic regression with both sides of
/// equal weight, drawn to the prior as strongly as by `PRIOR_WEIGHT` examples a side.
pub(crate) fn fit_outlier(inside: &[Evidence], outside: &[Evidence], prior: &Evidence) -> Evidence {
    let mut weights = *prior;
    if inside.is_empty() || outside.is_empty() {
        return weights;
    }
    let pull = PRIOR_WEIGHT / (PRIOR_WEIGHT + inside.len().min(outside.len()) as f64) / 10.0;
    for _ in 0..STEPS {
        let mut gradient = [0.0; 8];
        for (side, target) in [(inside, 0.0), (outside, 1.0)] {
            for evidence in side {
                let error = (outlier(&weights, evidence) - target) / (2.0 * side.len() as f64);
                gradient.iter_mut().zip(evidence).for_each(|(sum, value)| *sum += error * value);
            }
        }
        for ((weight, gradient), prior) in weights.iter_mut().zip(gradient).zip(prior) {
            *weight -= RATE * (gradient + pull * (*weight - prior));
        }
    }
    weights
}

/// The share of requests assumed out of scope when the threshold is chosen, whatever it is in the examples at
/// hand. On the validation sets 0.2 to 0.3 give equal correlation; the lower refuses fewer customers.
const OUTSIDE_SHARE: f64 = 0.2;
/// Fewest examples a side for a threshold of their own.
const MIN_SIDE: usize = 20;
/// The threshold without any: the odds at which rejecting is right for a share of 0.2 and every second best
/// intent right.
const DEFAULT_THRESHOLD: f64 = 0.7;
/// What the odds of a threshold fitted by cross-validation are multiplied by: requests are further from the
/// examples than these are from each other. The validation sets ask for 1.4 (BANKING77-OOS) and 2.4
/// (CLINC150) times the odds.
const DISTANCE_ODDS: f64 = 1.8;

/// The threshold for requests, from the one fitted on examples held out in cross-validation.
pub(crate) fn further(threshold: Option<f64>) -> f64 {
    let Some(threshold) = threshold else { return DEFAULT_THRESHOLD };
    let odds = threshold * DISTANCE_ODDS;
    odds / (odds + 1.0 - threshold)
}

/// The out-of-scope score from which a text is out of scope: the one with the most right decisions over
/// `inside` (score, whether the best intent is right) and `outside` scores. Rejecting what would have been
/// wrong costs nothing. `None` with too few examples.
pub(crate) fn threshold(inside: &[(f64, bool)], outside: &[f64]) -> Option<f64> {
    if inside.len() < MIN_SIDE || outside.len() < MIN_SIDE {
        return None;
    }
    let gain = (1.0 - OUTSIDE_SHARE) / inside.len() as f64;
    let loss = OUTSIDE_SHARE / outside.len() as f64;
    let mut scores: Vec<(f64, f64)> =
        inside.iter().map(|&(score, right)| (score, if right { gain } else { 0.0 })).collect();
    scores.extend(outside.iter().map(|&score| (score, -loss)));
    scores.sort_by(|left, right| left.0.total_cmp(&right.0));
    let (mut best, mut most, mut sum) = (0.0, 0.0, 0.0);
    for (index, &(score, value)) in scores.iter().enumerate() {
        sum += value;
        // Halfway to the next score, so that the threshold is no example's own.
        let next = scores.get(index + 1).map_or(1.0, |next| next.0);
        if sum > most && next > score {
            (best, most) = (f64::midpoint(score, next), sum);
        }
    }
    Some(best)
}

/// Share of accepted intents that must be right, out of fold.
const ACCEPTED_RIGHT: f64 = 0.95;
/// Where the fitted acceptance may lie: below, two intents are as likely; above, sure ones are refused.
const ACCEPT_RANGE: (f64, f64) = (0.3, 0.6);

/// The lowest confidence from which held-out examples `(confidence, right)` are right often enough.
pub(crate) fn acceptance(examples: &[(f64, bool)]) -> f64 {
    let mut sorted = examples.to_vec();
    sorted.sort_by(|left, right| right.0.total_cmp(&left.0));
    let (mut right, mut lowest) = (0.0, ACCEPT_RANGE.1);
    for (index, example) in sorted.iter().enumerate() {
        right += f64::from(u8::from(example.1));
        if right >= ACCEPTED_RIGHT * (index + 1) as f64 {
            lowest = example.0;
        }
    }
    lowest.clamp(ACCEPT_RANGE.0, ACCEPT_RANGE.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_temperature_makes_probabilities_match_what_comes_true() {
        // Of 400 examples with a lead of 0.2 three quarters are right: e^(0.2 t) = 3.
        let scores = [0.2_f32, 0.0];
        let examples: Vec<_> = (0..400).map(|index| (&scores[..], usize::from(index % 4 == 0))).collect();
        assert!((probabilities(&scores, temperature(&examples, PRIOR_TEMPERATURE))[0] - 0.75).abs() < 0.01);
        assert!((temperature(&[], PRIOR_TEMPERATURE) - PRIOR_TEMPERATURE).abs() < 0.01);
    }

    #[test]
    fn a_fitted_outlier_score_tells_the_sides_apart_and_the_threshold_lies_between() {
        let at = |likeness: f64| [1.0, 0.5, 0.5, likeness, 0.8, 0.9, 0.0, 0.0];
        let inside: Vec<_> = (0..40).map(|index| at(0.6 + f64::from(index) / 200.0)).collect();
        let outside: Vec<_> = (0..40).map(|index| at(0.2 + f64::from(index) / 200.0)).collect();
        let weights = fit_outlier(&inside, &outside, &PRIOR_WORDS);
        let score =
            |side: &[Evidence]| side.iter().map(|evidence| outlier(&weights, evidence)).collect::<Vec<_>>();
        let (inside, outside) = (score(&inside), score(&outside));
        let threshold =
            threshold(&inside.iter().map(|&score| (score, true)).collect::<Vec<_>>(), &outside).unwrap();
        assert!(further(Some(threshold)) > threshold);
        assert!(inside.iter().all(|&score| score < threshold));
        assert!(outside.iter().all(|&score| score > threshold));
    }

    #[test]
    fn acceptance_is_the_lowest_confidence_that_keeps_the_promise() {
        let sure = (0..95).map(|_| (0.9, true));
        let unsure = (0..5).map(|_| (0.5, false));
        let lost = (0..50).map(|_| (0.4, false));
        assert_eq!(acceptance(&sure.chain(unsure).chain(lost).collect::<Vec<_>>()), 0.5);
        assert_eq!(acceptance(&[]), ACCEPT_RANGE.1);
    }
}
