//! Pure statistics: ranking, calibration and agreement measures, intervals, evidence over time, assignment to a share,
//! queues.

mod agreement;
mod bucket;
mod interval;
mod probability;
pub mod queue;
mod ranking;
pub mod sequential;

pub use agreement::{accuracy, macro_f1, mcc};
pub use bucket::{BUCKETS, bucket, buckets};
pub use interval::{
    Confidence, Interval, Judge, Share, WEAK_JUDGE, Weighted, newcombe, quantile_ranks, wilson,
};
pub use probability::{auroc, average_precision, ece, percentile, recall_at_fpr};
pub use ranking::{mrr_at, ndcg_at, recall_at};
