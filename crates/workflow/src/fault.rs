//! What a failed request about an execution is to its caller.

use kit::{Fault, Kind};

use crate::engine::Error;

impl Fault for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::NotFound(_) => Kind::NotFound,
            Self::Confidence(_) => Kind::Invalid,
            Self::State { .. }
            | Self::TargetNotConfigured(_)
            | Self::CannotUndo(_)
            | Self::NotForgotten(_)
            | Self::Conflict => Kind::Precondition,
            Self::Store(_) => Kind::Unavailable,
            Self::Template(_) | Self::Interrupted(_) => Kind::Internal,
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::NotFound(_) => "EXECUTION_NOT_FOUND",
            Self::Confidence(_) => "OUT_OF_RANGE",
            Self::State { .. } => "WRONG_STATE",
            Self::TargetNotConfigured(_) => "TARGET_NOT_CONFIGURED",
            Self::CannotUndo(_) => "CANNOT_UNDO",
            Self::NotForgotten(_) => "NOT_FORGOTTEN",
            Self::Conflict => "CONFLICT",
            Self::Store(_) => "STORE_FAILED",
            Self::Template(_) => "TEMPLATE_FAILED",
            Self::Interrupted(_) => "INTERRUPTED",
        }
    }

    fn field(&self) -> Option<&'static str> {
        matches!(self, Self::Confidence(_)).then_some("intent.confidence")
    }
}
