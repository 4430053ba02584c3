//! Pure statistics: ranking, calibration and agreement measures.

mod agreement;
mod probability;
mod ranking;

pub use agreement::{accuracy, macro_f1, mcc};
pub use probability::{auroc, average_precision, ece, percentile, recall_at_fpr};
pub use ranking::{mrr_at, ndcg_at, recall_at};
