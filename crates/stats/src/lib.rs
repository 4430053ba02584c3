//! Pure statistics: ranking, calibration and agreement measures, evidence over time, assignment to a share.

mod agreement;
mod bucket;
mod probability;
mod ranking;
pub mod sequential;

pub use agreement::{accuracy, macro_f1, mcc};
pub use bucket::{BUCKETS, bucket, buckets};
pub use probability::{auroc, average_precision, ece, percentile, recall_at_fpr};
pub use ranking::{mrr_at, ndcg_at, recall_at};
