//! How well a ranked list serves what is known to be relevant.

use std::collections::BTreeMap;

/// Normalised discounted cumulative gain of the first `k` results, 0..1 when `ideal` holds the gains
/// of everything relevant; `None` when nothing is. `ranked` holds the gain of each result, best rank
/// first (0 for an irrelevant one); the order of `ideal` does not matter. Linear gains over
/// log2(rank + 1), as in `trec_eval` and BEIR; Järvelin and Kekäläinen, ACM TOIS 20, 2002.
pub fn ndcg_at(k: usize, ranked: &[f64], ideal: &[f64]) -> Option<f64> {
    let mut best = ideal.to_vec();
    best.sort_by(|left, right| right.total_cmp(left));
    let norm = dcg_at(k, &best);
    (norm > 0.0).then(|| dcg_at(k, ranked) / norm)
}

fn dcg_at(k: usize, gains: &[f64]) -> f64 {
    gains.iter().take(k).enumerate().map(|(index, gain)| gain / (index as f64 + 2.0).log2()).sum()
}

/// The share of the relevant ids among the first `k` of `ranked`, 0..1; `None` when nothing is
/// relevant. `relevance` maps an id to its gain, and a gain above 0 is relevant; a repeated id counts
/// each time, so `ranked` must hold an id once.
pub fn recall_at<T: Ord>(k: usize, ranked: &[T], relevance: &BTreeMap<T, f64>) -> Option<f64> {
    let relevant = relevance.values().filter(|&&gain| gain > 0.0).count();
    let found = ranked.iter().take(k).filter(|&id| is_relevant(id, relevance)).count();
    (relevant > 0).then(|| found as f64 / relevant as f64)
}

/// One over the rank of the first relevant id among the first `k` of `ranked`, 0 when there is none;
/// `None` when nothing is relevant. The mean over queries is MRR@k; Voorhees, TREC-8, 1999.
pub fn mrr_at<T: Ord>(k: usize, ranked: &[T], relevance: &BTreeMap<T, f64>) -> Option<f64> {
    let rank = ranked.iter().take(k).position(|id| is_relevant(id, relevance));
    let any = relevance.values().any(|&gain| gain > 0.0);
    any.then(|| rank.map_or(0.0, |index| 1.0 / (index as f64 + 1.0)))
}

fn is_relevant<T: Ord>(id: &T, relevance: &BTreeMap<T, f64>) -> bool {
    relevance.get(id).is_some_and(|&gain| gain > 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ndcg_of_a_known_list_is_its_published_figure() {
        // https://en.wikipedia.org/wiki/Discounted_cumulative_gain: gains 3 2 3 0 1 2, and two more
        // relevant documents of gain 3 and 2 unseen: DCG 6.861, ideal 8.740.
        let ranked = [3.0, 2.0, 3.0, 0.0, 1.0, 2.0];
        let ideal = [3.0, 2.0, 3.0, 0.0, 1.0, 2.0, 3.0, 2.0];
        assert!((ndcg_at(6, &ranked, &ideal).unwrap() - 0.785).abs() < 5e-4);
        assert_eq!(ndcg_at(10, &[], &[1.0]), Some(0.0));
        assert_eq!(ndcg_at(10, &[0.0], &[0.0]), None);
    }

    #[test]
    fn recall_and_reciprocal_rank_look_no_further_than_k() {
        let relevance = BTreeMap::from([("a", 1.0), ("b", 2.0), ("c", 0.0)]);
        let ranked = ["x", "c", "a", "b"];
        assert_eq!(recall_at(3, &ranked, &relevance), Some(0.5));
        assert_eq!(recall_at(4, &ranked, &relevance), Some(1.0));
        assert_eq!(mrr_at(3, &ranked, &relevance), Some(1.0 / 3.0));
        assert_eq!(mrr_at(2, &ranked, &relevance), Some(0.0));
        assert_eq!(mrr_at(2, &ranked, &BTreeMap::from([("a", 0.0)])), None);
    }
}
